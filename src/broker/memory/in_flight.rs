//! What is claimed and not settled. Two elements of the same bytes are two.

use std::collections::HashMap;
use std::sync::Arc;

/// Elements, in the order in which they were claimed.
#[derive(Default)]
pub(super) struct InFlight {
    /// How often each is there, and the number of its first claim.
    elements: HashMap<Arc<[u8]>, (usize, u64)>,
    claimed: u64,
    count: usize,
}

impl InFlight {
    pub(super) fn add(&mut self, element: Arc<[u8]>) {
        self.claimed += 1;
        self.count += 1;
        self.elements.entry(element).or_insert((0, self.claimed)).0 += 1;
    }

    /// Takes one such element out; tells whether there was one.
    pub(super) fn remove(&mut self, element: &[u8]) -> bool {
        let Some((count, _)) = self.elements.get_mut(element) else { return false };
        *count -= 1;
        if *count == 0 {
            self.elements.remove(element);
        }
        self.count -= 1;
        true
    }

    /// How many such elements there are.
    pub(super) fn count(&self, element: &[u8]) -> usize {
        self.elements.get(element).map_or(0, |(count, _)| *count)
    }

    /// How many there are in all.
    pub(super) fn len(&self) -> usize {
        self.count
    }

    pub(super) fn is_empty(&self) -> bool {
        self.count == 0
    }

    /// All of them, the longest claimed first.
    pub(super) fn iter(&self) -> impl Iterator<Item = &Arc<[u8]>> {
        let mut all: Vec<_> = self.elements.iter().collect();
        all.sort_by_key(|(_, (_, number))| *number);
        all.into_iter().flat_map(|(element, (count, _))| std::iter::repeat_n(element, *count))
    }
}
