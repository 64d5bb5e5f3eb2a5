//! The door of a call that came over HTTP.

use std::sync::atomic::{AtomicBool, AtomicU8, AtomicUsize, Ordering};
use std::sync::{Arc, Mutex};
use std::time::Instant;

use super::idempotency::Promise;
use super::mailbox::{Mail, Mailbox};
use super::response::Response;
use crate::dispatch::{Again, Door};
use crate::effects::Effects;
use crate::lock::Unpoisoned;
use crate::net::Handle;
use crate::protocol::codec::Encoded;

/// Tells the connection that a call came from.
pub(super) struct HttpDoor {
    pub(super) mailbox: Arc<Mailbox>,
    pub(super) to: Handle,
    /// Which request of the connection it is.
    pub(super) serial: u32,
    /// Whether the client has its answer already.
    pub(super) was_told: bool,
    /// Its place among the calls that wait.
    pub(super) place: Place,
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
    fn name(&self) -> &'static str {
        "http"
    }

    fn waits_here(&self) -> bool {
        true
    }

    fn starts(&mut self) -> bool {
        self.place.start()
    }

    fn answer(mut self: Box<Self>, answer: Arc<Encoded>, _: Effects) {
        // One that nobody waited for has not run, and can be asked for again.
        if let Some(promise) = self.promise.take().filter(|_| !self.place.is_given_up()) {
            promise.keep(&answer, Instant::now());
        }
        self.tell(Response::answer(answer));
    }

    fn answer_early(&mut self, answer: Arc<Encoded>) {
        self.tell(Response::answer(answer));
    }

    fn run_again(self: Box<Self>, _: Again, failure: Arc<Encoded>) {
        // There is nowhere else to wait.
        self.answer(failure, Effects::default());
    }

    fn hand_back(mut self: Box<Self>) {
        self.tell(Response::error(503, "the daemon stops; try again").with("Retry-After", "1"));
    }
}

/// A place among the calls that wait, and how far the call has come. Its copies are one place: the connection has one, and whoever has to
/// answer another. It is free again when the client goes, or when all copies are gone.
#[derive(Clone)]
pub(super) struct Place(Arc<Taken>);

struct Taken {
    count: Arc<AtomicUsize>,
    is_free: AtomicBool,
    stage: AtomicU8,
    /// What is done when it is given up.
    then: Mutex<Option<Box<dyn FnOnce() + Send>>>,
}

/// The call has not started.
const WAITS: u8 = 0;
/// It has.
const STARTED: u8 = 1;
/// It has not, and is not to start any more: nobody waits for it.
const GIVEN_UP: u8 = 2;

impl Place {
    /// One of `most`, if there is any.
    pub(super) fn take(taken: &Arc<AtomicUsize>, most: usize) -> Option<Self> {
        let update = |count: usize| (count < most).then_some(count + 1);
        taken.fetch_update(Ordering::AcqRel, Ordering::Acquire, update).ok()?;
        let (is_free, stage) = (AtomicBool::new(false), AtomicU8::new(WAITS));
        Some(Place(Arc::new(Taken { count: Arc::clone(taken), is_free, stage, then: Mutex::default() })))
    }

    /// The call is to start; false where it was given up before.
    pub(super) fn start(&self) -> bool {
        self.turn(STARTED) || self.0.stage.load(Ordering::Acquire) == STARTED
    }

    /// Gives up a call that has not started; false where it has.
    pub(super) fn give_up(&self) -> bool {
        let is_given_up = self.turn(GIVEN_UP);
        if is_given_up {
            self.0.free();
        }
        is_given_up
    }

    /// The client has gone: a call that has not started is given up, and the place is free whatever the call does.
    pub(super) fn leave(&self) {
        self.turn(GIVEN_UP);
        self.0.free();
    }

    /// Does `then` once when the call is given up before it started; at once where it was.
    pub(super) fn when_given_up(&self, then: impl FnOnce() + Send + 'static) {
        *self.0.then.lock().unpoisoned() = Some(Box::new(then));
        if self.is_given_up() {
            self.0.run_then();
        }
    }

    /// Whether the call was given up before it started.
    pub(super) fn is_given_up(&self) -> bool {
        self.0.stage.load(Ordering::Acquire) == GIVEN_UP
    }

    fn turn(&self, stage: u8) -> bool {
        let has_turned = self.0.stage.compare_exchange(WAITS, stage, Ordering::AcqRel, Ordering::Acquire).is_ok();
        if has_turned && stage == GIVEN_UP {
            self.0.run_then();
        }
        has_turned
    }
}

impl Taken {
    /// Whoever comes first does it.
    fn run_then(&self) {
        let then = self.then.lock().unpoisoned().take();
        if let Some(then) = then {
            then();
        }
    }

    fn free(&self) {
        if !self.is_free.swap(true, Ordering::AcqRel) {
            self.count.fetch_sub(1, Ordering::AcqRel);
        }
    }
}

impl Drop for Taken {
    fn drop(&mut self) {
        self.free();
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_call_either_starts_or_is_given_up_and_its_place_is_free_once() {
        let count = Arc::new(AtomicUsize::new(0));
        let taken = || count.load(Ordering::Relaxed);
        let place = Place::take(&count, 1).expect("there is one");
        assert!(Place::take(&count, 1).is_none());
        let copy = place.clone();
        assert!(copy.give_up() && !place.start() && place.is_given_up());
        assert_eq!(taken(), 0);
        drop((place, copy));
        assert_eq!(taken(), 0);

        let place = Place::take(&count, 1).expect("there is one");
        // Also when it runs again.
        assert!(place.start() && place.start() && !place.give_up());
        assert_eq!(taken(), 1);
        place.leave();
        assert_eq!((taken(), place.is_given_up()), (0, false));
    }

    #[test]
    fn what_follows_on_a_call_that_is_given_up_is_done_once_and_never_on_one_that_has_started() {
        let count = Arc::new(AtomicUsize::new(0));
        let done = Arc::new(AtomicUsize::new(0));
        let place = || Place::take(&count, 9).expect("there is one");
        let follow = |place: &Place| {
            let done = Arc::clone(&done);
            place.when_given_up(move || {
                done.fetch_add(1, Ordering::Relaxed);
            });
        };
        let waits = place();
        follow(&waits);
        assert_eq!(done.load(Ordering::Relaxed), 0);
        waits.give_up();
        waits.leave();
        assert_eq!(done.load(Ordering::Relaxed), 1);
        follow(&waits);
        assert_eq!(done.load(Ordering::Relaxed), 2, "it was given up before");
        let runs = place();
        follow(&runs);
        runs.start();
        runs.leave();
        assert_eq!(done.load(Ordering::Relaxed), 2);
    }
}
