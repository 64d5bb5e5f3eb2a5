//! The end of a daemon, and what the next one finds.

use std::thread;
use std::time::Duration;

use cerbas::{Config, Server, Terms};
use serde_json::{Value, json};

use super::world::{Foreign, Gate, Load, Tally, World, eventually, scratch};

/// A daemon whose function `one` runs one call at a time, so that others wait in its memory.
fn one_at_a_time(server: Server) -> (Server, Gate) {
    let (tell, started) = crossbeam_channel::unbounded();
    let (go, may_go) = crossbeam_channel::unbounded();
    let terms = Terms { timeout: Duration::from_secs(60), concurrency: Some(1), ..Terms::default() };
    let server = server.function_with("one", terms, move |_call, args: Value| {
        let _nobody_looks = tell.send(args.clone());
        let _gate_is_gone = may_go.recv();
        Ok(args)
    });
    (server, Gate { started, go })
}

fn gated(change: impl FnOnce(&mut Config)) -> (World, Gate) {
    let mut gate = None;
    let world = World::serving(scratch(), change, |server| {
        let (server, made) = one_at_a_time(server);
        gate = Some(made);
        server
    });
    (world, gate.expect("it was made"))
}

#[test]
fn what_has_not_started_goes_back_to_the_head_of_its_queue_in_order() {
    let (world, gate) = gated(|_| {});
    let mut foreign = world.foreign();
    let element = |number: u64| json!({"id": format!("r{number}"), "func": "one", "args": {"n": number}}).to_string();
    foreign.push(element(0));
    assert_eq!(gate.next(), json!({"n": 0}));
    (1..=300).for_each(|number| foreign.push(element(number)));
    eventually("all are taken", || foreign.waiting() == 0);

    let World { running, redis } = world;
    let stopping = thread::spawn(move || running.stop());
    eventually("all are back", || foreign.waiting() == 300);
    let expected: Vec<String> = (1..=300).map(element).collect();
    assert_eq!(foreign.queue(), expected);
    assert_eq!(foreign.stored("r0"), None, "the one that runs may end");
    drop(gate);
    assert!(stopping.join().expect("it stops").is_clean());
    assert_eq!(foreign.stored("r0"), Some(json!({"status": "ok", "data": {"n": 0}})));
    assert_eq!(foreign.in_flight(), [""; 0]);

    // The next daemon takes them over.
    let mut config = super::world::config(&redis.url());
    config.server.workers = 2;
    let running = Server::new(config).function("one", |_, args: Value| Ok(args)).start().expect("it starts");
    let world = World { running, redis };
    for number in 1..=300 {
        assert_eq!(foreign.answer(&format!("r{number}")), json!({"status": "ok", "data": {"n": number}}));
    }
    world.check_all_settled();
}

#[test]
fn what_came_from_the_other_queue_goes_back_to_it() {
    let (world, gate) = gated(|_| {});
    let mut foreign = world.foreign();
    foreign.push(r#"{"func": "one", "reply": false}"#);
    gate.next();
    for number in ["1", "2", "3"] {
        let () = foreign.ask(&["SET", &format!("CERBAS-REQUEST-000000000{number}"), r#"{"func": "one"}"#]);
        let _: i64 = foreign.ask(&["RPUSH", "CERBAS_QUEUE", number]);
    }
    eventually("all are taken", || foreign.waiting() == 0);
    let World { running, redis: _redis } = world;
    let stopping = thread::spawn(move || running.stop());
    eventually("all are back", || foreign.waiting() == 3);
    drop(gate);
    assert!(stopping.join().expect("it stops").is_clean());
    assert_eq!(foreign.ask::<Vec<String>>(&["LRANGE", "CERBAS_QUEUE", "0", "-1"]), ["1", "2", "3"]);
    assert_eq!(foreign.keys("CERBAS-REQUEST-*").len(), 3, "the bodies stay");
}

#[test]
fn a_due_request_that_has_not_started_goes_back_to_the_delayed_ones() {
    let (world, gate) = gated(|_| {});
    let mut foreign = world.foreign();
    foreign.push(r#"{"func": "one", "reply": false}"#);
    gate.next();
    foreign.send("due", json!({"func": "one", "delay": 1}));
    eventually("it is due and taken", || foreign.in_flight().iter().any(|element| element.contains("due")));
    eventually("it has left the delayed ones", || foreign.keys("CERBAS-DELAYED").is_empty());
    let World { running, redis: _redis } = world;
    let stopping = thread::spawn(move || running.stop());
    eventually("it is back", || foreign.ask::<u64>(&["ZCARD", "CERBAS-DELAYED"]) == 1);
    drop(gate);
    assert!(stopping.join().expect("it stops").is_clean());
    assert_eq!(foreign.in_flight(), [""; 0]);
}

#[test]
fn what_still_runs_when_the_time_is_over_goes_back_to_the_queue() {
    let (world, gate) = gated(|config| config.server.shutdown_timeout = Duration::from_millis(200));
    let mut foreign = world.foreign();
    foreign.send("stuck", json!({"func": "one"}));
    gate.next();
    let World { running, redis: _redis } = world;
    let ended = running.stop();
    assert_eq!((ended.given_up, ended.unsettled), (1, 0));
    assert_eq!(foreign.queue().len(), 1);
    assert_eq!(foreign.in_flight(), [""; 0]);
    assert_eq!(foreign.stored("stuck"), None);
    drop(gate);
}

#[test]
fn daemons_that_take_turns_under_load_lose_nothing_and_answer_nothing_twice() {
    let mut world = World::with(scratch(), |config| config.server.result_ttl = Duration::from_secs(600));
    let tally = Tally::start(&world.redis.url());
    let load = Load::start(&world.redis.url());
    for _ in 0..4 {
        load.go_on(300);
        let World { running, redis } = world;
        let ended = running.stop();
        assert!(ended.is_clean(), "{ended:?}");
        assert_eq!(Foreign::connect(&redis.url()).in_flight(), [""; 0]);
        world = World::with(redis, |config| config.server.result_ttl = Duration::from_secs(600));
    }
    let asked = load.stop();
    world.foreign().check_answered(&asked);
    world.check_all_settled();
    tally.check_each_once(&asked);
}

#[test]
fn two_daemons_share_a_queue() {
    let world = World::open();
    let other = Server::new(super::world::config(&world.redis.url())).start().expect("it starts");
    let tally = Tally::start(&world.redis.url());
    let mut foreign = world.foreign();
    let asked = foreign.send_mixed(0..2000);
    foreign.check_answered(&asked);
    world.check_all_settled();
    tally.check_each_once(&asked);
    assert!(other.stop().is_clean());
}

#[test]
fn an_idle_daemon_gives_nothing_up_however_short_its_time_is() {
    let world = World::with(scratch(), |config| {
        config.server.shutdown_timeout = Duration::ZERO;
        config.server.workers = 64;
    });
    world.foreign().check_served(Duration::from_secs(5));
    world.check_all_settled();
    let ended = world.running.stop();
    assert!(ended.is_clean(), "{ended:?}");
}
