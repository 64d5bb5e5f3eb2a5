//! The five fields of a crontab line, exactly as cronie reads them (its `crontab(5)` and `entry.c`).
//!
//! What a field means is croner's work. It takes more than cron does (`L`, `W`, `#`, seconds), so each field is looked at
//! first; and the random ranges `A~B`, which it does not know, are replaced by a number.

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex};

use croner::Cron;
use croner::errors::CronError;
use croner::parser::{CronParser, Seconds, Year};

use crate::lock::Unpoisoned;

/// What the five fields come to.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
pub(super) struct Fields {
    /// As croner reads them.
    plain: Box<str>,
    /// Whether both day fields must match.
    is_both: bool,
    /// Whether minute or hour begins with `*`: such a job goes by real time when the clock is set forward or back.
    pub(super) is_wildcard: bool,
}

/// What is wrong with a field, and where: the byte of the expression.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct FieldFault {
    pub(super) offset: usize,
    pub(super) reason: String,
}

struct Kind {
    name: &'static str,
    least: u64,
    most: u64,
    names: &'static [&'static str],
}

const MONTHS: [&str; 12] = ["jan", "feb", "mar", "apr", "may", "jun", "jul", "aug", "sep", "oct", "nov", "dec"];
const DAYS: [&str; 7] = ["sun", "mon", "tue", "wed", "thu", "fri", "sat"];

const KINDS: [Kind; 5] = [
    Kind { name: "minute", least: 0, most: 59, names: &[] },
    Kind { name: "hour", least: 0, most: 23, names: &[] },
    Kind { name: "day of month", least: 1, most: 31, names: &[] },
    Kind { name: "month", least: 1, most: 12, names: &MONTHS },
    Kind { name: "day of week", least: 0, most: 7, names: &DAYS },
];

/// The words of `text`, each with its place.
pub(super) fn words(text: &str) -> impl Iterator<Item = (usize, &str)> {
    text.split([' ', '\t'])
        .filter(|word| !word.is_empty())
        .map(|word| (word.as_ptr() as usize - text.as_ptr() as usize, word))
}

/// Reads five fields. `chance` decides on random ranges: the same one gives the same minute, hour and so on.
pub(super) fn read(expression: &str, chance: u64) -> Result<Fields, FieldFault> {
    let words: Vec<(usize, &str)> = words(expression).collect();
    if words.len() != 5 {
        let offset = words.get(5).map_or(expression.len(), |(offset, _)| *offset);
        let reason =
            format!("expected 5 fields (minute, hour, day of month, month, day of week), found {}", words.len());
        return Err(FieldFault { offset, reason });
    }
    let mut plain = Vec::with_capacity(5);
    for (number, ((offset, word), kind)) in words.iter().zip(&KINDS).enumerate() {
        let parts = split(word, kind, chance.rotate_left(number as u32 * 13));
        let parts = parts
            .map_err(|(at, reason)| FieldFault { offset: offset + at, reason: format!("{}: {reason}", kind.name) })?;
        plain.push(parts);
    }
    let begins_with_star = |number: usize| words[number].1.starts_with('*');
    // cron(5): a day matches when either field does, unless one of them begins with `*`.
    let is_both = begins_with_star(2) || begins_with_star(4);
    let plain = plain.join(" ").into();
    let fields = Fields { plain, is_both, is_wildcard: begins_with_star(0) || begins_with_star(1) };
    fields.parse().map_err(|error| FieldFault { offset: 0, reason: error.to_string() })?;
    Ok(fields)
}

/// So many patterns are kept parsed: each takes 6 KiB, and most of ten thousand entries are not due soon.
const MOST_PARSED: usize = 64;

/// The patterns that were used last.
static PARSED: Mutex<BTreeMap<Fields, Arc<Cron>>> = Mutex::new(BTreeMap::new());

impl Fields {
    /// The pattern that they are.
    pub(super) fn cron(&self) -> Arc<Cron> {
        let mut parsed = PARSED.lock().unpoisoned();
        if let Some(cron) = parsed.get(self) {
            return Arc::clone(cron);
        }
        let cron = Arc::new(self.parse().expect("it was parsed when it was read"));
        if parsed.len() >= MOST_PARSED {
            parsed.clear();
        }
        parsed.insert(self.clone(), Arc::clone(&cron));
        cron
    }

    fn parse(&self) -> Result<Cron, CronError> {
        let parser = CronParser::builder().seconds(Seconds::Disallowed).year(Year::Disallowed);
        parser.dom_and_dow(self.is_both).build().parse(&self.plain)
    }
}

/// The field as croner takes it: names as numbers, random ranges as one number.
fn split(word: &str, kind: &Kind, chance: u64) -> Result<String, (usize, String)> {
    let mut parts = Vec::new();
    let mut at = 0;
    for (place, part) in word.split(',').enumerate() {
        let fault = |reason: String| (at, reason);
        parts.push(one(part, kind, chance.rotate_left(place as u32 * 7)).map_err(fault)?);
        at += part.len() + 1;
    }
    Ok(parts.join(","))
}

