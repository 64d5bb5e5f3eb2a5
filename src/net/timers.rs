//! When connections have to be looked at again. Pure.

use std::cmp::Reverse;
use std::collections::BinaryHeap;
use std::time::Instant;

/// Times at which things named by a `u64` are due.
///
/// Most deadlines move on before they come: the next byte, the next request. So each thing keeps its own deadline, and stands here
/// once, at a time that is not later. Who is found here too early is put back.
#[derive(Debug, Default)]
pub(crate) struct Timers(BinaryHeap<Reverse<(Instant, u64)>>);

impl Timers {
    /// `token` has to be looked at by `at`.
    pub(crate) fn add(&mut self, at: Instant, token: u64) {
        self.0.push(Reverse((at, token)));
    }

    /// The next one that is due at `now`, taken out.
    pub(crate) fn next_due(&mut self, now: Instant) -> Option<u64> {
        let Reverse((at, _)) = self.0.peek()?;
        if *at > now {
            return None;
        }
        self.0.pop().map(|Reverse((_, token))| token)
    }

    /// How many there are, those included whose things are gone.
    pub(crate) fn len(&self) -> usize {
        self.0.len()
    }

    /// Keeps only these.
    pub(crate) fn replace(&mut self, all: impl Iterator<Item = (Instant, u64)>) {
        self.0 = all.map(Reverse).collect();
    }

    /// When the next one is due.
    pub(crate) fn next(&self) -> Option<Instant> {
        self.0.peek().map(|Reverse((at, _))| *at)
    }
}
