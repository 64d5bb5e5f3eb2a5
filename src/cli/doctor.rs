//! `cerbas doctor`: whether anything can be promised on this Redis.

use std::fs;
use std::os::unix::fs::MetadataExt;

use serde_json::json;

use super::columns::{Line, Tone, size};
use super::exit::{Exit, Failure};
use super::{Place, output};
use crate::broker::{Facts, Member, QueueLook, Target};

/// Of a mode: others than owner and group may write.
const OTHERS_WRITE: u32 = 0o002;

#[derive(clap::Args)]
pub(super) struct Doctor {
    /// Print a JSON object
    #[arg(long)]
    json: bool,
    #[command(flatten)]
    place: Place,
}

/// How bad it is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Level {
    Ok,
    Unknown,
    Warn,
    Fail,
}

impl Level {
    fn word(self) -> &'static str {
        match self {
            Level::Ok => "ok",
            Level::Unknown => "cannot tell",
            Level::Warn => "warn",
            Level::Fail => "fail",
        }
    }

    fn tone(self) -> Tone {
        match self {
            Level::Ok => Tone::Good,
            Level::Unknown => Tone::Faint,
            Level::Warn => Tone::Odd,
            Level::Fail => Tone::Bad,
        }
    }
}

/// One thing that was looked at.
#[derive(Debug, Clone, PartialEq, Eq)]
struct Check {
    name: &'static str,
    level: Level,
    message: String,
}

impl Doctor {
    pub(super) fn run(self) -> Result<Exit, Failure> {
        let mut operator = self.place.operator()?;
        let facts = operator.facts()?;
        let mut checks = facts.as_ref().map_or_else(|| vec![in_memory()], judge);
        let overview = operator.overview()?;
        checks.push(loops(&overview.members));
        checks.push(queues(&overview.queues));
        if facts.is_some() {
            checks.push(rights(&overview.members));
            checks.push(access(&self.place.address()?));
        }
        let promise = facts.as_ref().map_or_else(|| ALONE.to_owned(), promise);
        if self.json {
            let checks: Vec<_> = checks
                .iter()
                .map(|check| json!({"name": check.name, "level": check.level.word(), "message": check.message}))
                .collect();
            let report = json!({"address": operator.address(), "checks": checks, "promise": promise});
            output::print(&report.to_string())?;
        } else {
            let lines = checks.iter().map(|check| {
                Line::of(format!("{:<12}", check.level.word()), check.level.tone())
                    .and(format!("{:<12}", check.name), Tone::Strong)
                    .and(&check.message, Tone::Plain)
            });
            let lines: Vec<Line> = lines.chain([Line::default(), Line::of(promise, Tone::Plain)]).collect();
            output::print_lines(&lines)?;
        }
        Ok(if checks.iter().any(|check| check.level == Level::Fail) { Exit::Failed } else { Exit::Done })
    }
}

/// What can be promised without Redis.
const ALONE: &str = "What waits and what runs is lost with its daemon, however that ends. Runs of crontabs stay on record, and those that it had begun \
     are lost.";

/// What there is to say of a daemon that has no Redis.
fn in_memory() -> Check {
    let message = "redis.server is \"none\": requests are in the memory of the daemon, and nowhere else".to_owned();
    Check { name: "broker", level: Level::Warn, message }
}

/// Who else gets in there.
fn access(target: &Target) -> Check {
    let is_open = match target.socket() {
        // Who may write a socket may connect to it.
        Some(socket) => fs::metadata(socket).is_ok_and(|data| data.mode() & OTHERS_WRITE != 0) && target.is_open(),
        None => target.is_open(),
    };
    let address = target.address();
    let (level, message) = match (is_open, target.socket()) {
        (true, _) => (
            Level::Warn,
            format!(
                "whoever can reach {address} calls all functions, as any user and source, and reads all answers: set a password, \
                 or open = false where cerbas starts it"
            ),
        ),
        (false, Some(_)) => (Level::Ok, format!("{address} asks for a password, or is closed to other users")),
        (false, None) => (Level::Ok, format!("{address} asks for a password")),
    };
    Check { name: "access", level, message }
}

