//! How the requests of one function end, and how long they take. Counted without a lock.

use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use crate::clock;
use crate::protocol::Verdict;

/// The upper bounds of the classes by which durations are counted, in microseconds; one more is for all that is longer.
pub const BOUNDS: [u64; 14] = [
    100,
    250,
    500,
    1_000,
    2_500,
    5_000,
    10_000,
    25_000,
    100_000,
    500_000,
    1_000_000,
    5_000_000,
    30_000_000,
    300_000_000,
];

/// The account of one function.
#[derive(Debug, Default)]
pub struct Meter {
    verdicts: [AtomicU64; Verdict::ALL.len()],
    classes: [AtomicU64; BOUNDS.len() + 1],
    microseconds: AtomicU64,
    last_ok: AtomicU64,
}

/// One look at a [`Meter`].
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Reading {
    /// How many ended with each verdict, in the order of [`Verdict::ALL`].
    pub verdicts: [u64; Verdict::ALL.len()],
    /// How many took up to each of [`BOUNDS`], and longer.
    pub classes: [u64; BOUNDS.len() + 1],
    /// What all of them took together.
    pub took: Duration,
    /// When one last ended well, in milliseconds since 1970; 0: never.
    pub last_ok: u64,
}

impl Meter {
    /// A request ended with `verdict`, so long after it was accepted.
    pub fn count(&self, verdict: Verdict, took: Duration) {
        let microseconds = u64::try_from(took.as_micros()).unwrap_or(u64::MAX);
        let class = BOUNDS.partition_point(|bound| *bound < microseconds);
        self.verdicts[verdict as usize].fetch_add(1, Ordering::Relaxed);
        self.classes[class].fetch_add(1, Ordering::Relaxed);
        self.microseconds.fetch_add(microseconds, Ordering::Relaxed);
        if verdict == Verdict::Ok {
            self.last_ok.store(clock::now(), Ordering::Relaxed);
        }
    }

    /// What it says now.
    pub fn read(&self) -> Reading {
        let load = |counter: &AtomicU64| counter.load(Ordering::Relaxed);
        Reading {
            verdicts: std::array::from_fn(|at| load(&self.verdicts[at])),
            classes: std::array::from_fn(|at| load(&self.classes[at])),
            took: Duration::from_micros(load(&self.microseconds)),
            last_ok: load(&self.last_ok),
        }
    }
}
