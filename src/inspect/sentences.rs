//! What became of a request or a run, or what it waits for, in one sentence for people.

use crate::broker::{Fate, Job, Stand};
use crate::protocol::{Answer, CallState, DeadLetter, Run, RunOutcome, Status, Verdict};

/// How much of an answer is shown, in characters.
const SHOWN: usize = 200;

/// One sentence on what became of it, or what it waits for.
pub(crate) fn fate(fate: &Fate, now: u64) -> String {
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
        Stand::Call { .. } => call(func, &job.stand, job.attempt, now),
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

/// The open call of a daemon, of which nothing stands in a list.
fn call(func: &str, stand: &Stand, failed: u64, now: u64) -> String {
    let Stand::Call { node, door, state, since, due } = stand else { return String::new() };
    let since = span(now.saturating_sub(*since));
    let came = format!("it came in by {door} {since} ago");
    match state {
        CallState::Running => format!("{func} has been running for {since} at {node}; it came in by {door}"),
        CallState::Waiting => format!("{func} waits for a worker at {node}; {came}"),
        CallState::Parked => format!("{func} waits at {node} until fewer calls of it run there; {came}"),
        CallState::Again => {
            let left = span(due.unwrap_or(now).saturating_sub(now));
            format!("{func} has failed {} and runs again in {left} at {node}; {came}", times(failed))
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

/// In a word or two: how its request ended, or why there was none.
pub(crate) fn became(run: &Run) -> String {
    match (run.outcome, run.verdict) {
        (RunOutcome::Ran, Some(verdict)) => verdict.to_string(),
        (RunOutcome::DstShifted, Some(verdict)) => format!("dst-shifted {verdict}"),
        (outcome, _) => outcome.to_string(),
    }
}

/// The machine that ran it.
pub(crate) fn host(run: &Run) -> &str {
    // Behind it are process and start, which only programs need.
    run.node.split('.').next().unwrap_or_default()
}

/// How long after its moment it started, in milliseconds.
pub(crate) fn late(run: &Run) -> Option<u64> {
    run.started.map(|started| started.saturating_sub(run.occurrence.at))
}

/// How long it took, or has taken so far, in milliseconds.
pub(crate) fn took(run: &Run) -> Option<u64> {
    Some(run.ended?.saturating_sub(run.started?))
}

/// What became of a run of an entry.
pub(crate) fn run(run: &Run, now: u64) -> String {
    let ago = run.ended.map_or_else(String::new, |at| format!(", {} ago", span(now.saturating_sub(at))));
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

/// A time in milliseconds, in its two largest units.
pub(crate) fn span(milliseconds: u64) -> String {
    let seconds = milliseconds / 1000;
    let (minutes, hours, days) = (seconds / 60, seconds / 3600, seconds / 86400);
    match milliseconds {
        0..1000 => format!("{milliseconds}ms"),
        1000..10_000 => format!("{:.1}s", milliseconds as f64 / 1000.0),
        _ if minutes == 0 => format!("{seconds}s"),
        _ if hours == 0 => format!("{minutes}m {:02}s", seconds % 60),
        _ if days == 0 => format!("{hours}h {:02}m", minutes % 60),
        _ => format!("{days}d {:02}h", hours % 24),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_time_has_its_two_largest_units() {
        let shown = [0, 999, 1500, 59_999, 61_000, 7_260_000, 200_000_000].map(span);
        assert_eq!(shown, ["0ms", "999ms", "1.5s", "59s", "1m 01s", "2h 01m", "2d 07h"]);
    }
}
