//! The one road, whichever door a call came in by: admit, remember, watch, run, answer.
//!
//! Invariants:
//! * [`Dispatcher::dispatch`] never blocks and never runs a function itself. A door that takes in more than the pool can
//!   start soon asks for [`Dispatcher::wait_for_room`] first.
//! * Each request that is dispatched or refused is accepted by the [`Ledger`] and ends there in one verdict, or is handed back.
//! * No lock is held while a function, a door or an alarm runs.

mod admission;
mod cache;
mod chance;
mod deadlines;
mod lanes;
mod pool;
mod prefetch;
mod reply;
mod running;
mod watchdog;

use std::borrow::Cow;
use std::collections::HashMap;
use std::io;
use std::sync::{Arc, Mutex, RwLock};
use std::time::{Duration, Instant};

pub use admission::Admission;
pub use cache::CacheStatus;
pub use chance::Again;
pub use pool::{PoolSize, PoolStatus};
pub use reply::Door;

use self::cache::{Cache, Joined, Key, Left, Waiter};
use self::chance::Chance;
use self::pool::{Job, Pool};
use self::reply::Reply;
use self::watchdog::Why;
use crate::clock;
use crate::functions::{Bucket, Caller, Everywhere, Function, Functions, Terms};
use crate::ledger::Ledger;
use crate::protocol::{CRON_FUNCTION, CallError, EVERYWHERE, Request, RequestId, RunningCall};

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
    rules: RwLock<Arc<Rules>>,
    cache: Arc<Cache>,
    /// By function; only those that have a rate.
    buckets: Mutex<HashMap<String, Bucket>>,
    pool: Pool,
    ledger: Arc<Ledger>,
}

impl Dispatcher {
    /// Starts the pool and its watchdog.
    pub fn start(rules: Rules, size: PoolSize, ledger: Arc<Ledger>) -> io::Result<Self> {
        Ok(Dispatcher {
            rules: RwLock::new(Arc::new(rules)),
            cache: Arc::default(),
            buckets: Mutex::default(),
            pool: Pool::start(size)?,
            ledger,
        })
    }

    /// From now on functions reach others through `caller`.
    pub fn connect(&self, caller: Arc<dyn Caller>) {
        self.pool.connect(caller);
    }

    /// Sends `request` down the road; `door` gets the one answer.
    pub fn dispatch(&self, request: Request, door: Box<dyn Door>) {
        let mut reply = Reply::to(self.ledger.accept(request.id.clone()), door);
        let function = match self.admit(&request) {
            Ok(function) => function,
            Err(refusal) => return reply.answer(Err(refusal)),
        };
        let meter = self.ledger.meter(&account(&request));
        reply.measure(meter, &function, request.attempt + 1, Instant::now());
        // Again before it starts; but a shared run is everybody's, and does not expire with the one who came first.
        if request.is_expired(clock::now) {
            return reply.answer(Err(CallError::Expired));
        }
        if !request.is_counted && !self.is_within_rate(&function) {
            return reply.answer(Err(CallError::Overload));
        }
        let function = if request.node.as_deref() == Some(EVERYWHERE) { everywhere(&function) } else { function };
        if let Some(chance) = Chance::of(&function, &request, clock::now) {
            reply.give_chance(chance);
        }
        if function.terms.is_async && request.attempt == 0 {
            reply.answer_early(Ok("".into()));
        }
        match function.terms.cache {
            Some(ttl) => self.share(function, request, reply, ttl),
            None => {
                let time_limit = function.time_limit(&request);
                self.pool.submit(Job { function, request, time_limit, reply, tag: None, number: 0 });
            }
        }
    }

    /// Ends the call of the request `id`, be it running or not: its caller gets `cancelled` at once, commands are killed,
    /// native functions are told. Tells whether there is such a call.
    pub fn cancel(&self, id: &RequestId) -> bool {
        match self.cache.leave(id) {
            Left::Nobody => self.pool.cancel(id),
            Left::One { reply, run } => {
                reply.answer(Err(CallError::Cancelled));
                // A run that nobody waits for any more ends, too.
                if let Some(run) = run {
                    self.pool.cancel(&run);
                }
                true
            }
        }
    }

