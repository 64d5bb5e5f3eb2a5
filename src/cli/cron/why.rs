//! `cerbas why NAME@INSTANT`: what became of one instant of an entry.

use jiff::civil::DateTime;
use jiff::{SignedDuration, Timestamp};
use serde_json::json;

use super::history::say;
use super::records::Records;
use super::{File, find, times};
use crate::cli::columns::{Line, Tone, span};
use crate::cli::exit::{Exit, Failure};
use crate::cli::{Place, output};
use crate::clock;
use crate::cron::{Entry, Firing};
use crate::inspect::{sentences, shapes};
use crate::protocol::{Run, RunOutcome};

/// Tells what became of the entry `name` at `instant`: a time by its clock, or with an offset, or as it stands in a record.
pub(in crate::cli) fn why(name: &str, instant: &str, place: &Place, is_json: bool) -> Result<Exit, Failure> {
    let mut records = Records::open(place)?;
    let loaded = File::of(place).read(None).ok();
    let entry = loaded.as_ref().and_then(|loaded| find(loaded, name).ok());
    let runs = records.of(name)?;
    if entry.is_none() && runs.is_empty() {
        return Err(Failure::new(Exit::Failed, format!("no entry is called {name:?}; cerbas cron list shows all")));
    }
    let found: Vec<&Run> = runs.iter().filter(|run| is_at(run, instant)).collect();
    if !found.is_empty() {
        if is_json {
            let found: Vec<_> = found.into_iter().map(shapes::run).collect();
            return output::print(&json!(found).to_string());
        }
        let mut lines = Vec::new();
        for run in found {
            lines.extend(say(&format!("{name}@{}", run.occurrence.local), run));
            if run.outcome == RunOutcome::Waiting
                && let Some(fate) = records.fate(&run.occurrence.id())?
            {
                lines.push(Line::of(format!("  {}", sentences::fate(&fate, clock::now())), Tone::Plain));
            }
        }
        return output::print_lines(&lines);
    }
    let since = records.known_since(name)?;
    let reason = match entry {
        Some(entry) => unrecorded(entry, instant, &runs, since)?,
        None => "nothing is on record of it, and no crontab here has this entry".to_owned(),
    };
    if is_json {
        output::print("[]")?;
    } else {
        output::print(&format!("{name}@{instant}: {reason}"))?;
    }
    Ok(Exit::Failed)
}

/// Whether `run` is the one at `instant`.
fn is_at(run: &Run, instant: &str) -> bool {
    let occurrence = &run.occurrence;
    if occurrence.instant == instant || occurrence.local == instant {
        return true;
    }
    if let Ok(moment) = instant.parse::<Timestamp>() {
        return u64::try_from(moment.as_millisecond()).is_ok_and(|at| at / 1000 == occurrence.at / 1000);
    }
    // 2026-11-20 02:00 and 2026-11-20T02:00:00 are the same.
    let civil = instant.parse::<DateTime>().ok();
    civil.is_some() && civil == occurrence.local.parse::<DateTime>().ok()
}

/// Why nothing is on record.
fn unrecorded(entry: &Entry, instant: &str, runs: &[Run], since: Option<u64>) -> Result<String, Failure> {
    let zone = entry.zone();
    let moment = times::moment("INSTANT", instant, zone)?;
    if entry.schedule.is_reboot() {
        return Ok("it runs once after each start of the machine; cerbas cron history shows those".to_owned());
    }
    let just_before = moment.checked_sub(SignedDuration::from_nanos(1)).unwrap_or(moment);
    let next = entry.schedule.next(just_before, zone);
    let is_due = |firing: &Firing| firing.at == moment;
    let Some(firing) = next.filter(is_due) else {
        if times::is_left_out(instant, zone) {
            return Ok("dst-shifted: the clock left this time out that night, and what goes by real time does not make up for it".to_owned());
        }
        let next = next.map_or_else(|| "never".to_owned(), |firing| times::shown(firing.at, zone));
        return Ok(format!("it was not due then, by {:?}; the next time after that is {next}", entry.text));
    };
    let now = Timestamp::now();
    if firing.at > now {
        let left = u64::try_from(firing.at.duration_since(now).as_millis()).unwrap_or(0);
        return Ok(format!("it is due in {}", span(left)));
    }
    let at = u64::try_from(firing.at.as_millisecond()).unwrap_or(0);
    if since.is_some_and(|since| at < since) {
        return Ok("it was due then by what the crontab says now, but no daemon knew of that yet".to_owned());
    }
    let is_older = runs.first().is_some_and(|first| at < first.occurrence.at);
    Ok(match is_older {
        true => "it was due then, but that is longer ago than records are kept (history)".to_owned(),
        false => "it was due then, but nothing is on record: no daemon has looked at the crontab since".to_owned(),
    })
}
