//! One upstream, and what is known of it.

use std::fmt;
use std::io;
use std::net::{IpAddr, SocketAddr, ToSocketAddrs};
use std::path::PathBuf;
use std::sync::atomic::{AtomicBool, AtomicU64, AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, RwLock};
use std::time::Instant;

use super::breaker::{Breaker, BreakerTerms};

use crate::lock::Unpoisoned;

/// Where an upstream is.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Address {
    /// `http://host:port`
    Tcp {
        /// A name or an address.
        host: String,
        /// The port.
        port: u16,
    },
    /// `unix:/path`
    Unix(PathBuf),
}

impl Address {
    /// Reads `http://127.0.0.1:5000` or `unix:/run/app.sock`.
    pub fn read(text: &str) -> Result<Self, String> {
        let wrong = || format!("expected a target such as http://127.0.0.1:5000 or unix:/run/app.sock, found {text:?}");
        if let Some(path) = text.strip_prefix("unix:") {
            let path = path.strip_prefix("//").unwrap_or(path);
            return if path.starts_with('/') { Ok(Address::Unix(path.into())) } else { Err(wrong()) };
        }
        if text.starts_with("https://") {
            return Err(format!("{text}: only http:// is spoken to upstreams; put a TLS tunnel in between"));
        }
        let authority = text.strip_prefix("http://").ok_or_else(wrong)?;
        let authority = authority.strip_suffix('/').unwrap_or(authority);
        if authority.contains(['/', '?', '#', '@', ' ']) {
            return Err(format!("{text}: a target has no path; strip and path say what upstreams are asked for"));
        }
        let (host, port) = match authority.rsplit_once(':') {
            Some((host, port)) if !host.ends_with(':') && (!host.contains(':') || host.ends_with(']')) => {
                (host, port.parse().map_err(|_| wrong())?)
            }
            _ => (authority, 80),
        };
        if host.is_empty() {
            return Err(wrong());
        }
        Ok(Address::Tcp { host: host.to_owned(), port })
    }

    /// As it stands in a Host header.
    pub(super) fn authority(&self) -> String {
        match self {
            Address::Tcp { host, port: 80 } => host.clone(),
            Address::Tcp { host, port } => format!("{host}:{port}"),
            Address::Unix(_) => "localhost".to_owned(),
        }
    }

    /// The port; a Unix socket has none.
    pub fn port(&self) -> Option<u16> {
        match self {
            Address::Tcp { port, .. } => Some(*port),
            Address::Unix(_) => None,
        }
    }

    fn literal(&self) -> Option<SocketAddr> {
        let Address::Tcp { host, port } = self else { return None };
        let bare = host.trim_start_matches('[').trim_end_matches(']');
        bare.parse::<IpAddr>().ok().map(|address| SocketAddr::new(address, *port))
    }

    /// All addresses that its name has now. This may take long.
    pub(super) fn look_up(&self) -> io::Result<Vec<SocketAddr>> {
        match (self, self.literal()) {
            (_, Some(address)) => Ok(vec![address]),
            (Address::Tcp { host, port }, None) => Ok((host.as_str(), *port).to_socket_addrs()?.collect()),
            (Address::Unix(_), None) => Ok(Vec::new()),
        }
    }
}

impl fmt::Display for Address {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Address::Tcp { host, port } => write!(f, "http://{host}:{port}"),
            Address::Unix(path) => write!(f, "unix:{}", path.display()),
        }
    }
}

/// An upstream.
pub(crate) struct Target {
    pub(crate) address: Address,
    pub(super) authority: String,
    /// Under this its idle connections are found.
    pub(super) number: u64,
    /// Where its name leads; empty until it has been looked up.
    places: RwLock<Vec<SocketAddr>>,
    breaker: Mutex<Breaker>,
    in_flight: AtomicUsize,
    is_well: AtomicBool,
    /// How many requests it has done well, and how many not.
    ended: [AtomicU64; 2],
}

impl Target {
    pub(super) fn new(address: Address, terms: BreakerTerms, now: Instant) -> Self {
        static NUMBERS: AtomicU64 = AtomicU64::new(0);
        Target {
            authority: address.authority(),
            number: NUMBERS.fetch_add(1, Ordering::Relaxed),
            places: RwLock::new(address.literal().into_iter().collect()),
            breaker: Mutex::new(Breaker::new(terms, now)),
            in_flight: AtomicUsize::new(0),
            is_well: AtomicBool::new(true),
            ended: [AtomicU64::new(0), AtomicU64::new(0)],
            address,
        }
    }

    pub(crate) fn breaker(&self) -> MutexGuard<'_, Breaker> {
        self.breaker.lock().unpoisoned()
    }

    pub(super) fn places(&self) -> Vec<SocketAddr> {
        self.places.read().unpoisoned().clone()
    }

    /// Whether its name has to be looked up, now and then.
    pub(super) fn has_name(&self) -> bool {
        matches!(self.address, Address::Tcp { .. }) && self.address.literal().is_none()
    }

    pub(super) fn set_places(&self, places: Vec<SocketAddr>) {
        *self.places.write().unpoisoned() = places;
    }

    /// Whether its health checks say so; without any it is.
    pub(crate) fn is_well(&self) -> bool {
        self.is_well.load(Ordering::Relaxed)
    }

    pub(super) fn set_well(&self, is_well: bool) {
        self.is_well.store(is_well, Ordering::Relaxed);
    }

    /// How many requests it has done well, and how many not.
    pub(crate) fn ended(&self) -> [u64; 2] {
        [0, 1].map(|at| self.ended[at].load(Ordering::Relaxed))
    }

    /// How many requests it has at this moment.
    pub(crate) fn in_flight(&self) -> usize {
        self.in_flight.load(Ordering::Relaxed)
    }
}

/// One request that is with a target. Says how it ended, once.
pub(super) struct Flight {
    pub(super) target: Arc<Target>,
    is_told: bool,
}

impl Flight {
    pub(super) fn new(target: Arc<Target>) -> Self {
        target.in_flight.fetch_add(1, Ordering::Relaxed);
        Flight { target, is_told: false }
    }

    /// The target has done its work, well or not.
    pub(super) fn ended(&mut self, is_failure: bool, now: Instant) {
        if !self.is_told {
            self.is_told = true;
            self.target.breaker().ended(is_failure, now);
            self.target.ended[usize::from(is_failure)].fetch_add(1, Ordering::Relaxed);
        }
    }
}

impl Drop for Flight {
    fn drop(&mut self) {
        self.target.in_flight.fetch_sub(1, Ordering::Relaxed);
    }
}
