//! What the daemon says of itself with each heartbeat.

use std::fs;
use std::sync::Arc;

use super::loops::Loops;
use crate::broker::Presence;
use crate::config::ServerConfig;
use crate::dispatch::Dispatcher;
use crate::protocol::{CRON_FUNCTION, NodeStatus, StalledLoop, Verdict};
use crate::scheduler::CronWatch;
use crate::thread::Stalled;

/// Looks at the daemon.
#[derive(Clone)]
pub(super) struct About {
    name: String,
    queues: Vec<String>,
    dispatcher: Arc<Dispatcher>,
    cron: Option<CronWatch>,
    loops: Loops,
}

impl About {
    pub(super) fn new(
        config: &ServerConfig,
        queues: Vec<String>,
        dispatcher: &Arc<Dispatcher>,
        cron: Option<CronWatch>,
        loops: Loops,
    ) -> Self {
        About { name: name(config), queues, dispatcher: Arc::clone(dispatcher), cron, loops }
    }

    /// What it does at this moment.
    pub(super) fn look(&self) -> NodeStatus {
        let pool = self.dispatcher.pool();
        let balance = self.dispatcher.balance();
        let (running, queued) = self.dispatcher.record();
        NodeStatus {
            name: self.name.clone(),
            workers: pool.workers,
            idle: pool.idle,
            busy: pool.busy,
            stuck: pool.stuck,
            waiting: pool.waiting,
            functions: served(&self.dispatcher),
            queues: self.queues.clone(),
            memory: resident_bytes(),
            accepted: balance.accepted,
            returned: balance.returned,
            in_flight: balance.in_flight,
            verdicts: Verdict::ALL.map(|verdict| (verdict, balance.count(verdict))).into(),
            running,
            queued,
            cron: self.cron.as_ref().map(CronWatch::status),
            stalled: self.loops.stalled().into_iter().map(StalledLoop::from).collect(),
            // Only the broker knows.
            missing_rights: Vec::new(),
        }
    }
}

impl About {
    /// The loops of it that do not turn any more, for people.
    pub(super) fn stalled(&self) -> Vec<String> {
        self.loops.stalled().iter().map(Stalled::to_string).collect()
    }

    /// Why this daemon cannot do its work at this moment.
    pub(super) fn all_faults(&self, broker: &dyn Presence) -> Vec<String> {
        let trouble = broker.trouble().map(|error| format!("redis is away or refuses: {error}"));
        trouble.into_iter().chain(self.faults()).collect()
    }

    /// Why this daemon cannot do its work at this moment, besides what is true of its broker.
    fn faults(&self) -> Vec<String> {
        let pool = self.dispatcher.pool();
        let mut faults = self.stalled();
        if pool.workers == 0 {
            faults.push(format!("all workers are held by {} functions past their time limit", pool.stuck));
        }
        let cron = self.cron.as_ref().map(CronWatch::status).unwrap_or_default();
        faults.extend(cron.broken().map(|broken| format!("crontab: {broken}")));
        if cron.pending > 0 {
            faults.push(format!("cron: {} instants are not on record yet", cron.pending));
        }
        faults
    }
}

/// The functions that clients can call.
pub(super) fn served(dispatcher: &Dispatcher) -> Vec<String> {
    let rules = dispatcher.rules();
    let names = rules.functions.iter().map(|function| &function.name);
    names.filter(|name| !name.starts_with(CRON_FUNCTION)).cloned().collect()
}

/// What the operator calls this daemon.
pub(super) fn name(config: &ServerConfig) -> String {
    config.name.clone().unwrap_or_else(host_name)
}

/// The name of this machine, as far as it can be the name of a daemon.
fn host_name() -> String {
    let host = rustix::system::uname().nodename().to_string_lossy().into_owned();
    let is_allowed = |c: char| c.is_ascii_alphanumeric() || "_.-".contains(c);
    let name: String = host.chars().take(64).map(|c| if is_allowed(c) { c } else { '-' }).collect();
    if name.is_empty() { "localhost".to_owned() } else { name }
}

/// The memory that this process holds; 0 where the machine does not tell.
fn resident_bytes() -> u64 {
    let statm = fs::read_to_string("/proc/self/statm").unwrap_or_default();
    let pages: u64 = statm.split_whitespace().nth(1).and_then(|pages| pages.parse().ok()).unwrap_or(0);
    pages * rustix::param::page_size() as u64
}

impl From<Stalled> for StalledLoop {
    fn from(stalled: Stalled) -> Self {
        StalledLoop {
            name: stalled.name,
            since_ms: stalled.since.as_millis() as u64,
            has_panicked: stalled.has_panicked,
        }
    }
}
