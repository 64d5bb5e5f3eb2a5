//! What is published of requests that somebody watches, on one connection for all of them.
//!
//! Nothing but subscriptions goes over it: to those Redis answers with pushes, so no reply can be taken for another one after a wait
//! that came to nothing.

use std::collections::VecDeque;
use std::time::{Duration, Instant};

use redis::{Connection, PushKind, RedisError, RedisResult, Value, cmd};

use super::link::RESPONSE;
use super::post::{into_bytes, is_timeout};
use super::target::Target;
use crate::broker::{Result, Stage, Subscription};
use crate::protocol::RequestId;
use crate::protocol::keys::Keys;

/// After so long without a word Redis has to show that it is still there: a connection whose other end is gone may be silent for ever.
const SILENCE: Duration = Duration::from_secs(5);

/// The connection.
pub(super) struct RedisSubscription {
    target: Target,
    keys: Keys,
    connection: Connection,
    bell: RequestId,
    /// When Redis last said anything.
    heard_at: Instant,
    /// What came while something else was waited for.
    heard: VecDeque<(RequestId, Stage)>,
}

/// What Redis pushes.
enum Push {
    /// Of a watched request.
    News(RequestId, Stage),
    /// One more channel is listened to.
    Subscribed,
    /// Nothing of interest.
    Other,
}

impl RedisSubscription {
    pub(super) fn open(target: &Target, keys: Keys) -> Result<Self> {
        let connection = target.connect("cerbas-answers")?;
        let mut subscription = RedisSubscription {
            target: target.clone(),
            keys,
            connection,
            bell: RequestId::random(),
            heard_at: Instant::now(),
            heard: VecDeque::new(),
        };
        subscription.hang_up_bell().map_err(|error| subscription.target.describe(&error))?;
        Ok(subscription)
    }

    /// Listens to the bell. Doing it again changes nothing, but Redis has to say so.
    fn hang_up_bell(&mut self) -> RedisResult<()> {
        let bell = self.keys.stage_channel(&self.bell);
        self.listen(&[bell], &[])
    }

    /// Listens to the channels `new` before this returns, and no longer to `old`.
    fn listen(&mut self, new: &[String], old: &[String]) -> RedisResult<()> {
        let mut bytes = Vec::new();
        for (verb, channels) in [("UNSUBSCRIBE", old), ("SUBSCRIBE", new)] {
            if !channels.is_empty() {
                cmd(verb).arg(channels).write_packed_command(&mut bytes);
            }
        }
        self.connection.send_packed_command(&bytes)?;
        let deadline = Instant::now() + RESPONSE;
        let mut awaited = new.len();
        while awaited > 0 {
            match self.receive(deadline.saturating_duration_since(Instant::now()))? {
                Push::Subscribed => awaited -= 1,
                Push::News(id, stage) => self.heard.push_back((id, stage)),
                Push::Other => {}
            }
        }
        Ok(())
    }

    fn receive(&mut self, patience: Duration) -> RedisResult<Push> {
        // None at all would be one without an end.
        self.connection.set_read_timeout(Some(patience.max(Duration::from_millis(1))))?;
        let value = self.connection.recv_response()?;
        self.heard_at = Instant::now();
        match value {
            Value::Push { kind: PushKind::Subscribe, .. } => Ok(Push::Subscribed),
            Value::Push { kind: PushKind::Message, data } => Ok(self.read(data).unwrap_or(Push::Other)),
            Value::ServerError(error) => Err(RedisError::from(error)),
            _ => Ok(Push::Other),
        }
    }

    /// The message `data`: its channel and its text.
    fn read(&self, data: Vec<Value>) -> Option<Push> {
        let mut parts = data.into_iter();
        let channel = String::from_utf8(parts.next().and_then(into_bytes)?).ok()?;
        let message = parts.next().and_then(into_bytes)?;
        let id = |channel: &str, of: String| channel.strip_prefix(&of).and_then(RequestId::parse);
        if let Some(id) = id(&channel, self.keys.channel("")) {
            return Some(Push::News(id, Stage::Done(message)));
        }
        let id = id(&channel, self.keys.stage_channel(""))?;
        Some(Push::News(id, Stage::of_text(&message)))
    }

    fn channels(&self, ids: &[RequestId]) -> Vec<String> {
        ids.iter().flat_map(|id| [self.keys.channel(id), self.keys.stage_channel(id)]).collect()
    }
}

impl Subscription for RedisSubscription {
    fn watch(&mut self, new: &[RequestId], old: &[RequestId]) -> Result<()> {
        let (new, old) = (self.channels(new), self.channels(old));
        self.listen(&new, &old).map_err(|error| self.target.describe(&error))
    }

    fn next(&mut self, patience: Duration) -> Result<Vec<(RequestId, Stage)>> {
        if self.heard.is_empty() {
            match self.receive(patience) {
                Ok(Push::News(id, stage)) if id != self.bell => self.heard.push_back((id, stage)),
                Ok(_) => {}
                Err(error) if is_timeout(&error) && self.heard_at.elapsed() < SILENCE => {}
                Err(error) if is_timeout(&error) => {
                    self.hang_up_bell().map_err(|error| self.target.describe(&error))?;
                }
                Err(error) => return Err(self.target.describe(&error)),
            }
        }
        Ok(self.heard.drain(..).filter(|(id, _)| *id != self.bell).collect())
    }

    fn bell(&self) -> &RequestId {
        &self.bell
    }
}
