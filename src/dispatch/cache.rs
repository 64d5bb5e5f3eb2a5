//! The TTL map: values that are kept for a time, and identical calls that share one run.
//!
//! The key is the function and its arguments with sorted names; who asks is not part of it, so a function whose value
//! depends on the user must not be cached. Only values are kept; a failure is shared by those who wait, and forgotten.

use std::collections::HashMap;
use std::hash::{Hash, Hasher};
use std::sync::{Arc, Mutex, MutexGuard, Weak};
use std::time::{Duration, Instant};

use super::deadlines::{Deadlines, Key as DueKey, after};
use super::reply::{Reply, Settled};
use super::watchdog::Watch;
use crate::functions::Function;
use crate::protocol::codec::Encoded;
use crate::protocol::{Arguments, RequestId, Verdict};

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
    /// Their request.
    pub(super) id: RequestId,
    /// How to tell them.
    pub(super) reply: Reply,
    /// Watches over their own time limit, where it is shorter than the function's.
    pub(super) _watch: Option<Watch>,
}

/// Who has left a shared run.
pub(super) enum Left {
    /// Nobody with that id waits for one.
    Nobody,
    /// Somebody who is to be told.
    One {
        /// How.
        reply: Reply,
        /// The run, if nobody else waits for it.
        run: Option<RequestId>,
    },
}

/// What [`Cache::join`] found.
pub(super) enum Joined {
    /// A value was kept; the waiter has it.
    Answered,
    /// The same call runs already; the waiter is told with the others.
    Waiting,
    /// Nobody runs it: the caller must, under this name, and then tell the cache with [`Cache::finish`].
    First(RequestId),
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
        /// Under what the run can be cancelled.
        run: RequestId,
        waiters: Vec<Waiter>,
    },
}

impl Cache {
    /// Answers `waiter` from what is kept, or lets it wait for the run of `key`.
    pub(super) fn join(&self, key: &Key, waiter: Waiter, now: Instant) -> Joined {
        let mut store = self.store();
        store.forget_due(now);
        match store.entries.get_mut(key) {
            Some(Entry::Kept { answer, .. }) => {
                let answer = Arc::clone(answer);
                store.hits += 1;
                drop(store);
                waiter.reply.settle(Settled::Answered(answer));
                Joined::Answered
            }
            Some(Entry::Running { waiters, .. }) => {
                waiters.push(waiter);
                store.hits += 1;
                Joined::Waiting
            }
            None => {
                store.runs += 1;
                // No client's id has a space in it.
                let run = RequestId::Text(format!("run {}", store.runs).into());
                store.entries.insert(key.clone(), Entry::Running { run: run.clone(), waiters: vec![waiter] });
                Joined::First(run)
            }
        }
    }

    /// One look at it.
    pub(super) fn status(&self) -> CacheStatus {
        let store = self.store();
        CacheStatus { entries: store.entries.len(), bytes: store.bytes, hits: store.hits, misses: store.runs }
    }

    /// The request `id` does not wait any more.
    pub(super) fn leave(&self, id: &RequestId) -> Left {
        let mut store = self.store();
        let found = store.entries.iter_mut().find_map(|(key, entry)| {
            let Entry::Running { run, waiters } = entry else { return None };
            let place = waiters.iter().position(|waiter| waiter.id == *id)?;
            let waiter = waiters.remove(place);
            Some((waiter, waiters.is_empty().then(|| (key.clone(), run.clone()))))
        });
        let Some((waiter, last)) = found else { return Left::Nobody };
        let run = last.map(|(key, run)| {
            // Whoever asks for the same from now on begins a run of their own.
            store.entries.remove(&key);
            run
        });
        drop(store);
        Left::One { reply: waiter.reply, run }
    }

