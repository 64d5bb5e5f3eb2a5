//! Cancelling a request, wherever it is: what waits is settled here and now, what a daemon has is left to that daemon.

use std::sync::LazyLock;
use std::time::Duration;

use redis::{Connection, RedisResult, Script};
use serde_json::json;

use super::{RedisBroker, lock};
use crate::broker::{Found, Result};
use crate::protocol::codec::encode_outcome;
use crate::protocol::keys::Keys;
use crate::protocol::{CallError, RequestId};

static CANCEL: LazyLock<Script> = LazyLock::new(|| Script::new(include_str!("scripts/cancel.lua")));

/// Cancels `id` where it waits; where a daemon has it, tells that daemon. The answer is kept for `result_ttl`.
pub(super) fn cancel(
    connection: &mut Connection,
    keys: &Keys,
    id: &RequestId,
    result_ttl: Duration,
) -> RedisResult<Found> {
    let answer = encode_outcome(Err(CallError::Cancelled));
    let message = json!({"cancel": id.to_string()}).to_string();
    let (number, bodies) = match id {
        RequestId::Number(number) => (number.to_string(), keys.bodies(*number)),
        // There is none; a name that nobody writes.
        RequestId::Text(_) => (String::new(), [keys.holds(id), keys.holds(id)]),
    };
    let mut script = CANCEL.key(keys.queues().as_slice());
    script.key(keys.delayed()).key(keys.queue_names()).key(keys.nodes()).key(keys.limited()).key(keys.verdicts());
    script.key(keys.result(id)).key(keys.holds(id)).key(bodies.as_slice()).key(keys.suspects());
    let room = id.room().unwrap_or_default();
    script.key(keys.stage(id)).key(keys.sent_by(room)).key(keys.deliveries(id)).key(keys.taken_of(room));
    script.key(keys.waited());
    script.arg(id.to_string()).arg(number).arg(result_ttl.as_secs().max(1)).arg(&*answer.json).arg(message);
    script.arg(keys.named_queue("")).arg(keys.inbox("")).arg(keys.parked("")).arg(keys.in_flight("", ""));
    script.arg(keys.control("")).arg(keys.waiting("")).arg(keys.stage_channel(id));
    for (channel, is_msgpack) in keys.channels(id) {
        script.arg(channel).arg(if is_msgpack { &*answer.msgpack } else { &*answer.json });
    }
    let (word, node): (String, Option<String>) = script.invoke(connection)?;
    Ok(match (word.as_str(), node) {
        ("cancelled", _) => Found::Waiting,
        ("in flight", Some(node)) => Found::InFlight(node),
        ("ended", _) => Found::Ended,
        _ => Found::Nowhere,
    })
}

impl RedisBroker {
    pub(super) fn cancel_one(&self, id: &RequestId) -> Result<()> {
        let (keys, ttl) = (&self.options.keys, self.options.result_ttl);
        lock(&self.asking).with(|connection| cancel(connection, keys, id, ttl)).map(drop)
    }
}
