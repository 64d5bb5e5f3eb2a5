//! The register of open calls: each one that was accepted and has not ended, by its number and by its id, with how far it has
//! come and how to end it.
//!
//! Invariants:
//! * What is accepted, returned or has its verdict is counted by what a door hands in and is told, and never taken back. What is open
//!   is counted by what stands in the register. [`Register::balance`] sees both at one moment, so that the two can be compared.
//! * An [`Entry`] is closed once, as closing takes it. Dropped open, it is closed as `lost`.
//! * Whoever moves a call on asks [`Register::advance`], and hears there that somebody has cancelled it meanwhile. So no cancellation falls
//!   between two places.

mod index;

use std::sync::{Arc, Mutex, MutexGuard};
use std::time::{Duration, Instant};

use slab::Slab;

use self::index::Index;
use super::deadlines::Key as AlarmKey;
use crate::clock;
use crate::functions::Function;
use crate::ledger::{Balance, Counts, Meter};
use crate::lock::Unpoisoned;
use crate::protocol::{CallState, MOST_OPEN, OpenCall, RequestId, Verdict};

/// Finds one call of the register again; no other gets its number.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub(super) struct Number {
    serial: u64,
    place: usize,
}

/// How far a call has come, and where it is found in order to end it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Stage {
    /// It is on its way to one of the others.
    Moving,
    /// It waits for a worker, under this number of the pool.
    Waiting(u64),
    /// It waits for its function's `concurrency`, under this number of the pool.
    Parked(u64),
    /// It waits for a run that it shares with others, which stands in the register as well.
    Shares(Number),
    /// A worker runs it; this alarm ends it.
    Running {
        /// Since when.
        since: Instant,
        /// What the watchdog raises.
        alarm: AlarmKey,
    },
    /// It has failed, and runs again.
    Again {
        /// When, in milliseconds since 1970.
        due: u64,
        /// What the watchdog raises.
        alarm: AlarmKey,
    },
}

/// Somebody has cancelled the call meanwhile: whoever has it ends it.
#[derive(Debug, PartialEq, Eq)]
pub(super) struct Cancelled;

/// The register, and the counts of what is not in it any more.
#[derive(Default)]
pub(super) struct Register(Mutex<Book>);

#[derive(Default)]
struct Book {
    counts: Counts,
    calls: Slab<Call>,
    /// Of the calls, those that are runs which several share: nobody has accepted them.
    shared: usize,
    by_id: Index,
    next: u64,
    /// Functions that are held past their time limit, by the calls that have their answer.
    late: Vec<(Number, OpenCall)>,
}

struct Call {
    serial: u64,
    id: RequestId,
    /// The door that it came in by; `None` for a run that several share.
    door: Option<&'static str>,
    /// What it calls, once that is known.
    function: Option<Arc<Function>>,
    attempt: u32,
    /// When it was accepted.
    since: Instant,
    stage: Stage,
    is_cancelled: bool,
    /// The next one in the register under the same id.
    older: Option<usize>,
}

impl Register {
    /// Accepts a call that came in by `door`.
    pub(super) fn accept(self: &Arc<Self>, id: RequestId, door: &'static str, now: Instant) -> Entry {
        let mut book = self.book();
        book.counts.accepted += 1;
        let number = book.insert(id, Some(door), now);
        drop(book);
        Entry { register: Arc::clone(self), number, is_open: true, meter: None }
    }

    /// Enters a run that several calls share; the first of them is called `id`. Whoever runs it strikes it out with [`Register::strike`].
    pub(super) fn share(&self, id: RequestId, function: &Arc<Function>) -> Number {
        let mut book = self.book();
        book.shared += 1;
        let number = book.insert(id, None, Instant::now());
        book.calls[number.place].function = Some(Arc::clone(function));
        number
    }

    /// A run that several calls shared has ended.
    pub(super) fn strike(&self, number: Number) {
        let mut book = self.book();
        let run = book.remove(number);
        book.shared -= usize::from(run.is_some());
        drop(book);
        // Outside the lock: the function may end with it.
        drop(run);
    }

    /// The call is one of `function`, for the run `attempt`, from 1.
    pub(super) fn name(&self, number: Number, function: &Arc<Function>, attempt: u32) {
        if let Some(call) = self.book().call(number) {
            call.function = Some(Arc::clone(function));
            call.attempt = attempt;
        }
    }

    /// The call has come to `stage`. Whoever moves it on from [`Stage::Moving`], or has taken it out of where it was, must end it if it is
    /// cancelled: nobody else finds it there. One that has its answer already is gone, and is not cancelled.
    pub(super) fn advance(&self, number: Number, stage: Stage) -> Result<(), Cancelled> {
        match self.book().call(number) {
            Some(call) => {
                call.stage = stage;
                if call.is_cancelled { Err(Cancelled) } else { Ok(()) }
            }
            None => Ok(()),
        }
    }

