//! What rooms keep in Redis: hashes behind the prefix of all keys.

use std::sync::LazyLock;

use redis::{Connection, Pipeline, RedisResult, Script, cmd, pipe};

use super::link::exchange_each;
use super::{RedisBroker, lock};
use crate::broker::{Beginning, Begun, Fields, Result};
use crate::effects::{FieldValue, OnlyIf, Put, StoreKey};
use crate::protocol::keys::Keys;

static BEGIN: LazyLock<Script> = LazyLock::new(|| Script::new(include_str!("scripts/begin.lua")));

const PUT: &str = include_str!("scripts/put.lua");

/// So many keys are read in one round trip.
const AT_ONCE: usize = 64;

/// All that is kept under each of `wanted`.
pub(super) fn read(connection: &mut Connection, keys: &Keys, wanted: &[StoreKey]) -> RedisResult<Vec<Fields>> {
    let mut all = Vec::with_capacity(wanted.len());
    for some in wanted.chunks(AT_ONCE) {
        let mut pipeline = pipe();
        for key in some {
            pipeline.cmd("HGETALL").arg(keys.of_room(key.as_str()));
        }
        let found: Vec<Vec<(Vec<u8>, Vec<u8>)>> = pipeline.query(connection)?;
        all.extend(found.into_iter().map(|fields| fields.into_iter().filter_map(of_ours).collect()));
    }
    Ok(all)
}

/// A field as we write it: others are no records of ours.
fn of_ours((name, value): (Vec<u8>, Vec<u8>)) -> Option<(Box<str>, FieldValue)> {
    Some((String::from_utf8(name).ok()?.into(), value.into()))
}

pub(super) fn get(
    connection: &mut Connection,
    keys: &Keys,
    key: &StoreKey,
    field: &str,
) -> RedisResult<Option<FieldValue>> {
    let found: Option<Vec<u8>> = cmd("HGET").arg(keys.of_room(key.as_str())).arg(field).query(connection)?;
    Ok(found.map(FieldValue::from))
}

/// Does all of `puts` in one step.
pub(super) fn put(connection: &mut Connection, keys: &Keys, puts: &[Put]) -> RedisResult<Vec<bool>> {
    if puts.is_empty() {
        return Ok(Vec::new());
    }
    let mut pipeline = pipe();
    pipeline.atomic();
    for put in puts {
        write_put(pipeline.cmd("EVAL"), keys, put);
    }
    pipeline.query(connection)
}

pub(super) fn forget(connection: &mut Connection, keys: &Keys, gone: &[StoreKey]) -> RedisResult<()> {
    if gone.is_empty() {
        return Ok(());
    }
    cmd("DEL").arg(gone.iter().map(|key| keys.of_room(key.as_str())).collect::<Vec<_>>()).query(connection)
}

/// Adds what `put` does to a command that was begun with `EVAL`.
pub(super) fn write_put(command: &mut Pipeline, keys: &Keys, put: &Put) {
    command.arg(PUT).arg(1).arg(keys.of_room(put.key.as_str()));
    match &put.only_if {
        OnlyIf::Always => command.arg("always").arg("").arg(""),
        OnlyIf::Exists(field) => command.arg("exists").arg(&**field).arg(""),
        OnlyIf::Is(field, Some(value)) => command.arg("is").arg(&**field).arg(&**value),
        OnlyIf::Is(field, None) => command.arg("missing").arg(&**field).arg(""),
    };
    for field in &put.fields {
        command.arg(&*field.name);
        match &field.value {
            Some(value) => command.arg("=").arg(&**value),
            None => command.arg("-").arg(""),
        };
    }
}

/// Begins each of `beginnings` in one step; their requests go into `inbox`. What is refused is told by an error of its own.
pub(super) fn begin(
    connection: &mut Connection,
    keys: &Keys,
    inbox: &str,
    beginnings: &[Beginning],
) -> RedisResult<Vec<RedisResult<Begun>>> {
    let mut pipeline = pipe();
    for beginning in beginnings {
        write_beginning(&mut pipeline, keys, inbox, beginning);
    }
    let replies = exchange_each(connection, &pipeline, &BEGIN)?;
    let understand = |reply| Ok(understand(&redis::from_redis_value::<String>(reply)?));
    Ok(replies.into_iter().map(|reply| reply.and_then(understand)).collect())
}

fn write_beginning(pipeline: &mut Pipeline, keys: &Keys, inbox: &str, beginning: &Beginning) {
    let Beginning { room, key, field, value, request, unless, note, bound } = beginning;
    let key = keys.of_room(key.as_str());
    // One that is not needed is one of those that are: on a cluster all must be in one place.
    let other = |other: Option<&StoreKey>| other.map_or_else(|| key.clone(), |other| keys.of_room(other.as_str()));
    let command = pipeline.cmd("EVALSHA").arg(BEGIN.get_hash()).arg(5).arg(&key).arg(keys.sent_by(room)).arg(inbox);
    command.arg(other(unless.as_ref().map(|unless| &unless.key))).arg(other(note.as_ref().map(|(key, ..)| key)));
    command.arg(&**field).arg(&**value);
    match request {
        Some(request) => command.arg(request.id.to_string()).arg(&*request.element),
        None => command.arg("").arg(""),
    };
    match unless {
        Some(unless) => command.arg(&*unless.field).arg(&*unless.value),
        None => command.arg("").arg(""),
    };
    match note {
        Some((_, field, value)) => command.arg(&**field).arg(&**value),
        None => command.arg("").arg(""),
    };
    command.arg(bound.most).arg(&*bound.last).arg(bound.seconds);
}

/// What became of it, as the script says it.
fn understand(word: &str) -> Begun {
    match word {
        "sent" => Begun::Sent,
        "withheld" => Begun::Withheld,
        _ => Begun::Taken,
    }
}

impl RedisBroker {
    pub(super) fn begin_all(&self, beginnings: &[Beginning]) -> Result<Vec<Begun>> {
        let mut link = lock(&self.storing);
        if !link.is_open() {
            // So that others find what is put into our inbox if we die.
            link.with(|connection| self.renew_lease(connection))?;
        }
        let (keys, inbox) = (&self.options.keys, &self.identity().inbox);
        let begun = link.with(|connection| begin(connection, keys, inbox, beginnings))?;
        let told = beginnings.iter().zip(begun).map(|(beginning, begun)| {
            begun.unwrap_or_else(|error| {
                let reason = self.options.target.describe(&error).reason;
                let (key, field) = (beginning.key.as_str(), &beginning.field);
                log::error!("{}: {field} of {key} cannot be put on record and does not run: {reason}", beginning.room);
                self.health.refused(&reason);
                Begun::Refused
            })
        });
        Ok(told.collect())
    }

    /// Does `work` on the connection for what rooms keep.
    pub(super) fn store<T>(&self, work: impl FnOnce(&mut Connection, &Keys) -> RedisResult<T>) -> Result<T> {
        let keys = &self.options.keys;
        lock(&self.storing).with(|connection| work(connection, keys))
    }
}
