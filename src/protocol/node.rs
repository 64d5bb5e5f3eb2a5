//! What a daemon says of itself, so that people and programs can see it: the record under its lease.

use std::borrow::Cow;
use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};

use super::Verdict;

/// A record has no more open calls of a kind than this, those that have been so for the longest time.
pub const MOST_OPEN: usize = 64;

/// One daemon, as it said with its last heartbeat. Times are milliseconds since 1970 by its own clock.
///
/// A field that its version does not know yet has the value of its type's default.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default)]
pub struct Node {
    /// The name that no other process start has or has had, and that its keys go by.
    pub node: String,
    /// The machine that it runs on.
    pub host: String,
    /// Its process.
    pub pid: u32,
    /// Its version of cerbas.
    pub version: String,
    /// When it started.
    pub started: u64,
    /// When it said this.
    pub at: u64,
    /// How many of its answers came so late that others had taken over, and were dropped.
    pub fenced: u64,
    /// What it does.
    #[serde(flatten)]
    pub status: NodeStatus,
}

/// What a daemon does at one moment.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default)]
pub struct NodeStatus {
    /// What the operator calls it; several can have the same name.
    pub name: String,
    /// Workers on duty.
    pub workers: usize,
    /// Workers on duty that have nothing to do.
    pub idle: usize,
    /// Workers on duty that run a call.
    pub busy: usize,
    /// Workers held by a function past its time limit.
    pub stuck: usize,
    /// Calls that it has taken and that wait for a worker, or for their function's `concurrency`.
    pub waiting: usize,
    /// The functions that it serves.
    pub functions: Vec<String>,
    /// The queues that it serves.
    pub queues: Vec<String>,
    /// The memory that it holds, in bytes.
    pub memory: u64,
    /// How many requests it has accepted since it started.
    pub accepted: u64,
    /// How many of them it has given back: unstarted, or to run again later.
    pub returned: u64,
    /// How many of them have no verdict yet.
    pub in_flight: u64,
    /// How many of them ended with each verdict.
    pub verdicts: BTreeMap<Verdict, u64>,
    /// What its workers run, what runs longest first; at most [`MOST_OPEN`].
    pub running: Vec<OpenCall>,
    /// What it has accepted and does not run at this moment, the oldest first; at most [`MOST_OPEN`].
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub queued: Vec<OpenCall>,
    /// How its cron stands, where it has one.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub cron: Option<CronStatus>,
    /// Loops of it that should turn and do not: what they do is not done.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub stalled: Vec<StalledLoop>,
    /// What Redis does not let it do, as rules of `ACL SETUSER`.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub missing_rights: Vec<String>,
}

/// A loop of a daemon that should turn and does not.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default)]
pub struct StalledLoop {
    /// What it is called.
    pub name: String,
    /// How long ago it last went round, in milliseconds.
    pub since_ms: u64,
    /// Whether its thread has panicked, so that it never will again.
    pub has_panicked: bool,
}

/// How the cron of a daemon stands.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default)]
pub struct CronStatus {
    /// How many entries there are.
    pub entries: usize,
    /// When the next of them is due, in milliseconds since 1970.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub next: Option<u64>,
    /// How many instants have passed and are not on record yet.
    pub pending: usize,
    /// The first fault of the crontabs.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub fault: Option<String>,
    /// How many there are: lines and files that are not in force.
    pub faults: usize,
    /// The files that are named and not there.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub missing: Vec<String>,
}

impl CronStatus {
    /// What of the crontabs is not in force, for people.
    pub fn broken(&self) -> Option<String> {
        let fault = self.fault.as_ref()?;
        Some(match self.faults {
            0 | 1 => fault.clone(),
            faults => format!("{fault}; and {} more", faults - 1),
        })
    }
}

impl NodeStatus {
    /// Whether nothing was lost from sight: `accepted = verdicts + returned + in flight`.
    pub fn holds(&self) -> bool {
        self.accepted == self.verdicts.values().sum::<u64>() + self.returned + self.in_flight
    }
}

/// A call that a daemon has accepted and that has no verdict yet.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default)]
pub struct OpenCall {
    /// The id of the request.
    pub id: String,
    /// The function.
    pub func: String,
    /// Since when it runs, or since when it is here where it does not; in milliseconds since 1970.
    pub since: u64,
    /// What it does.
    pub state: CallState,
    /// The door that it came in by: `queue`, `http`.
    #[serde(skip_serializing_if = "str::is_empty")]
    pub door: Cow<'static, str>,
    /// Which run of it this is, from 1; the next one, where it waits to run again.
    pub attempt: u32,
    /// When it runs again, in milliseconds since 1970.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub due: Option<u64>,
}

/// What an open call does.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum CallState {
    /// It waits for a worker.
    Waiting,
    /// It waits until its function may run once more at the same time.
    Parked,
    /// A worker runs it.
    #[default]
    Running,
    /// It failed, and waits to run again.
    Again,
}

impl CallState {
    /// Its name on the wire.
    pub fn as_str(self) -> &'static str {
        match self {
            CallState::Waiting => "waiting",
            CallState::Parked => "parked",
            CallState::Running => "running",
            CallState::Again => "again",
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_record_of_another_version_can_be_read_as_far_as_it_goes() {
        let text =
            r#"{"node": "a.1", "pid": 7, "version": "9", "name": "a", "colour": "green", "verdicts": {"ok": 3}}"#;
        let node: Node = serde_json::from_str(text).expect("it is a record");
        assert_eq!((&*node.node, node.pid, &*node.status.name, node.status.workers), ("a.1", 7, "a", 0));
        assert_eq!(node.status.verdicts, BTreeMap::from([(Verdict::Ok, 3)]));
    }

    #[test]
    fn a_record_is_one_flat_object() {
        let status = NodeStatus { name: "a".to_owned(), accepted: 2, in_flight: 2, ..NodeStatus::default() };
        let node = Node { node: "a.1".to_owned(), status, ..Node::default() };
        let json = serde_json::to_value(&node).expect("it is JSON");
        assert_eq!((&json["node"], &json["name"], &json["accepted"]), (&"a.1".into(), &"a".into(), &2.into()));
        assert_eq!(serde_json::from_value::<Node>(json).expect("it is a record"), node);
    }
}
