//! Calls that functions make: of other functions, on whichever node.

use std::error::Error;
use std::fmt;
use std::sync::Arc;
use std::time::Duration;

use serde::Serialize;

use super::Call;
use crate::protocol::{Arguments, CallError, Json, Node, Outcome, Verdict, with_reason};

/// A call that a function makes.
#[derive(Debug, Clone, PartialEq)]
pub struct Onward {
    /// The function to call.
    pub func: String,
    /// Its arguments.
    pub args: Arguments,
    /// The node that is to run it; `None`: whichever is free.
    pub node: Option<String>,
    /// Who asks: whoever asked for the call that makes this one.
    pub user: Option<String>,
    /// The program that asks, likewise.
    pub source: Option<String>,
    /// The functions that wait for it, the first one first.
    pub chain: Vec<String>,
    /// How long its answer is waited for.
    pub patience: Duration,
}

/// How functions reach others.
pub trait Caller: Send + Sync {
    /// Sends `call` and waits for what it comes to.
    fn call(&self, call: Onward) -> Outcome;

    /// All nodes that live.
    fn nodes(&self) -> Result<Vec<Node>, String>;

    /// A call only waits from now on: there may be one more worker. Tells whether there is, and then
    /// [`Caller::take_back`] must follow.
    fn lend(&self) -> bool {
        false
    }

    /// The worker that was lent is not needed any more.
    fn take_back(&self) {}
}

/// A worker that takes the place of one that only waits, until this is dropped.
pub(super) struct Lent(Arc<dyn Caller>);

impl Drop for Lent {
    fn drop(&mut self) {
        self.0.take_back();
    }
}

/// A way to others, where there is one.
#[derive(Clone, Default)]
pub struct Way(pub Option<Arc<dyn Caller>>);

impl fmt::Debug for Way {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_tuple("Way").field(&self.0.is_some()).finish()
    }
}

/// A function that was called has no value.
#[derive(Debug, Clone, PartialEq, Eq)]
#[non_exhaustive]
pub struct CallFailed {
    /// The function.
    pub func: String,
    /// Why.
    pub error: CallError,
}

impl CallFailed {
    pub(crate) fn new(func: &str, error: CallError) -> Self {
        CallFailed { func: func.to_owned(), error }
    }

    /// How the call ended.
    pub fn verdict(&self) -> Verdict {
        self.error.verdict()
    }

    /// Whether the same call would end the same way.
    pub fn is_pointless(&self) -> bool {
        self.error.is_pointless()
    }
}

impl fmt::Display for CallFailed {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}: {}", self.func, with_reason(&self.error.to_string(), self.error.reason()))
    }
}

impl Error for CallFailed {}

impl Call {
    /// Calls the function `func` with `args`, which must become a JSON object, on whichever node is free, and waits for its
    /// value, at most as long as this call may still run.
    ///
    /// It is asked for by the same user and source. A function that waits for this call already is not called again: that
    /// is answered at once with the chain of calls.
    ///
    /// The error says why, also to a caller who passes it on: what is pointless to try again is not tried again further up.
    pub fn call(&self, func: &str, args: impl Serialize) -> Result<Json, CallFailed> {
        self.call_at(None, func, args)
    }

    /// The same on the node that has this name or id.
    pub fn call_on(&self, node: &str, func: &str, args: impl Serialize) -> Result<Json, CallFailed> {
        self.call_at(Some(node), func, args)
    }

    fn call_at(&self, node: Option<&str>, func: &str, args: impl Serialize) -> Result<Json, CallFailed> {
        let failed = |error| CallFailed::new(func, error);
        let unfit = |reason: String| failed(CallError::InvalidArguments(reason));
        let args = Json::of(&args).map_err(|error| unfit(error.to_string()))?;
        let args = match args.to::<Option<Arguments>>() {
            Ok(args) => args.unwrap_or_default(),
            Err(_) => return Err(unfit(format!("must be an object, not {args}"))),
        };
        let nowhere = || failed(CallError::FailedForGood("functions cannot call others here".to_owned()));
        let caller = self.way.0.as_deref().ok_or_else(nowhere)?;
        let onward = Onward {
            func: func.to_owned(),
            args,
            node: node.map(str::to_owned),
            user: self.user.clone(),
            source: self.source.clone(),
            chain: self.chain_onward(),
            patience: self.remaining(),
        };
        caller.call(onward).map_err(failed)
    }

    /// From now on this call only waits, maybe for long; meanwhile there is one more worker, if there can be.
    pub(super) fn stand_aside(&self) -> Option<Lent> {
        let caller = self.way.0.as_ref()?;
        caller.lend().then(|| Lent(Arc::clone(caller)))
    }

    /// The functions that wait for what this call calls.
    pub(super) fn chain_onward(&self) -> Vec<String> {
        self.chain.iter().chain([&self.func]).cloned().collect()
    }
}
