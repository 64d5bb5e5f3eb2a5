//! Runs of cron entries: what a request that cron sends carries besides, and what is kept of each instant.

use std::fmt;
use std::time::{Duration, UNIX_EPOCH};

use serde::{Deserialize, Serialize};

use super::{Object, OnDuplicate, RequestId, Verdict};

/// One instant at which an entry was due, or was started by hand.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Occurrence {
    /// The entry.
    pub name: String,
    /// What the instant is called, unlike any other of the entry: `20261120T010000Z`, its moment in UTC. Where its local time was
    /// moved that follows, as two can be moved to one moment: `20260329T010000Z-0230`.
    pub instant: String,
    /// The moment, in milliseconds since 1970.
    pub at: u64,
    /// The local time that the entry names: `2026-11-20T02:00`.
    pub local: String,
    /// The time zone.
    pub zone: String,
    /// Whether it was moved, because its local time does not exist.
    #[serde(default, skip_serializing_if = "is_false")]
    pub is_shifted: bool,
    /// Whether it was made up for later.
    #[serde(default, skip_serializing_if = "is_false")]
    pub is_late: bool,
}

impl Occurrence {
    /// What the moment `at` is called, in milliseconds since 1970.
    pub fn instant_of(at: u64) -> String {
        // The last second of the year 9999 is the last that can be written.
        let moment = UNIX_EPOCH + Duration::from_millis(at.min(253_402_300_799_000));
        humantime::format_rfc3339_seconds(moment).to_string().replace(['-', ':'], "")
    }

    /// The id of its request.
    pub fn id(&self) -> RequestId {
        Self::id_of(&self.name, &self.instant)
    }

    /// The id of the request for `instant` of the entry `name`.
    pub fn id_of(name: &str, instant: &str) -> RequestId {
        RequestId::Text(format!("{CRON_ID}{name}:{instant}").into())
    }
}

/// What the ids of requests begin with that cron sends.
pub const CRON_ID: &str = "cron:";

/// What the names of functions begin with that are lines of a crontab.
pub const CRON_FUNCTION: &str = "cron/";

/// The function that sends mail.
pub const MAIL_FUNCTION: &str = "cron/.mail";

/// The field `cron` of a request that cron sends.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
pub struct Scheduled {
    /// What it is for.
    #[serde(flatten)]
    pub occurrence: Occurrence,
    /// What happens to it while another run of the entry goes on that says so, too; `None`: nothing.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub alone: Option<OnDuplicate>,
    /// Whether it waits while another run of the entry goes on; then no other may wait.
    #[serde(default, skip_serializing_if = "is_false")]
    pub waits: bool,
    /// Whether it is one of several that are due at one moment: all of them run, one after the other.
    #[serde(default, skip_serializing_if = "is_false")]
    pub in_turn: bool,
    /// A request that follows if this one fails, with `failure` in its arguments.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub on_failure: Option<Object>,
    /// Whom to send what it prints.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub mail: Option<Mail>,
}

/// Where the output of a run goes.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Mail {
    /// Who gets it, as `MAILTO` has it.
    pub to: String,
    /// Who sends it, as `MAILFROM` has it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub from: Option<String>,
    /// What is printed, in a line: user, host and command.
    pub subject: String,
}

/// What became of one instant. Each has one, and only `waiting` changes.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum RunOutcome {
    /// Its request was sent and has no verdict yet.
    Waiting,
    /// Its request has a verdict.
    Ran,
    /// The same, at another moment than the entry says, as the clock left its time out.
    DstShifted,
    /// The last run had not ended.
    SkippedOverlap,
    /// Nobody was there, and nobody made up for it.
    MissedDown,
    /// It could not start in time.
    Expired,
    /// The entry was paused or disabled.
    Disabled,
}

impl RunOutcome {
    /// As it is written.
    pub fn as_str(self) -> &'static str {
        match self {
            RunOutcome::Waiting => "waiting",
            RunOutcome::Ran => "ran",
            RunOutcome::DstShifted => "dst-shifted",
            RunOutcome::SkippedOverlap => "skipped-overlap",
            RunOutcome::MissedDown => "missed-down",
            RunOutcome::Expired => "expired",
            RunOutcome::Disabled => "disabled",
        }
    }
}

impl fmt::Display for RunOutcome {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.as_str())
    }
}

