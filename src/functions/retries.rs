//! How a call that failed is tried again. Pure: `now` and chance are arguments.

use std::time::Duration;

/// What holds for trying again: how often, after which pauses, and for how long at all.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Retries {
    /// How often a failed call runs again, where its request does not say.
    pub count: u32,
    /// About how long the first pause is; each is twice as long as the one before it.
    pub backoff: Duration,
    /// No pause is longer.
    pub max_backoff: Duration,
    /// Nothing is tried again later than this after the first run began.
    pub retry_for: Duration,
}

impl Retries {
    /// The most that a function or a request can ask for.
    pub const MOST: u32 = 1000;

    /// The pause after the run number `attempt`, the first being 1: doubled from one to the next, half of it by `chance`,
    /// so that what failed together does not come again together.
    pub(crate) fn pause(&self, attempt: u32, chance: u64) -> Duration {
        let doubled = 1u32.checked_shl(attempt.saturating_sub(1)).unwrap_or(u32::MAX);
        let whole = self.backoff.saturating_mul(doubled).min(self.max_backoff);
        let half = whole / 2;
        half + half.mul_f64(chance as f64 / u64::MAX as f64)
    }
}

/// None, and reasonable pauses for requests that ask for some.
impl Default for Retries {
    fn default() -> Self {
        Retries {
            count: 0,
            backoff: Duration::from_secs(1),
            max_backoff: Duration::from_mins(10),
            retry_for: Duration::from_hours(24),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn pauses_double_up_to_the_longest_and_half_of_each_is_chance() {
        let retries = Retries { max_backoff: Duration::from_secs(5), ..Retries::default() };
        let longest: Vec<u64> = (1..=5).map(|attempt| retries.pause(attempt, u64::MAX).as_millis() as u64).collect();
        assert_eq!(longest, [1000, 2000, 4000, 5000, 5000]);
        assert_eq!(retries.pause(1, 0), Duration::from_millis(500));
        assert_eq!(retries.pause(u32::MAX, u64::MAX), Duration::from_secs(5));
    }
}
