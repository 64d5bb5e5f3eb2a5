//! Settling: a batch in one transaction, or one by one where it is not sure what became of it.

use std::sync::LazyLock;

use redis::{Connection, Pipeline, RedisResult, Script, Value, pipe};

use super::{RedisBroker, SettleLink, lock};
use crate::broker::{Claim, Result, Settlement, Source};
use crate::clock;
use crate::protocol::RequestId;
use crate::protocol::codec::Encoded;

static ANSWER_AGAIN: LazyLock<Script> = LazyLock::new(|| Script::new(include_str!("scripts/answer_again.lua")));
static HAND_BACK_AGAIN: LazyLock<Script> = LazyLock::new(|| Script::new(include_str!("scripts/hand_back_again.lua")));

/// The dead list holds no more than this.
const MOST_DEAD: isize = 1000;

/// What is on the dead list longer than this goes, in milliseconds.
const DEAD_TTL: u64 = 7 * 24 * 60 * 60 * 1000;

impl RedisBroker {
    pub(super) fn settle_all(&self, batch: &[Settlement]) -> Result<Vec<RequestId>> {
        let mut guard = lock(&self.settling);
        let SettleLink { link, is_unsure } = &mut *guard;
        let settled = if *is_unsure {
            link.with(|connection| self.settle_each(connection, batch))
        } else {
            link.with(|connection| self.settle_together(connection, batch))
        };
        *is_unsure = settled.is_err();
        if settled.is_ok() {
            for source in Source::ALL {
                let claims = batch.iter().filter_map(Settlement::claim).filter(|claim| claim.source == source);
                self.held[source.place()].remove(claims.map(|claim| &claim.element));
            }
        }
        settled
    }

