//! Where requests wait and answers go, in our own verbs: [`Broker`] for the daemon's side, [`Post`] for a client's, [`Inspect`] for an
//! operator's.
//!
//! All verbs work on batches: one round trip claims many requests, one settles many. This folder is the only one that
//! names Redis; [`Memory`] is its twin for tests, embedding and `server = "none"`.
//!
//! Invariant: what was claimed and not settled is in the broker's in-flight list, never only in our memory.

mod error;
mod inspect;
mod managed;
mod memory;
mod redis;
mod settlement;

use std::collections::HashMap;
use std::sync::Arc;
use std::time::Duration;

use serde::{Deserialize, Serialize};

pub use error::{BrokerError, Cause};
pub(crate) use inspect::QUEUE_DOOR;
pub use inspect::{DeadEntry, Facts, Fate, Inspect, Job, Member, Overview, QueueLook, Stand};
pub use managed::{Entrance, ManagedOptions, ManagedRedis, ScratchRedis};
pub use memory::{BY_HAND, JOURNAL, Memory, append_run, read_paused, read_runs, write_paused};
pub use redis::{Operator, RedisBroker, RedisOptions, RedisPost, RoughClient, Target, TargetOptions};
pub use settlement::{End, Notice, Outgoing, Settlement};

use crate::protocol::{CallError, Node, NodeStatus, Occurrence, OpenCall, RequestId};

/// What brokers give back.
pub type Result<T> = std::result::Result<T, BrokerError>;

/// Where requests are claimed from.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Source {
    /// A queue, by its number: 0 is the usual one, 1 that under its old name, the further ones follow.
    Queue(usize),
    /// The requests whose `delay` is over, or that run again. Also requests on their last allowed delivery: they run one at a time, because
    /// one of them probably killed the daemon.
    Delayed,
    /// The requests that are for this daemon only.
    Inbox,
}

/// A queue that is served.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct QueueTerms {
    /// What it is called.
    pub name: String,
    /// Who goes first, or gets more.
    pub priority: u32,
    /// What stands behind so many others is refused.
    pub max_length: Option<usize>,
}

impl QueueTerms {
    /// What the usual queue is called.
    pub const DEFAULT: &str = "default";

    /// The usual queue as it is where nothing is said of it.
    pub fn usual() -> Self {
        QueueTerms { name: Self::DEFAULT.to_owned(), priority: 1, max_length: None }
    }
}

/// Names one element that was claimed, until it is settled.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Claim {
    /// Where it came from, and goes back to if it cannot be started.
    pub source: Source,
    /// The element as it stood in the queue.
    pub element: Arc<[u8]>,
    /// The key that holds its body, where it has one.
    pub body_key: Option<Box<str>>,
    /// Under which lease it was claimed; what was claimed under one that others took over is not settled.
    pub epoch: u32,
    /// Whether it must not run again when this daemon dies.
    pub is_once: bool,
    /// What it holds while it waits or runs.
    pub locks: Option<Arc<Locks>>,
    /// The request, where a room was found to have sent it: that is on record until it ends.
    pub vouched: Option<Vouched>,
}

/// A request that a room has sent, as the broker has on record.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Vouched {
    /// The room.
    pub room: &'static str,
    /// The request.
    pub id: RequestId,
}

/// What a request holds over all daemons.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Locks {
    /// The request that holds it.
    pub id: RequestId,
    /// A unique key, and how long it keeps others away at the most.
    pub unique: Option<(Box<str>, Duration)>,
    /// A place among those calls of the function that run at once, and how many there are.
    pub slot: Option<(Box<str>, usize)>,
}

/// What becomes of a request while another one holds its unique key.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum IfHeld {
    /// It is a duplicate.
    Rejected,
    /// It takes the key, and the place of the other one.
    Replaces,
    /// It waits until the other one has ended, in the order in which they came, if no more than `most` wait then; else it is a duplicate.
    Waits {
        /// How many may.
        most: usize,
    },
}

/// Where a request was that is to be cancelled.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub enum Found {
    /// It waited; it is cancelled.
    Waiting,
    /// The daemon with this id has it, and was told.
    InFlight(String),
    /// The daemon with this id had it, and has ended it: no list of the broker has it, so it came in by another door.
    Cancelled(String),
    /// It had ended before.
    Ended,
    /// Nothing is known of it.
    Nowhere,
}

/// What must be arranged with other daemons before a claimed request goes on.
#[derive(Debug, Clone)]
pub struct Arrangement {
    /// The request.
    pub claim: Claim,
    /// What it needs; it holds that from then on.
    pub locks: Locks,
    /// What becomes of it if another holds its unique key.
    pub if_held: IfHeld,
    /// Whether it must not run again.
    pub is_once: bool,
}

