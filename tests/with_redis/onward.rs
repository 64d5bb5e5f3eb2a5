//! Functions that call other functions.

use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::{Duration, Instant};

use cerbas::functions::Retries;
use cerbas::{Call, NativeError, Server, Terms};
use serde_json::{Value, json};

use super::world::{PATIENCE, World, scratch};

fn patient() -> Terms {
    Terms { timeout: PATIENCE, ..Terms::default() }
}

/// Adds `outer`, which calls the function that it is told to and gives back its value.
fn outer(server: Server) -> Server {
    server.function_with("outer", patient(), |call: &Call, args: Value| {
        Ok(call.call(args["func"].as_str().unwrap_or_default(), args["args"].clone())?)
    })
}

#[test]
fn a_function_calls_another_and_gets_its_value_or_its_error() {
    let world = World::serving(scratch(), |_| {}, outer);
    let mut foreign = world.foreign();
    foreign.send("sum", json!({"func": "outer", "args": {"func": "sum", "args": {"a": 1, "b": 2}}}));
    assert_eq!(foreign.answer("sum"), json!({"status": "ok", "data": 3}));
    foreign.send("error", json!({"func": "outer", "args": {"func": "witherror", "args": {}}}));
    assert_eq!(foreign.answer("error"), json!({"status": "error", "data": "witherror: unexpected error"}));
    foreign.send("none", json!({"func": "outer", "args": {"func": "none", "args": {}}}));
    let none = json!({"status": "error", "data": "none: Undefined function", "retry": false});
    assert_eq!(foreign.answer("none"), none);
    foreign.send("list", json!({"func": "outer", "args": {"func": "sum", "args": [1]}}));
    let list = "sum: invalid arguments: must be an object, not [1]";
    assert_eq!(foreign.answer("list"), json!({"status": "error", "data": list, "retry": false}));
    world.check_all_settled();
}

#[test]
fn a_circle_of_calls_is_answered_at_once_with_the_chain() {
    let world = World::serving(
        scratch(),
        |_| {},
        |server| {
            server
                .function_with("ping", patient(), |call: &Call, _: Value| Ok(call.call("pong", json!({}))?))
                .function_with("pong", patient(), |call: &Call, _: Value| Ok(call.call("ping", json!({}))?))
        },
    );
    let mut foreign = world.foreign();
    let start = Instant::now();
    foreign.send("circle", json!({"func": "ping"}));
    let answer = foreign.answer("circle");
    assert_eq!(answer, json!({"status": "error", "data": "pong: ping: cycle: ping -> pong -> ping", "retry": false}));
    assert!(start.elapsed() < PATIENCE / 2, "it was not a timeout");
    foreign.send("foreign", json!({"func": "echo", "args": {"message": 1}, "chain": ["echo"]}));
    let rejected = json!({"status": "error", "data": "cycle: echo -> echo", "verdict": "rejected"});
    assert_eq!(foreign.answer("foreign"), rejected);
}

#[test]
fn what_is_pointless_to_try_again_is_pointless_for_whoever_passes_it_on() {
    let runs = Arc::new(AtomicUsize::new(0));
    let counted = Arc::clone(&runs);
    let again = Retries { count: 2, backoff: Duration::from_millis(1), ..Retries::default() };
    let world = World::serving(
        scratch(),
        |_| {},
        |server| {
            let terms = Terms { retries: again, ..patient() };
            server
                .function("pay", |_: &Call, args: Value| match args["amount"].as_u64() {
                    Some(amount) => Err(NativeError::for_good(format!("{amount} is too much"))),
                    None => Ok(()),
                })
                .function_with("order", terms, move |call: &Call, args: Value| {
                    counted.fetch_add(1, Ordering::AcqRel);
                    Ok(call.call(args["func"].as_str().unwrap_or_default(), args["args"].clone())?)
                })
        },
    );
    let mut foreign = world.foreign();
    for (number, (func, args, data)) in [
        ("pay", json!({"amount": 3}), "pay: 3 is too much"),
        ("sum", json!({"a": 1}), "sum: invalid arguments: b: is missing"),
        ("order", json!({}), "order: cycle: order -> order"),
    ]
    .into_iter()
    .enumerate()
    {
        let id = format!("order-{number}");
        foreign.send(&id, json!({"func": "order", "args": {"func": func, "args": args}}));
        assert_eq!(foreign.answer(&id), json!({"status": "error", "data": data, "retry": false}));
        assert_eq!(runs.swap(0, Ordering::AcqRel), 1, "{func}");
    }
    // What may end otherwise is tried again.
    foreign.send("again", json!({"func": "order", "args": {"func": "witherror", "args": {}}}));
    assert_eq!(foreign.answer("again"), json!({"status": "error", "data": "witherror: unexpected error"}));
    assert_eq!(runs.load(Ordering::Acquire), 3);
}

#[test]
fn the_time_that_is_left_and_who_asks_are_handed_on() {
    let world = World::serving(
        scratch(),
        |_| {},
        |server| {
            server
                .function_with("first", patient(), |call: &Call, _: Value| Ok(call.call("second", json!({}))?))
                .function_with("second", patient(), |call: &Call, _: Value| {
                    Ok(json!({
                        "remaining": call.remaining().as_millis() as u64,
                        "user": call.user,
                        "source": call.source,
                        "chain": call.chain,
                    }))
                })
        },
    );
    let mut foreign = world.foreign();
    foreign.send("id", json!({"func": "first", "timeout": 3000, "user": "tom", "source": "web"}));
    let data = foreign.answer("id")["data"].clone();
    assert_eq!((&data["user"], &data["source"], &data["chain"]), (&json!("tom"), &json!("web"), &json!(["first"])));
    let remaining = data["remaining"].as_u64().expect("a number");
    assert!(remaining <= 3000, "{remaining} ms are more than the first one has");
}

#[test]
fn functions_that_wait_for_others_do_not_use_up_the_workers() {
    let world = World::serving(scratch(), |config| config.server.workers = 2, outer);
    let mut foreign = world.foreign();
    let ids: Vec<String> = (0..20).map(|number| format!("outer-{number}")).collect();
    for id in &ids {
        foreign.send(id, json!({"func": "outer", "args": {"func": "echo", "args": {"message": id}}}));
    }
    let start = Instant::now();
    for id in &ids {
        assert_eq!(foreign.answer(id), json!({"status": "ok", "data": id}));
    }
    assert!(start.elapsed() < PATIENCE / 2, "none waited for a worker that waited for it");
    world.check_all_settled();
    super::world::eventually("the pool has its size again", || world.running.pool().workers <= 3);
}

#[test]
fn a_call_that_takes_longer_than_its_caller_has_is_a_timeout_for_both() {
    let world = World::serving(
        scratch(),
        |_| {},
        |server| {
            outer(server).function_with("slow", patient(), |call: &Call, _: Value| {
                call.cancel.wait(Duration::from_secs(60));
                Ok(())
            })
        },
    );
    let mut foreign = world.foreign();
    foreign.send("id", json!({"func": "outer", "timeout": 300, "args": {"func": "slow", "args": {}}}));
    // Its own, or that of what it called, whichever is noticed first.
    let answer = foreign.answer("id");
    assert!(["timeout", "slow: timeout"].contains(&answer["data"].as_str().unwrap_or_default()), "{answer}");
    world.check_all_settled();
}
