//! Whether the clock was set, or the machine slept. Pure: what the clocks show is an argument.

use std::time::Duration;

use jiff::{SignedDuration, Timestamp};
use rustix::time::{ClockId, clock_gettime};

/// What the three clocks of the machine show.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Clocks {
    /// The time of day, which can be set.
    pub(super) wall: Timestamp,
    /// The time since the machine was started.
    pub(super) boot: Duration,
    /// The same without the time in which it slept.
    pub(super) awake: Duration,
}

/// Something about the time that is worth a line.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Step {
    /// The clock was set by so much, back if it is negative.
    Set(SignedDuration),
    /// The machine slept for so long.
    Slept(Duration),
}

/// What is less comes from corrections that go on all the time.
const LEAST: SignedDuration = SignedDuration::from_secs(1);

/// No clock that is right shows a time before this: 1 January 2025.
const EARLIEST: i64 = 1_735_689_600;

impl Clocks {
    /// What they show now.
    pub(super) fn now() -> Self {
        let read = |clock| {
            let time = clock_gettime(clock);
            Duration::new(u64::try_from(time.tv_sec).unwrap_or(0), u32::try_from(time.tv_nsec).unwrap_or(0))
        };
        Clocks { wall: Timestamp::now(), boot: read(ClockId::Boottime), awake: read(ClockId::Monotonic) }
    }

    /// Whether the clock has not been set since a start without a battery.
    pub(super) fn are_unset(&self) -> bool {
        self.wall.as_second() < EARLIEST
    }

    /// The time that the wall clock would show if nobody had touched it since `before`.
    pub(super) fn expected_since(&self, before: &Clocks) -> Timestamp {
        let passed = self.boot.saturating_sub(before.boot);
        before.wall.saturating_add(passed).unwrap_or(Timestamp::MAX)
    }

    /// What happened since `before`.
    pub(super) fn steps_since(&self, before: &Clocks) -> Vec<Step> {
        let set = self.wall.duration_since(self.expected_since(before));
        let slept = self.boot.saturating_sub(before.boot).saturating_sub(self.awake.saturating_sub(before.awake));
        let set = (set.abs() >= LEAST).then_some(Step::Set(set));
        let slept = (slept >= LEAST.unsigned_abs()).then_some(Step::Slept(slept));
        slept.into_iter().chain(set).collect()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn clocks(wall: i64, boot: u64, awake: u64) -> Clocks {
        let [boot, awake] = [boot, awake].map(Duration::from_secs);
        Clocks { wall: Timestamp::from_second(wall).expect("it is a moment"), boot, awake }
    }

    #[test]
    fn steps_and_sleep_are_told_apart() {
        let before = clocks(1_800_000_000, 1000, 900);
        let steps = |now: Clocks| now.steps_since(&before);
        assert_eq!(steps(clocks(1_800_000_060, 1060, 960)), []);
        assert_eq!(steps(clocks(1_800_003_660, 1060, 960)), [Step::Set(SignedDuration::from_hours(1))]);
        assert_eq!(steps(clocks(1_799_996_460, 1060, 960)), [Step::Set(SignedDuration::from_hours(-1))]);
        assert_eq!(steps(clocks(1_800_003_600, 4600, 960)), [Step::Slept(Duration::from_secs(3540))]);
    }

    #[test]
    fn a_machine_without_a_battery_wakes_up_in_1970() {
        assert!(clocks(17, 17, 17).are_unset());
        assert!(!clocks(1_800_000_000, 17, 17).are_unset());
    }
}
