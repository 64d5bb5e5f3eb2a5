//! A client's connection: it listens and pushes in one round trip.
//!
//! It speaks RESP3, in which one connection can subscribe and send commands. As Redis does what one connection sends in
//! order, the subscription stands before the request can be taken.

use std::collections::HashSet;
use std::sync::LazyLock;
use std::time::{Duration, Instant};

use redis::{Cmd, Connection, ErrorKind, PushKind, RedisError, RedisResult, Script, Value, cmd};

use super::lease::read_record;
use super::link::{RESPONSE, exchange_bytes};
use super::subscription::RedisSubscription;
use super::{Target, cancel};
use crate::broker::{BrokerError, Cause, Found, Post, QueueTerms, Result, Stage, Subscription};
use crate::protocol::keys::Keys;
use crate::protocol::{Node, RequestId};

static SUBMIT: LazyLock<Script> = LazyLock::new(|| Script::new(include_str!("scripts/submit.lua")));

/// Pauses between attempts to reach a Redis that is away while an answer is waited for.
const PAUSE: Duration = Duration::from_millis(100);

/// How long the answer to a request can be read that a client has cancelled; what daemons do is not known here.
const RESULT_TTL: Duration = Duration::from_secs(60);

/// A client's side of Redis.
pub struct RedisPost {
    target: Target,
    keys: Keys,
    connection: Option<Connection>,
    /// The channel that the connection listens to.
    channel: Option<String>,
    /// The further queues that are known to be served.
    served: HashSet<String>,
}

impl RedisPost {
    /// Connects to Redis.
    pub fn connect(target: &Target, keys: Keys) -> Result<Self> {
        let mut post = RedisPost {
            target: target.in_resp3().owning(keys.schema()),
            keys,
            connection: None,
            channel: None,
            served: HashSet::new(),
        };
        post.connection = Some(post.target.connect("cerbas-client")?);
        Ok(post)
    }

    /// The connection, opened again where it has broken.
    fn connection(&mut self) -> Result<&mut Connection> {
        if self.connection.is_none() {
            self.channel = None;
            self.connection = Some(self.target.connect("cerbas-client")?);
        }
        Ok(self.connection.as_mut().expect("it was opened just now"))
    }

    /// Sends `commands` in one go and gives back the reply to each, after listening to `channel` where one is given.
    fn ask(&mut self, channel: Option<String>, commands: &[Cmd]) -> Result<Vec<Value>> {
        let mut bytes = Vec::new();
        // A new connection listens to nothing, and Valkey refuses to end what was not begun.
        let old = self.channel.take().filter(|_| self.connection.is_some());
        let connection = self.connection()?;
        if let Some(old) = old {
            cmd("UNSUBSCRIBE").arg(old).write_packed_command(&mut bytes);
        }
        if let Some(channel) = &channel {
            cmd("SUBSCRIBE").arg(channel).write_packed_command(&mut bytes);
        }
        commands.iter().for_each(|command| command.write_packed_command(&mut bytes));
        let replies = connection
            .set_read_timeout(Some(RESPONSE))
            .and_then(|()| exchange_bytes(connection, &bytes, commands.len()));
        self.channel = channel;
        replies.map_err(|error| self.broken(&error))
    }

    /// The key of the further queue called `name`, or of the usual one.
    fn queue(&self, name: Option<&str>) -> String {
        match name {
            Some(name) if name != QueueTerms::DEFAULT => self.keys.named_queue(name),
            _ => self.keys.queue(),
        }
    }

    /// Whether daemons serve the queue called `name`, or have in the last week. What is put elsewhere would wait for ever. Where nobody can
    /// tell, as no daemon has come yet or we may not ask, it is taken for served.
    fn is_served(&mut self, name: Option<&str>) -> Result<()> {
        let Some(name) = name.filter(|name| *name != QueueTerms::DEFAULT && !self.served.contains(*name)) else {
            return Ok(());
        };
        let (names, nodes) = (self.keys.queue_names(), self.keys.nodes());
        let replies = self.ask(None, &[cmd("ZSCORE").arg(names).arg(name).take(), cmd("EXISTS").arg(nodes).take()]);
        let replies = match replies {
            Err(error) if error.is_refusal() => return Ok(()),
            replies => replies?,
        };
        let last_served = replies.first().and_then(|score| redis::from_redis_value_ref::<Option<f64>>(score).ok());
        match (last_served.flatten(), replies.get(1)) {
            (Some(at), _) if at >= 0.0 => drop(self.served.insert(name.to_owned())),
            (None, Some(Value::Int(0))) => {}
            _ => {
                let reason = format!("no daemon serves the queue {name:?}");
                let address = self.target.address().to_owned();
                return Err(BrokerError { address, reason, cause: Cause::NoSuchQueue });
            }
        }
        Ok(())
    }

