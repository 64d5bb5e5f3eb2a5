//! What can be known of a Redis that requests are entrusted to.

use std::collections::HashSet;
use std::time::{Duration, Instant};

use redis::{Connection, InfoDict, RedisResult, cmd};

use super::Operator;
use super::nodes::{Known, members};
use crate::broker::{Facts, Result};
use crate::clock;
use crate::protocol::keys::Keys;

/// How many times Redis is asked how fast it answers.
const PINGS: usize = 50;

/// So many keys are looked at; more would take long.
const MOST_KEYS: usize = 50_000;

/// So many bodies are looked for in the queues.
const MOST_BODIES: usize = 200;

impl Operator {
    /// Asks Redis for all of it.
    pub(super) fn ask_for_facts(&mut self) -> Result<Facts> {
        self.ask(|connection, keys| {
            let mut facts = Facts { latency: latency(connection)?, ..Facts::default() };
            described(&mut facts, connection)?;
            configured(&mut facts, connection)?;
            let before = clock::now();
            let (seconds, micros): (i64, i64) = cmd("TIME").query(connection)?;
            let now = before.midpoint(clock::now()) as i64;
            facts.skew = seconds * 1000 + micros / 1000 - now;
            daemons(&mut facts, connection, keys)?;
            kept(&mut facts, connection, keys)?;
            facts.dead = cmd("ZCARD").arg(keys.dead()).query(connection)?;
            Ok(facts)
        })
    }
}

fn latency(connection: &mut Connection) -> RedisResult<Duration> {
    let mut times = Vec::with_capacity(PINGS);
    for _ in 0..PINGS {
        let start = Instant::now();
        cmd("PING").query::<()>(connection)?;
        times.push(start.elapsed());
    }
    times.sort();
    Ok(times[PINGS / 2])
}

/// The reply to a command that may be forbidden.
fn allowed<T>(reply: RedisResult<T>) -> RedisResult<Option<T>> {
    match reply {
        Ok(reply) => Ok(Some(reply)),
        Err(error) if error.is_io_error() => Err(error),
        Err(_) => Ok(None),
    }
}

fn described(facts: &mut Facts, connection: &mut Connection) -> RedisResult<()> {
    let Some(info) = allowed(cmd("INFO").query::<InfoDict>(connection))? else { return Ok(()) };
    let version: Option<String> = info.get("redis_version");
    let valkey: Option<String> = info.get("valkey_version");
    facts.numbers = version.as_deref().and_then(|version| {
        let mut numbers = version.split('.').map_while(|part| part.parse().ok());
        Some((numbers.next()?, numbers.next()?))
    });
    facts.version = valkey.map(|version| format!("Valkey {version}")).or_else(|| version.map(|v| format!("Redis {v}")));
    facts.role = info.get("role");
    facts.replicas = info.get("connected_slaves");
    facts.is_cluster = info.get::<u8>("cluster_enabled").map(|enabled| enabled == 1);
    let is_ok = |name: &str| info.get::<String>(name).map(|status| status == "ok");
    facts.could_write =
        is_ok("rdb_last_bgsave_status").map(|snapshot| snapshot && is_ok("aof_last_write_status").unwrap_or(true));
    facts.memory = info.get("used_memory").map(|used| (used, info.get("maxmemory").unwrap_or(0)));
    facts.has_log = info.get::<u8>("aof_enabled").map(|enabled| enabled == 1);
    facts.eviction = info.get("maxmemory_policy");
    Ok(())
}

fn configured(facts: &mut Facts, connection: &mut Connection) -> RedisResult<()> {
    let mut get = |name: &str| -> RedisResult<Option<String>> {
        let reply = cmd("CONFIG").arg("GET").arg(name).query::<Vec<String>>(connection);
        Ok(allowed(reply)?.and_then(|reply| reply.into_iter().nth(1)))
    };
    facts.fsync = get("appendfsync")?;
    facts.snapshots = get("save")?;
    Ok(())
}

fn daemons(facts: &mut Facts, connection: &mut Connection, keys: &Keys) -> RedisResult<()> {
    let known = Known::look(connection, keys)?;
    for member in members(connection, keys, &known)? {
        match member.record {
            Some(record) => {
                facts.living += 1;
                // It said this in the past; so it can only be told that a clock is ahead.
                let ahead = record.at as i64 - known.now as i64;
                if ahead > 0 {
                    facts.nodes_ahead.push((member.node, ahead));
                }
            }
            None if member.claimed > 0 => facts.dead_nodes.push((member.node, member.claimed)),
            None => {}
        }
    }
    Ok(())
}

/// Keys that never end, and bodies that nobody will ask for.
fn kept(facts: &mut Facts, connection: &mut Connection, keys: &Keys) -> RedisResult<()> {
    let mut bodies = Vec::new();
    let mut cursor = 0u64;
    loop {
        let (next, page): (u64, Vec<Vec<u8>>) =
            cmd("SCAN").arg(cursor).arg("MATCH").arg(keys.pattern()).arg("COUNT").arg(1000).query(connection)?;
        facts.keys.0 += page.len();
        for key in page {
            let key = String::from_utf8_lossy(&key).into_owned();
            if let Some(number) = keys.number_of_body(&key) {
                bodies.push(number);
            } else if !keys.is_bounded(&key) && facts.endless.len() < 10 {
                let left: i64 = cmd("TTL").arg(&key).query(connection)?;
                if left == -1 {
                    facts.endless.push(key);
                }
            }
        }
        cursor = next;
        if cursor == 0 || facts.keys.0 >= MOST_KEYS {
            facts.keys.1 = cursor == 0;
            break;
        }
    }
    let waiting = waiting_numbers(connection, keys)?;
    facts.orphans.1 = bodies.len().min(MOST_BODIES);
    facts.orphans.0 = bodies.iter().take(MOST_BODIES).filter(|number| !waiting.contains(number)).count();
    Ok(())
}

/// The numbers that stand anywhere.
fn waiting_numbers(connection: &mut Connection, keys: &Keys) -> RedisResult<HashSet<u64>> {
    let mut numbers = HashSet::new();
    super::jobs::each_element(connection, keys, |element| numbers.extend(super::jobs::number_of(element)))?;
    Ok(numbers)
}
