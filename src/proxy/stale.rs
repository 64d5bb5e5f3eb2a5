//! The last good answers, for when no target can be asked. Pure: `now` is an argument.

use std::collections::HashMap;
use std::sync::{Arc, Mutex, MutexGuard};
use std::time::{Duration, Instant};

use crate::lock::Unpoisoned;
use crate::net::{RequestHead, ResponseHead};

/// The longest body that is kept.
pub(super) const MOST_BODY: usize = 256 * 1024;

/// So many bytes are kept for one site.
const MOST: usize = 8 * 1024 * 1024;

/// An answer that was good.
pub(crate) struct Good {
    pub(crate) kind: Option<Box<str>>,
    pub(crate) body: Arc<[u8]>,
    pub(super) at: Instant,
}

/// Good answers, by what was asked.
#[derive(Default)]
pub(super) struct Stale(Mutex<State>);

#[derive(Default)]
struct State {
    answers: HashMap<String, Arc<Good>>,
    bytes: usize,
}

/// Under what the answer to a request is kept; `None` if it is for one client only, or does something.
pub(super) fn key(head: &RequestHead<'_>) -> Option<String> {
    let is_personal = head.header("authorization").is_some() || head.header("cookie").is_some();
    let is_partial = head.header("range").is_some();
    (head.method == "GET" && !is_personal && !is_partial)
        .then(|| format!("{}{}{}", head.host.unwrap_or_default(), head.path(), head.search()))
}

/// Whether an answer may be given to others.
pub(super) fn is_for_all(head: &ResponseHead<'_>) -> bool {
    let is_private = |value: &[u8]| {
        let value = String::from_utf8_lossy(value).to_ascii_lowercase();
        value.contains("private") || value.contains("no-store")
    };
    head.status == 200
        && !head.headers.iter().any(|(name, value)| {
            name.eq_ignore_ascii_case("set-cookie")
                || name.eq_ignore_ascii_case("content-encoding")
                || (name.eq_ignore_ascii_case("vary") && *value == b"*")
                || (name.eq_ignore_ascii_case("cache-control") && is_private(value))
        })
}

impl Stale {
    pub(super) fn keep(&self, key: String, good: Good) {
        let mut state = self.state();
        state.bytes += good.body.len() + key.len();
        if let Some(old) = state.answers.insert(key.clone(), Arc::new(good)) {
            state.bytes -= old.body.len() + key.len();
        }
        while state.bytes > MOST {
            let Some(oldest) = state.answers.iter().min_by_key(|(_, good)| good.at).map(|(key, _)| key.clone()) else {
                break;
            };
            if let Some(old) = state.answers.remove(&oldest) {
                state.bytes -= old.body.len() + oldest.len();
            }
        }
    }

    /// The answer under `key`, if it is no older than `longest`.
    pub(super) fn find(&self, key: &str, longest: Duration, now: Instant) -> Option<Arc<Good>> {
        let good = self.state().answers.get(key).map(Arc::clone)?;
        (now.saturating_duration_since(good.at) <= longest).then_some(good)
    }

    fn state(&self) -> MutexGuard<'_, State> {
        self.0.lock().unpoisoned()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn good(length: usize, at: Instant) -> Good {
        Good { kind: None, body: vec![0; length].into(), at }
    }

    #[test]
    fn an_answer_is_kept_until_it_is_too_old_or_others_need_the_room() {
        let (stale, now) = (Stale::default(), Instant::now());
        stale.keep("a".to_owned(), good(10, now));
        let minute = Duration::from_secs(60);
        assert!(stale.find("a", minute, now + minute).is_some());
        assert!(stale.find("a", minute, now + minute * 2).is_none() && stale.find("b", minute, now).is_none());
        for number in 0..40 {
            stale.keep(format!("b{number}"), good(MOST_BODY, now + Duration::from_secs(1)));
        }
        assert!(stale.find("a", minute, now).is_none());
        assert!(stale.state().bytes <= MOST);
    }
}
