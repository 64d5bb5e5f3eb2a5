//! The thread of cron: sends the requests of crontab entries when they are due, each instant once over all daemons.
//!
//! It decides when, and nothing else: a run is a request in the inbox of this daemon, put there in the step that puts its instant
//! on record. What becomes of it there is the business of the road that all requests go.
//!
//! Invariants:
//! * Every instant of every entry is on record: as a run, or as why there was none.
//! * One wake-up for each instant at which something is due, and none besides.

mod alarm;
mod changes;
mod clocks;
mod engine;
mod requests;

use std::io;
use std::sync::{Arc, Mutex, MutexGuard};
use std::time::{Duration, Instant};

pub use self::alarm::Alarm;
use self::alarm::Waker;
use self::changes::{changes, same_order};
use self::clocks::{Clocks, Step};
use self::engine::Engine;
pub use self::requests::{FAILURE, by_hand};
use crate::broker::{Begun, Broker, BrokerError, Memory, NewRun};
use crate::cron::{Crontabs, Entry, FileFault, Loaded};
use crate::outage::Retry;
use crate::protocol::CronStatus;
use crate::thread::{Joined, Pulse, Stop};

/// So many runs are begun in one round trip: the first of many should not wait for the last.
const BATCH: usize = 32;

/// A file is written in several steps; they are waited for, so long after the last one that was seen.
const SETTLE: Duration = Duration::from_millis(50);

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
        self.state.lock().expect("nothing panics under this lock")
    }
}