    fn broken(&mut self, error: &RedisError) -> BrokerError {
        self.connection = None;
        self.target.describe(error)
    }

    /// Waits for the answer on the connection; `None` when the time is over.
    fn listen(&mut self, patience: Duration) -> Result<Option<Vec<u8>>> {
        let wanted = self.channel.clone();
        let deadline = Instant::now() + patience;
        let connection = self.connection()?;
        let message = loop {
            let left = deadline.saturating_duration_since(Instant::now());
            if left.is_zero() {
                break Ok(None);
            }
            let value = connection.set_read_timeout(Some(left)).and_then(|()| connection.recv_response());
            match value {
                Ok(value) => {
                    if let Some(message) = message_on(value, wanted.as_deref()) {
                        break Ok(Some(message));
                    }
                }
                Err(error) if is_timeout(&error) => break Ok(None),
                Err(error) => break Err(error),
            }
        };
        // After a time-out nobody knows whether half a message was read.
        if !matches!(message, Ok(Some(_))) {
            self.connection = None;
        }
        message.map_err(|error| self.target.describe(&error))
    }

    /// Listens again on a new connection, and looks whether the answer came while there was none.
    fn listen_again(&mut self, id: &RequestId) -> Result<Option<Vec<u8>>> {
        let stored = self.ask(Some(self.keys.channel(id)), &[cmd("GET").arg(self.keys.result(id)).take()])?;
        Ok(stored.into_iter().next().and_then(into_bytes))
    }
}

impl Post for RedisPost {
    fn send(&mut self, queue: Option<&str>, element: &[u8], id: Option<&RequestId>) -> Result<()> {
        self.is_served(queue)?;
        let push = cmd("RPUSH").arg(self.queue(queue)).arg(element).take();
        let channel = id.map(|id| self.keys.channel(id));
        let was_used = self.connection.is_some();
        let sent = self.ask(channel.clone(), std::slice::from_ref(&push));
        // Most likely the connection was closed while nobody used it. If Redis did get the request, it runs twice
        // under one id, which at-least-once delivery allows.
        let sent =
            if sent.is_err() && was_used && self.connection.is_none() { self.ask(channel, &[push]) } else { sent };
        sent.map(drop)
    }

    fn submit(&mut self, queue: Option<&str>, element: &[u8], id: &RequestId, keep: Duration) -> Result<bool> {
        self.is_served(queue)?;
        let (queue, stage, result) = (self.queue(queue), self.keys.stage(id), self.keys.result(id));
        self.connection()?;
        let connection = self.connection.as_mut().expect("it was opened just now");
        let mut script = SUBMIT.key(queue);
        script.key(stage).key(result).arg(element).arg(keep.as_secs().max(1));
        let is_new: RedisResult<bool> =
            connection.set_read_timeout(Some(RESPONSE)).and_then(|()| script.invoke(connection));
        is_new.map_err(|error| self.broken(&error))
    }

    fn stages(&mut self, ids: &[RequestId]) -> Result<Vec<Stage>> {
        if ids.is_empty() {
            return Ok(Vec::new());
        }
        let (mut stages, mut results) = (cmd("MGET"), cmd("MGET"));
        for id in ids {
            stages.arg(self.keys.stage(id));
            results.arg(self.keys.result(id));
        }
        // The stage goes in the step in which the result comes, and that may be between the two looks: who looks for the result first sees
        // neither.
        let replies = self.ask(None, &[stages, results])?;
        let mut replies = replies.into_iter().map(|reply| into_list(reply).unwrap_or_default().into_iter());
        let (stages, results) = (replies.next(), replies.next());
        let both = results.into_iter().flatten().zip(stages.into_iter().flatten());
        let stage = |(result, stage): (Value, Value)| match (into_bytes(result), into_bytes(stage).as_deref()) {
            (Some(answer), _) => Stage::Done(answer),
            (None, Some(text)) => Stage::of_text(text),
            (None, None) => Stage::Unknown,
        };
        Ok(both.map(stage).collect())
    }

