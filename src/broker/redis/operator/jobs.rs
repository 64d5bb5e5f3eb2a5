//! Single requests: where each stands, and what became of it.

use std::time::{Duration, Instant};

use redis::{Connection, RedisResult, cmd};
use serde_json::json;
use uuid::Uuid;

use super::Operator;
use super::nodes::{Known, members};
use super::queues::{SUSPECTS, is_served};
use crate::broker::redis::link::exchange;
use crate::broker::redis::{cancel, unserved};
use crate::broker::{Fate, Found, Job, Member, QUEUE_DOOR, QueueTerms, Result, Stand, Told, parse_number};
use crate::protocol::keys::Keys;
use crate::protocol::{Answer, OpenCall, RequestId};

/// So long daemons have to tell of a request that no list has.
const DAEMONS_PATIENCE: Duration = Duration::from_secs(2);

/// A daemon that is away finds no more messages than this, and none that is older, in seconds: as those that `cancel.lua` leaves.
const MOST_MESSAGES: isize = 1000;
const MESSAGE_TTL: u64 = 60;

/// How many elements are looked at in one round trip.
const PAGE: isize = 1000;

impl Operator {
    /// Requests that have no verdict yet, at most `most` of each list.
    pub(super) fn list_jobs(&mut self, most: usize) -> Result<Vec<Job>> {
        self.ask(|connection, keys| {
            let mut jobs: Vec<Job> = Vec::new();
            scan(
                connection,
                keys,
                Some(most),
                |_| true,
                |job| {
                    jobs.push(job);
                    true
                },
            )?;
            let known = Known::look(connection, keys)?;
            jobs.extend(members(connection, keys, &known)?.iter().flat_map(calls_of));
            Ok(jobs)
        })
    }

    /// What became of the request `id`, or where it stands.
    pub(super) fn find_fate(&mut self, id: &RequestId) -> Result<Fate> {
        if let Some(job) = self.ask(|connection, keys| find(connection, keys, id))? {
            return Ok(Fate::Open(job));
        }
        if let Some((answer, left)) = self.stored_answer(id)? {
            return Ok(Fate::Answered(answer, left));
        }
        let text = id.to_string();
        let letter = self.dead_entries()?.into_iter().rev().find(|letter| letter.letter.id.as_deref() == Some(&text));
        if let Some(letter) = letter {
            return Ok(Fate::Dead(Box::new(letter.letter)));
        }
        if let Some((node, call)) = self.ask_daemons(id, false)?.into_iter().next() {
            return Ok(Fate::Open(Job::at(&node, call)));
        }
        let RequestId::Number(number) = id else { return Ok(Fate::Unknown) };
        let bodies: u64 = self.ask(|connection, keys| cmd("EXISTS").arg(&keys.bodies(*number)).query(connection))?;
        Ok(if bodies > 0 { Fate::Unsent } else { Fate::Unknown })
    }

    /// The stored answer to `id`, and how much longer it is kept, in milliseconds.
    pub(super) fn stored_answer(&mut self, id: &RequestId) -> Result<Option<(Answer, u64)>> {
        self.ask(|connection, keys| {
            let key = keys.result(id);
            let json: Option<Vec<u8>> = cmd("GET").arg(&key).query(connection)?;
            let left: i64 = cmd("PTTL").arg(&key).query(connection)?;
            let answer = json.and_then(|json| serde_json::from_slice(&json).ok());
            Ok(answer.map(|answer| (answer, u64::try_from(left).unwrap_or(0))))
        })
    }

    /// Cancels `id` where it waits, or tells the daemon that has it. The answer is kept for `result_ttl`.
    pub(super) fn cancel_one(&mut self, id: &RequestId, result_ttl: Duration) -> Result<Found> {
        let found = self.ask(|connection, keys| {
            let found = cancel::cancel(connection, keys, id, result_ttl)?;
            if found != Found::Nowhere {
                return Ok(found);
            }
            // It may stand in a queue that no daemon knows yet.
            let names = unserved::look(connection, keys)?;
            unserved::note(connection, keys, &names)?;
            cancel::cancel(connection, keys, id, result_ttl)
        })?;
        if found != Found::Nowhere {
            return Ok(found);
        }
        let told = self.ask_daemons(id, true)?;
        Ok(told.into_iter().next().map_or(found, |(node, _)| Found::Cancelled(node)))
    }

