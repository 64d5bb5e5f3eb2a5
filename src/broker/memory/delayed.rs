//! What waits until it is due. Pure: `now` is an argument.

use std::collections::{BTreeMap, HashMap};
use std::sync::Arc;

/// Elements by the time at which they are due; those of the same time in the order in which they came.
#[derive(Default)]
pub(super) struct Delayed {
    by_due: BTreeMap<Key, Waiting>,
    /// Those that wait under a name.
    by_name: HashMap<Box<str>, Key>,
    added: u64,
}

/// When it is due, and its number among all that were added.
type Key = (u64, u64);

struct Waiting {
    element: Arc<[u8]>,
    name: Option<Box<str>>,
}

impl Delayed {
    /// Lets `element` wait until `due`, in milliseconds since 1970.
    pub(super) fn push(&mut self, due: u64, element: Arc<[u8]>) {
        self.add(due, Waiting { element, name: None });
    }

    /// The same, in the place of what waits under the same `name`.
    pub(super) fn replace(&mut self, name: &str, due: u64, element: Arc<[u8]>) {
        let key = self.add(due, Waiting { element, name: Some(name.into()) });
        if let Some(before) = self.by_name.insert(name.into(), key) {
            self.by_due.remove(&before);
        }
    }

    /// Takes out up to `limit` of those that are due at `now`.
    pub(super) fn take_due(&mut self, now: u64, limit: usize) -> Vec<Arc<[u8]>> {
        let mut due = Vec::new();
        while due.len() < limit
            && let Some((&key, _)) = self.by_due.first_key_value()
            && key.0 <= now
        {
            due.extend(self.take(key));
        }
        due
    }

    /// Takes out the first that `is_it`.
    pub(super) fn remove(&mut self, is_it: impl Fn(&Arc<[u8]>) -> bool) -> Option<Arc<[u8]>> {
        let key = self.by_due.iter().find_map(|(key, waiting)| is_it(&waiting.element).then_some(*key))?;
        self.take(key)
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
        self.by_due.iter().map(|((due, _), waiting)| (*due, &waiting.element))
    }

    fn add(&mut self, due: u64, waiting: Waiting) -> Key {
        let key = (due, self.added);
        self.added += 1;
        self.by_due.insert(key, waiting);
        key
    }

    fn take(&mut self, key: Key) -> Option<Arc<[u8]>> {
        let Waiting { element, name } = self.by_due.remove(&key)?;
        // What is taken is not to be replaced any more.
        if let Some(name) = name {
            self.by_name.remove(&name);
        }
        Some(element)
    }
}
