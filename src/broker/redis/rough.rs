//! A client that tries nothing again, for tests of the whole: what it is told is exactly what Redis did.

use redis::{Cmd, cmd};

use super::Target;
use super::link::Link;
use crate::broker::{QueueTerms, Result};
use crate::protocol::RequestId;
use crate::protocol::keys::Keys;

/// Sends requests without a second attempt. After an error nobody knows whether Redis has taken them.
pub struct RoughClient {
    link: Link,
    keys: Keys,
}

impl RoughClient {
    /// A client of the Redis at `target`; it connects with its first request.
    pub fn new(target: Target, keys: Keys) -> Self {
        RoughClient { link: Link::new(target, "cerbas-rough".to_owned()), keys }
    }

    /// Puts `element` at the end of `queue`. `Ok` means that Redis has acknowledged it.
    pub fn push(&mut self, queue: &str, element: &[u8]) -> Result<()> {
        let queue = match queue {
            QueueTerms::DEFAULT => self.keys.queue(),
            name => self.keys.named_queue(name),
        };
        self.link.with(|connection| push(queue, element).query(connection))
    }

    /// Draws a number for a request whose body has a key of its own.
    pub fn draw_number(&mut self) -> Result<u64> {
        self.link.with(|connection| cmd("INCR").arg(self.keys.counter()).query(connection))
    }

    /// Stores `body` under `number` and puts the number at the end of the usual queue, in one step.
    pub fn push_numbered(&mut self, number: u64, body: &[u8]) -> Result<()> {
        let mut transaction = redis::pipe();
        transaction.atomic().cmd("SET").arg(&self.keys.bodies(number)[0]).arg(body);
        transaction.add_command(push(self.keys.queue(), number.to_string().as_bytes()));
        self.link.with(|connection| transaction.query(connection))
    }

    /// The stored answers to `ids`, as JSON.
    pub fn answers(&mut self, ids: &[RequestId]) -> Result<Vec<Option<Vec<u8>>>> {
        if ids.is_empty() {
            return Ok(Vec::new());
        }
        let mut get = cmd("MGET");
        for id in ids {
            get.arg(self.keys.result(id));
        }
        self.link.with(|connection| get.query(connection))
    }
}

fn push(queue: String, element: &[u8]) -> Cmd {
    cmd("RPUSH").arg(queue).arg(element).take()
}
