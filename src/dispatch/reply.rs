//! The one answer that a caller gets.

use std::hash::{BuildHasher, RandomState};
use std::sync::{Arc, Mutex, MutexGuard, Weak};
use std::thread;
use std::time::Instant;

use super::Dispatcher;
use super::chance::{Again, Chance};
use super::open::{Closed, Entry};
use crate::clock;
use crate::effects::{Effects, Output};
use crate::functions::Function;
use crate::ledger::Meter;
use crate::lock::Unpoisoned;
use crate::protocol::codec::{Encoded, encode_outcome};
use crate::protocol::{CallError, Outcome, Request, RequestId, Verdict};
use crate::said::tidy;

/// So much of a reason stands in the log, in characters.
const LONGEST_REASON: usize = 300;

/// The door that a request came in by, waiting to be told. It must not block, and it must not dispatch: it is called by
/// workers and by the watchdog.
pub trait Door: Send {
    /// What it is called, for whoever looks at what is open.
    fn name(&self) -> &'static str;

    /// The caller's answer, and what is to be done in the step that puts it on record.
    fn answer(self: Box<Self>, answer: Arc<Encoded>, effects: Effects);

    /// Whether it can do effects. Otherwise a call that has some fails: nothing is done by halves.
    fn takes_effects(&self) -> bool {
        false
    }

    /// The call is to start now; false where nobody wants it any more, and then it does not.
    fn starts(&mut self) -> bool {
        true
    }

    /// The caller's answer, given before the function runs; [`Door::answer`] follows, for the record only.
    fn answer_early(&mut self, answer: Arc<Encoded>);

    /// Whether a call that failed waits in this process until it runs again. Otherwise its door lets it wait: [`Door::run_again`].
    fn waits_here(&self) -> bool {
        false
    }

    /// The call failed, and is to run again. It goes back to where it came from, and comes in again from there.
    fn run_again(self: Box<Self>, again: Again, failure: Arc<Encoded>);

    /// The request was not run, and goes back to where it came from.
    fn hand_back(self: Box<Self>);
}

/// Answers a caller exactly once: the first to answer wins, and silence is an answer too. Dropped without an answer,
/// it answers `lost`, unless it is dropped by a panic of our own.
pub(super) struct Reply(Arc<Slot>);

/// Another hold on a [`Reply`], for who may come first: it keeps nothing alive.
#[derive(Clone)]
pub(super) struct Rival(Weak<Slot>);

struct Slot(Mutex<Option<Open>>);

/// Who is told of the answer.
enum Open {
    /// A caller.
    Caller(Caller),
    /// Somebody inside, who tells callers in turn.
    Inside(Box<dyn FnOnce(Settled) + Send>),
    /// A caller whose door is being told something else at this moment, by the one who has the reply: nobody else has it then.
    Busy,
}

/// A caller who waits at a door.
struct Caller {
    entry: Entry,
    door: Box<dyn Door>,
    called: Option<Called>,
    /// What follows on a failure.
    chance: Option<Chance>,
    /// How it runs again, where it waits for that here.
    rerun: Option<Box<Rerun>>,
}

/// A request that runs again without leaving this process.
pub(super) struct Rerun {
    /// The request.
    pub(super) request: Request,
    /// The road that it goes down again.
    pub(super) road: Weak<Dispatcher>,
}

/// What is called, for the log.
struct Called {
    function: Arc<Function>,
    /// Which run of it this is, from 1.
    attempt: u32,
}

/// How a reply was settled.
#[derive(Clone)]
pub(super) enum Settled {
    /// With an answer, and what is done besides.
    Answered(Arc<Encoded>, Effects),
    /// Not at all: the request goes back to where it came from.
    HandedBack,
}

impl Reply {
    /// The reply to the caller at `door`, on record as `entry`.
    pub(super) fn to(entry: Entry, door: Box<dyn Door>) -> Self {
        Self::from(Open::Caller(Caller { entry, door, called: None, chance: None, rerun: None }))
    }

