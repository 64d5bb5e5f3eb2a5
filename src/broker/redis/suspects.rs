//! The requests of which one more death of a daemon is the last. They start one by one, so that one which kills daemons
//! takes no others along. Pure: the time is an argument.

use std::sync::Mutex;
use std::time::{Duration, Instant};

use super::lock;

/// One that has run so long beside its daemon is suspect no more, and the next may start.
const TRIAL: Duration = Duration::from_secs(5);

/// What one daemon knows of them.
#[derive(Debug, Default)]
pub(super) struct Suspects(Mutex<State>);

#[derive(Debug, Default)]
struct State {
    /// The last one that was claimed, and when.
    last: Option<(Box<[u8]>, Instant)>,
    /// How many waited in Redis when it was asked last.
    waiting: u64,
}

impl Suspects {
    /// Whether the next may be claimed at `now`; `is_held` tells of the last one whether it is still in flight here.
    pub(super) fn may_claim(&self, now: Instant, is_held: impl FnOnce(&[u8]) -> bool) -> bool {
        let state = lock(&self.0);
        state.last.as_ref().is_none_or(|(last, since)| now.duration_since(*since) >= TRIAL || !is_held(last))
    }

    /// `claimed` was claimed at `now`, if any, and so many wait.
    pub(super) fn note(&self, claimed: Option<&[u8]>, waiting: u64, now: Instant) {
        let mut state = lock(&self.0);
        state.waiting = waiting;
        if let Some(claimed) = claimed {
            state.last = Some((claimed.into(), now));
        }
    }

    /// Whether any waited when Redis was asked last.
    pub(super) fn are_waiting(&self) -> bool {
        lock(&self.0).waiting > 0
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_next_may_start_when_the_last_one_has_ended_or_has_run_for_a_while() {
        let suspects = Suspects::default();
        let start = Instant::now();
        assert!(suspects.may_claim(start, |_| true));
        suspects.note(Some(b"a"), 3, start);
        let is_a = |element: &[u8]| element == b"a";
        assert!(!suspects.may_claim(start + TRIAL - Duration::from_millis(1), is_a));
        assert!(suspects.may_claim(start + TRIAL, is_a));
        assert!(suspects.may_claim(start, |_| false));
    }

    #[test]
    fn what_waits_is_what_redis_said_last() {
        let suspects = Suspects::default();
        assert!(!suspects.are_waiting());
        suspects.note(None, 2, Instant::now());
        assert!(suspects.are_waiting());
        suspects.note(Some(b"a"), 0, Instant::now());
        assert!(!suspects.are_waiting());
    }
}