/// One part of a list: `*`, a number, a range or a random range; a step may follow a range.
fn one(part: &str, kind: &Kind, chance: u64) -> Result<String, String> {
    let (range, step) = match part.split_once('/') {
        Some((range, step)) => (range, Some(step)),
        None => (part, None),
    };
    if let Some((from, to)) = range.split_once('~') {
        if step.is_some() {
            return Err(format!("{part:?}: a random range has no step"));
        }
        let from = if from.is_empty() { kind.least } else { value(from, kind)? };
        // Both 0 and 7 are Sunday; it should not come twice as often.
        let to = if to.is_empty() {
            kind.most.min(if kind.name == "day of week" { 6 } else { u64::MAX })
        } else {
            value(to, kind)?
        };
        if from > to {
            return Err(format!("{part:?}: the end is before the beginning"));
        }
        return Ok((from + chance % (to - from + 1)).to_string());
    }
    let range = match range.split_once('-') {
        _ if range == "*" => "*".to_owned(),
        Some((from, to)) => {
            let (from, to) = (value(from, kind)?, value(to, kind)?);
            if from > to {
                return Err(format!("{part:?}: the end is before the beginning"));
            }
            format!("{from}-{to}")
        }
        None if step.is_some() => return Err(format!("{part:?}: only a range or * has a step")),
        None => value(range, kind)?.to_string(),
    };
    match step {
        None => Ok(range),
        Some(step) => {
            let number = number(step).filter(|step| *step > 0);
            let number = number.ok_or_else(|| format!("{part:?}: the step must be a number of at least 1"))?;
            // A larger step than there are values leaves the first one, as in cron; croner refuses it.
            Ok(format!("{range}/{}", number.min(kind.most - kind.least + 1)))
        }
    }
}

fn number(text: &str) -> Option<u64> {
    let is_number = !text.is_empty() && text.len() <= 9 && text.bytes().all(|byte| byte.is_ascii_digit());
    is_number.then(|| text.parse().ok()).flatten()
}

fn value(text: &str, kind: &Kind) -> Result<u64, String> {
    let named = || kind.names.iter().position(|name| name.eq_ignore_ascii_case(text));
    let value = number(text).or_else(|| Some(named()? as u64 + if kind.name == "month" { 1 } else { 0 }));
    let Some(value) = value else {
        let names = if kind.names.is_empty() {
            String::new()
        } else {
            format!(", or {} to {}", kind.names[0], kind.names[kind.names.len() - 1])
        };
        return Err(format!("expected a number from {} to {}{names}, found {text:?}", kind.least, kind.most));
    };
    if !(kind.least..=kind.most).contains(&value) {
        return Err(format!("{value} is not from {} to {}", kind.least, kind.most));
    }
    Ok(value)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[track_caller]
    fn fault(expression: &str) -> (usize, String) {
        let fault = read(expression, 0).expect_err("it has a fault");
        (fault.offset, fault.reason)
    }

    #[test]
    fn what_cron_takes_is_taken() {
        for expression in [
            "* * * * *",
            "0 0 1 1 0",
            "59 23 31 12 7",
            "*/5 1-5,8 1,15 jan-MAR,dec sun,Mon-fri",
            "0-59/7 */3 1-31/2 */2 0-7/2",
            "  0\t12  * * 5 ",
            "*/100 * * * *",
            "0~59 1~ ~15 * ~",
        ] {
            assert!(read(expression, 7).is_ok(), "{expression}: {:?}", read(expression, 7));
        }
    }

    #[test]
    fn what_cron_does_not_take_is_refused_where_it_stands() {
        assert_eq!(fault("60 * * * *"), (0, "minute: 60 is not from 0 to 59".to_owned()));
        assert_eq!(fault("0 24 * * *"), (2, "hour: 24 is not from 0 to 23".to_owned()));
        assert_eq!(fault("0 0 1,0 * *"), (6, "day of month: 0 is not from 1 to 31".to_owned()));
        assert_eq!(
            fault("0 0 * foo *"),
            (6, "month: expected a number from 1 to 12, or jan to dec, found \"foo\"".to_owned())
        );
        assert_eq!(fault("0 0 L * *").0, 4);
        assert_eq!(fault("0 0 * * 5#2").0, 8);
        assert_eq!(fault("5-1 * * * *"), (0, "minute: \"5-1\": the end is before the beginning".to_owned()));
        assert_eq!(fault("5/15 * * * *"), (0, "minute: \"5/15\": only a range or * has a step".to_owned()));
        assert_eq!(fault("*/0 * * * *"), (0, "minute: \"*/0\": the step must be a number of at least 1".to_owned()));
        assert_eq!(fault(", * * * *").0, 0);
        assert_eq!(fault("-5 * * * *").0, 0);
        assert_eq!(fault("? * * * *").0, 0);
    }

    #[test]
    fn there_are_five_fields() {
        assert_eq!(fault("* * * *").0, 7);
        assert_eq!(fault("0 * * * * *").0, 10);
        assert!(fault("").1.ends_with("found 0"));
    }

    #[test]
    fn a_random_range_is_one_number_of_it_and_the_same_each_time() {
        let minutes = |chance: u64| {
            let fields = read("10~13 * * * *", chance).expect("it is right");
            (10..=13)
                .filter(|minute| fields.cron().pattern.minute_match(*minute).expect("it is a minute"))
                .collect::<Vec<u32>>()
        };
        let mut seen = std::collections::BTreeSet::new();
        for chance in 0..100 {
            let one = minutes(chance);
            assert_eq!(one.len(), 1);
            assert_eq!(one, minutes(chance));
            seen.extend(one);
        }
        assert_eq!(seen.len(), 4);
    }
}
