//! A daemon for one test, and what holds its functions.

use std::fmt::Debug;
use std::ops::{Deref, DerefMut};
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Condvar, Mutex};
use std::thread;
use std::time::{Duration, Instant};

use cerbas::broker::{Memory, Post};
use cerbas::config::RedisServer;
use cerbas::ledger::Balance;
use cerbas::protocol::codec::Encoded;
use cerbas::protocol::{RequestId, Verdict};
use cerbas::{Client, Config, Ended, Running, Server, Terms};
use serde_json::{Map, Value, json};

/// What a loaded machine may need for anything. Only a test that fails waits so long.
pub(crate) const PATIENCE: Duration = Duration::from_secs(30);

/// A limit that a stuck function is meant to reach soon.
pub(crate) const SHORT: Duration = Duration::from_millis(40);

/// What functions take that look at no argument.
pub(crate) type Anything = Map<String, Value>;

/// A configuration without Redis, with so many workers.
pub(crate) fn workers(workers: usize) -> Config {
    configured(&format!("[server]\nworkers = {workers}\nshutdown_timeout = \"30s\""))
}

/// A configuration without Redis that says besides what `text` says.
pub(crate) fn configured(text: &str) -> Config {
    let nothing = std::iter::empty::<(&str, &str)>();
    let mut config = Config::from_text(text, "cerbas.toml", nothing).expect("the test's configuration is one");
    config.redis.server = RedisServer::None;
    config
}

/// The usual terms with another time limit.
pub(crate) fn within(timeout: Duration) -> Terms {
    Terms { timeout, ..Terms::default() }
}

/// Terms that keep values for an hour.
pub(crate) fn cached() -> Terms {
    Terms { cache: Some(Duration::from_secs(3600)), timeout: PATIENCE, ..Terms::default() }
}

/// Terms that let so many calls run at once.
pub(crate) fn at_most(concurrency: usize) -> Terms {
    Terms { concurrency: Some(concurrency), timeout: PATIENCE, ..Terms::default() }
}

/// How a daemon ends that had to abandon so much and no more.
pub(crate) fn abandoned(given_up: usize, left_behind: usize, unsettled: usize) -> Ended {
    let mut ended = Ended::default();
    (ended.given_up, ended.left_behind, ended.unsettled) = (given_up, left_behind, unsettled);
    ended
}

/// Waits until `is_so`.
#[track_caller]
pub(crate) fn eventually(what: &str, mut is_so: impl FnMut() -> bool) {
    let deadline = Instant::now() + PATIENCE;
    while !is_so() {
        assert!(Instant::now() < deadline, "this was waited for in vain: {what}");
        thread::sleep(Duration::from_millis(1));
    }
}

/// Waits until `look` sees `expected`.
#[track_caller]
pub(crate) fn becomes<T: PartialEq + Debug>(expected: T, mut look: impl FnMut() -> T) {
    let deadline = Instant::now() + PATIENCE;
    loop {
        let seen = look();
        if seen == expected {
            return;
        }
        assert!(Instant::now() < deadline, "{expected:?} was waited for in vain, it stayed {seen:?}");
        thread::sleep(Duration::from_millis(1));
    }
}

/// Where functions wait until the test lets them go.
#[derive(Clone, Default)]
pub(crate) struct Gate(Arc<(Mutex<Passages>, Condvar)>);

#[derive(Default)]
struct Passages {
    is_open: bool,
    inside: usize,
}

impl Gate {
    /// Waits here until the gate is open.
    pub(crate) fn pass(&self) {
        let (passages, opened) = &*self.0;
        let mut passages = passages.lock().expect("nothing panics under this lock");
        passages.inside += 1;
        let mut passages =
            opened.wait_while(passages, |passages| !passages.is_open).expect("nothing panics under this lock");
        passages.inside -= 1;
    }

    /// How many wait here now.
    pub(crate) fn waiting(&self) -> usize {
        self.0.0.lock().expect("nothing panics under this lock").inside
    }