    /// Lets the caller's request run again if it fails; `rerun` makes what that needs where it waits for it here.
    pub(super) fn give_chance(&self, given: Chance, rerun: impl FnOnce() -> Rerun) {
        if let Some(Open::Caller(caller)) = self.0.open().as_mut() {
            caller.chance = Some(given);
            caller.rerun = caller.door.waits_here().then(|| Box::new(rerun()));
        }
    }

    /// Counts the caller's request with those of its `function`, of which this is the run `attempt`, from 1.
    pub(super) fn measure(&self, meter: Arc<Meter>, function: &Arc<Function>, attempt: u32, now: Instant) {
        if let Some(Open::Caller(caller)) = self.0.open().as_mut() {
            caller.entry.measure(meter, now);
            caller.called = Some(Called { function: Arc::clone(function), attempt });
        }
    }

    /// A reply that tells `inside`.
    pub(super) fn inside(inside: impl FnOnce(Settled) + Send + 'static) -> Self {
        Self::from(Open::Inside(Box::new(inside)))
    }

    fn from(open: Open) -> Self {
        Reply(Arc::new(Slot(Mutex::new(Some(open)))))
    }

    /// Another hold, for who may answer first.
    pub(super) fn rival(&self) -> Rival {
        Rival(Arc::downgrade(&self.0))
    }

    /// Answers with `outcome`, unless somebody came first.
    pub(super) fn answer(&self, outcome: Outcome) {
        self.0.answer(outcome, Effects::default());
    }

    /// Answers with what a function gave, unless somebody came first.
    pub(super) fn give(&self, outcome: Result<Output, CallError>) {
        match outcome {
            Ok(Output { value, effects }) => match effects.excess() {
                Some(excess) => self.answer(Err(CallError::FailedForGood(excess))),
                None => self.0.answer(Ok(value), effects),
            },
            Err(error) => self.answer(Err(error)),
        }
    }

    /// Answers or hands back as `settled` says, unless somebody came first.
    pub(super) fn settle(&self, settled: Settled) {
        self.0.settle(settled);
    }

    /// Tells the door that the call is to start; false where nobody wants it any more.
    pub(super) fn starts(&self) -> bool {
        self.with_door(|door| door.starts()).unwrap_or(true)
    }

    /// Gives the caller `outcome` now; what follows is only recorded.
    pub(super) fn answer_early(&self, outcome: Outcome) {
        self.with_door(|door| door.answer_early(encode_outcome(outcome)));
    }

    /// Does `work` with the door, if there is one, outside the lock: a door may do whatever it likes. Both times that this is done the reply has
    /// no rival yet.
    fn with_door<T>(&self, work: impl FnOnce(&mut dyn Door) -> T) -> Option<T> {
        let open = self.0.open().replace(Open::Busy);
        let (open, done) = match open {
            Some(Open::Caller(mut caller)) => {
                let done = work(&mut *caller.door);
                (Some(Open::Caller(caller)), Some(done))
            }
            other => (other, None),
        };
        *self.0.open() = open;
        done
    }
}

impl Rival {
    /// Answers with `outcome`, unless somebody came first.
    pub(super) fn answer(&self, outcome: Outcome) {
        if let Some(slot) = self.0.upgrade() {
            slot.answer(outcome, Effects::default());
        }
    }

    /// Hands the request back, unless somebody came first.
    pub(super) fn hand_back(&self) {
        if let Some(slot) = self.0.upgrade() {
            slot.settle(Settled::HandedBack);
        }
    }
}

impl Slot {
    fn answer(&self, outcome: Outcome, effects: Effects) {
        // Take it out first: encoding and telling must not be waited for by a rival.
        if let Some(open) = self.take() {
            open.settle(Settled::Answered(encode_outcome(outcome), effects));
        }
    }

    fn settle(&self, settled: Settled) {
        if let Some(open) = self.take() {
            open.settle(settled);
        }
    }

    fn take(&self) -> Option<Open> {
        self.open().take()
    }

    fn open(&self) -> MutexGuard<'_, Option<Open>> {
        self.0.lock().unpoisoned()
    }
}

