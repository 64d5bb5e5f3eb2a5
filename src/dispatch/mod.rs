//! The one road, whichever door a call came in by: admit, remember, watch, run, answer.
//!
//! Invariants:
//! * [`Dispatcher::dispatch`] never blocks and never runs a function itself. A door that takes in more than the pool can
//!   start soon asks for [`Dispatcher::wait_for_room`] first.
//! * Each request that is dispatched or refused stands in the register (`open.rs`) until it ends in one verdict, or goes back to where it came from.
//! * No lock is held while a function, a door or an alarm runs.

mod admission;
mod cache;
mod chance;
mod deadlines;
mod lanes;
mod open;
mod pool;
mod prefetch;
mod reply;
mod watchdog;

use std::collections::HashMap;
use std::io;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, RwLock, Weak};
use std::time::{Duration, Instant};

pub use admission::Admission;
pub use cache::CacheStatus;
pub use chance::Again;
pub use pool::{PoolSize, PoolStatus};
pub use reply::Door;

use self::cache::{Cache, Joined, Key, Waiter};
use self::chance::Chance;
use self::deadlines::after;
use self::open::{Cancelled, Number, Register, Stage};
use self::pool::{Job, Pool};
use self::reply::{Reply, Rerun, Settled, Waiting};
use self::watchdog::Why;
use crate::clock;
use crate::effects::Effects;
use crate::functions::{Bucket, Caller, Everywhere, Function, Functions, Terms};
use crate::ledger::{Balance, Ledger};
use crate::lock::Unpoisoned;
use crate::protocol::codec::Encoded;
use crate::protocol::{CallError, CallState, EVERYWHERE, OpenCall, Request, RequestId};
use crate::thread::Threads;

/// What can be called, and by whom. Replaced as a whole at a reload.
#[derive(Default)]
pub struct Rules {
    /// What can be called.
    pub functions: Functions,
    /// Who may call.
    pub admission: Admission,
}

/// Sends requests to their functions.
pub struct Dispatcher {
    /// Itself, for calls that run again.
    me: Weak<Dispatcher>,
    rules: RwLock<Arc<Rules>>,
    cache: Arc<Cache>,
    /// By function; only those that have a rate.
    buckets: Mutex<HashMap<String, Bucket>>,
    register: Arc<Register>,
    pool: Pool,
    ledger: Ledger,
    /// Nothing waits any more to run again.
    is_closing: AtomicBool,
}

impl Dispatcher {
    /// Starts the pool and its watchdog.
    pub fn start(rules: Rules, size: PoolSize, threads: &Threads) -> io::Result<Arc<Self>> {
        let register = Arc::<Register>::default();
        let pool = Pool::start(size, Arc::clone(&register), threads)?;
        Ok(Arc::new_cyclic(|me| Dispatcher {
            me: Weak::clone(me),
            rules: RwLock::new(Arc::new(rules)),
            cache: Arc::default(),
            buckets: Mutex::default(),
            register,
            pool,
            ledger: Ledger::default(),
            is_closing: AtomicBool::new(false),
        }))
    }

    /// From now on functions reach others through `caller`.
    pub fn connect(&self, caller: Arc<dyn Caller>) {
        self.pool.connect(caller);
    }

    /// Sends `request` down the road; `door` gets the one answer.
    pub fn dispatch(&self, request: Request, door: Box<dyn Door>) {
        let now = Instant::now();
        let entry = self.register.accept(request.id.clone(), door.name(), now);
        let number = entry.number();
        self.send(request, number, Reply::to(entry, door), now);
    }

    /// Sends on `request`, which is accepted as `call`, for a run of it.
    fn send(&self, request: Request, call: Number, reply: Reply, now: Instant) {
        let function = match self.admit(&request) {
            Ok(function) => function,
            Err(refusal) => return reply.answer(Err(refusal)),
        };
        let meter = self.ledger.meter(request.account.as_deref().unwrap_or(&request.func));
        let attempt = request.attempt.saturating_add(1);
        reply.measure(meter, &function, attempt, now);
        self.register.name(call, &function, attempt);
        // Again before it starts; but a shared run is everybody's, and does not expire with the one who came first.
        if request.is_expired(clock::now) {
            return reply.answer(Err(CallError::Expired));
        }
        if !request.is_counted && !self.is_within_rate(&function) {
            return reply.answer(Err(CallError::Overload));
        }
        let function = if request.node.as_deref() == Some(EVERYWHERE) { everywhere(&function) } else { function };
        if let Some(chance) = Chance::of(&function, &request, clock::now) {
            reply.give_chance(chance, || Rerun { request: request.clone(), road: Weak::clone(&self.me) });
        }
        if function.terms.is_async && request.attempt == 0 {
            reply.answer_early(Ok("".into()));
        }
        // What has effects has them for each caller.
        match function.terms.cache.filter(|_| !function.body.has_effects()) {
            Some(ttl) => self.share(function, request, call, reply, ttl),
            None => {
                let time_limit = function.time_limit(&request);
                self.pool.submit(Job { function, request, time_limit, reply, call, order: 0 });
            }
        }
    }

