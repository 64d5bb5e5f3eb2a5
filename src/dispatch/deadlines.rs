//! Things that are due at a time. Pure: `now` is an argument.

use std::collections::BTreeMap;
use std::time::{Duration, Instant};

/// Things by the time at which they are due; those of the same time in the order in which they were added.
pub(super) struct Deadlines<T> {
    due: BTreeMap<Key, T>,
    added: u64,
}

/// The time that is `wait` after `now`. A wait of centuries, which a clock cannot count, is as good as one.
pub(super) fn after(now: Instant, wait: Duration) -> Instant {
    now + wait.min(Duration::from_secs(100 * 365 * 24 * 60 * 60))
}

/// Finds one thing again.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub(super) struct Key {
    at: Instant,
    number: u64,
}

impl<T> Default for Deadlines<T> {
    fn default() -> Self {
        Deadlines { due: BTreeMap::new(), added: 0 }
    }
}

impl<T> Deadlines<T> {
    /// Adds a thing that is due `at` a time.
    pub(super) fn add(&mut self, at: Instant, thing: T) -> Key {
        let key = Key { at, number: self.added };
        self.added += 1;
        self.due.insert(key, thing);
        key
    }

    /// Takes out what was added as `key`, if it is still there.
    pub(super) fn remove(&mut self, key: Key) -> Option<T> {
        self.due.remove(&key)
    }

    /// When the next thing is due.
    pub(super) fn next(&self) -> Option<Instant> {
        self.due.first_key_value().map(|(key, _)| key.at)
    }

    /// Takes out the first thing that is due at `now`.
    pub(super) fn take_due(&mut self, now: Instant) -> Option<T> {
        let first = self.due.first_entry()?;
        (first.key().at <= now).then(|| first.remove())
    }

    /// Takes out what is due first, whenever that is.
    pub(super) fn take_first(&mut self) -> Option<T> {
        self.due.pop_first().map(|(_, thing)| thing)
    }

    /// How many there are.
    pub(super) fn len(&self) -> usize {
        self.due.len()
    }

    /// Takes out everything.
    pub(super) fn take_all(&mut self) -> Vec<T> {
        std::mem::take(&mut self.due).into_values().collect()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn things_come_out_when_they_are_due_in_the_order_of_their_times() {
        let start = Instant::now();
        let after = |seconds| after(start, Duration::from_secs(seconds));
        let mut deadlines = Deadlines::default();
        deadlines.add(after(2), "second");
        deadlines.add(after(1), "first");
        deadlines.add(after(2), "third");

        assert_eq!(deadlines.take_due(start), None);
        assert_eq!(deadlines.next(), Some(after(1)));
        assert_eq!(deadlines.take_due(after(1)), Some("first"));
        assert_eq!(deadlines.take_due(after(1)), None);
        assert_eq!(deadlines.take_due(after(9)), Some("second"));
        assert_eq!(deadlines.take_due(after(9)), Some("third"));
        assert_eq!(deadlines.next(), None);
    }

    #[test]
    fn what_was_removed_does_not_come_out() {
        let start = Instant::now();
        let mut deadlines = Deadlines::default();
        let key = deadlines.add(start, "gone");
        assert_eq!(deadlines.remove(key), Some("gone"));
        assert_eq!(deadlines.remove(key), None);
        assert_eq!(deadlines.take_due(start), None);
    }
}