    /// Waits until so many wait here.
    #[track_caller]
    pub(crate) fn holds(&self, count: usize) {
        becomes(count, || self.waiting());
    }

    /// Opens it when this is dropped: to be declared after what the gate holds.
    pub(crate) fn opened_at_the_end(&self) -> OpenedAtTheEnd {
        OpenedAtTheEnd(self.clone())
    }

    /// Lets everybody go, now and later.
    pub(crate) fn open(&self) {
        self.0.0.lock().expect("nothing panics under this lock").is_open = true;
        self.0.1.notify_all();
    }
}

/// Opens a gate at the end of a test, also where it fails.
pub(crate) struct OpenedAtTheEnd(Gate);

impl Drop for OpenedAtTheEnd {
    fn drop(&mut self) {
        self.0.open();
    }
}

/// Counts, from any thread.
#[derive(Clone, Default)]
pub(crate) struct Counter(Arc<AtomicUsize>);

impl Counter {
    /// Counts one more; gives back which one it is, from 1.
    pub(crate) fn next(&self) -> usize {
        self.0.fetch_add(1, Ordering::SeqCst) + 1
    }

    pub(crate) fn count(&self) -> usize {
        self.0.load(Ordering::SeqCst)
    }
}

/// How many are inside at once.
#[derive(Clone, Default)]
pub(crate) struct Peak {
    now: Counter,
    most: Arc<AtomicUsize>,
}

impl Peak {
    pub(crate) fn enter(&self) {
        self.most.fetch_max(self.now.next(), Ordering::SeqCst);
    }

    pub(crate) fn leave(&self) {
        self.now.0.fetch_sub(1, Ordering::SeqCst);
    }

    pub(crate) fn most(&self) -> usize {
        self.most.load(Ordering::SeqCst)
    }
}

/// A daemon that runs, with a gate for its functions. It has three functions of its own: `one` gives 1, `held` waits at
/// the gate for as long as that takes, and `stuck` does so past its limit of [`SHORT`].
pub(crate) struct Daemon {
    // Above what runs, so that it is opened first.
    gate: OpenedAtTheEnd,
    running: Running,
}

impl Daemon {
    /// Starts it with what `add` registers besides.
    pub(crate) fn start(config: Config, add: impl FnOnce(Server, &Gate) -> Server) -> Self {
        let gate = Gate::default();
        let (held, stuck) = (gate.clone(), gate.clone());
        let server = Server::new(config)
            .function("one", |_, _: Anything| Ok(1))
            .function_with("held", within(PATIENCE), move |_, _: Anything| {
                held.pass();
                Ok("let go")
            })
            .function_with("stuck", within(SHORT), move |_, _: Anything| {
                stuck.pass();
                Ok("late")
            });
        let running = add(server, &gate).start().expect("a daemon without Redis starts");
        Daemon { gate: gate.opened_at_the_end(), running }
    }

    /// Starts it with nothing but its own functions.
    pub(crate) fn plain(config: Config) -> Self {
        Self::start(config, |server, _| server)
    }

    pub(crate) fn gate(&self) -> &Gate {
        &self.gate.0
    }

    pub(crate) fn memory(&self) -> &Memory {
        self.running.memory().expect("there is no Redis")
    }

    pub(crate) fn client(&self) -> Client {
        self.running.client().expect("memory is always there").patience(PATIENCE)
    }

    /// Puts a request into the queue, as a client does that waits for the answer. One without an id gets one.
    pub(crate) fn push(&self, mut request: Value) {
        let id = request["id"].as_str().map_or_else(RequestId::random, text_id);
        request["id"] = id.to_string().into();
        self.memory().clone().send(None, request.to_string().as_bytes(), Some(&id)).expect("the broker is there");
    }

    /// Puts a request for `func` into the queue.
    pub(crate) fn send(&self, id: &str, func: &str) {
        self.push(json!({"id": id, "func": func}));
    }