    /// All in one transaction.
    fn settle_together(&self, connection: &mut Connection, batch: &[Settlement]) -> RedisResult<Vec<RequestId>> {
        let mut transaction = Transaction::new();
        let mut bodies = Vec::new();
        for settlement in batch {
            if let Some(claim) = settlement.claim() {
                transaction.add("LREM").arg(self.in_flight(claim.source)).arg(1).arg(&*claim.element);
            }
            match settlement {
                Settlement::Answered { claim, dead, .. } => {
                    bodies.extend(claim.body_key.as_deref());
                    if let Some(dead) = dead {
                        self.bury(&mut transaction, dead);
                    }
                }
                Settlement::AnsweredEarly { .. } => {}
                Settlement::Deferred { claim, due } => {
                    transaction.add("ZADD").arg(self.options.keys.delayed()).arg(*due).arg(&*claim.element);
                    self.due.add(*due);
                }
                Settlement::HandedBack { claim } => self.hand_back(&mut transaction, claim),
            }
            if let Some((id, answer)) = settlement.answer() {
                self.publish(&mut transaction, id, answer);
            }
        }
        if !bodies.is_empty() {
            transaction.add("DEL").arg(bodies);
        }
        transaction.run(connection)
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

    fn hand_back(&self, transaction: &mut Transaction<'_>, claim: &Claim) {
        let keys = &self.options.keys;
        match claim.source {
            Source::Queue(number) => transaction.add("LPUSH").arg(&keys.queues()[number]).arg(&*claim.element),
            Source::Delayed => transaction.add("ZADD").arg(keys.delayed()).arg(clock::now()).arg(&*claim.element),
        };
    }

    fn bury(&self, transaction: &mut Transaction<'_>, dead: &str) {
        let (key, now) = (self.options.keys.dead(), clock::now());
        transaction.add("ZADD").arg(&key).arg(now).arg(dead);
        transaction.add("ZREMRANGEBYSCORE").arg(&key).arg("-inf").arg(now.saturating_sub(DEAD_TTL));
        transaction.add("ZREMRANGEBYRANK").arg(&key).arg(0).arg(-1 - MOST_DEAD);
    }

    /// One by one, each after a look at what became of it.
    fn settle_each(&self, connection: &mut Connection, batch: &[Settlement]) -> RedisResult<Vec<RequestId>> {
        let mut unheard = Vec::new();
        for settlement in batch {
            match settlement {
                Settlement::Answered { claim, dead, .. } => {
                    self.answer_again(connection, Some(claim), settlement, &mut unheard)?;
                    if let Some(dead) = dead {
                        let mut transaction = Transaction::new();
                        self.bury(&mut transaction, dead);
                        transaction.run(connection)?;
                    }
                }
                Settlement::AnsweredEarly { .. } => self.answer_again(connection, None, settlement, &mut unheard)?,
                Settlement::Deferred { claim, due } => {
                    let mut transaction = Transaction::new();
                    transaction.add("ZADD").arg(self.options.keys.delayed()).arg(*due).arg(&*claim.element);
                    transaction.add("LREM").arg(self.in_flight(claim.source)).arg(1).arg(&*claim.element);
                    transaction.run(connection)?;
                    self.due.add(*due);
                }
                Settlement::HandedBack { claim } => self.hand_back_again(connection, claim)?,
            }
        }
        Ok(unheard)
    }

    fn answer_again(
        &self,
        connection: &mut Connection,
        claim: Option<&Claim>,
        settlement: &Settlement,
        unheard: &mut Vec<RequestId>,
    ) -> RedisResult<()> {
        let keys = &self.options.keys;
        let answer = settlement.answer();
        let source = claim.map_or(Source::Queue(0), |claim| claim.source);
        let mut script = ANSWER_AGAIN.key(self.in_flight(source));
        script.key(answer.map_or_else(String::new, |(id, _)| keys.result(id)));
        script.key(claim.and_then(|claim| claim.body_key.as_deref()).unwrap_or_default());
        script.arg(claim.map_or(&[][..], |claim| &*claim.element)).arg(self.options.result_ttl.as_secs().max(1));
        script.arg(answer.map_or(&[][..], |(_, answer)| &*answer.json));
        if let Some((id, answer)) = answer {
            for (channel, is_msgpack) in keys.channels(id) {
                script.arg(channel).arg(if is_msgpack { &*answer.msgpack } else { &*answer.json });
            }
        }
        let received: u64 = script.invoke(connection)?;
        unheard.extend(answer.filter(|_| received == 0).map(|(id, _)| id.clone()));
        Ok(())
    }

    fn hand_back_again(&self, connection: &mut Connection, claim: &Claim) -> RedisResult<()> {
        match claim.source {
            Source::Queue(number) => {
                let queue = &self.options.keys.queues()[number];
                HAND_BACK_AGAIN.key(self.in_flight(claim.source)).key(queue).arg(&*claim.element).invoke(connection)
            }
            Source::Delayed => {
                let mut transaction = Transaction::new();
                self.hand_back(&mut transaction, claim);
                transaction.add("LREM").arg(self.in_flight(claim.source)).arg(1).arg(&*claim.element);
                transaction.run(connection).map(drop)
            }
        }
    }
}

/// Commands that run as one step, and which of them tell how many received an answer.
struct Transaction<'a> {
    commands: Pipeline,
    count: usize,
    publications: Vec<(usize, &'a RequestId)>,
}

impl<'a> Transaction<'a> {
    fn new() -> Self {
        let mut commands = pipe();
        commands.atomic();
        Transaction { commands, count: 0, publications: Vec::new() }
    }

    fn add(&mut self, name: &str) -> &mut Pipeline {
        self.count += 1;
        self.commands.cmd(name)
    }

    fn add_publish(&mut self, id: &'a RequestId, channel: &str, message: &[u8]) {
        self.publications.push((self.count, id));
        self.add("PUBLISH").arg(channel).arg(message);
    }

    /// Runs all; gives back the ids of answers that nobody received on any channel.
    fn run(self, connection: &mut Connection) -> RedisResult<Vec<RequestId>> {
        let replies: Vec<Value> = self.commands.query(connection)?;
        let mut unheard = Vec::new();
        for of_one in self.publications.chunk_by(|(_, one), (_, other)| std::ptr::eq(*one, *other)) {
            if of_one.iter().all(|(place, _)| matches!(replies.get(*place), Some(Value::Int(0)))) {
                unheard.push(of_one[0].1.clone());
            }
        }
        Ok(unheard)
    }
}
