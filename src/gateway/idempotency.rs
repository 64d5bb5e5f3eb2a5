//! Calls that come again under the same `Idempotency-Key` get the answer of the first. Pure: `now` is an argument.

use std::collections::{HashMap, VecDeque};
use std::sync::{Arc, Mutex, MutexGuard};
use std::time::{Duration, Instant};

use crate::lock::Unpoisoned;
use crate::protocol::Verdict;
use crate::protocol::codec::Encoded;

/// How long an answer is kept.
const TTL: Duration = Duration::from_secs(24 * 60 * 60);

/// So many answers are kept at the most, the newest ones.
const MOST: usize = 10_000;

/// So many bytes of them.
const MOST_BYTES: usize = 16 * 1024 * 1024;

/// Who asks, for what, under which key. An answer belongs to whom it was for.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub(super) struct Key {
    pub(super) token: Option<String>,
    pub(super) user: Option<String>,
    pub(super) source: Option<String>,
    pub(super) func: String,
    pub(super) key: String,
}

/// The answers that are kept.
#[derive(Default)]
pub(super) struct Kept(Mutex<State>);

#[derive(Default)]
struct State {
    calls: HashMap<Key, Known>,
    /// Those that have ended, the oldest first.
    ended: VecDeque<(Instant, Key)>,
    bytes: usize,
}

struct Known {
    /// What was asked.
    request: u64,
    /// `None` while it runs.
    answer: Option<Arc<Encoded>>,
}

/// What a key means for a call.
pub(super) enum Found {
    /// Nobody has used it: the call runs, and the promise is kept or broken.
    New(Promise),
    /// The first call under it runs.
    Running,
    /// It was used for something else.
    Different,
    /// Its answer.
    Answered(Arc<Encoded>),
}

/// Keeps a key for a call that runs. Dropped without an answer, the key is free again.
pub(super) struct Promise {
    kept: Arc<Kept>,
    key: Option<Key>,
}

impl Promise {
    /// The call was answered. What was refused before it ran can be asked again.
    pub(super) fn keep(mut self, answer: &Arc<Encoded>, now: Instant) {
        if answer.verdict != Verdict::Rejected
            && let Some(key) = self.key.take()
        {
            self.kept.state().answered(key, answer, now);
        }
    }
}

impl Drop for Promise {
    fn drop(&mut self) {
        if let Some(key) = self.key.take() {
            self.kept.state().calls.remove(&key);
        }
    }
}

impl Kept {
    /// What `key` means for a call that asks for `request`.
    pub(super) fn begin(self: &Arc<Self>, key: Key, request: u64, now: Instant) -> Found {
        let mut state = self.state();
        state.forget(now);
        match state.calls.get(&key) {
            None => {
                state.calls.insert(key.clone(), Known { request, answer: None });
                drop(state);
                Found::New(Promise { kept: Arc::clone(self), key: Some(key) })
            }
            Some(known) if known.request != request => Found::Different,
            Some(Known { answer: Some(answer), .. }) => Found::Answered(Arc::clone(answer)),
            Some(Known { answer: None, .. }) => Found::Running,
        }
    }

    fn state(&self) -> MutexGuard<'_, State> {
        self.0.lock().unpoisoned()
    }
}

impl State {
    fn answered(&mut self, key: Key, answer: &Arc<Encoded>, now: Instant) {
        if let Some(known) = self.calls.get_mut(&key) {
            known.answer = Some(Arc::clone(answer));
            self.bytes += size_of(answer);
            self.ended.push_back((now, key));
        }
        while self.ended.len() > MOST || self.bytes > MOST_BYTES {
            self.forget_oldest();
        }
    }

    fn forget(&mut self, now: Instant) {
        while self.ended.front().is_some_and(|(at, _)| now.saturating_duration_since(*at) > TTL) {
            self.forget_oldest();
        }
    }

    fn forget_oldest(&mut self) {
        let oldest = self.ended.pop_front().and_then(|(_, key)| self.calls.remove(&key));
        let answer = oldest.and_then(|known| known.answer);
        self.bytes -= answer.map_or(0, |answer| size_of(&answer));
    }
}

fn size_of(answer: &Encoded) -> usize {
    answer.json.len() + answer.msgpack.len()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::protocol::CallError;
    use crate::protocol::codec::encode_outcome;

    fn key(name: &str) -> Key {
        Key { token: None, user: None, source: None, func: "sum".to_owned(), key: name.to_owned() }
    }

    fn promise(found: Found) -> Promise {
        match found {
            Found::New(promise) => promise,
            _ => panic!("it is known"),
        }
    }

    #[test]
    fn a_call_under_the_same_key_gets_the_first_answer() {
        let (kept, now) = (Arc::new(Kept::default()), Instant::now());
        let first = promise(kept.begin(key("a"), 1, now));
        assert!(matches!(kept.begin(key("a"), 1, now), Found::Running));
        assert!(matches!(kept.begin(key("a"), 2, now), Found::Different));
        first.keep(&encode_outcome(Ok(3.into())), now);
        let later = now + TTL;
        assert!(
            matches!(kept.begin(key("a"), 1, later), Found::Answered(answer) if &*answer.json == b"{\"status\":\"ok\",\"data\":3}")
        );
        assert!(matches!(kept.begin(key("b"), 1, later), Found::New(_)));
        assert!(matches!(kept.begin(key("a"), 2, later + Duration::from_secs(1)), Found::New(_)));
        let state = kept.state();
        assert_eq!((state.bytes, state.ended.len()), (0, 0));
    }

    #[test]
    fn what_did_not_run_can_be_asked_again() {
        let (kept, now) = (Arc::new(Kept::default()), Instant::now());
        drop(promise(kept.begin(key("a"), 1, now)));
        promise(kept.begin(key("a"), 1, now)).keep(&encode_outcome(Err(CallError::Overload)), now);
        promise(kept.begin(key("a"), 1, now)).keep(&encode_outcome(Err(CallError::Failed("x".to_owned()))), now);
        assert!(matches!(kept.begin(key("a"), 1, now), Found::Answered(_)));
    }

    #[test]
    fn only_so_many_answers_are_kept() {
        let (kept, now) = (Arc::new(Kept::default()), Instant::now());
        let answer = encode_outcome(Ok("x".repeat(1024 * 1024).into()));
        for number in 0..20 {
            promise(kept.begin(key(&number.to_string()), 1, now)).keep(&answer, now);
        }
        assert!(kept.state().bytes <= MOST_BYTES);
        assert!(matches!(kept.begin(key("0"), 1, now), Found::New(_)));
        assert!(matches!(kept.begin(key("19"), 1, now), Found::Answered(_)));
    }
}
