//! `cerbas jobs`: single requests that have no verdict yet.

use std::time::{Duration, Instant};

use clap::builder::PossibleValue;
use clap::{Subcommand, ValueEnum};
use serde_json::{Value, json};

use super::columns::{Columns, Tone, cell, plain, span};
use super::exit::{Exit, Failure};
use super::output::Waiting;
use super::{Place, output};
use crate::broker::{Found, Inspect, Stand};
use crate::clock;
use crate::inspect::shapes::{self, State};
use crate::protocol::{RequestId, Verdict};

#[derive(clap::Args)]
pub(super) struct Jobs {
    #[command(subcommand)]
    command: Command,
}

#[derive(Subcommand)]
enum Command {
    /// List requests that have no verdict yet
    List(List),
    /// Cancel requests, wherever they wait or run
    Cancel(Cancel),
}

impl Jobs {
    pub(super) fn run(self) -> Result<Exit, Failure> {
        match self.command {
            Command::List(list) => list.run(),
            Command::Cancel(cancel) => cancel.run(),
        }
    }
}

impl ValueEnum for State {
    fn value_variants<'a>() -> &'a [Self] {
        use State::{Behind, Claimed, Delayed, Parked, Retrying, Running, Waiting};
        &[Waiting, Delayed, Retrying, Parked, Behind, Claimed, Running]
    }

    fn to_possible_value(&self) -> Option<PossibleValue> {
        let meaning = match self {
            State::Waiting => "In a queue",
            State::Delayed => "Until its delay is over",
            State::Retrying => "Until its next run",
            State::Parked => "Until fewer calls of its function run",
            State::Behind => "Until the run before it has ended",
            State::Claimed => "Taken by a daemon, not started",
            State::Running => "Running",
        };
        Some(PossibleValue::new(self.name()).help(meaning))
    }
}

#[derive(clap::Args)]
struct List {
    /// Only those that do this
    #[arg(long)]
    state: Option<State>,
    /// Only those of this function
    #[arg(long)]
    func: Option<String>,
    /// Only those in this queue
    #[arg(long)]
    queue: Option<String>,
    /// How many of each list are looked at
    #[arg(short, long, default_value_t = 50)]
    number: usize,
    /// Print a JSON array
    #[arg(long)]
    json: bool,
    #[command(flatten)]
    place: Place,
}

impl List {
    fn run(self) -> Result<Exit, Failure> {
        let mut jobs = self.place.operator()?.jobs(self.number)?;
        jobs.retain(|job| {
            self.state.is_none_or(|state| State::of(job) == state)
                && (self.func.is_none() || job.func == self.func)
                && self
                    .queue
                    .as_ref()
                    .is_none_or(|wanted| matches!(&job.stand, Stand::Queue { queue, .. } if queue == wanted))
        });
        if self.json {
            let jobs: Vec<Value> = jobs.iter().map(shapes::job).collect();
            return output::print(&Value::from(jobs).to_string());
        }
        if jobs.is_empty() {
            return output::print("no requests");
        }
        let now = clock::now();
        let mut columns = Columns::new(&["id", "function", "state", "where", ">since", ">until", "last error"]);
        for job in &jobs {
            let until = match job.stand {
                Stand::Delayed { due } | Stand::Call { due: Some(due), .. } => {
                    format!("in {}", span(due.saturating_sub(now)))
                }
                _ => String::new(),
            };
            let since = match job.stand {
                Stand::Taken { since: Some(since), .. } | Stand::Call { since, .. } => Some(since),
                _ => job.sent_at,
            };
            columns.row([
                plain(job.id.as_deref().unwrap_or("-")),
                plain(job.func.as_deref().unwrap_or("-")),
                cell(
                    State::of(job).name(),
                    if matches!(State::of(job), State::Retrying) { Tone::Odd } else { Tone::Plain },
                ),
                cell(whereabouts(&job.stand), if is_dead(&job.stand) { Tone::Bad } else { Tone::Plain }),
                plain(since.map_or_else(String::new, |since| format!("{} ago", span(now.saturating_sub(since))))),
                plain(until),
                plain(job.last_error.as_deref().unwrap_or_default().chars().take(60).collect::<String>()),
            ]);
        }
        output::print_lines(&columns.lines())
    }
}

fn is_dead(stand: &Stand) -> bool {
    matches!(stand, Stand::Taken { is_alive: false, .. })
}

fn whereabouts(stand: &Stand) -> String {
    match stand {
        Stand::Queue { queue, before, is_served } => {
            let unserved = if *is_served { "" } else { ", which no daemon serves" };
            format!("{queue} #{}{unserved}", before + 1)
        }
        Stand::Delayed { .. } | Stand::Parked | Stand::Behind => String::new(),
        Stand::Inbox { node } => format!("inbox of {node}"),
        Stand::Call { node, .. } | Stand::Taken { node, is_alive: true, .. } => node.clone(),
        Stand::Taken { node, .. } => format!("{node} (dead)"),
    }
}

