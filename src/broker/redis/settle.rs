//! Settling: a batch in one transaction, which happens once.
//!
//! Each transaction writes down the number of its batch. When one ends without a word, the number in Redis tells whether it
//! was done; a Redis that lost its last moments has lost the number with all the rest. The number is watched like the fence:
//! so an attempt that still lies in a closed connection cannot be done after the one that followed it.

use std::borrow::Cow;
use std::sync::Arc;

use redis::{Connection, Pipeline, RedisResult, Value, pipe};

use super::lease::Identity;
use super::link::exchange;
use super::{RedisBroker, SettleLink, lock};
use crate::broker::{Claim, Result, Settlement, Source};
use crate::clock;
use crate::protocol::codec::Encoded;
use crate::protocol::{RequestId, Verdict};

/// How long the number of the last batch stays, in seconds: far longer than a daemon waits for Redis between two attempts.
const SETTLED_TTL: u64 = 7 * 24 * 60 * 60;

/// The dead list holds no more than this.
const MOST_DEAD: isize = 1000;

/// What is on the dead list longer than this goes, in milliseconds.
const DEAD_TTL: u64 = 7 * 24 * 60 * 60 * 1000;

impl RedisBroker {
    pub(super) fn settle_all(&self, batch: &[Settlement]) -> Result<Vec<RequestId>> {
        let mut guard = lock(&self.settling);
        let SettleLink { link, number, is_unsure, watched, is_new } = &mut *guard;
        if !*is_unsure {
            *number += 1;
        }
        let unheard = loop {
            let identity = match watched.take().filter(|_| link.is_open()) {
                Some(identity) => identity,
                None => {
                    *is_new |= !link.is_open();
                    let (identity, settled) = link.with(|connection| self.watch(connection))?;
                    if *is_unsure && settled == Some(*number) {
                        // Who did not hear its answer finds it stored.
                        (*is_unsure, *watched) = (false, Some(identity));
                        break Vec::new();
                    }
                    if *is_new {
                        let places = 0..self.sources.len();
                        link.with(|connection| self.find_forgotten(connection, &identity, places))?;
                        *is_new = false;
                    }
                    identity
                }
            };
            let is_ours = |settlement: &&Settlement| {
                let counts = |claim: &Claim| claim.epoch == identity.epoch && !self.void.has(&claim.element);
                settlement.claim().is_none_or(counts)
            };
            let ours: Vec<&Settlement> = batch.iter().filter(is_ours).collect();
            let settled = link.with(|connection| self.settle_together(connection, &identity, *number, &ours));
            *is_unsure = settled.is_err();
            match settled? {
                Ran::Done { unheard, is_watching } => {
                    if ours.len() < batch.len() {
                        self.fenced.drop_late(batch.len() - ours.len());
                    }
                    *watched = is_watching.then_some(identity);
                    break unheard;
                }
                // Nothing was done. The next look at what is watched tells why.
                Ran::Refused => *is_unsure = true,
            }
        };
        for settlement in batch {
            if let Settlement::Deferred { due, .. } = settlement {
                self.due.add(*due);
            }
            if settlement.claim().and_then(|claim| claim.locks.as_ref()).is_some_and(|locks| locks.slot.is_some()) {
                // One that waited for its place is due now.
                self.due.add(clock::now());
            }
        }
        for (place, source) in self.sources.all().into_iter().enumerate() {
            let claims = batch.iter().filter_map(Settlement::claim).filter(|claim| claim.source == source);
            self.held[place].remove(claims.map(|claim| &claim.element));
        }
        let once = batch.iter().filter_map(Settlement::claim).filter(|claim| claim.is_once);
        self.held_once.remove(once.map(|claim| &claim.element));
        self.void.remove(batch.iter().filter_map(Settlement::claim).map(|claim| &claim.element));
        Ok(unheard)
    }

