//! Keeps requests away from a target that fails, so that neither it nor those who wait suffer from it. Pure: `now` is an argument.
//!
//! ```text
//! closed ── too many failures ──► open ── its time is over ──► half open ── the probe succeeds ──► closed
//!                                  ▲                               │
//!                                  └─────── the probe fails ───────┘
//! ```

use std::time::{Duration, Instant};

/// When a breaker opens, and for how long.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct BreakerTerms {
    /// So many failures within the time open it.
    pub failures: u32,
    /// That time.
    pub within: Duration,
    /// It opens only if so many requests ended in that time: of few, one failure is many.
    pub minimum: u32,
    /// And only if at least so many of a hundred failed.
    pub percent: u32,
    /// How long it stays open before it lets a request through to see.
    pub open_for: Duration,
}

impl Default for BreakerTerms {
    fn default() -> Self {
        BreakerTerms {
            failures: 2,
            within: Duration::from_secs(3),
            minimum: 2,
            percent: 50,
            open_for: Duration::from_secs(10),
        }
    }
}

/// The window is moved on in so many steps.
const SLOTS: usize = 10;

/// A breaker.
#[derive(Debug)]
pub(crate) struct Breaker {
    terms: BreakerTerms,
    state: State,
    slots: [Slot; SLOTS],
    /// When the first slot of all began.
    since: Instant,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum State {
    Closed,
    Open {
        until: Instant,
    },
    /// One request was let through.
    HalfOpen {
        since: Instant,
    },
}

/// What ended in a tenth of the window.
#[derive(Debug, Clone, Copy, Default)]
struct Slot {
    /// Which tenth it is, counted from the beginning.
    number: u128,
    ended: u32,
    failed: u32,
}

/// How a breaker stands, for people and metrics.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Stand {
    Closed,
    Open,
    HalfOpen,
}

impl Breaker {
    pub(crate) fn new(terms: BreakerTerms, now: Instant) -> Self {
        Breaker { terms, state: State::Closed, slots: [Slot::default(); SLOTS], since: now }
    }

    /// Whether a request may go to the target now. Who is let through says how it ended.
    pub(crate) fn admit(&mut self, now: Instant) -> bool {
        match self.state {
            State::Closed => true,
            State::Open { until } if now < until => false,
            // A probe of which nobody ever says how it ended must not keep the target away for good.
            State::HalfOpen { since } if now < since + self.terms.open_for => false,
            State::Open { .. } | State::HalfOpen { .. } => {
                self.state = State::HalfOpen { since: now };
                true
            }
        }
    }

    /// Whether [`Breaker::admit`] would let a request through.
    pub(crate) fn would_admit(&self, now: Instant) -> bool {
        match self.state {
            State::Closed => true,
            State::Open { until } => now >= until,
            State::HalfOpen { since } => now >= since + self.terms.open_for,
        }
    }

    /// A request has ended.
    pub(crate) fn ended(&mut self, is_failure: bool, now: Instant) {
        match self.state {
            State::Closed => {
                self.count(is_failure, now);
                if is_failure && self.is_too_much(now) {
                    self.state = State::Open { until: now + self.terms.open_for };
                }
            }
            State::HalfOpen { .. } if is_failure => self.state = State::Open { until: now + self.terms.open_for },
            State::HalfOpen { .. } => {
                self.state = State::Closed;
                self.slots = [Slot::default(); SLOTS];
            }
            // It was sent before it opened.
            State::Open { .. } => {}
        }
    }

    /// How long until the target is tried again.
    pub(crate) fn wait(&self, now: Instant) -> Duration {
        match self.state {
            State::Closed => Duration::ZERO,
            State::Open { until } => until.saturating_duration_since(now),
            State::HalfOpen { since } => (since + self.terms.open_for).saturating_duration_since(now),
        }
    }

    pub(crate) fn stand(&self) -> Stand {
        match self.state {
            State::Closed => Stand::Closed,
            State::Open { .. } => Stand::Open,
            State::HalfOpen { .. } => Stand::HalfOpen,
        }
    }

    fn number(&self, now: Instant) -> u128 {
        let step = (self.terms.within / SLOTS as u32).as_nanos().max(1);
        // The first number is not that of an empty slot.
        now.saturating_duration_since(self.since).as_nanos() / step + 1
    }

