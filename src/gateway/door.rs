//! The door of a call that came over HTTP.

use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Instant;

use super::idempotency::Promise;
use super::mailbox::{Mail, Mailbox, Rerun};
use super::response::Response;
use super::slots::Handle;
use crate::dispatch::{Again, Door};
use crate::protocol::Request;
use crate::protocol::codec::Encoded;

/// Tells the connection that a call came from.
pub(super) struct HttpDoor {
    pub(super) mailbox: Arc<Mailbox>,
    pub(super) to: Handle,
    /// Which request of the connection it is.
    pub(super) serial: u32,
    /// Whether the client has its answer already.
    pub(super) was_told: bool,
    /// The request, where it may run again.
    pub(super) request: Option<Arc<Request>>,
    /// Its place among the calls that wait.
    pub(super) _place: Place,
    /// Keeps the answer for calls that come again.
    pub(super) promise: Option<Promise>,
}

impl HttpDoor {
    fn tell(&mut self, response: Response) {
        if !self.was_told {
            self.was_told = true;
            self.mailbox.send(Mail::Answer { to: self.to, serial: self.serial, response });
        }
    }
}

impl Door for HttpDoor {
    fn answer(mut self: Box<Self>, answer: Arc<Encoded>) {
        if let Some(promise) = self.promise.take() {
            promise.keep(&answer, Instant::now());
        }
        self.tell(Response::answer(answer));
    }

    fn answer_early(&mut self, answer: Arc<Encoded>) {
        self.tell(Response::answer(answer));
    }

    fn run_again(mut self: Box<Self>, again: Again, failure: Arc<Encoded>) {
        match self.request.take() {
            Some(request) => {
                let mailbox = Arc::clone(&self.mailbox);
                mailbox.send(Mail::Again(Box::new(Rerun { request, again, door: *self })));
            }
            None => self.answer(failure),
        }
    }

    fn hand_back(mut self: Box<Self>) {
        self.tell(Response::error(503, "the daemon stops; try again").with("Retry-After", "1"));
    }
}

/// A place among the calls that wait; free again when this is dropped.
pub(super) struct Place(Arc<AtomicUsize>);

impl Place {
    /// One of `most`, if there is any.
    pub(super) fn take(taken: &Arc<AtomicUsize>, most: usize) -> Option<Self> {
        let update = |count: usize| (count < most).then_some(count + 1);
        taken.fetch_update(Ordering::AcqRel, Ordering::Acquire, update).ok()?;
        Some(Place(Arc::clone(taken)))
    }
}

impl Drop for Place {
    fn drop(&mut self) {
        self.0.fetch_sub(1, Ordering::AcqRel);
    }
}
