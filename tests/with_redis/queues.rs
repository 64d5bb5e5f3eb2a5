//! Several queues, their order, and how long they may get.

use std::time::Duration;

use cerbas::config::{QueueConfig, QueueOrder};
use cerbas::protocol::Verdict;
use cerbas::{Config, Running, Server};
use serde_json::json;

use super::world::{Foreign, Gate, PATIENCE, World, config, eventually, scratch};

fn queue(config: &mut Config, name: &str, priority: u32, max_length: Option<usize>) {
    config.queues.insert(name.to_owned(), QueueConfig { priority, max_length });
}

/// A daemon with one worker that is held by the first call of `held`, and lets the test see what starts.
fn held(change: impl FnOnce(&mut Config)) -> (World, Gate, Foreign) {
    let mut gate = None;
    let world = World::serving(
        scratch(),
        |config| {
            config.server.workers = 1;
            change(config);
        },
        |server| {
            let (server, held) = Gate::add(server, "held", PATIENCE);
            gate = Some(held);
            server
        },
    );
    let (mut foreign, gate) = (world.foreign(), gate.expect("it was added"));
    foreign.send("first", json!({"func": "held", "args": {"name": "first"}}));
    gate.next();
    (world, gate, foreign)
}

fn push(foreign: &mut Foreign, queue: &str, name: &str) {
    let request = json!({"id": name, "func": "held", "args": {"name": name}}).to_string();
    let _: i64 = foreign.ask(&["RPUSH", queue, &request]);
}

/// Lets what runs go; gives back the name of what starts next.
fn next(gate: &Gate) -> String {
    gate.go.send(()).expect("the function waits");
    gate.next()["name"].as_str().expect("the test's calls have names").to_owned()
}

#[test]
fn in_strict_order_a_queue_is_served_while_all_higher_ones_are_empty() {
    let (world, gate, mut foreign) = held(|config| {
        config.server.queue_order = QueueOrder::Strict;
        queue(config, "urgent", 10, None);
        queue(config, "low", 1, None);
        queue(config, "default", 5, None);
    });
    for number in 0..5 {
        push(&mut foreign, "CERBAS-QUEUE-low", &format!("low {number}").replace(' ', "-"));
        push(&mut foreign, "CERBAS-QUEUE", &format!("usual {number}").replace(' ', "-"));
        push(&mut foreign, "CERBAS-QUEUE-urgent", &format!("urgent {number}").replace(' ', "-"));
    }
    let started: Vec<String> = (0..15).map(|_| next(&gate)).collect();
    let wanted: Vec<String> = ["urgent", "usual", "low"]
        .iter()
        .flat_map(|name| (0..5).map(move |number| format!("{name}-{number}")))
        .collect();
    // Each lower queue may have claimed one while all were empty.
    let out_of_order = started.iter().zip(&wanted).filter(|(one, other)| one != other).count();
    assert!(out_of_order <= 12 && started[14].starts_with("low"), "{started:?}");
    let place = |name: &str| started.iter().rposition(|one| one.starts_with(name)).expect("all have started");
    assert!(place("urgent") <= 6 && place("usual") <= 11, "{started:?}");
    drop(gate);
    world.check_all_settled();
}

#[test]
fn in_weighted_order_the_queues_share_in_proportion_and_none_starves() {
    let (world, gate, mut foreign) = held(|config| {
        queue(config, "urgent", 6, None);
        queue(config, "low", 1, None);
        queue(config, "default", 3, None);
    });
    for number in 0..60 {
        for (queue, name) in [("-low", "low"), ("", "usual"), ("-urgent", "urgent")] {
            push(&mut foreign, &format!("CERBAS-QUEUE{queue}"), &format!("{name}-{number}"));
        }
    }
    let started: Vec<String> = (0..60).map(|_| next(&gate)).collect();
    let count = |name: &str| started.iter().filter(|one| one.starts_with(name)).count();
    let counts = [count("urgent"), count("usual"), count("low")];
    assert!(
        (30..=42).contains(&counts[0]) && (12..=24).contains(&counts[1]) && (3..=10).contains(&counts[2]),
        "{counts:?} of 60 for priorities 6, 3, 1"
    );
    drop(gate);
    eventually("all queues are empty", || foreign.keys("CERBAS*QUEUE*").iter().all(|key| key == "CERBAS-QUEUES"));
    world.check_all_settled();
}