    /// Lets a call that has failed run again when that is due; where nothing runs again any more, its `failure` is the end.
    fn wait_to_run_again(&self, request: Request, again: &Again, waiting: Waiting, failure: Arc<Encoded>) {
        let Waiting { entry, door } = waiting;
        let call = entry.number();
        let request =
            Request { attempt: again.attempt, first_at: Some(again.first_at), expires_at: again.expires_at, ..request };
        let (due, reply, road) = (again.due, Reply::to(entry, door), Weak::clone(&self.me));
        let alarm = move |why| match (why, road.upgrade()) {
            (Why::Deadline, Some(road)) => match road.register.advance(call, Stage::Moving) {
                Ok(()) => road.send(request, call, reply, Instant::now()),
                Err(Cancelled) => reply.answer(Err(CallError::Cancelled)),
            },
            (Why::Cancelled, _) => reply.answer(Err(CallError::Cancelled)),
            (Why::GivenUp | Why::Deadline, _) => {
                reply.settle(Settled::Answered(failure, Effects::default()));
            }
        };
        let watchdog = self.pool.watchdog();
        let starts = after(Instant::now(), Duration::from_millis(due.saturating_sub(clock::now())));
        let note = |alarm| self.register.advance(call, Stage::Again { due, alarm });
        let (alarm, advanced) = watchdog.set(starts, alarm, note);
        if advanced == Err(Cancelled) {
            watchdog.raise(alarm, Why::Cancelled);
        }
        // After it can be found there: who closes looks for it once.
        if self.is_closing.load(Ordering::SeqCst) {
            watchdog.raise(alarm, Why::GivenUp);
        }
    }

    /// Ends all calls of the request `id`, be they running or not: their callers get `cancelled` at once, commands are killed,
    /// native functions are told. Tells whether there is such a call.
    pub fn cancel(&self, id: &RequestId) -> bool {
        let found = self.register.cancel(id);
        for (call, stage) in &found {
            self.end_cancelled(*call, *stage);
        }
        !found.is_empty()
    }

    /// Ends `call`, which is marked as cancelled, where it is: at `stage`, or where it went meanwhile.
    fn end_cancelled(&self, call: Number, mut stage: Stage) {
        loop {
            let is_ended = match stage {
                // Whoever moves it hears of it.
                Stage::Moving => return,
                Stage::Waiting(place) => self.pool.cancel_waiting(place),
                Stage::Parked(order) => {
                    let function = self.register.function(call);
                    function.is_some_and(|function| self.pool.cancel_parked(&function.name, order))
                }
                Stage::Shares(run) => self.leave(run, call),
                Stage::Running { alarm, .. } | Stage::Again { alarm, .. } => {
                    self.pool.watchdog().raise(alarm, Why::Cancelled)
                }
            };
            match self.register.stage(call) {
                Some(next) if !is_ended && next != stage => stage = next,
                _ => return,
            }
        }
    }

    /// The cancelled `call` leaves the run that it shares with others, which ends when it was the last; tells whether it was there.
    fn leave(&self, run: Number, call: Number) -> bool {
        let Some(left) = self.cache.leave(run, call) else { return false };
        left.reply.answer(Err(CallError::Cancelled));
        if left.was_last
            && let Some(stage) = self.register.cancel_one(run)
        {
            self.end_cancelled(run, stage);
        }
        true
    }

    /// Answers what cannot be dispatched with `refusal`.
    pub fn refuse(&self, id: RequestId, refusal: CallError, door: Box<dyn Door>) {
        Reply::to(self.register.accept(id, door.name(), Instant::now()), door).answer(Err(refusal));
    }

    /// The function that `request` asks for, if it may be called so.
    pub fn admit(&self, request: &Request) -> Result<Arc<Function>, CallError> {
        Admission::admit_origin(request)?;
        let rules = self.rules();
        let function = rules.functions.get(&request.func).ok_or(CallError::UndefinedFunction)?;
        rules.admission.admit(request, function)?;
        Ok(Arc::clone(function))
    }

    /// The same for one that is about to start, of which all is asked that [`Dispatcher::dispatch`] will ask.
    pub fn admit_to_start(&self, request: &mut Request) -> Result<(), CallError> {
        let function = self.admit(request)?;
        if request.is_expired(clock::now) {
            return Err(CallError::Expired);
        }
        request.is_counted = self.is_within_rate(&function);
        if request.is_counted { Ok(()) } else { Err(CallError::Overload) }
    }

    /// Waits until requests can be started soon, and tells how many; 0 if there is no room after `patience`.
    pub fn wait_for_room(&self, patience: Duration) -> usize {
        self.pool.wait_for_room(patience)
    }

