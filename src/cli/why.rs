//! `cerbas why`: what became of a request, or what it waits for.

use super::columns::{Line, Tone, span};
use super::exit::{Exit, Failure};
use super::jobs::{describe, parse_id};
use super::{Place, output};
use crate::broker::{Fate, Job, Stand};
use crate::clock;
use crate::protocol::{Answer, CRON_ID, DeadLetter, Json, Object, Status};

#[derive(clap::Args)]
pub(super) struct Why {
    /// The id of the request; or an entry of a crontab and one of its instants, as backup@2026-11-20T02:00
    id: String,
    /// Print a JSON object
    #[arg(long)]
    json: bool,
    #[command(flatten)]
    place: Place,
}

/// How much of an answer is shown, in characters.
const SHOWN: usize = 200;

impl Why {
    pub(super) fn run(self) -> Result<Exit, Failure> {
        if let Some((name, instant)) = self.id.split_once('@') {
            return super::cron::why(name, instant, &self.place, self.json);
        }
        let id = parse_id(&self.id)?;
        let fate = self.place.operator()?.fate(&id)?;
        // What has ended of cron is on record with its entry.
        let of_cron = self.id.strip_prefix(CRON_ID).and_then(|rest| rest.split_once(':'));
        if let (Fate::Unknown, Some((name, instant))) = (&fate, of_cron) {
            return super::cron::why(name, instant, &self.place, self.json);
        }
        let sentence = format!("{id}: {}", say(&fate, clock::now()));
        let is_known = !matches!(fate, Fate::Unknown);
        if self.json {
            let mut value = facts(&fate);
            value.insert("id", id.to_string());
            value.insert("message", sentence);
            output::print(&value.to_json())?;
        } else {
            output::print_lines(&[Line::of(sentence, Tone::Plain)])?;
        }
        Ok(if is_known { Exit::Done } else { Exit::Failed })
    }
}

/// One sentence on what became of it, or what it waits for.
pub(super) fn say(fate: &Fate, now: u64) -> String {
    match fate {
        Fate::Open(job) => open(job, now),
        Fate::Answered(answer, left) => {
            format!(
                "ended with {}; its answer can be read for {} more: {}",
                answer.verdict(),
                span(*left),
                shown(answer)
            )
        }
        Fate::Dead(letter) => dead(letter, now),
        Fate::Unsent => {
            "its body is there, but its number stands in no queue: it was never sent, or it was just taken".to_owned()
        }
        Fate::Unknown => {
            "nothing is known of it: it was never sent here, or it has ended and its answer was not kept any longer"
                .to_owned()
        }
    }
}

fn open(job: &Job, now: u64) -> String {
    let func = job.func.as_deref().unwrap_or("a function that cannot be read");
    let sent = job.sent_at.map_or_else(String::new, |sent| format!(", sent {} ago", span(now.saturating_sub(sent))));
    let error = job.last_error.as_deref().unwrap_or("nothing");
    match &job.stand {
        Stand::Queue { queue, is_served: false, .. } => format!(
            "{func} waits in queue {queue}, which no daemon serves at this moment; if none comes, it is refused{sent}"
        ),
        Stand::Queue { queue, before: 0, .. } => format!("{func} waits in queue {queue} and is the next one{sent}"),
        Stand::Queue { queue, before, .. } => format!("{func} waits in queue {queue} behind {before} others{sent}"),
        Stand::Delayed { due } if job.attempt > 0 => format!(
            "{func} has failed {} and runs again in {}{sent}; the last error: {error}",
            times(job.attempt),
            span(due.saturating_sub(now))
        ),
        Stand::Delayed { due } => format!("{func} is delayed and starts in {}{sent}", span(due.saturating_sub(now))),
        Stand::Parked => format!("{func} waits until fewer calls of it run, over all daemons{sent}"),
        Stand::Behind => format!("{func} waits until the run before it has ended{sent}"),
        Stand::Inbox { node } => format!("{func} waits for the daemon {node}, which it is addressed to{sent}"),
        Stand::Taken { node, is_alive: true, since: Some(since) } => {
            format!("{func} has been running for {} at {node}{sent}", span(now.saturating_sub(*since)))
        }
        Stand::Taken { node, is_alive: true, .. } => {
            format!("{func} is taken by {node} and waits for a worker there, or has just started{sent}")
        }
        Stand::Taken { node, .. } => {
            format!(
                "{func} was taken by {node}, which is dead; another daemon takes it back within two leases, if one lives{sent}"
            )
        }
    }
}

fn dead(letter: &DeadLetter, now: u64) -> String {
    let func = letter.func.as_deref().unwrap_or("it");
    let tries = if letter.attempts > 1 { format!(" after {} runs", letter.attempts) } else { String::new() };
    format!(
        "{func} ended with {}{tries} {} ago and is on the dead list: {}",
        letter.verdict,
        span(now.saturating_sub(letter.at)),
        letter.message
    )
}

fn times(count: u64) -> String {
    if count == 1 { "once".to_owned() } else { format!("{count} times") }
}

fn shown(answer: &Answer) -> String {
    let text = if answer.status == Status::Error { answer.data.to_text() } else { answer.data.to_string() };
    let start: String = text.chars().take(SHOWN).collect();
    if start.len() < text.len() { format!("{start}...") } else { start }
}

/// The same for programs.
fn facts(fate: &Fate) -> Object {
    let (name, more) = match fate {
        Fate::Open(job) => ("open", vec![("job", describe(job).into())]),
        Fate::Answered(answer, left) => (
            "answered",
            vec![
                ("verdict", answer.verdict().as_str().into()),
                ("answer", Json::of(answer).expect("an answer is JSON")),
                ("readable_ms", (*left).into()),
            ],
        ),
        Fate::Dead(letter) => (
            "dead",
            vec![("verdict", letter.verdict.as_str().into()), ("entry", Json::of(letter).expect("an entry is JSON"))],
        ),
        Fate::Unsent => ("unsent", vec![]),
        Fate::Unknown => ("unknown", vec![]),
    };
    let fields = [("fate", Json::from(name))].into_iter().chain(more);
    fields.map(|(name, value)| (name.into(), value)).collect()
}
