//! `cerbas cron explain`: an expression in words.

use jiff::Timestamp;
use serde_json::json;

use super::times;
use crate::cli::exit::{Exit, Failure};
use crate::cli::output;
use crate::cron::{Firing, Schedule, ScheduleFault};

#[derive(clap::Args)]
pub(super) struct Explain {
    /// The expression: five fields in quotes, or @daily and the like
    #[arg(required = true, num_args = 1..=5)]
    expression: Vec<String>,
    /// The time zone [default: that of this machine]
    #[arg(long, value_name = "ZONE")]
    tz: Option<String>,
    /// Print a JSON object
    #[arg(long)]
    json: bool,
}

/// How many firings are shown.
const SHOWN: usize = 3;

impl Explain {
    pub(super) fn run(self) -> Result<Exit, Failure> {
        let expression = self.expression.join(" ");
        let schedule = read(&expression)?;
        let zone = times::zone(self.tz.as_deref())?;
        let firings: Vec<Firing> = firings(&schedule, Timestamp::now(), &zone).take(SHOWN).collect();
        if self.json {
            let next: Vec<String> = firings.iter().map(|firing| times::rfc3339(firing.at, &zone)).collect();
            return output::print(
                &json!({"description": schedule.describe(), "clock": clock(&schedule), "next": next}).to_string(),
            );
        }
        let mut text = format!("{}\n{}\n", schedule.describe(), clock(&schedule));
        if firings.is_empty() && !schedule.is_reboot() {
            text += "It never fires.\n";
        }
        for firing in firings {
            text += &format!("next  {}\n", times::shown(firing.at, &zone));
        }
        output::print_bytes(text.as_bytes())
    }
}

/// What happens when the clock is set.
fn clock(schedule: &Schedule) -> &'static str {
    match schedule.is_by_real_time() {
        true => {
            "When the clock is set it goes by real time: a time that is left out does not fire, one that comes twice fires twice."
        }
        false => {
            "When the clock is set it fires once: a time that is left out fires at the change, one that comes twice the first time."
        }
    }
}

/// The schedule that `expression` is.
pub(super) fn read(expression: &str) -> Result<Schedule, Failure> {
    Schedule::read(expression, 0).map_err(|ScheduleFault { offset, reason }| {
        // The place, as in a file of one line.
        let column = expression.get(..offset).map_or(offset, |before| before.chars().count()) + 1;
        Failure::new(Exit::Failed, format!("{expression}: column {column}: {reason}"))
    })
}

/// All firings after `after`.
pub(super) fn firings<'a>(
    schedule: &'a Schedule,
    after: Timestamp,
    zone: &'a jiff::tz::TimeZone,
) -> impl Iterator<Item = Firing> + 'a {
    std::iter::successors(schedule.next(after, zone), |last| schedule.follow(last, zone))
}
