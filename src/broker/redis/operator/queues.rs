//! What waits: how much, and for how long.

use std::collections::BTreeMap;

use redis::{Connection, RedisResult, Value, cmd};

use super::Operator;
use super::nodes::{Known, members, read};
use crate::broker::redis::link::exchange;
use crate::broker::{Member, Overview, QueueLook, QueueTerms, Result, parse_number};
use crate::protocol::Verdict;
use crate::protocol::age::sent_at;
use crate::protocol::keys::Keys;

/// What the list is called of those requests that start one by one. It is shown only when something is in it.
pub(super) const SUSPECTS: &str = "~suspects";

impl Operator {
    /// One look at all: daemons, queues, counts.
    pub(super) fn look(&mut self) -> Result<Overview> {
        self.ask(|connection, keys| {
            let known = Known::look(connection, keys)?;
            let members = members(connection, keys, &known)?;
            let queues = queues(connection, keys, &known, &members)?;
            let mut pipeline = redis::pipe();
            pipeline.cmd("ZCARD").arg(keys.delayed());
            pipeline.cmd("ZRANGE").arg(keys.delayed()).arg(0).arg(0).arg("WITHSCORES");
            pipeline.cmd("ZCARD").arg(keys.dead());
            pipeline.cmd("HGETALL").arg(keys.verdicts());
            let mut replies = exchange(connection, &pipeline)?.into_iter();
            let delayed = read(replies.next())?;
            let next: Vec<(Vec<u8>, f64)> = read(replies.next())?;
            let dead = read(replies.next())?;
            let counted: BTreeMap<String, u64> = read(replies.next())?;
            Ok(Overview {
                now: known.now,
                members,
                queues,
                delayed,
                next_due: next.first().map(|(_, due)| *due as u64),
                dead,
                verdicts: (!counted.is_empty()).then(|| verdicts(&counted)),
            })
        })
    }
}

/// All verdicts, with 0 for those that never came. What a later version counts besides is left out.
fn verdicts(counted: &BTreeMap<String, u64>) -> BTreeMap<Verdict, u64> {
    let count = |verdict: Verdict| counted.get(verdict.as_str()).copied().unwrap_or(0);
    Verdict::ALL.into_iter().map(|verdict| (verdict, count(verdict))).collect()
}

fn queues(connection: &mut Connection, keys: &Keys, known: &Known, members: &[Member]) -> RedisResult<Vec<QueueLook>> {
    let usual = keys.queues().into_iter().map(|key| ("default".to_owned(), key));
    let mut names = known.queues.clone();
    names.sort();
    let further = names.into_iter().map(|name| {
        let key = keys.named_queue(&name);
        (name, key)
    });
    let suspects: u64 = cmd("LLEN").arg(keys.suspects()).query(connection)?;
    let suspects = (suspects > 0).then(|| (SUSPECTS.to_owned(), keys.suspects()));
    let all: Vec<(String, String)> = usual.chain(further).chain(suspects).collect();
    let mut pipeline = redis::pipe();
    for (_, key) in &all {
        pipeline.cmd("LLEN").arg(key).cmd("LINDEX").arg(key).arg(0);
    }
    let mut replies = exchange(connection, &pipeline)?.into_iter();
    let mut queues = Vec::with_capacity(all.len());
    for (name, key) in all {
        let length = read(replies.next())?;
        let head: Option<Vec<u8>> = read(replies.next())?;
        let oldest = match head {
            Some(head) => age(connection, keys, &head, known.now)?,
            None => None,
        };
        queues.push(QueueLook { is_served: is_served(members, &name), name, key, length, oldest });
    }
    Ok(queues)
}

/// Whether a daemon that lives serves the queue called `name`. The usual one is served by whichever comes.
pub(super) fn is_served(members: &[Member], name: &str) -> bool {
    if matches!(name, QueueTerms::DEFAULT | SUSPECTS) {
        return true;
    }
    let mut living = members.iter().filter_map(|member| member.record.as_ref());
    living.any(|node| node.status.queues.iter().any(|served| served == name))
}

/// How long `element` has waited: an inline request may tell it, and the body of a numbered one is not touched until it
/// is claimed.
fn age(connection: &mut Connection, keys: &Keys, element: &[u8], now: u64) -> RedisResult<Option<u64>> {
    let Some(number) = parse_number(element) else {
        return Ok(sent_at(element, now).map(|sent| now.saturating_sub(sent)));
    };
    for key in keys.bodies(number) {
        match cmd("OBJECT").arg("IDLETIME").arg(key).query::<Value>(connection) {
            Ok(Value::Int(seconds)) => return Ok(Some(seconds.unsigned_abs() * 1000)),
            Ok(_) => {}
            // With an LFU policy Redis does not know it.
            Err(error) if !error.is_io_error() => return Ok(None),
            Err(error) => return Err(error),
        }
    }
    Ok(None)
}
