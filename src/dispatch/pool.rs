//! The fixed pool of workers.
//!
//! Jobs wait in one queue under one lock, and at most one sleeping worker is being woken at a time: it wakes the next
//! one if there is more to do. So a burst of short jobs is done by the workers that are awake, without a wake-up each,
//! and a long job never holds back the one behind it.
//!
//! Invariants:
//! * [`Pool::submit`] never blocks; a door asks for [`Pool::wait_for_room`] before it takes work in.
//! * A worker whose job is past its time limit is off duty from that moment, and another takes its place. It leaves when
//!   its function returns. When `max_stuck` of them are held, the next are not replaced any more.
//! * A job runs only while its function has fewer than `concurrency` others running; until then it is parked.

mod workers;

use std::collections::VecDeque;
use std::io;
use std::sync::{Arc, Condvar, Mutex, MutexGuard, OnceLock, Weak};
use std::time::{Duration, Instant};

use super::lanes::Lanes;
use super::open::{Cancelled, Number, Register, Stage};
use super::prefetch::Prefetch;
use super::reply::{Reply, Settled};
use super::watchdog::Watchdog;
use crate::functions::{Caller, Function};
use crate::lock::Unpoisoned;
use crate::protocol::{CallError, Request};
use crate::thread::Threads;

/// However many calls of limited functions come, no more are parked; then nothing is claimed until some have run.
const MAX_PARKED: usize = 1024;

/// How long killed commands and cancelled functions may take to end when the daemon gives up.
const LAST_GRACE: Duration = Duration::from_secs(1);

/// A call on its way to a worker.
pub(super) struct Job {
    /// What to run.
    pub(super) function: Arc<Function>,
    /// With what.
    pub(super) request: Request,
    /// For how long.
    pub(super) time_limit: Duration,
    /// Whom to tell.
    pub(super) reply: Reply,
    /// The call in the register that it is.
    pub(super) call: Number,
    /// The pool counts the jobs that it gets.
    pub(super) order: u64,
}

/// How many workers there are, and how many may be stuck.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct PoolSize {
    /// Workers on duty.
    pub workers: usize,
    /// Workers that may be held by a function past its time limit, besides those on duty.
    pub max_stuck: usize,
}

/// One look at the pool.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct PoolStatus {
    /// Workers on duty.
    pub workers: usize,
    /// Workers on duty that have nothing to do.
    pub idle: usize,
    /// Workers on duty that run a call.
    pub busy: usize,
    /// Workers held by a function past its time limit.
    pub stuck: usize,
    /// Jobs that wait for a worker, or for their function's `concurrency`.
    pub waiting: usize,
}

pub(super) struct Pool {
    shared: Arc<Shared>,
}

struct Shared {
    /// Itself, for threads that it starts.
    me: Weak<Shared>,
    size: PoolSize,
    threads: Threads,
    /// How functions reach others.
    caller: OnceLock<Arc<dyn Caller>>,
    state: Mutex<State>,
    /// There is a job, or the pool is closed.
    work: Condvar,
    /// There is room, or a worker has left.
    room: Condvar,
    watchdog: Watchdog,
    register: Arc<Register>,
}

struct State {
    /// Those that may run now, by the number under which each was put here.
    jobs: VecDeque<(u64, Job)>,
    queued: u64,
    submitted: u64,
    lanes: Lanes,
    on_duty: usize,
    idle: usize,
    /// Workers on duty that run a job.
    running: usize,
    stuck: usize,
    /// Workers more than there should be, as many are held by functions that wait for others.
    lent: usize,
    is_waking: bool,
    doors: usize,
    prefetch: Prefetch,
    is_closed: bool,
}

