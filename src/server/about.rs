//! What the daemon says of itself with each heartbeat.

use std::fs;
use std::sync::Arc;

use crate::config::ServerConfig;
use crate::dispatch::Dispatcher;
use crate::protocol::{CRON_FUNCTION, NodeStatus, Verdict};
use crate::scheduler::CronWatch;

/// Looks at the daemon.
#[derive(Clone)]
pub(super) struct About {
    name: String,
    queues: Vec<String>,
    dispatcher: Arc<Dispatcher>,
    cron: Option<CronWatch>,
}

impl About {
    pub(super) fn new(
        config: &ServerConfig,
        queues: Vec<String>,
        dispatcher: &Arc<Dispatcher>,
        cron: Option<CronWatch>,
    ) -> Self {
        About { name: name(config), queues, dispatcher: Arc::clone(dispatcher), cron }
    }

    /// What it does at this moment.
    pub(super) fn look(&self) -> NodeStatus {
        let pool = self.dispatcher.pool();
        let balance = self.dispatcher.ledger().balance();
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
            in_flight: balance.in_flight,
            verdicts: Verdict::ALL.map(|verdict| (verdict, balance.count(verdict))).into(),
            running: self.dispatcher.running(),
            cron: self.cron.as_ref().map(CronWatch::status),
        }
    }
}

impl About {
    /// Why this daemon cannot do its work at this moment, besides what is true of its broker.
    pub(super) fn faults(&self) -> Vec<String> {
        let pool = self.dispatcher.pool();
        let mut faults = Vec::new();
        if pool.workers == 0 {
            faults.push(format!("all workers are held by {} functions past their time limit", pool.stuck));
        }
        let cron = self.cron.as_ref().map(CronWatch::status).unwrap_or_default();
        faults.extend(cron.fault.map(|fault| format!("crontab: {fault}")));
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
