//! How much may be claimed ahead of the workers. Pure: `now` is an argument.
//!
//! What is claimed and not started waits in our memory, where another node cannot take it. So no more is claimed than
//! can be started soon: slow functions are claimed one for each idle worker, fast ones in batches that save round trips.

use std::time::{Duration, Instant};

/// What waits in our memory may wait about this long.
const HORIZON: Duration = Duration::from_millis(5);

/// The speed is measured over at least this time.
const SPAN: Duration = Duration::from_millis(2);

/// However fast the functions are, no more is claimed ahead: it holds eight batches of claims, which is more than are under way at once.
const MOST: usize = 512;

/// The speed of the pool, and what follows from it.
#[derive(Debug)]
pub(super) struct Prefetch {
    window: usize,
    finished: u32,
    since: Instant,
}

impl Prefetch {
    /// Nothing is known yet, so nothing is claimed ahead.
    pub(super) fn new(now: Instant) -> Self {
        Prefetch { window: 0, finished: 0, since: now }
    }

    /// A job has been finished.
    pub(super) fn count(&mut self) {
        self.finished += 1;
    }

    /// How many jobs may wait for a worker.
    pub(super) fn window(&mut self, now: Instant) -> usize {
        let elapsed = now.saturating_duration_since(self.since);
        if elapsed >= SPAN {
            let speed = f64::from(self.finished) / elapsed.as_secs_f64();
            self.window = ((speed * HORIZON.as_secs_f64()) as usize).min(MOST);
            self.finished = 0;
            self.since = now;
        }
        self.window
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn window_after(finished: u32, elapsed: Duration) -> usize {
        let start = Instant::now();
        let mut prefetch = Prefetch::new(start);
        (0..finished).for_each(|_| prefetch.count());
        prefetch.window(start + elapsed)
    }

    #[test]
    fn slow_functions_are_not_claimed_ahead() {
        assert_eq!(window_after(10, Duration::from_secs(1)), 0);
    }

    #[test]
    fn fast_functions_are_claimed_as_far_ahead_as_they_run_in_the_horizon() {
        assert_eq!(window_after(200, Duration::from_millis(10)), 100);
        assert_eq!(window_after(100_000, Duration::from_millis(10)), MOST);
    }

    #[test]
    fn after_a_pause_nothing_is_claimed_ahead_again() {
        let start = Instant::now();
        let mut prefetch = Prefetch::new(start);
        (0..1000).for_each(|_| prefetch.count());
        assert!(prefetch.window(start + SPAN) > 0);
        assert_eq!(prefetch.window(start + Duration::from_secs(1)), 0);
    }
}
