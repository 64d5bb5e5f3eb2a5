//! The thread of cron: sends the requests of crontab entries when they are due, each instant once over all daemons.
//!
//! It decides when, and nothing else: a run is a request in the inbox of this daemon, put there in the step that puts its instant
//! on record. What becomes of it there is the business of the road that all requests go.
//!
//! Invariants:
//! * Every instant of every entry is on record: as a run, or as why there was none.
//! * One wake-up for each instant at which something is due, and none besides.

mod alarm;
mod boot;
mod changes;
mod clocks;
mod ending;
mod engine;
mod jobs;
pub mod records;
mod requests;
mod timekeeper;

use std::io;
use std::path::PathBuf;
use std::sync::{Arc, Mutex, MutexGuard};

pub use self::alarm::Alarm;
use self::alarm::Waker;
pub use self::ending::CronRoom;
pub use self::jobs::{functions_of, mail};
pub use self::requests::{FAILURE, by_hand};
use self::timekeeper::Timekeeper;
use crate::broker::{Broker, Memory};
use crate::cron::{Crontabs, Entry, Loaded};
use crate::lock::Unpoisoned;
use crate::protocol::CronStatus;
use crate::thread::{Joined, Pulse, Stop, Threads};

/// What a [`Scheduler`] needs to know.
pub struct SchedulerOptions {
    /// Where requests go, and records.
    pub broker: Arc<dyn Broker>,
    /// What the operator calls this daemon.
    pub name: String,
    /// The crontabs, and what they say.
    pub crontabs: Crontabs,
    /// What they said when they were read.
    pub loaded: Loaded,
    /// How many runs of each entry are on record.
    pub history: usize,
    /// The folder for what outlives a restart.
    pub state_dir: PathBuf,
    /// Takes over other entries, before any of them is due.
    pub apply: Apply,
    /// Opens a broker in memory whose requests are run, for while the other is away; it has what an earlier daemon could not
    /// put on record. `None`: the other is never away.
    pub standby: Option<OpenStandby>,
    /// Whether an earlier daemon has left something that is not on record.
    pub has_unrecorded: bool,
    /// Beats when the thread goes round.
    pub pulse: Pulse,
}

/// Takes over entries.
pub type Apply = Box<dyn Fn(&[Arc<Entry>]) + Send>;

/// Opens a broker in memory.
pub type OpenStandby = Box<dyn FnMut() -> io::Result<Memory> + Send>;

/// The thread; it ends when this is dropped.
pub struct Scheduler {
    shared: Arc<Shared>,
    waker: Waker,
    thread: Option<Joined>,
}

#[derive(Default)]
struct Shared {
    stop: Stop,
    state: Mutex<State>,
}

#[derive(Default)]
struct State {
    /// The configuration was read again: which crontabs there are now, and how many runs are on record.
    told: Option<(Crontabs, usize)>,
    status: CronStatus,
}

impl Shared {
    fn state(&self) -> MutexGuard<'_, State> {
        self.state.lock().unpoisoned()
    }
}

impl Scheduler {
    /// Starts the thread. `alarm` has been watching the crontabs since before the entries were read, so that no change is missed.
    pub fn start(options: SchedulerOptions, alarm: Alarm, threads: &Threads) -> io::Result<Self> {
        let waker = alarm.waker();
        let shared = Arc::new(Shared::default());
        let thread = threads.spawn("cron", {
            let shared = Arc::clone(&shared);
            move || Timekeeper::new(options, alarm, shared).run()
        })?;
        Ok(Scheduler { shared, waker, thread: Some(thread) })
    }

    /// The configuration was read again: reads `crontabs` from now on.
    pub fn reload(&self, crontabs: Crontabs, history: usize) {
        self.shared.state().told = Some((crontabs, history));
        self.waker.wake();
    }

    /// Looks at it from elsewhere.
    pub fn watch(&self) -> CronWatch {
        CronWatch(Arc::clone(&self.shared))
    }
}

/// Tells how the cron of a daemon stands.
#[derive(Clone)]
pub struct CronWatch(Arc<Shared>);

impl CronWatch {
    /// How it stands.
    pub fn status(&self) -> CronStatus {
        self.0.state().status.clone()
    }
}

impl Drop for Scheduler {
    fn drop(&mut self) {
        self.shared.stop.ask();
        self.waker.wake();
        self.thread = None;
    }
}
