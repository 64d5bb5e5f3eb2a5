//! Which requests a room has sent: a text can say that of itself, so it is told by what is on record.

use std::sync::LazyLock;

use redis::{RedisResult, Script, pipe};

use super::link::exchange_each;
use super::settle::Transaction;
use super::{RedisBroker, lock};
use crate::broker::{End, Result, Settlement};
use crate::protocol::RequestId;

static TAKE_VOUCHED: LazyLock<Script> = LazyLock::new(|| Script::new(include_str!("scripts/take_vouched.lua")));

impl RedisBroker {
    pub(super) fn take_all_vouched(&self, room: &str, elements: &[(&RequestId, &[u8])]) -> Result<Vec<bool>> {
        let (keys, identity) = (&self.options.keys, self.identity());
        let (sent, taken, lease) = (keys.sent_by(room), keys.taken_of(room), keys.lease(""));
        let (queues, in_flight) = (keys.queue_names(), keys.in_flight("", ""));
        let mut pipeline = pipe();
        for (id, element) in elements {
            pipeline.cmd("EVALSHA").arg(TAKE_VOUCHED.get_hash()).arg(3).arg(&sent).arg(&taken).arg(&queues);
            pipeline.arg(id.to_string()).arg(*element).arg(identity.name()).arg(&lease).arg(&in_flight);
        }
        let replies = lock(&self.arranging).with(|connection| {
            let replies = exchange_each(connection, &pipeline, &TAKE_VOUCHED)?;
            let understand = |reply| Ok(redis::from_redis_value(reply)?);
            replies.into_iter().map(|reply| reply.and_then(understand)).collect::<RedisResult<Vec<u8>>>()
        })?;
        Ok(replies.into_iter().map(|is_taken| is_taken == 1).collect())
    }

    /// What a room has sent is known as that until it ends, also in the form in which it waits for its next run.
    pub(super) fn note_vouched(&self, transaction: &mut Transaction<'_>, settlement: &Settlement) {
        let Some(vouched) = &settlement.claim.vouched else { return };
        let (keys, id) = (&self.options.keys, vouched.id.to_string());
        match &settlement.end {
            End::Answered { .. } => {
                transaction.add("HDEL").arg(keys.sent_by(vouched.room)).arg(&id);
                transaction.add("HDEL").arg(keys.taken_of(vouched.room)).arg(&id);
            }
            End::Deferred { waiting, .. } if *waiting != settlement.claim.element => {
                transaction.add("HSET").arg(keys.sent_by(vouched.room)).arg(&id).arg(&**waiting);
            }
            _ => {}
        }
    }
}
