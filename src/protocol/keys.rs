//! Every name of a Redis key or channel, and nowhere else a literal.

use std::fmt;

use super::RequestId;

/// The names of one prefix and one database.
#[derive(Debug, Clone)]
pub struct Keys {
    prefix: Box<str>,
    database: i64,
    extra_channels: Box<[Box<str>]>,
}

/// The start of a channel that carries MessagePack; clients of old write it in small letters, too.
const MSGPACK: &str = "MSGPACK:";

impl Keys {
    /// The names that start with `prefix`, for a connection to `database`.
    pub fn new(prefix: &str, database: i64) -> Self {
        Keys { prefix: prefix.into(), database, extra_channels: Box::default() }
    }

    /// Publishes also on these channels, in which `{prefix}`, `{db}` and `{id}` stand for the values of an answer.
    pub fn with_extra_channels(mut self, templates: &[String]) -> Self {
        self.extra_channels = templates.iter().map(|template| template.as_str().into()).collect();
        self
    }

    /// The queues that are served: the usual one first.
    pub fn queues(&self) -> [String; 2] {
        [self.queue(), format!("{}_QUEUE", self.prefix)]
    }

    /// The list that clients push to.
    pub fn queue(&self) -> String {
        format!("{}-QUEUE", self.prefix)
    }

    /// The key that numbers are drawn from.
    pub fn counter(&self) -> String {
        format!("{}-COUNTER", self.prefix)
    }

    /// The two keys in which the body of a numbered request may be: drivers of old and newer ones.
    pub fn bodies(&self, number: u64) -> [String; 2] {
        self.body_prefixes().map(|prefix| format!("{prefix}{number:010}"))
    }

    /// What [`Keys::bodies`] begin with.
    pub fn body_prefixes(&self) -> [String; 2] {
        [format!("{}-REQ-", self.prefix), format!("{}-REQUEST-", self.prefix)]
    }

    /// Where the answer is kept.
    pub fn result(&self, id: &RequestId) -> String {
        format!("{}-RESULT-{id}", self.prefix)
    }

    /// How far a request has come whose client asks for that: `accepted`, then `pending`; gone once there is a result.
    pub fn stage(&self, id: &RequestId) -> String {
        format!("{}-STAGE-{id}", self.prefix)
    }

    /// The channel on which it is told that such a request has come further, but for its answer; an empty id gives what all such names
    /// begin with.
    pub fn stage_channel(&self, id: impl fmt::Display) -> String {
        format!("{}-STAGE-{}-{id}", self.prefix, self.database)
    }

    /// The list of what daemons tell `asker`, who has asked them.
    pub fn reply(&self, asker: &str) -> String {
        format!("{}-REPLY-{asker}", self.prefix)
    }

    /// The channel of the answer in JSON; an empty id gives what all such names begin with.
    pub fn channel(&self, id: impl fmt::Display) -> String {
        format!("{}-RESPONSE-{}-{id}", self.prefix, self.database)
    }

    /// The channel of the answer in MessagePack.
    pub fn msgpack_channel(&self, id: &RequestId) -> String {
        format!("{MSGPACK}{}-RESPONSE-{}-{id}", self.prefix, self.database)
    }

    /// All channels on which an answer is published, and whether each carries MessagePack.
    pub fn channels(&self, id: &RequestId) -> Vec<(String, bool)> {
        let mut channels = vec![(self.channel(id), false), (self.msgpack_channel(id), true)];
        channels.extend(self.extra_channels.iter().map(|template| {
            let channel = template
                .replace("{prefix}", &self.prefix)
                .replace("{db}", &self.database.to_string())
                .replace("{id}", &id.to_string());
            let is_msgpack = channel.get(..MSGPACK.len()).is_some_and(|start| start.eq_ignore_ascii_case(MSGPACK));
            (channel, is_msgpack)
        }));
        channels
    }

