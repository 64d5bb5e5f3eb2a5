//! The functions that the protocol's test clients call.

use std::sync::Arc;
use std::thread;
use std::time::Duration;

use serde::Deserialize;
use uuid::Uuid;

use super::{Body, Call, Terms};
use crate::protocol::{Arguments, CallError, Json, Outcome};

/// The name of a built-in function, as it stands in the configuration.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum BuiltinFunction {
    /// `"hello world!"`
    Hello,
    /// Gives back `message`.
    Echo,
    /// `a + b`; an error where one is not a number.
    Sum,
    /// Gives back `foo`, which must be there.
    WithArgs,
    /// Fails.
    WithError,
    /// Takes six seconds: one more than the usual limit.
    Slow,
    /// Answers `""` before it runs.
    AsyncFunc,
    /// The port to which the proxy called `server` sends requests: its program listens there.
    ProxiedHostPort,
    /// Answers `""`, and stops the daemon after `delay` milliseconds.
    Halt,
    /// Takes three seconds, then gives back the characters of `data` in an order of chance.
    Permutation,
}

impl BuiltinFunction {
    /// All of them.
    pub const ALL: [BuiltinFunction; 10] = [
        BuiltinFunction::Hello,
        BuiltinFunction::Echo,
        BuiltinFunction::Sum,
        BuiltinFunction::WithArgs,
        BuiltinFunction::WithError,
        BuiltinFunction::Slow,
        BuiltinFunction::AsyncFunc,
        BuiltinFunction::ProxiedHostPort,
        BuiltinFunction::Halt,
        BuiltinFunction::Permutation,
    ];

    /// The terms that it has where the configuration says nothing else.
    pub fn terms(self) -> Terms {
        let params: &[&str] = match self {
            BuiltinFunction::Echo => &["message"],
            BuiltinFunction::Sum => &["a", "b"],
            BuiltinFunction::WithArgs => &["foo"],
            BuiltinFunction::ProxiedHostPort => &["server"],
            BuiltinFunction::Permutation => &["data"],
            _ => &[],
        };
        Terms {
            params: params.iter().map(|&name| name.to_owned()).collect(),
            cache: (self == BuiltinFunction::Hello).then_some(Duration::from_secs(20)),
            safe: (self != BuiltinFunction::Halt).then_some(true),
            is_async: self == BuiltinFunction::AsyncFunc,
            ..Terms::default()
        }
    }
}

/// A built-in function.
pub struct Builtin {
    function: BuiltinFunction,
    house: House,
}

/// The port to which the proxy of a name sends requests; else why there is none.
pub type Proxied = dyn Fn(&str) -> Result<u16, String> + Send + Sync;

/// What built-in functions need of the daemon.
#[derive(Clone)]
pub struct House {
    /// Stops it.
    pub halt: Arc<dyn Fn() + Send + Sync>,
    /// Tells to which port the proxy of this name sends requests.
    pub proxied: Arc<Proxied>,
}

impl House {
    /// One without anything: for looking at functions, not for calling them.
    pub fn empty() -> Self {
        House { halt: Arc::new(|| {}), proxied: Arc::new(|_| Err("there is no proxy".to_owned())) }
    }
}

/// How long `slow` takes.
const SLOW: Duration = Duration::from_secs(6);

/// How long `permutation` takes.
const PERMUTATION: Duration = Duration::from_secs(3);

/// How long `asyncfunc` works after its caller was answered.
const ASYNC_WORK: Duration = Duration::from_secs(1);

/// The longest time after which `halt` can be told to stop the daemon.
const LONGEST_HALT_DELAY: u64 = 60 * 60 * 1000;

impl Builtin {
    /// The body of `function`, in `house`.
    pub fn new(function: BuiltinFunction, house: House) -> Self {
        Builtin { function, house }
    }

    fn halt(&self, delay: Option<&Json>) -> Outcome {
        let delay = match delay {
            None => 0,
            Some(delay) if delay.is_null() => 0,
            Some(delay) => {
                let unfit = || {
                    let reason = format!("delay: must be milliseconds, at most {LONGEST_HALT_DELAY}");
                    CallError::InvalidArguments(reason)
                };
                delay.to().ok().filter(|&delay| delay <= LONGEST_HALT_DELAY).ok_or_else(unfit)?
            }
        };
        let halt = Arc::clone(&self.house.halt);
        // On a thread of its own: the caller is answered first, and the wait takes no worker.
        let waiting = thread::Builder::new().name("halt".to_owned()).spawn(move || {
            thread::sleep(Duration::from_millis(delay));
            halt();
        });
        waiting.map_err(|error| CallError::Failed(format!("halt: {error}")))?;
        Ok("".into())
    }
}

