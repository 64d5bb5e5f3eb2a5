//! `cerbas cron next`: when entries are due, or an expression.

use std::sync::Arc;

use jiff::Timestamp;
use jiff::tz::TimeZone;
use serde_json::{Value, json};

use super::explain::{firings, read};
use super::{File, find, tell, times};
use crate::cli::columns::{Columns, Tone, cell, plain, span};
use crate::cli::exit::{Exit, Failure};
use crate::cli::output;
use crate::cron::{Entry, Firing};

#[derive(clap::Args)]
pub(super) struct Next {
    /// Only the entry of this name
    #[arg(conflicts_with = "expr")]
    name: Option<String>,
    /// An expression, instead of a crontab: five fields in quotes, or @daily and the like
    #[arg(long, value_name = "EXPR")]
    expr: Option<String>,
    /// The time zone of an expression, and of entries that have none of their own [default: that of this machine]
    #[arg(long, value_name = "ZONE")]
    tz: Option<String>,
    /// What comes after this time, as 2026-03-28T00:00 [default: now]
    #[arg(long, value_name = "TIME")]
    from: Option<String>,
    /// How many
    #[arg(short = 'n', long, default_value_t = 10, value_parser = clap::value_parser!(u64).range(1..=100_000))]
    number: u64,
    #[command(flatten)]
    file: File,
    /// Print a JSON array: of times for an expression, of objects for a crontab
    #[arg(long)]
    json: bool,
}

impl Next {
    pub(super) fn run(self) -> Result<Exit, Failure> {
        let zone = times::zone(self.tz.as_deref())?;
        let from = match &self.from {
            Some(from) => times::moment("--from", from, &zone)?,
            None => Timestamp::now(),
        };
        match &self.expr {
            Some(expression) => self.of_expression(expression, from, &zone),
            None => self.of_file(from),
        }
    }

    fn of_expression(&self, expression: &str, from: Timestamp, zone: &TimeZone) -> Result<Exit, Failure> {
        let schedule = read(expression)?;
        let all = firings(&schedule, from, zone).take(self.number as usize);
        if self.json {
            let all: Vec<Value> = all.map(|firing| times::rfc3339(firing.at, zone).into()).collect();
            return output::print(&Value::from(all).to_string());
        }
        let mut table = Columns::new(&["time", ">in", ""]);
        all.for_each(|firing| {
            table.row([plain(times::shown(firing.at, zone)), plain(until(&firing)), cell(note(&firing), Tone::Odd)])
        });
        if table.is_empty() {
            return output::print(if schedule.is_reboot() { "once after the machine was started" } else { "never" });
        }
        output::print_lines(&table.lines())
    }

    fn of_file(&self, from: Timestamp) -> Result<Exit, Failure> {
        let loaded = self.file.read(self.tz.as_deref())?;
        let entries = match &self.name {
            Some(name) => std::slice::from_ref(find(&loaded, name)?),
            None => &loaded.entries,
        };
        let all = merged(entries, from).take(self.number as usize);
        if self.json {
            let all: Vec<Value> = all.map(|(entry, firing, zone)| facts(entry, &firing, zone)).collect();
            output::print(&Value::from(all).to_string())?;
            return Ok(tell(&loaded));
        }
        let mut table = Columns::new(&["time", ">in", "name", ""]);
        for (entry, firing, zone) in all {
            let row = [times::shown(firing.at, zone), until(&firing), entry.name.clone()];
            let [time, until, name] = row.map(plain);
            table.row([time, until, name, cell(note(&firing), Tone::Odd)]);
        }
        if table.is_empty() {
            output::print("nothing is due")?;
        } else {
            output::print_lines(&table.lines())?;
        }
        Ok(tell(&loaded))
    }
}

/// A firing as an object.
pub(super) fn facts(entry: &Entry, firing: &Firing, zone: &TimeZone) -> Value {
    json!({
        "name": entry.name,
        "at": times::rfc3339(firing.at, zone),
        "local": firing.local.to_string(),
        "shifted": firing.is_shifted,
    })
}

/// What is special about a firing.
pub(super) fn note(firing: &Firing) -> String {
    if firing.is_shifted {
        format!("instead of {}, which the clock leaves out", firing.local.time())
    } else {
        String::new()
    }
}

fn until(firing: &Firing) -> String {
    let left = firing.at.duration_since(Timestamp::now());
    u64::try_from(left.as_millis()).map_or_else(|_| "-".to_owned(), span)
}

/// The firings of all entries that are not disabled, after `from`, in the order of their times; each with the zone that holds
/// for it.
pub(super) fn merged(entries: &[Arc<Entry>], from: Timestamp) -> impl Iterator<Item = (&Entry, Firing, &TimeZone)> {
    let is_on = |entry: &&Arc<Entry>| !entry.policies.is_disabled;
    let mut heads: Vec<(&Entry, Option<Firing>, &TimeZone)> = entries
        .iter()
        .filter(is_on)
        .map(|entry| {
            let zone = entry.zone();
            (&**entry, entry.schedule.next(from, zone), zone)
        })
        .collect();
    std::iter::from_fn(move || {
        let first = heads
            .iter_mut()
            .filter(|(_, next, _)| next.is_some())
            .min_by_key(|(_, next, _)| next.map(|next| next.at))?;
        let (entry, next, zone) = first;
        let firing = next.take()?;
        *next = entry.schedule.follow(&firing, zone);
        Some((*entry, firing, *zone))
    })
}