    /// The open calls of the daemons that live that are called `id`, each with its daemon. With `is_to_cancel` they end.
    fn ask_daemons(&mut self, id: &RequestId, is_to_cancel: bool) -> Result<Vec<(String, OpenCall)>> {
        let asker = Uuid::new_v4().to_string();
        let verb = if is_to_cancel { "cancel" } else { "find" };
        let message = json!({verb: id.to_string(), "reply": asker}).to_string();
        let mut asked = self.ask(|connection, keys| {
            let known = Known::look(connection, keys)?;
            let living = members(connection, keys, &known)?.into_iter().filter(|member| member.record.is_some());
            let lists: Vec<String> = living.map(|member| keys.control(&member.node)).collect();
            let mut pipeline = redis::pipe();
            for list in &lists {
                pipeline.cmd("RPUSH").arg(list).arg(&message).cmd("LTRIM").arg(list).arg(-MOST_MESSAGES).arg(-1);
                pipeline.cmd("EXPIRE").arg(list).arg(MESSAGE_TTL);
            }
            exchange(connection, &pipeline).map(|_| lists.len())
        })?;
        let deadline = Instant::now() + DAEMONS_PATIENCE;
        let mut found = Vec::new();
        while asked > 0 {
            let left = deadline.saturating_duration_since(Instant::now());
            if left.is_zero() {
                break;
            }
            let told: Option<(String, Vec<u8>)> = self.ask(|connection, keys| {
                cmd("BLPOP").arg(keys.reply(&asker)).arg(left.as_secs_f64().max(0.01)).query(connection)
            })?;
            let Some((_, told)) = told else { break };
            asked -= 1;
            if let Ok(Told { node, calls }) = serde_json::from_slice(&told) {
                found.extend(calls.into_iter().map(|call| (node.clone(), call)));
            }
        }
        Ok(found)
    }
}

/// Shows every element of every list to `see`.
pub(super) fn each_element(connection: &mut Connection, keys: &Keys, mut see: impl FnMut(&[u8])) -> RedisResult<()> {
    let looks = |element: &[u8]| {
        see(element);
        false
    };
    scan(connection, keys, None, looks, |_| true)
}

/// The number that an element is, if it is one.
pub(super) fn number_of(element: &[u8]) -> Option<u64> {
    parse_number(element)
}

/// The calls of `member` that no list has, as it said with its last heartbeat.
fn calls_of(member: &Member) -> Vec<Job> {
    let Some(record) = &member.record else { return Vec::new() };
    let calls = record.status.running.iter().chain(&record.status.queued);
    // An earlier version does not say which door it was; what came by the queue stands in a list.
    let others = calls.filter(|call| !call.door.is_empty() && call.door != QUEUE_DOOR);
    others.map(|call| Job::at(&member.node, call.clone())).collect()
}

/// The request `id`, if it has no verdict yet. It may move on while it is looked for, so it is looked for twice.
fn find(connection: &mut Connection, keys: &Keys, id: &RequestId) -> RedisResult<Option<Job>> {
    let text = id.to_string();
    let mut found = None;
    for _ in 0..2 {
        let may_be = |element: &[u8]| match (parse_number(element), id) {
            (Some(number), RequestId::Number(wanted)) => number == *wanted,
            (Some(_), RequestId::Text(_)) => false,
            (None, _) => element.windows(text.len()).any(|part| part == text.as_bytes()),
        };
        scan(connection, keys, None, may_be, |job| {
            let is_it = job.id.as_deref() == Some(&text);
            if is_it {
                found = Some(job);
            }
            !is_it
        })?;
        if found.is_some() {
            break;
        }
    }
    Ok(found)
}

/// Shows each request of each list to `see`, until that has seen enough; at most `most` of each. Only what `may_be` wanted is
/// read.
fn scan(
    connection: &mut Connection,
    keys: &Keys,
    most: Option<usize>,
    mut may_be: impl FnMut(&[u8]) -> bool,
    mut see: impl FnMut(Job) -> bool,
) -> RedisResult<()> {
    let known = Known::look(connection, keys)?;
    let members = members(connection, keys, &known)?;
    for list in lists(connection, keys, &known, &members)? {
        let mut place = 0;
        loop {
            let page = most.map_or(PAGE, |most| PAGE.min(most as isize - place as isize));
            if page <= 0 {
                break;
            }
            let elements = list.page(connection, place as isize, page)?;
            let count = elements.len();
            for (at, (element, score)) in elements.into_iter().enumerate() {
                if may_be(&element) {
                    let stand = list.stand(place + at as u64, score);
                    let job = read(connection, keys, &element, stand, &members, known.now)?;
                    if !see(job) {
                        return Ok(());
                    }
                }
            }
            place += count as u64;
            if (count as isize) < page {
                break;
            }
        }
    }
    Ok(())
}

