//! An operator's side of Redis: what the commands of an operator look at and change there.

mod cron;
mod dead;
mod facts;
mod jobs;
mod nodes;
mod queues;

use std::collections::{BTreeMap, BTreeSet};
use std::time::Duration;

use redis::{Connection, RedisResult};

use super::Target;
use super::link::Link;
use crate::broker::{DeadEntry, Facts, Fate, Found, Inspect, Job, Member, NewRun, Overview, Result};
use crate::protocol::keys::Keys;
use crate::protocol::{Answer, RequestId, Run};

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

    /// Does `work` on the connection.
    fn ask<T>(&mut self, work: impl FnOnce(&mut Connection, &Keys) -> RedisResult<T>) -> Result<T> {
        let keys = &self.keys;
        self.link.with(|connection| work(connection, keys))
    }
}

impl Inspect for Operator {
    fn address(&self) -> String {
        self.link.address().to_owned()
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

    fn runs(&mut self, name: &str) -> Result<Vec<Run>> {
        self.runs_of(name)
    }

    fn all_runs(&mut self) -> Result<BTreeMap<String, Vec<Run>>> {
        self.all_runs_kept()
    }

    fn run(&mut self, name: &str, instant: &str) -> Result<Option<Run>> {
        self.one_run(name, instant)
    }

    fn known_since(&mut self, name: &str) -> Result<Option<u64>> {
        self.since(name)
    }

    fn paused(&mut self) -> Result<BTreeSet<String>> {
        self.paused_entries()
    }

    fn pause(&mut self, name: &str, is_paused: bool) -> Result<bool> {
        self.set_paused(name, is_paused)
    }

    fn start_run(&mut self, run: &NewRun, node: &str) -> Result<()> {
        self.start(run, node)
    }

    fn facts(&mut self) -> Result<Option<Facts>> {
        self.ask_for_facts().map(Some)
    }
}
