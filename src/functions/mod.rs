//! What is at the end of the road: a [`Function`] has a name, [`Terms`] and a [`Body`].
//!
//! A body only computes an outcome. It knows nothing of queues, callers, caches or pools, and it need not watch the
//! clock: at its time limit the dispatcher answers the caller and cancels the [`Call`]. A body that can stop its work does so then.

mod builtin;
mod call;
mod command;
mod everywhere;
mod http;
mod mail;
mod native;
mod onward;
mod output;
mod process;
mod rate;
mod retries;
#[cfg(test)]
mod testing;
mod worker;

use std::collections::{BTreeMap, HashSet};
use std::sync::Arc;
use std::time::Duration;

pub use builtin::{Builtin, BuiltinFunction, House, Proxied};
pub use call::{Call, CancelToken};
pub use command::{Command, CommandOptions, CommandStyle};
pub(crate) use everywhere::Everywhere;
pub use http::{Http, HttpOptions};
pub use mail::SendMail;
pub use native::{Native, NativeError};
pub use onward::{CallFailed, Caller, Onward, Way};
pub(crate) use output::size;
pub use process::{ProcessOptions, ResourceLimits, check_program};
pub(crate) use rate::Bucket;
pub use rate::Rate;
pub use retries::Retries;
pub use worker::{Worker, WorkerOptions};

use crate::effects::Output;
use crate::protocol::{Arguments, CallError, OnDuplicate, Outcome, Request};

/// How a function does its work.
pub trait Body: Send + Sync {
    /// Does the work of one call. May be called on many threads at once.
    fn run(&self, call: &Call, args: Arguments) -> Outcome;

    /// The same, for one whose end does something besides: what that is, is done in the step that puts the verdict on record.
    fn run_for_output(&self, call: &Call, args: Arguments) -> Result<Output, CallError> {
        self.run(call, args).map(Output::from)
    }

    /// Whether [`Body::run_for_output`] gives effects. Such calls go by the queue, whichever door they came in by, as only what is settled
    /// there has effects; and their values are not kept for others.
    fn has_effects(&self) -> bool {
        false
    }

    /// Its kind as it stands in the configuration: `builtin`, `command`, `worker`, `http` or `native`.
    fn kind(&self) -> &'static str;

    /// How many calls it can run at once, where it has a limit of its own.
    fn capacity(&self) -> Option<usize> {
        None
    }
}

/// What happens to a call when its daemon dies.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub enum Delivery {
    /// Another daemon runs it again.
    #[default]
    AtLeastOnce,
    /// It is `lost`, and never runs a second time. It is not tried again when it fails, either.
    AtMostOnce,
}

/// What holds for a function, whatever its body.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Terms {
    /// Arguments that must be present.
    pub params: Vec<String>,
    /// How long a call may run.
    pub timeout: Duration,
    /// How long a value is kept and given to calls with the same arguments; `None`: not at all.
    pub cache: Option<Duration>,
    /// Whether a call only reads, so that a GET may make it, whoever has made a browser send that (RFC 9110, 9.2.1); `None`: if it
    /// has a cache.
    pub safe: Option<bool>,
    /// Whether the caller is answered `""` before the function runs.
    pub is_async: bool,
    /// How many calls may run at once in this process.
    pub concurrency: Option<usize>,
    /// How often it may be called in this process; calls beyond that are rejected.
    pub rate: Option<Rate>,
    /// How failed calls are tried again.
    pub retries: Retries,
    /// What happens to its calls when their daemon dies.
    pub delivery: Delivery,
    /// Whether what still runs when the daemon ends is lost, as nothing outlives it in which that could wait.
    pub ends_with_daemon: bool,
    /// How many calls may run at once over all daemons.
    pub cluster_concurrency: Option<usize>,
    /// What happens to a call while another with the same arguments waits or runs; `None`: it runs.
    pub unique: Option<OnDuplicate>,
    /// How long a unique call keeps others away at the most.
    pub unique_for: Duration,
    /// The programs that may call; `None`: all that `[auth]` lets in.
    pub sources: Option<HashSet<String>>,
    /// The users that may call; `None`: all that `[auth]` lets in.
    pub users: Option<HashSet<String>>,
    /// The room whose function it is: only that may call it, and needs no further leave. It tells what becomes of its calls, too.
    pub room: Option<&'static str>,
}

