//! Says when Redis goes away and when it returns: one line each.

use std::sync::Mutex;
use std::time::Instant;

use crate::broker::BrokerError;

/// Whether Redis answers, as all connections of one broker see it.
#[derive(Debug, Default)]
pub(super) struct Health(Mutex<Option<Instant>>);

impl Health {
    /// A verb has failed.
    pub(super) fn failed(&self, error: &BrokerError) {
        let mut away_since = self.0.lock().expect("nothing panics under this lock");
        if away_since.is_none() {
            *away_since = Some(Instant::now());
            log::warn!("redis is away: {error}; trying again until it returns");
        }
    }

    /// A verb that writes has succeeded.
    pub(super) fn succeeded(&self) {
        let mut away_since = self.0.lock().expect("nothing panics under this lock");
        if let Some(since) = away_since.take() {
            log::info!("redis is back after {:.1} s", since.elapsed().as_secs_f64());
        }
    }
}