impl Pool {
    pub(super) fn start(size: PoolSize, register: Arc<Register>, threads: &Threads) -> io::Result<Self> {
        let state = State {
            jobs: VecDeque::new(),
            queued: 0,
            submitted: 0,
            lanes: Lanes::default(),
            on_duty: 0,
            idle: 0,
            running: 0,
            stuck: 0,
            lent: 0,
            is_waking: false,
            doors: 0,
            prefetch: Prefetch::new(Instant::now()),
            is_closed: false,
        };
        let watchdog = Watchdog::start(threads)?;
        let shared = Arc::new_cyclic(|me| Shared {
            me: Weak::clone(me),
            size,
            threads: threads.clone(),
            caller: OnceLock::new(),
            state: Mutex::new(state),
            work: Condvar::new(),
            room: Condvar::new(),
            watchdog,
            register,
        });
        for _ in 0..size.workers {
            shared.state().on_duty += 1;
            shared.hire()?;
        }
        Ok(Pool { shared })
    }

    /// From now on functions reach others through `caller`.
    pub(super) fn connect(&self, caller: Arc<dyn Caller>) {
        let _first_one_stays = self.shared.caller.set(caller);
    }

    /// The deadlines of running jobs; others may be watched, too.
    pub(super) fn watchdog(&self) -> &Watchdog {
        &self.shared.watchdog
    }

    /// Runs `job` as soon as a worker and its function's `concurrency` allow. A closed pool hands it back.
    pub(super) fn submit(&self, job: Job) {
        let mut state = self.shared.state();
        if state.is_closed {
            drop(state);
            return job.reply.settle(Settled::HandedBack);
        }
        let register = &self.shared.register;
        state.submitted += 1;
        let job = Job { order: state.submitted, ..job };
        let is_admitted = state.lanes.admit(&job.function);
        let stage = if is_admitted { Stage::Waiting(state.queued) } else { Stage::Parked(job.order) };
        if register.advance(job.call, stage) == Err(Cancelled) {
            if is_admitted {
                self.shared.leave_lane(&mut state, &job.function);
                self.shared.wake_one(&mut state);
            }
            drop(state);
            return job.reply.answer(Err(CallError::Cancelled));
        }
        if is_admitted {
            state.push(job);
            self.shared.wake_one(&mut state);
        } else {
            state.lanes.park(job);
        }
    }

    /// Waits until jobs can be started soon, and tells how many; 0 if there is still no room after `patience`.
    pub(super) fn wait_for_room(&self, patience: Duration) -> usize {
        let deadline = Instant::now() + patience;
        let mut state = self.shared.state();
        loop {
            let now = Instant::now();
            let room = state.room(now);
            if room > 0 || now >= deadline || state.is_closed {
                return if state.is_closed { 0 } else { room };
            }
            state.doors += 1;
            let waited = self.shared.room.wait_timeout(state, deadline - now);
            state = waited.unpoisoned().0;
            state.doors -= 1;
        }
    }

    /// Ends the job that waits for a worker as `place`; tells whether it was there.
    pub(super) fn cancel_waiting(&self, place: u64) -> bool {
        cancel(self.shared.take_waiting(place))
    }

    /// Ends the job of the function called `name` that came as `order` and is parked; tells whether it was there.
    pub(super) fn cancel_parked(&self, name: &str, order: u64) -> bool {
        let parked = self.shared.state().lanes.take_out(name, order);
        cancel(parked)
    }

    pub(super) fn status(&self) -> PoolStatus {
        let state = self.shared.state();
        PoolStatus {
            workers: state.on_duty,
            idle: state.idle,
            busy: state.running,
            stuck: state.stuck,
            waiting: state.jobs.len() + state.lanes.parked(),
        }
    }

    /// Takes no more jobs, hands back what has not started, and waits until `deadline` for what runs. What still runs then is
    /// given up: cancelled and handed back. Gives back how many those were.
    pub(super) fn close(&self, deadline: Instant) -> usize {
        let unstarted = self.shared.state().close();
        self.shared.work.notify_all();
        self.shared.room.notify_all();
        // The last one first: each goes to the head of its queue, so the first one ends up in front again.
        for job in unstarted.into_iter().rev() {
            job.reply.settle(Settled::HandedBack);
        }
        self.shared.wait_until(deadline, |state| state.running == 0);
        let given_up = self.shared.state().running;
        self.shared.watchdog.give_up();
        // Also for commands past their limit, which are being killed.
        self.shared.wait_until(Instant::now() + LAST_GRACE, |state| state.on_duty == 0 && state.stuck == 0);
        let stuck = self.shared.state().stuck;
        if stuck > 0 {
            log::warn!("{stuck} functions past their time limit are still running and are left behind");
        }
        given_up
    }
}

