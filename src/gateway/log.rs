//! The access log: one line for each request.

use std::net::IpAddr;
use std::time::Instant;

use super::settings::AccessLog;
use crate::net::RequestHead;

/// What the log has of a request until it is answered.
pub(super) struct Logged {
    method: String,
    path: String,
    peer: Option<IpAddr>,
    since: Instant,
}

/// So much of a target is in the log.
const MOST: usize = 256;

impl Logged {
    pub(super) fn of(
        head: &RequestHead<'_>,
        peer: Option<IpAddr>,
        which: AccessLog,
        now: Instant,
    ) -> Option<Box<Self>> {
        if which == AccessLog::Off {
            return None;
        }
        // A query may have secrets in it.
        let path: String = head.path().chars().take(MOST).collect();
        Some(Box::new(Logged { method: head.method.to_owned(), path, peer, since: now }))
    }

    /// Of a request that could not be read.
    pub(super) fn unreadable(peer: Option<IpAddr>, which: AccessLog, now: Instant) -> Option<Box<Self>> {
        let (method, path) = ("-".to_owned(), "-".to_owned());
        (which != AccessLog::Off).then(|| Box::new(Logged { method, path, peer, since: now }))
    }

    /// It was answered with `status`, in so many bytes where that is known; 0: it was cut off.
    pub(super) fn write(
        self,
        status: u16,
        bytes: Option<usize>,
        request_id: Option<&str>,
        which: AccessLog,
        now: Instant,
    ) {
        if which == AccessLog::Errors && (1..400).contains(&status) {
            return;
        }
        let peer = self.peer.map_or_else(|| "unix".to_owned(), |peer| peer.to_string());
        let took = now.saturating_duration_since(self.since).as_secs_f64() * 1000.0;
        let bytes = bytes.map_or_else(|| "-".to_owned(), |bytes| bytes.to_string());
        let id = request_id.unwrap_or("-");
        let Logged { method, path, .. } = &self;
        log::info!(
            target: "access", request_id = id, peer = peer.as_str(), method = method.as_str(), path = path.as_str(),
            status = status, milliseconds = took;
            "{peer} \"{method} {path}\" {status} {bytes} {took:.1}ms {id}"
        );
    }
}
