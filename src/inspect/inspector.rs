//! An operator's side of the broker for whoever asks now and then.

use std::sync::{Arc, Mutex};

use crate::broker::{Inspect, Result};
use crate::lock::Unpoisoned;

/// Opens an operator's side of the broker.
pub(crate) type OpenInspect = Arc<dyn Fn() -> Result<Box<dyn Inspect>> + Send + Sync>;

/// One that is opened when it is needed, and again after it has failed. Clones share it.
#[derive(Clone)]
pub(crate) struct Inspector {
    open: OpenInspect,
    /// One that nobody uses at the moment.
    idle: Arc<Mutex<Option<Box<dyn Inspect>>>>,
}

impl Inspector {
    pub(crate) fn new(open: OpenInspect) -> Self {
        Inspector { open, idle: Arc::default() }
    }

    /// What `question` gives.
    pub(crate) fn ask<T>(&self, question: impl FnOnce(&mut dyn Inspect) -> Result<T>) -> Result<T> {
        let unused = self.idle.lock().unpoisoned().take();
        let mut inspect = unused.map_or_else(|| (self.open)(), Ok)?;
        let answer = question(&mut *inspect)?;
        *self.idle.lock().unpoisoned() = Some(inspect);
        Ok(answer)
    }
}
