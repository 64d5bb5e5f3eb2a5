//! Whether the loops of this daemon turn: a number that nobody judges helps nobody.

use std::collections::BTreeSet;
use std::sync::{Arc, Mutex};
use std::time::Duration;

use crate::lock::Unpoisoned;
use crate::thread::{Stalled, Threads};

/// A loop may wait for Redis so long on its way, with connecting and all, whatever the lease is.
const LEAST: Duration = Duration::from_secs(15);

/// Judges the loops. Clones share what was said.
#[derive(Clone)]
pub(super) struct Loops {
    threads: Threads,
    /// One that has not turned for longer is stalled.
    longest: Duration,
    said: Arc<Mutex<BTreeSet<String>>>,
}

impl Loops {
    /// One that has not turned for three leases is stalled.
    pub(super) fn new(threads: Threads, lease: Duration) -> Self {
        Loops { threads, longest: (lease * 3).max(LEAST), said: Arc::default() }
    }

    /// Those that should turn and do not; and the thread that has broken, also where it had no loop.
    pub(super) fn stalled(&self) -> Vec<Stalled> {
        let mut stalled = self.threads.pulses().stalled(self.longest);
        let broken = self.threads.broken().filter(|broken| stalled.iter().all(|one| one.name != broken.thread));
        stalled.extend(broken.map(|broken| Stalled { name: broken.thread, since: Duration::ZERO, has_panicked: true }));
        stalled
    }

    /// Says in the log which have stalled since it was said last, and which turn again.
    pub(super) fn tell(&self) {
        let stalled = self.stalled();
        let mut said = self.said.lock().unpoisoned();
        for one in stalled.iter().filter(|one| !said.contains(&one.name)) {
            log::error!("{one}; /livez and /readyz say so until it does");
        }
        let now: BTreeSet<String> = stalled.into_iter().map(|one| one.name).collect();
        for name in said.difference(&now) {
            log::info!("the loop {name} turns again");
        }
        *said = now;
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_loop_is_stalled_after_three_leases_and_never_before_redis_had_the_time_to_answer() {
        let longest = |lease| Loops::new(Threads::default(), Duration::from_secs(lease)).longest;
        assert_eq!((longest(1), longest(10)), (LEAST, Duration::from_secs(30)));
    }

    #[test]
    fn what_was_said_is_not_said_again_until_the_loop_has_turned() {
        let threads = Threads::default();
        let loops = Loops { longest: Duration::ZERO, ..Loops::new(threads.clone(), Duration::ZERO) };
        let said = || loops.said.lock().unwrap().clone();
        let pulse = threads.pulse("intake");
        loops.tell();
        assert_eq!(said(), BTreeSet::from(["intake".to_owned()]));
        pulse.rest();
        loops.tell();
        assert_eq!(said(), BTreeSet::new());
    }
}
