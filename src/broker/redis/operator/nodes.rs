//! The daemons: those that live, and those whose lease is gone.

use std::collections::BTreeSet;

use redis::{Connection, FromRedisValue, RedisResult, Value};

use super::Operator;
use crate::broker::redis::lease::read_record;
use crate::broker::redis::link::exchange;
use crate::broker::redis::unserved;
use crate::broker::{Member, Result};
use crate::protocol::Node;
use crate::protocol::keys::Keys;

impl Operator {
    /// All daemons: those that live by their names, then the dead ones.
    pub(super) fn all_members(&mut self) -> Result<Vec<Member>> {
        self.ask(|connection, keys| {
            let known = Known::look(connection, keys)?;
            members(connection, keys, &known)
        })
    }
}

/// What the lists of names say.
pub(super) struct Known {
    /// The time by the clock of Redis, in milliseconds since 1970.
    pub(super) now: u64,
    /// The further queues, also those that nobody serves.
    pub(super) queues: Vec<String>,
    /// The daemons, and their last heartbeats.
    nodes: Vec<(String, u64)>,
}

impl Known {
    pub(super) fn look(connection: &mut Connection, keys: &Keys) -> RedisResult<Self> {
        let mut pipeline = redis::pipe();
        pipeline.cmd("TIME");
        pipeline.cmd("ZRANGE").arg(keys.queue_names()).arg(0).arg(-1);
        pipeline.cmd("ZRANGE").arg(keys.nodes()).arg(0).arg(-1).arg("WITHSCORES");
        let mut replies = exchange(connection, &pipeline)?.into_iter();
        let (seconds, microseconds): (u64, u64) = read(replies.next())?;
        let queues: Vec<Vec<u8>> = read(replies.next())?;
        let nodes: Vec<(Vec<u8>, f64)> = read(replies.next())?;
        let mut queues: BTreeSet<String> = queues.iter().map(|name| text(name)).collect();
        queues.extend(unserved::look(connection, keys)?);
        Ok(Known {
            now: seconds * 1000 + microseconds / 1000,
            queues: queues.into_iter().collect(),
            nodes: nodes.iter().map(|(node, heard)| (text(node), *heard as u64)).collect(),
        })
    }
}

/// What there is of the daemons that are known.
pub(super) fn members(connection: &mut Connection, keys: &Keys, known: &Known) -> RedisResult<Vec<Member>> {
    if known.nodes.is_empty() {
        return Ok(Vec::new());
    }
    let mut pipeline = redis::pipe();
    let mut lists = 0;
    for (node, _) in &known.nodes {
        let in_flight = keys.all_in_flight(node, known.queues.iter().map(String::as_str));
        lists = in_flight.len();
        pipeline.cmd("GET").arg(keys.lease(node));
        pipeline.cmd("LLEN").arg(keys.inbox(node));
        for list in in_flight {
            pipeline.cmd("LLEN").arg(list);
        }
    }
    let mut replies = exchange(connection, &pipeline)?.into_iter();
    let members = known.nodes.iter().map(|(node, heard)| {
        let record: Option<Vec<u8>> = read(replies.next())?;
        let inbox = read(replies.next())?;
        let claimed = (0..lists).map(|_| read::<u64>(replies.next())).sum::<RedisResult<u64>>()?;
        let unreadable = || Node { node: node.clone(), ..Node::default() };
        let record = record.map(|record| read_record(&record).unwrap_or_else(unreadable));
        Ok(Member { node: node.clone(), silent: known.now.saturating_sub(*heard), record, claimed, inbox })
    });
    let mut members = members.collect::<RedisResult<Vec<Member>>>()?;
    members.sort_by_cached_key(|member| {
        let name = member.record.as_ref().map(|record| record.status.name.clone());
        (name.is_none(), name, member.node.clone())
    });
    Ok(members)
}

/// One of the replies to a pipeline.
pub(super) fn read<T: FromRedisValue>(reply: Option<Value>) -> RedisResult<T> {
    Ok(redis::from_redis_value(reply.expect("there is a reply to each command"))?)
}

fn text(name: &[u8]) -> String {
    String::from_utf8_lossy(name).into_owned()
}