impl Drop for Slot {
    fn drop(&mut self) {
        // A thread of ours that panics ends the daemon, and nobody knows how far it had come. So the request stays in flight, and the
        // daemon that takes it over decides.
        if !thread::panicking() {
            self.answer(Err(CallError::Lost), Effects::default());
        }
    }
}

impl Open {
    fn settle(self, settled: Settled) {
        match (self, settled) {
            (Open::Caller(caller), Settled::Answered(_, effects))
                if !effects.is_empty() && !caller.door.takes_effects() =>
            {
                let reason = "what it does besides its answer can be done by the queue only".to_owned();
                caller.answer(encode_outcome(Err(CallError::FailedForGood(reason))), Effects::default());
            }
            (Open::Caller(caller), Settled::Answered(answer, effects)) => caller.answer(answer, effects),
            (Open::Caller(Caller { entry, door, .. }), Settled::HandedBack) => {
                door.hand_back();
                let _goes_on_elsewhere = entry.give_back();
            }
            (Open::Inside(inside), settled) => inside(settled),
            (Open::Busy, _) => {}
        }
    }
}

impl Caller {
    /// The door first: what is on record as answered is on its way.
    fn answer(self, answer: Arc<Encoded>, effects: Effects) {
        let Caller { mut entry, door, called, chance, rerun } = self;
        let told = called.filter(|_| is_told(answer.verdict)).map(|called| (called, Arc::clone(&answer)));
        let again = chance.and_then(|chance| chance.after(&answer, clock::now(), random()));
        let road = rerun.and_then(|rerun| Some((rerun.road.upgrade()?, rerun.request)));
        let will_run_again = again.is_some();
        let closed = match (again, road) {
            (Some(again), Some((road, request))) => {
                let closed = entry.fail();
                road.wait_to_run_again(request, &again, Waiting { entry, door }, answer);
                closed
            }
            (Some(again), None) => {
                door.run_again(again, answer);
                entry.give_back()
            }
            (None, _) => {
                let verdict = answer.verdict;
                door.answer(answer, effects);
                entry.close(verdict)
            }
        };
        if let Some((called, answer)) = told {
            called.tell(&closed, &answer, will_run_again);
        }
    }
}

/// A caller who waits until their call runs again.
pub(super) struct Waiting {
    pub(super) entry: Entry,
    pub(super) door: Box<dyn Door>,
}

/// Whether the log has a line for a call that ended with `verdict`. What was refused is told where many of a kind can be told together.
fn is_told(verdict: Verdict) -> bool {
    match verdict {
        Verdict::Ok => log::log_enabled!(log::Level::Debug),
        Verdict::Rejected => false,
        _ => log::log_enabled!(log::Level::Info),
    }
}

impl Called {
    /// The line in the log of a call that has ended so.
    fn tell(&self, closed: &Closed, answer: &Encoded, will_run_again: bool) {
        let (func, attempt) = (self.function.name.as_str(), self.attempt);
        // A room has a line of its own for what it has sent.
        if self.function.terms.room.is_some() {
            return;
        }
        let id = closed.id.as_ref().map(RequestId::to_string).unwrap_or_default();
        let took = closed.took.unwrap_or_default().as_millis() as u64;
        let verdict = answer.verdict.as_str();
        let reason = if answer.verdict == Verdict::Ok { String::new() } else { reason_of(answer) };
        let level = match answer.verdict {
            Verdict::Ok => log::Level::Debug,
            Verdict::Lost => log::Level::Warn,
            _ => log::Level::Info,
        };
        let colon = if reason.is_empty() { "" } else { ": " };
        let again = if will_run_again { ", runs again" } else { "" };
        log::log!(
            level, id = id, func = func, verdict = verdict, attempt = attempt, ms = took, reason = reason;
            "{func} {id}: {verdict} after {took} ms, run {attempt}{again}{colon}{reason}"
        );
    }
}

/// Why it failed, in one line: the last one of what its function said.
fn reason_of(answer: &Encoded) -> String {
    tidy(answer.message().trim_end().lines().last().unwrap_or_default(), LONGEST_REASON)
}

/// A fresh hasher's keys are random, which is all the chance that is needed here.
fn random() -> u64 {
    RandomState::new().hash_one(())
}
