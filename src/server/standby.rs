//! Runs what cron sends while Redis is away: a broker in memory with intakes and an outbox of its own, on the same road.

use std::io;
use std::path::Path;
use std::sync::{Arc, Mutex, MutexGuard};
use std::time::{Duration, Instant};

use crate::broker::{Broker, JOURNAL, Memory, Source, Work};
use crate::config::ServerConfig;
use crate::dispatch::Dispatcher;
use crate::intake::{Intake, Shares};
use crate::lock::Unpoisoned;
use crate::outbox::Outbox;
use crate::scheduler::records;
use crate::thread::{Joined, Stop, Threads};

/// It is opened when it is first needed: most daemons never do.
#[derive(Clone, Default)]
pub(super) struct Standby(Arc<Mutex<Option<Open>>>);

struct Open {
    memory: Memory,
    // The fields are in the order in which they are closed.
    intakes: Vec<Joined>,
    stop: Stop,
    outbox: Outbox,
}

impl Standby {
    /// Opens it: what cannot be brought to Redis is kept in the state folder.
    pub(super) fn open(
        &self,
        config: &ServerConfig,
        node: &str,
        dispatcher: &Arc<Dispatcher>,
        threads: &Threads,
    ) -> io::Result<Memory> {
        let memory = Memory::new(Duration::from_secs(1));
        if let Err(error) = records::keep_in(&memory, &config.state_dir) {
            log::warn!("cron: what runs without redis is kept in memory only: {}: {error}", config.state_dir.display());
        }
        let broker: Arc<dyn Broker> = Arc::new(memory.clone());
        let outbox = Outbox::start_as(["settler-standby", "publisher-standby"], broker.clone(), threads)?;
        let (stop, shares) = (Stop::new(), Arc::new(Shares::new([1, 1])));
        let mut intakes = Vec::new();
        for (name, source) in [("intake-standby", Source::Inbox), ("intake-again", Source::Delayed)] {
            let intake = Intake {
                source,
                shares: Arc::clone(&shares),
                max_length: None,
                node: Arc::from(node),
                broker: Arc::clone(&broker),
                dispatcher: Arc::clone(dispatcher),
                mailing: outbox.mailing(),
                rooms: super::rooms(),
                max_request: config.max_request,
                pulse: threads.pulse(name),
            };
            let stop = stop.clone();
            intakes.push(threads.spawn(name, move || intake.run(&stop))?);
        }
        *self.state() = Some(Open { memory: memory.clone(), intakes, stop, outbox });
        Ok(memory)
    }

    /// Takes nothing more in.
    pub(super) fn stop(&self) {
        if let Some(open) = self.state().as_mut() {
            open.stop.ask();
            open.memory.interrupt();
            open.intakes.clear();
        }
    }

    /// Writes down what has ended.
    pub(super) fn close(&self, until: Instant) {
        if let Some(open) = self.state().take() {
            open.outbox.close(until);
        }
    }

    fn state(&self) -> MutexGuard<'_, Option<Open>> {
        self.0.lock().unpoisoned()
    }
}

/// Whether an earlier daemon has left something in `folder` that is not in Redis yet.
pub(super) fn is_left_in(folder: &Path) -> bool {
    std::fs::metadata(folder.join(JOURNAL)).is_ok_and(|data| data.len() > 0)
}
