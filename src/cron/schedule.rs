//! When an entry is due, in its time zone, also in the nights in which the clock is set.
//!
//! The rule is that of Debian's cron (`cron(8)`, and `cron.c`), of which this is the table:
//!
//! | | minute or hour begins with `*` | all other jobs |
//! |---|---|---|
//! | the clock goes forward by less than three hours | local times that do not exist do not fire | each skipped time fires once, at the moment of the change |
//! | the clock goes forward by three hours or more | they do not fire | they do not fire: that is a clock that was wrong |
//! | the clock goes back | repeated local times fire each time | they fire the first time only |

use std::fmt;
use std::time::Duration;

use croner::Cron;
use jiff::civil::DateTime;
use jiff::tz::{AmbiguousOffset, Offset, TimeZone, TimeZoneTransition};
use jiff::{SignedDuration, Timestamp};

use super::fields::{self, Fields};

/// A jump of the clock that is no daylight saving time (`cron(8)`).
const CORRECTION: SignedDuration = SignedDuration::from_hours(3);

/// Nothing is looked for further in the future: a schedule that fires less often never does.
const HORIZON: SignedDuration = SignedDuration::from_hours(24 * 366 * 100);

/// When an entry is due.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Schedule(Kind);

#[derive(Debug, Clone, PartialEq, Eq)]
enum Kind {
    /// Five fields.
    Calendar(Box<Fields>),
    /// At the multiples of this since 1970: so all daemons mean the same moments, also after a restart.
    Every(Duration),
    /// Once after the machine was started.
    Reboot,
}

/// One moment at which an entry is due.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Firing {
    /// When.
    pub at: Timestamp,
    /// The local time that the entry names; not that of `at` where the clock was set forward over it.
    pub local: DateTime,
    /// Whether it was moved, because its local time does not exist.
    pub is_shifted: bool,
}

/// Why a text is no schedule.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ScheduleFault {
    /// The byte at which it is wrong.
    pub offset: usize,
    /// What is wrong.
    pub reason: String,
}

impl fmt::Display for ScheduleFault {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.reason)
    }
}

impl std::error::Error for ScheduleFault {}

/// The names that stand for five fields (`crontab(5)`).
const NICKNAMES: [(&str, &str); 7] = [
    ("@yearly", "0 0 1 1 *"),
    ("@annually", "0 0 1 1 *"),
    ("@monthly", "0 0 1 * *"),
    ("@weekly", "0 0 * * 0"),
    ("@daily", "0 0 * * *"),
    ("@midnight", "0 0 * * *"),
    ("@hourly", "0 * * * *"),
];

impl Schedule {
    /// Reads five fields, `@daily` and the like, `@reboot`, or `@every 90s`. `chance` decides on random ranges such as `0~59`: the
    /// same one gives the same times.
    pub fn read(text: &str, chance: u64) -> Result<Self, ScheduleFault> {
        let trimmed = text.trim_start();
        let start = text.len() - trimmed.len();
        let fault = |offset: usize, reason: String| ScheduleFault { offset: start + offset, reason };
        let trimmed = trimmed.trim_end();
        if let Some(length) = trimmed.strip_prefix("@every").filter(|rest| rest.starts_with([' ', '\t'])) {
            let length = length.trim();
            let every = humantime::parse_duration(length).ok().filter(|every| *every >= Duration::from_secs(1));
            let reason =
                || format!("expected a time of a second or more behind @every, such as 90s or 1h, found {length:?}");
            return Ok(Schedule(Kind::Every(every.ok_or_else(|| fault(6, reason()))?)));
        }
        if trimmed.starts_with('@') {
            if trimmed.eq_ignore_ascii_case("@reboot") {
                return Ok(Schedule(Kind::Reboot));
            }
            let known = NICKNAMES.iter().find(|(name, _)| name.eq_ignore_ascii_case(trimmed));
            let Some((_, fields)) = known else {
                let names: Vec<&str> = NICKNAMES.iter().map(|(name, _)| *name).collect();
                return Err(fault(0, format!("expected {}, @reboot or @every, found {trimmed:?}", names.join(", "))));
            };
            return Self::read(fields, chance);
        }
        match fields::read(trimmed, chance) {
            Ok(fields) => Ok(Schedule(Kind::Calendar(Box::new(fields)))),
            Err(wrong) => Err(fault(wrong.offset, wrong.reason)),
        }
    }

    /// Whether it is due once after the machine was started, and at no other time.
    pub fn is_reboot(&self) -> bool {
        self.0 == Kind::Reboot
    }

    /// Whether it goes by real time when the clock is set: minute or hour begins with `*`, or it is an interval.
    pub fn is_by_real_time(&self) -> bool {
        match &self.0 {
            Kind::Calendar(fields) => fields.is_wildcard,
            Kind::Every(_) | Kind::Reboot => true,
        }
    }

