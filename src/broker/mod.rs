//! Where requests wait and answers go, in our own verbs. A daemon has a [`Broker`]: [`Work`] is what it claims and settles, [`Presence`] that it
//! is there, [`Store`] what its rooms keep. A client has [`Post`], an operator [`Inspect`].
//!
//! All verbs work on batches: one round trip claims many requests, one settles many. This folder is the only one that
//! names Redis; [`Memory`] is its twin for tests, embedding and `server = "none"`.
//!
//! Invariant: what was claimed and not settled is in the broker's in-flight list, never only in our memory.

mod error;
mod inspect;
mod managed;
mod memory;
mod presence;
mod redis;
mod settlement;
mod store;
mod work;

use std::sync::Arc;
use std::time::Duration;

use serde::{Deserialize, Serialize};

pub use error::{BrokerError, Cause};
pub(crate) use inspect::QUEUE_DOOR;
pub use inspect::{DeadEntry, Facts, Fate, Inspect, Job, Member, Overview, QueueLook, Stand};
pub use managed::{Entrance, ManagedOptions, ManagedRedis, ScratchRedis};
pub use memory::{JOURNAL, Memory};
pub use presence::Presence;
pub use redis::{Operator, RedisBroker, RedisOptions, RedisPost, RoughClient, Target, TargetOptions};
pub use settlement::{End, Notice, Outgoing, Settlement};
pub use store::{Beginning, Begun, Bound, Fields, Following, Store, Unless};
pub use work::Work;

use crate::protocol::{CallError, Node, OpenCall, RequestId};

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
        /// Whom to tell, with [`Presence::reply`].
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

/// The daemon's side of a broker, all of it. Every verb may be called from any thread; each reconnects by itself, so that an error whose cause
/// is [`Cause::Away`] means: not now, try again. An empty batch is done at once.
pub trait Broker: Work + Presence + Store {}

impl<T: Work + Presence + Store> Broker for T {}

impl Stage {
    /// The stage that is noted or told as `text`.
    pub(crate) fn of_text(text: &[u8]) -> Self {
        match text {
            Self::PENDING => Stage::Pending,
            Self::ENDED => Stage::Unknown,
            _ => Stage::Accepted,
        }
    }

    /// How it is noted that a daemon runs it.
    pub(crate) const PENDING: &[u8] = b"pending";

    /// How it is told that it has ended, and nobody is told how.
    pub(crate) const ENDED: &[u8] = b"ended";
}

/// What becomes of requests that somebody watches, as it is told: one subscription for many of them.
pub trait Subscription: Send {
    /// Watches `new` from now on, and no longer `old`. What was told before is missed: who needs it looks with [`Post::stages`] after this.
    fn watch(&mut self, new: &[RequestId], old: &[RequestId]) -> Result<()>;

    /// What has become of watched requests since, waiting at most `patience` for it, or until somebody rings the bell. After an error all are
    /// to be watched anew, with another subscription.
    fn next(&mut self, patience: Duration) -> Result<Vec<(RequestId, Stage)>>;

    /// By what it is woken with [`Post::ring`].
    fn bell(&self) -> &RequestId;
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

    /// Hears of requests that were sent with [`Post::submit`].
    fn subscribe(&self) -> Result<Box<dyn Subscription>>;

    /// Wakes the subscription with this bell.
    fn ring(&mut self, bell: &RequestId) -> Result<()>;

    /// The answer to `id` in JSON, waiting at most `patience` for it; `None` if it has not come.
    fn receive(&mut self, id: &RequestId, patience: Duration) -> Result<Option<Vec<u8>>>;

    /// Ends listening for `id` and takes `element` back out of its queue; tells whether it was still there, that is: no daemon has taken it.
    fn withdraw(&mut self, queue: Option<&str>, element: &[u8], id: &RequestId) -> Result<bool>;

    /// All daemons that live, by their names.
    fn nodes(&mut self) -> Result<Vec<Node>>;

    /// Cancels `id` where it waits, or tells the daemon that has it to; tells where it was found.
    fn cancel(&mut self, id: &RequestId) -> Result<Found>;
}
