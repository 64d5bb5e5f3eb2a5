//! Programs that are started once and serve one call after the other, a line of JSON each way.

mod back_off;
mod child;

use std::io;
use std::sync::{Arc, Condvar, Mutex, MutexGuard};
use std::time::{Duration, Instant};

use super::output::plain;
use super::process::{Interrupt, ProcessOptions};
use super::{Body, Call};
use crate::lock::Unpoisoned;
use crate::protocol::{Arguments, CallError, Outcome};
use back_off::BackOff;
use child::{Child, Fault};

/// What makes a [`Worker`].
#[derive(Debug, Clone)]
pub struct WorkerOptions {
    /// The name of the function, for the log.
    pub name: String,
    /// The program and its arguments.
    pub argv: Vec<String>,
    /// How many of it may run at once; at least one does.
    pub processes: usize,
    /// How they are started.
    pub process: ProcessOptions,
    /// How many bytes an answer may have.
    pub max_output: usize,
}

/// Long-lived child processes that serve calls.
///
/// A child is started when a call finds none idle, and kept. One that does not answer as it should is killed with all
/// it started, its caller is told, and the next call gets a new one, however often that happens: what a call does to its
/// child is no matter of others. Where a program cannot be started, or ends twice before it has read anything, calls are
/// answered with an error at once, and the pauses before it is started again grow from 100 ms to 30 s.
///
/// Dropping it closes the standard input of the children and gives them half a second to end.
pub struct Worker {
    options: WorkerOptions,
    shared: Arc<Shared>,
}

/// How long children have to end by themselves when the worker is dropped.
const FAREWELL: Duration = Duration::from_millis(500);

impl Worker {
    /// The body that runs `options.argv`. Nothing is started yet.
    pub fn new(options: WorkerOptions) -> Self {
        Worker { options, shared: Arc::default() }
    }

    /// Serves the call with `seat`'s child, or a new one.
    fn serve(&self, seat: &mut Seat<'_>, line: &[u8], id: &str, interrupt: &Interrupt<'_>) -> Result<Outcome, Fault> {
        if let Some(mut child) = seat.child.take().filter(Child::is_waiting) {
            match child.answer(line, id, interrupt, self.options.max_output) {
                // It ended of its own accord, and has seen nothing of this call.
                Err(Fault::Unheard(_)) => {}
                result => return self.settle(seat, child, result),
            }
        }
        loop {
            let mut child = self.start()?;
            match child.answer(line, id, interrupt, self.options.max_output) {
                Err(Fault::Unheard(reason)) => self.shared.state().back_off.failed(Instant::now(), reason),
                result => return self.settle(seat, child, result),
            }
        }
    }

    /// Keeps the child if it can be used again, and remembers that it could be started.
    fn settle(&self, seat: &mut Seat<'_>, child: Child, result: Result<Outcome, Fault>) -> Result<Outcome, Fault> {
        match &result {
            Ok(_) => {
                self.shared.state().back_off.succeeded();
                seat.child = Some(child).filter(Child::is_in_step);
            }
            // It may not have come so far.
            Err(Fault::Over(_)) => child.terminate(),
            Err(_) => {
                self.shared.state().back_off.succeeded();
                drop(child);
            }
        }
        result
    }

    fn start(&self) -> Result<Child, Fault> {
        let WorkerOptions { name, argv, process, .. } = &self.options;
        if let Some(refusal) = self.shared.state().back_off.refusal(Instant::now()) {
            return Err(Fault::Broken(refusal));
        }
        Child::start(name, argv, process).map_err(|reason| {
            self.shared.state().back_off.failed(Instant::now(), reason.clone());
            Fault::Broken(reason)
        })
    }
}

impl Body for Worker {
    fn run(&self, call: &Call, args: Arguments) -> Outcome {
        let shared = Arc::clone(&self.shared);
        let interrupt = Interrupt::of(call, move || shared.wake())
            .map_err(|error: io::Error| CallError::Failed(format!("worker: {}", plain(&error))))?;
        let mut line = call.to_json(&args);
        line.push(b'\n');
        let mut seat = self.shared.take_seat(self.options.processes, &interrupt)?;
        match self.serve(&mut seat, &line, &call.id.to_string(), &interrupt) {
            Ok(outcome) => outcome,
            Err(Fault::Over(reason)) => Err(reason),
            Err(fault) => {
                log::warn!(target: "worker", "{}: {fault}", self.options.name);
                Err(CallError::Failed(fault.to_string()))
            }
        }
    }

    fn kind(&self) -> &'static str {
        "worker"
    }

    fn capacity(&self) -> Option<usize> {
        Some(self.options.processes.max(1))
    }
}

impl Drop for Worker {
    fn drop(&mut self) {
        let mut children = std::mem::take(&mut self.shared.state().idle);
        children.iter_mut().for_each(Child::say_goodbye);
        let until = Instant::now() + FAREWELL;
        children.iter().for_each(|child| child.wait(until));
    }
}

#[derive(Default)]
struct Shared {
    state: Mutex<State>,
    changed: Condvar,
}

#[derive(Default)]
struct State {
    idle: Vec<Child>,
    /// How many calls have a child, or are about to start one.
    taken: usize,
    back_off: BackOff,
}

impl Shared {
    /// Waits until a child is free or can be started.
    fn take_seat(&self, processes: usize, interrupt: &Interrupt<'_>) -> Result<Seat<'_>, CallError> {
        let mut state = self.state();
        loop {
            if let Some(reason) = interrupt.reason() {
                return Err(reason);
            }
            if state.taken < processes.max(1) {
                state.taken += 1;
                return Ok(Seat { shared: self, child: state.idle.pop() });
            }
            let left = interrupt.deadline().saturating_duration_since(Instant::now());
            state = self.changed.wait_timeout(state, left).unpoisoned().0;
        }
    }

    fn wake(&self) {
        // Under the lock: who has looked at the call already, but does not wait yet, must not miss it.
        let _state = self.state();
        self.changed.notify_all();
    }

    fn state(&self) -> MutexGuard<'_, State> {
        self.state.lock().unpoisoned()
    }
}

/// The right to run one child.
struct Seat<'a> {
    shared: &'a Shared,
    child: Option<Child>,
}

impl Drop for Seat<'_> {
    fn drop(&mut self) {
        let mut state = self.shared.state();
        state.taken -= 1;
        state.idle.extend(self.child.take());
        self.shared.changed.notify_all();
    }
}

#[cfg(test)]
mod tests;