    /// Looks whether the lease holds and which batch was settled last, and lets the next transaction fail if either changes.
    fn watch(&self, connection: &mut Connection) -> RedisResult<(Arc<Identity>, Option<u64>)> {
        loop {
            let identity = self.identity();
            let mut look = pipe();
            look.cmd("UNWATCH").cmd("WATCH").arg(&identity.fence).arg(&identity.settled);
            look.cmd("GET").arg(&identity.settled).cmd("GET").arg(&identity.fence);
            let mut replies = exchange(connection, &look)?;
            if !is_gone(replies.pop().as_ref()) {
                let settled = replies.pop().map_or(Ok(None), redis::from_redis_value)?;
                return Ok((identity, settled));
            }
            self.be_fenced(&identity);
            self.renew_lease(connection)?;
        }
    }

    /// All in one transaction.
    fn settle_together(
        &self,
        connection: &mut Connection,
        identity: &Identity,
        number: u64,
        batch: &[&Settlement],
    ) -> RedisResult<Ran> {
        let mut transaction = Transaction::new();
        // What is kept of a request only until it ends.
        let mut gone: Vec<Cow<'_, str>> = Vec::new();
        let mut verdicts = [0u64; Verdict::ALL.len()];
        for settlement in batch {
            if let Some(claim) = settlement.claim() {
                transaction.add("LREM").arg(self.list(identity, claim)).arg(1).arg(&*claim.element);
            }
            gone.extend(settlement.body().map(Cow::from));
            self.release(&mut transaction, identity, settlement);
            self.note_sent(&mut transaction, settlement);
            match settlement {
                Settlement::Answered { id, verdict, dead, run, .. } => {
                    verdicts[*verdict as usize] += 1;
                    gone.push(self.options.keys.deliveries(id).into());
                    if let Some(run) = run {
                        self.end_run(&mut transaction, &identity.inbox, run);
                    }
                    if let Some(dead) = dead {
                        self.bury(&mut transaction, *verdict, dead);
                    }
                }
                Settlement::AnsweredEarly { .. } => {}
                Settlement::Started { id } => {
                    // Only where it is still known: it may have been cancelled meanwhile.
                    let stage = self.options.keys.stage(id);
                    transaction.add("SET").arg(stage).arg("pending").arg("XX").arg("KEEPTTL");
                }
                Settlement::Deferred { due, waiting, .. } => {
                    transaction.add("ZADD").arg(self.options.keys.delayed()).arg(*due).arg(&**waiting);
                }
                Settlement::Forwarded { claim, node } => {
                    transaction.add("RPUSH").arg(self.options.keys.inbox(node)).arg(&*claim.element);
                }
                Settlement::HandedBack { claim } => self.hand_back(&mut transaction, identity, claim),
            }
            if let Some((id, answer)) = settlement.answer() {
                self.publish(&mut transaction, id, answer);
            }
            if let Some(id) = settlement.untracked() {
                transaction.add("DEL").arg(self.options.keys.stage(id));
            }
        }
        if !gone.is_empty() {
            transaction.add("DEL").arg(gone.iter().map(AsRef::as_ref).collect::<Vec<&str>>());
        }
        for verdict in Verdict::ALL.into_iter().filter(|verdict| verdicts[*verdict as usize] > 0) {
            let count = verdicts[verdict as usize];
            transaction.add("HINCRBY").arg(self.options.keys.verdicts()).arg(verdict.as_str()).arg(count);
        }
        transaction.add("SET").arg(&identity.settled).arg(number).arg("EX").arg(SETTLED_TTL);
        transaction.run(connection, identity)
    }