#[test]
fn the_newest_beyond_the_longest_queue_are_rejected_while_all_workers_are_busy() {
    let (world, gate, mut foreign) = held(|config| queue(config, "default", 1, Some(10)));
    for number in 0..20 {
        push(&mut foreign, "CERBAS-QUEUE", &format!("n{number:02}"));
    }
    let overload = json!({"status": "error", "data": "overload", "verdict": "rejected"});
    for number in 11..20 {
        assert_eq!(foreign.answer(&format!("n{number}")), overload, "{number}");
    }
    assert!(foreign.waiting() <= 10 && foreign.stored("n09").is_none());
    assert!(world.running.balance().count(Verdict::Rejected) >= 9);
    drop(gate);
    assert_eq!(foreign.answer("n00")["status"], "ok");
    world.check_all_settled();
}

fn daemon(url: &str, change: impl FnOnce(&mut Config)) -> Running {
    let mut config = config(url);
    config.server.lease = Duration::from_secs(1);
    change(&mut config);
    Server::new(config).start().expect("the daemon starts")
}

#[test]
fn a_named_queue_is_served_and_its_length_seen() {
    let redis = scratch();
    let daemon = daemon(&redis.url(), |config| queue(config, "urgent", 2, None));
    let mut client = daemon.client().expect("Redis is there").queue("urgent");
    assert_eq!(client.call("sum", json!({"a": 1, "b": 2})), Ok(json!(3).into()));
    let mut foreign = Foreign::connect(&redis.url());
    eventually("the queue is registered", || {
        foreign.ask::<Vec<String>>(&["ZRANGE", "CERBAS-QUEUES", "0", "-1"]) == ["urgent"]
    });
    daemon.stop();
}

#[test]
fn what_a_dead_daemon_had_taken_goes_back_to_its_queue_also_by_one_that_does_not_serve_it() {
    let redis = scratch();
    let mut foreign = Foreign::connect(&redis.url());
    let _: i64 = foreign.ask(&["ZADD", "CERBAS-NODES", &cerbas_now(), "dead"]);
    let _: i64 = foreign.ask(&["ZADD", "CERBAS-QUEUES", &cerbas_now(), "urgent"]);
    for number in 0..3 {
        let element = json!({"id": format!("u{number}"), "func": "hello"}).to_string();
        let _: i64 = foreign.ask(&["RPUSH", "CERBAS-INFLIGHT-dead.queue.urgent", &element]);
        let element = json!({"id": format!("i{number}"), "func": "hello"}).to_string();
        let _: i64 = foreign.ask(&["RPUSH", "CERBAS-INBOX-dead", &element]);
        let element = json!({"id": format!("o{number}"), "func": "hello"}).to_string();
        let _: i64 = foreign.ask(&["RPUSH", "CERBAS-INFLIGHT-dead.once", &element]);
    }
    let daemon = daemon(&redis.url(), |_| {});
    eventually("all three are back", || foreign.ask::<u64>(&["LLEN", "CERBAS-QUEUE-urgent"]) == 3);
    let back: Vec<String> = foreign.ask(&["LRANGE", "CERBAS-QUEUE-urgent", "0", "-1"]);
    assert!(back[0].contains("u0") && back[2].contains("u2"), "{back:?}");
    for number in 0..3 {
        assert_eq!(foreign.answer(&format!("i{number}"))["data"], "hello world!", "its inbox is everybody's now");
        let lost = json!({"status": "error", "data": "lost", "verdict": "lost"});
        assert_eq!(foreign.answer(&format!("o{number}")), lost, "what must not run again does not");
    }
    daemon.stop();
}

fn cerbas_now() -> String {
    let now = std::time::SystemTime::now().duration_since(std::time::UNIX_EPOCH).expect("it is later than 1970");
    now.as_millis().to_string()
}
