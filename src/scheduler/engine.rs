//! What cron does at a wake-up. Pure: what the clocks show is an argument.

use std::collections::HashMap;
use std::sync::Arc;

use jiff::{SignedDuration, Timestamp};

use super::clocks::{Clocks, Step};
use super::records::EntryMark;
use crate::cron::{Absence, Due, Entry, Plan, missed};

/// So long a mark is kept of an entry that no daemon has read any more, in milliseconds.
const FORGET: u64 = 90 * 24 * 60 * 60 * 1000;

/// The entries and their plan.
pub(super) struct Engine {
    entries: Vec<Arc<Entry>>,
    plan: Plan,
    /// What this daemon is called.
    node: String,
    /// How many runs of an entry are on record.
    keep: usize,
    last: Clocks,
    /// The clock has not been set yet: nothing fires.
    is_unset: bool,
}

/// What a look at the clocks comes to.
pub(super) struct Looked {
    pub(super) due: Vec<Due>,
    pub(super) steps: Vec<Step>,
    /// The clock is right at last, and what was missed has to be looked for.
    pub(super) is_set_at_last: bool,
}

/// What is known of entries when they are read: what was missed, and what is to be noted of them.
pub(super) struct Caught {
    pub(super) due: Vec<Due>,
    pub(super) marks: Vec<(String, EntryMark)>,
    pub(super) gone: Vec<String>,
}

impl Engine {
    pub(super) fn new(entries: Vec<Arc<Entry>>, node: String, keep: usize, now: Clocks) -> Self {
        let plan = Plan::new(&entries, &node, now.wall);
        let mut engine = Engine { entries, plan, node, keep, last: now, is_unset: now.are_unset() };
        engine.replan(now);
        engine
    }

    fn replan(&mut self, now: Clocks) {
        self.last = now;
        self.plan = if self.is_unset { Plan::default() } else { Plan::new(&self.entries, &self.node, now.wall) };
    }

    /// All entries, also those that are for other daemons.
    pub(super) fn entries(&self) -> &[Arc<Entry>] {
        &self.entries
    }

    pub(super) fn is_unset(&self) -> bool {
        self.is_unset
    }

    /// From now on there are these entries.
    pub(super) fn replace(&mut self, entries: Vec<Arc<Entry>>, keep: usize, now: Clocks) {
        (self.entries, self.keep) = (entries, keep);
        self.replan(now);
    }

    /// When to look again.
    pub(super) fn next_wake(&self) -> Option<Timestamp> {
        self.plan.next_wake()
    }

    /// Looks at the clocks.
    pub(super) fn look(&mut self, now: Clocks) -> Looked {
        let before = std::mem::replace(&mut self.last, now);
        let steps = now.steps_since(&before);
        let was_unset = std::mem::replace(&mut self.is_unset, now.are_unset());
        if was_unset || self.is_unset {
            self.replan(now);
            return Looked { due: Vec::new(), steps, is_set_at_last: was_unset && !self.is_unset };
        }
        let is_back = steps.iter().any(|step| matches!(step, Step::Set(by) if by.is_negative()));
        if is_back {
            self.plan.set_back(now.wall, now.expected_since(&before));
        }
        let due = self.plan.take_due(now.wall, leap(&steps), self.keep);
        Looked { due, steps, is_set_at_last: false }
    }

