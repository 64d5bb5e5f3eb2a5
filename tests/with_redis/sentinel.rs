//! A master that sentinels watch, and that another takes the place of.

use std::time::Duration;

use cerbas::broker::{Target, TargetOptions};
use cerbas::{Client, Server};
use redis::{Connection, cmd};
use serde_json::json;

use super::servers::RawServer;
use super::world::{PATIENCE, RETURN, config, eventually, within};

fn sentinel_of(master: &RawServer) -> RawServer {
    let lines = [
        format!("sentinel monitor main 127.0.0.1 {} 1", master.port),
        "sentinel down-after-milliseconds main 300".to_owned(),
        "sentinel failover-timeout main 2000".to_owned(),
    ];
    RawServer::start(&lines, &["--sentinel"])
}

/// What a server says that it is; nothing while it changes that, and closes its connections.
fn role(connection: &mut Connection) -> Option<String> {
    let role: Vec<redis::Value> = cmd("ROLE").query(connection).ok()?;
    redis::from_redis_value(role.into_iter().next()?).ok()
}

#[test]
fn after_a_failover_the_daemon_serves_from_the_new_master() {
    let mut master = RawServer::start(&[], &[]);
    let replica = RawServer::start(&[format!("replicaof 127.0.0.1 {}", master.port)], &[]);
    let sentinel = sentinel_of(&master);
    eventually("the sentinel knows the replica", || {
        let replicas: Vec<redis::Value> =
            cmd("SENTINEL").arg("replicas").arg("main").query(&mut sentinel.connect()).unwrap_or_default();
        replicas.len() == 1
    });
    eventually("the replica follows", || {
        let info: String = cmd("INFO").arg("replication").query(&mut replica.connect()).unwrap_or_default();
        info.contains("master_link_status:up")
    });

    let mut daemon_config = config("redis://127.0.0.1:1/0");
    daemon_config.redis.sentinels = vec!["127.0.0.1:1".to_owned(), sentinel.place()];
    daemon_config.redis.master_name = "main".to_owned();
    let daemon = Server::new(daemon_config).start().expect("the daemon starts");
    let options =
        TargetOptions { sentinels: vec![sentinel.place()], master_name: "main".to_owned(), ..TargetOptions::default() };
    let target = Target::with("redis://127.0.0.1:1/0", &options).expect("a URL");
    let ask = |patience: Duration| {
        Client::connect_with(&target, "CERBAS")
            .and_then(|client| client.patience(patience).call("sum", json!({"a": 1, "b": 2})))
    };
    assert_eq!(ask(PATIENCE), Ok(json!(3).into()));

    master.kill();
    eventually("the replica is the master", || role(&mut replica.connect()).as_deref() == Some("master"));
    within(RETURN, "a request is answered from the new master", || {
        ask(Duration::from_millis(500)) == Ok(json!(3).into())
    });
    let count: u64 = cmd("HGET").arg("CERBAS-VERDICTS").arg("ok").query(&mut replica.connect()).expect("it answers");
    assert!(count >= 1, "the new master has what the daemon writes");
    daemon.stop();
}

#[test]
fn a_master_that_the_sentinels_do_not_know_keeps_the_daemon_from_starting() {
    let master = RawServer::start(&[], &[]);
    let sentinel = sentinel_of(&master);
    let mut config = config("redis://127.0.0.1:1/0");
    config.redis.sentinels = vec![sentinel.place()];
    config.redis.master_name = "other".to_owned();
    let error = Server::new(config).start().expect_err("it does not start").to_string();
    assert!(error.contains("other by sentinels") && error.ends_with("other"), "{error}");
}
