//! Draining a queue that is full.

use std::time::{Duration, Instant};

use super::bare::Wire;
use super::failed;
use crate::broker::ScratchRedis;
use crate::cli::exit::Failure;

/// In which form requests wait.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Form {
    /// A body under a key of its own, and its number in the queue; answered.
    Numbered,
    /// The same for a function whose calls are gone from Redis before they run.
    AtMostOnce,
    /// The request is the element of the queue; nobody waits for the answer.
    InlineSilent,
}

impl Form {
    /// The element of the queue for request `number`.
    pub(super) fn element(self, number: u64) -> String {
        match self {
            Form::Numbered | Form::AtMostOnce => number.to_string(),
            Form::InlineSilent => format!(
                r#"{{"id":"{number:032}","func":"echo","args":{{"message":"hello"}},"source":"bench","reply":false}}"#
            ),
        }
    }
}

/// The body of a numbered request.
const BODY: &str = r#"{"func":"echo","args":{"message":"hello"},"user":"peter","source":"bench"}"#;
const BODY_ONCE: &str = r#"{"func":"once","args":{"message":"hello"},"user":"peter","source":"bench"}"#;

/// How long a drain may take before something is wrong.
const LONGEST: Duration = Duration::from_secs(120);

/// How often the length of the queue is asked for: seldom enough to cost nothing.
const LOOK: Duration = Duration::from_millis(2);

/// Empties Redis and puts `requests` requests into the queue.
pub(super) fn fill(scratch: &ScratchRedis, form: Form, requests: u64) -> Result<(), Failure> {
    scratch.flush().map_err(|reason| failed("emptying Redis", reason))?;
    add(scratch, form, requests)
}

/// Puts `requests` requests into the queue.
pub(super) fn add(scratch: &ScratchRedis, form: Form, requests: u64) -> Result<(), Failure> {
    let add = || {
        let mut wire = Wire::connect(scratch.address())?;
        for first in (1..=requests).step_by(500) {
            let batch = first..(first + 500).min(requests + 1);
            let mut count = 0;
            for number in batch {
                let body = match form {
                    Form::Numbered => Some(BODY),
                    Form::AtMostOnce => Some(BODY_ONCE),
                    Form::InlineSilent => None,
                };
                if let Some(body) = body {
                    wire.add(&[b"SET", format!("CERBAS-REQ-{number:010}").as_bytes(), body.as_bytes()]);
                    count += 1;
                }
                wire.add(&[b"RPUSH", b"CERBAS-QUEUE", form.element(number).as_bytes()]);
                count += 1;
            }
            wire.flush()?;
            (0..count).try_for_each(|_| wire.skip())?;
        }
        Ok::<(), std::io::Error>(())
    };
    add().map_err(|error| failed("filling the queue", error))
}

/// Waits until a daemon has taken all.
pub(super) fn until_empty(scratch: &ScratchRedis) -> Result<(), Failure> {
    let mut wire = Wire::connect(scratch.address()).map_err(|error| failed("draining", error))?;
    let start = Instant::now();
    while wire.ask(&[b"LLEN", b"CERBAS-QUEUE"]).map_err(|error| failed("draining", error))? > 0 {
        if start.elapsed() > LONGEST {
            return Err(failed("draining", format!("requests still wait after {LONGEST:?}")));
        }
        std::thread::sleep(LOOK);
    }
    Ok(())
}

/// Requests per second between a tenth and nine tenths of the queue, while a daemon drains it to the end.
pub(super) fn measure(scratch: &ScratchRedis, requests: u64) -> Result<f64, Failure> {
    let look = |wire: &mut Wire| wire.ask(&[b"LLEN", b"CERBAS-QUEUE"]).map_err(|error| failed("draining", error));
    let mut wire = Wire::connect(scratch.address()).map_err(|error| failed("draining", error))?;
    let start = Instant::now();
    let (mut first, mut last) = (None, None);
    loop {
        let left = u64::try_from(look(&mut wire)?).unwrap_or(0);
        let now = Instant::now();
        let done = requests.saturating_sub(left);
        if first.is_none() && done * 10 >= requests {
            first = Some((now, done));
        }
        if last.is_none() && done * 10 >= requests * 9 {
            last = Some((now, done));
        }
        if left == 0 {
            break;
        }
        if start.elapsed() > LONGEST {
            return Err(failed("draining", format!("{left} requests still wait after {LONGEST:?}")));
        }
        std::thread::sleep(LOOK);
    }
    let (Some((from, done_from)), Some((to, done_to))) = (first, last) else {
        unreachable!("it was drained to the end")
    };
    if done_to <= done_from {
        return Err(failed("draining", "too few requests to measure; give more with --requests"));
    }
    Ok((done_to - done_from) as f64 / (to - from).as_secs_f64())
}
