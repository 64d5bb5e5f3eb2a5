//! Which rights in Redis are missing. A user who may not run one of the commands that we use, or not touch our keys, is found before
//! the first request needs it: each is tried on keys that are nobody's.

use redis::{Cmd, Connection, RedisResult, Value, cmd};

use super::link::exchange_raw;
use super::{RedisBroker, lock};
use crate::protocol::RequestId;
use crate::protocol::keys::Keys;

/// What its connection is called.
const NAME: &str = "cerbas-rights";

/// So long what is tried may stay, in seconds, if we die in the middle.
const TTL: &str = "60";

/// Every command without which a daemon cannot do its work, with arguments behind its name. `L`, `M`, `Z`, `H`, `S` and `T` are keys of a
/// list, another list, a sorted set, a hash, a set and a text, `C` is each channel of an answer. Each finds what it needs.
const USED: &[&str] = &[
    "DEL L M Z H S T",
    "SET T 1 EX TTL",
    "GET T",
    "MGET T",
    "EXISTS T",
    "INCR T",
    "EXPIRE T TTL",
    "PEXPIRE T TTL000",
    "TTL T",
    "PTTL T",
    "RPUSH L a b c d e f g h",
    "EXPIRE L TTL",
    "LPUSH L a",
    "LLEN L",
    "LRANGE L 0 0",
    "LINDEX L 0",
    "LPOS L a",
    "LREM L 1 a",
    "LSET L 0 a",
    "LTRIM L 0 9",
    "LMOVE L M LEFT RIGHT",
    "EXPIRE M TTL",
    "BLMOVE L M LEFT RIGHT 0.01",
    "BLPOP L 0.01",
    "LPOP L",
    "RPOP L",
    "ZADD Z 1 a",
    "EXPIRE Z TTL",
    "ZRANGE Z 0 0",
    "ZRANGEBYSCORE Z 1 1",
    "ZSCORE Z a",
    "ZCARD Z",
    "ZREM Z b",
    "ZREMRANGEBYSCORE Z 2 2",
    "ZREMRANGEBYRANK Z 2 2",
    "HSET H a 1",
    "EXPIRE H TTL",
    "HSETNX H a 1",
    "HGET H a",
    "HGETALL H",
    "HKEYS H",
    "HVALS H",
    "HLEN H",
    "HEXISTS H a",
    "HINCRBY H a 1",
    "HDEL H b",
    "SADD S a",
    "EXPIRE S TTL",
    "SMEMBERS S",
    "SREM S b",
    "PUBLISH C probe",
    "TIME",
    "EVAL return(1) 0",
    "EVALSHA 0000000000000000000000000000000000000000 0",
    "SCRIPT LOAD return(1)",
    "CLIENT ID",
    "CLIENT UNBLOCK 0",
    "DEL L M Z H S T",
];

/// The same of those that are about transactions.
const USED_FIRST: &[&str] = &["WATCH T", "UNWATCH", "MULTI", "EXEC"];

/// One of those that are used, and the rule of `ACL SETUSER` for what it is done on, a key or a channel.
struct Probe {
    command: Cmd,
    line: &'static str,
    object: String,
}