    /// What entries have missed of which `marks` are known.
    pub(super) fn catch_up(&self, marks: &HashMap<String, EntryMark>, now: Timestamp) -> Caught {
        let now_at = u64::try_from(now.as_millisecond()).unwrap_or(0);
        let (mut due, mut noted) = (Vec::new(), Vec::new());
        for entry in self.plan.entries() {
            let schedule = format!("{} {}", entry.text, entry.zone.name);
            let known = marks.get(&entry.name).filter(|mark| mark.schedule == schedule);
            let since = known.map_or(now_at, |mark| mark.since);
            // A mark in the future is from a clock that was wrong.
            let last = known.map_or(now_at, |mark| mark.last.max(mark.since)).min(now_at);
            let from = i64::try_from(last).ok().and_then(|last| Timestamp::from_millisecond(last).ok());
            due.extend(missed(entry, from.unwrap_or(now), now, Absence::Down, self.keep));
            noted.push((entry.name.clone(), EntryMark { schedule, since, seen: now_at, last: 0 }));
        }
        due.sort_by_key(|due| due.firing.at);
        let is_gone = |(name, mark): &(&String, &EntryMark)| {
            mark.seen + FORGET < now_at && !self.entries.iter().any(|entry| entry.name == **name)
        };
        let gone = marks.iter().filter(is_gone).map(|(name, _)| name.clone()).collect();
        Caught { due, marks: noted, gone }
    }

    /// The entries that are to run once after the machine was started.
    pub(super) fn reboots(&self) -> impl Iterator<Item = &Arc<Entry>> {
        self.plan.entries().iter().filter(|entry| entry.schedule.is_reboot() && !entry.policies.is_disabled)
    }
}

