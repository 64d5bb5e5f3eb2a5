//! Calls of functions that may not run as often at once as callers wish.

use std::collections::{HashMap, VecDeque};

use super::pool::Job;
use crate::functions::Function;

/// The functions that have a `concurrency` and are called at this moment.
#[derive(Default)]
pub(super) struct Lanes {
    lanes: HashMap<String, Lane>,
    parked: usize,
}

#[derive(Default)]
struct Lane {
    running: usize,
    parked: VecDeque<Job>,
}

impl Lanes {
    /// Gives `job` back if its function may run it now; else it is parked.
    pub(super) fn enter(&mut self, job: Job) -> Option<Job> {
        let Some(most) = job.function.concurrency() else { return Some(job) };
        let lane = self.lanes.entry(job.function.name.clone()).or_default();
        if lane.running < most {
            lane.running += 1;
            return Some(job);
        }
        lane.parked.push_back(job);
        self.parked += 1;
        None
    }

    /// A call of `function` has ended; gives out the one that may run in its place.
    pub(super) fn leave(&mut self, function: &Function) -> Option<Job> {
        function.concurrency()?;
        let lane = self.lanes.get_mut(&function.name)?;
        let next = lane.parked.pop_front();
        if next.is_some() {
            self.parked -= 1;
        } else if lane.running > 1 {
            lane.running -= 1;
        } else {
            self.lanes.remove(&function.name);
        }
        next
    }

    /// How many jobs are parked.
    pub(super) fn parked(&self) -> usize {
        self.parked
    }

    /// Takes out all that are parked.
    pub(super) fn drain(&mut self) -> impl Iterator<Item = Job> {
        self.parked = 0;
        self.lanes.drain().flat_map(|(_, lane)| lane.parked)
    }
}
