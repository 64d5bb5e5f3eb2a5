//! What one thread of the gateway needs of others, the same over all reloads.

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, AtomicUsize, Ordering};

use super::api::Book;
use super::desk::Desk;
use super::idempotency::Kept;
use super::mailbox::Mailbox;
use super::traffic::Traffic;
use super::vitals::Vitals;
use crate::dispatch::Dispatcher;
use crate::net::Crowd;
use crate::protocol::RequestId;
use crate::thread::Pulses;

/// What one thread of the gateway needs, the same over all reloads.
pub(super) struct Services {
    pub(super) dispatcher: Arc<Dispatcher>,
    pub(super) mailbox: Arc<Mailbox>,
    pub(super) desk: Arc<Desk>,
    pub(super) kept: Arc<Kept>,
    /// How many calls wait for their answer.
    pub(super) waiting: Arc<AtomicUsize>,
    /// How many wait for the metrics.
    pub(super) scraping: Arc<AtomicUsize>,
    pub(super) ids: Arc<Ids>,
    /// The pages that others have.
    pub(super) book: Arc<Book>,
    /// Why the daemon cannot do its work at this moment.
    pub(super) faults: Arc<dyn Fn() -> Vec<String> + Send + Sync>,
    /// The loops of the daemon that do not turn any more.
    pub(super) stalled: Arc<dyn Fn() -> Vec<String> + Send + Sync>,
    /// When loops last went round.
    pub(super) pulses: Pulses,
    /// What the daemon knows of itself; this may take long.
    pub(super) vitals: Arc<dyn Fn() -> Vitals + Send + Sync>,
    pub(super) traffic: Arc<Traffic>,
    pub(super) crowd: Arc<Crowd>,
}

/// Ids of requests: what no other start of a daemon has, and a number.
pub(super) struct Ids {
    prefix: String,
    next: AtomicU64,
}

impl Ids {
    pub(super) fn new() -> Self {
        let prefix = RequestId::random().to_string();
        Ids { prefix: prefix.split('-').next().unwrap_or_default().to_owned(), next: AtomicU64::new(1) }
    }

    pub(super) fn next(&self) -> Box<str> {
        format!("{}-{:x}", self.prefix, self.next.fetch_add(1, Ordering::Relaxed)).into()
    }
}
