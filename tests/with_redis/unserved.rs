//! Queues that no daemon serves: what clients put there is not lost from sight, and ends.

use std::collections::HashSet;
use std::time::Duration;

use cerbas::broker::{Presence, RedisBroker, Source, Work};
use cerbas::protocol::CallError;
use cerbas::{Client, ClientError};
use serde_json::{Value, json};

use super::options::options;
use super::world::{Foreign, PATIENCE, Subscription, World, eventually, scratch};

/// A daemon that beats often, and knows no further queue.
fn world() -> World {
    World::with(scratch(), |config| config.server.lease = Duration::from_secs(1))
}

/// Nobody has ever served `queue`, and that has been known for long.
fn age(foreign: &mut Foreign, queue: &str) {
    let _: i64 = foreign.ask(&["ZADD", "CERBAS-QUEUES", "-1", queue]);
}

#[test]
fn what_waits_in_a_queue_that_nobody_has_ever_served_is_found_and_refused() {
    let world = world();
    let mut foreign = world.foreign();
    let _: () = foreign.ask(&["SET", "CERBAS-REQUEST-0000000777", r#"{"func": "hello"}"#]);
    let mut subscription = Subscription::to(&world.redis.url(), &["CERBAS-RESPONSE-1-waited"]);
    let elements = [
        r#"{"id": "waited", "func": "hello"}"#,
        r#"{"id": "forgotten", "func": "hello", "reply": false}"#,
        r#"{"func": "hello", "reply": false}"#,
        "777",
        "no request at all",
    ];
    for element in elements {
        let _: i64 = foreign.ask(&["RPUSH", "CERBAS-QUEUE-reprots", element]);
    }
    eventually("it is found", || foreign.ask::<Option<f64>>(&["ZSCORE", "CERBAS-QUEUES", "reprots"]).is_some());
    let since: f64 = foreign.ask(&["ZSCORE", "CERBAS-QUEUES", "reprots"]);
    assert!(since < 0.0, "nobody has served it: {since}");
    assert_eq!(foreign.ask::<usize>(&["LLEN", "CERBAS-QUEUE-reprots"]), elements.len(), "it has some time");
    age(&mut foreign, "reprots");
    for id in ["waited", "0000000777"] {
        let answer = foreign.answer(id);
        assert_eq!((&answer["verdict"], &answer["data"]), (&json!("rejected"), &json!("no such queue")), "{id}");
    }
    assert_eq!(subscription.next_json()["verdict"], "rejected");
    let refused = || -> HashSet<String> {
        let letters: Vec<String> = world.foreign().ask(&["ZRANGE", "CERBAS-REFUSED", "0", "-1"]);
        let id = |letter: &String| serde_json::from_str::<Value>(letter).ok()?["id"].as_str().map(str::to_owned);
        letters.iter().filter_map(id).collect()
    };
    eventually("what nobody waits for is on record", || refused().contains("forgotten") && refused().len() >= 2);
    world.check_all_settled();
    assert_eq!(world.running.balance().accepted, 5);
    eventually("the name is forgotten", || {
        foreign.ask::<Option<f64>>(&["ZSCORE", "CERBAS-QUEUES", "reprots"]).is_none()
    });
}

#[test]
fn a_queue_that_was_served_in_the_last_week_keeps_what_it_has() {
    let world = world();
    let mut foreign = world.foreign();
    let now: Vec<u64> = foreign.ask(&["TIME"]);
    let yesterday = (now[0] - 86_400) * 1000;
    let long_ago = (now[0] - 8 * 86_400) * 1000;
    let _: i64 = foreign.ask(&["RPUSH", "CERBAS-QUEUE-resting", r#"{"id": "rests", "func": "hello"}"#]);
    let _: i64 = foreign.ask(&["RPUSH", "CERBAS-QUEUE-over", r#"{"id": "over", "func": "hello"}"#]);
    let _: i64 =
        foreign.ask(&["ZADD", "CERBAS-QUEUES", &yesterday.to_string(), "resting", &long_ago.to_string(), "over"]);
    assert_eq!(foreign.answer("over")["data"], "no such queue");
    assert_eq!(foreign.ask::<usize>(&["LLEN", "CERBAS-QUEUE-resting"]), 1);
    assert_eq!(foreign.ask::<u64>(&["ZSCORE", "CERBAS-QUEUES", "resting"]), yesterday);
}

fn broker(url: &str, node: &str, lease: Duration) -> RedisBroker {
    RedisBroker::new(options(url, node, lease))
}

#[test]
fn what_a_daemon_has_taken_of_it_never_runs_also_where_that_daemon_dies() {
    let redis = scratch();
    let mut foreign = Foreign::connect(&redis.url());
    for number in 0..3 {
        let element = json!({"id": format!("taken-{number}"), "func": "hello"}).to_string();
        let _: i64 = foreign.ask(&["RPUSH", "CERBAS-QUEUE-nobody", &element]);
    }
    age(&mut foreign, "nobody");
    let victim = broker(&redis.url(), "victim.1", Duration::from_millis(100));
    victim.heartbeat().expect("Redis is there");
    let claimed = victim.claim(Source::Queue(0), 10, Duration::ZERO).expect("Redis is there");
    let ends: Vec<Option<&CallError>> = claimed.iter().map(|claimed| claimed.end.as_ref()).collect();
    assert_eq!(ends, [Some(&CallError::NoSuchQueue); 3]);
    let survivor = broker(&redis.url(), "survivor.1", PATIENCE);
    let mut taken = Vec::new();
    eventually("another daemon has them", || {
        survivor.heartbeat().expect("Redis is there");
        taken.extend(survivor.claim(Source::Queue(0), 10, Duration::ZERO).expect("Redis is there"));
        taken.len() >= 3
    });
    assert!(taken.iter().all(|claimed| claimed.end == Some(CallError::Lost)), "{taken:?}");
    assert_eq!(foreign.waiting(), 0);
}

#[test]
fn a_client_does_not_send_where_nobody_is() {
    let redis = scratch();
    let client = |queue: &str| Client::connect(&redis.url()).expect("Redis is there").queue(queue);
    // Nobody has been here yet, so nobody can tell.
    client("early").send("hello", json!({})).expect("it is taken");
    let world = World::with(redis, |config| {
        config.server.lease = Duration::from_secs(1);
        let terms = cerbas::config::QueueConfig { priority: 1, max_length: None };
        config.queues.insert("reports".to_owned(), terms);
    });
    let client = |queue: &str| Client::connect(&world.redis.url()).expect("Redis is there").queue(queue);
    eventually("a daemon is there", || {
        world.foreign().ask::<Option<f64>>(&["ZSCORE", "CERBAS-QUEUES", "reports"]).is_some()
    });
    for queue in ["reprots", "QUEUE", "default-", ""] {
        for refused in
            [client(queue).send("hello", json!({})).map(drop), client(queue).call("hello", json!({})).map(drop)]
        {
            assert!(matches!(&refused, Err(ClientError::NoSuchQueue(name)) if name == queue), "{queue}: {refused:?}");
        }
    }
    let mut foreign = world.foreign();
    assert_eq!(foreign.keys("CERBAS-QUEUE-*"), ["CERBAS-QUEUE-early"]);
    for queue in ["reports", "default"] {
        assert_eq!(client(queue).call("hello", json!({})).expect("it is served"), json!("hello world!"));
    }
    // Found by a daemon is not served.
    eventually("it is found", || foreign.ask::<Option<f64>>(&["ZSCORE", "CERBAS-QUEUES", "early"]).is_some());
    assert!(matches!(client("early").send("hello", json!({})), Err(ClientError::NoSuchQueue(_))));
}

#[test]
fn who_may_not_look_for_queues_serves_and_sends_all_the_same() {
    let redis = scratch();
    let mut foreign = Foreign::connect(&redis.url());
    let _: () = foreign.ask(&["ACL", "SETUSER", "blind", "on", ">secret", "~*", "&*", "+@all", "-scan", "-zscore"]);
    let url = redis.url().replace("redis://", "redis://blind:secret@");
    let _: i64 = foreign.ask(&["RPUSH", "CERBAS-QUEUE-nobody", r#"{"func": "hello"}"#]);
    let world = World::with(redis, |config| {
        config.redis.url.clone_from(&url);
        config.server.lease = Duration::from_secs(1);
    });
    let mut client = Client::connect(&url).expect("Redis is there");
    assert_eq!(client.call("hello", json!({})).expect("it is served"), json!("hello world!"));
    client.queue("nobody").send("hello", json!({})).expect("nobody can tell");
    let beats = || {
        world.foreign().ask::<f64>(&[
            "ZSCORE",
            "CERBAS-NODES",
            &world.foreign().ask::<Vec<String>>(&["ZRANGE", "CERBAS-NODES", "0", "0"])[0],
        ])
    };
    let before = beats();
    eventually("it beats on", || beats() > before);
}