    fn subscribe(&self) -> Result<Box<dyn Subscription>> {
        Ok(Box::new(RedisSubscription::open(&self.target, self.keys.clone())?))
    }

    fn ring(&mut self, bell: &RequestId) -> Result<()> {
        let ring = cmd("PUBLISH").arg(self.keys.stage_channel(bell)).arg("").take();
        self.ask(None, &[ring]).map(drop)
    }

    fn receive(&mut self, id: &RequestId, patience: Duration) -> Result<Option<Vec<u8>>> {
        let deadline = Instant::now() + patience;
        loop {
            let left = deadline.saturating_duration_since(Instant::now());
            let mut heard = if self.connection.is_some() && !left.is_zero() { self.listen(left) } else { Ok(None) };
            if matches!(heard, Ok(None)) || heard.is_err() {
                heard = self.listen_again(id);
            }
            let is_over = Instant::now() >= deadline;
            match heard {
                Ok(Some(answer)) => return Ok(Some(answer)),
                Ok(None) if is_over => return Ok(None),
                Err(error) if is_over || error.cause == Cause::Permanent => return Err(error),
                Ok(None) => {}
                Err(_) => std::thread::sleep(PAUSE.min(deadline.saturating_duration_since(Instant::now()))),
            }
        }
    }

    fn withdraw(&mut self, queue: Option<&str>, element: &[u8], _id: &RequestId) -> Result<bool> {
        let remove = cmd("LREM").arg(self.queue(queue)).arg(1).arg(element).take();
        let replies = self.ask(None, &[remove])?;
        Ok(matches!(replies.first(), Some(Value::Int(1))))
    }

    fn cancel(&mut self, id: &RequestId) -> Result<Found> {
        let keys = self.keys.clone();
        self.connection()?;
        let connection = self.connection.as_mut().expect("it was opened just now");
        let found = connection
            .set_read_timeout(Some(RESPONSE))
            .and_then(|()| cancel::cancel(connection, &keys, id, RESULT_TTL));
        found.map_err(|error| self.broken(&error))
    }

    fn nodes(&mut self) -> Result<Vec<Node>> {
        let replies = self.ask(None, &[cmd("ZRANGE").arg(self.keys.nodes()).arg(0).arg(-1).take()])?;
        let names = replies.into_iter().next().and_then(into_list).unwrap_or_default();
        if names.is_empty() {
            return Ok(Vec::new());
        }
        let mut get = cmd("MGET");
        for name in names.into_iter().filter_map(into_bytes) {
            get.arg(self.keys.lease(&String::from_utf8_lossy(&name)));
        }
        let leases = self.ask(None, &[get])?.into_iter().next().and_then(into_list).unwrap_or_default();
        // Where there is none the daemon is dead.
        let nodes = leases.into_iter().filter_map(into_bytes).filter_map(|record| read_record(&record));
        let mut nodes: Vec<Node> = nodes.collect();
        nodes.sort_by(|a, b| (&a.status.name, &a.node).cmp(&(&b.status.name, &b.node)));
        Ok(nodes)
    }
}

/// The message that `value` is, if it came on `channel`.
fn message_on(value: Value, channel: Option<&str>) -> Option<Vec<u8>> {
    let Value::Push { kind: PushKind::Message, data } = value else { return None };
    let mut parts = data.into_iter();
    let (from, message) = (parts.next().and_then(into_bytes)?, parts.next().and_then(into_bytes)?);
    (channel.map(str::as_bytes) == Some(from.as_slice())).then_some(message)
}

pub(super) fn into_bytes(value: Value) -> Option<Vec<u8>> {
    match value {
        Value::BulkString(bytes) => Some(bytes),
        _ => None,
    }
}

fn into_list(value: Value) -> Option<Vec<Value>> {
    match value {
        Value::Array(values) => Some(values),
        _ => None,
    }
}

pub(super) fn is_timeout(error: &RedisError) -> bool {
    error.kind() == ErrorKind::Io && error.is_timeout()
}