/// What became of an [`Arrangement`].
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Arranged {
    /// It holds what it needs.
    Ready {
        /// Names it from now on.
        claim: Claim,
        /// Whose place it has taken; that one is to be cancelled.
        replaced: Option<RequestId>,
    },
    /// Another holds its unique key, or enough wait for a place already.
    Duplicate,
    /// It waits in the broker until a place is free; it is in flight no more.
    Parked,
    /// Others have taken it over.
    Gone,
    /// The broker refuses it, for this reason; the others of the same batch are not concerned. It may hold a part of what it needs:
    /// settling `claim` gives that back.
    Refused {
        /// Names it from now on.
        claim: Claim,
        /// Why.
        reason: String,
    },
}

/// Where a node is.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Whereabouts {
    /// It is this one.
    Here,
    /// It is another, with this id.
    There(String),
    /// None that lives is called so.
    Nowhere,
}

/// The number that `element` is, if it is one.
fn parse_number(element: &[u8]) -> Option<u64> {
    let is_number = !element.is_empty() && element.iter().all(u8::is_ascii_digit);
    is_number.then(|| std::str::from_utf8(element).ok()?.parse().ok()).flatten()
}

/// A claimed element with what is needed to read it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Claimed {
    /// Its name.
    pub claim: Claim,
    /// Its content.
    pub content: Content,
    /// How it ends without running: lost, where it was in flight so often when its daemon died that it must not run again; refused, where
    /// it stood in a queue that no daemon serves.
    pub end: Option<CallError>,
}

/// What an element of the queue holds.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Content {
    /// The element is the request.
    Inline,
    /// The element is a number, and this the body found for it.
    Body(u64, Vec<u8>),
    /// The element is a number, but there is no body for it.
    NoBody(u64),
}

/// What somebody tells one daemon.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Message {
    /// The request is to be cancelled, if the daemon has it.
    Cancel(RequestId),
    /// Somebody wants to know of its open calls with this id, whichever door they came in by.
    Ask {
        /// The request.
        id: RequestId,
        /// Whether they are to be cancelled, too.
        is_to_cancel: bool,
        /// Whom to tell, with [`Broker::reply`].
        asker: Box<str>,
    },
}

/// What a daemon tells who sent it [`Message::Ask`].
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct Told {
    /// The id of the daemon.
    pub(crate) node: String,
    /// Its open calls of that name.
    pub(crate) calls: Vec<OpenCall>,
}

/// One instant of a cron entry that is to be begun, once over all daemons.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct NewRun {
    /// The entry.
    pub name: Box<str>,
    /// The instant, which no other of the entry is called.
    pub instant: Box<str>,
    /// Its moment, in milliseconds since 1970; 0 where the entry has none, or it was started by hand.
    pub at: u64,
    /// What is kept of it, as JSON.
    pub record: Box<str>,
    /// What is kept instead if the entry is paused.
    pub if_paused: Box<str>,
    /// Its request, for this daemon; `None`: it only has to be on record.
    pub request: Option<Box<[u8]>>,
}

impl NewRun {
    /// The id of its request.
    pub fn id(&self) -> RequestId {
        Occurrence::id_of(&self.name, &self.instant)
    }
}

/// What became of a [`NewRun`].
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Begun {
    /// It is on record, and its request was sent.
    Sent,
    /// It was on record before: another daemon has it, or had it.
    Taken,
    /// It is on record, and its request was not sent, as the entry is paused.
    Paused,
    /// The broker refuses to put it on record, and has said why; so it does not run. The others are not concerned.
    Refused,
}

/// What is known of a cron entry besides its runs.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default)]
pub struct EntryMark {
    /// When it fires, and in which zone; with another, it counts as new.
    pub schedule: String,
    /// Since when, in milliseconds since 1970.
    pub since: u64,
    /// When a daemon last read it in a file, in milliseconds since 1970.
    pub seen: u64,
    /// The last moment of it that is on record, in milliseconds since 1970; 0: none.
    #[serde(skip)]
    pub last: u64,
}

/// How far a request has come that was sent with [`Post::submit`].
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Stage {
    /// Nobody knows it, or not any more.
    Unknown,
    /// It waits.
    Accepted,
    /// A daemon runs it, or has tried to.
    Pending,
    /// It has its verdict: the answer in JSON.
    Done(Vec<u8>),
}

/// The daemon's side of a broker. Every verb may be called from any thread; each reconnects by itself, so that an error whose cause
/// is [`Cause::Away`] means: not now, try again. An empty batch is done at once.
pub trait Broker: Send + Sync {
    /// All that can be claimed from; each has its own intake.
    fn sources(&self) -> Vec<Source>;

    /// Claims up to `limit` requests from `source`, at least one of them within `patience` if any come. Where queues are
    /// served in strict order, it claims nothing while one that goes first has requests.
    fn claim(&self, source: Source, limit: usize, patience: Duration) -> Result<Vec<Claimed>>;

    /// Claims up to `limit` of the newest requests of `source`, which stand behind `longest` others.
    fn claim_excess(&self, source: Source, longest: usize, limit: usize) -> Result<Vec<Claimed>>;