    /// What a node has taken from one source and not yet answered. Each source has a list of its own, told by its `suffix`,
    /// so that it can be compared with what one intake holds; that of the usual queue is empty.
    pub fn in_flight(&self, node: &str, suffix: &str) -> String {
        format!("{}-INFLIGHT-{node}{suffix}", self.prefix)
    }

    /// All daemons, by the time of their last heartbeat.
    pub fn nodes(&self) -> String {
        format!("{}-NODES", self.prefix)
    }

    /// The lease of a node: it lives while this key does.
    pub fn lease(&self, node: &str) -> String {
        format!("{}-NODE-{node}", self.prefix)
    }

    /// Whether others have taken over what a node had in flight.
    pub fn fence(&self, node: &str) -> String {
        format!("{}-FENCE-{node}", self.prefix)
    }

    /// Which of its batches a daemon has settled last.
    pub fn settled(&self, node: &str) -> String {
        format!("{}-SETTLED-{node}", self.prefix)
    }

    /// Requests that were refused and that nobody waits for; apart from those that failed, so that a flood of them pushes none of those off.
    pub fn refused(&self) -> String {
        format!("{}-REFUSED", self.prefix)
    }

    /// What the counts of deliveries begin with; the id of the request follows.
    pub fn all_deliveries(&self) -> String {
        format!("{}-DELIVERIES-", self.prefix)
    }

    /// How often the request `id` was in flight when its daemon died.
    pub fn deliveries(&self, id: &RequestId) -> String {
        format!("{}-DELIVERIES-{id}", self.prefix)
    }

    /// Messages to a node.
    pub fn control(&self, node: &str) -> String {
        format!("{}-CONTROL-{node}", self.prefix)
    }

    /// The names of all further queues, by the time at which a daemon last served them.
    pub fn queue_names(&self) -> String {
        format!("{}-QUEUES", self.prefix)
    }

    /// The further queue called `name`.
    pub fn named_queue(&self, name: &str) -> String {
        format!("{}-QUEUE-{name}", self.prefix)
    }

    /// The requests that are for one node only.
    pub fn inbox(&self, node: &str) -> String {
        format!("{}-INBOX-{node}", self.prefix)
    }

    /// The requests that start one by one, as one more death of a daemon is their last.
    pub fn suspects(&self) -> String {
        format!("{}-SUSPECTS", self.prefix)
    }