impl Terms {
    /// How long a call may run where nothing else is said.
    pub const DEFAULT_TIMEOUT: Duration = Duration::from_secs(5);

    /// How long a unique call keeps others away where nothing else is said.
    pub const DEFAULT_UNIQUE_FOR: Duration = Duration::from_hours(1);

    /// Whether a call only reads.
    pub fn is_safe(&self) -> bool {
        self.safe.unwrap_or(self.cache.is_some())
    }

    /// How long a call can keep others away that must not wait with it or run beside it.
    pub fn longest_hold(&self) -> Duration {
        self.unique_for.max(self.timeout)
    }

    /// Whether something must be arranged with other daemons before a call runs.
    pub fn need_arrangement(&self) -> bool {
        self.delivery == Delivery::AtMostOnce || self.cluster_concurrency.is_some() || self.unique.is_some()
    }
}

impl Default for Terms {
    fn default() -> Self {
        Terms {
            params: Vec::new(),
            timeout: Self::DEFAULT_TIMEOUT,
            cache: None,
            safe: None,
            is_async: false,
            concurrency: None,
            rate: None,
            retries: Retries::default(),
            delivery: Delivery::AtLeastOnce,
            ends_with_daemon: false,
            cluster_concurrency: None,
            unique: None,
            unique_for: Self::DEFAULT_UNIQUE_FOR,
            sources: None,
            users: None,
            room: None,
        }
    }
}

/// Something that can be called by its name.
pub struct Function {
    /// The name that requests use.
    pub name: String,
    /// What holds for it.
    pub terms: Terms,
    /// How it does its work.
    pub body: Box<dyn Body>,
}

impl Function {
    /// Whether its calls go by the queue, whichever door they came in by: what they need of other daemons is arranged there, and what they
    /// do besides their answer is done there.
    pub fn needs_queue(&self) -> bool {
        self.terms.unique.is_some() || self.terms.cluster_concurrency.is_some() || self.body.has_effects()
    }

    /// How many calls of it may run at once in this process: the smaller of what its terms and its body allow.
    pub fn concurrency(&self) -> Option<usize> {
        match (self.terms.concurrency, self.body.capacity()) {
            (Some(terms), Some(body)) => Some(terms.min(body)),
            (terms, body) => terms.or(body),
        }
    }

    /// How long `request` may run: what it asks for, but never longer than the function's own limit.
    pub fn time_limit(&self, request: &Request) -> Duration {
        request.timeout.map_or(self.terms.timeout, |timeout| timeout.min(self.terms.timeout))
    }
}

/// All functions, by name.
#[derive(Default, Clone)]
pub struct Functions {
    by_name: BTreeMap<String, Arc<Function>>,
    need_arrangement: bool,
}

impl Functions {
    /// Adds `function`; one of the same name is replaced.
    pub fn add(&mut self, function: Function) {
        self.share(Arc::new(function));
    }

    /// Adds a function that others hold as well.
    pub fn share(&mut self, function: Arc<Function>) {
        self.need_arrangement |= function.terms.need_arrangement() || function.body.has_effects();
        self.by_name.insert(function.name.clone(), function);
    }

    /// The function called `name`.
    pub fn get(&self, name: &str) -> Option<&Arc<Function>> {
        self.by_name.get(name)
    }

    /// All of them, by name.
    pub fn iter(&self) -> impl Iterator<Item = &Arc<Function>> {
        self.by_name.values()
    }

    /// Whether any of them may need something to be arranged with other daemons before it runs.
    pub fn need_arrangement(&self) -> bool {
        self.need_arrangement
    }
}