    /// Answers what cannot be dispatched with `refusal`.
    pub fn refuse(&self, id: RequestId, refusal: CallError, door: Box<dyn Door>) {
        Reply::to(self.ledger.accept(id), door).answer(Err(refusal));
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
        Arc::clone(&self.rules.read().expect("nothing panics under this lock"))
    }

    /// Replaces functions and admission. Calls that run or wait go on with what they came in with.
    pub fn replace_rules(&self, rules: Rules) {
        let old = std::mem::replace(&mut *self.rules.write().expect("nothing panics under this lock"), Arc::new(rules));
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

    /// What the workers run, what runs longest first; not more than a node's record may have.
    pub fn running(&self) -> Vec<RunningCall> {
        self.pool.running()
    }

    /// The account of all requests.
    pub fn ledger(&self) -> &Arc<Ledger> {
        &self.ledger
    }

    /// Starts nothing more, hands back what has not started, and waits until `deadline` for what runs. Gives back how
    /// many calls had to be given up; they are cancelled and handed back, too.
    pub fn close(&self, deadline: Instant) -> usize {
        self.pool.close(deadline)
    }

    /// Whether `function` may be called now, by its rate; counts the call if so.
    fn is_within_rate(&self, function: &Function) -> bool {
        let Some(rate) = function.terms.rate else { return true };
        let now = Instant::now();
        let mut buckets = self.buckets.lock().expect("nothing panics under this lock");
        let bucket = buckets.entry(function.name.clone()).or_insert_with(|| Bucket::full(rate, now));
        bucket.take(rate, now)
    }

    /// Runs a call of a cached function, unless its value is known or it runs already.
    fn share(&self, function: Arc<Function>, request: Request, reply: Reply, ttl: Duration) {
        let key = Key::new(&function, &request.args);
        let now = Instant::now();
        let waiter = self.watch_waiter(&function, &request, reply, now);
        match self.cache.join(&key, waiter, now) {
            Joined::Answered | Joined::Waiting => {}
            Joined::First(run) => {
                let (cache, name) = (Arc::clone(&self.cache), run.clone());
                let reply = Reply::inside(move |settled| cache.finish(&key, &name, settled, ttl, Instant::now()));
                let request = Request { expires_at: None, deadline: None, ..request };
                let time_limit = function.terms.timeout;
                self.pool.submit(Job { function, request, time_limit, reply, tag: Some(run), number: 0 });
            }
        }
    }

    /// A caller who waits for a shared run keeps their own time limit, where it is shorter than the function's.
    fn watch_waiter(&self, function: &Function, request: &Request, reply: Reply, now: Instant) -> Waiter {
        let left = request.deadline.map(|deadline| Duration::from_millis(deadline.saturating_sub(clock::now())));
        let own_limit = [request.timeout, left].into_iter().flatten().min();
        let own_limit = own_limit.filter(|limit| *limit < function.terms.timeout);
        let watch = own_limit.map(|limit| {
            let rival = reply.rival();
            self.pool.watchdog().watch(deadlines::after(now, limit), None, move |why| match why {
                Why::Deadline => rival.answer(Err(CallError::TimedOut)),
                Why::Cancelled => rival.answer(Err(CallError::Cancelled)),
                Why::GivenUp => rival.hand_back(),
            })
        });
        Waiter { id: request.id.clone(), reply, _watch: watch }
    }
}

/// Under which name `request` is counted: that of its function, or of the crontab entry that has sent it.
fn account(request: &Request) -> Cow<'_, str> {
    match &request.cron {
        Some(scheduled) => format!("{CRON_FUNCTION}{}", scheduled.occurrence.name).into(),
        None => request.func.as_str().into(),
    }
}

/// The function that asks all nodes to run `function`; what holds for it holds there.
fn everywhere(function: &Function) -> Arc<Function> {
    let terms = Terms { timeout: function.terms.timeout, ..Terms::default() };
    Arc::new(Function { name: function.name.clone(), terms, body: Box::new(Everywhere) })
}
