//! Why a call has no value. The texts are read, and compared, by clients: they are protocol.

use std::fmt;

use super::{ROOMS, Verdict};

/// Every way in which a call can end without a value.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum CallError {
    /// The function failed; the text is its own.
    Failed(String),
    /// The function failed, and says that to try again is pointless; the text is its own.
    FailedForGood(String),
    /// The function ran past its time limit.
    TimedOut,
    /// It could not start before the client's `expires`.
    Expired,
    /// Somebody cancelled it.
    Cancelled,
    /// The request cannot be read.
    BadCall,
    /// No function has that name.
    UndefinedFunction,
    /// `args` is no object, lacks a required argument, or holds one of the wrong type; the text says what is wrong, where that is known.
    InvalidArguments(String),
    /// The source may not call.
    InvalidSource,
    /// The user may not call.
    InvalidUser,
    /// Only this room may send it, and has not.
    NotByRoom(&'static str),
    /// Too much is waiting already.
    Overload,
    /// Another request with the same `unique` key waits or runs.
    Duplicate,
    /// No living daemon has the name that the request asks for.
    NoSuchNode,
    /// No daemon serves the queue that it was put into.
    NoSuchQueue,
    /// A function that waits for this call would be called again; the text shows the chain of calls.
    Cycle(String),
    /// No answer could be made: a panic in cerbas itself, or a daemon that died.
    Lost,
    /// A job of cron was ended for this reason; the text is what it had printed until then.
    CutOff(Box<CallError>, String),
}

impl CallError {
    /// The verdict that this error means.
    pub fn verdict(&self) -> Verdict {
        match self {
            CallError::Failed(_) | CallError::FailedForGood(_) => Verdict::Error,
            CallError::TimedOut => Verdict::Timeout,
            CallError::Expired => Verdict::Expired,
            CallError::Cancelled => Verdict::Cancelled,
            CallError::BadCall
            | CallError::UndefinedFunction
            | CallError::InvalidArguments(_)
            | CallError::InvalidSource
            | CallError::InvalidUser
            | CallError::NotByRoom(_)
            | CallError::Overload
            | CallError::Duplicate
            | CallError::NoSuchNode
            | CallError::NoSuchQueue
            | CallError::Cycle(_) => Verdict::Rejected,
            CallError::Lost => Verdict::Lost,
            CallError::CutOff(reason, _) => reason.verdict(),
        }
    }

    /// The refusal whose text is `text`; what has no other text is a circle of calls.
    pub(crate) fn of_refusal(text: &str) -> Self {
        let refusals = [
            CallError::BadCall,
            CallError::UndefinedFunction,
            CallError::InvalidArguments(String::new()),
            CallError::InvalidSource,
            CallError::InvalidUser,
            CallError::Overload,
            CallError::Duplicate,
            CallError::NoSuchNode,
            CallError::NoSuchQueue,
        ];
        let of_rooms = ROOMS.into_iter().map(CallError::NotByRoom);
        let found = refusals.into_iter().chain(of_rooms).find(|refusal| refusal.to_string() == text);
        found.unwrap_or_else(|| CallError::Cycle(text.strip_prefix("cycle: ").unwrap_or(text).to_owned()))
    }

    /// Whether the same call would end the same way, whenever it is tried.
    pub fn is_pointless(&self) -> bool {
        match self {
            CallError::FailedForGood(_)
            | CallError::BadCall
            | CallError::UndefinedFunction
            | CallError::InvalidArguments(_)
            | CallError::InvalidSource
            | CallError::InvalidUser
            | CallError::NotByRoom(_)
            | CallError::Cycle(_) => true,
            CallError::Failed(_)
            | CallError::TimedOut
            | CallError::Expired
            | CallError::Cancelled
            | CallError::Overload
            | CallError::Duplicate
            | CallError::NoSuchNode
            | CallError::NoSuchQueue
            | CallError::Lost
            | CallError::CutOff(..) => false,
        }
    }

    /// What is wrong in particular, where its text does not say that.
    pub fn reason(&self) -> Option<&str> {
        match self {
            CallError::InvalidArguments(reason) => Some(reason).filter(|reason| !reason.is_empty()).map(String::as_str),
            _ => None,
        }
    }

    /// The status of HTTP that means the same (RFC 9110, 15; 508 is from RFC 5842).
    pub fn status(&self) -> u16 {
        match self {
            CallError::BadCall | CallError::InvalidArguments(_) => 400,
            CallError::InvalidSource | CallError::InvalidUser | CallError::NotByRoom(_) => 403,
            CallError::UndefinedFunction | CallError::NoSuchQueue => 404,
            CallError::Duplicate => 409,
            CallError::Overload => 429,
            CallError::Failed(_) | CallError::FailedForGood(_) | CallError::Lost => 500,
            CallError::Cancelled | CallError::NoSuchNode => 503,
            CallError::TimedOut | CallError::Expired => 504,
            CallError::Cycle(_) => 508,
            CallError::CutOff(reason, _) => reason.status(),
        }
    }
}

impl fmt::Display for CallError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            CallError::Failed(message) | CallError::FailedForGood(message) => message,
            CallError::TimedOut => "timeout",
            CallError::Expired => "expired",
            CallError::Cancelled => "cancelled",
            CallError::BadCall => "bad call",
            CallError::UndefinedFunction => "Undefined function",
            CallError::InvalidArguments(_) => "invalid arguments",
            CallError::InvalidSource => "cerbas authorization - invalid source",
            CallError::InvalidUser => "cerbas authorization - invalid user",
            CallError::NotByRoom(room) => return write!(f, "cerbas authorization - only {room} may send this"),
            CallError::Overload => "overload",
            CallError::Duplicate => "duplicate",
            CallError::NoSuchNode => "no such node",
            CallError::NoSuchQueue => "no such queue",
            CallError::Cycle(chain) => return write!(f, "cycle: {chain}"),
            CallError::Lost => "lost",
            CallError::CutOff(reason, printed) => return write!(f, "{reason}\n{printed}"),
        })
    }
}

impl std::error::Error for CallError {}
