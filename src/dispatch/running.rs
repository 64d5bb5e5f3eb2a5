//! What runs at this moment, for whoever looks at the daemon.
//!
//! A call is noted when it starts and forgotten when its function returns, also where that comes after its deadline. Each
//! costs a short lock and one count: what is shown is made only when somebody looks.

use std::sync::{Arc, Mutex, MutexGuard};
use std::time::Instant;

use crate::clock;
use crate::functions::Call;
use crate::protocol::{MOST_RUNNING, RunningCall};

/// The calls that run.
#[derive(Default)]
pub(super) struct RunningCalls(Mutex<Slots>);

#[derive(Default)]
struct Slots {
    calls: Vec<Option<(Instant, Arc<Call>)>>,
    /// The places in `calls` that are free.
    free: Vec<usize>,
}

impl RunningCalls {
    /// Notes that `call` runs since `start`, until the guard is dropped.
    pub(super) fn note(&self, call: &Arc<Call>, start: Instant) -> Noted<'_> {
        let noted = Some((start, Arc::clone(call)));
        let mut slots = self.slots();
        let place = match slots.free.pop() {
            Some(place) => {
                slots.calls[place] = noted;
                place
            }
            None => {
                slots.calls.push(noted);
                slots.calls.len() - 1
            }
        };
        Noted { calls: self, place }
    }

    /// What runs, what runs longest first, and no more than a record may have.
    pub(super) fn look(&self) -> Vec<RunningCall> {
        let mut calls: Vec<(Instant, Arc<Call>)> = self.slots().calls.iter().flatten().cloned().collect();
        calls.sort_by_key(|(start, _)| *start);
        calls.truncate(MOST_RUNNING);
        let now = clock::now();
        let shown = calls.into_iter().map(|(start, call)| RunningCall {
            id: call.id.to_string(),
            func: call.func.clone(),
            since: now.saturating_sub(start.elapsed().as_millis() as u64),
        });
        shown.collect()
    }

    fn slots(&self) -> MutexGuard<'_, Slots> {
        self.0.lock().expect("nothing panics under this lock")
    }
}

/// A call that is noted.
#[must_use = "the call is forgotten when this is dropped"]
pub(super) struct Noted<'a> {
    calls: &'a RunningCalls,
    place: usize,
}

impl Drop for Noted<'_> {
    fn drop(&mut self) {
        let mut slots = self.calls.slots();
        let call = slots.calls[self.place].take();
        slots.free.push(self.place);
        drop(slots);
        // Outside the lock: it may be the last hold on the call.
        drop(call);
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::*;
    use crate::functions::{CancelToken, Way};
    use crate::protocol::RequestId;

    fn call(id: u64) -> Arc<Call> {
        Arc::new(Call {
            id: RequestId::Number(id),
            func: "f".to_owned(),
            user: None,
            source: None,
            timeout: Duration::ZERO,
            deadline: Instant::now(),
            deadline_at: 0,
            chain: Vec::new(),
            way: Way::default(),
            cancel: CancelToken::default(),
            log: std::sync::OnceLock::new(),
        })
    }

    #[test]
    fn what_has_ended_is_not_shown_and_its_place_is_used_again() {
        let calls = RunningCalls::default();
        let start = Instant::now();
        let first = calls.note(&call(1), start);
        let _second = calls.note(&call(2), start + Duration::from_millis(1));
        drop(first);
        let _third = calls.note(&call(3), start + Duration::from_millis(2));
        let shown: Vec<String> = calls.look().into_iter().map(|call| call.id).collect();
        assert_eq!(shown, ["0000000002", "0000000003"]);
        assert_eq!(calls.slots().calls.len(), 2);
    }

    #[test]
    fn what_runs_longest_is_shown_where_not_all_can_be() {
        let calls = RunningCalls::default();
        let start = Instant::now();
        let later = |id: u64| start + Duration::from_millis(200 - id);
        let _noted: Vec<Noted<'_>> = (1..=100).map(|id| calls.note(&call(id), later(id))).collect();
        let shown = calls.look();
        assert_eq!((shown.len(), &*shown[0].id, &*shown[63].id), (MOST_RUNNING, "0000000100", "0000000037"));
    }
}
