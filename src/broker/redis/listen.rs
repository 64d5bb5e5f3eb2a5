//! Messages to this daemon: a list that it pops from, so that none is lost while a connection breaks.

use std::time::Duration;

use redis::cmd;
use serde::Deserialize;

use super::{RedisBroker, lock};
use crate::broker::{Message, Result};
use crate::protocol::RequestId;

/// A reply that nobody reads goes after so many seconds.
const REPLY_TTL: u64 = 60;

/// A message as it stands in the list.
#[derive(Deserialize)]
struct Wire {
    cancel: Option<String>,
    /// One that is only looked for.
    find: Option<String>,
    /// Who wants to be told; it ends the name of a key.
    reply: Option<String>,
}

impl RedisBroker {
    pub(super) fn reply_to(&self, asker: &str, answer: &[u8]) -> Result<()> {
        let key = self.options.keys.reply(asker);
        lock(&self.asking).with(|connection| {
            let mut both = redis::pipe();
            both.atomic().cmd("RPUSH").arg(&key).arg(answer);
            both.cmd("EXPIRE").arg(&key).arg(REPLY_TTL).query(connection)
        })
    }

    pub(super) fn listen_for(&self, patience: Duration) -> Result<Vec<Message>> {
        let key = self.options.keys.control(self.identity().name());
        let mut link = lock(&self.listening);
        if !link.is_open() {
            let id = link.with(|connection| cmd("CLIENT").arg("ID").query(connection))?;
            *lock(&self.listener) = Some(id);
        }
        let popped: Option<(String, Vec<u8>)> =
            link.with(|connection| cmd("BLPOP").arg(key).arg(patience.as_secs_f64()).query(connection))?;
        Ok(popped.and_then(|(_, json)| understand(&json)).into_iter().collect())
    }
}

impl Wire {
    fn message(self) -> Option<Message> {
        let is_to_cancel = self.cancel.is_some();
        let id = RequestId::parse(&self.cancel.or(self.find)?)?;
        Some(match self.reply {
            // What can be an id can end the name of a key.
            Some(asker) => {
                RequestId::from_text(&asker)?;
                Message::Ask { id, is_to_cancel, asker: asker.into() }
            }
            None if is_to_cancel => Message::Cancel(id),
            None => return None,
        })
    }
}

/// The message that `json` is. Others may know more than we do.
fn understand(json: &[u8]) -> Option<Message> {
    let wire: Option<Wire> = serde_json::from_slice(json).ok();
    let message = wire.and_then(Wire::message);
    if message.is_none() {
        log::warn!("a message to this daemon cannot be understood: {}", String::from_utf8_lossy(json));
    }
    message
}

#[cfg(test)]
mod tests {
    use super::*;

    #[track_caller]
    fn check(json: &str, expected: Option<Message>) {
        assert_eq!(understand(json.as_bytes()), expected, "{json}");
    }

    #[test]
    fn a_message_says_what_is_to_be_done_and_whom_to_tell() {
        let id = || RequestId::from_text("a").expect("it is an id");
        let ask = |is_to_cancel| Message::Ask { id: id(), is_to_cancel, asker: "b".into() };
        check(r#"{"cancel": "a"}"#, Some(Message::Cancel(id())));
        check(r#"{"cancel": "a", "reply": "b"}"#, Some(ask(true)));
        check(r#"{"find": "a", "reply": "b"}"#, Some(ask(false)));
        for strange in [r#"{"find": "a"}"#, r#"{"find": "a", "reply": "no name"}"#, r#"{"cancel": "no id"}"#, "{}", "x"]
        {
            check(strange, None);
        }
    }
}