/// A list of elements.
struct List {
    key: String,
    kind: Kind,
}

enum Kind {
    /// What it is called, and whether a daemon serves it.
    Queue(String, bool),
    Delayed,
    Parked,
    Behind,
    Inbox(String),
    Taken {
        node: String,
        is_alive: bool,
    },
}

impl List {
    fn page(&self, connection: &mut Connection, from: isize, count: isize) -> RedisResult<Vec<(Vec<u8>, u64)>> {
        let to = from + count - 1;
        if matches!(self.kind, Kind::Delayed) {
            let page: Vec<(Vec<u8>, f64)> =
                cmd("ZRANGE").arg(&self.key).arg(from).arg(to).arg("WITHSCORES").query(connection)?;
            return Ok(page.into_iter().map(|(element, due)| (element, due as u64)).collect());
        }
        let page: Vec<Vec<u8>> = cmd("LRANGE").arg(&self.key).arg(from).arg(to).query(connection)?;
        Ok(page.into_iter().map(|element| (element, 0)).collect())
    }

    fn stand(&self, before: u64, due: u64) -> Stand {
        match &self.kind {
            Kind::Queue(queue, is_served) => Stand::Queue { queue: queue.clone(), before, is_served: *is_served },
            Kind::Delayed => Stand::Delayed { due },
            Kind::Parked => Stand::Parked,
            Kind::Behind => Stand::Behind,
            Kind::Inbox(node) => Stand::Inbox { node: node.clone() },
            Kind::Taken { node, is_alive } => Stand::Taken { node: node.clone(), is_alive: *is_alive, since: None },
        }
    }
}

/// All lists in which a request can stand.
fn lists(connection: &mut Connection, keys: &Keys, known: &Known, members: &[Member]) -> RedisResult<Vec<List>> {
    let limited: Vec<String> = cmd("HKEYS").arg(keys.limited()).query(connection)?;
    let queue = |key: String, name: &str| List { key, kind: Kind::Queue(name.to_owned(), is_served(members, name)) };
    let mut lists: Vec<List> = keys.queues().into_iter().map(|key| queue(key, QueueTerms::DEFAULT)).collect();
    lists.extend(known.queues.iter().map(|name| queue(keys.named_queue(name), name)));
    lists.push(queue(keys.suspects(), SUSPECTS));
    lists.push(List { key: keys.delayed(), kind: Kind::Delayed });
    lists.extend(limited.iter().map(|func| List { key: keys.parked(func), kind: Kind::Parked }));
    let waited: Vec<String> = cmd("SMEMBERS").arg(keys.waited()).query(connection)?;
    lists.extend(waited.iter().map(|key| List { key: keys.waiting(key), kind: Kind::Behind }));
    for member in members {
        let (node, is_alive) = (&member.node, member.record.is_some());
        lists.push(List { key: keys.inbox(node), kind: Kind::Inbox(node.clone()) });
        let in_flight = keys.all_in_flight(node, known.queues.iter().map(String::as_str));
        lists.extend(in_flight.into_iter().map(|key| List { key, kind: Kind::Taken { node: node.clone(), is_alive } }));
    }
    Ok(lists)
}

fn read(
    connection: &mut Connection,
    keys: &Keys,
    element: &[u8],
    stand: Stand,
    members: &[Member],
    now: u64,
) -> RedisResult<Job> {
    let number = parse_number(element);
    let body: Option<Vec<u8>> = match number {
        Some(number) => {
            let bodies: Vec<Option<Vec<u8>>> = cmd("MGET").arg(&keys.bodies(number)).query(connection)?;
            bodies.into_iter().flatten().next()
        }
        None => None,
    };
    let json = if number.is_some() { body.as_deref().unwrap_or_default() } else { element };
    let has_it = |member: &&Member| matches!(&stand, Stand::Taken { node, .. } if *node == member.node);
    let record = members.iter().find(has_it).and_then(|member| member.record.as_ref());
    let running = record.map_or(&[][..], |record| &record.status.running);
    Ok(Job::read(number, json, stand, running, now))
}
