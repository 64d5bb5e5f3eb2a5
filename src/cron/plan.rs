//! What is due when, over all entries. Pure: `now` is an argument.

use std::cmp::Reverse;
use std::collections::BinaryHeap;
use std::sync::Arc;

use jiff::tz::TimeZone;
use jiff::{SignedDuration, Timestamp};

use super::policies::Catchup;
use super::schedule::{Firing, Schedule};
use super::table::Entry;

/// What comes no later than this after its time is not missed: a restart takes less.
const GRACE: SignedDuration = SignedDuration::from_secs(60);

/// A leap of the clock, or a sleep, that is shorter is one that cron makes up for altogether (`cron.c`: five minutes, woken up late).
const SHORT_LEAP: SignedDuration = SignedDuration::from_mins(5);

/// For one that is shorter it makes up for all that goes by the time of the day, as in the night in which the clock goes forward
/// (`cron.c`: three hours).
const LONG_LEAP: SignedDuration = SignedDuration::from_hours(3);

/// So many firings are counted one by one; of more than that only the last ones are looked at.
const MOST_COUNTED: usize = 1000;

/// The next firing of each entry, the nearest first.
#[derive(Debug, Default)]
pub struct Plan {
    entries: Vec<Arc<Entry>>,
    next: Vec<Option<Firing>>,
    heap: BinaryHeap<Reverse<(Timestamp, usize)>>,
    /// Up to this moment the clock shows for the second time what it has shown before.
    repeats_until: Option<Timestamp>,
}

/// One firing whose time has come.
#[derive(Debug, Clone, PartialEq)]
pub struct Due {
    /// Of this entry.
    pub entry: Arc<Entry>,
    /// When it was to be.
    pub firing: Firing,
    /// What to do.
    pub decision: Decision,
    /// Whether the clock was set back and this is the second time.
    pub is_repeated: bool,
    /// Whether it is one of several of its entry that start at this moment: they run one after the other.
    pub in_turn: bool,
}

/// Why nobody has looked until now.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Absence {
    /// No daemon was there.
    Down,
    /// The clock leapt over so much, or the machine slept.
    Leap(SignedDuration),
}

/// What to do with a firing.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Decision {
    /// It runs.
    Run,
    /// It runs late, for itself or for all that were missed.
    CatchUp,
    /// It was missed.
    Miss,
    /// Its entry is disabled.
    Disabled,
}

impl Plan {
    /// Plans all `entries` from `now` on; those in `nodes` of other daemons than `node` are left out.
    pub fn new(entries: &[Arc<Entry>], node: &str, now: Timestamp) -> Self {
        let is_ours = |entry: &&Arc<Entry>| match &entry.policies.nodes {
            Some(nodes) => nodes.iter().any(|name| name == node),
            None => true,
        };
        let entries: Vec<Arc<Entry>> = entries.iter().filter(is_ours).cloned().collect();
        let mut plan = Plan { entries, ..Plan::default() };
        plan.start_from(now);
        plan
    }

    /// The entries of this plan.
    pub fn entries(&self) -> &[Arc<Entry>] {
        &self.entries
    }

    fn start_from(&mut self, now: Timestamp) {
        self.heap.clear();
        // What was due and has yet to wait for its jitter counts.
        let from = |entry: &Entry| now.saturating_sub(entry.delay).unwrap_or(now);
        self.next = self.entries.iter().map(|entry| entry.schedule.next(from(entry), entry.zone())).collect();
        for index in 0..self.entries.len() {
            self.push(index);
        }
    }

    fn push(&mut self, index: usize) {
        if let Some(firing) = &self.next[index] {
            self.heap.push(Reverse((starts_at(&self.entries[index], firing), index)));
        }
    }

    /// When something is due.
    pub fn next_wake(&self) -> Option<Timestamp> {
        self.heap.peek().map(|Reverse((at, _))| *at)
    }

    /// The clock was set back to `now`: everything is planned anew from there. What goes by real time fires again.
    pub fn set_back(&mut self, now: Timestamp, from: Timestamp) {
        self.repeats_until = self.repeats_until.max(Some(from));
        self.start_from(now);
    }

