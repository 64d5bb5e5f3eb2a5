//! What an operator sees of a broker and changes there, in our own verbs: [`Inspect`], beside [`Broker`](super::Broker) for the daemon's side
//! and [`Post`](super::Post) for a client's.
//!
//! What it gives back can be written as JSON, so that a daemon can be asked the same over its socket.

use std::collections::BTreeMap;
use std::hash::{DefaultHasher, Hash, Hasher};
use std::time::Duration;

use serde::{Deserialize, Serialize};

use super::{Beginning, Found, Result, Store};
use crate::protocol::age::sent_at;
use crate::protocol::{
    Answer, CallState, DeadLetter, Node, Object, OpenCall, ROOMS, RequestId, Verdict, room_of_function,
};

/// An operator's side of a broker: one question at a time. What rooms keep is in its [`Store`].
pub trait Inspect: Store + Send {
    /// Where it is, for people; without secrets.
    fn address(&self) -> String;

    /// One look at all: daemons, queues, counts.
    fn overview(&mut self) -> Result<Overview>;

    /// All daemons: those that live by their names, then the dead ones.
    fn members(&mut self) -> Result<Vec<Member>>;

    /// Requests that have no verdict yet, at most `most` of each list.
    fn jobs(&mut self, most: usize) -> Result<Vec<Job>>;

    /// What became of the request `id`, or where it stands.
    fn fate(&mut self, id: &RequestId) -> Result<Fate>;

    /// The stored answer to `id`, and how much longer it is kept, in milliseconds.
    fn answer(&mut self, id: &RequestId) -> Result<Option<(Answer, u64)>>;

    /// Cancels `id` where it waits, or tells the daemon that has it. The answer is kept for `result_ttl`.
    fn cancel(&mut self, id: &RequestId, result_ttl: Duration) -> Result<Found>;

    /// What failed or was refused and nobody else would hear of, the oldest first. What is no entry is left out.
    fn dead(&mut self) -> Result<Vec<DeadEntry>>;

    /// Sends the request of `entry` again, under its id, and takes it out of the list, in one step. False if the entry was
    /// not there any more, or has no request.
    fn retry_dead(&mut self, entry: &DeadEntry) -> Result<bool>;

    /// Takes `entry` out of the list; false if it was not there any more.
    fn delete_dead(&mut self, entry: &DeadEntry) -> Result<bool>;

    /// Begins what nobody else can have begun, with its request for the daemon with the id `node`.
    fn begin_at(&mut self, node: &str, beginning: &Beginning) -> Result<()>;

    /// What can be known of the Redis that requests are entrusted to; `None` where there is none.
    fn facts(&mut self) -> Result<Option<Facts>>;
}

/// A daemon that lives, or did ten minutes ago.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Member {
    /// The name that its keys go by.
    pub node: String,
    /// How long ago its last heartbeat was, in milliseconds by the clock of Redis.
    pub silent: u64,
    /// What it said then; `None` where its lease is gone: it is dead.
    pub record: Option<Node>,
    /// How many elements it has in flight in Redis; others take back what a dead one has left.
    pub claimed: u64,
    /// How many requests wait for it alone.
    pub inbox: u64,
}

/// One look at all that is in Redis.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Overview {
    /// The time by the clock of Redis, in milliseconds since 1970.
    pub now: u64,
    /// All daemons: those that live by their names, then the dead ones.
    pub members: Vec<Member>,
    /// The queues: the usual one in both spellings, then the others by their names.
    pub queues: Vec<QueueLook>,
    /// How many requests wait for their time.
    pub delayed: u64,
    /// When the first of them is due, in milliseconds since 1970.
    pub next_due: Option<u64>,
    /// How many entries the dead list has.
    pub dead: u64,
    /// How many requests ended with each verdict, over all daemons; `None` where nobody has counted yet.
    pub verdicts: Option<BTreeMap<Verdict, u64>>,
}

/// One look at a queue.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct QueueLook {
    /// Its name: `default` for the usual one.
    pub name: String,
    /// Its key.
    pub key: String,
    /// How many elements wait in it.
    pub length: u64,
    /// How long its head has waited in milliseconds, as far as that can be told.
    pub oldest: Option<u64>,
    /// Whether a daemon that lives serves it.
    pub is_served: bool,
}

