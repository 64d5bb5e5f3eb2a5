//! What a broker of its own needs, for tests that look at one without a daemon.

use std::time::Duration;

use cerbas::broker::{QueueTerms, RedisOptions, Target};
use cerbas::protocol::keys::Keys;

/// The daemon `node` on the Redis at `url`, which lives for `lease` after each heartbeat.
pub(crate) fn options(url: &str, node: &str, lease: Duration) -> RedisOptions {
    RedisOptions {
        target: Target::new(url, None, None).expect("it is a URL"),
        keys: Keys::new("CERBAS", 1),
        node: node.to_owned(),
        result_ttl: Duration::from_secs(60),
        lease,
        max_deliveries: 3,
        queues: vec![QueueTerms::usual()],
        is_strict: false,
        longest: 1 << 20,
    }
}
