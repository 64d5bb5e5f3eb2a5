//! The dead list: looking, trying again, taking out.

use std::hash::{DefaultHasher, Hash, Hasher};
use std::sync::LazyLock;

use redis::{Script, cmd};
use serde_json::Value;

use super::Operator;
use crate::broker::Result;
use crate::protocol::DeadLetter;

static RETRY_DEAD: LazyLock<Script> = LazyLock::new(|| Script::new(include_str!("../scripts/retry_dead.lua")));

/// What a request loses that is sent anew: what it has been through, and times that are over.
const OF_ITS_PAST: [&str; 7] = ["attempt", "first_at", "last_error", "expires", "sent_at", "delay", "deadline"];

/// An entry of the dead list.
#[derive(Debug, Clone, PartialEq)]
pub struct DeadEntry {
    /// What it says.
    pub letter: DeadLetter,
    /// As it stands in the list.
    member: Vec<u8>,
}

impl DeadEntry {
    /// What it can be called by: the id of the request, or, where there is none, a short text made from the entry.
    pub fn name(&self) -> String {
        self.letter.id.clone().unwrap_or_else(|| {
            let mut hasher = DefaultHasher::new();
            self.member.hash(&mut hasher);
            format!("~{:012x}", hasher.finish() >> 16)
        })
    }
}

impl Operator {
    /// The entries of the dead list, the oldest first. What is no entry is left out.
    pub fn dead(&mut self) -> Result<Vec<DeadEntry>> {
        let members: Vec<Vec<u8>> =
            self.ask(|connection, keys| cmd("ZRANGE").arg(keys.dead()).arg(0).arg(-1).query(connection))?;
        let read = |member: Vec<u8>| Some(DeadEntry { letter: serde_json::from_slice(&member).ok()?, member });
        Ok(members.into_iter().filter_map(read).collect())
    }

    /// Sends the request of `entry` again, under its id, and takes it out of the list, in one step. False if the entry was
    /// not there any more, or has no request.
    pub fn retry_dead(&mut self, entry: &DeadEntry) -> Result<bool> {
        let Some(mut request) = entry.letter.request.clone() else { return Ok(false) };
        OF_ITS_PAST.iter().for_each(|name| drop(request.remove(*name)));
        if let Some(id) = &entry.letter.id {
            request.insert("id".to_owned(), Value::from(id.clone()));
        }
        let element = serde_json::to_vec(&request).expect("a request is JSON");
        self.ask(|connection, keys| {
            let mut script = RETRY_DEAD.key(keys.dead());
            script.key(keys.queue()).arg(&entry.member).arg(&element).invoke(connection)
        })
    }

    /// Takes `entry` out of the list; false if it was not there any more.
    pub fn delete_dead(&mut self, entry: &DeadEntry) -> Result<bool> {
        self.ask(|connection, keys| cmd("ZREM").arg(keys.dead()).arg(&entry.member).query(connection))
    }
}