    /// What can be called, and by whom, at this moment.
    pub fn rules(&self) -> Arc<Rules> {
        Arc::clone(&self.rules.read().unpoisoned())
    }

    /// Replaces functions and admission. Calls that run or wait go on with what they came in with.
    pub fn replace_rules(&self, rules: Rules) {
        let old = std::mem::replace(&mut *self.rules.write().unpoisoned(), Arc::new(rules));
        // Outside the lock: worker processes of functions that are gone end here.
        drop(old);
    }

    /// One look at the pool.
    pub fn pool(&self) -> PoolStatus {
        self.pool.status()
    }

    /// One look at the cache.
    pub fn cache(&self) -> CacheStatus {
        self.cache.status()
    }

    /// What runs, and what was accepted and does not run at this moment; not more of each than a node's record may have.
    pub fn record(&self) -> (Vec<OpenCall>, Vec<OpenCall>) {
        self.register.record()
    }

    /// All open calls that are `wanted` by their state, the oldest first, `most` of them at the most.
    pub fn open_calls(&self, wanted: impl Fn(CallState) -> bool, most: usize) -> Vec<OpenCall> {
        self.register.look(wanted, most)
    }

    /// The open calls of the request `id`: clients can give several the same.
    pub fn find(&self, id: &RequestId) -> Vec<OpenCall> {
        self.register.find(id)
    }

    /// The account of all requests.
    pub fn balance(&self) -> Balance {
        self.register.balance()
    }

    /// The accounts of single functions.
    pub fn ledger(&self) -> &Ledger {
        &self.ledger
    }

    /// Starts nothing more, hands back what has not started, and waits until `deadline` for what runs. Gives back how
    /// many calls had to be given up; they are cancelled and handed back, too.
    pub fn close(&self, deadline: Instant) -> usize {
        self.is_closing.store(true, Ordering::SeqCst);
        for alarm in self.register.waiting_to_run_again() {
            self.pool.watchdog().raise(alarm, Why::GivenUp);
        }
        self.pool.close(deadline)
    }

    /// Whether `function` may be called now, by its rate; counts the call if so.
    fn is_within_rate(&self, function: &Function) -> bool {
        let Some(rate) = function.terms.rate else { return true };
        let now = Instant::now();
        let mut buckets = self.buckets.lock().unpoisoned();
        let bucket = buckets.entry(function.name.clone()).or_insert_with(|| Bucket::full(rate, now));
        bucket.take(rate, now)
    }

    /// Runs a call of a cached function, unless its value is known or it runs already.
    fn share(&self, function: Arc<Function>, request: Request, call: Number, reply: Reply, ttl: Duration) {
        let key = Key::new(&function, &request.args);
        let now = Instant::now();
        let waiter = self.watch_waiter(&function, &request, call, reply, now);
        let begin = || self.register.share(request.id.clone(), &function);
        let (run, is_first) = match self.cache.join(&key, waiter, now, begin) {
            Joined::Answered => return,
            Joined::Waiting(run) => (run, false),
            Joined::First(run) => (run, true),
        };
        if is_first {
            let (cache, register) = (Arc::clone(&self.cache), Arc::clone(&self.register));
            let reply = Reply::inside(move |settled| {
                cache.finish(&key, run, settled, ttl, Instant::now());
                register.strike(run);
            });
            let request = Request { expires_at: None, deadline: None, ..request };
            let time_limit = function.terms.timeout;
            self.pool.submit(Job { function, request, time_limit, reply, call: run, order: 0 });
        }
        if self.register.advance(call, Stage::Shares(run)) == Err(Cancelled) {
            self.leave(run, call);
        }
    }

    /// A caller who waits for a shared run keeps their own time limit, where it is shorter than the function's.
    fn watch_waiter(&self, function: &Function, request: &Request, call: Number, reply: Reply, now: Instant) -> Waiter {
        let left = request.deadline.map(|deadline| Duration::from_millis(deadline.saturating_sub(clock::now())));
        let own_limit = [request.timeout, left].into_iter().flatten().min();
        let own_limit = own_limit.filter(|limit| *limit < function.terms.timeout);
        let watch = own_limit.map(|limit| {
            let rival = reply.rival();
            self.pool.watchdog().watch(after(now, limit), move |why| match why {
                Why::Deadline => rival.answer(Err(CallError::TimedOut)),
                Why::Cancelled => rival.answer(Err(CallError::Cancelled)),
                Why::GivenUp => rival.hand_back(),
            })
        });
        Waiter { call, reply, _watch: watch }
    }
}

/// The function that asks all nodes to run `function`; what holds for it holds there.
fn everywhere(function: &Function) -> Arc<Function> {
    let terms = Terms { timeout: function.terms.timeout, ..Terms::default() };
    Arc::new(Function { name: function.name.clone(), terms, body: Box::new(Everywhere) })
}
