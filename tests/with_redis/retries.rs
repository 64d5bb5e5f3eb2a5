//! Calls that fail and are tried again.

use std::sync::Arc;
use std::sync::atomic::{AtomicU32, Ordering};
use std::time::Duration;

use cerbas::functions::Retries;
use cerbas::protocol::Verdict;
use cerbas::{NativeError, Server, Terms};
use serde_json::{Value, json};

use super::world::{Foreign, Gate, PATIENCE, World, eventually, scratch};

/// Adds `flaky`, which fails as often as it is told to and is tried again after moments; counts its runs.
fn flaky(server: Server, failures: u32, retries: Retries) -> (Server, Arc<AtomicU32>) {
    let runs = Arc::<AtomicU32>::default();
    let counted = Arc::clone(&runs);
    let terms = Terms { retries, ..Terms::default() };
    let server = server.function_with("flaky", terms, move |_call, _args: Value| {
        let run = counted.fetch_add(1, Ordering::SeqCst) + 1;
        if run <= failures { Err(NativeError::from(format!("failure {run}"))) } else { Ok(run) }
    });
    (server, runs)
}

fn soon(count: u32) -> Retries {
    Retries { count, backoff: Duration::from_millis(20), ..Retries::default() }
}

fn world(failures: u32, retries: Retries) -> (World, Arc<AtomicU32>) {
    let mut runs = Arc::default();
    let world = World::serving(
        scratch(),
        |_| {},
        |server| {
            let (server, counted) = flaky(server, failures, retries);
            runs = counted;
            server
        },
    );
    (world, runs)
}

fn dead(foreign: &mut Foreign) -> Vec<Value> {
    let entries: Vec<String> = foreign.ask(&["ZRANGE", "CERBAS-DEAD", "0", "-1"]);
    entries.iter().map(|entry| serde_json::from_str(entry).expect("it is JSON")).collect()
}

#[test]
fn a_call_that_fails_is_tried_again_and_its_caller_gets_the_value() {
    let (world, runs) = world(2, soon(3));
    let mut foreign = world.foreign();
    foreign.send("inline", json!({"func": "flaky"}));
    assert_eq!(foreign.answer("inline"), json!({"status": "ok", "data": 3}));
    assert_eq!(runs.load(Ordering::SeqCst), 3);
    world.check_all_settled();
    assert_eq!(world.running.balance().count(Verdict::Error), 0, "a failure that is tried again is no verdict");
    assert_eq!(dead(&mut foreign), [json!(null); 0]);
}

#[test]
fn a_numbered_request_keeps_its_id_over_its_retries_and_leaves_nothing_behind() {
    let (world, _) = world(1, soon(1));
    let mut foreign = world.foreign();
    let id = foreign.try_send_numbered(&json!({"func": "flaky"})).expect("Redis is there");
    assert_eq!(foreign.answer(&id), json!({"status": "ok", "data": 2}));
    world.check_all_settled();
    let mut keys = foreign.keys_of_requests();
    keys.sort();
    assert_eq!(keys, ["CERBAS-COUNTER".to_owned(), format!("CERBAS-RESULT-{id}")]);
}

#[test]
fn one_that_fails_to_the_end_is_answered_with_the_last_error_and_kept_whole() {
    let (world, runs) = world(u32::MAX, soon(2));
    let mut foreign = world.foreign();
    foreign.send("hopeless", json!({"func": "flaky", "args": {"table": "users"}, "source": "web"}));
    assert_eq!(foreign.answer("hopeless"), json!({"status": "error", "data": "failure 3"}));
    assert_eq!(runs.load(Ordering::SeqCst), 3);
    let entries = dead(&mut foreign);
    let [entry] = entries.as_slice() else { panic!("there is one entry: {entries:?}") };
    assert_eq!(
        (&entry["id"], &entry["verdict"], &entry["message"], &entry["func"], &entry["attempts"]),
        (&json!("hopeless"), &json!("error"), &json!("failure 3"), &json!("flaky"), &json!(3))
    );
    assert_eq!((&entry["request"]["args"], &entry["request"]["source"]), (&json!({"table": "users"}), &json!("web")));
    assert!(entry["first_at"].as_u64() <= entry["at"].as_u64() && entry["node"].is_string(), "{entry}");
}

