//! What unique keys are called.

use std::fmt;

/// A unique key. Keys of different kinds, and those that clients give for different functions, never meet, whatever texts clients choose.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum UniqueKey<'a> {
    /// A client has given it, for calls of one function.
    OfRequest {
        /// The function.
        func: &'a str,
        /// As the client calls it.
        key: &'a str,
    },
    /// The function has one for each set of arguments.
    OfFunction {
        /// The function.
        func: &'a str,
        /// The arguments, as JSON.
        args: &'a str,
    },
    /// A room has one for those of its requests that are not to run beside each other.
    OfRoom {
        /// The room.
        room: &'static str,
        /// As the room calls it.
        key: &'a str,
    },
}

impl fmt::Display for UniqueKey<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            UniqueKey::OfRequest { func, key } => write!(f, "request:{}:{key}", Closed(func)),
            UniqueKey::OfFunction { func, args } => write!(f, "function:{}:{args}", Closed(func)),
            UniqueKey::OfRoom { room, key } => write!(f, "{room}:{key}"),
        }
    }
}

/// A name with another behind it: where it ends can be told.
struct Closed<'a>(&'a str);

impl fmt::Display for Closed<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.chars().try_for_each(|character| match character {
            ':' => f.write_str("%3A"),
            '%' => f.write_str("%25"),
            other => write!(f, "{other}"),
        })
    }
}

#[cfg(test)]
mod tests {
    use std::collections::HashSet;

    use super::*;

    #[test]
    fn keys_of_different_kinds_and_functions_never_meet() {
        let texts = ["a", "a:b", "b", "b:c", ":", "::", "%3A", "a%3Ab", "cron:a", "request:a:b", ""];
        let mut keys = Vec::new();
        for first in texts {
            keys.push(UniqueKey::OfRoom { room: "cron", key: first });
            for second in texts {
                keys.push(UniqueKey::OfRequest { func: first, key: second });
                keys.push(UniqueKey::OfFunction { func: first, args: second });
            }
        }
        let names: HashSet<String> = keys.iter().map(UniqueKey::to_string).collect();
        assert_eq!(names.len(), keys.len());
        assert!(names.contains("request:a:b") && names.contains("cron:a"));
    }
}
