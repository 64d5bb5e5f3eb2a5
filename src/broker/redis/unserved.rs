//! Queues that no daemon serves. Any client can make one by pushing into it: a name that is mistyped, or was served once. What waits
//! there would wait for ever, so a daemon finds such a queue, and ends what is in it.
//!
//! A queue that was served in the last week keeps what it has: its daemons may be away for a while.

use std::collections::BTreeSet;
use std::sync::LazyLock;
use std::time::Duration;

use redis::{Connection, RedisResult, Script, cmd};

use super::{RedisBroker, lock};
use crate::broker::Source;
use crate::clock;
use crate::protocol::CallError;
use crate::protocol::keys::Keys;
use crate::said::tidy;

static CLAIM_UNSERVED: LazyLock<Script> = LazyLock::new(|| Script::new(include_str!("scripts/claim_unserved.lua")));

/// So long after it was found a queue that nobody has ever served may wait for a daemon: its configuration may be on its way.
const GRACE: Duration = Duration::from_mins(10);

/// So long after it was last served a queue keeps what it has.
const SERVED: Duration = Duration::from_hours(7 * 24);

/// How many keys are looked at with each heartbeat.
const PAGE: usize = 1000;

/// How many requests are ended with each heartbeat.
const MOST: usize = 200;

/// So many further queues are known at once, served and not.
const MOST_NOTED: usize = 1000;

/// So many names are in one line of the log, each up to so many characters.
const MOST_NAMED: usize = 20;
const LONGEST_NAME: usize = 80;

/// So many pages are looked at by somebody who asks.
const MOST_PAGES: usize = 20;

/// The names of the further queues that clients have made, as far as a look at some of the keys shows them; none for who may not look.
pub(super) fn look(connection: &mut Connection, keys: &Keys) -> RedisResult<BTreeSet<String>> {
    let (mut names, mut cursor) = (BTreeSet::new(), 0);
    for _ in 0..MOST_PAGES {
        match page(connection, keys, cursor) {
            Ok((next, found)) => {
                names.extend(found);
                cursor = next;
            }
            Err(error) if !error.is_io_error() => break,
            Err(error) => return Err(error),
        }
        if cursor == 0 {
            break;
        }
    }
    Ok(names)
}

/// Notes queues of which nobody knows; tells how many those were.
pub(super) fn note<'a>(
    connection: &mut Connection,
    keys: &Keys,
    names: impl IntoIterator<Item = &'a String>,
) -> RedisResult<u64> {
    // Before 1970: nobody has served it, and since when that is known.
    let since = -(clock::now() as i64);
    let mut note = cmd("ZADD");
    note.arg(keys.queue_names()).arg("NX");
    let mut names = names.into_iter().peekable();
    // Whoever looks for a request looks into each, for each daemon: the others have to wait until some of these have ended.
    if names.peek().is_none() || cmd("ZCARD").arg(keys.queue_names()).query::<usize>(connection)? >= MOST_NOTED {
        return Ok(0);
    }
    for name in names {
        note.arg(since).arg(name);
    }
    note.query(connection)
}

/// The names of the further queues among one page of all keys, and where the next page begins; 0: there is none.
pub(super) fn page(connection: &mut Connection, keys: &Keys, cursor: u64) -> RedisResult<(u64, Vec<String>)> {
    let prefix = keys.named_queue("");
    let mut scan = cmd("SCAN");
    scan.arg(cursor).arg("MATCH").arg(keys.queue_pattern()).arg("COUNT").arg(PAGE);
    let (next, found): (u64, Vec<Vec<u8>>) = scan.query(connection)?;
    let names =
        found.into_iter().filter_map(|key| Some(String::from_utf8(key).ok()?.strip_prefix(&prefix)?.to_owned()));
    Ok((next, names.collect()))
}

impl RedisBroker {
    /// Looks at some more keys for queues that nobody serves, and gives out what ends in them with the next claims. Who may not look
    /// leaves it to others.
    pub(super) fn look_for_unserved(&self, connection: &mut Connection) -> RedisResult<()> {
        match self.find_unserved(connection).and_then(|()| self.end_unserved(connection)) {
            Err(error) if !error.is_io_error() => {
                log::debug!("queues that nobody serves are not looked for: {error}");
                Ok(())
            }
            done => done,
        }
    }

    fn find_unserved(&self, connection: &mut Connection) -> RedisResult<()> {
        let keys = &self.options.keys;
        let mut cursor = lock(&self.unserved);
        let (next, mut names) = page(connection, keys, *cursor)?;
        *cursor = next;
        names.retain(|name| self.options.queues.iter().all(|queue| queue.name != *name));
        if note(connection, keys, &names)? > 0 {
            let names: Vec<String> = names.iter().take(MOST_NAMED).map(|name| tidy(name, LONGEST_NAME)).collect();
            log::warn!(
                "requests wait in queues that this daemon does not serve, and maybe none does: {}",
                names.join(", ")
            );
        }
        Ok(())
    }

    fn end_unserved(&self, connection: &mut Connection) -> RedisResult<()> {
        let keys = &self.options.keys;
        let identity = self.identity();
        let mut script = CLAIM_UNSERVED.key(keys.queue_names());
        script.key(&identity.once).key(&identity.fence).arg(keys.named_queue("")).arg(clock::now());
        script.arg(self.unserved_grace().as_millis() as u64).arg(SERVED.as_millis() as u64).arg(MOST);
        let (name, elements): (Option<String>, Vec<Vec<u8>>) = script.invoke(connection)?;
        if let Some(name) = name.filter(|_| !elements.is_empty()) {
            let (count, name) = (elements.len(), tidy(&name, LONGEST_NAME));
            log::error!("{count} requests are refused: no daemon serves the queue {name} in which they wait");
            let claimed = self.read(connection, &identity, Source::Queue(0), elements)?;
            self.give_out(claimed, &CallError::NoSuchQueue);
        }
        Ok(())
    }

    /// Not longer than a few leases, where those are short.
    fn unserved_grace(&self) -> Duration {
        GRACE.min(self.options.lease * 40)
    }
}
