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
use crate::cron::{Entry, Firing};

#[derive(clap::Args)]
pub(super) struct Simulate {
    /// From this time on, as 2026-03-28T00:00
    #[arg(long, value_name = "TIME")]
    from: String,
    /// Up to this time, without it
    #[arg(long, value_name = "TIME")]
    to: String,
    /// The time zone of entries that have none of their own [default: that of this machine]
    #[arg(long, value_name = "ZONE")]
    tz: Option<String>,
    #[command(flatten)]
    file: File,
    /// Print one JSON object per line
    #[arg(long)]
    json: bool,
}

/// Something that happens.
enum Event<'a> {
    Fires(&'a Entry, Firing, &'a TimeZone),
    /// The clock of the zone is set by so much.
    Clock(Timestamp, SignedDuration, &'a TimeZone),
}

impl Simulate {
    pub(super) fn run(self) -> Result<Exit, Failure> {
        let zone = times::zone(self.tz.as_deref())?;
        let from = times::moment("--from", &self.from, &zone)?;
        let to = times::moment("--to", &self.to, &zone)?;
        if to < from {
            return Err(Failure::new(Exit::Usage, "--to: is before --from"));
        }
        let loaded = self.file.read(self.tz.as_deref())?;
        let entries = &loaded.entries;
        let mut changes = changes(entries, from, to).into_iter().peekable();
        let mut printer = Printer { is_json: self.json, text: String::new() };
        // What is due at the very beginning counts.
        let after = from.checked_sub(SignedDuration::from_nanos(1)).unwrap_or(from);
        for (entry, firing, of) in merged(entries, after).take_while(|(_, firing, _)| firing.at < to) {
            while let Some((at, by, of)) = changes.next_if(|(at, ..)| *at <= firing.at) {
                printer.add(&Event::Clock(at, by, of))?;
            }
            printer.add(&Event::Fires(entry, firing, of))?;
        }
        for (at, by, of) in changes {
            printer.add(&Event::Clock(at, by, of))?;
        }
        printer.flush()?;
        Ok(tell(&loaded))
    }
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
    }
}

/// When the clocks of all zones in use are set, each once.
fn changes(entries: &[Arc<Entry>], from: Timestamp, to: Timestamp) -> Vec<(Timestamp, SignedDuration, &TimeZone)> {
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
                changes.push((change.timestamp(), by, zone));
            }
        }
    }
    changes.sort_by_key(|(at, ..)| *at);
    changes
}
