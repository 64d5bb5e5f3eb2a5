//! Debian's cron as its source has it (`cron.c` of 3.0pl1), to compare with: a virtual clock of local minutes that follows the
//! real one, and a rule for each way in which the two can part.

use std::collections::BTreeSet;
use std::sync::Arc;

use jiff::tz::TimeZone;
use jiff::{SignedDuration, Timestamp};
use proptest::prelude::*;

use super::plan::{Decision, Plan};
use super::schedule::Schedule;
use super::table::{Reading, Table};

/// One field: how it is written, and what it matches.
#[derive(Debug, Clone)]
struct Field {
    text: String,
    values: BTreeSet<i64>,
}

impl Field {
    fn begins_with_star(&self) -> bool {
        self.text.starts_with('*')
    }

    fn matches(&self, value: i64) -> bool {
        self.values.contains(&value)
    }
}

#[derive(Debug, Clone)]
struct Entry {
    minute: Field,
    hour: Field,
    day: Field,
    month: Field,
    weekday: Field,
}

impl Entry {
    fn text(&self) -> String {
        [&self.minute, &self.hour, &self.day, &self.month, &self.weekday].map(|field| field.text.as_str()).join(" ")
    }

    /// `MIN_STAR` or `HR_STAR`.
    fn is_wild(&self) -> bool {
        self.minute.begins_with_star() || self.hour.begins_with_star()
    }

    /// Whether it matches a number of local minutes since 1970.
    fn matches(&self, minutes: i64) -> bool {
        let local = Timestamp::from_second(minutes * 60).expect("it is a moment").to_zoned(TimeZone::UTC);
        let day = self.day.matches(local.day().into());
        let weekday = self.weekday.matches(local.weekday().to_sunday_zero_offset().into());
        let is_both = self.day.begins_with_star() || self.weekday.begins_with_star();
        self.minute.matches(local.minute().into())
            && self.hour.matches(local.hour().into())
            && self.month.matches(local.month().into())
            && if is_both { day && weekday } else { day || weekday }
    }
}

/// A leap of the clock: it shows the time `at`, and then so much more.
type Leap = (Timestamp, SignedDuration);

/// The moments at which Debian's cron, started at `from`, would run `entry` before `to`.
fn debian(entry: &Entry, zone: &TimeZone, from: Timestamp, to: Timestamp) -> Vec<Timestamp> {
    debian_with(entry, zone, from, to, None).into_iter().map(|(at, _)| at).collect()
}

/// The same where the clock may leap, each with the local minute that it is for.
fn debian_with(
    entry: &Entry,
    zone: &TimeZone,
    from: Timestamp,
    to: Timestamp,
    mut leap: Option<Leap>,
) -> Vec<(Timestamp, i64)> {
    let minutes = |at: Timestamp| (at.as_second() + i64::from(zone.to_offset(at).seconds())).div_euclid(60);
    let mut found = Vec::new();
    let mut find = |at: Timestamp, minutes: i64, does_wild: bool, does_fixed: bool| {
        if entry.matches(minutes) && if entry.is_wild() { does_wild } else { does_fixed } {
            found.push((at, minutes));
        }
    };
    let mut virtual_time = minutes(from);
    let mut now = from;
    loop {
        now = now.checked_add(SignedDuration::from_mins(1)).expect("it is a moment");
        if let Some((_, by)) = leap.take_if(|(at, _)| now > *at) {
            now = now.checked_add(by).expect("it is a moment");
        }
        if now >= to {
            return found;
        }
        let running = minutes(now);
        match running - virtual_time {
            1 => {
                virtual_time = running;
                find(now, virtual_time, true, true);
            }
            // It went back, or has not caught up yet.
            difference if difference > -180 && difference <= 0 => find(now, running, true, false),
            // It woke up late.
            difference if (1..=5).contains(&difference) => {
                while virtual_time < running {
                    virtual_time += 1;
                    find(now, virtual_time, true, true);
                }
            }
            difference if (1..=180).contains(&difference) => {
                find(now, running, true, false);
                while virtual_time < running {
                    virtual_time += 1;
                    find(now, virtual_time, false, true);
                }
            }
            _ => {
                virtual_time = running;
                find(now, running, true, true);
            }
        }
    }
}

