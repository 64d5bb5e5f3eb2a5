//! The TTL map: values that are kept for a time, and identical calls that share one run.
//!
//! The key is the function and its arguments with sorted names; who asks is not part of it, so a function whose value
//! depends on the user must not be cached. Only values are kept; a failure is shared by those who wait, and forgotten.

use std::collections::HashMap;
use std::hash::{Hash, Hasher};
use std::sync::{Arc, Mutex, MutexGuard, Weak};
use std::time::{Duration, Instant};

use super::deadlines::{Deadlines, Key as DueKey, after};
use super::open::Number;
use super::reply::{Reply, Settled};
use super::watchdog::Watch;
use crate::effects::Effects;
use crate::functions::Function;
use crate::lock::Unpoisoned;
use crate::protocol::codec::Encoded;
use crate::protocol::{Arguments, Verdict};

/// How much is kept at the most.
const MAX_ENTRIES: usize = 10_000;
/// How much is kept at the most, in bytes of answers and keys.
const MAX_BYTES: usize = 16 << 20;

/// A function and its arguments. One that took its place at a reload is another function, whatever its name.
#[derive(Clone)]
pub(super) struct Key {
    function: Weak<Function>,
    args: Arc<str>,
}

impl Key {
    /// The key of a call of `function` with `args`.
    pub(super) fn new(function: &Arc<Function>, args: &Arguments) -> Self {
        Key { function: Arc::downgrade(function), args: args.canonical().into() }
    }
}

impl PartialEq for Key {
    fn eq(&self, other: &Self) -> bool {
        self.function.ptr_eq(&other.function) && self.args == other.args
    }
}

impl Eq for Key {}

impl Hash for Key {
    fn hash<H: Hasher>(&self, state: &mut H) {
        self.function.as_ptr().hash(state);
        self.args.hash(state);
    }
}

/// Somebody who waits for a run.
pub(super) struct Waiter {
    /// Their call.
    pub(super) call: Number,
    /// How to tell them.
    pub(super) reply: Reply,
    /// Watches over their own time limit, where it is shorter than the function's.
    pub(super) _watch: Option<Watch>,
}

/// Somebody who has left a shared run, and is to be told.
pub(super) struct Left {
    /// How.
    pub(super) reply: Reply,
    /// Whether nobody waits for the run any more.
    pub(super) was_last: bool,
}

/// What [`Cache::join`] found.
pub(super) enum Joined {
    /// A value was kept; the waiter has it.
    Answered,
    /// The same call runs already, as this one; the waiter is told with the others.
    Waiting(Number),
    /// Nobody runs it: the caller must, as this one, and then tell the cache with [`Cache::finish`].
    First(Number),
}

/// One look at the cache.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct CacheStatus {
    /// Values that are kept, and calls that run.
    pub entries: usize,
    /// The bytes of the values.
    pub bytes: usize,
    /// Calls that got a value without a run of their own.
    pub hits: u64,
    /// Calls of cached functions that were run.
    pub misses: u64,
}

/// Values and runs by key.
#[derive(Default)]
pub(super) struct Cache(Mutex<Store>);

#[derive(Default)]
struct Store {
    entries: HashMap<Key, Entry>,
    ends: Deadlines<Key>,
    /// The keys of the runs.
    running: HashMap<Number, Key>,
    /// Counts the runs.
    runs: u64,
    /// Counts the calls that needed no run of their own.
    hits: u64,
    bytes: usize,
}

enum Entry {
    Kept {
        answer: Arc<Encoded>,
        end: DueKey,
    },
    Running {
        /// Which run it is.
        run: Number,
        waiters: Vec<Waiter>,
    },
}

impl Cache {
    /// Answers `waiter` from what is kept, or lets it wait for the run of `key`; the first one gets a run from `begin`.
    pub(super) fn join(&self, key: &Key, waiter: Waiter, now: Instant, begin: impl FnOnce() -> Number) -> Joined {
        let mut store = self.store();
        store.forget_due(now);
        match store.entries.get_mut(key) {
            Some(Entry::Kept { answer, .. }) => {
                let answer = Arc::clone(answer);
                store.hits += 1;
                drop(store);
                waiter.reply.settle(Settled::Answered(answer, Effects::default()));
                Joined::Answered
            }
            Some(Entry::Running { run, waiters }) => {
                waiters.push(waiter);
                let run = *run;
                store.hits += 1;
                Joined::Waiting(run)
            }
            None => {
                store.runs += 1;
                let run = begin();
                store.entries.insert(key.clone(), Entry::Running { run, waiters: vec![waiter] });
                store.running.insert(run, key.clone());
                Joined::First(run)
            }
        }
    }

