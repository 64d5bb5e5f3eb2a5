//! The JSON in which programs read what an operator sees. Others rely on it: fields come, and none goes or changes its meaning.

use std::collections::BTreeMap;

use serde::Serialize;
use serde_json::{Value, json};

use super::rates::Totals;
use super::sentences::{late, took};
use crate::broker::{DeadEntry, Fate, Job, Member, Overview, QueueLook, Stand};
use crate::protocol::{CallState, DeadLetter, Json, Object, Run, Verdict};

/// `overview`, with how many requests end per second, by verdict, where that is known.
pub(crate) fn overview(overview: &Overview, per_second: Option<&BTreeMap<Verdict, f64>>) -> Value {
    let queue = |queue: &QueueLook| json!({"name": queue.name, "key": queue.key, "length": queue.length, "oldest_ms": queue.oldest, "is_served": queue.is_served});
    let totals = Totals::of(overview);
    json!({
        "now": overview.now,
        "queues": overview.queues.iter().map(queue).collect::<Vec<Value>>(),
        "delayed": {"length": overview.delayed, "next_due": overview.next_due},
        "dead": overview.dead,
        "in_flight": in_flight(overview),
        "verdicts": totals.counts,
        "verdicts_are_exact": totals.are_exact,
        "per_second": per_second,
        "nodes": overview.members.iter().map(member).collect::<Vec<Value>>(),
    })
}

/// How much is claimed and not settled, over all daemons, also dead ones.
pub(crate) fn in_flight(overview: &Overview) -> u64 {
    overview.members.iter().map(|member| member.claimed).sum()
}

/// A daemon: its record, with what others see of it.
pub(crate) fn member(member: &Member) -> Value {
    let mut value = match &member.record {
        Some(record) => serde_json::to_value(record).expect("a record is JSON"),
        None => json!({ "node": member.node }),
    };
    value["is_alive"] = member.record.is_some().into();
    value["silent_ms"] = member.silent.into();
    value["claimed"] = member.claimed.into();
    value["inbox"] = member.inbox.into();
    value["holds"] = member.record.as_ref().map(|record| record.status.holds()).into();
    value
}

/// What a request is doing that has no verdict yet.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum State {
    Waiting,
    Delayed,
    Retrying,
    Parked,
    Behind,
    Claimed,
    Running,
}

impl State {
    pub(crate) fn of(job: &Job) -> Self {
        match &job.stand {
            Stand::Queue { .. } | Stand::Inbox { .. } => State::Waiting,
            Stand::Delayed { .. } if job.attempt > 0 => State::Retrying,
            Stand::Delayed { .. } => State::Delayed,
            Stand::Parked | Stand::Call { state: CallState::Parked, .. } => State::Parked,
            Stand::Call { state: CallState::Again, .. } => State::Retrying,
            Stand::Behind => State::Behind,
            Stand::Taken { since: Some(_), .. } | Stand::Call { state: CallState::Running, .. } => State::Running,
            Stand::Taken { .. } | Stand::Call { state: CallState::Waiting, .. } => State::Claimed,
        }
    }

    pub(crate) fn name(self) -> &'static str {
        match self {
            State::Waiting => "waiting",
            State::Delayed => "delayed",
            State::Retrying => "retrying",
            State::Parked => "parked",
            State::Behind => "behind",
            State::Claimed => "claimed",
            State::Running => "running",
        }
    }
}

/// A request without a verdict; times in milliseconds since 1970.
pub(crate) fn job(job: &Job) -> Value {
    let mut value = json!({
        "id": job.id,
        "func": job.func,
        "state": State::of(job).name(),
        "sent_at": job.sent_at,
        "attempt": job.attempt,
        "last_error": job.last_error,
    });
    match &job.stand {
        Stand::Queue { queue, before, is_served } => {
            value["is_served"] = json!(is_served);
            value["queue"] = json!(queue);
            value["before"] = json!(before);
        }
        Stand::Delayed { due } => value["due"] = json!(due),
        Stand::Parked | Stand::Behind => {}
        Stand::Inbox { node } => value["node"] = json!(node),
        Stand::Taken { node, is_alive, since } => {
            value["node"] = json!(node);
            value["is_alive"] = json!(is_alive);
            value["since"] = json!(since);
        }
        Stand::Call { node, door, since, due, .. } => {
            value["node"] = json!(node);
            value["is_alive"] = json!(true);
            value["since"] = json!(since);
            value["door"] = json!(door);
            if let Some(due) = due {
                value["due"] = json!(due);
            }
        }
    }
    value
}