/// Over how much the wall clock has leapt forward, as seen by whoever was awake.
fn leap(steps: &[Step]) -> SignedDuration {
    let of = |step: &Step| match step {
        Step::Set(by) => *by,
        Step::Slept(length) => SignedDuration::try_from(*length).unwrap_or(SignedDuration::MAX),
    };
    steps.iter().map(of).fold(SignedDuration::ZERO, SignedDuration::saturating_add)
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::*;
    use crate::cron::{Decision, Reading, Table};

    fn entries(text: &str) -> Vec<Arc<Entry>> {
        let table = Table::read(text, &Reading { host: "web-1", ..Reading::default() });
        table.entries.into_iter().map(Arc::new).collect()
    }

    /// The clocks where `wall` is shown `passed` seconds after the machine was started.
    fn at(wall: &str, passed: u64) -> Clocks {
        let passed = Duration::from_secs(passed);
        Clocks { wall: wall.parse().expect("it is a moment"), boot: passed, awake: passed }
    }

    fn engine(text: &str, now: Clocks) -> Engine {
        Engine::new(entries(text), "web-1".to_owned(), 100, now)
    }

    fn decisions(due: &[Due]) -> Vec<Decision> {
        due.iter().map(|due| due.decision).collect()
    }

    const HOURLY: &str = "#: name=a tz=UTC\n0 * * * * a\n";

    #[test]
    fn a_clock_that_is_set_forward_over_an_instant_misses_it() {
        let mut engine = engine(HOURLY, at("2026-11-20T09:30:00Z", 100));
        let looked = engine.look(at("2026-11-20T11:30:00Z", 160));
        assert_eq!(looked.steps.len(), 1);
        assert_eq!(decisions(&looked.due), [Decision::Miss, Decision::Miss]);
        assert_eq!(engine.next_wake(), Some("2026-11-20T12:00:00Z".parse().expect("a moment")));
    }

    #[test]
    fn a_machine_that_slept_misses_or_catches_up_by_policy() {
        let mut engine = engine("#: name=a tz=UTC catchup=once\n0 * * * * a\n", at("2026-11-20T09:30:00Z", 100));
        let now = Clocks { awake: Duration::from_secs(101), ..at("2026-11-20T11:30:00Z", 7300) };
        let looked = engine.look(now);
        assert!(matches!(looked.steps[..], [Step::Slept(_)]), "{:?}", looked.steps);
        assert_eq!(decisions(&looked.due), [Decision::Miss, Decision::CatchUp]);
    }

    #[test]
    fn a_short_leap_is_made_up_for_as_cron_does_whether_the_clock_was_set_or_the_machine_slept() {
        let fixed = "#: name=a tz=UTC\n15 10 * * * a\n";
        let mut engine = engine(fixed, at("2026-11-20T10:14:12Z", 100));
        assert_eq!(decisions(&engine.look(at("2026-11-20T10:17:12Z", 100)).due), [Decision::CatchUp]);
        let slept = |fixed: &str, hours: u64| {
            let mut engine = self::engine(fixed, at("2026-11-20T09:00:00Z", 100));
            let wall = format!("2026-11-20T{:02}:00:01Z", 9 + hours);
            let now = Clocks { awake: Duration::from_secs(101), ..at(&wall, 101 + hours * 3600) };
            decisions(&engine.look(now).due)
        };
        assert_eq!(slept(fixed, 2), [Decision::CatchUp]);
        assert_eq!(slept(fixed, 3), [Decision::Miss]);
        assert_eq!(slept("#: name=a tz=UTC\n15 * * * * a\n", 2), [Decision::Miss; 2]);
        // A daemon that was stopped and goes on is one that was held up.
        let mut engine = self::engine(fixed, at("2026-11-20T09:00:00Z", 100));
        assert_eq!(decisions(&engine.look(at("2026-11-20T11:00:00Z", 7300)).due), [Decision::CatchUp]);
    }

    #[test]
    fn a_clock_that_is_set_back_goes_on_from_there() {
        let mut engine = engine("#: name=a tz=UTC\n*/30 * * * * a\n", at("2026-11-20T09:50:00Z", 100));
        assert_eq!(engine.look(at("2026-11-20T10:00:00Z", 700)).due.len(), 1);
        let looked = engine.look(at("2026-11-20T09:10:00Z", 710));
        assert!(looked.due.is_empty());
        assert_eq!(engine.next_wake(), Some("2026-11-20T09:30:00Z".parse().expect("a moment")));
        let again = engine.look(at("2026-11-20T10:00:00Z", 3710)).due;
        assert!(again.iter().all(|due| due.is_repeated), "{again:?}");
    }

    #[test]
    fn nothing_fires_until_a_machine_that_woke_up_in_1970_knows_the_time() {
        let mut engine = engine("#: name=a tz=UTC\n* * * * * a\n", at("1970-01-01T00:00:10Z", 10));
        assert!(engine.is_unset() && engine.next_wake().is_none());
        assert!(engine.look(at("1970-01-01T00:05:00Z", 300)).due.is_empty());
        let looked = engine.look(at("2026-11-20T10:00:30Z", 310));
        assert!(looked.is_set_at_last && looked.due.is_empty());
        assert_eq!(engine.next_wake(), Some("2026-11-20T10:01:00Z".parse().expect("a moment")));
    }

    #[test]
    fn what_was_missed_is_found_from_the_marks_and_a_new_entry_has_missed_nothing() {
        let engine = engine(HOURLY, at("2026-11-20T09:30:00Z", 100));
        let now: Timestamp = "2026-11-20T09:30:00Z".parse().expect("a moment");
        assert!(engine.catch_up(&HashMap::new(), now).due.is_empty());
        let since: Timestamp = "2026-11-20T07:00:00Z".parse().expect("a moment");
        let last = u64::try_from(since.as_millisecond()).expect("it is after 1970");
        let mark = EntryMark { schedule: "0 * * * * UTC".to_owned(), since: last - 1, seen: last, last };
        let caught = engine.catch_up(&HashMap::from([("a".to_owned(), mark.clone())]), now);
        assert_eq!(decisions(&caught.due), [Decision::Miss, Decision::Miss]);
        assert_eq!((caught.marks[0].1.since, caught.marks[0].0.as_str()), (last - 1, "a"));
        // With another schedule it is a new one.
        let other = EntryMark { schedule: "5 * * * * UTC".to_owned(), ..mark.clone() };
        assert!(engine.catch_up(&HashMap::from([("a".to_owned(), other)]), now).due.is_empty());
        let old = EntryMark { seen: 1, ..mark };
        assert_eq!(engine.catch_up(&HashMap::from([("b".to_owned(), old)]), now).gone, ["b"]);
    }
}
