//! What an error of Redis means: that it is away, that it refuses just this, or that an operator is needed.

use redis::{ErrorKind, RedisError, ServerErrorKind};

use crate::broker::Cause;

/// With these words Redis says that it serves nobody at this moment, or nobody who writes. Older ones say so in the middle of what a
/// script has failed of.
const AWAY: [&str; 12] = [
    "LOADING",
    "BUSY",
    "READONLY",
    "MASTERDOWN",
    "CLUSTERDOWN",
    "TRYAGAIN",
    "OOM",
    "MISCONF",
    "NOREPLICAS",
    "NOSCRIPT",
    "UNBLOCKED",
    "max number of clients",
];

/// What `error` means for whoever has asked.
pub(super) fn cause_of(error: &RedisError) -> Cause {
    let text = error.to_string();
    match error.kind() {
        _ if error.is_timeout() => Cause::Away,
        // A server that nobody vouches for does not get better by waiting.
        _ if error.is_io_error() && text.contains("certificate") => Cause::Permanent,
        ErrorKind::AuthenticationFailed | ErrorKind::InvalidClientConfig => Cause::Permanent,
        _ if matches!(error.code(), Some("NOAUTH" | "WRONGPASS")) => Cause::Permanent,
        ErrorKind::Server(ServerErrorKind::CrossSlot) => Cause::Permanent,
        _ if is_without_databases(&text) => Cause::Permanent,
        ErrorKind::Server(ServerErrorKind::Moved | ServerErrorKind::Ask) => Cause::Away,
        ErrorKind::Server(_) | ErrorKind::Extension => {
            let is_away = AWAY.into_iter().any(|word| text.contains(word) || error.code() == Some(word));
            if is_away { Cause::Away } else { Cause::Refused }
        }
        // What it answered is not what this command answers: nothing of it can be relied on.
        _ => Cause::Away,
    }
}

/// Whether Redis says in `text` that it is a cluster and was asked for a database by its number.
pub(super) fn is_without_databases(text: &str) -> bool {
    text.contains("SELECT is not allowed in cluster mode")
}

#[cfg(test)]
mod tests {
    use redis::{Value, parse_redis_value};

    use super::*;

    fn cause(reply: &str) -> Cause {
        let Ok(Value::ServerError(error)) = parse_redis_value(format!("-{reply}\r\n").as_bytes()) else {
            panic!("{reply} is an error")
        };
        cause_of(&RedisError::from(error))
    }

    #[test]
    fn what_redis_says_of_itself_can_be_waited_out() {
        for reply in [
            "LOADING Redis is loading the dataset in memory",
            "BUSY Redis is busy running a script. You can only call SCRIPT KILL or SHUTDOWN NOSAVE.",
            "READONLY You can't write against a read only replica.",
            "MASTERDOWN Link with MASTER is down and replica-serve-stale-data is set to 'no'.",
            "CLUSTERDOWN The cluster is down",
            "TRYAGAIN Multiple keys request during rehashing of slot",
            "OOM command not allowed when used memory > 'maxmemory'.",
            "MISCONF Redis is configured to save RDB snapshots, but it's currently unable to persist to disk.",
            "NOREPLICAS Not enough good replicas to write.",
            "NOSCRIPT No matching script. Please use EVAL.",
            "ERR max number of clients reached",
            // As Redis 6.2 tells of a script.
            "ERR Error running script (call to f_1): @user_script:3: -OOM command not allowed when used memory > 'maxmemory'.",
        ] {
            assert_eq!(cause(reply), Cause::Away, "{reply}");
        }
    }

    #[test]
    fn what_it_says_of_one_command_or_key_cannot() {
        for reply in [
            "WRONGTYPE Operation against a key holding the wrong kind of value",
            "WRONGTYPE Operation against a key holding the wrong kind of value script: 1f, on @user_script:17.",
            "NOPERM this user has no permissions to run the 'lpos' command",
            "NOPERM User c has no permissions to access the 'k' key",
            "ERR ACL failure in script: User c has no permissions to run the 'lpos' command script: 1f, on @user_script:6.",
            "ERR unknown command 'INFO', with args beginning with: ",
            "ERR value is not an integer or out of range",
            "ERR Error running script (call to f_1): @user_script:3: WRONGTYPE Operation against a key",
            "ERR Error running script (call to f_1): @user_script: 3: The user executing the script can't run this command or subcommand",
        ] {
            assert_eq!(cause(reply), Cause::Refused, "{reply}");
        }
    }

    #[test]
    fn what_it_says_of_who_asks_needs_an_operator() {
        for reply in
            ["NOAUTH Authentication required.", "WRONGPASS invalid username-password pair or user is disabled."]
        {
            assert_eq!(cause(reply), Cause::Permanent, "{reply}");
        }
    }
}