/// What the facts mean, a line each.
fn judge(facts: &Facts) -> Vec<Check> {
    let mut checks = Vec::new();
    let mut add = |name, level, message: String| checks.push(Check { name, level, message });
    let shown = facts.version.as_deref().unwrap_or("INFO is forbidden");
    match facts.numbers {
        None => add("version", Level::Unknown, shown.to_owned()),
        Some(numbers) if numbers < (6, 2) => add("version", Level::Fail, format!("{shown}: 6.2 or later is needed")),
        Some(_) => add("version", Level::Ok, shown.to_owned()),
    }
    match facts.role.as_deref() {
        Some("master") => add("role", Level::Ok, "master".to_owned()),
        Some(other) => add("role", Level::Fail, format!("{other}: requests can be written to a master only")),
        None => add("role", Level::Unknown, "INFO is forbidden".to_owned()),
    }
    let (level, message) = persistence(facts);
    add("persistence", level, message);
    if facts.could_write == Some(false) {
        add("disk", Level::Fail, "the last write to disk failed: look at its log, and at the free space".to_owned());
    }
    match facts.eviction.as_deref() {
        Some("noeviction") => add("eviction", Level::Ok, "noeviction".to_owned()),
        Some(other) => add(
            "eviction",
            Level::Fail,
            format!("{other}: requests would be thrown away when memory is full; set maxmemory-policy noeviction"),
        ),
        None => add("eviction", Level::Unknown, "INFO is forbidden".to_owned()),
    }
    if let Some((used, most)) = facts.memory {
        let (level, limit) = match most {
            0 => (Level::Warn, "no maxmemory: a long queue could take all that the machine has".to_owned()),
            _ if used * 10 > most * 9 => (Level::Warn, format!("of {}: nearly full", size(most))),
            _ => (Level::Ok, format!("of {}", size(most))),
        };
        add("memory", level, format!("{} used, {limit}", size(used)));
    }
    let level = if facts.latency.as_millis() >= 10 { Level::Warn } else { Level::Ok };
    add("latency", level, format!("{:.2} ms, the median of 50 PINGs", facts.latency.as_secs_f64() * 1000.0));
    let level = if facts.skew.abs() > 1000 { Level::Warn } else { Level::Ok };
    let advice = if level == Level::Ok { "" } else { ": delays and `expires` are off by that; use NTP" };
    add("clock", level, format!("Redis is {} ms {} of this machine{advice}", facts.skew.abs(), direction(facts.skew)));
    for (node, ahead) in facts.nodes_ahead.iter().filter(|(_, ahead)| *ahead > 1000) {
        add("clock", Level::Warn, format!("{node} is at least {ahead} ms ahead of Redis; use NTP"));
    }
    keys(facts, &mut add);
    match facts.living {
        0 => add("daemons", Level::Warn, "none lives: nobody answers".to_owned()),
        living => add("daemons", Level::Ok, format!("{living} alive")),
    }
    for (node, left) in &facts.dead_nodes {
        let hint = if facts.living > 0 { "another takes them back within two leases" } else { "start one" };
        add("daemons", Level::Warn, format!("{node} is dead and left {left} requests in flight: {hint}"));
    }
    if facts.dead >= 900 {
        add("dead list", Level::Warn, format!("{} of 1000 entries: the oldest are dropped soon", facts.dead));
    }
    checks
}

fn persistence(facts: &Facts) -> (Level, String) {
    let advice = "set appendonly yes";
    match (facts.has_log, facts.fsync.as_deref(), facts.snapshots.as_deref()) {
        (Some(true), Some("always"), _) => (Level::Ok, "append-only file, on disk before each answer".to_owned()),
        (Some(true), Some("no"), _) => (
            Level::Warn,
            "append-only file, but the system decides when it is on disk; set appendfsync everysec".to_owned(),
        ),
        (Some(true), fsync, _) => (Level::Ok, format!("append-only file, appendfsync {}", fsync.unwrap_or("not told"))),
        (Some(false), _, Some("")) => (Level::Warn, format!("none: a restart of Redis forgets all requests; {advice}")),
        (Some(false), _, _) => {
            (Level::Warn, format!("snapshots only: a crash of Redis loses minutes of requests; {advice}"))
        }
        (None, _, _) => (Level::Unknown, "INFO is forbidden".to_owned()),
    }
}

