//! Why the daemon could not start.

use std::{fmt, io};

use crate::broker::BrokerError;
use crate::config::Faults;

/// Why the daemon could not start; its text is for the operator.
#[derive(Debug)]
#[non_exhaustive]
pub enum StartError {
    /// The configuration has faults: a line each.
    Config(Faults),
    /// Redis refuses, and will refuse again.
    Redis(BrokerError),
    /// The managed Redis could not be started.
    ManagedRedis(String),
    /// The gateway cannot listen at one of its places.
    Gateway(io::Error),
    /// The system gives no thread or signal handler.
    System(io::Error),
}

impl fmt::Display for StartError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            StartError::Config(faults) => faults.fmt(f),
            StartError::Redis(error) => error.fmt(f),
            StartError::ManagedRedis(reason) => f.write_str(reason),
            StartError::Gateway(error) if error.kind() == io::ErrorKind::AddrInUse => {
                write!(f, "http: cannot listen at {error}; listen in [http] can name another place")
            }
            StartError::Gateway(error) => write!(f, "http: cannot listen at {error}"),
            StartError::System(error) => write!(f, "cannot start: {error}"),
        }
    }
}

impl std::error::Error for StartError {
    fn source(&self) -> Option<&(dyn std::error::Error + 'static)> {
        match self {
            StartError::Config(faults) => Some(faults),
            StartError::Redis(error) => Some(error),
            StartError::Gateway(error) | StartError::System(error) => Some(error),
            StartError::ManagedRedis(_) => None,
        }
    }
}

impl From<Faults> for StartError {
    fn from(faults: Faults) -> Self {
        StartError::Config(faults)
    }
}

impl From<BrokerError> for StartError {
    fn from(error: BrokerError) -> Self {
        StartError::Redis(error)
    }
}

impl From<io::Error> for StartError {
    fn from(error: io::Error) -> Self {
        StartError::System(error)
    }
}