    /// Puts each element, which is claimed, in the place of the claim before it: the same request with an id, as it had none and two that
    /// are equal are not to be taken for one. Gives back what names each from now on, in their order; `None` where others have
    /// taken it over. After an error the same can be asked again.
    fn name(&self, named: &[(Claim, Arc<[u8]>)]) -> Result<Vec<Option<Claim>>>;

    /// Arranges each of `arrangements` in one step, and gives back what became of it, in their order. After an error the
    /// same can be asked again: what had been arranged already is found so.
    fn arrange(&self, arrangements: &[Arrangement]) -> Result<Vec<Arranged>>;

    /// Cancels the request `id`, wherever it waits or runs.
    fn cancel(&self, id: &RequestId) -> Result<()>;

    /// Settles all, in order, each in one step. Gives back the ids of the answers that nobody received. After an error
    /// the same batch must be offered again, unchanged: what had been settled already is not settled twice.
    fn settle(&self, batch: &[Outgoing]) -> Result<Vec<RequestId>>;

    /// Publishes stored answers again to those who have subscribed since. Gives back the ids that still nobody received.
    fn publish_again(&self, ids: &[RequestId]) -> Result<Vec<RequestId>>;

    /// What this daemon says of itself from now on, whenever its lease is renewed.
    fn tell(&self, about: NodeStatus);

    /// Renews this daemon's lease, and takes back what dead daemons have left in flight.
    fn heartbeat(&self) -> Result<()>;

    /// This daemon ends: gives its lease up.
    fn leave(&self) -> Result<()>;

    /// The next messages to this daemon, waiting at most `patience` for them.
    fn listen(&self, patience: Duration) -> Result<Vec<Message>>;

    /// Tells whoever has sent [`Message::Ask`] what there is, as JSON. One that is within a single process has no such messages.
    fn reply(&self, _asker: &str, _answer: &[u8]) -> Result<()> {
        Ok(())
    }

    /// Begins `runs`, each in one step, and gives back what became of them, in their order. Of each entry `keep` are kept. After an
    /// error the same can be begun again: what had been begun by it is found so.
    fn begin(&self, runs: &[NewRun], keep: usize) -> Result<Vec<Begun>>;

    /// Whether each of `elements`, which this daemon has in flight, is what `room` has sent under its id, and has not ended: begun
    /// with [`Broker::begin`], following on another ([`Sending::room`](crate::effects::Sending::room)), or waiting to run again. Clients can copy all texts that they see, but
    /// none can make this true of another, and of two copies it is true of one only. After an error the same can be asked again.
    fn take_vouched(&self, room: &'static str, elements: &[(&RequestId, &[u8])]) -> Result<Vec<bool>>;

    /// What is known of cron entries, by their names.
    fn entry_marks(&self) -> Result<HashMap<String, EntryMark>>;

    /// Notes `marks`, by their names, and forgets those in `gone`.
    fn mark_entries(&self, marks: &[(&str, EntryMark)], gone: &[&str]) -> Result<()>;

    /// Whether it is known that it cannot be reached at this moment, by other verbs than [`Broker::begin`].
    fn is_away(&self) -> bool;

    /// Why it does not do all that it is asked at this moment, for people; `None`: it does.
    fn trouble(&self) -> Option<String>;

    /// Wakes all claims that wait. Claims that start later wait as usual.
    fn interrupt(&self);

    /// Where the daemon is that has `name` as its id or is called so.
    fn find_node(&self, name: &str) -> Result<Whereabouts>;

    /// The name of this daemon, which no other has or has had.
    fn node(&self) -> &str;

    /// Where it is, for people; without secrets.
    fn address(&self) -> String;
}

/// A client's side of a broker: one call at a time.
pub trait Post: Send {
    /// Puts `element` into the further queue called `queue`, or into the usual one. With `id`, what is published for it can be
    /// received from then on: nothing is missed in between.
    fn send(&mut self, queue: Option<&str>, element: &[u8], id: Option<&RequestId>) -> Result<()>;

    /// Puts `element`, the request `id`, into the queue, and notes that it was accepted; that is known for as long as `keep`, or until
    /// it has its verdict. Nothing happens if it is known already; tells whether it was new.
    fn submit(&mut self, queue: Option<&str>, element: &[u8], id: &RequestId, keep: Duration) -> Result<bool>;

    /// How far each of `ids` has come, in their order.
    fn stages(&mut self, ids: &[RequestId]) -> Result<Vec<Stage>>;

    /// The answer to `id` in JSON, waiting at most `patience` for it; `None` if it has not come.
    fn receive(&mut self, id: &RequestId, patience: Duration) -> Result<Option<Vec<u8>>>;

    /// Ends listening for `id` and takes `element` back out of its queue; tells whether it was still there, that is: no daemon has taken it.
    fn withdraw(&mut self, queue: Option<&str>, element: &[u8], id: &RequestId) -> Result<bool>;

    /// All daemons that live, by their names.
    fn nodes(&mut self) -> Result<Vec<Node>>;

    /// Cancels `id` where it waits, or tells the daemon that has it to; tells where it was found.
    fn cancel(&mut self, id: &RequestId) -> Result<Found>;
}
