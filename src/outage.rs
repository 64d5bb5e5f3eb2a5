//! How the loops wait for a broker that is away.

use std::hash::{BuildHasher, RandomState};
use std::time::Duration;

use crate::thread::Stop;

/// The first pause after a failure.
const FIRST: Duration = Duration::from_millis(20);

/// The longest pause: well under the five seconds within which work goes on after the broker's return.
const LONGEST: Duration = Duration::from_secs(1);

/// Pauses that double from one failure to the next, each shortened by chance, so that many daemons do not come back in step.
#[derive(Debug, Default)]
pub(crate) struct Retry {
    failures: u32,
}

impl Retry {
    /// Waits after a failure; false when `stop` was asked for.
    pub(crate) fn pause(&mut self, stop: &Stop) -> bool {
        let pause = self.next_pause();
        !stop.wait(pause)
    }

    /// The next pause after a failure, for who waits for other things as well.
    pub(crate) fn next_pause(&mut self) -> Duration {
        // A fresh hasher's keys are random, which is all the chance that is needed here.
        self.next(RandomState::new().hash_one(self.failures))
    }

    /// The work went well: the next failure starts with a short pause.
    pub(crate) fn succeeded(&mut self) {
        self.failures = 0;
    }

    /// The next pause, half of it by `chance`.
    fn next(&mut self, chance: u64) -> Duration {
        let whole = FIRST.saturating_mul(1 << self.failures.min(16)).min(LONGEST);
        self.failures += 1;
        let half = whole / 2;
        half + half.mul_f64(chance as f64 / u64::MAX as f64)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn pauses_double_up_to_the_longest_and_chance_takes_up_to_half() {
        let mut retry = Retry::default();
        assert_eq!(retry.next(u64::MAX), FIRST);
        assert_eq!(retry.next(0), FIRST);
        let longest = (0..100).map(|_| retry.next(u64::MAX)).max();
        assert_eq!(longest, Some(LONGEST));
        retry.succeeded();
        assert_eq!(retry.next(u64::MAX), FIRST);
    }
}
