//! Requests that a daemon is told to cancel.

use std::time::{Duration, Instant};

use cerbas::protocol::Verdict;
use cerbas::{Call, Config, Terms};
use serde_json::{Value, json};

use super::world::{Foreign, PATIENCE, World, eventually, scratch};

/// Tells the daemon that holds `id` to cancel it, as an operator's command does.
#[track_caller]
fn cancel(foreign: &mut Foreign, id: &str) {
    let mut node = None;
    eventually("a daemon has taken it", || {
        node = foreign.keys("CERBAS-INFLIGHT-*").into_iter().find(|list| {
            foreign.ask::<Vec<String>>(&["LRANGE", list, "0", "-1"]).iter().any(|element| element.contains(id))
        });
        node.is_some()
    });
    let node = node.expect("it was found").replace("CERBAS-INFLIGHT-", "CERBAS-CONTROL-");
    let _: i64 = foreign.ask(&["RPUSH", &node, &json!({"cancel": id}).to_string()]);
}

fn cancelled() -> Value {
    json!({"status": "error", "data": "cancelled", "verdict": "cancelled"})
}

fn with_command(config: &mut Config) {
    let nothing: [(&str, &str); 0] = [];
    let text = "[functions.sleep]\ncommand = ['sleep', '60']\ntimeout = '60s'";
    let more = Config::from_text(text, "cerbas.toml", nothing).expect("the function is well configured");
    config.functions.extend(more.functions);
}

#[test]
fn a_running_command_is_killed_and_its_caller_told_within_a_second() {
    let world = World::with(scratch(), with_command);
    let mut foreign = world.foreign();
    foreign.send("long", json!({"func": "sleep"}));
    eventually("it runs", || world.running.pool().idle + 1 == world.running.pool().workers);
    let start = Instant::now();
    cancel(&mut foreign, "long");
    assert_eq!(foreign.answer("long"), cancelled());
    eventually("its worker is free again", || world.running.pool().idle == world.running.pool().workers);
    assert!(start.elapsed() < Duration::from_secs(10), "the command would have run for a minute");
    assert_eq!(world.running.balance().count(Verdict::Cancelled), 1);
    world.check_all_settled();
}

#[test]
fn a_native_function_is_told_and_its_late_value_dropped() {
    let (told, was_told) = crossbeam_channel::unbounded();
    let world = World::serving(
        scratch(),
        |_| {},
        |server| {
            let terms = Terms { timeout: PATIENCE, ..Terms::default() };
            server.function_with("patient", terms, move |call: &Call, _args: Value| {
                call.cancel.wait(PATIENCE);
                told.send(call.is_cancelled()).expect("the test looks");
                Ok("late")
            })
        },
    );
    let mut foreign = world.foreign();
    foreign.send("native", json!({"func": "patient"}));
    eventually("it runs", || world.running.pool().idle + 1 == world.running.pool().workers);
    cancel(&mut foreign, "native");
    assert_eq!(foreign.answer("native"), cancelled());
    assert_eq!(was_told.recv_timeout(PATIENCE), Ok(true));
    world.check_all_settled();
}

#[test]
fn one_that_waits_for_a_worker_never_starts() {
    let world = World::serving(
        scratch(),
        |config| config.server.workers = 2,
        |server| {
            let terms = Terms { concurrency: Some(1), timeout: PATIENCE, ..Terms::default() };
            server.function_with("single", terms, |call: &Call, _args: Value| {
                call.cancel.wait(PATIENCE);
                Ok(())
            })
        },
    );
    let mut foreign = world.foreign();
    foreign.send("first", json!({"func": "single"}));
    foreign.send("second", json!({"func": "single"}));
    eventually("the first runs and the second is parked", || {
        let pool = world.running.pool();
        pool.busy == 1 && pool.waiting == 1
    });
    cancel(&mut foreign, "second");
    assert_eq!(foreign.answer("second"), cancelled());
    assert_eq!(foreign.stored("first"), None, "the first runs on");
    cancel(&mut foreign, "first");
    assert_eq!(foreign.answer("first"), cancelled());
    world.check_all_settled();
}

#[test]
fn who_shares_a_run_is_cancelled_alone_and_the_run_with_the_last_one() {
    let (ended, has_ended) = crossbeam_channel::unbounded();
    let world = World::serving(
        scratch(),
        |_| {},
        |server| {
            let terms = Terms { cache: Some(PATIENCE), timeout: PATIENCE, ..Terms::default() };
            server.function_with("shared", terms, move |call: &Call, _args: Value| {
                let was_cancelled = call.cancel.wait(PATIENCE);
                ended.send(was_cancelled).expect("the test looks");
                Ok(())
            })
        },
    );
    let mut foreign = world.foreign();
    foreign.send("one", json!({"func": "shared"}));
    foreign.send("two", json!({"func": "shared"}));
    eventually("both are in flight", || world.running.balance().in_flight == 2);
    cancel(&mut foreign, "one");
    assert_eq!(foreign.answer("one"), cancelled());
    assert!(has_ended.is_empty(), "the run goes on for the other");
    cancel(&mut foreign, "two");
    assert_eq!(foreign.answer("two"), cancelled());
    assert_eq!(has_ended.recv_timeout(PATIENCE), Ok(true));
    world.check_all_settled();
}

#[test]
fn a_message_that_cannot_be_understood_or_comes_too_late_does_no_harm() {
    let world = World::open();
    let mut foreign = world.foreign();
    foreign.check_served(PATIENCE);
    let lease = foreign.keys("CERBAS-NODE-*").remove(0);
    let control = lease.replace("-NODE-", "-CONTROL-");
    for message in ["", "{", "[]", "{\"cancel\": 5}", "{\"cancel\": \"gone\"}", "{\"halt\": true}"] {
        let _: i64 = foreign.ask(&["RPUSH", &control, message]);
    }
    eventually("all are read", || foreign.ask::<u64>(&["LLEN", &control]) == 0);
    foreign.check_served(PATIENCE);
}
