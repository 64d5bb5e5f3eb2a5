//! Why a broker could not do what it was asked.

use std::fmt;

/// A broker has not done what it was asked.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct BrokerError {
    /// Where the broker is, without secrets.
    pub address: String,
    /// What it said, or what the system said of it.
    pub reason: String,
    /// What that means for whoever has asked.
    pub cause: Cause,
}

/// What an error of a broker means for whoever has asked.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Cause {
    /// It is away, or serves nobody at this moment: the same can be asked again until it does.
    Away,
    /// It is there and refuses just this: a key is of another type, a right is missing. To ask again changes nothing, and what
    /// stands behind it is not concerned.
    Refused,
    /// It is there, and no daemon serves the queue that is named: what is put there would wait for ever.
    NoSuchQueue,
    /// No daemon runs that could be asked, or it has ended meanwhile.
    NoDaemon,
    /// Nothing gets better without an operator: a wrong password, an address that is none.
    Permanent,
}

impl BrokerError {
    /// Whether the broker was there, and has refused just this.
    pub fn is_refusal(&self) -> bool {
        self.cause == Cause::Refused
    }
}

impl fmt::Display for BrokerError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}: {}", self.address, self.reason)
    }
}

impl std::error::Error for BrokerError {}