/// What became of a request.
pub(crate) fn fate(fate: &Fate) -> Object {
    let (name, more) = match fate {
        Fate::Open(open) => ("open", vec![("job", job(open).into())]),
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

/// An entry of the dead list: as it is kept, with the name that it can be called by.
#[derive(Serialize)]
struct Named<'a> {
    name: String,
    #[serde(flatten)]
    letter: &'a DeadLetter,
}

/// Entries of the dead list, as the text of an array: not a digit of their requests changes.
pub(crate) fn dead(entries: &[&DeadEntry]) -> String {
    let named = entries.iter().map(|entry| Named { name: entry.name(), letter: &entry.letter });
    serde_json::to_string(&named.collect::<Vec<_>>()).expect("entries are JSON")
}

/// A run of an entry of a crontab: as it is kept, with what can be counted from that.
pub(crate) fn run(run: &Run) -> Value {
    let mut value = serde_json::to_value(run).expect("a run is JSON");
    value["late_ms"] = late(run).into();
    value["took_ms"] = took(run).into();
    value
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::protocol::{Answer, Node, NodeStatus, Occurrence, RunOutcome};

    #[track_caller]
    fn check_job(stand: Stand, attempt: u64, expected: &Value) {
        let described = job(&Job {
            id: Some("a".to_owned()),
            func: Some("f".to_owned()),
            stand,
            sent_at: Some(5),
            attempt,
            last_error: None,
        });
        let mut expected = expected.clone();
        for (name, value) in
            [("id", json!("a")), ("func", json!("f")), ("sent_at", json!(5)), ("last_error", Value::Null)]
        {
            expected[name] = value;
        }
        expected["attempt"] = attempt.into();
        assert_eq!(described, expected);
    }

    #[test]
    fn a_job_says_what_it_does_and_where() {
        let node = || "n.1".to_owned();
        let queue = Stand::Queue { queue: "q".to_owned(), before: 3, is_served: true };
        check_job(queue, 0, &json!({"state": "waiting", "queue": "q", "before": 3, "is_served": true}));
        check_job(Stand::Inbox { node: node() }, 0, &json!({"state": "waiting", "node": "n.1"}));
        check_job(Stand::Delayed { due: 9 }, 0, &json!({"state": "delayed", "due": 9}));
        check_job(Stand::Delayed { due: 9 }, 1, &json!({"state": "retrying", "due": 9}));
        check_job(Stand::Parked, 0, &json!({"state": "parked"}));
        check_job(Stand::Behind, 0, &json!({"state": "behind"}));
        let taken = |since| Stand::Taken { node: node(), is_alive: true, since };
        check_job(taken(None), 0, &json!({"state": "claimed", "node": "n.1", "is_alive": true, "since": null}));
        let call = |state, due| Stand::Call { node: node(), door: "http".to_owned(), state, since: 7, due };
        let there = json!({"node": "n.1", "is_alive": true, "since": 7, "door": "http"});
        for (state, name) in
            [(CallState::Waiting, "claimed"), (CallState::Parked, "parked"), (CallState::Running, "running")]
        {
            let mut expected = there.clone();
            expected["state"] = name.into();
            check_job(call(state, None), 0, &expected);
        }
        let mut again = there;
        (again["state"], again["due"]) = ("retrying".into(), 9.into());
        check_job(call(CallState::Again, Some(9)), 1, &again);
        check_job(taken(Some(7)), 0, &json!({"state": "running", "node": "n.1", "is_alive": true, "since": 7}));
    }

    #[test]
    fn a_daemon_is_its_record_with_what_others_see_of_it() {
        let status = NodeStatus { name: "web-1".to_owned(), ..NodeStatus::default() };
        let record = Node { node: "n.1".to_owned(), status, ..Node::default() };
        let living = Member { node: "n.1".to_owned(), silent: 4, record: Some(record), claimed: 2, inbox: 1 };
        let value = member(&living);
        let seen = ["name", "is_alive", "silent_ms", "claimed", "inbox", "holds"].map(|name| value[name].clone());
        assert_eq!(json!(seen), json!(["web-1", true, 4, 2, 1, true]));
        let dead = Member { record: None, ..living };
        assert_eq!(
            member(&dead),
            json!({"node": "n.1", "is_alive": false, "silent_ms": 4, "claimed": 2, "inbox": 1, "holds": null})
        );
    }

    #[test]
    fn a_look_at_all_has_queues_counts_and_daemons() {
        let queue =
            QueueLook { name: "default".to_owned(), key: "K".to_owned(), length: 1, oldest: Some(2), is_served: true };
        let look = Overview {
            now: 9,
            members: vec![],
            queues: vec![queue],
            delayed: 1,
            next_due: Some(10),
            dead: 3,
            verdicts: None,
        };
        let value = overview(&look, None);
        assert_eq!(
            value["queues"],
            json!([{"name": "default", "key": "K", "length": 1, "oldest_ms": 2, "is_served": true}])
        );
        let seen = ["now", "delayed", "dead", "in_flight", "verdicts_are_exact", "per_second", "nodes"]
            .map(|name| value[name].clone());
        assert_eq!(json!(seen), json!([9, {"length": 1, "next_due": 10}, 3, 0, false, null, []]));
    }

    #[test]
    fn a_fate_has_its_name_and_what_belongs_to_it() {
        let answer: Answer = serde_json::from_str(r#"{"status": "ok", "data": 1.50}"#).expect("it is an answer");
        let text = fate(&Fate::Answered(answer, 7)).to_json();
        assert_eq!(text, r#"{"fate":"answered","verdict":"ok","answer":{"status":"ok","data":1.50},"readable_ms":7}"#);
        assert_eq!(fate(&Fate::Unknown).to_json(), r#"{"fate":"unknown"}"#);
    }

    #[test]
    fn a_run_says_how_late_it_was_and_how_long_it_took() {
        let value = run(&Run {
            outcome: RunOutcome::Ran,
            started: Some(1250),
            ended: Some(2000),
            ..Run::waiting(Occurrence { name: "a".to_owned(), at: 1000, ..Occurrence::default() }, "n")
        });
        let seen = ["name", "outcome", "late_ms", "took_ms"].map(|name| value[name].clone());
        assert_eq!(json!(seen), json!(["a", "ran", 250, 750]));
    }
}
