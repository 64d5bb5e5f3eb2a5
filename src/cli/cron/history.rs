//! `cerbas cron history`: what became of the instants of entries.

use serde_json::Value;

use super::records::Records;
use crate::cli::columns::{Columns, Line, Tone, cell, plain, span, span_or_dash};
use crate::cli::exit::{Exit, Failure};
use crate::cli::{Place, output};
use crate::clock;
use crate::protocol::{Run, RunOutcome, Verdict};

#[derive(clap::Args)]
pub(super) struct History {
    /// Only the entry of this name
    name: Option<String>,
    /// The last so many
    #[arg(short, long, default_value_t = 20)]
    number: usize,
    /// Print a JSON array
    #[arg(long)]
    json: bool,
    #[command(flatten)]
    place: Place,
}

/// How much of what a run printed is shown, in characters.
const SHOWN: usize = 60;

impl History {
    pub(super) fn run(self) -> Result<Exit, Failure> {
        let mut records = Records::open(&self.place)?;
        let mut runs: Vec<Run> = match &self.name {
            Some(name) => records.of(name)?,
            None => records.all()?.into_values().flatten().collect(),
        };
        runs.sort_by_key(|run| run.occurrence.at);
        let last = &runs[runs.len().saturating_sub(self.number)..];
        if self.json {
            let last: Vec<Value> = last.iter().map(facts).collect();
            return output::print(&Value::from(last).to_string());
        }
        if last.is_empty() {
            return output::print(
                match &self.name {
                    Some(name) => format!("no run of {name} is on record"),
                    None => "no run is on record".to_owned(),
                }
                .as_str(),
            );
        }
        let mut table = Columns::new(&["at", "name", "became", ">late", ">took", "node", "said"]);
        for run in last {
            let mut said: String = run.output.lines().next().unwrap_or_default().chars().take(SHOWN).collect();
            if run.unmailed.is_some() {
                said = format!("[not mailed] {said}");
            }
            table.row([
                plain(&run.occurrence.local),
                plain(&run.occurrence.name),
                cell(became(run), tone(run)),
                plain(span_or_dash(late(run))),
                plain(span_or_dash(took(run))),
                plain(host(run)),
                plain(said),
            ]);
        }
        output::print_lines(&table.lines())
    }
}

/// In a word or two: how its request ended, or why there was none.
pub(in crate::cli) fn became(run: &Run) -> String {
    match (run.outcome, run.verdict) {
        (RunOutcome::Ran, Some(verdict)) => verdict.to_string(),
        (RunOutcome::DstShifted, Some(verdict)) => format!("dst-shifted {verdict}"),
        (outcome, _) => outcome.to_string(),
    }
}

fn tone(run: &Run) -> Tone {
    match (run.outcome, run.verdict) {
        (RunOutcome::Ran | RunOutcome::DstShifted, Some(Verdict::Ok)) => Tone::Plain,
        (RunOutcome::Ran | RunOutcome::DstShifted, _) => Tone::Bad,
        (RunOutcome::MissedDown | RunOutcome::Expired | RunOutcome::SkippedOverlap, _) => Tone::Odd,
        (RunOutcome::Waiting | RunOutcome::Disabled, _) => Tone::Faint,
    }
}

/// The machine that ran it.
fn host(run: &Run) -> &str {
    // Behind it are process and start, which only programs need.
    run.node.split('.').next().unwrap_or_default()
}

/// How long after its moment it started, in milliseconds.
fn late(run: &Run) -> Option<u64> {
    run.started.map(|started| started.saturating_sub(run.occurrence.at))
}

/// How long it took, or has taken so far, in milliseconds.
fn took(run: &Run) -> Option<u64> {
    Some(run.ended?.saturating_sub(run.started?))
}

/// A run for programs: as it is kept, with what can be counted from that.
pub(in crate::cli) fn facts(run: &Run) -> Value {
    let mut facts = serde_json::to_value(run).expect("a run is JSON");
    facts["late_ms"] = late(run).into();
    facts["took_ms"] = took(run).into();
    facts
}

/// What became of it, as a sentence, and below that what it printed.
pub(in crate::cli) fn say(head: &str, run: &Run) -> Vec<Line> {
    let mut lines = vec![Line::of(format!("{head}: {}", sentence(run)), tone(run))];
    let printed = run.output.lines().filter(|_| run.started.is_some());
    lines.extend(printed.map(|line| Line::of(format!("  {line}"), Tone::Plain)));
    let unmailed = run.unmailed.iter().map(|why| Line::of(format!("  its mail was not sent: {why}"), Tone::Bad));
    lines.extend(unmailed);
    lines
}

fn sentence(run: &Run) -> String {
    let ago = run.ended.map_or_else(String::new, |at| format!(", {} ago", span(clock::now().saturating_sub(at))));
    let took = took(run).map_or_else(String::new, |took| format!(" after {}", span(took)));
    let tries = if run.attempts > 1 { format!(" in {} attempts", run.attempts) } else { String::new() };
    let verdict = run.verdict.map_or("no verdict", Verdict::as_str);
    let late = if run.occurrence.is_late { ", made up for later" } else { "" };
    match run.outcome {
        RunOutcome::Waiting => format!("was begun by {} and has no verdict yet", host(run)),
        RunOutcome::Ran => format!("ran at {}{late} and ended with {verdict}{took}{tries}{ago}", host(run)),
        RunOutcome::DstShifted => format!(
            "dst-shifted: the clock left this time out, so it ran at the change, at {}, and ended with {verdict}{took}{tries}{ago}",
            host(run)
        ),
        RunOutcome::SkippedOverlap => "skipped-overlap: its last run had not ended (overlap)".to_owned(),
        RunOutcome::MissedDown => "missed-down: no daemon was there, or its clock was set over it (catchup)".to_owned(),
        RunOutcome::Expired => "expired: it could not start in time (expires)".to_owned(),
        RunOutcome::Disabled => "disabled: the entry was paused or disabled".to_owned(),
    }
}
