//! A Rust closure with typed arguments.

use std::error::Error;
use std::fmt;
use std::marker::PhantomData;

use serde::Serialize;
use serde::de::DeserializeOwned;

use super::{Body, Call, CallFailed};
use crate::protocol::{Arguments, CallError, Json, Outcome, Verdict};

/// Why a native function has no value. Any error and any text becomes one with `?` or `into()`, and what another function has said with
/// [`Call::call`] keeps what it means: what is pointless to try again there is pointless here.
///
/// It is no [`Error`] itself, as then not everything could become one; [`NativeError::as_error`] is what it was made from.
///
/// ```
/// use cerbas::NativeError;
///
/// fn port(text: &str) -> Result<u16, NativeError> {
///     match text.parse()? {
///         0 => Err("no port is called 0".into()),
///         port if port < 1024 => Err(NativeError::for_good(format!("{port}: belongs to the system"))),
///         port => Ok(port),
///     }
/// }
///
/// assert!(port("x").unwrap_err().as_error().is::<std::num::ParseIntError>());
/// assert!(port("80").unwrap_err().is_for_good());
/// ```
#[derive(Debug)]
pub struct NativeError {
    error: Box<dyn Error + Send + Sync>,
    meaning: Meaning,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Meaning {
    /// It may be tried again.
    Failed,
    /// That is pointless.
    ForGood,
    /// The same, as its arguments do not fit.
    InvalidArguments,
}

impl NativeError {
    /// An error after which the call is not tried again, whatever `retries` say.
    pub fn for_good(error: impl Into<Box<dyn Error + Send + Sync>>) -> Self {
        NativeError { error: error.into(), meaning: Meaning::ForGood }
    }

    /// The arguments do not fit: the caller is told `invalid arguments` and this reason, and the call is not tried again.
    pub fn invalid_arguments(reason: impl Into<Box<dyn Error + Send + Sync>>) -> Self {
        NativeError { error: reason.into(), meaning: Meaning::InvalidArguments }
    }

    /// What it was made from.
    pub fn as_error(&self) -> &(dyn Error + Send + Sync + 'static) {
        &*self.error
    }

    /// How a call ends with it.
    pub fn verdict(&self) -> Verdict {
        match self.meaning {
            Meaning::Failed | Meaning::ForGood => Verdict::Error,
            Meaning::InvalidArguments => Verdict::Rejected,
        }
    }

    /// Whether it says that to try again is pointless.
    pub fn is_for_good(&self) -> bool {
        self.meaning != Meaning::Failed
    }
}

impl fmt::Display for NativeError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.error.fmt(f)
    }
}

impl From<NativeError> for CallError {
    fn from(NativeError { error, meaning }: NativeError) -> Self {
        match meaning {
            Meaning::Failed => CallError::Failed(error.to_string()),
            Meaning::ForGood => CallError::FailedForGood(error.to_string()),
            Meaning::InvalidArguments => CallError::InvalidArguments(error.to_string()),
        }
    }
}

impl<E: Into<Box<dyn Error + Send + Sync>>> From<E> for NativeError {
    fn from(error: E) -> Self {
        let error = error.into();
        let meaning = if comes_from_pointless_call(&*error) { Meaning::ForGood } else { Meaning::Failed };
        NativeError { error, meaning }
    }
}

/// A closure `fn(&Call, Args) -> Result<T, NativeError>`.
///
/// `Args` and `T` are any types of serde. What must keep every digit and the order of its names although the function does not
/// know it is a [`Json`](crate::Json), or an [`Object`](crate::protocol::Object) of them; a `serde_json::Value` rounds numbers to 64 bits.
/// Arguments that do not fit `Args` are answered `invalid arguments`, with the reason; a panic becomes an `error`. The function cannot be
/// killed: at its time limit the caller is answered and its late result is dropped, but its thread runs on.
/// A long one should look at [`Call::is_cancelled`].
pub struct Native<F, Args> {
    function: F,
    arguments: PhantomData<fn(Args)>,
}

impl<F, Args> Native<F, Args> {
    /// The body that calls `function`.
    pub fn new(function: F) -> Self {
        Native { function, arguments: PhantomData }
    }
}

impl<F, Args, T> Body for Native<F, Args>
where
    F: Fn(&Call, Args) -> Result<T, NativeError> + Send + Sync,
    Args: DeserializeOwned,
    T: Serialize,
{
    fn run(&self, call: &Call, args: Arguments) -> Outcome {
        let args = read(&args).map_err(|error| CallError::InvalidArguments(without_place(&error)))?;
        let value = (self.function)(call, args)?;
        Json::of(&value).map_err(|error| CallError::Failed(format!("the result is not JSON: {error}")))
    }

    fn kind(&self) -> &'static str {
        "native"
    }
}

