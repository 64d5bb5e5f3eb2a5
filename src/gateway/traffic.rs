//! How much goes over the gateway. Counted without a lock.

use std::sync::atomic::{AtomicU64, Ordering};

/// Statuses go up to here.
const MOST: usize = 600;

pub(super) struct Traffic {
    statuses: Box<[AtomicU64]>,
}

impl Default for Traffic {
    fn default() -> Self {
        Traffic { statuses: (0..MOST).map(|_| AtomicU64::new(0)).collect() }
    }
}

impl Traffic {
    /// A request was answered with `status`.
    pub(super) fn count(&self, status: u16) {
        if let Some(counter) = self.statuses.get(usize::from(status)) {
            counter.fetch_add(1, Ordering::Relaxed);
        }
    }

    /// The statuses that were given, and how often.
    pub(super) fn statuses(&self) -> Vec<(u16, u64)> {
        let counts =
            self.statuses.iter().enumerate().map(|(status, count)| (status as u16, count.load(Ordering::Relaxed)));
        counts.filter(|(_, count)| *count > 0).collect()
    }
}
