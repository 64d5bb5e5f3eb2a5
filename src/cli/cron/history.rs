//! `cerbas cron history`: what became of the instants of entries.

use serde_json::Value;

use super::records::Records;
use crate::cli::columns::{Columns, Line, Tone, cell, plain, span_or_dash};
use crate::cli::exit::{Exit, Failure};
use crate::cli::{Place, output};
use crate::clock;
use crate::inspect::sentences::{self, became, host, late, took};
use crate::inspect::shapes;
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
        let records = Records::open(&self.place)?;
        let mut runs: Vec<Run> = match &self.name {
            Some(name) => records.of(name)?,
            None => records.all()?.into_values().flatten().collect(),
        };
        runs.sort_by_key(|run| run.occurrence.at);
        let last = &runs[runs.len().saturating_sub(self.number)..];
        if self.json {
            let last: Vec<Value> = last.iter().map(shapes::run).collect();
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

fn tone(run: &Run) -> Tone {
    match (run.outcome, run.verdict) {
        (RunOutcome::Ran | RunOutcome::DstShifted, Some(Verdict::Ok)) => Tone::Plain,
        (RunOutcome::Ran | RunOutcome::DstShifted, _) => Tone::Bad,
        (RunOutcome::MissedDown | RunOutcome::Expired | RunOutcome::SkippedOverlap, _) => Tone::Odd,
        (RunOutcome::Waiting | RunOutcome::Disabled, _) => Tone::Faint,
    }
}

/// What became of it, as a sentence, and below that what it printed.
pub(in crate::cli) fn say(head: &str, run: &Run) -> Vec<Line> {
    let mut lines = vec![Line::of(format!("{head}: {}", sentences::run(run, clock::now())), tone(run))];
    let printed = run.output.lines().filter(|_| run.started.is_some());
    lines.extend(printed.map(|line| Line::of(format!("  {line}"), Tone::Plain)));
    let unmailed = run.unmailed.iter().map(|why| Line::of(format!("  its mail was not sent: {why}"), Tone::Bad));
    lines.extend(unmailed);
    lines
}
