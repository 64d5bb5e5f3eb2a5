//! That nothing is left behind in Redis for ever.

use std::collections::HashMap;
use std::time::Duration;

use cerbas::config::QueueConfig;
use cerbas::functions::{Delivery, Retries};
use cerbas::protocol::OnDuplicate;
use cerbas::{Call, Config, Server, Terms};
use redis::Pipeline;
use serde_json::{Value, json};

use super::world::{Foreign, World, eventually, scratch};

const REQUESTS: u64 = 100_000;

/// How many are sent before the last of them must be done.
const BATCH: u64 = 5_000;

/// The dead list keeps no more.
const MAX_DEAD: u64 = 1000;

#[test]
fn after_100_000_requests_every_key_has_an_end_or_a_bound() {
    let world = World::serving(scratch(), settings, functions);
    let mut foreign = world.foreign();
    for batch in 0..REQUESTS / BATCH {
        let mut pipe = redis::pipe();
        for number in batch * BATCH..(batch + 1) * BATCH {
            send_one(&mut pipe, number);
        }
        pipe.query::<()>(&mut foreign.connection).expect("Redis takes them");
        eventually("all are done", || foreign.waiting() == 0 && foreign.in_flight().is_empty());
    }
    foreign.send("waits", json!({"func": "hello", "delay": 3_600_000, "unique": "waits"}));
    eventually("nothing else waits", || is_quiet(&mut foreign));
    assert!(world.running.balance().holds(), "{:?}", world.running.balance());
    let verdicts: HashMap<String, u64> = foreign.ask(&["HGETALL", "CERBAS-VERDICTS"]);
    let sum = verdicts.values().sum::<u64>();
    assert_eq!(sum, world.running.balance().verdicts.iter().sum::<u64>(), "{verdicts:?}");
    // What is for all nodes is a request to this one, too, if there was time left to ask it.
    assert!((REQUESTS..=REQUESTS + REQUESTS / 20).contains(&sum), "{verdicts:?}");

    for key in all_keys(&mut foreign) {
        match key.as_str() {
            "CERBAS-COUNTER" | "CERBAS-SCHEMA" => assert_eq!(foreign.ask::<String>(&["TYPE", &key]), "string"),
            // A field for each verdict, and one for each function or queue that the configuration names.
            "CERBAS-VERDICTS" | "CERBAS-LIMITED" => assert!(foreign.ask::<u64>(&["HLEN", &key]) < 20, "{key}"),
            "CERBAS-QUEUES" | "CERBAS-NODES" => assert_eq!(foreign.ask::<u64>(&["ZCARD", &key]), 1, "{key}"),
            "CERBAS-DELAYED" => assert_eq!(foreign.ask::<u64>(&["ZCARD", &key]), 1, "{key}"),
            "CERBAS-REFUSED" => assert!(foreign.ask::<u64>(&["ZCARD", &key]) <= MAX_DEAD, "{key}"),
            "CERBAS-DEAD" => {
                let length = foreign.ask::<u64>(&["ZCARD", &key]);
                assert!((900..=MAX_DEAD).contains(&length), "{length}");
            }
            _ => {
                let longest = match key.as_str() {
                    answer if answer.starts_with("CERBAS-RESULT-") => 60,
                    lease if lease.starts_with("CERBAS-NODE-") => 10,
                    fence if fence.starts_with("CERBAS-FENCE-") => 2 * 24 * 60 * 60,
                    settled if settled.starts_with("CERBAS-SETTLED-") => 7 * 24 * 60 * 60,
                    "CERBAS-UNIQUE-request:hello:waits" | "CERBAS-HOLDS-waits" => 3600,
                    other => panic!("{other} is left: a {}", foreign.ask::<String>(&["TYPE", other])),
                };
                let left: i64 = foreign.ask(&["TTL", &key]);
                // An answer that ended since the keys were listed.
                assert!(left == -2 || (0..=longest).contains(&left), "{key} lives {left} s");
            }
        }
    }
}

fn settings(config: &mut Config) {
    config.queues.insert("bulk".to_owned(), QueueConfig { priority: 1, max_length: None });
}

fn functions(server: Server) -> Server {
    let quick = |_: &Call, args: Value| if args["fail"] == true { Err("it failed".into()) } else { Ok(args) };
    let retries = Retries { backoff: Duration::from_millis(10), ..Retries::default() };
    let at_most_once = Terms { delivery: Delivery::AtMostOnce, ..Terms::default() };
    let limited = Terms { cluster_concurrency: Some(2), ..Terms::default() };
    let unique = Terms { unique: Some(OnDuplicate::Reject), ..Terms::default() };
    server
        .function_with("quick", Terms { retries, ..Terms::default() }, quick)
        .function_with("once", at_most_once, quick)
        .function_with("limited", limited, quick)
        .function_with("alone", unique, quick)
}

/// Puts one request of many kinds at the end of its queue.
fn send_one(pipe: &mut Pipeline, number: u64) {
    let mut queue = "CERBAS-QUEUE";
    let mut request =
        json!({"id": format!("mixed-{number}"), "func": "echo", "args": {"message": number}, "reply": false});
    match number % 20 {
        0 => request["reply"] = json!(true),
        1 => request["func"] = json!("nothing"),
        2 => request["func"] = json!("witherror"),
        3 => request["delay"] = json!(1 + number % 1000),
        4 => {
            request = json!({"id": format!("retried-{number}"), "func": "quick", "args": {"fail": true}, "retries": 1})
        }
        5 => queue = "CERBAS-QUEUE-bulk",
        6 => queue = "CERBAS_QUEUE",
        7 => request["func"] = json!("once"),
        8 => request["func"] = json!("limited"),
        9 => request["func"] = json!("alone"),
        10 => request["unique"] = json!(format!("key-{}", number % 7)),
        11 => request["node"] = json!("*"),
        12 => request["node"] = json!("no such node"),
        13 => {
            request["expires"] = json!(1);
            request["sent_at"] = json!(1);
        }
        14 => {
            pipe.rpush(queue, format!("what is this: {number}")).ignore();
            return;
        }
        15 => {
            pipe.set(format!("CERBAS-REQ-{number:010}"), request.to_string()).ignore();
            pipe.rpush(queue, number).ignore();
            return;
        }
        // Its body is not there.
        16 => {
            pipe.rpush(queue, number).ignore();
            return;
        }
        _ => {}
    }
    pipe.rpush(queue, request.to_string()).ignore();
}

/// Whether only what must wait is waiting.
fn is_quiet(foreign: &mut Foreign) -> bool {
    let delayed: u64 = foreign.ask(&["ZCARD", "CERBAS-DELAYED"]);
    let bulk: u64 = foreign.ask(&["LLEN", "CERBAS-QUEUE-bulk"]);
    delayed == 1 && bulk == 0 && foreign.waiting() == 0 && foreign.in_flight().is_empty()
}

/// Every key of the database, in steps: so many are not listed at once.
fn all_keys(foreign: &mut Foreign) -> Vec<String> {
    redis::cmd("SCAN")
        .cursor_arg(0)
        .arg("COUNT")
        .arg(1000)
        .clone()
        .iter(&mut foreign.connection)
        .expect("Redis answers")
        .collect::<Result<_, _>>()
        .expect("a key is text")
}
