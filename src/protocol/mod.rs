//! The words of cerbas: [`Request`], [`Answer`], [`Verdict`] and how a call can fail ([`CallError`]).
//!
//! Everything here is pure: no I/O, no clock, no other part of cerbas. What other programs rely on is decided here and
//! nowhere else; `tests/protocol.rs` pins it.

pub mod age;
pub mod codec;
mod dead;
mod errand;
mod error;
pub(crate) mod glimpse;
pub mod json;
pub mod keys;
mod node;
mod run;
mod unique;

use std::fmt;
use std::time::Duration;

use serde::{Deserialize, Deserializer, Serialize, Serializer, de};

pub use dead::DeadLetter;
pub use errand::{CRON, ROOMS, Ticket, room_of_function};
pub use error::CallError;
pub use json::{Json, Object};
pub use node::{CallState, CronStatus, MOST_OPEN, Node, NodeStatus, OpenCall, StalledLoop};
pub use run::{CRON_FUNCTION, CRON_ID, MAIL_FUNCTION, Mail, Occurrence, Run, RunOutcome, Scheduled, tail};
pub use unique::UniqueKey;

/// The arguments of a call, by name.
pub type Arguments = Object;

/// The longest `delay` that is believed: a year and a day.
pub const MAX_DELAY: Duration = Duration::from_hours(366 * 24);

/// What a client asks for, whichever door it came in by.
#[derive(Debug, Clone, PartialEq)]
pub struct Request {
    /// Under what its answer can be found.
    pub id: RequestId,
    /// The name of the function.
    pub func: String,
    /// Its arguments; empty where the client gave none.
    pub args: Arguments,
    /// Who asks.
    pub user: Option<String>,
    /// The program that asks.
    pub source: Option<String>,
    /// How long the function may run, as the client wishes; the function's own limit stays above it.
    pub timeout: Option<Duration>,
    /// Milliseconds since 1970 before which the function must not start.
    pub not_before: Option<u64>,
    /// Milliseconds since 1970 after which the function must not start any more.
    pub expires_at: Option<u64>,
    /// Whether anybody waits for the answer.
    pub reply: bool,
    /// How often it runs again when it fails; `None`: as its function says.
    pub retries: Option<u32>,
    /// How often it ran and failed.
    pub attempt: u32,
    /// When it was taken for its first run, in milliseconds since 1970; `None` before that.
    pub first_at: Option<u64>,
    /// While one of its function with this key waits or runs, no other does.
    pub unique: Option<Box<str>>,
    /// What happens to the second one; `None`: as its function says.
    pub on_duplicate: Option<OnDuplicate>,
    /// The daemon that is to run it, by its name or its id; [`EVERYWHERE`]: all of them.
    pub node: Option<Box<str>>,
    /// Milliseconds since 1970 at which whoever waits has no more use for the answer.
    pub deadline: Option<u64>,
    /// The functions that wait for it, the first one first.
    pub chain: Vec<String>,
    /// What it is for besides, as it says.
    pub ticket: Option<Box<Ticket>>,
    /// The room that has sent it. No text can say that of itself: who reads one sets it, where its broker knows.
    pub vouched_by: Option<&'static str>,
    /// Under which name it is counted, where that is not the name of its function. No text says that, either: the room does.
    pub account: Option<Box<str>>,
    /// Whether its id came with it; otherwise it was made when it was read, and nobody else knows it yet.
    pub is_named: bool,
    /// Whether it was counted for the rate of its function before it was sent on.
    pub is_counted: bool,
    /// Whether its client asks how far it has come.
    pub is_tracked: bool,
}

/// The `node` of a request that is for all daemons.
pub const EVERYWHERE: &str = "*";

/// What happens when a request comes whose `unique` key another one holds.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum OnDuplicate {
    /// It is rejected.
    Reject,
    /// It takes the place of the other, which is cancelled.
    Replace,
}

impl Request {
    /// A plain request: `func` with `args`, from nobody in particular.
    pub fn new(id: RequestId, func: impl Into<String>, args: Arguments) -> Self {
        Request {
            id,
            func: func.into(),
            args,
            user: None,
            source: None,
            timeout: None,
            not_before: None,
            expires_at: None,
            reply: true,
            retries: None,
            attempt: 0,
            first_at: None,
            unique: None,
            on_duplicate: None,
            node: None,
            deadline: None,
            chain: Vec::new(),
            ticket: None,
            vouched_by: None,
            account: None,
            is_named: true,
            is_counted: false,
            is_tracked: false,
        }
    }

    /// Whether it is too late to start it; `now` gives milliseconds since 1970, and is asked only where that matters.
    pub fn is_expired(&self, now: impl FnOnce() -> u64) -> bool {
        self.expires_at.is_some_and(|expires_at| now() > expires_at)
    }
}

/// Names one request: a number drawn from the counter, or a text made by the client.
#[derive(Debug, Clone, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum RequestId {
    /// `CERBAS-COUNTER` gave it; the body is in a key of its own.
    Number(u64),
    /// The `id` of an inline request.
    Text(Box<str>),
}

impl RequestId {
    /// The longest text that can be an id.
    pub const MAX_LENGTH: usize = 128;

    /// `text` as an id, if it is one: 1 to 128 characters out of `A-Z a-z 0-9 _ . : -`.
    pub fn from_text(text: &str) -> Option<Self> {
        let allowed = |byte: u8| byte.is_ascii_alphanumeric() || b"_.:-".contains(&byte);
        let fits = !text.is_empty() && text.len() <= Self::MAX_LENGTH && text.bytes().all(allowed);
        fits.then(|| RequestId::Text(text.into()))
    }