    /// All lists in which a node can have something in flight, with those of the queues called `names`.
    pub fn all_in_flight<'a>(&self, node: &str, names: impl IntoIterator<Item = &'a str>) -> Vec<String> {
        let usual = ["", ".1", ".delayed", ".inbox", ".once"].map(str::to_owned);
        let suffixes = usual.into_iter().chain(names.into_iter().map(|name| format!(".queue.{name}")));
        suffixes.map(|suffix| format!("{}-INFLIGHT-{node}{suffix}", self.prefix)).collect()
    }

    /// Who holds a unique key.
    pub fn unique(&self, key: &str) -> String {
        format!("{}-UNIQUE-{key}", self.prefix)
    }

    /// The unique key that a request holds; an empty id gives what all such names begin with.
    pub fn holds(&self, id: impl fmt::Display) -> String {
        format!("{}-HOLDS-{id}", self.prefix)
    }

    /// The functions that may run only so often at once over all nodes, and how often.
    pub fn limited(&self) -> String {
        format!("{}-LIMITED", self.prefix)
    }

    /// Which calls of a function run at this moment, over all nodes.
    pub fn slots(&self, func: &str) -> String {
        format!("{}-SLOTS-{func}", self.prefix)
    }

    /// The calls of a function that wait for a place among those.
    pub fn parked(&self, func: &str) -> String {
        format!("{}-PARKED-{func}", self.prefix)
    }

    /// One of the keys on which the daemon `node` tries what it may do; it has them for a moment.
    pub fn probe(&self, node: &str, kind: &str) -> String {
        format!("{}-PROBE-{node}-{kind}", self.prefix)
    }

    /// The unique keys that runs of cron wait for, each as in [`unique`](Keys::unique).
    pub fn waited(&self) -> String {
        format!("{}-WAITED", self.prefix)
    }

    /// The runs that wait until nobody holds the unique key `key` any more.
    pub fn waiting(&self, key: &str) -> String {
        format!("{}-WAITING-{key}", self.prefix)
    }

    /// What `room` has sent and has not ended, by the ids of the requests.
    pub fn sent_by(&self, room: &str) -> String {
        format!("{}-{}-SENT", self.prefix, room.to_ascii_uppercase())
    }

    /// Which daemon has taken each of those.
    pub fn taken_of(&self, room: &str) -> String {
        format!("{}-{}-TAKEN", self.prefix, room.to_ascii_uppercase())
    }

    /// What a room calls `name`.
    pub fn of_room(&self, name: &str) -> String {
        format!("{}-{name}", self.prefix)
    }

    /// The request that waits until it is due under `name`, which another can replace.
    pub fn timer(&self, name: &str) -> String {
        format!("{}-TIMER-{name}", self.prefix)
    }

    /// What waits for its time.
    pub fn delayed(&self) -> String {
        format!("{}-DELAYED", self.prefix)
    }

    /// The version of all that is here.
    pub fn schema(&self) -> String {
        format!("{}-SCHEMA", self.prefix)
    }

    /// Whether a Redis Cluster keeps all our keys together: the prefix has a hash tag (Redis Cluster specification).
    pub fn is_of_one_slot(&self) -> bool {
        let tag = self.prefix.split_once('{').and_then(|(_, rest)| rest.split_once('}'));
        tag.is_some_and(|(tag, _)| !tag.is_empty())
    }

    /// How many requests ended with each verdict, over all daemons and times.
    pub fn verdicts(&self) -> String {
        format!("{}-VERDICTS", self.prefix)
    }

    /// What all keys match.
    pub fn pattern(&self) -> String {
        format!("{}[-_]*", escaped(&self.prefix))
    }

    /// What the keys of all further queues match.
    pub fn queue_pattern(&self) -> String {
        format!("{}*", escaped(&self.named_queue("")))
    }

    /// The number of the request whose body is in `key`.
    pub fn number_of_body(&self, key: &str) -> Option<u64> {
        self.body_prefixes().iter().find_map(|prefix| key.strip_prefix(prefix.as_str())?.parse().ok())
    }

    /// Whether `key` is one of ours that is bounded without having an end: it has a cap, or goes with what is in it.
    pub fn is_bounded(&self, key: &str) -> bool {
        const WHOLE: [&str; 16] = [
            "COUNTER",
            "VERDICTS",
            "SCHEMA",
            "QUEUE",
            "QUEUES",
            "NODES",
            "DELAYED",
            "DEAD",
            "LIMITED",
            "WAITED",
            "SUSPECTS",
            "CRON-ENTRIES",
            "CRON-LAST",
            "CRON-PAUSED",
            "CRON-SENT",
            "CRON-TAKEN",
        ];
        const BEGINNINGS: [&str; 6] = ["QUEUE-", "INBOX-", "INFLIGHT-", "PARKED-", "SLOTS-", "WAITING-"];
        let Some(rest) = key.strip_prefix(&*self.prefix) else { return false };
        let rest = &rest[rest.len().min(1)..];
        WHOLE.contains(&rest) || BEGINNINGS.iter().any(|beginning| rest.starts_with(beginning))
    }

    /// What failed and nobody else would hear of.
    pub fn dead(&self) -> String {
        format!("{}-DEAD", self.prefix)
    }
}

/// What is special in a pattern of Redis stands for itself in `text`.
fn escaped(text: &str) -> String {
    let escape = |character: char| match character {
        '*' | '?' | '[' | ']' | '\\' => format!("\\{character}"),
        other => other.to_string(),
    };
    text.chars().map(escape).collect()
}
