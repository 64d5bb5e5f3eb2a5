//! Requests that are for one node, or for all.

use std::time::Duration;

use cerbas::broker::ScratchRedis;
use cerbas::{Call, Running, Server, Terms};
use serde_json::{Value, json};

use super::world::{Foreign, PATIENCE, config, eventually, scratch};

/// A daemon called `name` that serves `whoami`.
fn daemon(redis: &ScratchRedis, name: &'static str) -> Running {
    let mut config = config(&redis.url());
    config.server.name = Some(name.to_owned());
    config.server.lease = Duration::from_secs(1);
    let terms = Terms { timeout: PATIENCE, ..Terms::default() };
    let server = Server::new(config).function("whoami", move |_: &Call, _: Value| Ok(name)).function_with(
        "ask",
        terms,
        |call: &Call, args: Value| Ok(call.call_on(args["node"].as_str().unwrap_or_default(), "whoami", json!({}))?),
    );
    server.start().expect("the daemon starts")
}

fn cluster() -> (ScratchRedis, Vec<Running>, Foreign) {
    let redis = scratch();
    let daemons: Vec<Running> = ["red", "green", "blue"].map(|name| daemon(&redis, name)).into();
    let foreign = Foreign::connect(&redis.url());
    eventually("all are members", || daemons[0].nodes().is_ok_and(|nodes| nodes.len() == 3));
    (redis, daemons, foreign)
}

#[test]
fn a_request_for_a_node_runs_there_whoever_takes_it_in_both_forms() {
    let (_redis, daemons, mut foreign) = cluster();
    let id_of_blue = daemons[0]
        .nodes()
        .expect("Redis is there")
        .into_iter()
        .find(|node| node.status.name == "blue")
        .map(|node| node.node);
    for round in 0..10 {
        for name in ["red", "green", "blue"] {
            let id = format!("{name}-{round}");
            foreign.send(&id, json!({"func": "whoami", "node": name}));
            assert_eq!(foreign.answer(&id), json!({"status": "ok", "data": name}));
        }
    }
    let number = foreign.try_send_numbered(&json!({"func": "whoami", "node": id_of_blue})).expect("Redis is there");
    assert_eq!(foreign.answer(&number), json!({"status": "ok", "data": "blue"}));
    foreign.send("delayed", json!({"func": "whoami", "node": "green", "delay": 1}));
    assert_eq!(foreign.answer("delayed"), json!({"status": "ok", "data": "green"}));
    eventually("nothing is left", || foreign.in_flight().is_empty() && foreign.keys("CERBAS-INBOX*").is_empty());
}

#[test]
fn a_request_for_a_node_that_is_not_there_is_rejected() {
    let (_redis, _daemons, mut foreign) = cluster();
    foreign.send("id", json!({"func": "whoami", "node": "yellow"}));
    let rejected = json!({"status": "error", "data": "no such node", "verdict": "rejected"});
    assert_eq!(foreign.answer("id"), rejected);
}

#[test]
fn a_request_for_all_nodes_gathers_the_answer_of_each() {
    let (_redis, daemons, mut foreign) = cluster();
    foreign.send("all", json!({"func": "whoami", "node": "*"}));
    let of = |name: &str| json!({"status": "ok", "data": name});
    let all = json!({"red": of("red"), "green": of("green"), "blue": of("blue")});
    assert_eq!(foreign.answer("all"), json!({"status": "ok", "data": all}));
    foreign.send("none", json!({"func": "none", "node": "*"}));
    assert_eq!(foreign.answer("none")["data"], "Undefined function");
    assert!(daemons.iter().all(|daemon| daemon.balance().holds()));
}

#[test]
fn a_function_of_one_node_calls_that_of_another() {
    let (_redis, _daemons, mut foreign) = cluster();
    foreign.send("id", json!({"func": "ask", "node": "red", "args": {"node": "blue"}}));
    assert_eq!(foreign.answer("id"), json!({"status": "ok", "data": "blue"}));
}

#[test]
fn what_is_in_the_inbox_of_a_node_that_ends_is_answered_by_the_others() {
    let (_redis, mut daemons, mut foreign) = cluster();
    let blue = daemons.pop().expect("there are three");
    let node =
        blue.nodes().expect("Redis is there").into_iter().find(|node| node.status.name == "blue").expect("it lives");
    blue.stop();
    let element = json!({"id": "late", "func": "whoami", "node": "blue"}).to_string();
    // As if it had been forwarded at the last moment, to one that has died since.
    let now = std::time::SystemTime::now().duration_since(std::time::UNIX_EPOCH).expect("it is later than 1970");
    let _: i64 = foreign.ask(&["ZADD", "CERBAS-NODES", &now.as_millis().to_string(), &node.node]);
    let _: i64 = foreign.ask(&["RPUSH", &format!("CERBAS-INBOX-{}", node.node), &element]);
    let rejected = json!({"status": "error", "data": "no such node", "verdict": "rejected"});
    assert_eq!(foreign.answer("late"), rejected);
}
