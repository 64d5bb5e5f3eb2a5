//! Says when Redis goes away and when it returns: one line each.

use std::sync::{Mutex, MutexGuard};
use std::time::Instant;

use crate::broker::BrokerError;
use crate::said::{Said, times};

/// So many reasons are told apart. Some hold what clients have written.
const MOST_TOLD: usize = 16;

/// Whether Redis serves us, as all connections of one broker see it.
#[derive(Debug, Default)]
pub(super) struct Health(Mutex<State>);

#[derive(Debug, Default)]
struct State {
    /// The connections whose last verb failed, and of what.
    failing: Vec<(Role, BrokerError)>,
    away_since: Option<Instant>,
    /// The reasons that were told already since all went well.
    told: Vec<String>,
    /// What was refused for single requests.
    refusals: Said<MOST_TOLD>,
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
    /// It arranges with other daemons.
    Arrange,
    /// It asks this and that.
    Ask,
    /// It publishes again what nobody received.
    Publish,
    /// It waits for messages to this daemon.
    Listen,
}

impl Role {
    /// Whether its verbs are done again and again, whatever requests come: until one succeeds, something is wrong.
    pub(super) fn is_repeated(self) -> bool {
        match self {
            Role::Claim(_) | Role::Settle | Role::Beat | Role::Begin | Role::Listen => true,
            Role::Arrange | Role::Ask | Role::Publish => false,
        }
    }
}

impl Health {
    /// Whether the last verb of any connection but that of `role` failed.
    pub(super) fn is_away_for_others(&self, role: Role) -> bool {
        self.state().failing.iter().any(|(failing, _)| *failing != role)
    }

    /// A verb has failed.
    pub(super) fn failed(&self, role: Role, error: &BrokerError) {
        let mut state = self.state();
        match state.failing.iter_mut().find(|(failing, _)| *failing == role) {
            Some((_, of)) => *of = error.clone(),
            None => state.failing.push((role, error.clone())),
        }
        let is_first = state.away_since.is_none();
        // Of an outage each connection notices something else; what is refused is a fault of its own each time.
        let is_new = error.is_refusal() && state.told.len() < MOST_TOLD && !state.told.contains(&error.reason);
        if is_first || is_new {
            state.away_since.get_or_insert_with(Instant::now);
            state.told.push(error.reason.clone());
            log::warn!("redis is away or refuses: {error}; trying again until it returns");
        }
    }

    /// Redis has refused something for `reason` that is not tried again.
    pub(super) fn refused(&self, reason: &str) {
        if let Some(before) = self.state().refusals.note(reason, Instant::now()) {
            let again = times(before);
            log::warn!("redis refuses what a request needs, which costs that request: {reason}{again}");
        }
    }

    /// Why not all is well.
    pub(super) fn trouble(&self) -> Option<String> {
        self.state().failing.first().map(|(_, error)| error.to_string())
    }

    /// A verb has succeeded. Redis is back when that holds for all that had failed: one that is out of memory
    /// still lets some through.
    pub(super) fn succeeded(&self, role: Role) {
        let mut state = self.state();
        state.failing.retain(|(failing, _)| *failing != role);
        if state.failing.is_empty()
            && let Some(since) = state.away_since.take()
        {
            state.told.clear();
            log::info!("redis is back after {:.1} s", since.elapsed().as_secs_f64());
        }
    }

    fn state(&self) -> MutexGuard<'_, State> {
        self.0.lock().expect("nothing panics under this lock")
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::broker::Cause;

    fn error(cause: Cause) -> BrokerError {
        BrokerError { address: "redis://there".to_owned(), reason: "no".to_owned(), cause }
    }

    #[test]
    fn redis_is_back_when_all_that_failed_has_succeeded() {
        let health = Health::default();
        assert_eq!(health.trouble(), None);
        health.failed(Role::Settle, &error(Cause::Away));
        health.failed(Role::Beat, &error(Cause::Refused));
        assert!(health.is_away_for_others(Role::Begin) && health.trouble().is_some());
        health.succeeded(Role::Settle);
        assert_eq!(health.trouble().as_deref(), Some("redis://there: no"));
        health.succeeded(Role::Beat);
        assert_eq!(health.trouble(), None);
    }

    #[test]
    fn what_is_refused_of_one_request_is_no_trouble_that_lasts() {
        let health = Health::default();
        health.refused("WRONGTYPE");
        assert_eq!(health.trouble(), None);
    }
}
