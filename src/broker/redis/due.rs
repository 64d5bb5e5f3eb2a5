//! Waiting for the next delayed request.

use std::sync::{Condvar, Mutex};
use std::time::{Duration, Instant};

use super::lock;
use crate::clock;
use crate::lock::Unpoisoned;

/// Wakes the claim of delayed requests when one is deferred that is due earlier than what it waits for.
#[derive(Debug, Default)]
pub(super) struct Due {
    state: Mutex<State>,
    changed: Condvar,
}

#[derive(Debug, Default)]
struct State {
    /// When the next request is due, in milliseconds since 1970, as Redis said when it was asked last.
    known: Option<u64>,
    /// The earliest that was deferred since then: Redis may have answered before.
    added: Option<u64>,
    is_interrupted: bool,
}

impl Due {
    /// A request has been deferred until `due`.
    pub(super) fn add(&self, due: u64) {
        let mut state = lock(&self.state);
        if state.next().is_none_or(|next| due < next) {
            state.added = Some(due);
            self.changed.notify_all();
        }
    }

    /// Redis is going to be asked.
    pub(super) fn ask(&self) {
        lock(&self.state).added = None;
    }

    /// Redis has said when the next request is due.
    pub(super) fn know(&self, next: Option<u64>) {
        lock(&self.state).known = next;
    }

    /// Waits until the next request is due, at most `patience`; tells whether it is.
    pub(super) fn wait(&self, patience: Duration) -> bool {
        let end = Instant::now() + patience;
        let mut state = lock(&self.state);
        loop {
            let left = end.saturating_duration_since(Instant::now());
            let pause = state.next().map(|next| Duration::from_millis(next.saturating_sub(clock::now())));
            if pause.is_some_and(|pause| pause.is_zero()) {
                return true;
            }
            if left.is_zero() || std::mem::take(&mut state.is_interrupted) {
                return false;
            }
            let pause = pause.map_or(left, |pause| pause.min(left));
            state = self.changed.wait_timeout(state, pause).unpoisoned().0;
        }
    }

    /// Ends the wait.
    pub(super) fn interrupt(&self) {
        lock(&self.state).is_interrupted = true;
        self.changed.notify_all();
    }
}

impl State {
    fn next(&self) -> Option<u64> {
        self.known.into_iter().chain(self.added).min()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const LONG: Duration = Duration::from_secs(3600);

    #[test]
    fn what_is_deferred_while_redis_answers_is_not_forgotten() {
        let due = Due::default();
        due.ask();
        due.add(0);
        due.know(None);
        assert!(due.wait(LONG), "it is due already");
    }

    #[test]
    fn what_redis_has_said_takes_the_place_of_what_was_deferred_before() {
        let due = Due::default();
        due.add(0);
        due.ask();
        due.know(None);
        assert!(!due.wait(Duration::ZERO));
    }
}
