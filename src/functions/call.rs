//! One call as its function sees it.

use std::fmt;
use std::sync::{Arc, Condvar, Mutex, MutexGuard, OnceLock};
use std::time::{Duration, Instant};

use serde::Serialize;

use super::Way;
use super::output::JobLog;
use crate::lock::Unpoisoned;
use crate::protocol::{Arguments, CallError, RequestId};

/// What a function is told about the call it serves, besides the arguments.
#[derive(Debug)]
pub struct Call {
    /// The id of the request.
    pub id: RequestId,
    /// The name by which the function was called.
    pub func: String,
    /// Who asks.
    pub user: Option<String>,
    /// The program that asks.
    pub source: Option<String>,
    /// How long this call may run, from its start.
    pub timeout: Duration,
    /// When that time is over.
    pub deadline: Instant,
    /// The same in milliseconds since 1970, for programs elsewhere.
    pub deadline_at: u64,
    /// The functions that wait for this call, the first one first.
    pub chain: Vec<String>,
    /// How to call others.
    pub way: Way,
    /// Tells that the caller has been answered already, and nobody wants the result.
    pub cancel: CancelToken,
    /// What a job of cron has printed so far.
    pub(crate) log: OnceLock<JobLog>,
}

impl Call {
    /// Whether the work is for nothing: the time is over, or somebody cancelled it. A long native function should look now
    /// and then, and return.
    pub fn is_cancelled(&self) -> bool {
        self.cancel.is_cancelled()
    }

    /// `reason`, for which it is ended from outside, with what it has printed if it is a job.
    pub(crate) fn cut_off(&self, reason: CallError) -> CallError {
        match self.log.get().map(JobLog::text) {
            Some(printed) if !printed.is_empty() => CallError::CutOff(Box::new(reason), printed),
            _ => reason,
        }
    }

    /// What is left of the time, zero when it is over.
    pub fn remaining(&self) -> Duration {
        self.deadline.saturating_duration_since(Instant::now())
    }

    /// The call as one line of JSON without its line break: what commands, workers and HTTP functions are given.
    pub(super) fn to_json(&self, args: &Arguments) -> Vec<u8> {
        #[derive(Serialize)]
        struct Line<'a> {
            id: String,
            func: &'a str,
            args: &'a Arguments,
            user: Option<&'a str>,
            source: Option<&'a str>,
            timeout: u128,
            deadline: u64,
            chain: Vec<String>,
        }
        let line = Line {
            id: self.id.to_string(),
            func: &self.func,
            args,
            user: self.user.as_deref(),
            source: self.source.as_deref(),
            timeout: self.timeout.as_millis(),
            deadline: self.deadline_at,
            chain: self.chain_onward(),
        };
        serde_json::to_vec(&line).expect("a call is JSON")
    }
}

/// Tells a running call to stop. Cloned freely; cancelled once, cancelled for ever.
#[derive(Clone, Default)]
pub struct CancelToken(Arc<Shared>);

#[derive(Default)]
struct Shared {
    state: Mutex<State>,
    changed: Condvar,
}

#[derive(Default)]
struct State {
    is_cancelled: bool,
    /// By the numbers of their guards.
    hooks: Vec<(u64, Box<dyn FnOnce() + Send>)>,
    hooked: u64,
}

impl CancelToken {
    /// Cancels: waiters wake up, and what [`CancelToken::on_cancel`] left is run, on this thread, in the order in which it was left.
    pub fn cancel(&self) {
        let mut state = self.state();
        state.is_cancelled = true;
        let hooks = std::mem::take(&mut state.hooks);
        drop(state);
        self.0.changed.notify_all();
        for (_, hook) in hooks {
            hook();
        }
    }

    /// Whether it was cancelled.
    pub fn is_cancelled(&self) -> bool {
        self.state().is_cancelled
    }

    /// Sleeps for `pause` or until cancelled; tells whether it was cancelled.
    pub fn wait(&self, pause: Duration) -> bool {
        let waited = self.0.changed.wait_timeout_while(self.state(), pause, |state| !state.is_cancelled);
        waited.unpoisoned().0.is_cancelled
    }

    /// Runs `hook` when cancelled, at once if it is already. It must be short and must not block. The hook is forgotten, with all it
    /// holds, when the returned guard is dropped.
    pub fn on_cancel(&self, hook: impl FnOnce() + Send + 'static) -> HookGuard {
        let mut state = self.state();
        state.hooked += 1;
        let number = state.hooked;
        if state.is_cancelled {
            drop(state);
            hook();
        } else {
            state.hooks.push((number, Box::new(hook)));
        }
        HookGuard { token: self.clone(), number }
    }

    fn state(&self) -> MutexGuard<'_, State> {
        self.0.state.lock().unpoisoned()
    }
}

impl fmt::Debug for CancelToken {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_tuple("CancelToken").field(&self.is_cancelled()).finish()
    }
}

/// Keeps a hook of [`CancelToken::on_cancel`] in place.
#[must_use = "the hook is forgotten when this is dropped"]
pub struct HookGuard {
    token: CancelToken,
    number: u64,
}

impl Drop for HookGuard {
    fn drop(&mut self) {
        let mut state = self.token.state();
        let place = state.hooks.iter().position(|(number, _)| *number == self.number);
        let hook = place.map(|place| state.hooks.remove(place));
        // What it holds may be anything, so it goes without the lock.
        drop(state);
        drop(hook);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_hook_is_run_or_forgotten_by_itself() {
        let (token, log) = (CancelToken::default(), Arc::new(Mutex::new(Vec::new())));
        let hook = |name: &'static str| {
            let log = Arc::clone(&log);
            token.on_cancel(move || log.lock().unpoisoned().push(name))
        };
        let first = hook("first");
        let second = hook("second");
        let third = hook("third");
        drop(second);
        token.cancel();
        token.cancel();
        let late = hook("late");
        assert_eq!(*log.lock().unpoisoned(), ["first", "third", "late"]);
        drop((first, third, late));
    }
}
