//! What the end of a request does besides its answer, in the transaction that settles it.

use super::RedisBroker;
use super::lease::Identity;
use super::settle::Transaction;
use super::store::write_put;
use crate::clock;
use crate::effects::{Effects, Sending, To};
use crate::protocol::Verdict;

const SEND_DUE: &str = include_str!("scripts/send_due.lua");

/// The dead list holds no more than this.
const MOST_DEAD: isize = 1000;

/// What is on the dead list longer than this goes, in milliseconds.
const DEAD_TTL: u64 = 7 * 24 * 60 * 60 * 1000;

/// What a request that is due under a name is called is known for so long after it was due, in milliseconds: a daemon takes it sooner.
const TIMER_TTL: u64 = 7 * 24 * 60 * 60 * 1000;

impl RedisBroker {
    /// Does `effects` of a request that ended with `verdict`, or goes on.
    pub(super) fn take_effect(
        &self,
        transaction: &mut Transaction<'_>,
        identity: &Identity,
        verdict: Option<Verdict>,
        effects: &Effects,
    ) {
        for put in &effects.put {
            write_put(transaction.add("EVAL"), &self.options.keys, put);
        }
        for sending in &effects.send {
            self.add_sending(transaction, identity, sending);
        }
        if let Some(dead) = &effects.dead {
            self.bury(transaction, verdict == Some(Verdict::Rejected), dead);
        }
    }

    fn add_sending(&self, transaction: &mut Transaction<'_>, identity: &Identity, sending: &Sending) {
        let (keys, element) = (&self.options.keys, &*sending.element);
        if let Some(room) = sending.room {
            transaction.add("HSET").arg(keys.sent_by(room)).arg(sending.id.to_string()).arg(element);
        }
        match &sending.to {
            To::Here => transaction.add("RPUSH").arg(&identity.inbox).arg(element),
            To::Queue(None) => transaction.add("RPUSH").arg(keys.queue()).arg(element),
            To::Queue(Some(name)) => transaction.add("RPUSH").arg(keys.named_queue(name)).arg(element),
            To::Due { at, name: None } => transaction.add("ZADD").arg(keys.delayed()).arg(*at).arg(element),
            To::Due { at, name: Some(name) } => {
                let ends = at.saturating_add(TIMER_TTL);
                let send = transaction.add("EVAL").arg(SEND_DUE).arg(2).arg(keys.timer(name)).arg(keys.delayed());
                send.arg(*at).arg(element).arg(ends)
            }
        };
    }

    /// Wakes the claim of what is due, where `effects` have sent something that is due at a time.
    pub(super) fn note_due(&self, effects: &Effects) {
        for sending in &effects.send {
            if let To::Due { at, .. } = sending.to {
                self.due.add(at);
            }
        }
    }

    fn bury(&self, transaction: &mut Transaction<'_>, is_refused: bool, dead: &str) {
        let (keys, now) = (&self.options.keys, clock::now());
        let key = if is_refused { keys.refused() } else { keys.dead() };
        transaction.add("ZADD").arg(&key).arg(now).arg(dead);
        transaction.add("ZREMRANGEBYSCORE").arg(&key).arg("-inf").arg(now.saturating_sub(DEAD_TTL));
        transaction.add("ZREMRANGEBYRANK").arg(&key).arg(0).arg(-1 - MOST_DEAD);
    }
}
