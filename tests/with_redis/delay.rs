//! Requests that wait for their time.

use std::time::{Duration, Instant};

use serde_json::json;

use super::world::{Gate, PATIENCE, World, eventually, scratch};

#[test]
fn a_delayed_request_waits_in_redis_and_takes_no_worker() {
    let world = World::with(scratch(), |config| config.server.workers = 1);
    let mut foreign = world.foreign();
    for number in 0..20 {
        foreign.send(&format!("later-{number}"), json!({"func": "hello", "delay": 3_600_000}));
    }
    let () = foreign.ask(&["SET", "CERBAS-REQ-0000000001", r#"{"func": "hello", "delay": 3600000}"#]);
    foreign.push("1");
    eventually("all are held", || foreign.ask::<u64>(&["ZCARD", "CERBAS-DELAYED"]) == 21);
    world.check_all_settled();
    assert_eq!(foreign.ask::<u64>(&["EXISTS", "CERBAS-REQ-0000000001"]), 1, "the body waits as well");
    foreign.check_served(Duration::from_secs(5));
    assert_eq!(world.running.balance().accepted, 1, "what waits is accepted when it is due");
}

#[test]
fn a_delayed_request_runs_when_it_is_due_and_not_before() {
    let world = World::open();
    let mut foreign = world.foreign();
    let start = Instant::now();
    foreign.send("second", json!({"func": "hello", "delay": 2000}));
    foreign.send("first", json!({"func": "hello", "delay": 300}));
    assert!(foreign.answer("first").is_object());
    assert!(start.elapsed() >= Duration::from_millis(299), "it came after {:?}", start.elapsed());
    let is_early = foreign.stored("second").is_some() && start.elapsed() < Duration::from_millis(1999);
    assert!(!is_early, "it came after {:?}", start.elapsed());
    assert!(foreign.answer("second").is_object());
    assert!(start.elapsed() >= Duration::from_millis(1999), "it came after {:?}", start.elapsed());
    assert!(start.elapsed() < Duration::from_secs(10), "it came after {:?}", start.elapsed());
    world.check_all_settled();
    assert_eq!(foreign.ask::<u64>(&["ZCARD", "CERBAS-DELAYED"]), 0);
}

#[test]
fn a_delayed_request_outlives_the_daemon() {
    let World { running, redis } = World::open();
    let mut foreign = super::world::Foreign::connect(&redis.url());
    let id = foreign
        .try_send_numbered(&json!({"func": "echo", "args": {"message": "still here"}, "delay": 1000}))
        .expect("Redis is there");
    eventually("it is held", || foreign.ask::<u64>(&["ZCARD", "CERBAS-DELAYED"]) == 1);
    assert!(running.stop().is_clean());
    assert_eq!(foreign.ask::<u64>(&["ZCARD", "CERBAS-DELAYED"]), 1);

    let world = World::with(redis, |_| {});
    assert_eq!(foreign.answer(&id), json!({"status": "ok", "data": "still here"}));
    world.check_all_settled();
}

#[test]
fn equal_delayed_requests_without_an_id_all_run() {
    let mut gate = None;
    let world = World::serving(
        scratch(),
        |_| {},
        |server| {
            let (server, made) = Gate::add(server, "count", Duration::from_secs(30));
            gate = Some(made);
            server
        },
    );
    let gate = gate.expect("it was made");
    let mut foreign = world.foreign();
    (0..3).for_each(|_| foreign.push(r#"{"func": "count", "delay": 200}"#));
    for number in 1..=3 {
        assert!(gate.started.recv_timeout(PATIENCE / 2).is_ok(), "only {} of 3 have run", number - 1);
    }
    drop(gate);
    world.check_all_settled();
}

#[test]
fn a_delayed_request_that_may_not_run_is_refused_at_once() {
    let world = World::open();
    let mut foreign = world.foreign();
    foreign.send("unknown", json!({"func": "nothing", "delay": 3_600_000}));
    let expected = json!({"status": "error", "data": "Undefined function", "verdict": "rejected"});
    assert_eq!(foreign.answer("unknown"), expected);
    assert_eq!(foreign.keys("CERBAS-DELAYED"), [""; 0]);
}
