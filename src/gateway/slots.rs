//! Where connections are kept, under tokens that are never used twice.

use slab::Slab;

/// Names one connection for as long as the process lives, or so: its place, and how often that was used before.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub(super) struct Token(pub(super) u64);

/// Things by their tokens.
pub(super) struct Slots<T> {
    slab: Slab<(u32, T)>,
    generation: u32,
    mark: u64,
}

impl<T> Slots<T> {
    pub(super) fn new() -> Self {
        Self::marked(0)
    }

    /// Those whose tokens have the bits of `mark`, which must be above all others.
    pub(super) fn marked(mark: u64) -> Self {
        Slots { slab: Slab::new(), generation: 0, mark }
    }

    pub(super) fn len(&self) -> usize {
        self.slab.len()
    }

    /// Keeps what `make` makes, which is told its token.
    pub(super) fn insert_with(&mut self, make: impl FnOnce(Token) -> T) -> Token {
        self.generation = (self.generation + 1) & MOST_GENERATIONS;
        let entry = self.slab.vacant_entry();
        let token = Token(self.mark | u64::from(self.generation) << 32 | entry.key() as u64);
        entry.insert((self.generation, make(token)));
        token
    }

    pub(super) fn get_mut(&mut self, token: Token) -> Option<&mut T> {
        let (generation, thing) = self.slab.get_mut(key(token))?;
        is_of(*generation, token).then_some(thing)
    }

    pub(super) fn remove(&mut self, token: Token) -> Option<T> {
        let (generation, _) = self.slab.get(key(token))?;
        is_of(*generation, token).then(|| self.slab.remove(key(token)).1)
    }

    pub(super) fn tokens(&self) -> Vec<Token> {
        let token =
            |(key, (generation, _)): (usize, &(u32, T))| Token(self.mark | u64::from(*generation) << 32 | key as u64);
        self.slab.iter().map(token).collect()
    }
}

/// The highest bit of a token is for marks.
const MOST_GENERATIONS: u32 = u32::MAX >> 1;

fn is_of(generation: u32, token: Token) -> bool {
    generation == (token.0 >> 32) as u32 & MOST_GENERATIONS
}

fn key(token: Token) -> usize {
    (token.0 & u64::from(u32::MAX)) as usize
}