impl Scheduler {
    /// Starts the thread. `alarm` has been watching the crontabs since before the entries were read, so that no change is missed.
    pub fn start(options: SchedulerOptions, alarm: Alarm) -> io::Result<Self> {
        let waker = alarm.waker();
        let shared = Arc::new(Shared::default());
        let thread = Joined::spawn("cron", {
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

/// What the thread has.
struct Timekeeper {
    options: SchedulerOptions,
    alarm: Alarm,
    shared: Arc<Shared>,
    engine: Engine,
    /// What was due and is not on record yet, as the broker is away.
    pending: Vec<NewRun>,
    /// Has what was due while the broker was away.
    standby: Option<Memory>,
    retry: Retry,
    /// What was missed has not been looked for yet.
    is_to_catch_up: bool,
    /// A crontab has changed, and is read then.
    read_at: Option<Instant>,
    /// What the crontabs said when they were read last.
    loaded: Loaded,
}

impl Timekeeper {
    fn new(mut options: SchedulerOptions, alarm: Alarm, shared: Arc<Shared>) -> Self {
        let loaded = std::mem::take(&mut options.loaded);
        let entries = loaded.entries.clone();
        let engine = Engine::new(entries, options.name.clone(), options.history, Clocks::now());
        Timekeeper {
            options,
            alarm,
            shared,
            engine,
            pending: Vec::new(),
            standby: None,
            retry: Retry::default(),
            is_to_catch_up: true,
            read_at: None,
            loaded,
        }
    }

    fn run(mut self) {
        log::info!("cron: {} entries", self.engine.entries().len());
        say_what_is_wrong(&self.loaded);
        if self.options.has_unrecorded {
            self.has_standby();
        }
        if self.engine.is_unset() {
            log::warn!("cron: the clock of this machine has not been set; nothing is due until it is");
        }
        while !self.shared.stop.is_asked() {
            self.options.pulse.beat();
            self.catch_up();
            self.send();
            self.bring_in();
            self.tell();
            let retry = self.is_waiting_for_broker().then(|| self.retry.next_pause());
            let settled = self.read_at.map(|at| at.saturating_duration_since(Instant::now()));
            let patience = retry.into_iter().chain(settled).min();
            self.options.pulse.rest();
            let woken = match self.alarm.wait(self.engine.next_wake(), patience) {
                Ok(woken) => woken,
                Err(error) => {
                    // Without a timer there is no cron; somebody has to know at once and again.
                    log::error!("cron: cannot wait for the next instant: {error}");
                    self.shared.stop.wait(Duration::from_secs(1));
                    continue;
                }
            };
            if self.shared.stop.is_asked() {
                break;
            }
            self.look();
            let told = self.shared.state().told.take();
            if let Some((crontabs, history)) = told {
                (self.options.crontabs, self.options.history) = (crontabs, history);
                self.read();
            } else if woken.by_files {
                self.read_at = Some(Instant::now() + SETTLE);
            } else if self.read_at.is_some_and(|at| Instant::now() >= at) {
                self.read();
            }
        }
        if !self.pending.is_empty() {
            log::error!("cron: {} instants are not on record, as the broker was away to the end", self.pending.len());
        }
    }

    fn is_waiting_for_broker(&self) -> bool {
        self.is_to_catch_up || !self.pending.is_empty() || self.standby.as_ref().is_some_and(Memory::has_runs)
    }

    /// Collects what is due.
    fn look(&mut self) {
        let looked = self.engine.look(Clocks::now());
        for step in looked.steps {
            match step {
                Step::Slept(length) => log::warn!("cron: the machine slept for {}", shown(length)),
                Step::Set(by) => {
                    let way = if by.is_negative() { "back" } else { "forward" };
                    log::warn!("cron: the clock was set {way} by {}", shown(by.unsigned_abs()));
                }
            }
        }
        self.is_to_catch_up |= looked.is_set_at_last;
        let (node, host) = (self.options.broker.node(), &self.options.crontabs.host);
        self.pending.extend(looked.due.iter().map(|due| requests::new_run(due, node, host)));
    }

    /// Looks for what was missed, once the broker can tell.
    fn catch_up(&mut self) {
        if !self.is_to_catch_up || self.engine.is_unset() || self.options.broker.is_away() {
            return;
        }
        // The broker says why it cannot, once.
        let Ok(marks) = self.options.broker.entry_marks() else { return };
        let now = Clocks::now().wall;
        let caught = self.engine.catch_up(&marks, now);
        let noted: Vec<_> = caught.marks.iter().map(|(name, mark)| (name.as_str(), mark.clone())).collect();
        let gone: Vec<&str> = caught.gone.iter().map(String::as_str).collect();
        if self.options.broker.mark_entries(&noted, &gone).is_err() {
            return;
        }
        self.is_to_catch_up = false;
        let (node, host) = (self.options.broker.node(), &self.options.crontabs.host);
        let mut runs: Vec<NewRun> = caught.due.iter().map(|due| requests::new_run(due, node, host)).collect();
        let boot = boot_id();
        runs.extend(self.engine.reboots().map(|entry| requests::after_boot(entry, &boot, now, node, host)));
        let missed = caught.due.iter().filter(|due| due.decision == crate::cron::Decision::Miss).count();
        if missed > 0 {
            log::warn!("cron: {missed} instants were missed while nobody was there");
        }
        runs.append(&mut self.pending);
        self.pending = runs;
    }

    /// Begins what is due.
    fn send(&mut self) {
        while !self.pending.is_empty() {
            let count = self.pending.len().min(BATCH);
            match self.begin(&self.pending[..count]) {
                Ok(begun) => {
                    self.retry.succeeded();
                    for (run, begun) in self.pending.drain(..count).zip(begun) {
                        let what = match begun {
                            Begun::Sent if run.request.is_some() => "starts",
                            Begun::Sent => "does not run",
                            Begun::Taken => "is on record already",
                            Begun::Paused => "is paused",
                            Begun::Refused => "was refused",
                        };
                        log::debug!("cron: {}@{} {what}", run.name, run.instant);
                    }
                }
                Err(_) if self.has_standby() => {}
                Err(_) => return,
            }
        }
    }

    /// Begins `runs` with the broker, or while that is away with the one that stands by.
    fn begin(&self, runs: &[NewRun]) -> Result<Vec<Begun>, BrokerError> {
        let (broker, history) = (&self.options.broker, self.options.history);
        match &self.standby {
            Some(standby) if broker.is_away() => standby.begin(runs, history),
            Some(standby) => broker.begin(runs, history).or_else(|_| standby.begin(runs, history)),
            None => broker.begin(runs, history),
        }
    }

    /// Whether there is one that stands by, now for the first time.
    fn has_standby(&mut self) -> bool {
        let Some(open) = self.options.standby.as_mut().filter(|_| self.standby.is_none()) else { return false };
        match open() {
            Ok(standby) => {
                if self.options.broker.is_away() {
                    log::warn!("cron: goes on without redis; several daemons that share it may all run what is due");
                }
                self.standby = Some(standby);
                true
            }
            Err(error) => {
                log::error!("cron: cannot go on without redis: {error}");
                false
            }
        }
    }

    /// Puts on record what ran while the broker was away, once it is back.
    fn bring_in(&mut self) {
        let broker = &self.options.broker;
        let Some(standby) = self.standby.as_ref().filter(|_| !broker.is_away() && self.pending.is_empty()) else {
            return;
        };
        let ended = standby.take_ended_runs();
        let runs: Vec<NewRun> = ended.iter().map(requests::on_record).collect();
        for batch in runs.chunks(BATCH) {
            if broker.begin(batch, self.options.history).is_err() {
                // All of them again: what is on record already is found so.
                return standby.put_back_runs(ended);
            }
        }
        if !ended.is_empty() {
            standby.forget_taken_runs();
            log::info!("cron: {} instants from the time without redis are on record", ended.len());
        }
    }

    /// Reads the crontabs again. What stands there no more does not run any more, be it removed or broken.
    fn read(&mut self) {
        self.read_at = None;
        self.alarm.watch(&self.options.crontabs);
        let loaded = self.options.crontabs.read();
        if (&loaded.faults, &loaded.missing) != (&self.loaded.faults, &self.loaded.missing) {
            say_what_is_wrong(&loaded);
        }
        let changes = changes(self.engine.entries(), &loaded.entries);
        if !changes.is_empty() || !same_order(self.engine.entries(), &loaded.entries) {
            (self.options.apply)(&loaded.entries);
            self.engine.replace(loaded.entries.clone(), self.options.history, Clocks::now());
            self.is_to_catch_up = true;
            log::info!("cron: read again, {} entries; {}", loaded.entries.len(), changes.join("; "));
        }
        self.loaded = loaded;
        self.tell();
    }

    /// Says how it stands.
    fn tell(&self) {
        let Loaded { entries, faults, missing } = &self.loaded;
        self.shared.state().status = CronStatus {
            entries: entries.len(),
            next: self.engine.next_wake().and_then(|next| u64::try_from(next.as_millisecond()).ok()),
            pending: self.pending.len(),
            fault: faults.first().map(FileFault::to_string),
            faults: faults.len(),
            missing: missing.iter().map(|path| path.display().to_string()).collect(),
        };
    }
}

fn say_what_is_wrong(loaded: &Loaded) {
    for fault in &loaded.faults {
        log::error!("cron: {fault}; all else runs");
    }
    for path in &loaded.missing {
        log::warn!("cron: {} is not there, so it has no entries", path.display());
    }
}

/// What Linux calls this start of the machine.
fn boot_id() -> String {
    let id = std::fs::read_to_string("/proc/sys/kernel/random/boot_id").unwrap_or_default();
    let id = id.trim();
    if id.is_empty() { "unknown".to_owned() } else { id.to_owned() }
}

fn shown(length: Duration) -> humantime::FormattedDuration {
    humantime::format_duration(Duration::from_secs(length.as_secs()))
}
