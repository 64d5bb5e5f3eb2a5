//! What other threads have for the one that owns the connections.

use std::sync::{Arc, Mutex, MutexGuard};

use super::response::Response;
use crate::lock::Unpoisoned;
use crate::net::{Handle, Seat, Stream, Waker};

/// A letter to the thread of the gateway.
pub(super) enum Mail {
    /// The answer to the request `serial` of a connection.
    Answer { to: Handle, serial: u32, response: Response },
    /// A connection for this thread; whether it may stay, and if not, why.
    Connection { stream: Stream, seat: Seat, refusal: Option<&'static str> },
}

/// Takes letters from any thread; one thread reads them.
pub(super) struct Mailbox {
    mails: Mutex<Vec<Mail>>,
    waker: Arc<Waker>,
}

impl Mailbox {
    pub(super) fn new(waker: Arc<Waker>) -> Self {
        Mailbox { mails: Mutex::default(), waker }
    }

    pub(super) fn send(&self, mail: Mail) {
        self.mails().push(mail);
        self.waker.wake();
    }

    /// Wakes the reader, who has been told something else.
    pub(super) fn wake(&self) {
        self.waker.wake();
    }

    pub(super) fn is_empty(&self) -> bool {
        self.mails().is_empty()
    }

    /// Moves all letters into `taken`.
    pub(super) fn take(&self, taken: &mut Vec<Mail>) {
        taken.append(&mut self.mails());
    }

    fn mails(&self) -> MutexGuard<'_, Vec<Mail>> {
        self.mails.lock().unpoisoned()
    }
}
