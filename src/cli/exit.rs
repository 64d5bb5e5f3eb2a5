//! Exit statuses, and what comes with them.

use std::process::ExitCode;

use crate::broker::{BrokerError, Cause};
use crate::client::ClientError;
use crate::config::Faults;
use crate::error::StartError;
use crate::protocol::Verdict;

/// How the program ends. The numbers are part of the command line.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Exit {
    /// Done.
    Done = 0,
    /// The function answered an error; faults were found; something had to be abandoned.
    Failed = 1,
    /// The command line is wrong; clap ends with the same.
    Usage = 2,
    /// The function ran out of time.
    TimedOut = 3,
    /// No daemon answers.
    NoAnswer = 4,
    /// Redis cannot be reached, or refuses.
    NoRedis = 5,
    /// The daemon cannot start.
    CannotStart = 6,
    /// A thread of the daemon has panicked.
    Broken = 7,
}

impl Exit {
    /// The status for an answer with `verdict`.
    pub(super) fn of(verdict: Verdict) -> Self {
        match verdict {
            Verdict::Ok => Exit::Done,
            Verdict::Timeout => Exit::TimedOut,
            Verdict::Error | Verdict::Expired | Verdict::Cancelled | Verdict::Rejected | Verdict::Lost => Exit::Failed,
        }
    }
}

impl From<Exit> for ExitCode {
    fn from(exit: Exit) -> Self {
        ExitCode::from(exit as u8)
    }
}

/// Why a command failed, in one line.
#[derive(Debug)]
pub(super) struct Failure {
    pub(super) exit: Exit,
    pub(super) message: String,
}

impl Failure {
    pub(super) fn new(exit: Exit, message: impl ToString) -> Self {
        Failure { exit, message: message.to_string() }
    }
}

impl From<ClientError> for Failure {
    fn from(error: ClientError) -> Self {
        let exit = match &error {
            ClientError::Answered { verdict, .. } => Exit::of(*verdict),
            ClientError::NoAnswer { .. } | ClientError::Closed => Exit::NoAnswer,
            ClientError::Arguments(_) => Exit::Usage,
            ClientError::Unreadable | ClientError::NoSuchQueue(_) => Exit::Failed,
            ClientError::Redis(_) => Exit::NoRedis,
        };
        Failure::new(exit, error)
    }
}

impl From<BrokerError> for Failure {
    fn from(error: BrokerError) -> Self {
        let exit = if error.cause == Cause::NoDaemon { Exit::NoAnswer } else { Exit::NoRedis };
        Failure::new(exit, error)
    }
}

impl From<Faults> for Failure {
    fn from(faults: Faults) -> Self {
        Failure::new(Exit::CannotStart, faults)
    }
}

impl From<StartError> for Failure {
    fn from(error: StartError) -> Self {
        let exit = if matches!(error, StartError::Redis(_)) { Exit::NoRedis } else { Exit::CannotStart };
        Failure::new(exit, error)
    }
}
