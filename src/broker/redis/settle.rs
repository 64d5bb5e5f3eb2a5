//! Settling: a batch in one transaction, or one by one where it is not sure what became of it.

use std::sync::{Arc, LazyLock};

use redis::{Connection, Pipeline, RedisResult, Script, Value, pipe};

use super::lease::Identity;
use super::link::exchange;
use super::{RedisBroker, SettleLink, lock};
use crate::broker::{Claim, Result, Settlement, Source};
use crate::clock;
use crate::protocol::codec::Encoded;
use crate::protocol::{RequestId, Verdict};

static ANSWER_AGAIN: LazyLock<Script> = LazyLock::new(|| Script::new(include_str!("scripts/answer_again.lua")));
static MOVE_AGAIN: LazyLock<Script> = LazyLock::new(|| Script::new(include_str!("scripts/move_again.lua")));

/// The dead list holds no more than this.
const MOST_DEAD: isize = 1000;

/// What is on the dead list longer than this goes, in milliseconds.
const DEAD_TTL: u64 = 7 * 24 * 60 * 60 * 1000;

impl RedisBroker {
    pub(super) fn settle_all(&self, batch: &[Settlement]) -> Result<Vec<RequestId>> {
        let mut guard = lock(&self.settling);
        let SettleLink { link, is_unsure, watched } = &mut *guard;
        let unheard = loop {
            let identity = match watched.take().filter(|_| link.is_open()) {
                Some(identity) => identity,
                None => link.with(|connection| self.watch(connection))?,
            };
            let is_ours =
                |settlement: &&Settlement| settlement.claim().is_none_or(|claim| claim.epoch == identity.epoch);
            let ours: Vec<&Settlement> = batch.iter().filter(is_ours).collect();
            let settled = link.with(|connection| {
                if *is_unsure {
                    self.settle_each(connection, &identity, &ours)
                } else {
                    self.settle_together(connection, &identity, &ours)
                }
            });
            *is_unsure = settled.is_err();
            match settled? {
                Ran::Done { unheard, is_watching } => {
                    if ours.len() < batch.len() {
                        self.fenced.drop_late(batch.len() - ours.len());
                    }
                    *watched = is_watching.then_some(identity);
                    break unheard;
                }
                // Nothing was done. The next look at the fence tells why.
                Ran::Refused => {}
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
        Ok(unheard)
    }

    /// Looks whether the lease holds, and lets the next transaction fail if that changes.
    fn watch(&self, connection: &mut Connection) -> RedisResult<Arc<Identity>> {
        loop {
            let identity = self.identity();
            let mut look = pipe();
            look.cmd("UNWATCH").cmd("WATCH").arg(&identity.fence).cmd("GET").arg(&identity.fence);
            if !is_gone(exchange(connection, &look)?.last()) {
                return Ok(identity);
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
        batch: &[&Settlement],
    ) -> RedisResult<Ran> {
        let mut transaction = Transaction::new();
        let mut bodies = Vec::new();
        let mut verdicts = [0u64; Verdict::ALL.len()];
        for settlement in batch {
            if let Some(claim) = settlement.claim() {
                transaction.add("LREM").arg(self.list(identity, claim)).arg(1).arg(&*claim.element);
            }
            bodies.extend(settlement.body());
            self.release(&mut transaction, identity, settlement);
            match settlement {
                Settlement::Answered { verdict, dead, .. } => {
                    verdicts[*verdict as usize] += 1;
                    if let Some(dead) = dead {
                        self.bury(&mut transaction, dead);
                    }
                }
                Settlement::AnsweredEarly { .. } => {}
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
        }
        if !bodies.is_empty() {
            transaction.add("DEL").arg(bodies);
        }
        for verdict in Verdict::ALL.into_iter().filter(|verdict| verdicts[*verdict as usize] > 0) {
            let count = verdicts[verdict as usize];
            transaction.add("HINCRBY").arg(self.options.keys.verdicts()).arg(verdict.as_str()).arg(count);
        }
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

    fn bury(&self, transaction: &mut Transaction<'_>, dead: &str) {
        let (key, now) = (self.options.keys.dead(), clock::now());
        transaction.add("ZADD").arg(&key).arg(now).arg(dead);
        transaction.add("ZREMRANGEBYSCORE").arg(&key).arg("-inf").arg(now.saturating_sub(DEAD_TTL));
        transaction.add("ZREMRANGEBYRANK").arg(&key).arg(0).arg(-1 - MOST_DEAD);
    }

    /// One by one, each after a look at what became of it.
    fn settle_each(&self, connection: &mut Connection, identity: &Identity, batch: &[&Settlement]) -> RedisResult<Ran> {
        let mut unheard = Vec::new();
        for settlement in batch {
            let received = match settlement {
                Settlement::Answered { claim, .. } => {
                    self.answer_again(connection, identity, Some(claim), settlement)?
                }
                Settlement::AnsweredEarly { .. } => self.answer_again(connection, identity, None, settlement)?,
                Settlement::Deferred { claim, .. }
                | Settlement::Forwarded { claim, .. }
                | Settlement::HandedBack { claim } => self.move_again(connection, identity, claim, settlement)?,
            };
            if received == FENCED {
                // Those before it are settled; a look at them finds that.
                return Ok(Ran::Refused);
            }
            unheard.extend(settlement.answer().filter(|_| received == 0).map(|(id, _)| id.clone()));
            let mut transaction = Transaction::new();
            if let Settlement::Answered { dead: Some(dead), .. } = settlement {
                self.bury(&mut transaction, dead);
            }
            self.release(&mut transaction, identity, settlement);
            if !transaction.is_empty() {
                transaction.run(connection, identity)?;
            }
        }
        Ok(Ran::Done { unheard, is_watching: false })
    }

    fn answer_again(
        &self,
        connection: &mut Connection,
        identity: &Identity,
        claim: Option<&Claim>,
        settlement: &Settlement,
    ) -> RedisResult<i64> {
        let keys = &self.options.keys;
        let answer = settlement.answer();
        let mut script = ANSWER_AGAIN.key(&identity.fence);
        script.key(claim.map_or(identity.in_flight[0].as_str(), |claim| self.list(identity, claim)));
        script.key(answer.map_or_else(|| identity.fence.clone(), |(id, _)| keys.result(id)));
        script.key(settlement.body().unwrap_or(&identity.fence)).key(keys.verdicts());
        script.arg(claim.map_or(&[][..], |claim| &*claim.element)).arg(self.options.result_ttl.as_secs().max(1));
        script.arg(answer.map_or(&[][..], |(_, answer)| &*answer.json));
        script.arg(match settlement {
            Settlement::Answered { verdict, .. } => verdict.as_str(),
            _ => "",
        });
        if let Some((id, answer)) = answer {
            for (channel, is_msgpack) in keys.channels(id) {
                script.arg(channel).arg(if is_msgpack { &*answer.msgpack } else { &*answer.json });
            }
        }
        script.invoke(connection)
    }

    /// Puts an element back to where it came from, or what stands for it to where it waits until it is due.
    fn move_again(
        &self,
        connection: &mut Connection,
        identity: &Identity,
        claim: &Claim,
        settlement: &Settlement,
    ) -> RedisResult<i64> {
        let keys = &self.options.keys;
        let mut script = MOVE_AGAIN.key(&identity.fence);
        script.key(self.list(identity, claim));
        let inbox = match settlement {
            Settlement::Forwarded { node, .. } => Some(keys.inbox(node)),
            _ => None,
        };
        let queue = inbox.as_deref().or_else(|| self.home(identity, claim));
        let wait = match (queue, settlement) {
            (_, Settlement::Deferred { due, waiting, .. }) => Some((*due, waiting)),
            (None, _) => Some((clock::now(), &claim.element)),
            (Some(_), _) => None,
        };
        match (queue, wait) {
            (Some(queue), None) => script.key(queue),
            _ => script.key(keys.delayed()),
        };
        script.key(settlement.body().unwrap_or(&identity.fence)).arg(&*claim.element);
        match wait {
            Some((due, waiting)) => script.arg(due).arg(&**waiting),
            None => script.arg(""),
        };
        script.invoke(connection)
    }
}

/// What the scripts say that find that others have taken over.
const FENCED: i64 = -1;

/// What became of an attempt to settle.
enum Ran {
    /// It is done.
    Done {
        /// The answers that nobody received.
        unheard: Vec<RequestId>,
        /// Whether the connection watches the fence for the next transaction.
        is_watching: bool,
    },
    /// Nothing was done, because the fence changed.
    Refused,
}

/// Commands that run as one step, if nobody has touched the fence since it was looked at.
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

    fn is_empty(&self) -> bool {
        self.count == 0
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
        self.commands.cmd("EXEC").cmd("WATCH").arg(&identity.fence).cmd("GET").arg(&identity.fence);
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