/// The same by our own schedule.
fn ours(entry: &Entry, zone: &TimeZone, from: Timestamp, to: Timestamp) -> Vec<Timestamp> {
    let schedule = Schedule::read(&entry.text(), 0).expect("it is a schedule");
    let all = std::iter::successors(schedule.next(from, zone), |last| schedule.follow(last, zone));
    all.map(|firing| firing.at).take_while(|at| *at < to).collect()
}

/// The minutes for which our own plan lets `entry` run where the clock leaps.
fn planned(entry: &Entry, from: Timestamp, to: Timestamp, (at, by): Leap) -> Vec<i64> {
    let text = format!("CRON_TZ=UTC\n{} true\n", entry.text());
    let entries: Vec<Arc<_>> = Table::read(text, &Reading::default()).entries.into_iter().map(Arc::new).collect();
    let mut plan = Plan::new(&entries, "", from);
    let mut due = Vec::new();
    while let Some(wake) = plan.next_wake().filter(|wake| *wake <= at) {
        due.extend(plan.take_due(wake, SignedDuration::ZERO, usize::MAX));
    }
    due.extend(plan.take_due(at.checked_add(by).expect("it is a moment"), by, usize::MAX));
    while let Some(wake) = plan.next_wake().filter(|wake| *wake < to) {
        due.extend(plan.take_due(wake, SignedDuration::ZERO, usize::MAX));
    }
    due.retain(|due| matches!(due.decision, Decision::Run | Decision::CatchUp));
    due.iter().map(|due| due.firing.at.as_second().div_euclid(60)).collect()
}

fn field(least: i64, most: i64) -> impl Strategy<Value = Field> {
    let all = move |step: i64| -> BTreeSet<i64> { (least..=most).step_by(step as usize).collect() };
    let one_or_more = prop::collection::btree_set(least..=most, 1..4).prop_map(|values| {
        let text = values.iter().map(i64::to_string).collect::<Vec<_>>().join(",");
        Field { text, values }
    });
    let range = (least..=most, least..=most, 1..=20_i64).prop_map(|(a, b, step)| {
        let (from, to) = (a.min(b), a.max(b));
        let text = if step == 1 { format!("{from}-{to}") } else { format!("{from}-{to}/{step}") };
        Field { text, values: (from..=to).step_by(step as usize).collect() }
    });
    prop_oneof![
        2 => Just(Field { text: "*".to_owned(), values: all(1) }),
        1 => (2..=most).prop_map(move |step| Field { text: format!("*/{step}"), values: all(step) }),
        4 => one_or_more,
        2 => range,
    ]
}

/// Mostly entries that fire on the days around a change: with any day, and hours of the night.
fn entry() -> impl Strategy<Value = Entry> {
    let any = |least: i64, most: i64| Just(Field { text: "*".to_owned(), values: (least..=most).collect() });
    let of_night = (0..=4_i64).prop_map(|hour| Field { text: hour.to_string(), values: BTreeSet::from([hour]) });
    let hour = prop_oneof![1 => field(0, 23), 1 => of_night];
    let day = prop_oneof![3 => any(1, 31).boxed(), 1 => field(1, 31).boxed()];
    let month = prop_oneof![8 => any(1, 12).boxed(), 1 => field(1, 12).boxed()];
    let weekday = prop_oneof![3 => any(0, 6).boxed(), 1 => field(0, 6).boxed()];
    (field(0, 59), hour, day, month, weekday).prop_map(|(minute, hour, day, month, weekday)| Entry {
        minute,
        hour,
        day,
        month,
        weekday,
    })
}

