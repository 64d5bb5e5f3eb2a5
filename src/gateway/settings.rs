//! What an operator can set of the gateway.

use std::collections::HashSet;
use std::net::IpAddr;
use std::time::Duration;

use super::access::Token;
use crate::proxy::SiteTerms;

/// What holds until the next reload.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Settings {
    /// How much, and for how long.
    pub limits: Limits,
    /// Who is let in; where there are none, everybody is.
    pub tokens: Vec<Token>,
    /// The origins whose pages may ask: `https://app.example.org`, or `*`.
    pub origins: HashSet<String>,
    /// What this gateway is called, in small letters, besides `localhost` and its addresses.
    pub hosts: HashSet<String>,
    /// The source of requests that name none.
    pub source: String,
    /// The function that does work for which none is named.
    pub work: String,
    /// Which requests get a line in the log.
    pub access_log: AccessLog,
    /// The networks of proxies in front of this one, which are believed whom they speak for.
    pub trusted: Vec<Network>,
    /// What is proxied.
    pub sites: Vec<SiteTerms>,
}

/// Addresses that begin alike.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Network {
    address: IpAddr,
    bits: u32,
}

impl Network {
    /// Reads `10.0.0.0/8`, `::1` or the like.
    pub fn read(text: &str) -> Option<Self> {
        let (address, bits) = match text.split_once('/') {
            Some((address, bits)) => (address, Some(bits.parse::<u32>().ok()?)),
            None => (text, None),
        };
        let address: IpAddr = address.parse().ok()?;
        let most = if address.is_ipv4() { 32 } else { 128 };
        let bits = bits.unwrap_or(most);
        (bits <= most).then_some(Network { address, bits })
    }

    /// Whether `address` is one of them.
    pub fn contains(&self, address: IpAddr) -> bool {
        match (self.address, address.to_canonical()) {
            (IpAddr::V4(own), IpAddr::V4(other)) => {
                let shift = 32 - self.bits;
                (u64::from(own.to_bits()) >> shift) == (u64::from(other.to_bits()) >> shift)
            }
            (IpAddr::V6(own), IpAddr::V6(other)) => {
                let shift = 128 - self.bits;
                own.to_bits().checked_shr(shift).unwrap_or(0) == other.to_bits().checked_shr(shift).unwrap_or(0)
            }
            _ => false,
        }
    }
}

/// Which requests get a line in the log.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum AccessLog {
    /// None.
    Off,
    /// Those that are not answered well: 400 and above.
    Errors,
    /// All.
    All,
}

/// How much a client may have, and how long it may take.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Limits {
    /// How many bytes the body of a request to a function may have.
    pub max_request: usize,
    /// How many connections there may be.
    pub max_connections: usize,
    /// How many of them from one address.
    pub max_per_address: usize,
    /// How many calls may wait for their answer at once.
    pub max_calls: usize,
    /// How long a head may take from its first byte to its last.
    pub head_timeout: Duration,
    /// How long a body may take.
    pub body_timeout: Duration,
    /// How long a connection stays open on which nothing happens.
    pub idle_timeout: Duration,
    /// How long a client may take nothing of its answer.
    pub write_timeout: Duration,
    /// How long a call may wait before it starts.
    pub queue_timeout: Duration,
}

impl Default for Settings {
    fn default() -> Self {
        Settings {
            limits: Limits::default(),
            tokens: Vec::new(),
            origins: HashSet::new(),
            hosts: HashSet::new(),
            source: "web".to_owned(),
            work: "permutation".to_owned(),
            access_log: AccessLog::Errors,
            trusted: Vec::new(),
            sites: Vec::new(),
        }
    }
}

impl Default for Limits {
    fn default() -> Self {
        Limits {
            max_request: 1024 * 1024,
            max_connections: 4096,
            max_per_address: 1024,
            max_calls: 2048,
            head_timeout: Duration::from_secs(10),
            body_timeout: Duration::from_secs(30),
            idle_timeout: Duration::from_secs(60),
            write_timeout: Duration::from_secs(30),
            queue_timeout: Duration::from_secs(30),
        }
    }
}
