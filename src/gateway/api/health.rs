//! Whether the daemon lives, and whether it can do its work.

use std::collections::BTreeMap;
use std::sync::Arc;

use serde_json::json;

use super::{Api, Asking, Served, busy};
use crate::gateway::desk::Asked;
use crate::gateway::door::Place;
use crate::gateway::metrics;
use crate::gateway::response::{Body, Response};

/// So many may ask for the metrics at once.
const MOST_SCRAPES: usize = 8;

impl Api {
    /// Who can answer this lives, unless a loop of the daemon does not turn any more: only a new process mends that. What waits for Redis or for
    /// a free worker turns. The rest is for [`Api::ready`].
    pub(super) fn live(&self) -> Response {
        let stalled = (self.services.stalled)();
        let ages = self.services.pulses.ages().into_iter();
        let turned: BTreeMap<String, u64> = ages.map(|(name, age)| (name, age.as_millis() as u64)).collect();
        if stalled.is_empty() {
            return Response::value(200, json!({"status": "ok", "turned_ms": turned}));
        }
        Response::value(503, json!({"status": "error", "data": stalled.join("; "), "turned_ms": turned}))
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
        // Not among the calls: when those have all places, somebody has to see it.
        let place =
            Place::take(&services.scraping, MOST_SCRAPES).ok_or_else(|| busy("too many ask for the metrics"))?;
        self.ask_from(
            place,
            None,
            Box::new(move |_| {
                let text = metrics::encode(&services, &sites);
                let kind = "application/openmetrics-text; version=1.0.0; charset=utf-8";
                Ok(Asked::Done(Response::new(200, Body::Bytes(kind, text.into_bytes().into()))))
            }),
        )
    }
}