    /// The answer to `id`, once it is there.
    #[track_caller]
    pub(crate) fn encoded(&self, id: &str) -> Arc<Encoded> {
        let answer = self.memory().answer(&text_id(id), PATIENCE);
        answer.unwrap_or_else(|| panic!("{id} was not answered; {:?}, {:?}", self.balance(), self.pool()))
    }

    /// The answer to `id` as a client reads it, once it is there.
    #[track_caller]
    pub(crate) fn answer(&self, id: &str) -> Value {
        serde_json::from_slice(&self.encoded(id).json).expect("an answer is JSON")
    }

    /// Whether `id` has no answer yet.
    pub(crate) fn is_unanswered(&self, id: &str) -> bool {
        self.memory().answer(&text_id(id), Duration::ZERO).is_none()
    }

    /// Calls a function that needs nothing.
    #[track_caller]
    pub(crate) fn serves(&self) {
        assert_eq!(self.client().call("one", json!({})), Ok(json!(1).into()));
    }

    /// Waits until all that was sent so far has gone down the road: what has not ended runs, is parked or waits.
    #[track_caller]
    pub(crate) fn has_taken_all(&self) {
        becomes(0, || self.memory().queue(0).len());
        // One intake takes all of a queue in order, so those before this one have been dispatched.
        self.serves();
    }

    /// The account, once every request has its verdict and all answers have been taken by the broker.
    #[track_caller]
    pub(crate) fn settled(&self) -> Balance {
        becomes((0, 0, 0, 0), || {
            let memory = self.memory();
            (memory.queue(0).len(), memory.queue(1).len(), memory.in_flight(), self.balance().in_flight)
        });
        let balance = self.balance();
        assert!(balance.holds(), "{balance:?}");
        balance
    }

    /// Waits until nothing runs and the pool has all its workers.
    #[track_caller]
    pub(crate) fn has_a_whole_pool_of(&self, workers: usize) {
        becomes((workers, workers, 0, 0), || {
            let pool = self.pool();
            (pool.workers, pool.idle, pool.stuck, pool.waiting)
        });
    }

    /// Stops it; the gate opens only afterwards.
    pub(crate) fn stop(self) -> Ended {
        let Daemon { gate, running } = self;
        let ended = running.stop();
        drop(gate);
        ended
    }
}

impl Deref for Daemon {
    type Target = Running;

    fn deref(&self) -> &Running {
        &self.running
    }
}

impl DerefMut for Daemon {
    fn deref_mut(&mut self) -> &mut Running {
        &mut self.running
    }
}

pub(crate) fn text_id(id: &str) -> RequestId {
    RequestId::from_text(id).expect("the test's id is one")
}

pub(crate) fn ok(data: impl Into<Value>) -> Value {
    json!({"status": "ok", "data": data.into()})
}

pub(crate) fn failed(text: &str) -> Value {
    json!({"status": "error", "data": text})
}

pub(crate) fn rejected(text: &str) -> Value {
    json!({"status": "error", "data": text, "verdict": "rejected"})
}

/// The answer to who waits for a daemon that has ended, where none comes after it.
pub(crate) fn lost() -> Value {
    json!({"status": "error", "data": "lost", "verdict": "lost"})
}

/// The answer to arguments that do not fit, for this reason.
pub(crate) fn unfit(reason: &str) -> Value {
    json!({"status": "error", "data": "invalid arguments", "verdict": "rejected", "reason": reason})
}

pub(crate) fn timeout() -> Value {
    json!({"status": "error", "data": "timeout", "verdict": "timeout"})
}

/// The verdicts of `balance` that are not 0.
pub(crate) fn verdicts(balance: &Balance) -> Vec<(Verdict, u64)> {
    let all = Verdict::ALL.into_iter().map(|verdict| (verdict, balance.count(verdict)));
    all.filter(|(_, count)| *count > 0).collect()
}

/// Milliseconds since 1970.
pub(crate) fn wall_clock() -> u64 {
    let since = std::time::SystemTime::now().duration_since(std::time::UNIX_EPOCH);
    since.expect("the clock is right").as_millis() as u64
}
