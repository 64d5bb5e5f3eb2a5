//! When a program that cannot be started may be tried again.

use std::time::{Duration, Instant};

use humantime::format_duration;

/// Counts starts that failed, and says how long to leave a program alone. It never looks at a clock.
#[derive(Debug, Default)]
pub(super) struct BackOff {
    failures: u32,
    refused_until: Option<Instant>,
    reason: String,
}

impl BackOff {
    /// The pause after the second failure in a row.
    const SHORTEST: Duration = Duration::from_millis(100);

    /// No pause is longer.
    const LONGEST: Duration = Duration::from_secs(30);

    /// The program could not be started at `now`. After the first time it may be started again at once.
    pub(super) fn failed(&mut self, now: Instant, reason: String) {
        self.failures = self.failures.saturating_add(1);
        self.refused_until = Some(now + pause_after(self.failures));
        self.reason = reason;
    }

    /// The program was started.
    pub(super) fn succeeded(&mut self) {
        *self = BackOff::default();
    }

    /// Why it must not be started at `now`; `None` when it may.
    pub(super) fn refusal(&self, now: Instant) -> Option<String> {
        let left = self.refused_until?.checked_duration_since(now).filter(|left| !left.is_zero())?;
        // Rounded up, so that who comes again after that time is served.
        let left = Duration::from_millis(left.as_micros().div_ceil(1000) as u64);
        Some(format!("worker cannot be started, it is tried again in {}: {}", format_duration(left), self.reason))
    }
}

fn pause_after(failures: u32) -> Duration {
    match failures {
        0 | 1 => Duration::ZERO,
        _ => BackOff::SHORTEST.saturating_mul(2_u32.saturating_pow(failures - 2)).min(BackOff::LONGEST),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn pauses_double_from_a_tenth_of_a_second_to_half_a_minute() {
        let pauses: Vec<u128> = (0..12).map(|failures| pause_after(failures).as_millis()).collect();
        assert_eq!(pauses, [0, 0, 100, 200, 400, 800, 1600, 3200, 6400, 12800, 25600, 30000]);
        assert_eq!(pause_after(u32::MAX), BackOff::LONGEST);
    }

    #[test]
    fn starts_are_refused_with_the_reason_until_the_pause_is_over() {
        let now = Instant::now();
        let mut back_off = BackOff::default();
        assert_eq!(back_off.refusal(now), None);
        back_off.failed(now, "it died".to_owned());
        assert_eq!(back_off.refusal(now), None);
        back_off.failed(now, "it died".to_owned());
        assert_eq!(back_off.refusal(now).unwrap(), "worker cannot be started, it is tried again in 100ms: it died");
        let almost = now + Duration::from_micros(99_500);
        assert_eq!(back_off.refusal(almost).unwrap(), "worker cannot be started, it is tried again in 1ms: it died");
        assert_eq!(back_off.refusal(now + Duration::from_millis(100)), None);
    }

    #[test]
    fn a_good_start_forgets_all_failures() {
        let now = Instant::now();
        let mut back_off = BackOff::default();
        (0..5).for_each(|_| back_off.failed(now, "it died".to_owned()));
        back_off.succeeded();
        assert_eq!(back_off.refusal(now), None);
        back_off.failed(now, "it died".to_owned());
        assert_eq!(back_off.refusal(now), None);
    }
}