    /// In words.
    pub fn describe(&self) -> String {
        match &self.0 {
            Kind::Calendar(fields) => fields.cron().describe(),
            Kind::Every(every) => format!("Every {}, counted from 1970.", humantime::format_duration(*every)),
            Kind::Reboot => "Once after the machine was started.".to_owned(),
        }
    }

    /// The first firing after `after`; `None` where there is none within a hundred years.
    pub fn next(&self, after: Timestamp, zone: &TimeZone) -> Option<Firing> {
        match &self.0 {
            Kind::Calendar(fields) if fields.is_wildcard => next_wildcard(&fields.cron(), after, zone),
            Kind::Calendar(fields) => next_fixed(&fields.cron(), after, None, zone),
            Kind::Every(every) => next_multiple(*every, after, zone),
            Kind::Reboot => None,
        }
    }

    /// The firing that follows `last`. It may be at the same moment, where the clock was set forward over several of them.
    pub fn follow(&self, last: &Firing, zone: &TimeZone) -> Option<Firing> {
        match &self.0 {
            Kind::Calendar(fields) if !fields.is_wildcard && last.is_shifted => {
                next_fixed(&fields.cron(), last.at, Some(last.local), zone)
            }
            _ => self.next(last.at, zone),
        }
    }
}

fn next_multiple(every: Duration, after: Timestamp, zone: &TimeZone) -> Option<Firing> {
    let every = i64::try_from(every.as_secs()).ok()?.max(1);
    let second = (after.as_second().div_euclid(every) + 1).checked_mul(every)?;
    let at = Timestamp::from_second(second).ok()?;
    Some(Firing { at, local: zone.to_datetime(at), is_shifted: false })
}

/// The first match after `civil`, or at it if `is_inclusive`.
fn search(cron: &Cron, civil: DateTime, is_inclusive: bool) -> Option<DateTime> {
    let found = cron.find_next_occurrence(&civil, is_inclusive).ok()?;
    let is_near = found.duration_since(civil) <= HORIZON;
    is_near.then_some(found)
}

fn at_offset(offset: Offset, civil: DateTime) -> Option<Timestamp> {
    offset.to_timestamp(civil).ok()
}

/// By real time: in each stretch between two changes of the clock, what matches its local time.
fn next_wildcard(cron: &Cron, after: Timestamp, zone: &TimeZone) -> Option<Firing> {
    let (mut from, mut is_inclusive) = (after, false);
    loop {
        let offset = zone.to_offset(from);
        let change = zone.following(from).next().map(|change| change.timestamp());
        let local = search(cron, offset.to_datetime(from), is_inclusive)?;
        let at = at_offset(offset, local)?;
        match change {
            // Behind the change the clock may show again what was passed.
            Some(change) if at >= change => (from, is_inclusive) = (change, true),
            _ => return Some(Firing { at, local, is_shifted: false }),
        }
    }
}

/// Each local time once: `passed` is the last one that has fired, where that cannot be told from `after`.
fn next_fixed(cron: &Cron, after: Timestamp, passed: Option<DateTime>, zone: &TimeZone) -> Option<Firing> {
    let (mut civil, mut is_inclusive) = match (passed, repeated_until(after, zone)) {
        (Some(passed), _) => (passed, false),
        (None, Some(until)) => (until, true),
        (None, None) => (zone.to_datetime(after), false),
    };
    loop {
        let local = search(cron, civil, is_inclusive)?;
        if let Some((at, is_shifted)) = moment_of(local, after, passed.is_some(), zone) {
            return Some(Firing { at, local, is_shifted });
        }
        (civil, is_inclusive) = (local, false);
    }
}

/// Where the clock shows for the second time what it has shown before: the local time at which that ends.
fn repeated_until(after: Timestamp, zone: &TimeZone) -> Option<DateTime> {
    let (change, before) = change_until(after, zone)?;
    let end = before.to_datetime(change.timestamp());
    (change.offset() < before && zone.to_datetime(after) < end).then_some(end)
}

/// The last change of the clock at or before `moment`, and the offset that held until then.
fn change_until(moment: Timestamp, zone: &TimeZone) -> Option<(TimeZoneTransition<'_>, Offset)> {
    let just_after = moment.checked_add(SignedDuration::from_nanos(1)).ok()?;
    let change = zone.preceding(just_after).next()?;
    let just_before = change.timestamp().checked_sub(SignedDuration::from_nanos(1)).ok()?;
    let before = zone.to_offset(just_before);
    Some((change, before))
}

