//! The reverse proxy: requests under a path go to an upstream, and its answers back, as they come.
//!
//! Bodies are never held: at most [`HELD`] bytes of each direction wait for the slower side. All of it is done by the thread that owns the
//! connections; a slow upstream costs no thread.

mod balance;
mod breaker;
mod connect;
mod exchange;
mod forward;
mod health;
mod site;
mod stale;
mod target;

pub use self::breaker::BreakerTerms;
pub(super) use self::breaker::Stand;
pub(super) use self::connect::Upstreams;
pub(super) use self::exchange::{Begun, Exchange, Progress};
#[cfg(fuzzing)]
pub(super) use self::forward::forwarded;
pub(crate) use self::forward::is_http;
pub(super) use self::health::Watch;
pub use self::site::{Balance, Fallback, HealthTerms, SiteTerms};
pub(super) use self::site::{Site, Sites};
pub use self::target::Address;
pub(super) use self::target::Target;

/// So many bytes of each direction are held at the most.
const HELD: usize = 64 * 1024;
