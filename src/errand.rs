//! What a request is for besides its function: the business of the room that has sent it.
//!
//! A room that sends requests of its own (cron is one) tells here what such a request needs before it runs, what its end puts on record
//! and sends, and under which name it is counted. The road asks, and knows no room.

use std::sync::Arc;

use crate::broker::IfHeld;
use crate::effects::Effects;
use crate::protocol::{Request, Verdict};

/// A room that sends requests of its own.
pub trait Room: Send + Sync {
    /// Its name: one of [`ROOMS`](crate::protocol::ROOMS).
    fn name(&self) -> &'static str;

    /// What `request` is for, which this room has sent; `None`: nothing besides its function.
    fn errand(&self, request: &Request) -> Option<Box<dyn Errand>>;
}

/// What one request is for.
pub trait Errand: Send + Sync {
    /// Under which name it is counted, where that is not the name of its function.
    fn account(&self) -> Option<Box<str>> {
        None
    }

    /// How it keeps others of its kind away while it waits or runs.
    fn exclusion(&self) -> Option<Exclusion> {
        None
    }

    /// Whether its end is put on the dead list, where that of any other would be.
    fn is_buried(&self, verdict: Verdict) -> bool;

    /// Its end: what is put on record, and what follows. Pure but for the log.
    fn ended(&self, ending: &Ending<'_>) -> Effects;
}

/// How a request keeps others of its room away.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Exclusion {
    /// The key, as the room calls it.
    pub key: Box<str>,
    /// What becomes of it while another has the key.
    pub if_held: IfHeld,
    /// Whether that is so as well where the request has a `unique` key of its own.
    pub is_for_every_key: bool,
}

/// How a request ended, as its door knows it.
#[derive(Debug)]
pub struct Ending<'a> {
    /// Its verdict.
    pub verdict: Verdict,
    /// What it gave, or why it did not.
    pub message: &'a str,
    /// The daemon that ran it.
    pub node: &'a str,
    /// When its last run started, in milliseconds since 1970; `None` where it did not.
    pub started: Option<u64>,
    /// When it ended, likewise.
    pub ended: u64,
    /// How often it ran.
    pub attempts: u32,
    /// The request as it came.
    pub request: &'a [u8],
}

/// The rooms of a daemon.
#[derive(Clone, Default)]
pub struct Rooms(Arc<[Arc<dyn Room>]>);

impl Rooms {
    /// These.
    pub fn new(rooms: impl IntoIterator<Item = Arc<dyn Room>>) -> Self {
        Rooms(rooms.into_iter().collect())
    }

    /// What `request` is for, which the room called `name` has sent.
    pub fn errand(&self, name: &str, request: &Request) -> Option<Box<dyn Errand>> {
        self.0.iter().find(|room| room.name() == name)?.errand(request)
    }
}
