//! `cerbas cron simulate`: every firing of a crontab in a span of time.

use std::sync::Arc;

use jiff::tz::TimeZone;
use jiff::{SignedDuration, Timestamp};
use serde_json::{Value, json};

use super::next::{facts, merged, note};
use super::{File, tell, times};
use crate::cli::columns::{Line, Tone};
use crate::cli::exit::{Exit, Failure};
use crate::cli::output;
use crate::cron::{Absence, Decision, Due, Entry, Firing, missed};

#[derive(clap::Args)]
pub(super) struct Simulate {
    /// From this time on, as 2026-03-28T00:00
    #[arg(long, value_name = "TIME")]
    from: String,
    /// Up to this time, without it
    #[arg(long, value_name = "TIME")]
    to: String,
    /// The machine sleeps in this span, or its clock leaps over it, as 2026-03-28T02:00/2026-03-28T04:30
    #[arg(long, value_name = "TIME/TIME")]
    asleep: Option<String>,
    /// No daemon is there in this span
    #[arg(long, value_name = "TIME/TIME", conflicts_with = "asleep")]
    off: Option<String>,
    /// The time zone of entries that have none of their own [default: that of this machine]
    #[arg(long, value_name = "ZONE")]
    tz: Option<String>,
    #[command(flatten)]
    file: File,
    /// Print one JSON object per line
    #[arg(long)]
    json: bool,
}

/// Of one entry no more than so many are looked at that nobody saw: as many as are on record where nothing else is said.
const MOST: usize = 100;

/// Something that happens.
enum Event<'a> {
    Fires(&'a Entry, Firing, &'a TimeZone),
    /// The clock of the zone is set by so much.
    Clock(Timestamp, SignedDuration, &'a TimeZone),
    /// Nobody has looked until this moment, at which it was due before.
    Late(Timestamp, Due),
}

/// A span of time in which nobody looks.
struct Away {
    from: Timestamp,
    to: Timestamp,
    absence: Absence,
}

impl Simulate {
    pub(super) fn run(self) -> Result<Exit, Failure> {
        let zone = times::zone(self.tz.as_deref())?;
        let from = times::moment("--from", &self.from, &zone)?;
        let to = times::moment("--to", &self.to, &zone)?;
        if to < from {
            return Err(Failure::new(Exit::Usage, "--to: is before --from"));
        }
        let away = self.away(&zone)?;
        let loaded = self.file.read(self.tz.as_deref())?;
        let entries = &loaded.entries;
        let mut others = changes(entries, from, to);
        others.extend(away.iter().flat_map(|away| late(entries, away)));
        others.sort_by_key(|(at, _)| *at);
        let mut others = others.into_iter().peekable();
        let mut printer = Printer { is_json: self.json, text: String::new() };
        // What is due at the very beginning counts.
        let after = from.checked_sub(SignedDuration::from_nanos(1)).unwrap_or(from);
        let is_seen = |at: Timestamp| away.as_ref().is_none_or(|away| at < away.from || at > away.to);
        for (entry, firing, of) in merged(entries, after).take_while(|(_, firing, _)| firing.at < to) {
            while let Some((_, event)) = others.next_if(|(at, _)| *at <= firing.at) {
                printer.add(&event)?;
            }
            if is_seen(firing.at) {
                printer.add(&Event::Fires(entry, firing, of))?;
            }
        }
        for (_, event) in others {
            printer.add(&event)?;
        }
        printer.flush()?;
        Ok(tell(&loaded))
    }

    /// When nobody looks.
    fn away(&self, zone: &TimeZone) -> Result<Option<Away>, Failure> {
        let (option, span) = match (&self.asleep, &self.off) {
            (Some(span), _) => ("--asleep", span),
            (None, Some(span)) => ("--off", span),
            (None, None) => return Ok(None),
        };
        let Some((from, to)) = span.split_once('/') else {
            let reason = format!("{option}: expected two times with / between them, found {span:?}");
            return Err(Failure::new(Exit::Usage, reason));
        };
        let (from, to) = (times::moment(option, from, zone)?, times::moment(option, to, zone)?);
        let leap = to.duration_since(from);
        if leap.is_negative() {
            return Err(Failure::new(Exit::Usage, format!("{option}: ends before it begins")));
        }
        let absence = if self.off.is_some() { Absence::Down } else { Absence::Leap(leap) };
        Ok(Some(Away { from, to, absence }))
    }
}