    /// The id that is written as `text`. Ten digits or more are the number that they say: both have the same names of keys
    /// and channels.
    pub fn parse(text: &str) -> Option<Self> {
        let is_number = !text.is_empty() && text.bytes().all(|byte| byte.is_ascii_digit());
        let number = is_number.then(|| text.parse().ok()).flatten().map(RequestId::Number);
        number.filter(|number| number.to_string() == text).or_else(|| Self::from_text(text))
    }

    /// An id that nobody else has.
    pub fn random() -> Self {
        RequestId::Text(uuid::Uuid::new_v4().to_string().into())
    }
}

/// As it stands in the names of keys and channels: numbers are filled with zeros to ten digits.
impl fmt::Display for RequestId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            RequestId::Number(number) => write!(f, "{number:010}"),
            RequestId::Text(text) => f.write_str(text),
        }
    }
}

/// As JSON it is the same text.
impl Serialize for RequestId {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.collect_str(self)
    }
}

impl<'de> Deserialize<'de> for RequestId {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        let text = String::deserialize(deserializer)?;
        RequestId::parse(&text).ok_or_else(|| de::Error::custom(format!("{text:?} is no id")))
    }
}

/// What a call came to: the value of the function, or why there is none.
pub type Outcome = Result<Json, CallError>;

/// How a request ended. Every accepted request has exactly one.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Verdict {
    /// The function gave a value.
    Ok,
    /// The function failed.
    Error,
    /// It ran longer than its limit.
    Timeout,
    /// It could not start in time.
    Expired,
    /// Somebody cancelled it.
    Cancelled,
    /// It was refused before it ran.
    Rejected,
    /// The daemon that ran it died, or no answer could be made.
    Lost,
}

impl Verdict {
    /// All of them, in the order in which they are shown.
    pub const ALL: [Verdict; 7] = [
        Verdict::Ok,
        Verdict::Error,
        Verdict::Timeout,
        Verdict::Expired,
        Verdict::Cancelled,
        Verdict::Rejected,
        Verdict::Lost,
    ];

    /// The verdict on `outcome`.
    pub fn of(outcome: &Outcome) -> Self {
        match outcome {
            Ok(_) => Verdict::Ok,
            Err(error) => error.verdict(),
        }
    }

    /// Its name on the wire.
    pub fn as_str(self) -> &'static str {
        match self {
            Verdict::Ok => "ok",
            Verdict::Error => "error",
            Verdict::Timeout => "timeout",
            Verdict::Expired => "expired",
            Verdict::Cancelled => "cancelled",
            Verdict::Rejected => "rejected",
            Verdict::Lost => "lost",
        }
    }
}

impl fmt::Display for Verdict {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.as_str())
    }
}

/// An answer as a client reads it: `{"status": "ok" | "error", "data": ..., "verdict": ...}`.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Answer {
    /// Whether there is a value.
    pub status: Status,
    /// The value, or the text of the error.
    pub data: Json,
    /// The verdict, where `status` does not say all.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub verdict: Option<Verdict>,
    /// Why, where the text says the same of all such errors: what is wrong with the arguments.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub reason: Option<String>,
    /// Whether to try again may help, where the function says that it does not.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub retry: Option<bool>,
}

/// Whether an [`Answer`] holds a value or an error.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Status {
    /// `data` is the value.
    Ok,
    /// `data` is what went wrong.
    Error,
}

impl Status {
    /// Its name on the wire.
    pub fn as_str(self) -> &'static str {
        match self {
            Status::Ok => "ok",
            Status::Error => "error",
        }
    }
}

impl Answer {
    /// The verdict, also where only the status tells it.
    pub fn verdict(&self) -> Verdict {
        self.verdict.unwrap_or(match self.status {
            Status::Ok => Verdict::Ok,
            Status::Error => Verdict::Error,
        })
    }

    /// What it says to people: the value, or what is wrong, with the reason where there is one.
    pub(crate) fn message(&self) -> String {
        with_reason(&self.data.to_text(), self.reason.as_deref())
    }

    /// Why there is no value.
    pub fn error(&self) -> CallError {
        let text = self.data.to_text();
        match self.verdict() {
            Verdict::Timeout => CallError::TimedOut,
            Verdict::Expired => CallError::Expired,
            Verdict::Cancelled => CallError::Cancelled,
            Verdict::Lost => CallError::Lost,
            Verdict::Rejected => match CallError::of_refusal(&text) {
                CallError::InvalidArguments(_) => CallError::InvalidArguments(self.reason.clone().unwrap_or_default()),
                refusal => refusal,
            },
            Verdict::Ok | Verdict::Error if self.retry == Some(false) => CallError::FailedForGood(text),
            Verdict::Ok | Verdict::Error => CallError::Failed(text),
        }
    }
}

/// The text of an error with what it says besides.
pub(crate) fn with_reason(text: &str, reason: Option<&str>) -> String {
    reason.map_or_else(|| text.to_owned(), |reason| format!("{text}: {reason}"))
}

impl From<Outcome> for Answer {
    fn from(outcome: Outcome) -> Self {
        match outcome {
            Ok(data) => Answer { status: Status::Ok, data, verdict: None, reason: None, retry: None },
            Err(error) => Answer {
                status: Status::Error,
                verdict: Some(error.verdict()).filter(|verdict| *verdict != Verdict::Error),
                data: Json::from(error.to_string()),
                reason: error.reason().map(str::to_owned),
                retry: matches!(error, CallError::FailedForGood(_)).then_some(false),
            },
        }
    }
}
