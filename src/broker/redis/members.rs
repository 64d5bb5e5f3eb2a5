//! Finding one of the daemons that live.

use redis::cmd;

use super::lease::read_record;
use super::{RedisBroker, lock};
use crate::broker::{Result, Whereabouts};
use crate::protocol::Node;

impl RedisBroker {
    /// Where the living daemon is that has `name` as its id or is called so; of several the one that started last is meant.
    pub(super) fn find(&self, name: &str) -> Result<Whereabouts> {
        if name == self.identity().name() || lock(&self.told).name == name {
            return Ok(Whereabouts::Here);
        }
        Ok(self.search(name)?.map_or(Whereabouts::Nowhere, Whereabouts::There))
    }

    fn search(&self, name: &str) -> Result<Option<String>> {
        let keys = &self.options.keys;
        lock(&self.asking).with(|connection| {
            let nodes: Vec<String> = cmd("ZRANGE").arg(keys.nodes()).arg(0).arg(-1).query(connection)?;
            if nodes.is_empty() {
                return Ok(None);
            }
            let mut leases = cmd("MGET");
            for node in &nodes {
                leases.arg(keys.lease(node));
            }
            let leases: Vec<Option<Vec<u8>>> = leases.query(connection)?;
            let living = leases.iter().flatten().filter_map(|lease| read_record(lease));
            Ok(choose(living, name))
        })
    }
}

fn choose(living: impl Iterator<Item = Node>, name: &str) -> Option<String> {
    let fitting = living.filter(|node| node.node == name || node.status.name == name);
    fitting.max_by_key(|node| (node.node == name, node.started)).map(|node| node.node)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::protocol::NodeStatus;

    fn node(id: &str, name: &str, started: u64) -> Node {
        let status = NodeStatus { name: name.to_owned(), ..NodeStatus::default() };
        Node { node: id.to_owned(), started, status, ..Node::default() }
    }

    #[test]
    fn an_id_goes_before_a_name_and_of_several_of_one_name_the_latest_is_meant() {
        let living = || [node("a.1", "web", 1), node("a.2", "web", 2), node("web", "db", 0)].into_iter();
        assert_eq!(choose(living(), "a.1").as_deref(), Some("a.1"));
        assert_eq!(choose(living().take(2), "web").as_deref(), Some("a.2"));
        assert_eq!(choose(living(), "web").as_deref(), Some("web"));
        assert_eq!(choose(living(), "other"), None);
    }
}
