//! The dead list: looking, trying again, taking out.

use std::sync::LazyLock;

use redis::{Script, cmd};

use super::Operator;
use crate::broker::{DeadEntry, Result};
use crate::protocol::keys::Keys;

static RETRY_DEAD: LazyLock<Script> = LazyLock::new(|| Script::new(include_str!("../scripts/retry_dead.lua")));

impl Operator {
    /// What failed or was refused and nobody else would hear of, the oldest first. What is no entry is left out.
    pub(super) fn dead_entries(&mut self) -> Result<Vec<DeadEntry>> {
        let mut entries = Vec::new();
        for is_refused in [false, true] {
            let members: Vec<Vec<u8>> = self
                .ask(|connection, keys| cmd("ZRANGE").arg(list(keys, is_refused)).arg(0).arg(-1).query(connection))?;
            // Where a letter can be read, all of it is text.
            let texts = members.into_iter().filter_map(|member| String::from_utf8(member).ok());
            entries.extend(texts.filter_map(|member| DeadEntry::read(member, is_refused)));
        }
        entries.sort_by_key(|entry| entry.letter.at);
        Ok(entries)
    }

    /// Sends the request of `entry` again, under its id, and takes it out of the list, in one step. False if the entry was
    /// not there any more, or has no request.
    pub(super) fn retry(&mut self, entry: &DeadEntry) -> Result<bool> {
        let Some(element) = entry.request_anew() else { return Ok(false) };
        let room = entry.room();
        let vouched = entry.letter.id.as_deref().filter(|_| room.is_some()).unwrap_or_default();
        self.ask(|connection, keys| {
            let mut script = RETRY_DEAD.key(list(keys, entry.is_refused));
            script.key(keys.queue()).key(keys.sent_by(room.unwrap_or_default()));
            script.arg(&entry.member).arg(&element).arg(vouched).invoke(connection)
        })
    }

    /// Takes `entry` out of the list; false if it was not there any more.
    pub(super) fn delete(&mut self, entry: &DeadEntry) -> Result<bool> {
        let is_refused = entry.is_refused;
        self.ask(|connection, keys| cmd("ZREM").arg(list(keys, is_refused)).arg(&entry.member).query(connection))
    }
}

/// The list of what was refused, or of what failed.
fn list(keys: &Keys, is_refused: bool) -> String {
    if is_refused { keys.refused() } else { keys.dead() }
}
