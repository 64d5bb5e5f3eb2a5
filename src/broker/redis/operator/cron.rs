//! Runs of cron entries: looking, starting one by hand, pausing.

use std::collections::{BTreeMap, BTreeSet};

use redis::{cmd, pipe};

use super::Operator;
use crate::broker::inspect::read_records;
use crate::broker::{EntryMark, NewRun, Result};
use crate::protocol::{CRON, Run};

/// The runs of so many entries are read in one round trip.
const AT_ONCE: usize = 64;

impl Operator {
    /// What is kept of the runs of the entry `name`, the oldest first. What cannot be read is left out.
    pub(super) fn runs_of(&mut self, name: &str) -> Result<Vec<Run>> {
        let records: Vec<String> = self.ask(|connection, keys| cmd("HVALS").arg(keys.runs(name)).query(connection))?;
        Ok(read_records(&records))
    }

    /// The same of all entries, by their names.
    pub(super) fn all_runs_kept(&mut self) -> Result<BTreeMap<String, Vec<Run>>> {
        let names: Vec<String> = self.ask(|connection, keys| cmd("HKEYS").arg(keys.entries()).query(connection))?;
        let mut all = BTreeMap::new();
        for some in names.chunks(AT_ONCE) {
            let records: Vec<Vec<String>> = self.ask(|connection, keys| {
                let mut pipeline = pipe();
                for name in some {
                    pipeline.cmd("HVALS").arg(keys.runs(name));
                }
                pipeline.query(connection)
            })?;
            all.extend(some.iter().cloned().zip(records.iter().map(|records| read_records(records))));
        }
        Ok(all)
    }

    /// What is kept of one run.
    pub(super) fn one_run(&mut self, name: &str, instant: &str) -> Result<Option<Run>> {
        let record: Option<String> =
            self.ask(|connection, keys| cmd("HGET").arg(keys.runs(name)).arg(instant).query(connection))?;
        Ok(record.and_then(|record| serde_json::from_str(&record).ok()))
    }

    /// Since when the entry `name` is known, in milliseconds since 1970.
    pub(super) fn since(&mut self, name: &str) -> Result<Option<u64>> {
        let mark: Option<String> =
            self.ask(|connection, keys| cmd("HGET").arg(keys.entries()).arg(name).query(connection))?;
        Ok(mark.and_then(|mark| serde_json::from_str::<EntryMark>(&mark).ok()).map(|mark| mark.since))
    }

    /// The entries that are paused.
    pub(super) fn paused_entries(&mut self) -> Result<BTreeSet<String>> {
        self.ask(|connection, keys| cmd("SMEMBERS").arg(keys.paused()).query(connection))
    }

    /// Pauses the entry `name`, or lets it go on; tells whether that changed anything.
    pub(super) fn set_paused(&mut self, name: &str, is_paused: bool) -> Result<bool> {
        let verb = if is_paused { "SADD" } else { "SREM" };
        self.ask(|connection, keys| cmd(verb).arg(keys.paused()).arg(name).query(connection))
    }

    /// Starts `run`, which nobody else can have begun, on the daemon with the id `node`.
    pub(super) fn start(&mut self, run: &NewRun, node: &str) -> Result<()> {
        let request = run.request.as_deref().unwrap_or_default();
        self.ask(|connection, keys| {
            let mut both = pipe();
            both.atomic().cmd("HSET").arg(keys.runs(&run.name)).arg(&*run.instant).arg(&*run.record);
            both.cmd("HSET").arg(keys.sent_by(CRON)).arg(run.id().to_string()).arg(request);
            both.cmd("RPUSH").arg(keys.inbox(node)).arg(request).query(connection)
        })
    }
}
