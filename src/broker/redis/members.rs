//! Which daemons live.

use redis::cmd;

use super::{RedisBroker, lock};
use crate::broker::Result;
use crate::protocol::Member;

impl RedisBroker {
    /// All that have a lease, by their ids.
    pub(super) fn living(&self) -> Result<Vec<Member>> {
        let keys = &self.options.keys;
        lock(&self.asking).with(|connection| {
            let nodes: Vec<String> = cmd("ZRANGE").arg(keys.nodes()).arg(0).arg(-1).query(connection)?;
            if nodes.is_empty() {
                return Ok(Vec::new());
            }
            let mut leases = cmd("MGET");
            for node in &nodes {
                leases.arg(keys.lease(node));
            }
            let leases: Vec<Option<Vec<u8>>> = leases.query(connection)?;
            let mut members: Vec<Member> =
                leases.iter().flatten().filter_map(|lease| serde_json::from_slice(lease).ok()).collect();
            members.sort_by(|one, other| one.node.cmp(&other.node));
            Ok(members)
        })
    }
}
