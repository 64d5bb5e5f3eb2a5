//! The Rust client: it calls functions of a daemon through Redis.

use std::fmt;
use std::time::Duration;

use serde::Serialize;

use crate::broker::{BrokerError, Cause, Entrance, Found, Post, RedisPost, Target};
use crate::clock;
use crate::protocol::keys::Keys;
use crate::protocol::{Answer, Json, Node, Object, RequestId, Status, Verdict, with_reason};

/// How long a call waits for its answer where nothing else is said.
pub const DEFAULT_PATIENCE: Duration = Duration::from_secs(10);

/// Calls functions; one call at a time. Make one for each thread.
///
/// ```no_run
/// use serde_json::json;
///
/// let mut client = cerbas::Client::connect("redis://127.0.0.1:6379/1")?.source("rust");
/// let sum = client.call("sum", json!({"a": 1, "b": 2}))?;
/// assert_eq!(sum, json!(3));
/// # Ok::<(), cerbas::ClientError>(())
/// ```
#[must_use = "nothing is sent before something is called"]
pub struct Client {
    post: Box<dyn Post>,
    user: Option<String>,
    source: Option<String>,
    patience: Duration,
    time_limit: Option<Duration>,
    delay: Option<Duration>,
    queue: Option<String>,
    node: Option<String>,
    retries: Option<u32>,
    unique: Option<(String, bool)>,
    chain: Vec<String>,
}

impl Client {
    /// Connects to the Redis at `url`, where keys start with `CERBAS`. Into the private one of a daemon of the same user it finds the way by
    /// itself.
    pub fn connect(url: &str) -> Result<Self, ClientError> {
        let target = Target::new(url, None, None)?;
        let entrance = Entrance::noted(&target);
        Self::connect_with(&entrance.map_or(target.clone(), |entrance| entrance.target(&target)), "CERBAS")
    }

    /// Connects to the Redis at `target`, where keys start with `prefix`.
    pub fn connect_with(target: &Target, prefix: &str) -> Result<Self, ClientError> {
        let post = RedisPost::connect(target, Keys::new(prefix, target.database()))?;
        Ok(Self::over(Box::new(post)))
    }

    /// A client that sends over `post`.
    pub fn over(post: Box<dyn Post>) -> Self {
        Client {
            post,
            user: None,
            source: None,
            patience: DEFAULT_PATIENCE,
            time_limit: None,
            delay: None,
            queue: None,
            node: None,
            retries: None,
            unique: None,
            chain: Vec::new(),
        }
    }

    /// The connection that it sends over.
    pub(crate) fn into_post(self) -> Box<dyn Post> {
        self.post
    }

    /// Asks on behalf of `user`.
    pub fn user(self, user: impl Into<String>) -> Self {
        Client { user: Some(user.into()), ..self }
    }

    /// Asks as the program `source`.
    pub fn source(self, source: impl Into<String>) -> Self {
        Client { source: Some(source.into()), ..self }
    }

    /// Waits at most `patience` for an answer. Default: [`DEFAULT_PATIENCE`].
    pub fn patience(self, patience: Duration) -> Self {
        Client { patience, ..self }
    }

    /// Lets the function run no longer than `time_limit`. Default: the function's own limit.
    pub fn time_limit(self, time_limit: Duration) -> Self {
        Client { time_limit: Some(time_limit), ..self }
    }

    /// Lets the function start only after `delay`. Default: at once.
    pub fn delay(self, delay: Duration) -> Self {
        Client { delay: Some(delay), ..self }
    }

    /// Sends into the further queue called `name`. Default: the usual one, which is called `default`.
    pub fn queue(self, name: impl Into<String>) -> Self {
        Client { queue: Some(name.into()), ..self }
    }

    /// Lets the daemon run it that has this name or id; `*`: all of them, and the value has the answer of each under its name.
    /// Default: whichever is free.
    pub fn node(self, node: impl Into<String>) -> Self {
        Client { node: Some(node.into()), ..self }
    }

