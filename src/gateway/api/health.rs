//! Whether the daemon lives, and whether it can do its work.

use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant};

use serde_json::json;

use super::{Api, Asking, Served};
use crate::gateway::desk::Asked;
use crate::gateway::metrics;
use crate::gateway::response::{Body, Response};

/// When the thread of the gateway last went round.
pub(in crate::gateway) struct Progress(Mutex<Instant>);

/// It goes round at least so often, also when nothing happens.
pub(in crate::gateway) const LONGEST_WAIT: Duration = Duration::from_secs(1);

impl Progress {
    pub(in crate::gateway) fn new(now: Instant) -> Self {
        Progress(Mutex::new(now))
    }

    pub(in crate::gateway) fn note(&self, now: Instant) {
        *self.0.lock().expect("nothing panics under this lock") = now;
    }

    fn age(&self) -> Duration {
        self.0.lock().expect("nothing panics under this lock").elapsed()
    }
}

impl Api {
    /// Who can answer this lives; the rest is for [`Api::ready`].
    pub(super) fn live(&self) -> Response {
        let turned = self.services.all_progress.iter().map(|progress| progress.age()).max().unwrap_or_default();
        let turned = turned.as_millis() as u64;
        Response::value(200, json!({"status": "ok", "turned_ms": turned}))
    }

    /// Whether requests should be sent here, and if not, why.
    pub(super) fn ready(&self) -> Response {
        let reasons = (self.services.faults)();
        if reasons.is_empty() {
            return Response::value(200, json!({"status": "ok"}));
        }
        Response::value(503, json!({"status": "error", "data": reasons.join("; "), "reasons": reasons}))
    }
}

impl Asking<'_> {
    /// `GET /metrics`. Some of it is asked of the broker, so it is done at the desk; the rest is there also without.
    pub(super) fn metrics(self) -> Result<Served, Response> {
        let (services, sites) = (Arc::clone(&self.api.services), Arc::clone(&self.api.sites));
        self.ask(Box::new(move |_| {
            let text = metrics::encode(&services, &sites);
            let kind = "application/openmetrics-text; version=1.0.0; charset=utf-8";
            Ok(Asked::Done(Response::new(200, Body::Bytes(kind, text.into_bytes().into()))))
        }))
    }
}
