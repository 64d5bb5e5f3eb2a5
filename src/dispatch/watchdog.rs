//! The thread that raises the alarm at a deadline.
//!
//! A watched call that ends in time costs two short locks and never wakes the thread: it is woken only for a deadline
//! that is earlier than the one it sleeps towards, and after it slept in vain it goes on to the next.

use std::io;
use std::sync::{Arc, Condvar, Mutex, MutexGuard};
use std::time::{Duration, Instant};

use super::deadlines::{Deadlines, Key};
use crate::lock::Unpoisoned;
use crate::thread::{Joined, Threads};

/// Why a watched call must end.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Why {
    /// Its time is over.
    Deadline,
    /// The daemon stops and has waited long enough.
    GivenUp,
    /// Somebody has cancelled it.
    Cancelled,
}

/// What is done at a deadline. It must be short and must not block.
type Alarm = Box<dyn FnOnce(Why) + Send>;

/// Watches deadlines on a thread of its own.
pub(super) struct Watchdog {
    shared: Arc<Shared>,
    // Joined on drop, after `Drop` has told it to end.
    _thread: Joined,
}

#[derive(Default)]
struct Shared {
    state: Mutex<State>,
    changed: Condvar,
    /// An alarm has been raised.
    raised: Condvar,
}

#[derive(Default)]
struct State {
    alarms: Deadlines<Alarm>,
    /// When the thread wakes up by itself; `None` while it is awake or sleeps until it is told.
    wakes_at: Option<Instant>,
    /// The thread raises an alarm at this moment.
    is_raising: bool,
    is_closed: bool,
}

/// An alarm is short; who waits for one does not wait longer than this.
const LONGEST_ALARM: Duration = Duration::from_secs(1);

impl Watchdog {
    /// Starts the thread.
    pub(super) fn start(threads: &Threads) -> io::Result<Self> {
        let shared = Arc::new(Shared::default());
        let thread = threads.spawn("watchdog", {
            let shared = Arc::clone(&shared);
            move || shared.watch()
        })?;
        Ok(Watchdog { shared, _thread: thread })
    }

    /// Raises `alarm` at `deadline`, or when it is told to by [`Watchdog::raise`], unless the returned watch is dropped before.
    pub(super) fn watch(&self, deadline: Instant, alarm: impl FnOnce(Why) + Send + 'static) -> Watch {
        let (key, ()) = self.set(deadline, alarm, |_| ());
        Watch { shared: Arc::clone(&self.shared), key }
    }

    /// Raises `alarm` at `deadline`, or when it is told to; nobody takes it back. Before it can be raised, `note` gets its key.
    pub(super) fn set<T>(
        &self,
        deadline: Instant,
        alarm: impl FnOnce(Why) + Send + 'static,
        note: impl FnOnce(Key) -> T,
    ) -> (Key, T) {
        let mut state = self.shared.state();
        let key = state.alarms.add(deadline, Box::new(alarm));
        let noted = note(key);
        if state.wakes_at.is_none_or(|wakes_at| deadline < wakes_at) {
            // Said for the thread, so that the next call does not wake it again before it has run.
            state.wakes_at = Some(deadline);
            self.shared.changed.notify_one();
        }
        (key, noted)
    }

    /// Raises all alarms now, and waits for one that is being raised: whoever it answers has been told then.
    pub(super) fn give_up(&self) {
        let alarms = self.shared.state().alarms.take_all();
        // The last one first: each call goes to the head of its queue.
        for alarm in alarms.into_iter().rev() {
            alarm(Why::GivenUp);
        }
        let is_raising = |state: &mut State| state.is_raising;
        drop(self.shared.raised.wait_timeout_while(self.shared.state(), LONGEST_ALARM, is_raising));
    }

    /// Raises the alarm `key` now; tells whether it was there.
    pub(super) fn raise(&self, key: Key, why: Why) -> bool {
        let alarm = self.shared.state().alarms.remove(key);
        let is_there = alarm.is_some();
        if let Some(alarm) = alarm {
            alarm(why);
        }
        is_there
    }
}

impl Drop for Watchdog {
    fn drop(&mut self) {
        self.shared.state().is_closed = true;
        self.shared.changed.notify_one();
    }
}

impl Shared {
    fn state(&self) -> MutexGuard<'_, State> {
        self.state.lock().unpoisoned()
    }

    fn watch(&self) {
        let mut state = self.state();
        while !state.is_closed {
            let now = Instant::now();
            if let Some(alarm) = state.alarms.take_due(now) {
                // No alarm under the lock: it answers callers and kills processes.
                state.is_raising = true;
                drop(state);
                alarm(Why::Deadline);
                state = self.state();
                state.is_raising = false;
                self.raised.notify_all();
                continue;
            }
            state.wakes_at = state.alarms.next();
            state = match state.wakes_at {
                None => self.changed.wait(state).unpoisoned(),
                Some(at) => {
                    let pause = at.saturating_duration_since(now);
                    self.changed.wait_timeout(state, pause).unpoisoned().0
                }
            };
        }
    }
}

/// A call that is watched; dropped when it has ended.
pub(super) struct Watch {
    shared: Arc<Shared>,
    key: Key,
}

impl Watch {
    /// Its alarm.
    pub(super) fn key(&self) -> Key {
        self.key
    }
}

impl Drop for Watch {
    fn drop(&mut self) {
        let alarm = self.shared.state().alarms.remove(self.key);
        // Outside the lock: an alarm holds replies, and a dropped reply answers.
        drop(alarm);
    }
}

#[cfg(test)]
mod tests {
    use std::sync::mpsc::channel;

    use super::*;

    #[test]
    fn who_gives_up_waits_for_an_alarm_that_is_being_raised() {
        let watchdog = Arc::new(Watchdog::start(&Threads::default()).expect("there are threads"));
        let ((begun, begins), (end, ends)) = (channel(), channel::<()>());
        let is_told = Arc::new(Mutex::new(false));
        let _watch = watchdog.watch(Instant::now(), {
            let is_told = Arc::clone(&is_told);
            move |_| {
                begun.send(()).expect("the test waits");
                ends.recv().expect("the test says when");
                *is_told.lock().expect("nobody panics") = true;
            }
        });
        begins.recv().expect("the alarm is raised");
        let giving_up = std::thread::spawn({
            let (watchdog, is_told) = (Arc::clone(&watchdog), Arc::clone(&is_told));
            move || {
                watchdog.give_up();
                *is_told.lock().expect("nobody panics")
            }
        });
        end.send(()).expect("the alarm waits");
        assert!(giving_up.join().expect("it gives up"), "it did not wait");
    }
}
