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
use crate::broker::{Claim, End, Notice, Outgoing, Result, Settlement, Source, Stage};
use crate::clock;
use crate::protocol::codec::Encoded;
use crate::protocol::{RequestId, Verdict};

/// How long the number of the last batch stays, in seconds: far longer than a daemon waits for Redis between two attempts.
const SETTLED_TTL: u64 = 7 * 24 * 60 * 60;

impl RedisBroker {
    pub(super) fn settle_all(&self, batch: &[Outgoing]) -> Result<Vec<RequestId>> {
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
            let is_ours = |outgoing: &&Outgoing| {
                let counts = |claim: &Claim| claim.epoch == identity.epoch && !self.void.has(&claim.element);
                outgoing.claim().is_none_or(counts)
            };
            let ours: Vec<&Outgoing> = batch.iter().filter(is_ours).collect();
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
        for settlement in batch.iter().filter_map(Outgoing::settlement) {
            if let End::Deferred { due, .. } = settlement.end {
                self.due.add(due);
            }
            self.note_due(&settlement.effects);
            if settlement.claim.locks.as_ref().is_some_and(|locks| locks.slot.is_some()) {
                // One that waited for its place is due now.
                self.due.add(clock::now());
            }
        }
        for (place, source) in self.sources.all().into_iter().enumerate() {
            let claims = batch.iter().filter_map(Outgoing::claim).filter(|claim| claim.source == source);
            self.held[place].remove(claims.map(|claim| &claim.element));
        }
        let once = batch.iter().filter_map(Outgoing::claim).filter(|claim| claim.is_once);
        self.held_once.remove(once.map(|claim| &claim.element));
        self.void.remove(batch.iter().filter_map(Outgoing::claim).map(|claim| &claim.element));
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
        batch: &[&Outgoing],
    ) -> RedisResult<Ran> {
        let mut transaction = Transaction::new();
        // What is kept of a request only until it ends.
        let mut gone: Vec<Cow<'_, str>> = Vec::new();
        let mut verdicts = [0u64; Verdict::ALL.len()];
        for outgoing in batch {
            match outgoing {
                Outgoing::Settlement(settlement) => {
                    if let End::Answered { id, verdict, .. } = &settlement.end {
                        verdicts[*verdict as usize] += 1;
                        gone.push(self.options.keys.deliveries(id).into());
                    }
                    gone.extend(settlement.body().map(Cow::from));
                    self.add_settlement(&mut transaction, identity, settlement);
                }
                Outgoing::Notice(Notice::Started { id }) => {
                    // Only where it is still known: it may have been cancelled meanwhile.
                    let keys = &self.options.keys;
                    transaction.add("SET").arg(keys.stage(id)).arg(Stage::PENDING).arg("XX").arg("KEEPTTL");
                    transaction.add("PUBLISH").arg(keys.stage_channel(id)).arg(Stage::PENDING);
                }
                Outgoing::Notice(Notice::AnsweredEarly { .. }) => {}
            }
            if let Some((id, answer)) = outgoing.answer() {
                self.publish(&mut transaction, id, answer);
            }
            if let Some(id) = outgoing.settlement().and_then(Settlement::untracked) {
                transaction.add("DEL").arg(self.options.keys.stage(id));
                if outgoing.answer().is_none() {
                    // Whoever waits for a change would hear of none.
                    transaction.add("PUBLISH").arg(self.options.keys.stage_channel(id)).arg(Stage::ENDED);
                }
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

    /// Takes one element out of flight, with all that belongs to it but its answer.
    fn add_settlement(&self, transaction: &mut Transaction<'_>, identity: &Identity, settlement: &Settlement) {
        let Settlement { claim, end, effects } = settlement;
        transaction.add("LREM").arg(self.list(identity, claim)).arg(1).arg(&*claim.element);
        self.release(transaction, identity, settlement);
        self.note_vouched(transaction, settlement);
        let verdict = match end {
            End::Answered { verdict, .. } => Some(*verdict),
            End::Deferred { due, waiting } => {
                transaction.add("ZADD").arg(self.options.keys.delayed()).arg(*due).arg(&**waiting);
                None
            }
            End::Forwarded { node } => {
                transaction.add("RPUSH").arg(self.options.keys.inbox(node)).arg(&*claim.element);
                None
            }
            End::HandedBack => {
                self.hand_back(transaction, identity, claim);
                None
            }
        };
        self.take_effect(transaction, identity, verdict, effects);
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
