//! The reverse proxy: requests under a path go to an upstream, and its answers back, as they come.
//!
//! It knows nothing of functions, and nothing of the loop that it runs in but `Surroundings`. Who a request is from is told to it, and what a
//! client is told where no upstream answers is said by others, from a `Refusal`.
//!
//! Bodies are never held: at most `HELD` bytes of each direction wait for the slower side. All of it is done by the thread that owns the
//! connections; a slow upstream costs no thread.

mod balance;
mod breaker;
mod connect;
mod exchange;
mod forward;
#[cfg(fuzzing)]
pub(crate) mod fuzzing;
mod health;
mod site;
mod stale;
mod target;

use std::time::{Duration, Instant};

pub use self::breaker::BreakerTerms;
pub(crate) use self::breaker::Stand;
pub(crate) use self::connect::Upstreams;
pub(crate) use self::exchange::{Begun, Exchange, Progress, Refusal};
pub(crate) use self::forward::is_http;
pub(crate) use self::health::Watch;
pub use self::site::{Balance, Fallback, HealthTerms, SiteTerms};
pub(crate) use self::site::{Site, Sites};
pub use self::target::Address;
pub(crate) use self::target::Target;
use crate::net::Poller;

/// So many bytes of each direction are held at the most.
const HELD: usize = 64 * 1024;

/// What an exchange needs of the loop that drives it.
pub(crate) struct Surroundings<'a> {
    /// The connections to upstreams of this thread.
    pub(crate) upstreams: &'a mut Upstreams,
    /// Tells of their sockets.
    pub(crate) poller: &'a Poller,
    pub(crate) now: Instant,
    /// Now, as HTTP writes it.
    pub(crate) date: &'a str,
    /// Each answer is the last one on its connection.
    pub(crate) is_closing: bool,
    /// How long a client may take for the body of its request.
    pub(crate) body_timeout: Duration,
    /// How long it may take nothing of its answer.
    pub(crate) write_timeout: Duration,
}