/// Whether `error` is, or was caused by, a call of which it is pointless to try it again.
fn comes_from_pointless_call(error: &(dyn Error + 'static)) -> bool {
    let mut cause = Some(error);
    while let Some(error) = cause {
        if let Some(failed) = error.downcast_ref::<CallFailed>() {
            return failed.is_pointless();
        }
        cause = error.source();
    }
    false
}

/// What serde says, without where: callers do not see the text in which that is.
fn without_place(error: &serde_json::Error) -> String {
    let text = error.to_string();
    match text.rsplit_once(" at line ") {
        Some((what, _)) if error.line() > 0 => what.to_owned(),
        _ => text,
    }
}

/// The arguments as `Args`. None at all are also those of a function that takes `()`.
fn read<Args: DeserializeOwned>(args: &Arguments) -> Result<Args, serde_json::Error> {
    args.to().or_else(|error| if args.is_empty() { Json::default().to().map_err(|_| error) } else { Err(error) })
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeMap;

    use serde::Deserialize;

    use super::super::testing::{arguments, call, json};
    use super::*;

    fn run<Args: DeserializeOwned, T: Serialize>(args: &str, function: fn(Args) -> T) -> Outcome {
        let native = Native::new(move |_: &Call, args: Args| Ok(function(args)));
        native.run(&call(), arguments(Json::read(args).expect("the test's arguments are JSON")))
    }

    #[derive(Deserialize, Serialize)]
    struct Inner {
        a: u8,
    }

    #[derive(Deserialize, Serialize)]
    struct Outer {
        #[serde(flatten)]
        inner: Inner,
        either: Either,
    }

    #[derive(Deserialize, Serialize)]
    #[serde(untagged)]
    enum Either {
        Number(f64),
        Text(String),
    }

    #[derive(Deserialize, Serialize)]
    #[serde(rename_all = "lowercase")]
    enum Shape {
        Circle { radius: u128 },
    }

    #[derive(Deserialize, Serialize)]
    struct Named(BTreeMap<String, u64>);

    #[test]
    fn arguments_are_whatever_serde_can_make_of_an_object() {
        assert_eq!(run(r#"{"a":1}"#, |args: Option<Inner>| args.map(|inner| inner.a)), Ok(json!(1)));
        assert_eq!(run(r#"{"b":1,"a":2}"#, |Named(map)| map), Ok(json!({"a": 2, "b": 1})));
        let circle = r#"{"circle":{"radius":340282366920938463463374607431768211455}}"#;
        assert_eq!(
            run(circle, |Shape::Circle { radius }| radius).map(|data| data.to_string()),
            Ok(u128::MAX.to_string())
        );
        for outer in [r#"{"a":1,"either":117.63331139400017}"#, r#"{"a":1,"either":"x"}"#] {
            assert_eq!(run(outer, |outer: Outer| outer).map(|data| data.to_string()), Ok(outer.to_owned()));
        }
        let any = r#"{"z":1e400,"a":[1.0,18446744073709551617]}"#;
        assert_eq!(run(any, |args: Json| args).map(|data| data.to_string()), Ok(any.to_owned()));
        assert_eq!(run(any, |args: Arguments| args).map(|data| data.to_string()), Ok(any.to_owned()));
        let reason = "invalid type: string \"x\", expected u8".to_owned();
        assert_eq!(run(r#"{"a":"x"}"#, |inner: Inner| inner), Err(CallError::InvalidArguments(reason)));
    }

    #[test]
    fn a_function_that_takes_nothing_is_called_without_arguments_and_refuses_some() {
        assert_eq!(run("{}", |(): ()| "pong"), Ok(json!("pong")));
        assert!(matches!(run(r#"{"a":1}"#, |(): ()| "pong"), Err(CallError::InvalidArguments(_))));
    }

    /// An error of a program, which has one of ours as its cause.
    #[derive(Debug)]
    struct NoOrder(CallFailed);

    impl fmt::Display for NoOrder {
        fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
            f.write_str("no order")
        }
    }

    impl Error for NoOrder {
        fn source(&self) -> Option<&(dyn Error + 'static)> {
            Some(&self.0)
        }
    }

    #[test]
    fn what_a_called_function_says_of_trying_again_holds_for_the_one_that_passes_it_on() {
        let of = |error: CallError| CallFailed::new("pay", error);
        let is_final = |error: NativeError| matches!(CallError::from(error), CallError::FailedForGood(_));
        let pointless = [
            CallError::FailedForGood("no such account".to_owned()),
            CallError::InvalidArguments(String::new()),
            CallError::Cycle("a -> a".to_owned()),
            CallError::InvalidUser,
        ];
        assert!(pointless.into_iter().all(|error| is_final(of(error).into())));
        let may_help =
            [CallError::Failed("busy".to_owned()), CallError::TimedOut, CallError::Lost, CallError::Overload];
        assert!(may_help.into_iter().all(|error| !is_final(of(error).into())));
        // Also where it is inside another error.
        let wrapped = NoOrder(of(CallError::FailedForGood("no".to_owned())));
        assert!(is_final(wrapped.into()));
        assert_eq!(NativeError::from(of(CallError::TimedOut)).to_string(), "pay: timeout");
    }
}