    /// The run of `key` called `run` has ended: tells all who wait, and keeps a value for `ttl`.
    pub(super) fn finish(&self, key: &Key, run: &RequestId, settled: Settled, ttl: Duration, now: Instant) {
        let mut store = self.store();
        // One that all have left is nobody's, and another may run under its key.
        if !matches!(store.entries.get(key), Some(Entry::Running { run: of_key, .. }) if of_key == run) {
            return;
        }
        let waiters = match store.entries.remove(key) {
            Some(Entry::Running { waiters, .. }) => waiters,
            _ => Vec::new(),
        };
        if let Settled::Answered(answer) = &settled
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
        self.0.lock().expect("nothing panics under this lock")
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
    use crate::functions::{Body, Call, Terms};
    use crate::protocol::codec::encode_outcome;
    use crate::protocol::{CallError, Outcome};

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
            if let Settled::Answered(answer) = settled {
                // A waiter that the test does not look at has nobody who listens.
                let _unheard = told.send(answer.verdict);
            }
        });
        (Waiter { id: RequestId::Number(1), reply, _watch: None }, answers)
    }

    fn settled(outcome: Outcome) -> Settled {
        Settled::Answered(encode_outcome(outcome))
    }

    #[track_caller]
    fn begin(cache: &Cache, key: &Key, waiter: Waiter, now: Instant) -> RequestId {
        let Joined::First(run) = cache.join(key, waiter, now) else { panic!("nobody runs it") };
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
        cache.finish(&key, &run, settled(Ok(1.into())), TTL, now);
        assert_eq!(first_answer.try_recv(), Ok(Verdict::Ok));

        let (second, second_answer) = waiter();
        assert!(matches!(cache.join(&key, second, now + TTL / 2), Joined::Answered));
        assert_eq!(second_answer.try_recv(), Ok(Verdict::Ok));
        assert!(matches!(cache.join(&key, waiter().0, now + TTL), Joined::First(_)));
    }

    #[test]
    fn identical_calls_share_one_run_and_its_failure_is_not_kept() {
        let (cache, now, key) = (Cache::default(), Instant::now(), named("f"));
        let (first, first_answer) = waiter();
        let (second, second_answer) = waiter();
        let run = begin(&cache, &key, first, now);
        assert!(matches!(cache.join(&key, second, now), Joined::Waiting));
        cache.finish(&key, &run, settled(Err(CallError::TimedOut)), TTL, now);
        assert_eq!((first_answer.try_recv(), second_answer.try_recv()), (Ok(Verdict::Timeout), Ok(Verdict::Timeout)));
        assert!(matches!(cache.join(&key, waiter().0, now), Joined::First(_)));
    }

    #[test]
    fn entries_and_bytes_are_bounded_and_what_ends_soonest_goes_first() {
        let (cache, now) = (Cache::default(), Instant::now());
        let run = |name: usize, value: &str| {
            let key = named(&name.to_string());
            let run = begin(&cache, &key, waiter().0, now);
            cache.finish(&key, &run, settled(Ok(value.into())), TTL + Duration::from_millis(name as u64), now);
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
        let of = |number: u64| Waiter { id: RequestId::Number(number), ..waiter().0 };
        let run = begin(&cache, &key, of(1), now);
        assert!(matches!(cache.join(&key, of(2), now), Joined::Waiting));
        assert!(matches!(cache.leave(&RequestId::Number(1)), Left::One { run: None, .. }));
        assert!(matches!(cache.leave(&RequestId::Number(1)), Left::Nobody));
        assert!(matches!(cache.leave(&RequestId::Number(2)), Left::One { run: Some(left), .. } if left == run));

        let (third, answer) = waiter();
        let next = begin(&cache, &key, third, now);
        cache.finish(&key, &run, settled(Err(CallError::Cancelled)), TTL, now);
        assert_eq!(answer.try_recv().ok(), None, "the end of the first run is not that of the second");
        cache.finish(&key, &next, settled(Ok(1.into())), TTL, now);
        assert_eq!(answer.try_recv(), Ok(Verdict::Ok));
    }
}
