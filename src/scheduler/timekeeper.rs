//! The thread itself: a loop that waits for the next instant, and does what has come up.

use std::sync::Arc;
use std::time::{Duration, Instant};

use jiff::Timestamp;

use super::alarm::Alarm;
use super::boot::{AfterBoot, Boot, Boots};
use super::changes::{changes, same_order};
use super::clocks::{Clocks, Step};
use super::engine::Engine;
use super::records::{self, NewRun};
use super::{SchedulerOptions, Shared, requests};
use crate::broker::{Beginning, Begun, BrokerError, Memory, Work};
use crate::cron::{Decision, FileFault, Loaded};
use crate::outage::Retry;
use crate::protocol::CronStatus;

/// So many runs are begun in one round trip: the first of many should not wait for the last.
const BATCH: usize = 32;

/// A file is written in several steps; they are waited for, so long after the last one that was seen.
const SETTLE: Duration = Duration::from_millis(50);

/// What the thread has.
pub(super) struct Timekeeper {
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
    boots: Boots,
    /// The start of the machine whose runs are not all on record yet.
    boot: Option<Boot>,
    /// A crontab has changed, and is read then.
    read_at: Option<Instant>,
    /// What the crontabs said when they were read last.
    loaded: Loaded,
}

impl Timekeeper {
    pub(super) fn new(mut options: SchedulerOptions, alarm: Alarm, shared: Arc<Shared>) -> Self {
        let loaded = std::mem::take(&mut options.loaded);
        let entries = loaded.entries.clone();
        let boots = Boots::open(&options.state_dir);
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
            boots,
            boot: None,
            read_at: None,
            loaded,
        }
    }

    pub(super) fn run(mut self) {
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
        self.is_to_catch_up || !self.pending.is_empty() || self.standby.as_ref().is_some_and(records::are_some)
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
        let Ok(marks) = records::marks(&*self.options.broker) else { return };
        let now = Clocks::now().wall;
        let caught = self.engine.catch_up(&marks, now);
        if records::mark(&*self.options.broker, &caught.marks, &caught.gone).is_err() {
            return;
        }
        self.is_to_catch_up = false;
        let (node, host) = (self.options.broker.node(), &self.options.crontabs.host);
        let mut runs: Vec<NewRun> = caught.due.iter().map(|due| requests::new_run(due, node, host)).collect();
        runs.extend(self.after_boot(now));
        let missed = caught.due.iter().filter(|due| due.decision == Decision::Miss).count();
        if missed > 0 {
            log::warn!("cron: {missed} instants were missed while nobody was there");
        }
        runs.append(&mut self.pending);
        self.pending = runs;
    }

    /// What runs after the last start of the machine, if that is still to be done.
    fn after_boot(&mut self, now: Timestamp) -> Vec<NewRun> {
        let boot = Boot::last();
        let after = self.boots.after(&boot);
        if after == AfterBoot::Done {
            return Vec::new();
        }
        let (node, host) = (self.options.broker.node(), &self.options.crontabs.host);
        let mut runs: Vec<NewRun> =
            self.engine.reboots().map(|entry| requests::after_boot(entry, &boot.id, now, node, host)).collect();
        if after == AfterBoot::Others && !runs.is_empty() {
            let count = runs.len();
            log::info!(
                "cron: the machine was up before cerbas came; {count} entries with @reboot run after its next start"
            );
            runs.clear();
        }
        self.boot = Some(boot);
        runs
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
                            Begun::Withheld => "is paused",
                            Begun::Refused => "was refused",
                        };
                        log::debug!("cron: {}@{} {what}", run.name, run.instant);
                    }
                }
                Err(_) if self.has_standby() => {}
                Err(_) => return,
            }
        }
        // Not before all is on record that follows on it: whoever dies in between finds it again, and nothing runs twice.
        if let Some(boot) = self.boot.take()
            && let Err(error) = self.boots.note(&boot)
        {
            log::warn!(
                "{}: {error}; entries with @reboot may run again at the next start",
                self.options.state_dir.display()
            );
        }
    }

    /// Begins `runs` with the broker, or while that is away with the one that stands by.
    fn begin(&self, runs: &[NewRun]) -> Result<Vec<Begun>, BrokerError> {
        let (broker, history) = (&self.options.broker, self.options.history);
        let beginnings: Vec<Beginning> = runs.iter().map(|run| run.beginning(history)).collect();
        match &self.standby {
            Some(standby) if broker.is_away() => standby.begin(&beginnings),
            Some(standby) => broker.begin(&beginnings).or_else(|_| standby.begin(&beginnings)),
            None => broker.begin(&beginnings),
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
        let ended = records::ended(standby);
        for batch in ended.chunks(BATCH) {
            let runs: Vec<Beginning> =
                batch.iter().map(|run| requests::on_record(run).beginning(self.options.history)).collect();
            // Those that are on record already are found so when all that is left is brought in again.
            if broker.begin(&runs).and_then(|_| records::forget(standby, batch)).is_err() {
                return;
            }
        }
        if !ended.is_empty() {
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

fn shown(length: Duration) -> humantime::FormattedDuration {
    humantime::format_duration(Duration::from_secs(length.as_secs()))
}