    /// How far the call has come; `None` where it has ended.
    pub(super) fn stage(&self, number: Number) -> Option<Stage> {
        self.book().call(number).map(|call| call.stage)
    }

    /// The function of the call, once that is known.
    pub(super) fn function(&self, number: Number) -> Option<Arc<Function>> {
        self.book().call(number).and_then(|call| call.function.clone())
    }

    /// Marks all calls that are called `id` as cancelled, and gives back where they are. Clients can give several the same id.
    pub(super) fn cancel(&self, id: &RequestId) -> Vec<(Number, Stage)> {
        let mut book = self.book();
        let Book { by_id, calls, .. } = &mut *book;
        let mut found = Vec::new();
        let mut next = by_id.newest(id);
        while let Some(place) = next {
            let call = &mut calls[place];
            next = call.older;
            // The run that several share ends when the last of them has left.
            if call.id == *id && call.door.is_some() {
                call.is_cancelled = true;
                found.push((Number { serial: call.serial, place }, call.stage));
            }
        }
        found
    }

    /// Marks the call as cancelled, and gives back where it is; `None` where it has ended.
    pub(super) fn cancel_one(&self, number: Number) -> Option<Stage> {
        let mut book = self.book();
        let call = book.call(number)?;
        call.is_cancelled = true;
        Some(call.stage)
    }

    /// What wakes the calls that wait to run again.
    pub(super) fn waiting_to_run_again(&self) -> Vec<AlarmKey> {
        let waits = |(_, call): (usize, &Call)| match call.stage {
            Stage::Again { alarm, .. } => Some(alarm),
            _ => None,
        };
        self.book().calls.iter().filter_map(waits).collect()
    }

    /// All counts at one moment.
    pub(super) fn balance(&self) -> Balance {
        let book = self.book();
        book.counts.with_open((book.calls.len() - book.shared) as u64)
    }

    /// The open calls that are called `id`.
    pub(super) fn find(&self, id: &RequestId) -> Vec<OpenCall> {
        let book = self.book();
        let now = Now::look();
        let mut found = Vec::new();
        let mut next = book.by_id.newest(id);
        while let Some(place) = next {
            let call = &book.calls[place];
            next = call.older;
            if call.id == *id && call.door.is_some() {
                found.push(book.show(call, &now));
            }
        }
        found
    }

    /// All open calls that are `wanted` by their state, those that have been so for the longest time first, `most` of them at the most.
    pub(super) fn look(&self, wanted: impl Fn(CallState) -> bool, most: usize) -> Vec<OpenCall> {
        let book = self.book();
        let now = Now::look();
        let mut found: Vec<(u64, u64, &Call)> = Vec::new();
        for (_, call) in book.calls.iter().filter(|(_, call)| call.door.is_some()) {
            let (state, since) = book.state_of(call, &now);
            if wanted(state) {
                found.push((since, call.serial, call));
            }
        }
        let late = book.late.iter().filter(|(_, call)| wanted(call.state)).map(|(_, call)| call.clone());
        let mut shown: Vec<OpenCall> = late.collect();
        if found.len() > most {
            found.select_nth_unstable_by_key(most, |(since, serial, _)| (*since, *serial));
            found.truncate(most);
        }
        shown.extend(found.into_iter().map(|(_, _, call)| book.show(call, &now)));
        shown.sort_by_key(|call| call.since);
        shown.truncate(most);
        shown
    }

    /// What runs, and what waits, as the record of a daemon has it: no more than [`MOST_OPEN`] of each.
    pub(super) fn record(&self) -> (Vec<OpenCall>, Vec<OpenCall>) {
        let runs = |state| state == CallState::Running;
        (self.look(runs, MOST_OPEN), self.look(|state| !runs(state), MOST_OPEN))
    }

    /// The function of this call, or of this run that several share, is held past its time limit: it stays on show until
    /// [`Register::forget_late`], though its callers have their answers.
    pub(super) fn keep_late(&self, number: Number) {
        let mut book = self.book();
        if let Some(call) = book.calls.get(number.place).filter(|call| call.serial == number.serial) {
            let late = book.show(call, &Now::look());
            book.late.push((number, late));
        }
    }

    /// The function of this call has returned after all.
    pub(super) fn forget_late(&self, number: Number) {
        self.book().late.retain(|(late, _)| *late != number);
    }

    fn book(&self) -> MutexGuard<'_, Book> {
        self.0.lock().unpoisoned()
    }
}

