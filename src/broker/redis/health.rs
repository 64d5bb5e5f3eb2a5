//! Says when Redis goes away and when it returns: one line each.

use std::sync::{Mutex, MutexGuard};
use std::time::Instant;

use crate::broker::{BrokerError, Cause};
use crate::lock::Unpoisoned;
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

/// How long the trouble lasts when a verb fails.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Lasting {
    /// Until one of its kind succeeds: it is done again and again, whatever requests come.
    UntilDone,
    /// Until Redis says anything to it: it is tried again while Redis is away, and a refusal ends that.
    WhileAway,
    /// No longer: what failed is left out, and nobody may ever ask for the like again.
    Never,
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
    /// It has what rooms keep and begin.
    Store,
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
    fn lasting(self) -> Lasting {
        match self {
            Role::Claim(_) | Role::Settle | Role::Beat | Role::Store | Role::Listen => Lasting::UntilDone,
            Role::Arrange | Role::Ask => Lasting::WhileAway,
            Role::Publish => Lasting::Never,
        }
    }
}

impl Health {
    /// Whether the last verb of any connection but that of `role` failed.
    pub(super) fn is_away_for_others(&self, role: Role) -> bool {
        self.state().failing.iter().any(|(failing, _)| *failing != role)
    }

    /// Notes how a verb ended: says the first failure, and the first success after it.
    pub(super) fn note(&self, role: Role, error: Option<&BrokerError>) {
        match (error, role.lasting()) {
            (None, _) => self.succeeded(role),
            (Some(error), Lasting::UntilDone) => self.failed(role, error),
            (Some(error), Lasting::WhileAway) if error.cause == Cause::Away => self.failed(role, error),
            (Some(error), _) if error.is_refusal() => {
                self.refused(&error.reason);
                self.succeeded(role);
            }
            // The connections that are asked again say why.
            (Some(_), _) => self.succeeded(role),
        }
    }

    fn failed(&self, role: Role, error: &BrokerError) {
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

    /// A verb is not failing any more. Redis is back when that holds for all that had failed: one that is out of memory
    /// still lets some through.
    fn succeeded(&self, role: Role) {
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
        self.0.lock().unpoisoned()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn error(cause: Cause) -> BrokerError {
        BrokerError { address: "redis://there".to_owned(), reason: "no".to_owned(), cause }
    }

    #[test]
    fn redis_is_back_when_all_that_failed_has_succeeded() {
        let health = Health::default();
        assert_eq!(health.trouble(), None);
        health.failed(Role::Settle, &error(Cause::Away));
        health.failed(Role::Beat, &error(Cause::Refused));
        assert!(health.is_away_for_others(Role::Store) && health.trouble().is_some());
        health.succeeded(Role::Settle);
        assert_eq!(health.trouble().as_deref(), Some("redis://there: no"));
        health.succeeded(Role::Beat);
        assert_eq!(health.trouble(), None);
    }

    #[test]
    fn what_nobody_asks_again_is_no_trouble_for_ever() {
        let health = Health::default();
        // The last answer to be published again, and then none.
        health.note(Role::Publish, Some(&error(Cause::Away)));
        assert!(!health.is_away_for_others(Role::Store) && health.trouble().is_none());
        // What was waited out ends in a refusal.
        for role in [Role::Arrange, Role::Ask] {
            health.note(role, Some(&error(Cause::Away)));
            assert!(health.is_away_for_others(Role::Store));
            health.note(role, Some(&error(Cause::Refused)));
            assert!(!health.is_away_for_others(Role::Store) && health.trouble().is_none());
        }
        // What is done again and again is trouble until it succeeds, whatever it fails of.
        for cause in [Cause::Away, Cause::Refused, Cause::Permanent] {
            health.note(Role::Listen, Some(&error(cause)));
            assert!(health.trouble().is_some());
        }
        health.note(Role::Listen, None);
        assert_eq!(health.trouble(), None);
    }

    #[test]
    fn what_is_refused_of_one_request_is_no_trouble_that_lasts() {
        let health = Health::default();
        health.refused("WRONGTYPE");
        assert_eq!(health.trouble(), None);
    }
}