/// When the local time is there for the first time, and whether it was moved; `None` where it does not fire, or not after `after`
/// (at it, if `or_at`).
fn moment_of(local: DateTime, after: Timestamp, or_at: bool, zone: &TimeZone) -> Option<(Timestamp, bool)> {
    let is_due = |at: &Timestamp| *at > after || (or_at && *at == after);
    match zone.to_ambiguous_timestamp(local).offset() {
        AmbiguousOffset::Unambiguous { offset } | AmbiguousOffset::Fold { before: offset, .. } => {
            at_offset(offset, local).filter(is_due).map(|at| (at, false))
        }
        AmbiguousOffset::Gap { before, after: later } => {
            if before.duration_until(later) >= CORRECTION {
                return None;
            }
            // By the old offset it comes just after the change.
            let (change, _) = change_until(at_offset(before, local)?, zone)?;
            Some(change.timestamp()).filter(is_due).map(|at| (at, true))
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn zone(name: &str) -> TimeZone {
        TimeZone::get(name).expect("the zone is known")
    }

    /// The firings of `expression` after a local time, each as its moment in the zone.
    fn firings(expression: &str, zone_name: &str, from: &str, count: usize) -> Vec<String> {
        let zone = zone(zone_name);
        let schedule = Schedule::read(expression, 0).expect("it is a schedule");
        let from: DateTime = from.parse().expect("it is a local time");
        let start = zone.to_ambiguous_timestamp(from).compatible().expect("it is a moment");
        let first = schedule.next(start, &zone);
        let all = std::iter::successors(first, |last| schedule.follow(last, &zone));
        all.take(count).map(|firing| firing.at.to_zoned(zone.clone()).strftime("%d.%m. %H:%M%:z").to_string()).collect()
    }

    #[track_caller]
    fn check(expression: &str, zone: &str, from: &str, expected: &[&str]) {
        assert_eq!(firings(expression, zone, from, expected.len()), expected, "{expression} in {zone}");
    }

    #[test]
    fn fixed_jobs_fire_once_in_the_night_the_clock_goes_forward() {
        check(
            "30 2 * * *",
            "Europe/Rome",
            "2026-03-28T00:00",
            &["28.03. 02:30+01:00", "29.03. 03:00+02:00", "30.03. 02:30+02:00"],
        );
        check("30 2 * * *", "America/New_York", "2026-03-08T00:00", &["08.03. 03:00-04:00", "09.03. 02:30-04:00"]);
        // Half an hour: 02:00 becomes 02:30.
        check("15 2 * * *", "Australia/Lord_Howe", "2026-10-04T00:00", &["04.10. 02:30+11:00", "05.10. 02:15+11:00"]);
        // There is no midnight on that day.
        check("0 0 * * *", "Africa/Cairo", "2026-04-23T12:00", &["24.04. 01:00+03:00", "25.04. 00:00+03:00"]);
        // Each skipped time fires.
        check(
            "0,30 2 * * *",
            "Europe/Rome",
            "2026-03-29T00:00",
            &["29.03. 03:00+02:00", "29.03. 03:00+02:00", "30.03. 02:00+02:00"],
        );
        // One at the moment of the change, and one that was skipped.
        check(
            "0 2,3 * * *",
            "Europe/Rome",
            "2026-03-29T00:00",
            &["29.03. 03:00+02:00", "29.03. 03:00+02:00", "30.03. 02:00+02:00"],
        );
    }

    #[test]
    fn fixed_jobs_fire_once_in_the_night_the_clock_goes_back() {
        check("30 2 * * *", "Europe/Rome", "2026-10-24T12:00", &["25.10. 02:30+02:00", "26.10. 02:30+01:00"]);
        check("30 1 * * *", "America/New_York", "2026-11-01T00:00", &["01.11. 01:30-04:00", "02.11. 01:30-05:00"]);
        check("45 1 * * *", "Australia/Lord_Howe", "2026-04-05T00:00", &["05.04. 01:45+11:00", "06.04. 01:45+10:30"]);
        check("0 0 * * *", "Africa/Cairo", "2026-10-29T12:00", &["30.10. 00:00+02:00", "31.10. 00:00+02:00"]);
        check("30 23 * * *", "Africa/Cairo", "2026-10-29T12:00", &["29.10. 23:30+03:00", "30.10. 23:30+02:00"]);
    }

    #[test]
    fn jobs_with_a_star_go_by_real_time() {
        check(
            "*/30 * * * *",
            "Europe/Rome",
            "2026-03-29T01:29",
            &["29.03. 01:30+01:00", "29.03. 03:00+02:00", "29.03. 03:30+02:00"],
        );
        check(
            "*/30 * * * *",
            "Europe/Rome",
            "2026-10-25T01:59",
            &[
                "25.10. 02:00+02:00",
                "25.10. 02:30+02:00",
                "25.10. 02:00+01:00",
                "25.10. 02:30+01:00",
                "25.10. 03:00+01:00",
            ],
        );
        check(
            "30 * * * *",
            "America/New_York",
            "2026-11-01T00:45",
            &["01.11. 01:30-04:00", "01.11. 01:30-05:00", "01.11. 02:30-05:00"],
        );
        // The last hour of Saturday comes twice.
        check(
            "30 * * * 6",
            "Asia/Beirut",
            "2026-10-24T23:00",
            &["24.10. 23:30+03:00", "24.10. 23:30+02:00", "31.10. 00:30+02:00"],
        );
        check("*/5 2 * * *", "Europe/Rome", "2026-03-28T02:50", &["28.03. 02:55+01:00", "30.03. 02:00+02:00"]);
    }

    #[test]
    fn whoever_asks_within_a_repeated_hour_is_not_told_of_what_has_fired() {
        let rome = zone("Europe/Rome");
        let schedule = Schedule::read("30 2 * * *", 0).expect("it is a schedule");
        // 02:10, the second time.
        let after: Timestamp = "2026-10-25T01:10:00Z".parse().expect("a moment");
        let next = schedule.next(after, &rome).expect("there is one");
        assert_eq!(next.local.to_string(), "2026-10-26T02:30:00");
    }

    #[test]
    fn a_moved_firing_knows_the_time_that_it_stands_for() {
        let rome = zone("Europe/Rome");
        let schedule = Schedule::read("30 2 * * *", 0).expect("it is a schedule");
        let after: Timestamp = "2026-03-28T12:00:00Z".parse().expect("a moment");
        let firing = schedule.next(after, &rome).expect("there is one");
        assert_eq!((firing.local.to_string().as_str(), firing.is_shifted), ("2026-03-29T02:30:00", true));
        assert_eq!(firing.at.to_string(), "2026-03-29T01:00:00Z");
        // A daemon that starts just then has not missed it.
        let just_before = firing.at.checked_sub(SignedDuration::from_secs(1)).expect("a moment");
        assert_eq!(schedule.next(just_before, &rome), Some(firing));
        assert_ne!(schedule.next(firing.at, &rome), Some(firing));
    }

    #[test]
    fn a_jump_of_a_day_is_a_correction_and_skips() {
        // Samoa had no 30 December 2011.
        check("0 12 * * *", "Pacific/Apia", "2011-12-29T00:00", &["29.12. 12:00-10:00", "31.12. 12:00+14:00"]);
    }

    #[test]
    fn days_match_by_either_field_unless_one_begins_with_a_star() {
        check(
            "0 0 13 * 5",
            "UTC",
            "2026-11-01T00:00",
            &["06.11. 00:00+00:00", "13.11. 00:00+00:00", "20.11. 00:00+00:00"],
        );
        check("0 0 */13 * 5", "UTC", "2026-11-01T00:00", &["27.11. 00:00+00:00", "01.01. 00:00+00:00"]);
        check("0 0 * * 7", "UTC", "2026-11-20T00:00", &["22.11. 00:00+00:00", "29.11. 00:00+00:00"]);
    }

    #[test]
    fn leap_days_come_every_fourth_year_and_never_is_never() {
        check("0 0 29 2 *", "Europe/Rome", "2026-01-01T00:00", &["29.02. 00:00+01:00", "29.02. 00:00+01:00"]);
        assert_eq!(firings("0 0 30 2 *", "Europe/Rome", "2026-01-01T00:00", 1), [""; 0]);
        assert_eq!(firings("*/5 0 31 4,6 *", "America/New_York", "2026-01-01T00:00", 1), [""; 0]);
    }

    #[test]
    fn nicknames_and_intervals_are_schedules_too() {
        check("@weekly", "UTC", "2026-11-20T00:00", &["22.11. 00:00+00:00"]);
        check("@Hourly", "UTC", "2026-11-20T00:00", &["20.11. 01:00+00:00"]);
        check("@every 90m", "UTC", "1970-01-01T02:00", &["01.01. 03:00+00:00", "01.01. 04:30+00:00"]);
        let reboot = Schedule::read(" @reboot ", 0).expect("it is one");
        assert!(reboot.is_reboot() && reboot.next(Timestamp::UNIX_EPOCH, &TimeZone::UTC).is_none());
    }

    #[test]
    fn what_is_no_schedule_is_told_with_its_place() {
        let fault = |text: &str| Schedule::read(text, 0).expect_err("it is none");
        assert_eq!(fault("  61 * * * *").offset, 2);
        assert_eq!(
            fault("@dayly").reason,
            "expected @yearly, @annually, @monthly, @weekly, @daily, @midnight, @hourly, @reboot or @every, found \"@dayly\""
        );
        assert!(fault("@every").reason.starts_with("expected @yearly"));
        assert!(fault("@every 1ms").reason.starts_with("expected a time of a second or more"));
    }
}
