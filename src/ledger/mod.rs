//! The account of all requests: `accepted = verdicts + returned + in flight`, at any moment.
//!
//! The counts of what the doors have handed in and were told only grow. What is in flight is counted by whoever has it, from the calls
//! themselves, so that the sum is a real check. Beside them is the account of each function.

mod meter;

use std::collections::{BTreeMap, HashMap};
use std::sync::{Arc, RwLock};

pub use self::meter::{BOUNDS, Meter, Reading};
use crate::lock::Unpoisoned;
use crate::protocol::Verdict;

/// The accounts of single functions.
#[derive(Debug, Default)]
pub struct Ledger {
    meters: RwLock<HashMap<Box<str>, Arc<Meter>>>,
}

impl Ledger {
    /// The account of the function called `name`; only for names that somebody has registered, as each is kept for good.
    pub fn meter(&self, name: &str) -> Arc<Meter> {
        if let Some(meter) = self.meters.read().unpoisoned().get(name) {
            return Arc::clone(meter);
        }
        Arc::clone(self.meters.write().unpoisoned().entry(name.into()).or_default())
    }

    /// What all of them say now, by the names of their functions.
    pub fn readings(&self) -> BTreeMap<Box<str>, Reading> {
        let meters = self.meters.read().unpoisoned();
        meters.iter().map(|(name, meter)| (name.clone(), meter.read())).collect()
    }
}

/// What the doors have handed in, and what they were told. These counts never go down.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Counts {
    /// How many requests were accepted. One that comes back after it was returned is accepted again.
    pub accepted: u64,
    /// How many of them went back to where they came from: unstarted, or to run again later.
    pub returned: u64,
    /// How many of them ended with each verdict, in the order of [`Verdict::ALL`].
    pub verdicts: [u64; Verdict::ALL.len()],
}

impl Counts {
    /// The balance, where `in_flight` requests are open.
    pub fn with_open(self, in_flight: u64) -> Balance {
        let Counts { accepted, returned, verdicts } = self;
        Balance { accepted, returned, verdicts, in_flight }
    }
}

/// One look at the account.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Balance {
    /// How many requests were accepted so far.
    pub accepted: u64,
    /// How many of them went back to where they came from.
    pub returned: u64,
    /// How many of them ended with each verdict, in the order of [`Verdict::ALL`].
    pub verdicts: [u64; Verdict::ALL.len()],
    /// How many are open: they have no verdict yet. These were counted one by one, not computed from the other numbers.
    pub in_flight: u64,
}

impl Balance {
    /// How many ended with `verdict`.
    pub fn count(&self, verdict: Verdict) -> u64 {
        self.verdicts[verdict as usize]
    }

    /// Whether nothing was lost from sight: `accepted = verdicts + returned + in flight`.
    pub fn holds(&self) -> bool {
        self.accepted == self.verdicts.iter().sum::<u64>() + self.returned + self.in_flight
    }
}