    /// Lets a request that fails run `count` times more. Default: as its function says.
    pub fn retries(self, count: u32) -> Self {
        Client { retries: Some(count), ..self }
    }

    /// A request is rejected while another of its function with this key waits or runs; with `replaces` it takes the place of that one,
    /// which is cancelled.
    pub fn unique(self, key: impl Into<String>, replaces: bool) -> Self {
        Client { unique: Some((key.into(), replaces)), ..self }
    }

    /// Says which functions wait for the answer.
    pub(crate) fn chain(self, chain: Vec<String>) -> Self {
        Client { chain, ..self }
    }

    /// Calls `func` with `args`, which must become a JSON object, and waits for its value.
    pub fn call(&mut self, func: &str, args: impl Serialize) -> Result<Json, ClientError> {
        let answer = self.ask(func, args)?;
        match answer.status {
            Status::Ok => Ok(answer.data),
            Status::Error => Err(ClientError::Answered {
                verdict: answer.verdict(),
                message: answer.data.to_text(),
                reason: answer.reason.clone(),
                is_for_good: answer.error().is_pointless(),
            }),
        }
    }

    /// Calls `func` with `args`, which must become a JSON object, and waits for its answer, be it an error.
    pub fn ask(&mut self, func: &str, args: impl Serialize) -> Result<Answer, ClientError> {
        let (id, element) = self.request(func, args, true)?;
        self.put(&element, Some(&id))?;
        let patience = self.patience + self.delay.unwrap_or_default();
        match self.post.receive(&id, patience)? {
            Some(json) => serde_json::from_slice(&json).map_err(|_| ClientError::Unreadable),
            None => {
                let was_waiting = self.post.withdraw(self.queue.as_deref(), &element, &id)?;
                Err(ClientError::NoAnswer { was_taken: !was_waiting, waited: patience })
            }
        }
    }

    /// Sends a request that nobody waits for; gives back its id.
    pub fn send(&mut self, func: &str, args: impl Serialize) -> Result<RequestId, ClientError> {
        let (id, element) = self.request(func, args, false)?;
        self.put(&element, None)?;
        Ok(id)
    }

    fn put(&mut self, element: &[u8], id: Option<&RequestId>) -> Result<(), ClientError> {
        let queue = self.queue.as_deref();
        self.post.send(queue, element, id).map_err(|error| match error.cause {
            Cause::NoSuchQueue => ClientError::NoSuchQueue(queue.unwrap_or_default().to_owned()),
            _ => error.into(),
        })
    }

    /// Cancels the request `id`, wherever it is; tells whether it was there. One that waits is answered `cancelled` at once. One
    /// that a daemon has ends within a second in a command, a worker or an HTTP call; a native function has to look at
    /// [`Call::is_cancelled`](crate::Call::is_cancelled).
    pub fn cancel(&mut self, id: &RequestId) -> Result<bool, ClientError> {
        Ok(matches!(self.post.cancel(id)?, Found::Waiting | Found::InFlight(_)))
    }

    /// All daemons that live, as each said with its last heartbeat.
    pub fn nodes(&mut self) -> Result<Vec<Node>, ClientError> {
        Ok(self.post.nodes()?)
    }

