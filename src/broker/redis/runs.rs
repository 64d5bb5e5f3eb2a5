//! Runs of cron entries: each instant is begun once over all daemons, and kept with what became of it.

use std::collections::HashMap;
use std::sync::LazyLock;
use std::time::Duration;

use redis::{Connection, RedisResult, Script, pipe};

use super::link::{exchange, exchange_each};
use super::{RedisBroker, lock};
use crate::broker::{Begun, EntryMark, NewRun, Result};
use crate::clock;
use crate::protocol::{CRON, Occurrence};

static BEGIN_RUN: LazyLock<Script> = LazyLock::new(|| Script::new(include_str!("scripts/begin_run.lua")));

/// The runs of an entry that does not fire any more are kept so long, in seconds.
const RUNS_TTL: u64 = 400 * 24 * 60 * 60;

/// How far a clock may be ahead of ours and still be right.
const TOMORROW: Duration = Duration::from_hours(24);

impl RedisBroker {
    pub(super) fn begin_all(&self, runs: &[NewRun], keep: usize) -> Result<Vec<Begun>> {
        let mut link = lock(&self.scheduling);
        if !link.is_open() {
            // So that others find what is put into our inbox if we die.
            link.with(|connection| self.renew_lease(connection))?;
        }
        link.with(|connection| self.try_beginning(connection, runs, keep))
    }

    fn try_beginning(&self, connection: &mut Connection, runs: &[NewRun], keep: usize) -> RedisResult<Vec<Begun>> {
        let (keys, identity) = (&self.options.keys, self.identity());
        let (last, paused, sent) = (keys.last_runs(), keys.paused(), keys.sent_by(CRON));
        let tomorrow = Occurrence::instant_of(clock::now() + TOMORROW.as_millis() as u64);
        let mut pipeline = pipe();
        for run in runs {
            pipeline.cmd("EVALSHA").arg(BEGIN_RUN.get_hash()).arg(5);
            pipeline.arg(keys.runs(&run.name)).arg(&last).arg(&paused).arg(&identity.inbox).arg(&sent);
            pipeline.arg(&*run.name).arg(&*run.instant).arg(run.at).arg(&*run.record).arg(&*run.if_paused);
            pipeline.arg(run.request.as_deref().unwrap_or_default()).arg(keep).arg(&tomorrow).arg(RUNS_TTL);
            pipeline.arg(run.id().to_string());
        }
        let replies = exchange_each(connection, &pipeline, &BEGIN_RUN)?;
        let begun = runs.iter().zip(replies).map(|(run, reply)| match reply {
            Ok(reply) => Ok(understand(&redis::from_redis_value::<String>(reply)?)),
            Err(error) => {
                let reason = self.options.target.describe(&error).reason;
                log::error!("cron: {}@{} cannot be put on record and does not run: {reason}", run.name, run.instant);
                self.health.refused(&reason);
                Ok(Begun::Refused)
            }
        });
        begun.collect()
    }

    pub(super) fn read_entry_marks(&self) -> Result<HashMap<String, EntryMark>> {
        let keys = &self.options.keys;
        type Found = (HashMap<String, String>, HashMap<String, u64>);
        let (marks, last): Found = lock(&self.scheduling).with(|connection| {
            pipe().cmd("HGETALL").arg(keys.entries()).cmd("HGETALL").arg(keys.last_runs()).query(connection)
        })?;
        // What cannot be read counts as new.
        let read = |(name, text): (String, String)| {
            let mark: EntryMark = serde_json::from_str(&text).ok()?;
            let last = last.get(&name).copied().unwrap_or(0);
            Some((name, EntryMark { last, ..mark }))
        };
        Ok(marks.into_iter().filter_map(read).collect())
    }

    pub(super) fn write_entry_marks(&self, marks: &[(&str, EntryMark)], gone: &[&str]) -> Result<()> {
        let keys = &self.options.keys;
        let mut pipeline = pipe();
        for (name, mark) in marks {
            let text = serde_json::to_string(mark).expect("a mark is JSON");
            pipeline.cmd("HSET").arg(keys.entries()).arg(*name).arg(text);
        }
        for name in gone {
            pipeline.cmd("HDEL").arg(keys.entries()).arg(*name).cmd("HDEL").arg(keys.last_runs()).arg(*name);
            pipeline.cmd("SREM").arg(keys.paused()).arg(*name).cmd("DEL").arg(keys.runs(name));
        }
        if pipeline.is_empty() {
            return Ok(());
        }
        lock(&self.scheduling).with(|connection| exchange(connection, &pipeline)).map(drop)
    }
}

/// What became of a run, as the script says it.
fn understand(word: &str) -> Begun {
    match word {
        "sent" => Begun::Sent,
        "paused" => Begun::Paused,
        _ => Begun::Taken,
    }
}