impl Book {
    fn insert(&mut self, id: RequestId, door: Option<&'static str>, since: Instant) -> Number {
        let serial = self.next;
        self.next += 1;
        let entry = self.calls.vacant_entry();
        let place = entry.key();
        let older = self.by_id.insert(&id, place);
        let stage = Stage::Moving;
        entry.insert(Call { serial, id, door, function: None, attempt: 1, since, stage, is_cancelled: false, older });
        Number { serial, place }
    }

    fn remove(&mut self, number: Number) -> Option<Call> {
        self.call(number)?;
        let call = self.calls.remove(number.place);
        let newer = self.by_id.remove(&call.id, number.place, call.older, |place| self.calls[place].older);
        if let Some(newer) = newer {
            self.calls[newer].older = call.older;
        }
        Some(call)
    }

    fn call(&mut self, number: Number) -> Option<&mut Call> {
        self.calls.get_mut(number.place).filter(|call| call.serial == number.serial)
    }

    /// What `call` does, and since when, in milliseconds since 1970.
    fn state_of(&self, call: &Call, now: &Now) -> (CallState, u64) {
        match call.stage {
            Stage::Running { since, .. } => (CallState::Running, now.at(since)),
            Stage::Again { .. } => (CallState::Again, now.at(call.since)),
            Stage::Parked(_) => (CallState::Parked, now.at(call.since)),
            Stage::Waiting(_) | Stage::Moving => (CallState::Waiting, now.at(call.since)),
            Stage::Shares(run) => match self.calls.get(run.place).filter(|shared| shared.serial == run.serial) {
                Some(shared) => self.state_of(shared, now),
                None => (CallState::Waiting, now.at(call.since)),
            },
        }
    }

    fn show(&self, call: &Call, now: &Now) -> OpenCall {
        let (state, since) = self.state_of(call, now);
        let due = if let Stage::Again { due, .. } = call.stage { Some(due) } else { None };
        OpenCall {
            id: call.id.to_string(),
            func: call.function.as_ref().map(|function| function.name.clone()).unwrap_or_default(),
            since,
            state,
            door: call.door.unwrap_or_default().into(),
            attempt: call.attempt,
            due,
        }
    }
}

/// One moment on both clocks.
struct Now {
    wall: u64,
    monotonic: Instant,
}

impl Now {
    fn look() -> Self {
        Now { wall: clock::now(), monotonic: Instant::now() }
    }

    fn at(&self, instant: Instant) -> u64 {
        let ago = self.monotonic.saturating_duration_since(instant);
        self.wall.saturating_sub(u64::try_from(ago.as_millis()).unwrap_or(u64::MAX))
    }
}

/// What is known of an entry that is no more.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Closed {
    /// The request.
    pub(super) id: Option<RequestId>,
    /// How long it took since its function was known.
    pub(super) took: Option<Duration>,
}

/// An accepted call that has no verdict yet.
pub(super) struct Entry {
    register: Arc<Register>,
    number: Number,
    is_open: bool,
    meter: Option<(Arc<Meter>, Instant)>,
}

impl Entry {
    /// Its number in the register.
    pub(super) fn number(&self) -> Number {
        self.number
    }

    /// It is for a function, whose account `meter` is.
    pub(super) fn measure(&mut self, meter: Arc<Meter>, now: Instant) {
        self.meter = Some((meter, now));
    }

    /// A run of it has failed and it stays open: that run is counted, and the next one is measured anew.
    pub(super) fn fail(&mut self) -> Closed {
        let took = self.meter.take().map(|(_, since)| since.elapsed());
        let id = self.register.book().call(self.number).map(|call| call.id.clone());
        Closed { id, took }
    }

    /// Records the one verdict; gives back whose it was, and how long that took since it was measured.
    pub(super) fn close(mut self, verdict: Verdict) -> Closed {
        self.record(verdict)
    }

    /// The request goes back to where it came from, and whoever takes it next accepts it.
    pub(super) fn give_back(mut self) -> Closed {
        self.is_open = false;
        let mut book = self.register.book();
        book.counts.returned += 1;
        let call = book.remove(self.number);
        drop(book);
        Closed { id: call.map(|call| call.id), took: self.meter.as_ref().map(|(_, since)| since.elapsed()) }
    }

    fn record(&mut self, verdict: Verdict) -> Closed {
        self.is_open = false;
        let mut book = self.register.book();
        book.counts.verdicts[verdict as usize] += 1;
        let call = book.remove(self.number);
        drop(book);
        let took = self.meter.take().map(|(meter, since)| {
            let took = since.elapsed();
            meter.count(verdict, took);
            took
        });
        // The function may end with it: outside the lock.
        Closed { id: call.map(|call| call.id), took }
    }
}

impl Drop for Entry {
    fn drop(&mut self) {
        if self.is_open {
            let _nobody_asks = self.record(Verdict::Lost);
        }
    }
}

#[cfg(test)]
mod tests;
