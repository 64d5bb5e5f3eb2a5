//! Whether a request that failed is tried again, and when. Pure: `now` and chance are arguments.

use std::time::Duration;

use crate::functions::{Delivery, Function, Retries};
use crate::protocol::codec::Encoded;
use crate::protocol::{Request, Verdict};

/// What a request may still hope for when its run fails.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Chance {
    retries: Retries,
    /// The number of this run; the first is 1.
    attempt: u32,
    /// When the first one was taken, in milliseconds since 1970.
    first_at: u64,
    /// After this it must not start.
    expires_at: Option<u64>,
}

/// A run that is to follow one that failed.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Again {
    /// When it may start, in milliseconds since 1970.
    pub due: u64,
    /// How many runs there have been.
    pub attempt: u32,
    /// When the first one was taken, in milliseconds since 1970.
    pub first_at: u64,
    /// After this it must not start, in milliseconds since 1970.
    pub expires_at: Option<u64>,
}

impl Chance {
    /// The chance of `request`, taken at `now`; `None` where one failure is the end.
    pub(super) fn of(function: &Function, request: &Request, now: impl FnOnce() -> u64) -> Option<Self> {
        let retries = function.terms.retries;
        let count = request.retries.unwrap_or(retries.count).min(Retries::MOST);
        let may_repeat = function.terms.delivery == Delivery::AtLeastOnce;
        (may_repeat && request.attempt < count).then(|| Chance {
            retries,
            attempt: request.attempt + 1,
            first_at: request.first_at.unwrap_or_else(now),
            expires_at: request.expires_at,
        })
    }

    /// What follows on `answer`, given at `now`: `None` where it is the last word.
    pub(super) fn after(&self, answer: &Encoded, now: u64, chance: u64) -> Option<Again> {
        if !matches!(answer.verdict, Verdict::Error | Verdict::Timeout) || answer.is_final {
            return None;
        }
        let due = now.saturating_add(milliseconds(self.retries.pause(self.attempt, chance)));
        let ends = self.first_at.saturating_add(milliseconds(self.retries.retry_for));
        let is_in_time = due <= ends && self.expires_at.is_none_or(|expires_at| due <= expires_at);
        is_in_time.then_some(Again { due, attempt: self.attempt, first_at: self.first_at, expires_at: self.expires_at })
    }
}

fn milliseconds(duration: Duration) -> u64 {
    u64::try_from(duration.as_millis()).unwrap_or(u64::MAX)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::functions::{Body, Call, Terms};
    use crate::protocol::codec::encode_outcome;
    use crate::protocol::{Arguments, CallError, Outcome, RequestId};

    const NOW: u64 = 1_000_000;

    struct Nothing;

    impl Body for Nothing {
        fn run(&self, _: &Call, _: Arguments) -> Outcome {
            Ok(().into())
        }

        fn kind(&self) -> &'static str {
            "native"
        }
    }

    fn function(count: u32) -> Function {
        let terms = Terms { retries: Retries { count, ..Retries::default() }, ..Terms::default() };
        Function { name: "f".to_owned(), terms, body: Box::new(Nothing) }
    }

    fn request() -> Request {
        Request::new(RequestId::Number(1), "f", Arguments::new())
    }

    fn chance(count: u32, request: &Request) -> Option<Chance> {
        Chance::of(&function(count), request, || NOW)
    }

    fn failed() -> Outcome {
        Err(CallError::Failed("no".to_owned()))
    }

    #[track_caller]
    fn after(request: &Request, outcome: Outcome, now: u64) -> Option<Again> {
        chance(2, request).expect("it has a chance").after(&encode_outcome(outcome), now, u64::MAX)
    }

    #[test]
    fn without_retries_one_failure_is_the_end() {
        assert_eq!(chance(0, &request()), None);
    }

    #[test]
    fn a_request_runs_once_and_then_as_often_again_as_its_function_or_it_says() {
        assert!(chance(2, &Request { attempt: 1, ..request() }).is_some());
        assert_eq!(chance(2, &Request { attempt: 2, ..request() }), None);
        assert_eq!(chance(2, &Request { retries: Some(0), ..request() }), None);
        assert!(chance(0, &Request { retries: Some(1), ..request() }).is_some());
    }

    #[test]
    fn failures_and_timeouts_are_tried_again_and_nothing_else() {
        let again = after(&request(), failed(), NOW).expect("a failure is tried again");
        assert_eq!((again.attempt, again.due, again.first_at), (1, NOW + 1000, NOW));
        assert!(after(&request(), Err(CallError::TimedOut), NOW).is_some());
        for last in [Ok(1.into()), Err(CallError::FailedForGood("no".to_owned())), Err(CallError::Cancelled)] {
            assert_eq!(after(&request(), last.clone(), NOW), None, "{last:?}");
        }
    }

    #[test]
    fn nothing_is_tried_again_after_the_total_limit_or_when_it_would_have_expired() {
        let day = 24 * 60 * 60 * 1000;
        let late = Request { attempt: 1, first_at: Some(NOW), ..request() };
        assert!(after(&late, failed(), NOW + day - 2000).is_some());
        assert_eq!(after(&late, failed(), NOW + day - 1999), None);
        let expires = Request { expires_at: Some(NOW + 1000), ..request() };
        assert!(after(&expires, failed(), NOW).is_some());
        assert_eq!(after(&expires, failed(), NOW + 1), None);
    }
}