    fn count(&mut self, is_failure: bool, now: Instant) {
        let number = self.number(now);
        let slot = &mut self.slots[(number % SLOTS as u128) as usize];
        if slot.number != number {
            *slot = Slot { number, ..Slot::default() };
        }
        slot.ended += 1;
        slot.failed += u32::from(is_failure);
    }

    fn is_too_much(&self, now: Instant) -> bool {
        let number = self.number(now);
        let recent = self.slots.iter().filter(|slot| slot.number + SLOTS as u128 > number);
        let (ended, failed) =
            recent.fold((0_u32, 0_u32), |(ended, failed), slot| (ended + slot.ended, failed + slot.failed));
        failed >= self.terms.failures
            && ended >= self.terms.minimum
            && u64::from(failed) * 100 >= u64::from(self.terms.percent) * u64::from(ended)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const MS: Duration = Duration::from_millis(1);

    fn breaker(terms: BreakerTerms) -> (Breaker, Instant) {
        let now = Instant::now();
        (Breaker::new(terms, now), now)
    }

    #[test]
    fn two_failures_in_three_seconds_open_it_for_ten() {
        let (mut breaker, start) = breaker(BreakerTerms::default());
        breaker.ended(true, start);
        assert_eq!(breaker.stand(), Stand::Closed);
        breaker.ended(true, start + 2000 * MS);
        assert_eq!(breaker.stand(), Stand::Open);
        assert!(!breaker.admit(start + 11_999 * MS));
        assert_eq!(breaker.wait(start + 11_000 * MS), 1000 * MS);
        assert!(breaker.would_admit(start + 12_000 * MS));
    }

    #[test]
    fn failures_that_are_further_apart_leave_it_closed() {
        let (mut breaker, start) = breaker(BreakerTerms::default());
        for number in 0..20 {
            breaker.ended(true, start + number * 3100 * MS);
            assert_eq!(breaker.stand(), Stand::Closed, "{number}");
        }
    }

    #[test]
    fn half_open_lets_one_request_through_and_goes_by_that() {
        let (mut breaker, start) = breaker(BreakerTerms::default());
        breaker.ended(true, start);
        breaker.ended(true, start);
        let later = start + 10_000 * MS;
        assert!(breaker.admit(later) && !breaker.admit(later));
        assert_eq!(breaker.stand(), Stand::HalfOpen);
        breaker.ended(true, later + MS);
        assert!(!breaker.admit(later + 10_000 * MS));
        assert!(breaker.admit(later + 10_001 * MS));
        breaker.ended(false, later + 10_002 * MS);
        assert_eq!(breaker.stand(), Stand::Closed);
        // What failed before is forgotten.
        breaker.ended(true, later + 10_003 * MS);
        assert_eq!(breaker.stand(), Stand::Closed);
    }

    #[test]
    fn a_probe_that_never_ends_is_followed_by_another() {
        let (mut breaker, start) = breaker(BreakerTerms::default());
        breaker.ended(true, start);
        breaker.ended(true, start);
        assert!(breaker.admit(start + 10_000 * MS));
        assert!(!breaker.admit(start + 19_999 * MS) && breaker.admit(start + 20_000 * MS));
    }

    #[test]
    fn a_few_failures_among_many_requests_leave_it_closed() {
        let (mut breaker, start) = breaker(BreakerTerms::default());
        for _ in 0..100 {
            breaker.ended(false, start);
        }
        for _ in 0..99 {
            breaker.ended(true, start + MS);
        }
        assert_eq!(breaker.stand(), Stand::Closed);
        breaker.ended(true, start + MS);
        assert_eq!(breaker.stand(), Stand::Open);
    }

    #[test]
    fn a_sample_that_is_too_small_leaves_it_closed() {
        let (mut breaker, start) = breaker(BreakerTerms { minimum: 5, ..BreakerTerms::default() });
        for _ in 0..4 {
            breaker.ended(true, start);
        }
        assert_eq!(breaker.stand(), Stand::Closed);
        breaker.ended(true, start);
        assert_eq!(breaker.stand(), Stand::Open);
    }
}