    fn request(&self, func: &str, args: impl Serialize, reply: bool) -> Result<(RequestId, Vec<u8>), ClientError> {
        let args = Json::of(&args).map_err(|error| ClientError::Arguments(error.to_string()))?;
        if !args.is_object() && !args.is_null() {
            return Err(ClientError::Arguments("must be a JSON object, by name".to_owned()));
        }
        let id = RequestId::random();
        let mut request = Object::new();
        let mut set = |name: &str, value: Option<Json>| {
            if let Some(value) = value {
                request.insert(name, value);
            }
        };
        set("id", Some(Json::from(id.to_string())));
        set("func", Some(Json::from(func)));
        set("args", Some(args));
        set("user", self.user.clone().map(Json::from));
        set("source", self.source.clone().map(Json::from));
        set("timeout", self.time_limit.map(milliseconds));
        set("delay", self.delay.map(milliseconds));
        set("sent_at", Some(Json::from(clock::now())));
        set("node", self.node.clone().map(Json::from));
        set("retries", self.retries.map(Json::from));
        if let Some((key, replaces)) = &self.unique {
            set("unique", Some(Json::from(key.clone())));
            set("on_duplicate", Some(Json::from(if *replaces { "replace" } else { "reject" })));
        }
        if !self.chain.is_empty() {
            set("chain", Some(Json::from(self.chain.clone())));
            set("deadline", Some(Json::from(clock::now().saturating_add(self.patience.as_millis() as u64))));
        }
        if reply {
            // Nobody waits longer, so it need not start later.
            set("expires", Some(milliseconds(self.patience)));
        } else {
            set("reply", Some(Json::from(false)));
        }
        Ok((id, request.to_json().into_bytes()))
    }
}

impl fmt::Debug for Client {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Client { user, source, queue, node, patience, .. } = self;
        let mut shown = f.debug_struct("Client");
        shown.field("user", user).field("source", source).field("queue", queue).field("node", node);
        shown.field("patience", patience).finish_non_exhaustive()
    }
}

fn milliseconds(duration: Duration) -> Json {
    Json::from(duration.as_millis() as u64)
}

/// Why a call has no value.
#[derive(Debug, Clone, PartialEq, Eq)]
#[non_exhaustive]
pub enum ClientError {
    /// The daemon answered that there is none.
    Answered {
        /// How the request ended.
        verdict: Verdict,
        /// What it said.
        message: String,
        /// What is wrong in particular, where the message does not say that: with the arguments.
        reason: Option<String>,
        /// Whether the same call would end the same way.
        is_for_good: bool,
    },
    /// Nothing came in time.
    NoAnswer {
        /// Whether a daemon had taken the request. If not, it was taken back and will not run.
        was_taken: bool,
        /// How long it was waited for.
        waited: Duration,
    },
    /// The arguments are no JSON object.
    Arguments(String),
    /// What came is no answer.
    Unreadable,
    /// No daemon serves the queue with this name, nor has in the last week: nothing was sent.
    NoSuchQueue(String),
    /// The daemon was inside this program, and has ended: nothing was sent.
    Closed,
    /// Redis is away or refuses.
    Redis(BrokerError),
}

impl fmt::Display for ClientError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            ClientError::Answered { message, reason, .. } => f.write_str(&with_reason(message, reason.as_deref())),
            ClientError::NoAnswer { was_taken: true, waited } => {
                write!(f, "no answer within {waited:?}: a daemon has taken the request and may still run it")
            }
            ClientError::NoAnswer { was_taken: false, waited } => {
                write!(f, "no daemon answers: nobody took the request within {waited:?}, so it was taken back")
            }
            ClientError::Arguments(reason) => write!(f, "arguments: {reason}"),
            ClientError::Unreadable => f.write_str("what came back is no answer of cerbas"),
            ClientError::NoSuchQueue(name) => {
                write!(
                    f,
                    "no daemon serves the queue {name:?}; a section [queues.{name}] in the configuration lets one"
                )
            }
            ClientError::Closed => f.write_str("the daemon has ended"),
            ClientError::Redis(error) => error.fmt(f),
        }
    }
}

impl std::error::Error for ClientError {
    fn source(&self) -> Option<&(dyn std::error::Error + 'static)> {
        match self {
            ClientError::Redis(error) => Some(error),
            _ => None,
        }
    }
}

impl From<BrokerError> for ClientError {
    fn from(error: BrokerError) -> Self {
        if error.cause == Cause::NoDaemon { ClientError::Closed } else { ClientError::Redis(error) }
    }
}