/// The commands of `lines` on keys for the daemon `node`.
fn probes(lines: &[&'static str], keys: &Keys, node: &str) -> Vec<Probe> {
    let id = RequestId::Text(format!("probe.{node}").into());
    let mut channels: Vec<String> = keys.channels(&id).into_iter().map(|(channel, _)| channel).collect();
    channels.push(keys.stage_channel(&id));
    let mut probes = Vec::new();
    for line in lines {
        let of_channels = channels.iter().map(Some).filter(|_| line.contains(" C "));
        let of_key = (!line.contains(" C ")).then_some(None);
        for channel in of_channels.chain(of_key) {
            let mut words = line.split(' ');
            let mut command = cmd(words.next().expect("it has a name"));
            for word in words {
                match word {
                    "L" | "M" | "Z" | "H" | "S" | "T" => command.arg(keys.probe(node, word)),
                    "C" => command.arg(channel),
                    word => command.arg(word.replace("TTL", TTL)),
                };
            }
            let object = channel.map_or_else(
                || format!("~{}", keys.pattern()),
                |channel| format!("&{}*", channel.strip_suffix(&*id.to_string()).unwrap_or(channel)),
            );
            probes.push(Probe { command, line, object });
        }
    }
    probes
}

/// Tries all on a connection of its own, and gives back what is missing, as rules of `ACL SETUSER`.
///
/// Rights are asked for when a command comes, also in a transaction, and this one never ends: so nothing is done, and nobody is told of an
/// answer that is none. Who has no transactions does what concerns our scratch keys only.
fn try_all(mut connection: Connection, keys: &Keys, node: &str) -> RedisResult<Vec<String>> {
    let mut missing = Vec::new();
    try_some(&mut connection, probes(USED_FIRST, keys, node), &mut missing)?;
    let mut others = probes(USED, keys, node);
    let has_transactions = missing.is_empty();
    if has_transactions {
        others.insert(0, Probe { command: cmd("MULTI"), line: "MULTI", object: String::new() });
    } else {
        others.retain(|probe| probe.object.starts_with('~'));
    }
    try_some(&mut connection, others, &mut missing)?;
    Ok(missing)
}

fn try_some(connection: &mut Connection, probes: Vec<Probe>, missing: &mut Vec<String>) -> RedisResult<()> {
    let bytes: Vec<u8> = probes.iter().flat_map(|probe| probe.command.get_packed_command()).collect();
    for (probe, reply) in probes.iter().zip(exchange_raw(connection, &bytes, probes.len())?) {
        let Value::ServerError(error) = reply else { continue };
        let details = error.details().unwrap_or_default();
        // Of EXEC it is the reason of another error.
        if error.code() != "NOPERM" && !details.contains("NOPERM") {
            continue;
        }
        let is_of_command = details.contains("command");
        let rule = if is_of_command { format!("+{}", command_of(probe.line)) } else { probe.object.clone() };
        if !missing.contains(&rule) {
            missing.push(rule);
        }
    }
    Ok(())
}

/// The command that `line` runs, as a rule names it.
fn command_of(line: &str) -> String {
    let mut words = line.split(' ').map(str::to_lowercase);
    let name = words.next().unwrap_or_default();
    match (&*name, words.next()) {
        ("client" | "script", Some(subcommand)) => format!("{name}|{subcommand}"),
        _ => name,
    }
}

impl RedisBroker {
    /// Tries what we use, on a connection of its own, and says what is missing if that has changed. Where Redis is away that is told
    /// elsewhere.
    pub(super) fn try_rights(&self) {
        let target = &self.options.target;
        // Who may not touch our keys cannot ask who owns them.
        let opened = target.connect(NAME).or_else(|error| match error.is_refusal() {
            true => target.owning_nothing().connect(NAME),
            false => Err(error),
        });
        let tried = opened.map(|connection| try_all(connection, &self.options.keys, self.identity().name()));
        let Ok(Ok(found)) = tried else { return };
        let mut known = lock(&self.missing_rights);
        if *known == found {
            return;
        }
        if found.is_empty() {
            log::info!("redis: no right is missing any more");
        } else {
            log::error!("{}", describe(self.options.target.user(), &found));
        }
        *known = found;
    }

    /// What is missing, for people.
    pub(super) fn missing_rights(&self) -> Option<String> {
        let missing = lock(&self.missing_rights);
        (!missing.is_empty()).then(|| describe(self.options.target.user(), &missing))
    }
}

fn describe(user: &str, missing: &[String]) -> String {
    format!("redis does not let the user {user} do all that cerbas needs; ACL SETUSER {user} {}", missing.join(" "))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_command_is_called_as_rules_name_it() {
        assert_eq!(command_of("LMOVE L M LEFT RIGHT"), "lmove");
        assert_eq!(command_of("CLIENT UNBLOCK 0"), "client|unblock");
        assert_eq!(command_of("SCRIPT LOAD return(1)"), "script|load");
        assert_eq!(command_of("MULTI"), "multi");
    }
}
