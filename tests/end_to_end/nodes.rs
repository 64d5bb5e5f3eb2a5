//! A daemon without Redis sees itself.

use cerbas::protocol::Verdict;

use crate::support::{Daemon, becomes, configured};

#[test]
fn a_daemon_in_memory_is_its_own_only_node() {
    let daemon = Daemon::plain(configured("[server]\nname = \"embedded\"\nworkers = 2\nlease = \"1s\""));
    daemon.send("a", "one");
    daemon.answer("a");
    let told = || {
        let nodes = daemon.client().nodes().expect("memory is there");
        nodes
            .into_iter()
            .map(|node| (node.status.name, node.status.workers, node.status.verdicts[&Verdict::Ok]))
            .collect()
    };
    becomes(vec![("embedded".to_owned(), 2, 1)], told);
    let memory = daemon.memory().clone();
    daemon.stop();
    let mut client = cerbas::Client::over(Box::new(memory));
    assert_eq!(client.nodes().expect("memory is there"), []);
}
