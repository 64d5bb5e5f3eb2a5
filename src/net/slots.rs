//! Where connections are kept, under handles that are never used twice.

use slab::Slab;

/// Names one connection for as long as the process lives, or so: its place, and how often that was used before.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub(crate) struct Handle(pub(crate) u64);

/// Things by their handles.
pub(crate) struct Slots<T> {
    slab: Slab<(u32, T)>,
    generation: u32,
    mark: u64,
}

impl<T> Slots<T> {
    pub(crate) fn new() -> Self {
        Self::marked(0)
    }

    /// Those whose handles have the bits of `mark`, which must be above all others.
    pub(crate) fn marked(mark: u64) -> Self {
        Slots { slab: Slab::new(), generation: 0, mark }
    }

    pub(crate) fn len(&self) -> usize {
        self.slab.len()
    }

    /// Keeps what `make` makes, which is told its handle.
    pub(crate) fn insert_with(&mut self, make: impl FnOnce(Handle) -> T) -> Handle {
        self.generation = (self.generation + 1) & MOST_GENERATIONS;
        let entry = self.slab.vacant_entry();
        let handle = Handle(self.mark | u64::from(self.generation) << 32 | entry.key() as u64);
        entry.insert((self.generation, make(handle)));
        handle
    }

    pub(crate) fn get_mut(&mut self, handle: Handle) -> Option<&mut T> {
        let (generation, thing) = self.slab.get_mut(key(handle))?;
        is_of(*generation, handle).then_some(thing)
    }

    pub(crate) fn remove(&mut self, handle: Handle) -> Option<T> {
        let (generation, _) = self.slab.get(key(handle))?;
        is_of(*generation, handle).then(|| self.slab.remove(key(handle)).1)
    }

    pub(crate) fn iter(&self) -> impl Iterator<Item = (Handle, &T)> {
        self.slab
            .iter()
            .map(|(key, (generation, thing))| (Handle(self.mark | u64::from(*generation) << 32 | key as u64), thing))
    }

    pub(crate) fn handles(&self) -> Vec<Handle> {
        self.iter().map(|(handle, _)| handle).collect()
    }
}

/// The highest bit of a handle is for marks.
const MOST_GENERATIONS: u32 = u32::MAX >> 1;

fn is_of(generation: u32, handle: Handle) -> bool {
    generation == (handle.0 >> 32) as u32 & MOST_GENERATIONS
}

fn key(handle: Handle) -> usize {
    (handle.0 & u64::from(u32::MAX)) as usize
}
