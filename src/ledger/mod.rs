//! The account of all requests: `accepted = verdicts + in flight`, at any moment.
//!
//! A request is accepted when [`Ledger::accept`] gives out an [`Entry`], and its verdict is recorded when the entry is
//! closed. The entry cannot be closed twice, as closing takes it; an entry that is dropped open is recorded as `lost`.
//! What is in flight is counted from the list of open entries itself, not computed from the other two numbers, so the sum is a real check.

mod meter;

use std::collections::{BTreeMap, HashMap};
use std::sync::{Arc, Mutex, MutexGuard, RwLock};
use std::time::{Duration, Instant};

pub use self::meter::{BOUNDS, Meter, Reading};
use crate::protocol::{RequestId, Verdict};

/// The counts and the list of what is in flight.
#[derive(Debug, Default)]
pub struct Ledger {
    book: Mutex<Book>,
    /// The accounts of single functions.
    meters: RwLock<HashMap<Box<str>, Arc<Meter>>>,
}

#[derive(Debug, Default)]
struct Book {
    accepted: u64,
    verdicts: [u64; Verdict::ALL.len()],
    open: HashMap<u64, RequestId>,
    next: u64,
}

/// One look at the ledger.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Balance {
    /// How many requests were accepted so far. One that was handed back unstarted counts no more.
    pub accepted: u64,
    /// How many ended with each verdict, in the order of [`Verdict::ALL`].
    pub verdicts: [u64; Verdict::ALL.len()],
    /// How many have none yet.
    pub in_flight: u64,
}

impl Balance {
    /// How many ended with `verdict`.
    pub fn count(&self, verdict: Verdict) -> u64 {
        self.verdicts[verdict as usize]
    }

    /// Whether nothing was lost from sight: `accepted = verdicts + in flight`.
    pub fn holds(&self) -> bool {
        self.accepted == self.verdicts.iter().sum::<u64>() + self.in_flight
    }
}

impl Ledger {
    /// Accepts a request.
    pub fn accept(self: &Arc<Self>, id: RequestId) -> Entry {
        let mut book = self.book();
        let number = book.next;
        book.next += 1;
        book.accepted += 1;
        book.open.insert(number, id);
        drop(book);
        Entry { ledger: Arc::clone(self), number, is_open: true, meter: None }
    }

    /// The account of the function called `name`; only for names that somebody has registered, as each is kept for good.
    pub fn meter(&self, name: &str) -> Arc<Meter> {
        const UNBROKEN: &str = "nothing panics under this lock";
        if let Some(meter) = self.meters.read().expect(UNBROKEN).get(name) {
            return Arc::clone(meter);
        }
        Arc::clone(self.meters.write().expect(UNBROKEN).entry(name.into()).or_default())
    }

    /// What all of them say now, by the names of their functions.
    pub fn readings(&self) -> BTreeMap<Box<str>, Reading> {
        let meters = self.meters.read().expect("nothing panics under this lock");
        meters.iter().map(|(name, meter)| (name.clone(), meter.read())).collect()
    }

    /// The account as it is now.
    pub fn balance(&self) -> Balance {
        let book = self.book();
        Balance { accepted: book.accepted, verdicts: book.verdicts, in_flight: book.open.len() as u64 }
    }

    fn book(&self) -> MutexGuard<'_, Book> {
        self.book.lock().expect("nothing panics under this lock")
    }
}

/// What is known of an entry that is no more.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Closed {
    /// The request.
    pub id: Option<RequestId>,
    /// How long it took since its function was known.
    pub took: Option<Duration>,
}

/// An accepted request that has no verdict yet.
#[derive(Debug)]
pub struct Entry {
    ledger: Arc<Ledger>,
    number: u64,
    is_open: bool,
    meter: Option<(Arc<Meter>, Instant)>,
}

impl Entry {
    /// It is for a function, whose account `meter` is.
    pub fn measure(&mut self, meter: Arc<Meter>, now: Instant) {
        self.meter = Some((meter, now));
    }

    /// Records the one verdict; gives back whose it was, and how long that took since it was measured.
    pub fn close(mut self, verdict: Verdict) -> Closed {
        self.record(verdict)
    }

    /// The request goes back to where it came from: it counts as never accepted, and whoever takes it next accepts it.
    pub fn withdraw(mut self) -> Closed {
        self.is_open = false;
        let mut book = self.ledger.book();
        let id = book.open.remove(&self.number);
        if id.is_some() {
            book.accepted -= 1;
        }
        Closed { id, took: self.meter.as_ref().map(|(_, since)| since.elapsed()) }
    }

    fn record(&mut self, verdict: Verdict) -> Closed {
        self.is_open = false;
        let mut book = self.ledger.book();
        let id = book.open.remove(&self.number);
        if id.is_some() {
            book.verdicts[verdict as usize] += 1;
        }
        drop(book);
        let took = self.meter.take().map(|(meter, since)| {
            let took = since.elapsed();
            meter.count(verdict, took);
            took
        });
        Closed { id, took }
    }
}

impl Drop for Entry {
    fn drop(&mut self) {
        if self.is_open {
            let _nobody_asks = self.record(Verdict::Lost);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_entry_that_is_dropped_open_is_recorded_as_lost() {
        let ledger = Arc::new(Ledger::default());
        drop(ledger.accept(RequestId::Number(1)));
        let balance = ledger.balance();
        assert_eq!((balance.count(Verdict::Lost), balance.in_flight), (1, 0));
        assert!(balance.holds());
    }

    #[test]
    fn a_request_that_is_handed_back_was_never_accepted() {
        let ledger = Arc::new(Ledger::default());
        ledger.accept(RequestId::Number(1)).withdraw();
        assert_eq!(ledger.balance(), Balance::default());
    }

    #[test]
    fn what_is_in_flight_is_counted_until_its_verdict() {
        let ledger = Arc::new(Ledger::default());
        let entry = ledger.accept(RequestId::Number(1));
        assert_eq!(ledger.balance().in_flight, 1);
        entry.close(Verdict::Timeout);
        assert_eq!((ledger.balance().in_flight, ledger.balance().count(Verdict::Timeout)), (0, 1));
    }
}
