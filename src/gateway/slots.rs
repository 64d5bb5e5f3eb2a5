//! Where connections are kept, under tokens that are never used twice.

use slab::Slab;

/// Names one connection for as long as the process lives, or so: its place, and how often that was used before.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub(super) struct Token(pub(super) u64);

/// Things by their tokens.
pub(super) struct Slots<T> {
    slab: Slab<(u32, Option<T>)>,
    generation: u32,
}

impl<T> Slots<T> {
    pub(super) fn new() -> Self {
        Slots { slab: Slab::new(), generation: 0 }
    }

    pub(super) fn len(&self) -> usize {
        self.slab.len()
    }

    /// Keeps what `make` makes, which is told its token.
    pub(super) fn insert_with(&mut self, make: impl FnOnce(Token) -> T) -> Token {
        self.generation = self.generation.wrapping_add(1);
        let entry = self.slab.vacant_entry();
        let token = Token(u64::from(self.generation) << 32 | entry.key() as u64);
        entry.insert((self.generation, Some(make(token))));
        token
    }

    /// Takes it into the hands of the caller, who brings it back or removes its place.
    pub(super) fn take(&mut self, token: Token) -> Option<T> {
        self.entry(token)?.take()
    }

    /// Brings back what was taken.
    pub(super) fn put_back(&mut self, token: Token, thing: T) {
        if let Some(entry) = self.entry(token) {
            *entry = Some(thing);
        }
    }

    pub(super) fn get_mut(&mut self, token: Token) -> Option<&mut T> {
        self.entry(token)?.as_mut()
    }

    pub(super) fn remove(&mut self, token: Token) -> Option<T> {
        self.entry(token)?;
        self.slab.remove(key(token)).1
    }

    pub(super) fn tokens(&self) -> Vec<Token> {
        let token =
            |(key, (generation, _)): (usize, &(u32, Option<T>))| Token(u64::from(*generation) << 32 | key as u64);
        self.slab.iter().map(token).collect()
    }

    fn entry(&mut self, token: Token) -> Option<&mut Option<T>> {
        let (generation, thing) = self.slab.get_mut(key(token))?;
        (u64::from(*generation) == token.0 >> 32).then_some(thing)
    }
}

fn key(token: Token) -> usize {
    (token.0 & u64::from(u32::MAX)) as usize
}
