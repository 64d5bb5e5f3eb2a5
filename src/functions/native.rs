//! A Rust closure with typed arguments.

use std::fmt;
use std::marker::PhantomData;

use serde::Serialize;
use serde::de::DeserializeOwned;

use super::{Body, Call};
use crate::protocol::{Arguments, CallError, Json, Outcome};

/// Why a native function has no value: any text, made from it with `?` or `into()`.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct NativeError {
    message: String,
    is_final: bool,
}

impl NativeError {
    /// An error after which the call is not tried again, whatever `retries` say.
    pub fn for_good(message: impl fmt::Display) -> Self {
        NativeError { message: message.to_string(), is_final: true }
    }
}

impl From<NativeError> for CallError {
    fn from(NativeError { message, is_final }: NativeError) -> Self {
        if is_final { CallError::FailedForGood(message) } else { CallError::Failed(message) }
    }
}

impl<T: fmt::Display> From<T> for NativeError {
    fn from(error: T) -> Self {
        NativeError { message: error.to_string(), is_final: false }
    }
}

/// A closure `fn(&Call, Args) -> Result<T, NativeError>`.
///
/// `Args` and `T` are any types of serde. What must keep every digit and the order of its names although the function does not
/// know it is a [`Json`](crate::Json), or an [`Object`](crate::protocol::Object) of them; a `serde_json::Value` rounds numbers to 64 bits.
/// Arguments that do not fit `Args` are answered `invalid arguments`; a panic becomes an `error`. The function cannot be
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
        let args = args.to().map_err(|_| CallError::InvalidArguments)?;
        let value = (self.function)(call, args)?;
        Json::of(&value).map_err(|error| CallError::Failed(format!("the result is not JSON: {error}")))
    }

    fn kind(&self) -> &'static str {
        "native"
    }
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
        assert_eq!(run(r#"{"a":"x"}"#, |inner: Inner| inner), Err(CallError::InvalidArguments));
    }
}