#[test]
fn a_request_may_ask_for_retries_and_forbid_them() {
    let (world, runs) = world(u32::MAX, soon(1));
    let mut foreign = world.foreign();
    foreign.send("none", json!({"func": "flaky", "retries": 0}));
    assert_eq!(foreign.answer("none"), json!({"status": "error", "data": "failure 1"}));
    foreign.send("two", json!({"func": "flaky", "retries": 2}));
    assert_eq!(foreign.answer("two"), json!({"status": "error", "data": "failure 4"}));
    assert_eq!(runs.load(Ordering::SeqCst), 4);
}

#[test]
fn a_function_can_say_that_to_try_again_is_pointless() {
    let world = World::serving(
        scratch(),
        |_| {},
        |server| {
            let terms = Terms { retries: soon(5), ..Terms::default() };
            server.function_with("final", terms, |_call, _args: Value| -> Result<(), _> {
                Err(NativeError::for_good("no such table"))
            })
        },
    );
    let mut foreign = world.foreign();
    foreign.send("id", json!({"func": "final"}));
    assert_eq!(foreign.answer("id"), json!({"status": "error", "data": "no such table", "retry": false}));
    assert_eq!(world.running.balance().count(Verdict::Error), 1);
}

#[test]
fn a_failure_that_nobody_waits_for_is_kept() {
    let (world, _) = world(u32::MAX, Retries::default());
    let mut foreign = world.foreign();
    foreign.send("unwatched", json!({"func": "flaky", "reply": false}));
    eventually("it is on the dead list", || !dead(&mut foreign).is_empty());
    assert_eq!(dead(&mut foreign)[0]["message"], "failure 1");
    foreign.send("watched", json!({"func": "flaky"}));
    foreign.answer("watched");
    assert_eq!(dead(&mut foreign).len(), 1, "whoever waits has been told");
}

#[test]
fn what_is_tried_again_does_not_wait_behind_the_backlog() {
    let mut gate = None;
    let world = World::serving(
        scratch(),
        |config| config.server.workers = 1,
        |server| {
            let (server, _) = flaky(server, 1, soon(1));
            let (server, held) = Gate::add(server, "held", PATIENCE);
            gate = Some(held);
            server
        },
    );
    let gate = gate.expect("it was added");
    let mut foreign = world.foreign();
    foreign.send("held", json!({"func": "held"}));
    gate.next();
    foreign.send("again", json!({"func": "flaky"}));
    for number in 0..100 {
        foreign.send(&format!("backlog {number}").replace(' ', "-"), json!({"func": "held"}));
    }
    // One of the backlog may start before the retry is due, or one that was claimed meanwhile; not all of it.
    for _ in 0..10 {
        gate.go.send(()).expect("the function waits");
    }
    let mut started = 0;
    eventually("it has its value while the backlog waits", || {
        if gate.started.try_recv().is_ok() {
            started += 1;
            let _let_go = gate.go.send(());
        }
        foreign.stored("again").is_some()
    });
    assert!(foreign.waiting() > 0, "the backlog is not done: {started} started");
    drop(gate);
}

#[test]
fn a_retry_survives_the_end_of_its_daemon() {
    let (world, _) = world(u32::MAX, Retries { count: 1, backoff: Duration::from_secs(3600), ..Retries::default() });
    let mut foreign = world.foreign();
    foreign.send("later", json!({"func": "flaky"}));
    eventually("it waits for its next run", || foreign.ask::<u64>(&["ZCARD", "CERBAS-DELAYED"]) == 1);
    let waiting: Vec<String> = foreign.ask(&["ZRANGE", "CERBAS-DELAYED", "0", "-1"]);
    let waiting: Value = serde_json::from_str(&waiting[0]).expect("it is JSON");
    assert_eq!(
        (&waiting["id"], &waiting["attempt"], &waiting["last_error"]),
        (&json!("later"), &json!(1), &json!("failure 1"))
    );
    world.check_all_settled();
    assert_eq!(foreign.stored("later"), None, "it has no verdict yet");
}
