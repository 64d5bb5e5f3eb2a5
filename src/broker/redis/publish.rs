//! Publishing again what nobody received: clients of old subscribe after they push.

use std::collections::HashSet;

use redis::{Connection, InfoDict, RedisResult, cmd};

use super::cause::cause_of;
use super::{RedisBroker, lock};
use crate::broker::{Cause, Result};
use crate::protocol::RequestId;
use crate::protocol::codec::json_to_msgpack;
use crate::protocol::keys::Keys;

impl RedisBroker {
    /// Publishes stored answers to those who have subscribed since; gives back the ids that still nobody received.
    pub(super) fn publish_stored(&self, ids: &[RequestId]) -> Result<Vec<RequestId>> {
        let keys = &self.options.keys;
        lock(&self.publishing).with(|connection| {
            let listeners = Listeners::ask(connection, keys, ids)?;
            let mut unheard = Vec::new();
            for id in ids {
                if !listeners.hear(keys, id) || publish_one(connection, keys, id)? == 0 {
                    unheard.push(id.clone());
                }
            }
            Ok(unheard)
        })
    }
}

/// Who listens at this moment. A look costs a few commands, however many answers nobody waits for.
enum Listeners {
    /// Somebody listens to a pattern of channels: it may match any.
    Patterns,
    /// The channels that somebody listens to.
    Channels(HashSet<String>),
}

impl Listeners {
    fn ask(connection: &mut Connection, keys: &Keys, ids: &[RequestId]) -> RedisResult<Self> {
        // Where that is not to be known, somebody may listen to any.
        let info: InfoDict = match cmd("INFO").arg("stats").query(connection) {
            Err(error) if cause_of(&error) == Cause::Refused => return Ok(Listeners::Patterns),
            info => info?,
        };
        if info.get::<usize>("pubsub_patterns").is_none_or(|patterns| patterns > 0) {
            return Ok(Listeners::Patterns);
        }
        let listened = info.get::<usize>("pubsub_channels").unwrap_or(usize::MAX);
        let channels = if listened == 0 {
            HashSet::new()
        } else if listened <= ids.len() {
            match cmd("PUBSUB").arg("CHANNELS").query(connection) {
                Err(error) if cause_of(&error) == Cause::Refused => return Ok(Listeners::Patterns),
                channels => channels?,
            }
        } else {
            let mut count = cmd("PUBSUB");
            count.arg("NUMSUB");
            for (channel, _) in ids.iter().flat_map(|id| keys.channels(id)) {
                count.arg(channel);
            }
            let counts: Vec<(String, u64)> = match count.query(connection) {
                Err(error) if cause_of(&error) == Cause::Refused => return Ok(Listeners::Patterns),
                counts => counts?,
            };
            counts.into_iter().filter(|(_, count)| *count > 0).map(|(channel, _)| channel).collect()
        };
        Ok(Listeners::Channels(channels))
    }

    fn hear(&self, keys: &Keys, id: &RequestId) -> bool {
        match self {
            Listeners::Patterns => true,
            Listeners::Channels(channels) if channels.is_empty() => false,
            Listeners::Channels(channels) => keys.channels(id).iter().any(|(channel, _)| channels.contains(channel)),
        }
    }
}

/// Publishes the stored answer to `id`; gives back how many received it. One that is stored no more counts as received.
fn publish_one(connection: &mut Connection, keys: &Keys, id: &RequestId) -> RedisResult<u64> {
    let stored: Option<Vec<u8>> = cmd("GET").arg(keys.result(id)).query(connection)?;
    let Some(json) = stored else { return Ok(1) };
    let msgpack = json_to_msgpack(&json).unwrap_or_default();
    let mut received = 0;
    for (channel, is_msgpack) in keys.channels(id) {
        let message = if is_msgpack { &*msgpack } else { &json };
        received += cmd("PUBLISH").arg(channel).arg(message).query::<u64>(connection)?;
    }
    Ok(received)
}
