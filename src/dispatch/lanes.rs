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
    /// Whether a call of `function` may run now; if so, it counts as one that runs.
    pub(super) fn admit(&mut self, function: &Function) -> bool {
        if function.concurrency().is_none() {
            return true;
        }
        let lane = self.lanes.entry(function.name.clone()).or_default();
        let is_admitted = lane.running < most(function);
        lane.running += usize::from(is_admitted);
        is_admitted
    }

    /// Parks `job`, which was not admitted.
    pub(super) fn park(&mut self, job: Job) {
        let lane = self.lanes.entry(job.function.name.clone()).or_default();
        lane.parked.push_back(job);
        self.parked += 1;
    }

    /// A call of `function` has ended; gives out those that may run now: one in its place, or, where a reload has changed
    /// the `concurrency`, none or more.
    pub(super) fn leave(&mut self, function: &Function) -> Vec<Job> {
        let mut next = Vec::new();
        if function.concurrency().is_none() {
            return next;
        }
        let Some(lane) = self.lanes.get_mut(&function.name) else { return next };
        lane.running = lane.running.saturating_sub(1);
        while lane.parked.front().is_some_and(|job| lane.running < most(&job.function)) {
            lane.running += 1;
            self.parked -= 1;
            next.extend(lane.parked.pop_front());
        }
        if lane.running == 0 {
            self.lanes.remove(&function.name);
        }
        next
    }

    /// Takes out the job of the function called `name` that came as `order`, if it is parked.
    pub(super) fn take_out(&mut self, name: &str, order: u64) -> Option<Job> {
        let parked = &mut self.lanes.get_mut(name)?.parked;
        // They stand in the order in which they came.
        let at = parked.binary_search_by_key(&order, |job| job.order).ok()?;
        self.parked -= 1;
        parked.remove(at)
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

/// How many calls of `function` may run at once. At least one, or none would ever end.
fn most(function: &Function) -> usize {
    function.concurrency().map_or(usize::MAX, |most| most.max(1))
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use super::*;
    use crate::dispatch::reply::Reply;
    use crate::functions::{Body, Call, Terms};
    use crate::protocol::{Arguments, Outcome, Request, RequestId};

    struct Nothing;

    impl Body for Nothing {
        fn run(&self, _: &Call, _: Arguments) -> Outcome {
            Ok(().into())
        }

        fn kind(&self) -> &'static str {
            "native"
        }
    }

    fn at_most(concurrency: usize) -> Arc<Function> {
        let terms = Terms { concurrency: Some(concurrency), ..Terms::default() };
        Arc::new(Function { name: "f".to_owned(), terms, body: Box::new(Nothing) })
    }

    fn job(function: &Arc<Function>) -> Job {
        Job {
            function: Arc::clone(function),
            request: Request::new(RequestId::Number(1), "f", Arguments::new()),
            time_limit: function.terms.timeout,
            reply: Reply::inside(drop),
            call: crate::dispatch::open::Number::default(),
            order: 0,
        }
    }

    #[test]
    fn a_limit_that_a_reload_has_lowered_holds_as_calls_end() {
        let (mut lanes, before, after) = (Lanes::default(), at_most(2), at_most(1));
        assert!(lanes.admit(&before) && lanes.admit(&before));
        assert!(!lanes.admit(&after));
        lanes.park(job(&after));
        assert_eq!(lanes.leave(&before).len(), 0, "one still runs");
        assert_eq!(lanes.leave(&before).len(), 1);
        assert_eq!(lanes.parked(), 0);
    }

    #[test]
    fn a_limit_that_a_reload_has_raised_lets_more_start() {
        let (mut lanes, before, after) = (Lanes::default(), at_most(1), at_most(3));
        assert!(lanes.admit(&before));
        assert!(!lanes.admit(&before));
        lanes.park(job(&before));
        assert!(lanes.admit(&after) && lanes.admit(&after));
        assert_eq!(lanes.leave(&after).len(), 0, "what came first keeps its place, and its own limit");
        assert_eq!((lanes.leave(&before).len(), lanes.leave(&after).len()), (0, 1));
    }
}