fn keys(facts: &Facts, add: &mut impl FnMut(&'static str, Level, String)) {
    let (seen, is_all) = facts.keys;
    let shown = if is_all { format!("{seen} keys") } else { format!("the first {seen} keys") };
    if facts.endless.is_empty() {
        add("keys", Level::Ok, format!("{shown}: each has an end or a bound"));
    } else {
        let names = facts.endless.join(", ");
        add("keys", Level::Warn, format!("{shown}; never end and are not ours: {names}"));
    }
    let (orphans, looked_at) = facts.orphans;
    if orphans > 0 {
        add(
            "bodies",
            Level::Warn,
            format!("{orphans} of {looked_at} CERBAS-REQ keys stand in no queue: a client set them and did not push"),
        );
    }
}

/// Whether all loops of the daemons turn.
fn loops(members: &[Member]) -> Check {
    let living: Vec<_> = members.iter().filter_map(|member| member.record.as_ref()).collect();
    let stalled = living.iter().flat_map(|node| node.status.stalled.iter().map(move |one| (&node.status.name, one)));
    let stalled: Vec<String> = stalled.map(|(name, one)| format!("{} of {name}", one.name)).collect();
    let (level, message) = match stalled.is_empty() {
        true => (Level::Ok, format!("those of {} daemons turn", living.len())),
        false => (Level::Fail, format!("do not turn any more: {}; restart these daemons", stalled.join(", "))),
    };
    Check { name: "loops", level, message }
}

/// Whether Redis lets the daemons do what they need.
fn rights(members: &[Member]) -> Check {
    let living = members.iter().filter_map(|member| member.record.as_ref());
    let missing = living.filter(|node| !node.status.missing_rights.is_empty());
    let missing: Vec<String> =
        missing.map(|node| format!("{}: {}", node.status.name, node.status.missing_rights.join(" "))).collect();
    let (level, message) = match missing.is_empty() {
        true => (Level::Ok, "redis lets the daemons do what they need".to_owned()),
        false => (
            Level::Fail,
            format!("redis does not let daemons do all that they need; ACL SETUSER for {}", missing.join(", ")),
        ),
    };
    Check { name: "rights", level, message }
}

/// Whether all that waits in queues waits for a daemon.
fn queues(queues: &[QueueLook]) -> Check {
    let unserved = queues.iter().filter(|queue| !queue.is_served && queue.length > 0);
    let unserved: Vec<String> = unserved.map(|queue| format!("{:?} ({})", queue.name, queue.length)).collect();
    let (level, message) = match unserved.is_empty() {
        true => (Level::Ok, "what waits stands in queues that daemons serve".to_owned()),
        false => (
            Level::Fail,
            format!(
                "no daemon serves these, in which requests wait: {}; a section [queues.NAME] lets one",
                unserved.join(", ")
            ),
        ),
    };
    Check { name: "queues", level, message }
}

/// What can be promised, in a few sentences.
fn promise(facts: &Facts) -> String {
    let node = "A daemon that dies loses nothing: others run its requests again. ";
    let redis = match (facts.has_log, facts.fsync.as_deref()) {
        (Some(true), Some("always")) => "A Redis that dies, or its machine, loses nothing that it has acknowledged.",
        (Some(true), _) => {
            "A Redis that is killed loses at most the last two seconds, and most often nothing; so does its machine without power."
        }
        (Some(false), _) => "A Redis that dies loses what came since its last snapshot, or all.",
        (None, _) => "What a Redis that dies loses depends on its persistence, which cannot be told here.",
    };
    let failover = match facts.replicas {
        Some(1..) => " A failover to a replica loses what had not reached it yet.",
        _ => "",
    };
    format!("{node}{redis}{failover}")
}

fn direction(skew: i64) -> &'static str {
    if skew < 0 { "behind the clock" } else { "ahead of the clock" }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::*;

    fn sound() -> Facts {
        Facts {
            version: Some("Redis 7.2.4".to_owned()),
            numbers: Some((7, 2)),
            role: Some("master".to_owned()),
            has_log: Some(true),
            fsync: Some("everysec".to_owned()),
            snapshots: Some(String::new()),
            could_write: Some(true),
            eviction: Some("noeviction".to_owned()),
            memory: Some((1 << 20, 1 << 30)),
            latency: Duration::from_micros(80),
            keys: (10, true),
            living: 1,
            ..Facts::default()
        }
    }

    #[track_caller]
    fn check(facts: Facts, name: &str, level: Level) {
        let checks = judge(&facts);
        let found = checks.iter().any(|check| check.name == name && check.level == level);
        assert!(found, "{name} should be {}: {checks:?}", level.word());
    }

    #[test]
    fn a_sound_redis_passes_every_check() {
        let checks = judge(&sound());
        assert!(checks.iter().all(|check| check.level == Level::Ok), "{checks:?}");
    }

    #[test]
    fn what_breaks_a_promise_fails() {
        check(Facts { numbers: Some((6, 0)), ..sound() }, "version", Level::Fail);
        check(Facts { role: Some("slave".to_owned()), ..sound() }, "role", Level::Fail);
        check(Facts { eviction: Some("allkeys-lru".to_owned()), ..sound() }, "eviction", Level::Fail);
        check(Facts { could_write: Some(false), ..sound() }, "disk", Level::Fail);
    }

    #[test]
    fn what_weakens_a_promise_is_a_warning() {
        check(Facts { has_log: Some(false), ..sound() }, "persistence", Level::Warn);
        check(Facts { fsync: Some("no".to_owned()), ..sound() }, "persistence", Level::Warn);
        check(Facts { memory: Some((1 << 20, 0)), ..sound() }, "memory", Level::Warn);
        check(Facts { latency: Duration::from_millis(30), ..sound() }, "latency", Level::Warn);
        check(Facts { skew: -5000, ..sound() }, "clock", Level::Warn);
        check(Facts { nodes_ahead: vec![("n".to_owned(), 5000)], ..sound() }, "clock", Level::Warn);
        check(Facts { endless: vec!["CERBAS-X".to_owned()], ..sound() }, "keys", Level::Warn);
        check(Facts { orphans: (1, 1), ..sound() }, "bodies", Level::Warn);
        check(Facts { dead_nodes: vec![("n".to_owned(), 3)], ..sound() }, "daemons", Level::Warn);
        check(Facts { living: 0, ..sound() }, "daemons", Level::Warn);
        check(Facts { dead: 1000, ..sound() }, "dead list", Level::Warn);
    }

    #[test]
    fn what_a_user_may_not_ask_cannot_be_told() {
        let checks = judge(&Facts { living: 1, ..Facts::default() });
        let unknown = checks.iter().filter(|check| check.level == Level::Unknown).count();
        assert_eq!(unknown, 4, "{checks:?}");
    }
}
