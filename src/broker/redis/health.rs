//! Says when Redis goes away and when it returns: one line each.

use std::sync::{Mutex, MutexGuard};
use std::time::Instant;

use crate::broker::BrokerError;

/// Whether Redis serves us, as all connections of one broker see it.
#[derive(Debug, Default)]
pub(super) struct Health(Mutex<State>);

#[derive(Debug, Default)]
struct State {
    /// The connections whose last verb failed.
    failing: Vec<Role>,
    away_since: Option<Instant>,
}

/// A connection, by what it does.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Role {
    /// It claims, from the source at this place.
    Claim(usize),
    /// It settles.
    Settle,
    /// It keeps the lease.
    Beat,
    /// It begins runs of cron entries.
    Begin,
}

impl Health {
    /// Whether the last verb of any connection but that of `role` failed.
    pub(super) fn is_away_for_others(&self, role: Role) -> bool {
        self.state().failing.iter().any(|failing| *failing != role)
    }

    /// A verb has failed.
    pub(super) fn failed(&self, role: Role, error: &BrokerError) {
        let mut state = self.state();
        if !state.failing.contains(&role) {
            state.failing.push(role);
        }
        if state.away_since.is_none() {
            state.away_since = Some(Instant::now());
            log::warn!("redis is away or refuses: {error}; trying again until it returns");
        }
    }

    /// A verb has succeeded. Redis is back when that holds for all that had failed: one that is out of memory
    /// still lets some through.
    pub(super) fn succeeded(&self, role: Role) {
        let mut state = self.state();
        state.failing.retain(|failing| *failing != role);
        if state.failing.is_empty()
            && let Some(since) = state.away_since.take()
        {
            log::info!("redis is back after {:.1} s", since.elapsed().as_secs_f64());
        }
    }

    fn state(&self) -> MutexGuard<'_, State> {
        self.0.lock().expect("nothing panics under this lock")
    }
}