/// What is kept of one instant. Times are milliseconds since 1970.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Run {
    /// Which.
    #[serde(flatten)]
    pub occurrence: Occurrence,
    /// What became of it.
    pub outcome: RunOutcome,
    /// How its request ended.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub verdict: Option<Verdict>,
    /// The daemon that sent it, then the one that ran it.
    pub node: String,
    /// When its last attempt started.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub started: Option<u64>,
    /// When it had its verdict.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub ended: Option<u64>,
    /// How often it ran.
    #[serde(default, skip_serializing_if = "is_zero")]
    pub attempts: u32,
    /// The end of what it printed, or the value of its function; behind the first line if it failed, which says how.
    #[serde(default, skip_serializing_if = "String::is_empty")]
    pub output: String,
    /// Why its mail was not sent, if that failed.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub unmailed: Option<String>,
}

impl Run {
    /// How much of what a run printed is kept, in bytes.
    pub const MOST_OUTPUT: usize = 2048;

    /// One that has no verdict yet.
    pub fn waiting(occurrence: Occurrence, node: &str) -> Self {
        Run {
            occurrence,
            outcome: RunOutcome::Waiting,
            verdict: None,
            node: node.to_owned(),
            started: None,
            ended: None,
            attempts: 0,
            output: String::new(),
            unmailed: None,
        }
    }

    /// One that did not run.
    pub fn without(occurrence: Occurrence, node: &str, outcome: RunOutcome) -> Self {
        Run { outcome, ..Self::waiting(occurrence, node) }
    }

    /// As it is kept.
    pub fn to_json(&self) -> Box<str> {
        serde_json::to_string(self).expect("a run is JSON").into()
    }
}

/// The end of `text`, at most [`Run::MOST_OUTPUT`] bytes; with the first line of it if that `is_kept`.
pub fn tail(text: &str, is_kept: bool) -> String {
    if text.len() <= Run::MOST_OUTPUT {
        return text.to_owned();
    }
    let first = text.lines().next().filter(|line| is_kept && line.len() < Run::MOST_OUTPUT / 4).unwrap_or_default();
    let mut start = text.len() - (Run::MOST_OUTPUT - first.len() - 8);
    while !text.is_char_boundary(start) {
        start += 1;
    }
    match first {
        "" => text[start..].to_owned(),
        first => format!("{first}\n...\n{}", &text[start..]),
    }
}

fn is_false(value: &bool) -> bool {
    !value
}

fn is_zero(value: &u32) -> bool {
    *value == 0
}

#[cfg(test)]
mod tests {
    use super::*;

    fn occurrence() -> Occurrence {
        Occurrence {
            name: "backup".to_owned(),
            instant: "20261120T010000Z".to_owned(),
            at: 1_795_136_400_000,
            local: "2026-11-20T02:00".to_owned(),
            zone: "Europe/Rome".to_owned(),
            ..Occurrence::default()
        }
    }

    #[test]
    fn a_run_is_one_flat_object() {
        let run = Run { verdict: Some(Verdict::Ok), outcome: RunOutcome::Ran, ..Run::waiting(occurrence(), "web-1") };
        let json: serde_json::Value = serde_json::from_str(&run.to_json()).expect("it is JSON");
        assert_eq!(
            json,
            serde_json::json!({"name": "backup", "instant": "20261120T010000Z", "at": 1_795_136_400_000_u64,
                "local": "2026-11-20T02:00", "zone": "Europe/Rome", "outcome": "ran", "verdict": "ok", "node": "web-1"})
        );
        assert_eq!(serde_json::from_value::<Run>(json).expect("it is a run"), run);
    }

    #[test]
    fn the_id_of_a_run_is_one_that_requests_may_have() {
        assert_eq!(Occurrence::instant_of(occurrence().at), occurrence().instant);
        let id = occurrence().id();
        assert_eq!(id.to_string(), "cron:backup:20261120T010000Z");
        assert_eq!(RequestId::parse(&id.to_string()), Some(id));
    }

    #[test]
    fn the_end_of_an_output_is_kept_and_how_it_failed() {
        assert_eq!(tail("short", true), "short");
        let long = format!("exit status 3\n{}end", "ä".repeat(5000));
        let kept = tail(&long, true);
        assert!(kept.starts_with("exit status 3\n...\nä") && kept.ends_with("äend"), "{kept}");
        assert!(kept.len() <= Run::MOST_OUTPUT && tail(&long, false).len() <= Run::MOST_OUTPUT);
    }
}