    /// One look at it.
    pub(super) fn status(&self) -> CacheStatus {
        let store = self.store();
        CacheStatus { entries: store.entries.len(), bytes: store.bytes, hits: store.hits, misses: store.runs }
    }

    /// The call `call` does not wait for `run` any more; `None` where it did not.
    pub(super) fn leave(&self, run: Number, call: Number) -> Option<Left> {
        let mut guard = self.store();
        let store = &mut *guard;
        let key = store.running.get(&run)?;
        let Some(Entry::Running { waiters, .. }) = store.entries.get_mut(key) else { return None };
        // They came in the order of their numbers, but for two that came at the same moment.
        let at = match waiters.binary_search_by_key(&call, |waiter| waiter.call) {
            Ok(at) => at,
            Err(_) => waiters.iter().position(|waiter| waiter.call == call)?,
        };
        let waiter = waiters.remove(at);
        let was_last = waiters.is_empty();
        if was_last {
            // Whoever asks for the same from now on begins a run of their own.
            store.entries.remove(key);
            store.running.remove(&run);
        }
        drop(guard);
        Some(Left { reply: waiter.reply, was_last })
    }

    /// The run of `key` called `run` has ended: tells all who wait, and keeps a value for `ttl`.
    pub(super) fn finish(&self, key: &Key, run: Number, settled: Settled, ttl: Duration, now: Instant) {
        let mut store = self.store();
        // One that all have left is nobody's, and another may run under its key.
        if !matches!(store.entries.get(key), Some(Entry::Running { run: of_key, .. }) if *of_key == run) {
            return;
        }
        store.running.remove(&run);
        let waiters = match store.entries.remove(key) {
            Some(Entry::Running { waiters, .. }) => waiters,
            _ => Vec::new(),
        };
        if let Settled::Answered(answer, _) = &settled
            && answer.verdict == Verdict::Ok
        {
            store.keep(key, Arc::clone(answer), after(now, ttl));
        }
        drop(store);
        // The last one first: where all are handed back, each goes to the head of its queue.
        for waiter in waiters.into_iter().rev() {
            waiter.reply.settle(settled.clone());
        }
    }

    fn store(&self) -> MutexGuard<'_, Store> {
        self.0.lock().unpoisoned()
    }
}

impl Store {
    /// Keeps `answer`; what ends soonest makes room for it.
    fn keep(&mut self, key: &Key, answer: Arc<Encoded>, until: Instant) {
        let size = size(key, &answer);
        if size > MAX_BYTES {
            return;
        }
        while self.ends.len() >= MAX_ENTRIES || self.bytes + size > MAX_BYTES {
            let Some(soonest) = self.ends.take_first() else { break };
            self.forget(&soonest);
        }
        let end = self.ends.add(until, key.clone());
        self.bytes += size;
        self.entries.insert(key.clone(), Entry::Kept { answer, end });
    }

    fn forget_due(&mut self, now: Instant) {
        while let Some(key) = self.ends.take_due(now) {
            self.forget(&key);
        }
    }

    fn forget(&mut self, key: &Key) {
        if let Some(Entry::Kept { answer, end }) = self.entries.remove(key) {
            self.ends.remove(end);
            self.bytes -= size(key, &answer);
        }
    }
}

