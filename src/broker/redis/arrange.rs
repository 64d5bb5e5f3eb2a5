//! Arranging with other daemons, before a request runs: that no other with the same key does, that no more run at once than
//! may, that it never runs twice.

use std::sync::{Arc, LazyLock};

use redis::{Connection, Pipeline, RedisError, RedisResult, Script, pipe};

use super::lease::Identity;
use super::link::exchange_each;
use super::settle::Transaction;
use super::{RedisBroker, lock};
use crate::broker::{Arranged, Arrangement, Claim, End, IfHeld, Result, Settlement};
use crate::clock;
use crate::protocol::RequestId;

static ARRANGE: LazyLock<Script> = LazyLock::new(|| Script::new(include_str!("scripts/arrange.lua")));
static SWEEP: LazyLock<Script> = LazyLock::new(|| Script::new(include_str!("scripts/sweep.lua")));
const RELEASE_UNIQUE: &str = include_str!("scripts/release_unique.lua");
const RELEASE_SLOT: &str = include_str!("scripts/release_slot.lua");

impl RedisBroker {
    pub(super) fn arrange_all(&self, arrangements: &[Arrangement]) -> Result<Vec<Arranged>> {
        // Before Redis knows: what it is found to hold and nobody here does would be taken for lost.
        let once = || arrangements.iter().filter(|one| one.is_once).map(|one| &one.claim.element);
        self.held_once.add(once());
        let identity = self.identity();
        let replies = lock(&self.arranging).with(|connection| self.try_arranging(connection, &identity, arrangements));
        let replies = replies.inspect_err(|_| self.held_once.remove(once()))?;
        let mut arranged = Vec::with_capacity(replies.len());
        for (one, reply) in arrangements.iter().zip(replies) {
            let became = match reply {
                Ok(reply) => understand(one, reply),
                Err(error) => self.refused(one, &error),
            };
            let element = || std::iter::once(&one.claim.element);
            if one.is_once && !matches!(became, Arranged::Ready { .. }) {
                self.held_once.remove(element());
            }
            if matches!(became, Arranged::Parked | Arranged::Gone) {
                self.held[self.sources.place(one.claim.source)].remove(element());
                self.void.remove(element());
            }
            arranged.push(became);
        }
        Ok(arranged)
    }

    fn try_arranging(
        &self,
        connection: &mut Connection,
        identity: &Identity,
        arrangements: &[Arrangement],
    ) -> RedisResult<Vec<RedisResult<Reply>>> {
        let mut pipeline = pipe();
        for one in arrangements {
            self.add_arrangement(&mut pipeline, identity, one);
        }
        let replies = exchange_each(connection, &pipeline, &ARRANGE)?;
        let understand = |reply| Ok(redis::from_redis_value(reply)?);
        Ok(replies.into_iter().map(|reply| reply.and_then(understand)).collect())
    }

    fn add_arrangement(&self, pipeline: &mut Pipeline, identity: &Identity, one: &Arrangement) {
        let keys = &self.options.keys;
        let Arrangement { claim, locks, if_held, .. } = one;
        // A key that is not needed is one that is there anyway: in a cluster all must be of one slot.
        let (unique, ttl) = match &locks.unique {
            Some((key, ttl)) => (keys.unique(key), ttl.as_millis().max(1).to_string()),
            None => (identity.fence.clone(), String::new()),
        };
        let (func, most) = locks.slot.as_ref().map_or(("", String::new()), |(func, most)| (func, most.to_string()));
        let key = locks.unique.as_ref().map_or("", |(key, _)| key);
        let most_waiting = match if_held {
            IfHeld::Rejected => Some(0),
            IfHeld::Waits { most } => Some(*most),
            IfHeld::Replaces => None,
        };
        pipeline.cmd("EVALSHA").arg(ARRANGE.get_hash()).arg(10);
        pipeline.arg(&identity.fence).arg(&identity.in_flight[self.sources.place(claim.source)]).arg(&identity.once);
        pipeline.arg(unique).arg(keys.limited()).arg(keys.slots(func)).arg(keys.parked(func));
        pipeline.arg(keys.holds(&locks.id)).arg(keys.waited()).arg(keys.waiting(key));
        pipeline.arg(&*claim.element).arg(locks.id.to_string()).arg(ttl);
        pipeline.arg(most_waiting.map_or_else(String::new, |most| most.to_string()));
        pipeline.arg(most).arg(member(identity, &locks.id)).arg(func).arg(u8::from(one.is_once)).arg(clock::now());
        pipeline.arg(key);
    }

    /// One that Redis refuses, which is said. What the script has done before it was refused is given back with the claim.
    fn refused(&self, one: &Arrangement, error: &RedisError) -> Arranged {
        let reason = self.options.target.describe(error).reason;
        self.health.refused(&reason);
        Arranged::Refused { claim: holding(one), reason }
    }

    /// Frees what an element holds that leaves the in-flight list.
    pub(super) fn release(&self, transaction: &mut Transaction<'_>, identity: &Identity, settlement: &Settlement) {
        let Some(locks) = settlement.claim.locks.as_deref() else { return };
        let keys = &self.options.keys;
        if let Some((key, ttl)) = &locks.unique {
            let longest = ttl.as_millis() as u64;
            // While it waits for its next run it keeps others away as before.
            let stays = if let End::Answered { .. } = settlement.end { 0 } else { longest };
            let release = transaction.add("EVAL").arg(RELEASE_UNIQUE).arg(4).arg(keys.unique(key));
            release.arg(keys.holds(&locks.id)).arg(keys.waiting(key)).arg(&identity.inbox);
            release.arg(locks.id.to_string()).arg(stays).arg(longest).arg(keys.holds(""));
        }
        if let Some((func, _)) = &locks.slot {
            let release = transaction.add("EVAL").arg(RELEASE_SLOT).arg(3);
            release.arg(keys.slots(func)).arg(keys.parked(func)).arg(keys.delayed());
            release.arg(member(identity, &locks.id)).arg(clock::now());
        }
    }

    /// Frees places that dead daemons held, and lets those start that wait for one.
    pub(super) fn sweep(&self, connection: &mut Connection) -> RedisResult<()> {
        let keys = &self.options.keys;
        let mut script = SWEEP.key(keys.limited());
        script.key(keys.delayed()).key(keys.waited());
        script.arg(keys.slots("")).arg(keys.parked("")).arg(keys.lease("")).arg(clock::now());
        script.arg(keys.unique("")).arg(keys.waiting(""));
        let freed: u64 = script.invoke(connection)?;
        if freed > 0 {
            self.due.add(clock::now());
        }
        Ok(())
    }
}

/// Who holds a place: when the node is dead, nobody does.
fn member(identity: &Identity, id: &RequestId) -> String {
    format!("{}|{id}", identity.name())
}

/// What became of it, and whose unique key it took.
type Reply = (String, Option<String>);

/// The claim of one that holds what it needs, or a part of that.
fn holding(one: &Arrangement) -> Claim {
    let holds_something = one.locks.unique.is_some() || one.locks.slot.is_some();
    Claim { locks: holds_something.then(|| Arc::new(one.locks.clone())), ..one.claim.clone() }
}

fn understand(one: &Arrangement, (word, other): Reply) -> Arranged {
    match word.as_str() {
        "ready" => Arranged::Ready {
            claim: Claim { is_once: one.is_once, ..holding(one) },
            replaced: other.and_then(|id| RequestId::parse(&id)),
        },
        "duplicate" => Arranged::Duplicate,
        "parked" => Arranged::Parked,
        _ => Arranged::Gone,
    }
}
