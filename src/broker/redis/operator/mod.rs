//! An operator's side of Redis: what the commands of an operator look at and change there.

mod dead;
mod facts;
mod jobs;
mod nodes;
mod queues;

use std::cell::RefCell;
use std::time::Duration;

use redis::{Connection, RedisResult};

use super::link::Link;
use super::{Target, store};
use crate::broker::{
    Beginning, Begun, BrokerError, Cause, DeadEntry, Facts, Fate, Fields, Found, Inspect, Job, Member, Overview,
    Result, Store,
};
use crate::effects::{FieldValue, Put, StoreKey};
use crate::protocol::keys::Keys;
use crate::protocol::{Answer, RequestId};

/// Looks at what daemons and clients have in Redis, and changes it where an operator says so.
pub struct Operator {
    link: RefCell<Link>,
    keys: Keys,
}

impl Operator {
    /// Connects to Redis.
    pub fn connect(target: &Target, keys: Keys) -> Result<Self> {
        let link = Link::new(target.owning(keys.schema()), "cerbas-operator".to_owned());
        let operator = Operator { link: RefCell::new(link), keys };
        operator.ask(|connection, _| redis::cmd("PING").query::<()>(connection))?;
        Ok(operator)
    }

    /// Does `work` on the connection.
    fn ask<T>(&self, work: impl FnOnce(&mut Connection, &Keys) -> RedisResult<T>) -> Result<T> {
        let keys = &self.keys;
        self.link.borrow_mut().with(|connection| work(connection, keys))
    }
}

impl Inspect for Operator {
    fn address(&self) -> String {
        self.link.borrow().address().to_owned()
    }

    fn overview(&mut self) -> Result<Overview> {
        self.look()
    }

    fn members(&mut self) -> Result<Vec<Member>> {
        self.all_members()
    }

    fn jobs(&mut self, most: usize) -> Result<Vec<Job>> {
        self.list_jobs(most)
    }

    fn fate(&mut self, id: &RequestId) -> Result<Fate> {
        self.find_fate(id)
    }

    fn answer(&mut self, id: &RequestId) -> Result<Option<(Answer, u64)>> {
        self.stored_answer(id)
    }

    fn cancel(&mut self, id: &RequestId, result_ttl: Duration) -> Result<Found> {
        self.cancel_one(id, result_ttl)
    }

    fn dead(&mut self) -> Result<Vec<DeadEntry>> {
        self.dead_entries()
    }

    fn retry_dead(&mut self, entry: &DeadEntry) -> Result<bool> {
        self.retry(entry)
    }

    fn delete_dead(&mut self, entry: &DeadEntry) -> Result<bool> {
        self.delete(entry)
    }

    fn begin_at(&mut self, node: &str, beginning: &Beginning) -> Result<()> {
        let begun = self.ask(|connection, keys| {
            store::begin(connection, keys, &keys.inbox(node), std::slice::from_ref(beginning))?.remove(0)
        })?;
        match begun {
            Begun::Sent => Ok(()),
            Begun::Taken | Begun::Withheld | Begun::Refused => {
                let reason = format!("{} of {} was begun before", beginning.field, beginning.key.as_str());
                Err(BrokerError { address: Inspect::address(self), reason, cause: Cause::Refused })
            }
        }
    }

    fn facts(&mut self) -> Result<Option<Facts>> {
        self.ask_for_facts().map(Some)
    }
}

impl Store for Operator {
    fn read(&self, keys: &[StoreKey]) -> Result<Vec<Fields>> {
        self.ask(|connection, names| store::read(connection, names, keys))
    }

    fn get(&self, key: &StoreKey, field: &str) -> Result<Option<FieldValue>> {
        self.ask(|connection, names| store::get(connection, names, key, field))
    }

    fn put(&self, puts: &[Put]) -> Result<Vec<bool>> {
        self.ask(|connection, names| store::put(connection, names, puts))
    }

    fn forget(&self, keys: &[StoreKey]) -> Result<()> {
        self.ask(|connection, names| store::forget(connection, names, keys))
    }
}