    fn publish<'a>(&self, transaction: &mut Transaction<'a>, id: &'a RequestId, answer: &Encoded) {
        let keys = &self.options.keys;
        let ttl = self.options.result_ttl.as_secs().max(1);
        transaction.add("SET").arg(keys.result(id)).arg(&*answer.json).arg("EX").arg(ttl);
        for (channel, is_msgpack) in keys.channels(id) {
            let message = if is_msgpack { &answer.msgpack } else { &answer.json };
            transaction.add_publish(id, &channel, message);
        }
    }

    fn hand_back(&self, transaction: &mut Transaction<'_>, identity: &Identity, claim: &Claim) {
        match self.home(identity, claim) {
            Some(queue) => transaction.add("LPUSH").arg(queue).arg(&*claim.element),
            None => {
                let delayed = self.options.keys.delayed();
                transaction.add("ZADD").arg(delayed).arg(clock::now()).arg(&*claim.element)
            }
        };
    }

    /// The in-flight list that an element is in.
    pub(super) fn list<'a>(&self, identity: &'a Identity, claim: &Claim) -> &'a str {
        if claim.is_once { &identity.once } else { &identity.in_flight[self.sources.place(claim.source)] }
    }

    /// The queue that an element came from; `None` for the delayed ones.
    fn home<'a>(&'a self, identity: &'a Identity, claim: &Claim) -> Option<&'a str> {
        match claim.source {
            Source::Queue(number) => Some(self.sources.key(number)),
            Source::Inbox => Some(&identity.inbox),
            Source::Delayed => None,
        }
    }

    fn bury(&self, transaction: &mut Transaction<'_>, verdict: Verdict, dead: &str) {
        let (keys, now) = (&self.options.keys, clock::now());
        let key = if verdict == Verdict::Rejected { keys.refused() } else { keys.dead() };
        transaction.add("ZADD").arg(&key).arg(now).arg(dead);
        transaction.add("ZREMRANGEBYSCORE").arg(&key).arg("-inf").arg(now.saturating_sub(DEAD_TTL));
        transaction.add("ZREMRANGEBYRANK").arg(&key).arg(0).arg(-1 - MOST_DEAD);
    }
}

/// What became of an attempt to settle.
enum Ran {
    /// It is done.
    Done {
        /// The answers that nobody received.
        unheard: Vec<RequestId>,
        /// Whether the connection watches the fence for the next transaction.
        is_watching: bool,
    },
    /// Nothing was done, because something that is watched has changed.
    Refused,
}

/// Commands that run as one step, if nobody has touched what is watched since it was looked at.
pub(super) struct Transaction<'a> {
    commands: Pipeline,
    count: usize,
    /// Which of the commands tell how many received an answer.
    publications: Vec<(usize, &'a RequestId)>,
}

impl<'a> Transaction<'a> {
    fn new() -> Self {
        let mut commands = pipe();
        commands.cmd("MULTI");
        Transaction { commands, count: 0, publications: Vec::new() }
    }

    pub(super) fn add(&mut self, name: &str) -> &mut Pipeline {
        self.count += 1;
        self.commands.cmd(name)
    }

    fn add_publish(&mut self, id: &'a RequestId, channel: &str, message: &[u8]) {
        self.publications.push((self.count, id));
        self.add("PUBLISH").arg(channel).arg(message);
    }

    /// Runs all, and in the same round trip looks at the fence for the next one.
    fn run(mut self, connection: &mut Connection, identity: &Identity) -> RedisResult<Ran> {
        self.commands.cmd("EXEC").cmd("WATCH").arg(&identity.fence).arg(&identity.settled);
        self.commands.cmd("GET").arg(&identity.fence);
        let mut replies = exchange(connection, &self.commands)?;
        let fence = replies.pop();
        let executed = replies.len().checked_sub(2).map(|place| replies.swap_remove(place));
        let Some(Value::Array(replies)) = executed else { return Ok(Ran::Refused) };
        let faults: Vec<&Value> = replies.iter().filter(|reply| matches!(reply, Value::ServerError(_))).collect();
        if let Some(first) = faults.first() {
            // The others are done, and doing them again would not mend it: somebody has used one of our keys.
            log::error!("redis refused {} commands of a settlement, the first with {first:?}", faults.len());
        }
        let mut unheard = Vec::new();
        for of_one in self.publications.chunk_by(|(_, one), (_, other)| std::ptr::eq(*one, *other)) {
            if of_one.iter().all(|(place, _)| matches!(replies.get(*place), Some(Value::Int(0)))) {
                unheard.push(of_one[0].1.clone());
            }
        }
        Ok(Ran::Done { unheard, is_watching: !is_gone(fence.as_ref()) })
    }
}

/// Whether this is what a fence holds once others have taken over.
fn is_gone(fence: Option<&Value>) -> bool {
    matches!(fence, Some(Value::BulkString(fence)) if fence == b"gone")
}
