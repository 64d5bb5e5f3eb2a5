//! What goes wrong with a target, and what follows on it.

use std::fmt;
use std::time::Duration;

use super::{Answer, Exchange, Progress};
use crate::proxy::Surroundings;
use crate::proxy::site::Fallback;

/// Why a client gets no answer of an upstream.
#[derive(Debug, PartialEq, Eq)]
pub(crate) struct Refusal {
    /// The status of HTTP that says it.
    pub(crate) status: u16,
    pub(crate) reason: String,
    /// After so many seconds it may be otherwise.
    pub(crate) retry_after: Option<u64>,
}

impl Refusal {
    pub(super) fn new(status: u16, reason: impl Into<String>) -> Self {
        Refusal { status, reason: reason.into(), retry_after: None }
    }
}

/// What was wrong with a target.
pub(super) enum Fault {
    Connect(String),
    Closed,
    Malformed(&'static str),
    Late(&'static str),
}

impl Fault {
    fn status(&self) -> u16 {
        if matches!(self, Fault::Late(_)) { 504 } else { 502 }
    }
}

impl fmt::Display for Fault {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Fault::Connect(why) => write!(f, "cannot be reached: {why}"),
            Fault::Closed => f.write_str("closed the connection before its answer was complete"),
            Fault::Malformed(why) => write!(f, "gave an answer that cannot be read: {why}"),
            Fault::Late(what) => write!(f, "{what} did not come in time"),
        }
    }
}

impl Exchange {
    /// The target has failed: the request goes to another, or it was in vain.
    pub(super) fn fail(&mut self, fault: &Fault, around: &mut Surroundings<'_>) -> Progress {
        let Some(mut flight) = self.flight.take() else { return Progress::Broken };
        if let Some(handle) = self.upstream.take() {
            around.upstreams.close(handle);
        }
        // A connection that waited too long says nothing about the target.
        let was_stale = self.is_reused && matches!(fault, Fault::Closed) && !self.has_answered();
        if !was_stale {
            flight.ended(true, around.now);
            let id = &*self.from.request_id;
            log::warn!(request_id = id; "proxy {}: {} {fault} ({id})", self.site.terms.name, flight.target.address);
        }
        if self.has_answered() {
            return Progress::Broken;
        }
        let is_unseen = matches!(fault, Fault::Connect(_)) || !self.is_written;
        let has_time = self.site.terms.total_timeout.is_none_or(|total| around.now < self.started + total);
        let may_repeat = self.sent == 0 && (is_unseen || self.is_repeatable) && has_time;
        let most = self.site.terms.retries + u32::from(was_stale);
        if !was_stale {
            self.tried.push(flight.target.number);
        }
        // The same target is asked again only on a fresh connection.
        let has_another = was_stale || self.site.targets.len() > self.tried.len();
        if may_repeat && has_another && self.attempts <= most {
            self.answer = Answer::Head { seen: 0 };
            return Progress::Again;
        }
        if may_repeat && !matches!(self.site.terms.fallback, Fallback::Refuse) {
            return self.fall_back(Duration::ZERO, around);
        }
        let reason = format!("{}: the upstream {fault}", self.site.terms.name);
        Progress::Refuse(Refusal::new(fault.status(), reason))
    }

    /// There is no target to ask; one may be in `wait`.
    pub(super) fn fall_back(&mut self, wait: Duration, around: &mut Surroundings<'_>) -> Progress {
        let terms = &self.site.terms;
        match &terms.fallback {
            Fallback::Function(name) if self.request.is_none() => return Progress::Function(name.clone()),
            Fallback::Stale(longest) => {
                let key = self.copy.as_ref().map(|(key, ..)| key.as_str());
                if let Some(good) = key.and_then(|key| self.site.stale.find(key, *longest, around.now)) {
                    let age = around.now.saturating_duration_since(good.at);
                    return Progress::Stale { good, age };
                }
            }
            Fallback::Function(_) | Fallback::Refuse => {}
        }
        let seconds = wait.as_secs() + u64::from(wait.subsec_nanos() > 0);
        let reason = format!("{}: no upstream can be asked at this moment", terms.name);
        Progress::Refuse(Refusal { retry_after: Some(seconds.max(1)), ..Refusal::new(503, reason) })
    }
}