fn size(key: &Key, answer: &Encoded) -> usize {
    key.args.len() + answer.json.len() + answer.msgpack.len()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::dispatch::open::Register;
    use crate::functions::{Body, Call, Terms};
    use crate::protocol::codec::encode_outcome;
    use crate::protocol::{CallError, Outcome, RequestId};

    const TTL: Duration = Duration::from_secs(20);

    struct Nothing;

    impl Body for Nothing {
        fn run(&self, _: &Call, _: Arguments) -> Outcome {
            Ok(().into())
        }

        fn kind(&self) -> &'static str {
            "native"
        }
    }

    fn named(args: &str) -> Key {
        Key { function: Weak::new(), args: args.into() }
    }

    fn waiter() -> (Waiter, crossbeam_channel::Receiver<Verdict>) {
        let (told, answers) = crossbeam_channel::unbounded();
        let reply = Reply::inside(move |settled| {
            if let Settled::Answered(answer, _) = settled {
                // A waiter that the test does not look at has nobody who listens.
                let _unheard = told.send(answer.verdict);
            }
        });
        (Waiter { call: Number::default(), reply, _watch: None }, answers)
    }

    fn settled(outcome: Outcome) -> Settled {
        Settled::Answered(encode_outcome(outcome), Effects::default())
    }

    /// Numbers that nobody else has.
    fn number() -> Number {
        static REGISTER: std::sync::OnceLock<Arc<Register>> = std::sync::OnceLock::new();
        let function = Arc::new(Function { name: "f".to_owned(), terms: Terms::default(), body: Box::new(Nothing) });
        REGISTER.get_or_init(Arc::default).share(RequestId::Number(1), &function)
    }

    #[track_caller]
    fn begin(cache: &Cache, key: &Key, waiter: Waiter, now: Instant) -> Number {
        let Joined::First(run) = cache.join(key, waiter, now, number) else { panic!("nobody runs it") };
        run
    }

    #[test]
    fn the_order_of_the_arguments_makes_no_difference() {
        let arguments = |text: &str| serde_json::from_str(text).expect("the test's arguments are JSON");
        let function = Arc::new(Function { name: "f".to_owned(), terms: Terms::default(), body: Box::new(Nothing) });
        let key = |text: &str| Key::new(&function, &arguments(text));
        assert!(key(r#"{"b": 1, "a": 2}"#) == key(r#"{"a":2,"b":1}"#));
        assert!(key(r#"{"a": 1}"#) != key(r#"{"a": 2}"#));
    }

    #[test]
    fn a_value_is_kept_until_its_time_is_over() {
        let (cache, now, key) = (Cache::default(), Instant::now(), named("f"));
        let (first, first_answer) = waiter();
        let run = begin(&cache, &key, first, now);
        cache.finish(&key, run, settled(Ok(1.into())), TTL, now);
        assert_eq!(first_answer.try_recv(), Ok(Verdict::Ok));

        let (second, second_answer) = waiter();
        assert!(matches!(cache.join(&key, second, now + TTL / 2, number), Joined::Answered));
        assert_eq!(second_answer.try_recv(), Ok(Verdict::Ok));
        assert!(matches!(cache.join(&key, waiter().0, now + TTL, number), Joined::First(_)));
    }

    #[test]
    fn identical_calls_share_one_run_and_its_failure_is_not_kept() {
        let (cache, now, key) = (Cache::default(), Instant::now(), named("f"));
        let (first, first_answer) = waiter();
        let (second, second_answer) = waiter();
        let run = begin(&cache, &key, first, now);
        assert!(matches!(cache.join(&key, second, now, number), Joined::Waiting(_)));
        cache.finish(&key, run, settled(Err(CallError::TimedOut)), TTL, now);
        assert_eq!((first_answer.try_recv(), second_answer.try_recv()), (Ok(Verdict::Timeout), Ok(Verdict::Timeout)));
        assert!(matches!(cache.join(&key, waiter().0, now, number), Joined::First(_)));
    }

    #[test]
    fn entries_and_bytes_are_bounded_and_what_ends_soonest_goes_first() {
        let (cache, now) = (Cache::default(), Instant::now());
        let run = |name: usize, value: &str| {
            let key = named(&name.to_string());
            let run = begin(&cache, &key, waiter().0, now);
            cache.finish(&key, run, settled(Ok(value.into())), TTL + Duration::from_millis(name as u64), now);
        };
        (0..=MAX_ENTRIES).for_each(|name| run(name, ""));
        assert_eq!(cache.store().entries.len(), MAX_ENTRIES);
        assert!(!cache.store().entries.contains_key(&named("0")));

        let large = "x".repeat(MAX_BYTES / 4);
        (1..5).for_each(|name| run(MAX_ENTRIES + name, &large));
        assert!(cache.store().bytes <= MAX_BYTES);
        run(0, &"x".repeat(MAX_BYTES));
        assert!(!cache.store().entries.contains_key(&named("0")), "what is larger than the whole cache is not kept");
    }

    #[test]
    fn a_run_ends_when_the_last_one_has_left_and_the_next_caller_begins_another() {
        let (cache, now, key) = (Cache::default(), Instant::now(), named("f"));
        let of = |call: Number| Waiter { call, ..waiter().0 };
        let (one, other) = (number(), number());
        let run = begin(&cache, &key, of(one), now);
        assert!(matches!(cache.join(&key, of(other), now, number), Joined::Waiting(joined) if joined == run));
        assert!(matches!(cache.leave(run, one), Some(Left { was_last: false, .. })));
        assert!(cache.leave(run, one).is_none());
        assert!(matches!(cache.leave(run, other), Some(Left { was_last: true, .. })));

        let (third, answer) = waiter();
        let next = begin(&cache, &key, third, now);
        cache.finish(&key, run, settled(Err(CallError::Cancelled)), TTL, now);
        assert_eq!(answer.try_recv().ok(), None, "the end of the first run is not that of the second");
        cache.finish(&key, next, settled(Ok(1.into())), TTL, now);
        assert_eq!(answer.try_recv(), Ok(Verdict::Ok));
    }
}
