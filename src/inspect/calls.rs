//! The open calls of a daemon beside what its broker knows: those that came in by a door of its own stand in no list.

use std::time::Duration;

use crate::broker::{Fate, Found, Inspect, Job, QUEUE_DOOR, Result};
use crate::protocol::{OpenCall, RequestId};

/// What a daemon has accepted and not ended.
pub(crate) trait Calls: Send {
    /// The id of the daemon.
    fn node(&self) -> &str;

    /// All of it, the oldest first.
    fn open(&self) -> Vec<OpenCall>;

    /// What is called `id`.
    fn find(&self, id: &RequestId) -> Vec<OpenCall>;

    /// Ends what is called `id`; tells whether there is such a call.
    fn cancel(&self, id: &RequestId) -> bool;
}

/// Those that the broker knows, then the others; at most `most` of each list.
pub(super) fn jobs(inspect: &mut dyn Inspect, calls: &dyn Calls, most: usize) -> Result<Vec<Job>> {
    let mut jobs = inspect.jobs(most)?;
    let others = calls.open().into_iter().filter(|call| call.door != QUEUE_DOOR).take(most);
    jobs.extend(others.map(|call| Job::at(calls.node(), call)));
    Ok(jobs)
}

/// What became of `id`, or where it stands.
pub(super) fn fate(inspect: &mut dyn Inspect, calls: &dyn Calls, id: &RequestId) -> Result<Fate> {
    let fate = inspect.fate(id)?;
    let call = if matches!(fate, Fate::Open(_)) { None } else { calls.find(id).into_iter().next() };
    Ok(call.map_or(fate, |call| Fate::Open(Job::at(calls.node(), call))))
}

/// Cancels `id`, wherever it is.
pub(super) fn cancel(
    inspect: &mut dyn Inspect,
    calls: &dyn Calls,
    id: &RequestId,
    result_ttl: Duration,
) -> Result<Found> {
    let found = inspect.cancel(id, result_ttl)?;
    let is_elsewhere = matches!(found, Found::Nowhere | Found::Ended);
    Ok(if is_elsewhere && calls.cancel(id) { Found::Cancelled(calls.node().to_owned()) } else { found })
}
