//! Why a broker could not do what it was asked.

use std::fmt;

/// Not now: the broker is away or refuses. All verbs can be tried again.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct BrokerError {
    /// Where the broker is, without secrets.
    pub address: String,
    /// What it said, or what the system said of it.
    pub reason: String,
    /// Whether it cannot get better without an operator: a wrong password, an address that is none.
    pub is_permanent: bool,
}

impl fmt::Display for BrokerError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}: {}", self.address, self.reason)
    }
}

impl std::error::Error for BrokerError {}