    /// Takes out what is due at `now`, by its time, and plans what follows. The clock has leapt forward by `leap` since what was due
    /// before. Of one entry no more than `keep` are given.
    pub fn take_due(&mut self, now: Timestamp, leap: SignedDuration, keep: usize) -> Vec<Due> {
        let held_up = self.next_wake().map_or(SignedDuration::ZERO, |wake| now.duration_since(wake));
        let absence = Absence::Leap(leap.max(held_up));
        let mut due = Vec::new();
        while let Some(Reverse((at, index))) = self.heap.peek().copied()
            && at <= now
        {
            self.heap.pop();
            let entry = Arc::clone(&self.entries[index]);
            let Some(first) = self.next[index].take() else { continue };
            let passed = Passed::up_to(&entry, first, now, keep);
            self.next[index] = passed.next;
            self.push(index);
            let repeats_until = self.repeats_until;
            let is_repeated = |firing: &Firing| {
                entry.schedule.is_by_real_time() && repeats_until.is_some_and(|until| firing.at <= until)
            };
            due.extend(judge(&entry, passed.firings, now, absence, is_repeated));
        }
        due.sort_by_key(|due| due.firing.at);
        due
    }
}

/// What of `entry` was due after `since` and before `now`, while nobody looked, and what to do with it. No more than the last
/// `keep` are given.
pub fn missed(entry: &Arc<Entry>, since: Timestamp, now: Timestamp, absence: Absence, keep: usize) -> Vec<Due> {
    let Some(first) = entry.schedule.next(since, entry.zone()) else { return Vec::new() };
    if starts_at(entry, &first) > now {
        return Vec::new();
    }
    judge(entry, Passed::up_to(entry, first, now, keep).firings, now, absence, |_| false)
}

/// When a firing is to start: its time, and what its entry always waits after that.
fn starts_at(entry: &Entry, firing: &Firing) -> Timestamp {
    firing.at.saturating_add(entry.delay).unwrap_or(Timestamp::MAX)
}

/// The firings of one entry whose time has passed.
struct Passed {
    firings: Vec<Firing>,
    next: Option<Firing>,
}

impl Passed {
    fn up_to(entry: &Entry, first: Firing, now: Timestamp, keep: usize) -> Self {
        let (schedule, zone) = (&entry.schedule, entry.zone());
        let keep = keep.max(1);
        let (mut firings, mut next) = (vec![first], schedule.follow(&first, zone));
        while let Some(firing) = next.filter(|firing| starts_at(entry, firing) <= now) {
            firings.push(firing);
            next = schedule.follow(&firing, zone);
            if firings.len() == MOST_COUNTED {
                next = near_the_end(schedule, zone, &firings, now, keep).or(next);
                firings.clear();
            }
        }
        let excess = firings.len().saturating_sub(keep);
        firings.drain(..excess);
        Passed { firings, next }
    }
}

/// A firing so near to `now` that about twice `keep` follow, if they are as dense as those `counted`.
fn near_the_end(
    schedule: &Schedule,
    zone: &TimeZone,
    counted: &[Firing],
    now: Timestamp,
    keep: usize,
) -> Option<Firing> {
    let (first, last) = (counted.first()?, counted.last()?);
    let each = last.at.duration_since(first.at).checked_div(counted.len() as i32 - 1)?;
    let back = each.checked_mul(2 * keep.min(MOST_COUNTED / 4) as i32)?;
    let from = now.checked_sub(back).ok().filter(|from| *from > last.at)?;
    schedule.next(from, zone)
}

/// What to do with firings of one entry whose time has passed, in their order.
fn judge(
    entry: &Arc<Entry>,
    firings: Vec<Firing>,
    now: Timestamp,
    absence: Absence,
    is_repeated: impl Fn(&Firing) -> bool,
) -> Vec<Due> {
    let late = |firing: &Firing| now.duration_since(starts_at(entry, firing));
    let last = firings.len().saturating_sub(1);
    let decide = |(index, firing): (usize, Firing)| {
        let late = late(&firing);
        let decision = match entry.policies.catchup.unwrap_or_default() {
            _ if entry.policies.is_disabled => Decision::Disabled,
            _ if late <= GRACE => Decision::Run,
            Catchup::Cron if does_cron_run(entry, absence) => Decision::CatchUp,
            Catchup::Skip | Catchup::Cron => Decision::Miss,
            Catchup::All => Decision::CatchUp,
            Catchup::Once if index == last => Decision::CatchUp,
            Catchup::Within(limit)
                if index == last && late <= SignedDuration::try_from(limit).unwrap_or(SignedDuration::MAX) =>
            {
                Decision::CatchUp
            }
            Catchup::Once | Catchup::Within(_) => Decision::Miss,
        };
        Due { entry: Arc::clone(entry), is_repeated: is_repeated(&firing), firing, decision, in_turn: false }
    };
    let mut all: Vec<Due> = firings.into_iter().enumerate().map(decide).collect();
    let starts = |due: &Due| matches!(due.decision, Decision::Run | Decision::CatchUp);
    let in_turn = all.iter().filter(|due| starts(due)).count() > 1;
    all.iter_mut().for_each(|due| due.in_turn = in_turn);
    all
}

