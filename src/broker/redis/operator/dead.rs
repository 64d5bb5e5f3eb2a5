//! The dead list: looking, trying again, taking out.

use std::sync::LazyLock;

use redis::{Script, cmd};

use super::Operator;
use crate::broker::{DeadEntry, Result};
use crate::protocol::keys::Keys;
use crate::protocol::{CRON_FUNCTION, DeadLetter, Verdict};

static RETRY_DEAD: LazyLock<Script> = LazyLock::new(|| Script::new(include_str!("../scripts/retry_dead.lua")));

/// What a request loses that is sent anew: what it has been through, and times that are over.
const OF_ITS_PAST: [&str; 7] = ["attempt", "first_at", "last_error", "expires", "sent_at", "delay", "deadline"];

/// Whether cron has sent what is in `letter`. One that only says so was rejected.
fn is_sent_by_cron(letter: &DeadLetter) -> bool {
    let Some(request) = letter.request.as_ref().filter(|_| letter.verdict != Verdict::Rejected) else { return false };
    let func = request.text("func").unwrap_or_default();
    func.starts_with(CRON_FUNCTION) || request.get("cron").is_some_and(|cron| !cron.is_null())
}

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
        let Some(mut request) = entry.letter.request.clone() else { return Ok(false) };
        OF_ITS_PAST.iter().for_each(|name| drop(request.remove(name)));
        if let Some(id) = &entry.letter.id {
            request.insert("id", id.clone());
        }
        let element = request.to_json();
        let sent_by_cron = entry.letter.id.as_deref().filter(|_| is_sent_by_cron(&entry.letter)).unwrap_or_default();
        self.ask(|connection, keys| {
            let mut script = RETRY_DEAD.key(list(keys, entry.is_refused));
            script.key(keys.queue()).key(keys.sent_by_cron());
            script.arg(&entry.member).arg(&element).arg(sent_by_cron).invoke(connection)
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