#[derive(clap::Args)]
struct Cancel {
    /// The ids
    #[arg(required = true)]
    ids: Vec<String>,
    /// How long to wait for a daemon to do it
    #[arg(long, value_name = "TIME", default_value = "5s", value_parser = humantime::parse_duration)]
    timeout: Duration,
    /// Print a JSON array
    #[arg(long)]
    json: bool,
    #[command(flatten)]
    place: Place,
}

/// How long an answer is kept that this command gives: as long as daemons do where nothing else is said.
const RESULT_TTL: Duration = Duration::from_secs(60);

/// A daemon is told again after so long.
const AGAIN: Duration = Duration::from_millis(250);

/// How often it is looked for the answer.
const LOOK: Duration = Duration::from_millis(20);

/// What became of a request that was to be cancelled.
enum Outcome {
    Cancelled,
    Ended(Option<Verdict>),
    StillRuns(String),
    /// It was in flight and is no more, and asked for no answer.
    Gone,
    Unknown,
}

impl Cancel {
    fn run(self) -> Result<Exit, Failure> {
        let mut operator = self.place.operator()?;
        let mut exit = Exit::Done;
        let mut described = Vec::new();
        for text in &self.ids {
            let id = parse_id(text)?;
            let waiting = Waiting::show(format!("cancelling {id}"));
            let outcome = cancel(&mut *operator, &id, self.timeout)?;
            drop(waiting);
            if !matches!(outcome, Outcome::Cancelled | Outcome::Gone) {
                exit = Exit::Failed;
            }
            let (word, sentence) = say(&id, &outcome, self.timeout);
            if self.json {
                described.push(json!({"id": id.to_string(), "outcome": word, "message": sentence}));
            } else {
                output::print(&sentence)?;
            }
        }
        if self.json {
            output::print(&Value::from(described).to_string())?;
        }
        Ok(exit)
    }
}

fn cancel(operator: &mut dyn Inspect, id: &RequestId, timeout: Duration) -> Result<Outcome, Failure> {
    let deadline = Instant::now() + timeout;
    let mut was_in_flight = false;
    loop {
        let node = match operator.cancel(id, RESULT_TTL)? {
            Found::Waiting | Found::Cancelled(_) => return Ok(Outcome::Cancelled),
            Found::Nowhere if was_in_flight => return Ok(Outcome::Gone),
            Found::Nowhere => return Ok(Outcome::Unknown),
            Found::Ended => return verdict(operator, id),
            Found::InFlight(node) => node,
        };
        was_in_flight = true;
        // From now on its daemon answers for it.
        let again = Instant::now() + AGAIN;
        loop {
            if operator.answer(id)?.is_some() {
                return verdict(operator, id);
            }
            let now = Instant::now();
            if now >= deadline {
                return Ok(Outcome::StillRuns(node));
            }
            if now >= again {
                break;
            }
            std::thread::sleep(LOOK);
        }
    }
}

fn verdict(operator: &mut dyn Inspect, id: &RequestId) -> Result<Outcome, Failure> {
    let verdict = operator.answer(id)?.map(|(answer, _)| answer.verdict());
    Ok(if verdict == Some(Verdict::Cancelled) { Outcome::Cancelled } else { Outcome::Ended(verdict) })
}

fn say(id: &RequestId, outcome: &Outcome, timeout: Duration) -> (&'static str, String) {
    match outcome {
        Outcome::Cancelled => ("cancelled", format!("{id}: cancelled")),
        Outcome::Ended(Some(verdict)) => ("ended", format!("{id}: had ended before, with {verdict}")),
        Outcome::Ended(None) => ("ended", format!("{id}: had ended before")),
        Outcome::StillRuns(node) => {
            let timeout = humantime::format_duration(timeout);
            ("in flight", format!("{id}: still in flight at {node}, which has not answered within {timeout}"))
        }
        Outcome::Gone => (
            "gone",
            format!("{id}: is in flight no more; it asked for no answer, so none tells whether it ended by itself"),
        ),
        Outcome::Unknown => (
            "unknown",
            format!("{id}: nothing is known of it; it was never sent, or has ended and its answer is forgotten"),
        ),
    }
}

/// An id as people write it: numbers may come without their zeros.
pub(super) fn parse_id(text: &str) -> Result<RequestId, Failure> {
    let number = text.parse().ok().filter(|_| text.bytes().all(|byte| byte.is_ascii_digit()));
    number.map(RequestId::Number).or_else(|| RequestId::parse(text)).ok_or_else(|| {
        Failure::new(Exit::Usage, format!("{text:?} is no id: expected 1 to 128 characters out of A-Z a-z 0-9 _ . : -"))
    })
}
