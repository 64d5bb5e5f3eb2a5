//! Requests that were refused: each kind is in the log once and then with its count, and some of each are put on record, so that a flood
//! of one kind neither fills the log nor pushes anything else off the record.

use std::collections::HashMap;
use std::sync::{Mutex, MutexGuard};
use std::time::{Duration, Instant};

use crate::lock::Unpoisoned;
use crate::said::{Said, tidy, times};

/// So many kinds are told apart in the log.
const MOST_KINDS: usize = 256;

/// So many of each kind are put on record within [`SPAN`].
const MOST_OF_A_KIND: u32 = 20;

/// So many kinds are counted within [`SPAN`]; what is of further ones counts as one.
const MOST_COUNTED: usize = 1000;

const SPAN: Duration = Duration::from_secs(60);

/// So much of a name or a reason is told, in characters.
const LONGEST: usize = 200;

/// What was refused lately.
#[derive(Debug, Default)]
pub(crate) struct Refusals(Mutex<State>);

#[derive(Debug, Default)]
struct State {
    said: Said<MOST_KINDS>,
    /// How many of each kind are on record since `since`.
    counts: HashMap<String, u32>,
    since: Option<Instant>,
}

impl Refusals {
    /// A request for `func` was refused for `reason` at `now`. Says so, many of a kind together; tells whether it is to be put on record.
    pub(crate) fn note(&self, func: &str, reason: &str, now: Instant) -> bool {
        let (func, reason) = (tidy(func, LONGEST), tidy(reason, LONGEST));
        let kind = kind_of(&func, &reason);
        let mut state = self.state();
        if let Some(before) = state.said.note(&kind, now) {
            let again = times(before);
            log::info!(func = func, verdict = "rejected", reason = reason; "{func}: refused: {reason}{again}");
        }
        state.is_to_be_kept(kind, now)
    }

    fn state(&self) -> MutexGuard<'_, State> {
        self.0.lock().unpoisoned()
    }
}

impl State {
    fn is_to_be_kept(&mut self, kind: String, now: Instant) -> bool {
        if self.since.is_none_or(|since| now.saturating_duration_since(since) >= SPAN) {
            self.since = Some(now);
            self.counts.clear();
        }
        let kind =
            if self.counts.len() < MOST_COUNTED || self.counts.contains_key(&kind) { kind } else { String::new() };
        let count = self.counts.entry(kind).or_default();
        *count += 1;
        *count <= MOST_OF_A_KIND
    }
}

/// Where in a text something is wrong makes no other kind.
fn kind_of(func: &str, reason: &str) -> String {
    let reason: String = reason.chars().map(|c| if c.is_ascii_digit() { '0' } else { c }).collect();
    format!("{func} {}", reason.replace("00", "0"))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn of_each_kind_some_are_put_on_record_whatever_comes_of_others() {
        let (refusals, now) = (Refusals::default(), Instant::now());
        let kept = |func: &str, count: usize, now| (0..count).filter(|_| refusals.note(func, "no", now)).count();
        assert_eq!((kept("a", 1000, now), kept("b", 5, now)), (20, 5));
        assert_eq!(kept("a", 1000, now + SPAN), 20);
    }

    #[test]
    fn where_something_is_wrong_makes_no_other_kind() {
        let (refusals, now) = (Refusals::default(), Instant::now());
        let kept = (0..100).filter(|column| refusals.note("-", &format!("not JSON at column {column}"), now)).count();
        assert!(kept <= 3 * MOST_OF_A_KIND as usize, "{kept}");
    }

    #[test]
    fn strangers_cannot_make_it_keep_more_than_so_much() {
        let (refusals, now) = (Refusals::default(), Instant::now());
        for number in 0..5000 {
            let letters: String = number.to_string().bytes().map(|digit| char::from(digit - b'0' + b'a')).collect();
            refusals.note(&letters, "Undefined function", now);
        }
        assert!(refusals.state().counts.len() <= MOST_COUNTED + 1);
    }
}
