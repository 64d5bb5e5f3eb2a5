//! An operator's side of Redis: what the commands of an operator look at and change there.

mod cron;
mod dead;
mod facts;
mod jobs;
mod nodes;
mod queues;

use redis::{Connection, RedisResult};

pub use self::dead::DeadEntry;
pub use self::facts::Facts;
pub use self::jobs::{Fate, Job, Stand};
pub use self::nodes::Member;
pub use self::queues::{Overview, QueueLook};
use super::Target;
use super::link::Link;
use crate::broker::Result;
use crate::protocol::keys::Keys;

/// Looks at what daemons and clients have in Redis, and changes it where an operator says so.
pub struct Operator {
    link: Link,
    keys: Keys,
}

impl Operator {
    /// Connects to Redis.
    pub fn connect(target: &Target, keys: Keys) -> Result<Self> {
        let mut operator =
            Operator { link: Link::new(target.owning(keys.schema()), "cerbas-operator".to_owned()), keys };
        operator.ask(|connection, _| redis::cmd("PING").query::<()>(connection))?;
        Ok(operator)
    }

    /// Where Redis is, without secrets.
    pub fn address(&self) -> &str {
        self.link.address()
    }

    /// Does `work` on the connection.
    fn ask<T>(&mut self, work: impl FnOnce(&mut Connection, &Keys) -> RedisResult<T>) -> Result<T> {
        let keys = &self.keys;
        self.link.with(|connection| work(connection, keys))
    }
}