/// Zones, and a moment from which on they have changes: of an hour, of half an hour, of two hours, at midnight, of the offset
/// for good, of a whole day.
const CHANGES: [(&str, &str); 18] = [
    ("America/New_York", "2026-01-01T00:00:00Z"),
    ("Europe/Rome", "2026-01-01T00:00:00Z"),
    ("Europe/London", "2026-01-01T00:00:00Z"),
    ("Australia/Lord_Howe", "2026-01-01T00:00:00Z"),
    ("Africa/Cairo", "2026-01-01T00:00:00Z"),
    ("Asia/Beirut", "2026-01-01T00:00:00Z"),
    ("America/Santiago", "2026-01-01T00:00:00Z"),
    ("America/Havana", "2026-01-01T00:00:00Z"),
    ("Pacific/Chatham", "2026-01-01T00:00:00Z"),
    ("Antarctica/Troll", "2026-01-01T00:00:00Z"),
    ("Africa/Casablanca", "2026-01-01T00:00:00Z"),
    ("America/St_Johns", "2010-01-01T00:00:00Z"),
    ("America/Caracas", "2016-01-01T00:00:00Z"),
    ("Asia/Pyongyang", "2018-01-01T00:00:00Z"),
    ("Europe/Volgograd", "2020-01-01T00:00:00Z"),
    ("Asia/Kathmandu", "1985-01-01T00:00:00Z"),
    ("Pacific/Apia", "2011-12-01T00:00:00Z"),
    ("Pacific/Kwajalein", "1993-01-01T00:00:00Z"),
];

proptest! {
    #![proptest_config(ProptestConfig::with_cases(4000))]

    #[test]
    fn any_entry_runs_as_with_debians_cron_when_the_clock_leaps_or_the_machine_sleeps(
        entry in entry(),
        minute in 10..1400_i64,
        leap in prop_oneof![1..8_i64, 1..600_i64],
    ) {
        let moment = |seconds: i64| Timestamp::from_second(1_795_132_800 + seconds).expect("it is a moment");
        let (from, to) = (moment(0), moment((minute + leap) * 60 + 7200));
        // In the middle of a minute, so that both see the same ones.
        let (at, by) = (moment(minute * 60 + 30), SignedDuration::from_mins(leap));
        let expected = debian_with(&entry, &TimeZone::UTC, from, to, Some((at, by)));
        let expected: BTreeSet<i64> = expected.into_iter().map(|(_, minutes)| minutes).collect();
        let mut found: BTreeSet<i64> = planned(&entry, from, to, (at, by)).into_iter().collect();
        // The minute that the clock shows after its leap has begun less than a minute ago: it is late, and not left out.
        let shown = moment((minute + leap) * 60).as_second() / 60;
        if !expected.contains(&shown) {
            found.remove(&shown);
        }
        prop_assert_eq!(found, expected, "{} over {} minutes at {}", entry.text(), leap, minute);
    }

    #[test]
    fn any_entry_fires_around_any_change_of_the_clock_as_with_debians_cron(
        entry in entry(),
        (zone, since) in prop::sample::select(CHANGES.to_vec()),
        which in 0..2_usize,
    ) {
        let zone = TimeZone::get(zone).expect("the zone is known");
        let since: Timestamp = since.parse().expect("it is a moment");
        let change = zone.following(since).nth(which).or_else(|| zone.following(since).next());
        let change = change.expect("there is one").timestamp();
        // At the start of a minute, and far enough from the change.
        let from = Timestamp::from_second(change.as_second().div_euclid(60) * 60 - 30 * 3600).expect("a moment");
        let to = Timestamp::from_second(change.as_second() + 30 * 3600).expect("a moment");
        let (expected, found) = (debian(&entry, &zone, from, to), ours(&entry, &zone, from, to));
        prop_assert_eq!(found, expected, "{} in {:?} around {}", entry.text(), zone, change);
    }
}
