//! What others tell a thread of the gateway.

use std::sync::{Arc, Mutex, MutexGuard};
use std::time::Instant;

use super::settings::Settings;
use crate::lock::Unpoisoned;
use crate::proxy::Sites;

/// What others tell the thread.
#[derive(Default)]
pub(super) struct Orders(Mutex<Pending>);

#[derive(Default)]
pub(super) struct Pending {
    pub(super) settings: Option<(Arc<Settings>, Arc<Sites>)>,
    /// No more connections; each answer is the last one.
    pub(super) is_closing: bool,
    /// All that is left by then goes.
    pub(super) ends_at: Option<Instant>,
}

impl Orders {
    pub(super) fn reconfigure(&self, settings: Arc<Settings>, sites: Arc<Sites>) {
        self.pending().settings = Some((settings, sites));
    }

    pub(super) fn close(&self) {
        self.pending().is_closing = true;
    }

    pub(super) fn end(&self, at: Instant) {
        self.pending().ends_at = Some(at);
    }

    pub(super) fn pending(&self) -> MutexGuard<'_, Pending> {
        self.0.lock().unpoisoned()
    }
}