/// A request that has no verdict yet.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Job {
    /// Its id; `None` for an element that has none or cannot be read.
    pub id: Option<String>,
    /// The function that it asks for.
    pub func: Option<String>,
    /// Where it stands.
    pub stand: Stand,
    /// When its client sent it, in milliseconds since 1970, as far as that can be told.
    pub sent_at: Option<u64>,
    /// How often it ran and failed.
    pub attempt: u64,
    /// What went wrong the last time.
    pub last_error: Option<String>,
}

impl Job {
    /// The request that stands in an element as `json`, or as this `number` with `json` as its body. `running` are the calls that the daemon which
    /// has it runs.
    pub(super) fn read(number: Option<u64>, json: &[u8], stand: Stand, running: &[OpenCall], now: u64) -> Self {
        let request: Object = serde_json::from_slice(json).unwrap_or_default();
        let id = number.map(|number| RequestId::Number(number).to_string()).or_else(|| request.text("id"));
        let stand = match stand {
            Stand::Taken { node, is_alive, .. } => {
                let call = running.iter().find(|call| Some(call.id.as_str()) == id.as_deref());
                Stand::Taken { node, is_alive, since: call.map(|call| call.since) }
            }
            other => other,
        };
        Job {
            func: request.text("func"),
            stand,
            sent_at: sent_at(json, now),
            attempt: request.get("attempt").and_then(|attempt| attempt.to().ok()).unwrap_or(0),
            last_error: request.text("last_error"),
            id,
        }
    }

    /// The open call of a daemon: no list of a broker has it.
    pub(crate) fn at(node: &str, call: OpenCall) -> Self {
        let OpenCall { id, func, since, state, door, attempt, due } = call;
        let failed = if state == CallState::Again { attempt } else { attempt.saturating_sub(1) };
        Job {
            id: Some(id),
            func: Some(func).filter(|func| !func.is_empty()),
            stand: Stand::Call { node: node.to_owned(), door: door.into_owned(), state, since, due },
            sent_at: None,
            attempt: failed.into(),
            last_error: None,
        }
    }
}

/// What the door is called by which requests come that stand in a list of the broker.
pub(crate) const QUEUE_DOOR: &str = "queue";

/// Where a request stands that has no verdict yet.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub enum Stand {
    /// In a queue, behind so many others.
    Queue {
        /// What the queue is called.
        queue: String,
        /// How many stand before it.
        before: u64,
        /// Whether a daemon that lives serves it.
        is_served: bool,
    },
    /// It waits for its time, or for its next run.
    Delayed {
        /// When it is due, in milliseconds since 1970.
        due: u64,
    },
    /// It waits until fewer calls of its function run.
    Parked,
    /// It waits until the run before it has ended.
    Behind,
    /// It waits for one daemon.
    Inbox {
        /// The daemon.
        node: String,
    },
    /// A daemon has it.
    Taken {
        /// The daemon.
        node: String,
        /// Whether the daemon lives.
        is_alive: bool,
        /// Since when it runs, in milliseconds since 1970; `None` if the daemon had not said so with its last heartbeat.
        since: Option<u64>,
    },
    /// A daemon that lives has it, and it came in by a door of its own: no list of the broker has it.
    Call {
        /// The daemon.
        node: String,
        /// The door.
        door: String,
        /// What it does.
        state: CallState,
        /// Since when it runs, or since when it is there where it does not; in milliseconds since 1970.
        since: u64,
        /// When it runs again, in milliseconds since 1970.
        due: Option<u64>,
    },
}

/// What is known of one request.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub enum Fate {
    /// It has no verdict yet.
    Open(Job),
    /// It was answered, and the answer can be read so much longer, in milliseconds.
    Answered(Answer, u64),
    /// It is on the dead list, with the latest of its entries.
    Dead(Box<DeadLetter>),
    /// Its body is there, but it stands in no queue: it was never sent.
    Unsent,
    /// Nothing is known of it: it was never sent, or it has ended and its answer was kept no longer.
    Unknown,
}

/// What a request loses that is sent anew: what it has been through, and times that are over.
const OF_ITS_PAST: [&str; 7] = ["attempt", "first_at", "last_error", "expires", "sent_at", "delay", "deadline"];

