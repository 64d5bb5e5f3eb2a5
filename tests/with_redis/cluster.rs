//! A Redis Cluster: all keys of one prefix are on one node, those of another maybe on another.

use cerbas::broker::{Target, TargetOptions};
use cerbas::{Client, Server};
use redis::{Connection, cmd};
use serde_json::json;

use super::servers::RawServer;
use super::world::{PATIENCE, RETURN, config, eventually, within};

const SLOTS: [(u16, u16); 3] = [(0, 5460), (5461, 10922), (10923, 16383)];

fn cluster() -> Vec<RawServer> {
    let lines = ["cluster-enabled yes".to_owned(), "cluster-node-timeout 2000".to_owned()];
    let nodes: Vec<RawServer> = (0..3).map(|_| RawServer::start(&lines, &[])).collect();
    for (node, (from, to)) in nodes.iter().zip(SLOTS) {
        let () = cmd("CLUSTER").arg("ADDSLOTSRANGE").arg(from).arg(to).query(&mut node.connect()).expect("it is new");
        let meet = cmd("CLUSTER").arg("MEET").arg("127.0.0.1").arg(nodes[0].port).take();
        let () = meet.query(&mut node.connect()).expect("it is new");
    }
    for node in &nodes {
        eventually("the cluster is whole", || {
            let info: String = cmd("CLUSTER").arg("INFO").query(&mut node.connect()).unwrap_or_default();
            info.contains("cluster_state:ok") && info.contains("cluster_known_nodes:3")
        });
    }
    nodes
}

fn slot(connection: &mut Connection, prefix: &str) -> u16 {
    cmd("CLUSTER").arg("KEYSLOT").arg(format!("{prefix}-QUEUE")).query(connection).expect("it answers")
}

/// A prefix whose keys belong to the node with this number.
fn prefix_of(nodes: &[RawServer], number: usize) -> String {
    let mut connection = nodes[0].connect();
    let fits = |slot: u16| (SLOTS[number].0..=SLOTS[number].1).contains(&slot);
    (0..).map(|count| format!("{{C{count}}}")).find(|prefix| fits(slot(&mut connection, prefix))).expect("there is one")
}

#[test]
fn prefixes_live_on_their_nodes_and_any_node_leads_there() {
    let nodes = cluster();
    let prefixes: Vec<String> = (1..3).map(|number| prefix_of(&nodes, number)).collect();
    let daemons: Vec<_> = prefixes
        .iter()
        .map(|prefix| {
            let mut config = config(&nodes[0].url());
            config.redis.prefix = prefix.clone();
            Server::new(config).start().expect("the daemon starts")
        })
        .collect();
    for (number, prefix) in prefixes.iter().enumerate() {
        let target = Target::new(&nodes[0].url(), None, None).expect("a URL");
        let mut client = Client::connect_with(&target, prefix).expect("it is there").patience(PATIENCE);
        for a in 0..50 {
            assert_eq!(client.call("sum", json!({"a": a, "b": 1})), Ok(json!(a + 1).into()));
        }
        assert!(client.call("witherror", json!({})).is_err());
        assert_eq!(client.retries(2).call("sum", json!({"a": 1, "b": 1})), Ok(json!(2).into()));
        let keys: Vec<String> = cmd("KEYS").arg("*").query(&mut nodes[number + 1].connect()).expect("it answers");
        assert!(!keys.is_empty() && keys.iter().all(|key| key.starts_with(prefix)), "{keys:?}");
    }
    let strays: Vec<String> = cmd("KEYS").arg("*").query(&mut nodes[0].connect()).expect("it answers");
    assert_eq!(strays, [""; 0]);
    for daemon in daemons {
        daemon.stop();
    }
}

#[test]
fn when_the_slot_moves_the_daemon_follows() {
    let nodes = cluster();
    let prefix = prefix_of(&nodes, 1);
    let mut daemon_config = config(&nodes[0].url());
    daemon_config.redis.prefix = prefix.clone();
    let daemon = Server::new(daemon_config).start().expect("the daemon starts");
    // The first one is not there: the next is asked.
    let options = TargetOptions { cluster: vec![nodes[0].place()], ..TargetOptions::default() };
    let target = Target::with("redis://127.0.0.1:1/0", &options).expect("a URL");
    let ask = || {
        let client = Client::connect_with(&target, &prefix)?.patience(std::time::Duration::from_millis(500));
        client.call_once()
    };
    assert_eq!(ask(), Ok(json!(3).into()));

    let slot = slot(&mut nodes[0].connect(), &prefix);
    let id: String = cmd("CLUSTER").arg("MYID").query(&mut nodes[2].connect()).expect("it answers");
    // Empty at that moment, so that nothing has to be carried over.
    let () = cmd("FLUSHALL").query(&mut nodes[1].connect()).expect("it answers");
    for number in [2, 1, 0] {
        let set = cmd("CLUSTER").arg("SETSLOT").arg(slot).arg("NODE").arg(&id).take();
        // What the daemon has written meanwhile keeps the old owner from giving the slot away.
        eventually("the slot is given away", || {
            let () = cmd("FLUSHALL").query(&mut nodes[number].connect()).unwrap_or_default();
            set.query::<()>(&mut nodes[number].connect()).is_ok()
        });
    }
    within(RETURN, "a request is answered at the new owner", || ask() == Ok(json!(3).into()));
    let keys: Vec<String> = cmd("KEYS").arg("*").query(&mut nodes[2].connect()).expect("it answers");
    assert!(keys.iter().any(|key| key.starts_with(&prefix)), "{keys:?}");
    daemon.stop();
}

trait CallOnce {
    fn call_once(self) -> Result<cerbas::protocol::Json, cerbas::ClientError>;
}

impl CallOnce for Client {
    fn call_once(mut self) -> Result<cerbas::protocol::Json, cerbas::ClientError> {
        self.call("sum", json!({"a": 1, "b": 2}))
    }
}

#[test]
fn what_a_cluster_cannot_do_is_said_at_start() {
    let nodes = cluster();
    let error = |change: &dyn Fn(&mut cerbas::Config)| {
        let mut config = config(&nodes[0].url());
        change(&mut config);
        Server::new(config).start().expect_err("it does not start").to_string()
    };
    let untagged = error(&|_| {});
    assert!(untagged.ends_with("prefix must be in braces, as {CERBAS}, on a Redis Cluster"), "{untagged}");
    let database = error(&|config| {
        config.redis.url = format!("redis://{}/1", nodes[0].place());
        config.redis.prefix = "{CERBAS}".to_owned();
    });
    assert!(database.ends_with("a cluster has database 0 only: end the URL with /0"), "{database}");
}