/// Whether cron runs what of `entry` was left out.
fn does_cron_run(entry: &Entry, absence: Absence) -> bool {
    match absence {
        Absence::Down => false,
        Absence::Leap(leap) => leap < SHORT_LEAP || (leap < LONG_LEAP && !entry.schedule.is_by_real_time()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::cron::{Reading, Table};

    fn entries(text: &str) -> Vec<Arc<Entry>> {
        let table = Table::read(text, &Reading { host: "web-1", ..Reading::default() });
        table.entries.into_iter().map(Arc::new).collect()
    }

    fn moment(text: &str) -> Timestamp {
        text.parse().expect("it is a moment")
    }

    fn plan(text: &str, now: &str) -> Plan {
        Plan::new(&entries(text), "web-1", moment(now))
    }

    /// Names, minutes of the hour and decisions of what is due.
    fn shown(due: &[Due]) -> Vec<(String, String, Decision)> {
        let one = |due: &Due| (due.entry.name.clone(), due.firing.at.to_string(), due.decision);
        due.iter().map(one).collect()
    }

    const NO_LEAP: SignedDuration = SignedDuration::ZERO;

    const UTC: &str = "CRON_TZ=UTC\n";

    #[test]
    fn each_wake_up_is_for_the_next_instant_and_gives_all_that_is_due_then() {
        let text = format!("{UTC}#: name=five\n*/5 * * * * a\n#: name=ten\n*/10 * * * * b\n#: name=day\n@daily c\n");
        let mut plan = plan(&text, "2026-11-20T10:01:00Z");
        let wake = plan.next_wake().expect("something is due");
        assert_eq!(wake, moment("2026-11-20T10:05:00Z"));
        assert!(plan.take_due(moment("2026-11-20T10:04:59.999Z"), NO_LEAP, 100).is_empty());
        let due = plan.take_due(wake, NO_LEAP, 100);
        assert_eq!(shown(&due), [("five".to_owned(), "2026-11-20T10:05:00Z".to_owned(), Decision::Run)]);
        let wake = plan.next_wake().expect("something is due");
        let names: Vec<String> = plan.take_due(wake, NO_LEAP, 100).iter().map(|due| due.entry.name.clone()).collect();
        assert_eq!(names, ["five", "ten"]);
    }

    #[test]
    fn what_is_not_for_this_daemon_is_not_planned() {
        let text =
            format!("{UTC}#: name=here nodes=web-1,web-2\n* * * * * a\n#: name=there nodes=web-2\n* * * * * b\n");
        let plan = plan(&text, "2026-11-20T10:00:00Z");
        assert_eq!(plan.entries().len(), 1);
        assert_eq!(plan.entries()[0].name, "here");
    }

    #[test]
    fn a_late_wake_up_within_a_minute_runs_what_was_due() {
        let mut plan = plan(&format!("{UTC}#: name=a\n0 10 * * * a"), "2026-11-20T09:59:00Z");
        assert_eq!(plan.take_due(moment("2026-11-20T10:01:00Z"), NO_LEAP, 100)[0].decision, Decision::Run);
    }

    #[test]
    fn what_was_slept_through_is_handled_by_its_policy() {
        let text = format!(
            "{UTC}#: name=skip\n0 * * * * a\n#: name=once catchup=once\n0 * * * * b\n#: name=all catchup=all\n0 * * * * c\n\
             #: name=near catchup=within=45m\n0 * * * * d\n#: name=far catchup=within=15m\n0 * * * * e\n\
             #: name=off disabled\n0 * * * * f\n"
        );
        let mut plan = plan(&text, "2026-11-20T09:59:00Z");
        let due = plan.take_due(moment("2026-11-20T11:30:00Z"), NO_LEAP, 100);
        let of = |name: &str| -> Vec<Decision> {
            due.iter().filter(|due| due.entry.name == name).map(|due| due.decision).collect()
        };
        use Decision::{CatchUp, Disabled, Miss};
        assert_eq!(of("skip"), [Miss, Miss]);
        assert_eq!(of("once"), [Miss, CatchUp]);
        assert_eq!(of("all"), [CatchUp, CatchUp]);
        assert_eq!(of("near"), [Miss, CatchUp]);
        assert_eq!(of("far"), [Miss, Miss]);
        assert_eq!(of("off"), [Disabled, Disabled]);
        let in_turn: Vec<&str> = due.iter().filter(|due| due.in_turn).map(|due| due.entry.name.as_str()).collect();
        assert_eq!(in_turn, ["all", "all"]);
        assert_eq!(plan.next_wake(), Some(moment("2026-11-20T12:00:00Z")));
    }

    #[test]
    fn a_short_leap_of_the_clock_is_made_up_for_as_cron_does() {
        let text =
            format!("{UTC}#: name=fixed\n*/1 12 * * * a\n#: name=star\n* * * * * b\n#: name=every\n@every 1m c\n");
        let text = text.replace("*/1 12", "1,2,3,4,59 12,13,14");
        let made_up = |minutes: i64| -> Vec<(String, usize)> {
            let from = moment("2026-11-20T12:00:30Z");
            let mut plan = Plan::new(&entries(&text), "web-1", from);
            let leap = SignedDuration::from_mins(minutes);
            let due = plan.take_due(from.checked_add(leap).expect("a moment"), leap, 1000);
            let of = |name: &str| {
                due.iter().filter(|due| due.entry.name == name && due.decision == Decision::CatchUp).count()
            };
            ["fixed", "star", "every"].map(|name| (name.to_owned(), of(name))).into()
        };
        let expect = |counts: [usize; 3]| -> Vec<(String, usize)> {
            ["fixed", "star", "every"].into_iter().map(str::to_owned).zip(counts).collect()
        };
        assert_eq!(made_up(4), expect([3, 3, 3]));
        assert_eq!(made_up(5), expect([4, 0, 0]));
        assert_eq!(made_up(179), expect([14, 0, 0]));
        assert_eq!(made_up(180), expect([0, 0, 0]));
    }

    #[test]
    fn what_was_missed_while_nobody_was_there_is_found_from_the_last_run() {
        let all = entries(&format!("{UTC}#: name=a catchup=once\n0 2 * * * a"));
        let found = missed(&all[0], moment("2026-11-17T02:00:00Z"), moment("2026-11-20T10:00:00Z"), Absence::Down, 100);
        let days: Vec<(i8, Decision)> = found.iter().map(|due| (due.firing.local.day(), due.decision)).collect();
        assert_eq!(days, [(18, Decision::Miss), (19, Decision::Miss), (20, Decision::CatchUp)]);
        assert!(
            missed(&all[0], moment("2026-11-20T02:00:00Z"), moment("2026-11-20T10:00:00Z"), Absence::Down, 100)
                .is_empty()
        );
    }

    #[test]
    fn of_a_long_absence_only_the_last_are_looked_at() {
        let all = entries(&format!("{UTC}#: name=a\n* * * * * a"));
        let (since, now) = (moment("2020-01-01T00:00:00Z"), moment("2026-11-20T10:00:30Z"));
        let found = missed(&all[0], since, now, Absence::Down, 100);
        assert_eq!(found.len(), 100);
        assert_eq!(found[0].firing.at, moment("2026-11-20T08:21:00Z"));
        assert_eq!((found[98].decision, found[99].decision), (Decision::Miss, Decision::Run));
    }

    #[test]
    fn a_clock_that_is_set_back_repeats_only_what_goes_by_real_time() {
        let text = format!("{UTC}#: name=star\n*/30 * * * * a\n#: name=fixed\n0 10 * * * b\n");
        let mut plan = plan(&text, "2026-11-20T09:50:00Z");
        let now = moment("2026-11-20T10:10:00Z");
        assert_eq!(plan.take_due(now, NO_LEAP, 100).len(), 2);
        plan.set_back(moment("2026-11-20T09:50:00Z"), now);
        let due = plan.take_due(moment("2026-11-20T10:00:00Z"), NO_LEAP, 100);
        let repeated: Vec<(&str, bool)> = due.iter().map(|due| (&*due.entry.name, due.is_repeated)).collect();
        assert_eq!(repeated, [("star", true), ("fixed", false)]);
        let due = plan.take_due(moment("2026-11-20T10:30:00Z"), NO_LEAP, 100);
        assert_eq!((due.len(), due[0].is_repeated), (1, false));
    }

    #[test]
    fn jitter_makes_an_entry_start_later_by_the_same_time_each_day() {
        let all = entries(&format!("{UTC}#: name=a jitter=10m\n0 2 * * * a"));
        let mut plan = Plan::new(&all, "web-1", moment("2026-11-20T00:00:00Z"));
        let first = plan.next_wake().expect("it is due");
        let late = first.duration_since(moment("2026-11-20T02:00:00Z"));
        assert!(late > SignedDuration::ZERO && late < SignedDuration::from_mins(10), "{late}");
        assert_eq!(plan.take_due(first, NO_LEAP, 100)[0].firing.at, moment("2026-11-20T02:00:00Z"));
        assert_eq!(plan.next_wake(), first.checked_add(SignedDuration::from_hours(24)).ok());
    }
}