/// An entry of the dead list.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(into = "Kept", try_from = "Kept")]
pub struct DeadEntry {
    /// What it says.
    pub letter: DeadLetter,
    /// As it stands in its list.
    pub(super) member: String,
    /// Whether that is the list of what was refused.
    pub(super) is_refused: bool,
}

impl DeadEntry {
    /// The entry `member` of a list; `None` if it is none.
    pub(super) fn read(member: String, is_refused: bool) -> Option<Self> {
        Some(DeadEntry { letter: serde_json::from_str(&member).ok()?, member, is_refused })
    }

    /// Its request as it is sent again, under its id; `None` where there is none.
    pub(super) fn request_anew(&self) -> Option<String> {
        let mut request = self.letter.request.clone()?;
        OF_ITS_PAST.iter().for_each(|name| drop(request.remove(name)));
        if let Some(id) = &self.letter.id {
            request.insert("id", id.clone());
        }
        Some(request.to_json())
    }

    /// The room that has sent its request. One that only says so was rejected.
    pub(super) fn room(&self) -> Option<&'static str> {
        let letter = &self.letter;
        let request = letter.request.as_ref().filter(|_| letter.verdict != Verdict::Rejected)?;
        let of_ticket = || ROOMS.into_iter().find(|room| request.get(room).is_some_and(|ticket| !ticket.is_null()));
        room_of_function(&request.text("func").unwrap_or_default()).or_else(of_ticket)
    }

    /// What it can be called by: the id of the request, or, where there is none, a short text made from the entry.
    pub fn name(&self) -> String {
        self.letter.id.clone().unwrap_or_else(|| {
            let mut hasher = DefaultHasher::new();
            self.member.as_bytes().hash(&mut hasher);
            format!("~{:012x}", hasher.finish() >> 16)
        })
    }
}

/// How an entry of the dead list is written: what its member says is not said twice.
#[derive(Serialize, Deserialize)]
struct Kept {
    member: String,
    is_refused: bool,
}

impl From<DeadEntry> for Kept {
    fn from(entry: DeadEntry) -> Self {
        Kept { member: entry.member, is_refused: entry.is_refused }
    }
}

impl TryFrom<Kept> for DeadEntry {
    type Error = &'static str;

    fn try_from(kept: Kept) -> std::result::Result<Self, Self::Error> {
        DeadEntry::read(kept.member, kept.is_refused).ok_or("it is no entry of the dead list")
    }
}

/// What a user who may do little is not told is `None`.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
pub struct Facts {
    /// Its version, and its name where it is not Redis itself.
    pub version: Option<String>,
    /// Its version as numbers.
    pub numbers: Option<(u32, u32)>,
    /// `master` or `slave`.
    pub role: Option<String>,
    /// Whether it is part of a cluster.
    pub is_cluster: Option<bool>,
    /// How many replicas follow it.
    pub replicas: Option<u64>,
    /// Whether it writes down every command.
    pub has_log: Option<bool>,
    /// How often it makes sure that those are on disk: `always`, `everysec` or `no`.
    pub fsync: Option<String>,
    /// When it writes a snapshot; empty: never.
    pub snapshots: Option<String>,
    /// Whether the last attempt to write either went well.
    pub could_write: Option<bool>,
    /// What it throws away when its memory is full.
    pub eviction: Option<String>,
    /// How much memory it uses, and may use (0: all there is), in bytes.
    pub memory: Option<(u64, u64)>,
    /// Half of its answers take less than this.
    pub latency: Duration,
    /// How far its clock is ahead of ours, in milliseconds.
    pub skew: i64,
    /// How far the clock of each living daemon is ahead of that of Redis at least, in milliseconds: those that are ahead.
    pub nodes_ahead: Vec<(String, i64)>,
    /// How many keys of ours were looked at, and whether those were all.
    pub keys: (usize, bool),
    /// Keys that nobody knows and that never end, at most ten.
    pub endless: Vec<String>,
    /// How many bodies stand in no queue, out of so many that were looked at.
    pub orphans: (usize, usize),
    /// Daemons that died and left so much in flight.
    pub dead_nodes: Vec<(String, u64)>,
    /// How many daemons live.
    pub living: usize,
    /// How long the dead list is.
    pub dead: u64,
}
