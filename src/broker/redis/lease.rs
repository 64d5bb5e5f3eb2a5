//! The lease: who this daemon is, that it lives, and what dead ones have left.
//!
//! A daemon whose lease has run out, because it was stopped or cut off for a while, finds that others have taken over
//! what it had in flight: it is fenced. It then drops what it has left of that, takes a new name, and goes on.

use std::sync::atomic::{AtomicU32, Ordering};
use std::sync::{Arc, LazyLock};

use redis::{Connection, RedisResult, Script};

use super::schema;
use super::sources::Sources;
use super::{RedisBroker, held, lock};
use crate::broker::{Claim, Claimed, Result, Source};
use crate::clock;
use crate::protocol::keys::Keys;
use crate::protocol::{CallError, Node, NodeStatus};

static HEARTBEAT: LazyLock<Script> = LazyLock::new(|| Script::new(include_str!("scripts/heartbeat.lua")));
static RECOVER: LazyLock<Script> = LazyLock::new(|| Script::new(include_str!("scripts/recover.lua")));
static LEAVE: LazyLock<Script> = LazyLock::new(|| Script::new(include_str!("scripts/leave.lua")));

/// How many elements are taken back in one step, so that Redis serves others in between.
const TAKEN_BACK: usize = 1000;

/// What a daemon is called while it holds one lease, and the keys that go by this name.
#[derive(Debug)]
pub(super) struct Identity {
    /// Counts the names that this process has had.
    pub(super) epoch: u32,
    name: String,
    /// The in-flight lists, by the place of their source.
    pub(super) in_flight: Vec<String>,
    /// What runs and must not run again.
    pub(super) once: String,
    /// The requests that are for this daemon only.
    pub(super) inbox: String,
    lease: String,
    /// Watched by whoever settles: it changes when others take over.
    pub(super) fence: String,
    /// The number of the batch that was settled last; it is that of the process, whatever its name.
    pub(super) settled: String,
}

impl Identity {
    pub(super) fn new(keys: &Keys, sources: &Sources, node: &str, epoch: u32) -> Self {
        // No dot: the lists of one name must not be called like those of another.
        let name = if epoch == 0 { node.to_owned() } else { format!("{node}-{epoch}") };
        Identity {
            epoch,
            in_flight: sources.suffixes().map(|suffix| keys.in_flight(&name, suffix)).collect(),
            once: keys.in_flight(&name, ".once"),
            inbox: keys.inbox(&name),
            lease: keys.lease(&name),
            fence: keys.fence(&name),
            settled: keys.settled(node),
            name,
        }
    }

    /// What the daemon is called.
    pub(super) fn name(&self) -> &str {
        &self.name
    }
}

impl RedisBroker {
    /// Who this daemon is at this moment.
    pub(super) fn identity(&self) -> Arc<Identity> {
        Arc::clone(&lock(&self.identity))
    }

    /// Renews the lease. A daemon that is fenced gets a new name, and a lease under it.
    pub(super) fn renew_lease(&self, connection: &mut Connection) -> RedisResult<()> {
        loop {
            let identity = self.identity();
            let about = serde_json::to_string(&self.node(&identity)).expect("a record is JSON");
            let keys = &self.options.keys;
            let mut script = HEARTBEAT.key(keys.nodes());
            script.key(&identity.lease).key(&identity.fence).key(keys.queue_names()).key(keys.schema());
            script.arg(&identity.name);
            script.arg(self.options.lease.as_millis() as u64).arg(about).arg(keys.named_queue("")).arg(schema::OURS);
            for queue in self.options.queues.iter().skip(1) {
                script.arg(&queue.name);
            }
            match script.invoke::<i64>(connection)? {
                1 => return Ok(()),
                0 => self.be_fenced(&identity),
                newer => return Err(schema::newer(&newer.unsigned_abs().to_string())),
            }
        }
    }

    /// What this daemon last said of itself, with what only the broker knows.
    fn node(&self, identity: &Identity) -> Node {
        Node {
            node: identity.name.clone(),
            host: rustix::system::uname().nodename().to_string_lossy().into_owned(),
            pid: std::process::id(),
            version: env!("CARGO_PKG_VERSION").to_owned(),
            started: self.started,
            at: clock::now(),
            fenced: self.fenced.count(),
            status: NodeStatus { missing_rights: lock(&self.missing_rights).clone(), ..lock(&self.told).clone() },
        }
    }

    /// Others have taken over what `fenced` had in flight.
    pub(super) fn be_fenced(&self, fenced: &Identity) {
        let mut identity = lock(&self.identity);
        if identity.epoch == fenced.epoch {
            log::warn!(
                "the lease of {} ran out and others took over its requests; going on under a new name",
                fenced.name
            );
            *identity =
                Arc::new(Identity::new(&self.options.keys, &self.sources, &self.options.node, fenced.epoch + 1));
            self.held.iter().chain([&self.held_once, &self.void]).for_each(|held| held.clear());
        }
    }

