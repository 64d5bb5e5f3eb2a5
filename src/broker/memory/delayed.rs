//! What waits until it is due. Pure: `now` is an argument.

use std::collections::BTreeMap;
use std::sync::Arc;

/// Elements by the time at which they are due; those of the same time in the order in which they came.
#[derive(Default)]
pub(super) struct Delayed {
    by_due: BTreeMap<(u64, u64), Arc<[u8]>>,
    added: u64,
}

impl Delayed {
    /// Lets `element` wait until `due`, in milliseconds since 1970.
    pub(super) fn push(&mut self, due: u64, element: Arc<[u8]>) {
        self.by_due.insert((due, self.added), element);
        self.added += 1;
    }

    /// Takes out up to `limit` of those that are due at `now`.
    pub(super) fn take_due(&mut self, now: u64, limit: usize) -> Vec<Arc<[u8]>> {
        let mut due = Vec::new();
        while due.len() < limit
            && let Some(first) = self.by_due.first_entry()
            && first.key().0 <= now
        {
            due.push(first.remove());
        }
        due
    }

    /// Takes out the first that `is_it`.
    pub(super) fn remove(&mut self, is_it: impl Fn(&Arc<[u8]>) -> bool) -> Option<Arc<[u8]>> {
        let key = self.by_due.iter().find_map(|(key, element)| is_it(element).then_some(*key))?;
        self.by_due.remove(&key)
    }

    /// When the next is due.
    pub(super) fn next_due(&self) -> Option<u64> {
        self.by_due.first_key_value().map(|((due, _), _)| *due)
    }

    /// How many there are.
    pub(super) fn len(&self) -> usize {
        self.by_due.len()
    }

    /// All of them, with when they are due, the earliest first.
    pub(super) fn iter(&self) -> impl Iterator<Item = (u64, &Arc<[u8]>)> {
        self.by_due.iter().map(|((due, _), element)| (*due, element))
    }
}