/// What becomes of what is due while nobody looks.
fn late<'a>(entries: &[Arc<Entry>], away: &Away) -> Vec<(Timestamp, Event<'a>)> {
    let just_before = away.from.checked_sub(SignedDuration::from_nanos(1)).unwrap_or(away.from);
    let is_on = |entry: &&Arc<Entry>| !entry.policies.is_disabled;
    let all = entries.iter().filter(is_on).flat_map(|entry| missed(entry, just_before, away.to, away.absence, MOST));
    let mut all: Vec<Due> = all.collect();
    all.sort_by_key(|due| due.firing.at);
    all.into_iter().map(|due| (away.to, Event::Late(away.to, due))).collect()
}

/// Prints many lines in few pieces: a year has half a million minutes.
struct Printer {
    is_json: bool,
    text: String,
}

/// How much is printed at once.
const PIECE: usize = 64 << 10;

impl Printer {
    fn add(&mut self, event: &Event<'_>) -> Result<(), Failure> {
        self.text +=
            &if self.is_json { json(event).to_string() } else { line(event).text(None, output::is_coloured()) };
        self.text.push('\n');
        if self.text.len() >= PIECE {
            self.flush()?;
        }
        Ok(())
    }

    fn flush(&mut self) -> Result<Exit, Failure> {
        output::print_bytes(std::mem::take(&mut self.text).as_bytes())
    }
}

fn json(event: &Event<'_>) -> Value {
    match event {
        Event::Fires(entry, firing, zone) => facts(entry, firing, zone),
        Event::Clock(at, by, zone) => {
            json!({"at": times::rfc3339(*at, zone), "zone": zone.iana_name(), "clock": by.as_secs()})
        }
        Event::Late(at, due) => {
            let mut facts = facts(&due.entry, &due.firing, due.entry.zone());
            facts["late"] = times::rfc3339(*at, due.entry.zone()).into();
            facts["runs"] = does_run(due).into();
            facts
        }
    }
}

fn line(event: &Event<'_>) -> Line {
    match event {
        Event::Fires(entry, firing, zone) => {
            let line = Line::of(format!("{}  {}", times::shown(firing.at, zone), entry.name), Tone::Plain);
            let note = note(firing);
            if note.is_empty() { line } else { line.and(format!("  {note}"), Tone::Odd) }
        }
        Event::Clock(at, by, zone) => {
            let way = if by.is_negative() { "back" } else { "forward" };
            let length = humantime::format_duration(by.unsigned_abs());
            let name = zone.iana_name().unwrap_or("local");
            Line::of(format!("{}  the clock of {name} goes {way} by {length}", times::shown(*at, zone)), Tone::Odd)
        }
        Event::Late(at, due) => {
            let zone = due.entry.zone();
            let became = if does_run(due) { "runs for" } else { "has missed" };
            let line = Line::of(format!("{}  {}", times::shown(*at, zone), due.entry.name), Tone::Plain);
            line.and(format!("  {became} {}", due.firing.local), Tone::Odd)
        }
    }
}

fn does_run(due: &Due) -> bool {
    matches!(due.decision, Decision::Run | Decision::CatchUp)
}

/// When the clocks of all zones in use are set, each once.
fn changes(entries: &[Arc<Entry>], from: Timestamp, to: Timestamp) -> Vec<(Timestamp, Event<'_>)> {
    let mut zones: Vec<&TimeZone> = Vec::new();
    for entry in entries {
        let of = entry.zone();
        if !zones.contains(&of) {
            zones.push(of);
        }
    }
    let mut changes = Vec::new();
    for zone in zones {
        let mut before = zone.to_offset(from);
        for change in zone.following(from).take_while(|change| change.timestamp() < to) {
            let by = before.duration_until(change.offset());
            before = change.offset();
            if !by.is_zero() {
                changes.push((change.timestamp(), Event::Clock(change.timestamp(), by, zone)));
            }
        }
    }
    changes
}