    /// Takes back what dead daemons left. Elements that have had all their deliveries are given out as lost with the next claims.
    pub(super) fn take_back(&self, connection: &mut Connection) -> RedisResult<()> {
        let keys = &self.options.keys;
        let identity = self.identity();
        let mut script = RECOVER.key(keys.nodes());
        script.key(keys.delayed()).key(&identity.once).key(keys.queues().as_slice()).key(keys.queue_names());
        script.key(keys.suspects());
        script.arg(&identity.name).arg(keys.lease("")).arg(keys.fence("")).arg(keys.in_flight("", ""));
        script.arg(keys.all_deliveries()).arg(self.options.max_deliveries).arg(TAKEN_BACK);
        script.arg(keys.named_queue("")).arg(keys.inbox(""));
        let (back, lost): (usize, Vec<Vec<u8>>) = script.invoke(connection)?;
        if back > 0 {
            log::warn!("took back {back} requests that a daemon left when it died");
        }
        if !lost.is_empty() {
            log::error!(
                "{} requests are lost: their daemon died while they ran, {} times (max_deliveries)",
                lost.len(),
                self.options.max_deliveries
            );
            let lost = self.read(connection, &identity, Source::Queue(0), lost)?;
            self.give_out(lost, &CallError::Lost);
        }
        Ok(())
    }

    /// Gives out with the next claims what must not run, and is in the list of such things: each ends with `end`.
    pub(super) fn give_out(&self, ended: Vec<Claimed>, end: &CallError) {
        self.hold(Source::Queue(0), &ended);
        self.held_once.add(ended.iter().map(|ended| &ended.claim.element));
        let ended = ended.into_iter().map(|ended| {
            let claim = Claim { is_once: true, ..ended.claim };
            Claimed { claim, end: Some(end.clone()), content: ended.content }
        });
        lock(&self.ended).extend(ended);
    }

    /// Looks for what must not run again and nobody here holds: it was taken when a connection broke.
    pub(super) fn find_lost(&self, connection: &mut Connection) -> RedisResult<()> {
        // Before the list: what is settled in between is in this, and no more in that.
        let held = self.held_once.all();
        let identity = self.identity();
        let listed: Vec<Vec<u8>> = redis::cmd("LRANGE").arg(&identity.once).arg(0).arg(-1).query(connection)?;
        let unknown = held::unknown(&held, listed);
        if !unknown.is_empty() {
            log::error!("{} requests are lost: they were taken when a connection broke", unknown.len());
            let lost = self.read(connection, &identity, Source::Queue(0), unknown)?;
            self.give_out(lost, &CallError::Lost);
        }
        Ok(())
    }

    /// Gives the lease up; what is still in flight is taken back by others at once. Where Redis is away the lease runs out
    /// by itself, and nobody waits for that.
    pub(super) fn end_lease(&self) -> Result<()> {
        let identity = self.identity();
        let mut beating = lock(&self.beating);
        if !beating.is_open() {
            return Ok(());
        }
        beating.with(|connection| {
            let mut script = LEAVE.key(self.options.keys.nodes());
            script.key(&identity.lease).key(&identity.fence).key(self.options.keys.queue()).key(&identity.inbox);
            script.key(&identity.settled).key(identity.in_flight.as_slice()).key(&identity.once);
            script.arg(&identity.name).invoke(connection)
        })
    }
}

/// The record under a lease; `None` if it is none.
pub(super) fn read_record(json: &[u8]) -> Option<Node> {
    serde_json::from_slice(json).ok()
}

/// How many answers came from a daemon that was fenced, and were dropped.
#[derive(Debug, Default)]
pub(super) struct Fenced(AtomicU32);

impl Fenced {
    pub(super) fn count(&self) -> u64 {
        self.0.load(Ordering::Relaxed).into()
    }

    /// Counts and logs. That the lease ran out has been said already.
    pub(super) fn drop_late(&self, count: usize) {
        let all = self.0.fetch_add(count as u32, Ordering::Relaxed) as usize + count;
        log::info!("dropped {count} late answers, others have taken over their requests ({all} so far)");
    }
}

#[cfg(test)]
mod tests {
    use std::collections::HashSet;
    use std::time::Duration;

    use super::*;
    use crate::broker::{QueueTerms, RedisOptions, Target};

    #[test]
    fn no_list_of_one_name_of_a_daemon_is_called_like_one_of_another() {
        let keys = Keys::new("C", 0);
        let queue = |name: &str| QueueTerms { name: name.to_owned(), priority: 1, max_length: None };
        let sources = Sources::new(&RedisOptions {
            target: Target::new("redis://127.0.0.1", None, None).expect("a URL"),
            keys: keys.clone(),
            node: "n.0".to_owned(),
            result_ttl: Duration::ZERO,
            lease: Duration::ZERO,
            max_deliveries: 1,
            queues: vec![queue("default"), queue("1"), queue("once")],
            is_strict: false,
            longest: 1 << 20,
        });
        let mut names = HashSet::new();
        for epoch in 0..20 {
            let identity = Identity::new(&keys, &sources, "n.0", epoch);
            for name in identity.in_flight.iter().chain([&identity.once, &identity.inbox, &identity.lease]) {
                assert!(names.insert(name.clone()), "{name} is there twice");
            }
        }
    }
}
