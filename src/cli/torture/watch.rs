//! Looks at what the daemons say of themselves, while all goes on: the law must hold at any moment.

use std::collections::{BTreeMap, HashSet};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread::{self, JoinHandle};
use std::time::Duration;

use crate::broker::{Inspect, Operator, Target};
use crate::protocol::keys::Keys;

/// How often it looks.
const EVERY: Duration = Duration::from_millis(100);

/// What was seen.
#[derive(Debug, Clone, Default)]
pub(super) struct Seen {
    /// How many records of daemons there were.
    pub(super) looks: u64,
    /// Those in which accepted was not verdicts + in flight.
    pub(super) unbalanced: Vec<String>,
    /// How many answers came too late and were dropped, by daemon.
    fenced: BTreeMap<String, u64>,
}

impl Seen {
    /// How many answers came too late and were dropped, as far as their daemons lived to say it.
    pub(super) fn fenced(&self) -> u64 {
        self.fenced.values().sum()
    }
}

/// It looks until it is stopped.
pub(super) struct Watch {
    is_over: Arc<AtomicBool>,
    thread: JoinHandle<Seen>,
}

impl Watch {
    pub(super) fn start(target: Target, keys: Keys) -> Self {
        let is_over = Arc::new(AtomicBool::new(false));
        let thread = thread::spawn({
            let is_over = Arc::clone(&is_over);
            move || {
                let mut seen = Seen::default();
                let (mut operator, mut known) = (None, HashSet::new());
                while !is_over.load(Ordering::Relaxed) {
                    if operator.is_none() {
                        operator = Operator::connect(&target, keys.clone()).ok();
                    }
                    // While Redis is away there is nothing to see.
                    if let Some(operator) = &mut operator {
                        look(operator, &mut seen, &mut known);
                    }
                    thread::sleep(EVERY);
                }
                seen
            }
        });
        Watch { is_over, thread }
    }

    /// Looks no more, and tells what was seen.
    pub(super) fn stop(self) -> Seen {
        self.is_over.store(true, Ordering::Relaxed);
        self.thread.join().expect("it only looked")
    }
}

fn look(operator: &mut Operator, seen: &mut Seen, known: &mut HashSet<(String, u64)>) {
    for record in operator.members().unwrap_or_default().into_iter().filter_map(|member| member.record) {
        // Each record once.
        if !known.insert((record.node.clone(), record.at)) {
            continue;
        }
        seen.looks += 1;
        if !record.status.holds() {
            let status = &record.status;
            seen.unbalanced.push(format!(
                "{} accepted {}, with verdicts {:?} and {} in flight",
                record.node, status.accepted, status.verdicts, status.in_flight
            ));
        }
        seen.fenced.insert(record.node, record.fenced);
    }
}
