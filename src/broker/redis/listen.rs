//! Messages to this daemon: a list that it pops from, so that none is lost while a connection breaks.

use std::time::Duration;

use redis::cmd;
use serde::Deserialize;

use super::{RedisBroker, lock};
use crate::broker::{Message, Result};
use crate::protocol::RequestId;

/// A message as it stands in the list.
#[derive(Deserialize)]
struct Wire {
    cancel: Option<String>,
}

impl RedisBroker {
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

/// The message that `json` is. Others may know more than we do.
fn understand(json: &[u8]) -> Option<Message> {
    let wire: Option<Wire> = serde_json::from_slice(json).ok();
    let message = wire.and_then(|wire| RequestId::parse(&wire.cancel?)).map(Message::Cancel);
    if message.is_none() {
        log::warn!("a message to this daemon cannot be understood: {}", String::from_utf8_lossy(json));
    }
    message
}
