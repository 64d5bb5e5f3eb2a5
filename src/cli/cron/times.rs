//! Moments and time zones as they are given and shown.

use jiff::Timestamp;
use jiff::civil::DateTime;
use jiff::tz::{AmbiguousOffset, TimeZone};

use crate::cli::exit::{Exit, Failure};

/// The time zone called `name`; without one that of the machine.
pub(super) fn zone(name: Option<&str>) -> Result<TimeZone, Failure> {
    match name {
        None | Some("local") => Ok(TimeZone::system()),
        Some(name) => TimeZone::get(name).map_err(|_| {
            let reason = format!("--tz: no time zone is called {name:?}; expected one such as Europe/Rome");
            Failure::new(Exit::Usage, reason)
        }),
    }
}

/// A moment: with an offset (`2026-03-28T00:00Z`), or by the clock of `zone` (`2026-03-28T00:00`, `2026-03-28`). Where the clock
/// shows that twice the first one is meant, where it never does the same time after the change.
pub(super) fn moment(option: &str, text: &str, zone: &TimeZone) -> Result<Timestamp, Failure> {
    if let Ok(moment) = text.parse::<Timestamp>() {
        return Ok(moment);
    }
    let civil = text.parse::<DateTime>().ok();
    let moment = civil.and_then(|civil| zone.to_ambiguous_timestamp(civil).compatible().ok());
    moment.ok_or_else(|| {
        let reason = format!("{option}: expected a time such as 2026-03-28T00:00 or 2026-03-28T00:00Z, found {text:?}");
        Failure::new(Exit::Usage, reason)
    })
}

/// Whether `text` is a time that the clock of `zone` never shows.
pub(super) fn is_left_out(text: &str, zone: &TimeZone) -> bool {
    let civil = text.parse::<DateTime>().ok();
    civil.is_some_and(|civil| matches!(zone.to_ambiguous_timestamp(civil).offset(), AmbiguousOffset::Gap { .. }))
}

/// In RFC 3339, with the offset that holds then.
pub(super) fn rfc3339(moment: Timestamp, zone: &TimeZone) -> String {
    moment.to_zoned(zone.clone()).strftime("%Y-%m-%dT%H:%M:%S%:z").to_string()
}

/// For people.
pub(super) fn shown(moment: Timestamp, zone: &TimeZone) -> String {
    moment.to_zoned(zone.clone()).strftime("%a %Y-%m-%d %H:%M:%S %Z").to_string()
}
