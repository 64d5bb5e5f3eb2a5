//! One connection that opens again by itself.

use std::time::Duration;

use redis::{Connection, Pipeline, RedisError, RedisResult, Script, ServerErrorKind, Value};

use super::cause::cause_of;
use super::target::Target;
use crate::broker::{Cause, Result};

/// How long an answer of Redis may take; more than a claim's patience, which Redis waits for work.
pub(super) const RESPONSE: Duration = Duration::from_secs(3);

/// Sends all commands of `pipeline` and gives back their replies, one for each. It ends with the first reply that does not
/// come in time, where the library would wait as long for each of the others.
pub(super) fn exchange(connection: &mut Connection, pipeline: &Pipeline) -> RedisResult<Vec<Value>> {
    exchange_bytes(connection, &pipeline.get_packed_pipeline(), pipeline.len())
}

/// The same, where what one command is refused for does not concern the others: its reply is the error. What is not refused but has
/// to wait, as a Redis that is out of memory, fails all of them; and `script` is loaded where Redis does not know it.
pub(super) fn exchange_each(
    connection: &mut Connection,
    pipeline: &Pipeline,
    script: &Script,
) -> RedisResult<Vec<RedisResult<Value>>> {
    let bytes = pipeline.get_packed_pipeline();
    let mut replies = exchange_raw(connection, &bytes, pipeline.len())?;
    let is_unknown =
        |reply: &Value| matches!(reply, Value::ServerError(error) if error.kind() == Some(ServerErrorKind::NoScript));
    if replies.iter().any(is_unknown) {
        script.prepare_invoke().load(connection)?;
        replies = exchange_raw(connection, &bytes, pipeline.len())?;
    }
    let of_each = replies.into_iter().map(|reply| match reply {
        Value::ServerError(error) => match RedisError::from(error) {
            error if cause_of(&error) == Cause::Refused => Ok(Err(error)),
            has_to_wait => Err(has_to_wait),
        },
        reply => Ok(Ok(reply)),
    });
    of_each.collect()
}

/// The same for `count` commands that are bytes already. Messages to subscribers are passed over.
pub(super) fn exchange_bytes(connection: &mut Connection, bytes: &[u8], count: usize) -> RedisResult<Vec<Value>> {
    // Only when all are read: what one command is refused for must not be taken for the reply to the next.
    let replies = exchange_raw(connection, bytes, count)?;
    let refused = replies.iter().find_map(|reply| match reply {
        Value::ServerError(error) => Some(RedisError::from(error.clone())),
        _ => None,
    });
    refused.map_or(Ok(replies), Err)
}

pub(super) fn exchange_raw(connection: &mut Connection, bytes: &[u8], count: usize) -> RedisResult<Vec<Value>> {
    connection.send_packed_command(bytes)?;
    let mut replies = Vec::with_capacity(count);
    while replies.len() < count {
        match connection.recv_response()? {
            Value::Push { .. } => {}
            reply => replies.push(reply),
        }
    }
    Ok(replies)
}

/// A connection that is opened at its first use, and again after a failure.
pub(super) struct Link {
    target: Target,
    name: String,
    connection: Option<Connection>,
}

impl Link {
    pub(super) fn new(target: Target, name: String) -> Self {
        Link { target, name, connection: None }
    }

    pub(super) fn address(&self) -> &str {
        self.target.address()
    }

    pub(super) fn is_open(&self) -> bool {
        self.connection.is_some()
    }

    /// Does `work` on the connection. After any failure the connection is closed, as nobody knows what is still on its way.
    pub(super) fn with<T>(&mut self, work: impl FnOnce(&mut Connection) -> redis::RedisResult<T>) -> Result<T> {
        let connection = match &mut self.connection {
            Some(connection) => connection,
            none => none.insert(self.target.connect(&self.name)?),
        };
        work(connection).map_err(|error| {
            self.connection = None;
            self.target.describe(&error)
        })
    }
}
