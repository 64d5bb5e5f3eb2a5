//! What the workers of the pool do.

use std::any::Any;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, OnceLock};
use std::time::{Duration, Instant};
use std::{io, thread};

use super::{Job, Shared};
use crate::clock;
use crate::dispatch::deadlines::after;
use crate::dispatch::open::{Cancelled, Number, Stage};
use crate::dispatch::watchdog::Why;
use crate::functions::{Call, Caller, CancelToken, Delivery, Function, Onward, Way};
use crate::lock::Unpoisoned;
use crate::protocol::{CallError, Node, Outcome};
use crate::thread::message_of;

impl Shared {
    /// Starts one more worker, which is on duty already.
    pub(super) fn hire(self: &Arc<Self>) -> io::Result<()> {
        let shared = Arc::clone(self);
        let work = move || shared.threads.watch("worker", || shared.work());
        let worker = thread::Builder::new().name("worker".to_owned()).spawn(work);
        if worker.is_err() {
            self.state().on_duty -= 1;
        }
        worker.map(drop)
    }

    /// A worker's whole life.
    fn work(self: &Arc<Self>) {
        let mut state = self.state();
        loop {
            if let Some((_, job)) = state.jobs.pop_front() {
                state.running += 1;
                self.wake_one(&mut state);
                self.tell_doors(&mut state);
                drop(state);
                let (function, call) = (Arc::clone(&job.function), job.call);
                let is_late = self.run(job);
                state = self.state();
                if is_late {
                    self.register.forget_late(call);
                    if !state.come_back(self.size) {
                        self.room.notify_all();
                        return;
                    }
                } else {
                    state.running -= 1;
                    self.tell_closer(&state);
                    state.prefetch.count();
                    self.leave_lane(&mut state, &function);
                }
            } else if state.is_closed || state.on_duty > self.size.workers + state.lent {
                state.on_duty -= 1;
                self.room.notify_all();
                return;
            } else {
                state.idle += 1;
                self.tell_doors(&mut state);
                state = self.work.wait(state).unpoisoned();
                state.idle -= 1;
                state.is_waking = false;
            }
        }
    }

    /// Runs one job to its end; tells whether that came after its deadline.
    fn run(self: &Arc<Self>, job: Job) -> bool {
        let Job { function, request, time_limit, reply, call: number, .. } = job;
        if request.is_expired(clock::now) {
            reply.answer(Err(CallError::Expired));
            return false;
        }
        if !reply.starts() {
            reply.answer(Err(CallError::Cancelled));
            return false;
        }
        let left = |deadline: u64| Duration::from_millis(deadline.saturating_sub(clock::now()));
        let time_limit = request.deadline.map_or(time_limit, |deadline| time_limit.min(left(deadline)));
        let start = Instant::now();
        let call = Arc::new(Call {
            id: request.id,
            func: request.func,
            user: request.user,
            source: request.source,
            timeout: time_limit,
            deadline: after(start, time_limit),
            deadline_at: clock::now().saturating_add(u64::try_from(time_limit.as_millis()).unwrap_or(u64::MAX)),
            chain: request.chain,
            way: Way(self.caller.get().is_some().then(|| Arc::clone(self) as Arc<dyn Caller>)),
            cancel: CancelToken::default(),
            log: OnceLock::new(),
        });
        let has_ended = Arc::new(AtomicBool::new(false));
        let watch = self.watchdog.watch(call.deadline, {
            let (shared, function) = (Arc::clone(self), Arc::clone(&function));
            let (rival, call, has_ended) = (reply.rival(), Arc::clone(&call), Arc::clone(&has_ended));
            move |why| {
                let Some(is_to_be_replaced) = shared.set_aside(&function, number, &has_ended) else { return };
                let end = |reason| rival.answer(Err(call.cut_off(reason)));
                match why {
                    Why::Deadline => end(CallError::TimedOut),
                    Why::Cancelled => end(CallError::Cancelled),
                    // It has started, and must not start again.
                    Why::GivenUp if function.terms.delivery == Delivery::AtMostOnce => end(CallError::Lost),
                    Why::GivenUp if function.terms.ends_with_daemon => end(CallError::Lost),
                    Why::GivenUp => rival.hand_back(),
                }
                call.cancel.cancel();
                if is_to_be_replaced && let Err(error) = shared.hire() {
                    log::error!("no thread to replace a stuck worker: {error}");
                }
            }
        });
        let outcome = match self.register.advance(number, Stage::Running { since: start, alarm: watch.key() }) {
            // A panic in one function must not cost us a worker.
            Ok(()) => catch_unwind(AssertUnwindSafe(|| function.body.run_for_output(&call, request.args))),
            Err(Cancelled) => Ok(Err(CallError::Cancelled)),
        };
        let is_late = has_ended.swap(true, Ordering::AcqRel);
        drop(watch);
        reply.give(outcome.unwrap_or_else(|panic| Err(described(panic))));
        is_late
    }

    /// A worker is held by a job past its deadline: it is off duty. Tells whether another takes its place; `None` if the job
    /// has ended after all. That is decided under the lock, so that a worker that comes back finds itself counted.
    fn set_aside(&self, function: &Function, call: Number, has_ended: &AtomicBool) -> Option<bool> {
        let mut state = self.state();
        if has_ended.swap(true, Ordering::AcqRel) {
            return None;
        }
        // Under the lock as well, so that it is forgotten after this.
        self.register.keep_late(call);
        state.running -= 1;
        state.stuck += 1;
        self.leave_lane(&mut state, function);
        self.wake_one(&mut state);
        if !state.is_closed && state.stuck <= self.size.max_stuck {
            return Some(true);
        }
        state.on_duty -= 1;
        let (on_duty, stuck, is_closed) = (state.on_duty, state.stuck, state.is_closed);
        drop(state);
        self.room.notify_all();
        if !is_closed {
            log::error!(
                "{stuck} calls ignore their time limit and hold a thread, only {on_duty} workers are left: restart cerbas; \
                 the last function was {}",
                function.name
            );
        }
        Some(false)
    }
}

/// A function that waits for another holds its worker; meanwhile there is one more, or functions that call each other
/// could hold all workers and wait for ever.
impl Caller for Shared {
    fn call(&self, call: Onward) -> Outcome {
        let caller = self.caller.get().ok_or(CallError::Lost)?;
        let is_lent = self.lend();
        let outcome = caller.call(call);
        if is_lent {
            self.take_back();
        }
        outcome
    }

    fn nodes(&self) -> Result<Vec<Node>, String> {
        self.caller.get().ok_or_else(|| "there is no way to others".to_owned())?.nodes()
    }

    /// Starts one more worker; tells whether it did. As many as may be stuck can be lent.
    fn lend(&self) -> bool {
        let mut state = self.state();
        if state.is_closed || state.lent >= self.size.max_stuck {
            return false;
        }
        state.lent += 1;
        state.on_duty += 1;
        drop(state);
        let hired = self.me.upgrade().map(|shared| shared.hire());
        let is_lent = matches!(hired, Some(Ok(())));
        if !is_lent {
            // Without it the call goes on as well, only maybe later.
            self.state().lent -= 1;
        }
        is_lent
    }

    fn take_back(&self) {
        self.state().lent -= 1;
    }
}

fn described(panic: Box<dyn Any + Send>) -> CallError {
    let error = CallError::Failed(format!("function panicked: {}", message_of(&*panic)));
    // What it panicked with is the function's own, and could panic again when it is dropped.
    std::mem::forget(panic);
    error
}
