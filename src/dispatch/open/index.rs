//! Where calls stand, by their ids. Pure.
//!
//! Only hashes of ids are kept, as the ids themselves stand with the calls: those with the same hash form a chain, from the newest to the
//! oldest.

use std::collections::HashMap;
use std::hash::{BuildHasher, BuildHasherDefault, Hasher, RandomState};

use crate::protocol::RequestId;

/// The places of the newest calls, by the hashes of their ids.
#[derive(Default)]
pub(super) struct Index {
    hasher: RandomState,
    newest: HashMap<u64, usize, BuildHasherDefault<Hashed>>,
}

/// What is a hash already is not hashed again.
#[derive(Default)]
struct Hashed(u64);

impl Hasher for Hashed {
    fn finish(&self) -> u64 {
        self.0
    }

    fn write(&mut self, _: &[u8]) {
        unreachable!("only hashes are keys here")
    }

    fn write_u64(&mut self, hash: u64) {
        self.0 = hash;
    }
}

impl Index {
    /// The place of the newest call whose id may be `id`; the others follow in its chain.
    pub(super) fn newest(&self, id: &RequestId) -> Option<usize> {
        self.newest.get(&self.hash(id)).copied()
    }

    /// Notes that `id` stands at `place`; gives back the place that follows in its chain.
    pub(super) fn insert(&mut self, id: &RequestId, place: usize) -> Option<usize> {
        self.newest.insert(self.hash(id), place)
    }

    /// Forgets that `id` stands at `place`, behind which `older` follows. Gives back the place whose follower is to be `older` from now on, if
    /// there is one; `older_of` tells what follows behind a place.
    pub(super) fn remove(
        &mut self,
        id: &RequestId,
        place: usize,
        older: Option<usize>,
        older_of: impl Fn(usize) -> Option<usize>,
    ) -> Option<usize> {
        let hash = self.hash(id);
        let newest = *self.newest.get(&hash)?;
        if newest == place {
            match older {
                Some(older) => self.newest.insert(hash, older),
                None => self.newest.remove(&hash),
            };
            return None;
        }
        let mut at = newest;
        loop {
            match older_of(at) {
                Some(next) if next == place => return Some(at),
                Some(next) => at = next,
                None => return None,
            }
        }
    }

    fn hash(&self, id: &RequestId) -> u64 {
        self.hasher.hash_one(id)
    }
}
