//! What a running daemon can be asked, and its answers: a line of JSON each. One function answers all of it, over any broker.

use std::time::Duration;

use serde::{Deserialize, Serialize};

use super::calls::{self, Calls};
use crate::broker::{Beginning, BrokerError, DeadEntry, Inspect};
use crate::effects::{Put, StoreKey};
use crate::protocol::RequestId;

/// One question: a verb of [`Inspect`] or of its [`Store`](crate::broker::Store) with its arguments.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub(crate) enum Question {
    Overview,
    Members,
    Jobs { most: usize },
    Fate { id: String },
    Answer { id: String },
    Cancel { id: String, result_ttl: Duration },
    Dead,
    RetryDead { entry: Box<DeadEntry> },
    DeleteDead { entry: Box<DeadEntry> },
    Read { keys: Vec<StoreKey> },
    Get { key: StoreKey, field: String },
    Put { puts: Vec<Put> },
    Forget { keys: Vec<StoreKey> },
    BeginAt { node: String, beginning: Box<Beginning> },
    Facts,
}

/// One answer: `{"ok": ...}`, or `{"error": "why"}`.
#[derive(Debug, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub(crate) enum Answered<T> {
    Ok(T),
    Error(String),
}

/// The answer to the question in `line`, with the end of its own line: what `inspect` says, and of single requests also `calls`.
pub(crate) fn answer(line: &[u8], inspect: &mut dyn Inspect, calls: &dyn Calls) -> Vec<u8> {
    match serde_json::from_slice(line) {
        Ok(question) => answer_to(question, inspect, calls),
        // The other program may be of another version.
        Err(error) => refusal(&format!("the question cannot be read by cerbas {}: {error}", env!("CARGO_PKG_VERSION"))),
    }
}

/// An answer that says why there is none.
pub(crate) fn refusal(reason: &str) -> Vec<u8> {
    line(&Answered::<()>::Error(reason.to_owned()))
}

fn answer_to(question: Question, inspect: &mut dyn Inspect, calls: &dyn Calls) -> Vec<u8> {
    match question {
        Question::Overview => told(inspect.overview()),
        Question::Members => told(inspect.members()),
        Question::Jobs { most } => told(calls::jobs(inspect, calls, most)),
        Question::Fate { id } => with_id(&id, |id| told(calls::fate(inspect, calls, id))),
        Question::Answer { id } => with_id(&id, |id| told(inspect.answer(id))),
        Question::Cancel { id, result_ttl } => with_id(&id, |id| told(calls::cancel(inspect, calls, id, result_ttl))),
        Question::Dead => told(inspect.dead()),
        Question::RetryDead { entry } => told(inspect.retry_dead(&entry)),
        Question::DeleteDead { entry } => told(inspect.delete_dead(&entry)),
        Question::Read { keys } => told(inspect.read(&keys)),
        Question::Get { key, field } => told(inspect.get(&key, &field)),
        Question::Put { puts } => told(inspect.put(&puts)),
        Question::Forget { keys } => told(inspect.forget(&keys)),
        Question::BeginAt { node, beginning } => told(inspect.begin_at(&node, &beginning)),
        Question::Facts => told(inspect.facts()),
    }
}

fn with_id(text: &str, ask: impl FnOnce(&RequestId) -> Vec<u8>) -> Vec<u8> {
    RequestId::parse(text).map_or_else(|| refusal(&format!("{text:?} is no id")), |id| ask(&id))
}

fn told<T: Serialize>(found: Result<T, BrokerError>) -> Vec<u8> {
    line(&found.map_or_else(|error| Answered::Error(error.reason), Answered::Ok))
}

fn line<T: Serialize>(answered: &Answered<T>) -> Vec<u8> {
    let mut line = serde_json::to_vec(answered).expect("an answer is JSON");
    line.push(b'\n');
    line
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::broker::Memory;
    use crate::protocol::OpenCall;

    /// A daemon with one call.
    struct OneCall;

    impl Calls for OneCall {
        fn node(&self) -> &str {
            "n.1"
        }

        fn open(&self) -> Vec<OpenCall> {
            vec![OpenCall { id: "here".to_owned(), door: "http".into(), ..OpenCall::default() }]
        }

        fn find(&self, id: &RequestId) -> Vec<OpenCall> {
            self.open().into_iter().filter(|call| call.id == id.to_string()).collect()
        }

        fn cancel(&self, id: &RequestId) -> bool {
            !self.find(id).is_empty()
        }
    }

    #[track_caller]
    fn check(question: &str, answer_starts_with: &str) {
        let mut memory = Memory::new(Duration::from_secs(60));
        let answer = String::from_utf8(answer(question.as_bytes(), &mut memory, &OneCall)).expect("it is text");
        assert!(answer.starts_with(answer_starts_with) && answer.ends_with('\n'), "{question}: {answer}");
    }

    #[test]
    fn a_question_is_a_verb_with_its_arguments() {
        check(r#""members""#, r#"{"ok":[]}"#);
        check(r#"{"jobs": {"most": 0}}"#, r#"{"ok":[]}"#);
        check(r#"{"fate": {"id": "a"}}"#, r#"{"ok":"Unknown"}"#);
        check(r#"{"cancel": {"id": "a", "result_ttl": {"secs": 1, "nanos": 0}}}"#, r#"{"ok":"Nowhere"}"#);
        check(r#""facts""#, r#"{"ok":null}"#);
    }

    #[test]
    fn a_call_that_the_broker_does_not_know_is_found_at_its_daemon() {
        check(r#"{"jobs": {"most": 5}}"#, r#"{"ok":[{"id":"here","#);
        check(r#"{"fate": {"id": "here"}}"#, r#"{"ok":{"Open":{"id":"here","#);
        check(r#"{"cancel": {"id": "here", "result_ttl": {"secs": 1, "nanos": 0}}}"#, r#"{"ok":{"Cancelled":"n.1"}}"#);
    }

    #[test]
    fn what_is_no_question_is_answered_with_the_reason() {
        check("{", r#"{"error":"the question cannot be read by cerbas "#);
        check(r#""tomorrow""#, r#"{"error":"the question cannot be read by cerbas "#);
        check(r#"{"fate": {"id": "no id"}}"#, r#"{"error":"\"no id\" is no id"}"#);
    }
}