impl Drop for Pool {
    fn drop(&mut self) {
        if !self.shared.state().is_closed {
            self.close(Instant::now());
        }
    }
}

/// Answers `job`, which was taken out; tells whether there was one.
fn cancel(job: Option<Job>) -> bool {
    let is_there = job.is_some();
    if let Some(job) = job {
        job.reply.answer(Err(CallError::Cancelled));
    }
    is_there
}

impl State {
    /// Lets `job` wait for a worker.
    fn push(&mut self, job: Job) {
        self.jobs.push_back((self.queued, job));
        self.queued += 1;
    }

    fn room(&mut self, now: Instant) -> usize {
        if self.lanes.parked() >= MAX_PARKED {
            return 0;
        }
        (self.idle + self.prefetch.window(now)).saturating_sub(self.jobs.len())
    }

    /// A late worker's function has returned; tells whether the pool lacks a worker, so that it goes on.
    fn come_back(&mut self, size: PoolSize) -> bool {
        self.stuck -= 1;
        let is_needed = self.on_duty < size.workers + self.lent && !self.is_closed;
        if is_needed {
            self.on_duty += 1;
        }
        is_needed
    }

    fn close(&mut self) -> Vec<Job> {
        self.is_closed = true;
        let waiting = self.jobs.drain(..).map(|(_, job)| job);
        let mut unstarted: Vec<Job> = waiting.chain(self.lanes.drain()).collect();
        unstarted.sort_by_key(|job| job.order);
        unstarted
    }
}

impl Shared {
    fn state(&self) -> MutexGuard<'_, State> {
        self.state.lock().unpoisoned()
    }

    /// Takes out the job that waits for a worker as `place`, if it has not started.
    fn take_waiting(&self, place: u64) -> Option<Job> {
        let mut state = self.state();
        let at = state.jobs.binary_search_by_key(&place, |(place, _)| *place).ok()?;
        let (_, job) = state.jobs.remove(at)?;
        self.leave_lane(&mut state, &job.function);
        self.wake_one(&mut state);
        Some(job)
    }

    /// A call of `function` has ended; the next one that is parked may start.
    fn leave_lane(&self, state: &mut State, function: &Function) {
        for job in state.lanes.leave(function) {
            // Whoever cancels it meanwhile looks again, as this is done under the lock, and finds it here.
            let _is_found_by_who_cancels = self.register.advance(job.call, Stage::Waiting(state.queued));
            state.push(job);
        }
    }

    /// Wakes a sleeping worker if there is something to do and none is being woken already.
    fn wake_one(&self, state: &mut State) {
        if !state.jobs.is_empty() && state.idle > 0 && !state.is_waking {
            state.is_waking = true;
            self.work.notify_one();
        }
    }

    /// Tells who closes the pool that nothing runs any more.
    fn tell_closer(&self, state: &State) {
        if state.is_closed && state.running == 0 {
            self.room.notify_all();
        }
    }

    /// Tells doors that wait for room; under load only when there is room for a fair batch.
    fn tell_doors(&self, state: &mut State) {
        if state.doors > 0 {
            let now = Instant::now();
            if state.room(now) > state.prefetch.window(now) / 2 {
                self.room.notify_all();
            }
        }
    }

    fn wait_until(&self, deadline: Instant, is_done: impl Fn(&State) -> bool) {
        let mut state = self.state();
        while !is_done(&state) {
            let Some(pause) = deadline.checked_duration_since(Instant::now()) else { return };
            state = self.room.wait_timeout(state, pause).unpoisoned().0;
        }
    }
}