impl Body for Builtin {
    fn run(&self, call: &Call, mut args: Arguments) -> Outcome {
        match self.function {
            BuiltinFunction::Hello => Ok("hello world!".into()),
            BuiltinFunction::Echo => Ok(args.remove("message").unwrap_or_default()),
            BuiltinFunction::Sum => add(args.get("a"), args.get("b")),
            BuiltinFunction::WithArgs => Ok(args.remove("foo").unwrap_or_default()),
            BuiltinFunction::WithError => Err(CallError::Failed("unexpected error".to_owned())),
            BuiltinFunction::Slow => {
                call.cancel.wait(SLOW);
                Ok("slow".into())
            }
            BuiltinFunction::AsyncFunc => {
                call.cancel.wait(ASYNC_WORK);
                Ok("done".into())
            }
            BuiltinFunction::ProxiedHostPort => {
                let server = args.remove("server").unwrap_or_default();
                let name = server.as_text();
                let name = name.ok_or_else(|| CallError::InvalidArguments("server: must be a text".to_owned()))?;
                (self.house.proxied)(&name).map(|port| Json::from(u64::from(port))).map_err(CallError::Failed)
            }
            BuiltinFunction::Halt => self.halt(args.get("delay")),
            BuiltinFunction::Permutation => {
                call.cancel.wait(PERMUTATION);
                permutation(&args.remove("data").unwrap_or_default())
            }
        }
    }

    fn kind(&self) -> &'static str {
        "builtin"
    }
}

/// The characters of a text in an order of chance; each order is as likely as any other.
fn permutation(data: &Json) -> Outcome {
    let text = data.to_text();
    let mut keyed: Vec<(u128, char)> = text.chars().map(|character| (Uuid::new_v4().as_u128(), character)).collect();
    keyed.sort_unstable();
    Ok(keyed.into_iter().map(|(_, character)| character).collect::<String>().into())
}

/// The sum of two numbers: a whole number where both are, else a fraction.
fn add(a: Option<&Json>, b: Option<&Json>) -> Outcome {
    let bad_arguments = || CallError::Failed("bad arguments".to_owned());
    let (a, b) = a.zip(b).map(|(a, b)| (a.as_json(), b.as_json())).ok_or_else(bad_arguments)?;
    if is_whole(a) && is_whole(b) {
        let sum = a.parse().ok().zip(b.parse().ok()).and_then(|(a, b): (i128, i128)| a.checked_add(b));
        // A fraction would have lost digits.
        let sum = sum.ok_or_else(|| CallError::Failed("the sum is beyond 128 bits".to_owned()))?;
        return Json::of(&sum).map_err(|_| bad_arguments());
    }
    let number = |text: &str| text.parse().ok().filter(|_| is_number(text));
    let sum = number(a).zip(number(b)).map(|(a, b): (f64, f64)| a + b).filter(|sum| sum.is_finite());
    sum.map(Json::from).ok_or_else(bad_arguments)
}

/// Whether this JSON is a number. Words such as `Infinity` are none there.
fn is_number(json: &str) -> bool {
    json.starts_with(|first: char| first == '-' || first.is_ascii_digit())
}

fn is_whole(json: &str) -> bool {
    is_number(json) && !json.contains(['.', 'e', 'E'])
}

#[cfg(test)]
mod tests {
    use super::*;

    #[track_caller]
    fn check(a: &str, b: &str, expected: Result<&str, &str>) {
        let read = |text: &str| Json::read(text).expect("the test's value is JSON");
        let sum = add(Some(&read(a)), Some(&read(b)));
        let sum = sum.as_ref().map(Json::as_json).map_err(ToString::to_string);
        assert_eq!(sum, expected.map_err(str::to_owned), "{a} + {b}");
    }

    #[test]
    fn the_sum_of_whole_numbers_is_exact() {
        check("1", "2", Ok("3"));
        check("4611686018427387905", "4611686018427387904", Ok("9223372036854775809"));
        check("18446744073709551615", "18446744073709551615", Ok("36893488147419103230"));
        check("-9223372036854775808", "-1", Ok("-9223372036854775809"));
        let largest = i128::MAX.to_string();
        check(&largest, "0", Ok(&largest));
        check(&largest, "1", Err("the sum is beyond 128 bits"));
    }

    #[test]
    fn the_sum_with_a_fraction_is_the_nearest_double() {
        check("0.1", "0.2", Ok("0.30000000000000004"));
        check("1", "2.5", Ok("3.5"));
        check("117.63331139400017", "0", Ok("117.63331139400017"));
        check("1e308", "1e308", Err("bad arguments"));
        check("1e400", "1", Err("bad arguments"));
    }

    #[test]
    fn what_is_no_number_has_no_sum() {
        for text in ["\"1\"", "null", "true", "[1]", "{}", "\"Infinity\""] {
            check(text, "1", Err("bad arguments"));
            check("1.5", text, Err("bad arguments"));
        }
    }
}
