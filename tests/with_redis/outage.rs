//! Redis goes away and comes back.

use std::thread;
use std::time::{Duration, Instant};

use serde_json::json;

use super::world::{Foreign, Gate, Load, RETURN, World, eventually, scratch, scratch_with_log};

/// How long Redis is away: long enough for several attempts to reach it, which nothing shows from outside.
const AWAY: Duration = Duration::from_millis(1500);

#[test]
fn a_redis_that_comes_after_the_daemon_is_served() {
    let mut redis = scratch();
    redis.kill();
    let mut world = World::with(redis, |_| {});
    thread::sleep(AWAY);
    world.revive();
    world.foreign().check_served(RETURN);
    world.check_all_settled();
}

#[test]
fn an_idle_daemon_serves_again_after_a_restart_of_redis() {
    let mut world = World::open();
    world.foreign().check_served(RETURN);
    world.redis.kill();
    thread::sleep(AWAY);
    world.revive();
    world.foreign().check_served(RETURN);
    world.check_all_settled();
}

/// Calls run while Redis goes away, and end while it is away.
#[track_caller]
fn check_answers_wait_for(redis: cerbas::broker::ScratchRedis, is_forgetful: bool) {
    let mut gate = None;
    let add = |server| {
        let (server, made) = Gate::add(server, "held", Duration::from_secs(60));
        gate = Some(made);
        server
    };
    let mut world = World::serving(redis, |_| {}, add);
    let gate = gate.expect("it was made");
    let mut foreign = world.foreign();
    for id in ["one", "two"] {
        foreign.send(id, json!({"func": "held", "args": {"id": id}}));
        gate.next();
    }
    let numbered = foreign.try_send_numbered(&json!({"func": "held", "args": {"id": "three"}}));
    let numbered = numbered.expect("Redis is there");
    gate.next();
    world.redis.kill();
    drop(gate);
    eventually("all have ended", || world.running.balance().in_flight == 0);
    thread::sleep(AWAY);
    world.revive();

    foreign.reconnect();
    for id in ["one", "two"] {
        assert_eq!(foreign.answer(id), json!({"status": "ok", "data": {"id": id}}));
    }
    if is_forgetful {
        // Another may have drawn the number again.
        assert_eq!(foreign.stored(&numbered), None);
    } else {
        assert_eq!(foreign.answer(&numbered), json!({"status": "ok", "data": {"id": "three"}}));
    }
    foreign.check_served(RETURN);
    world.check_all_settled();
    assert_eq!(foreign.keys("CERBAS-REQ-*"), [""; 0]);
}

#[test]
fn answers_wait_for_a_redis_that_was_restarted() {
    check_answers_wait_for(scratch_with_log(), false);
}

#[test]
fn answers_wait_for_a_redis_that_was_restarted_empty() {
    check_answers_wait_for(scratch(), true);
}

#[test]
fn a_redis_that_flaps_loses_nothing_that_it_acknowledged() {
    let mut world = World::with(scratch_with_log(), |_| {});
    let load = Load::start(&world.redis.url());
    for _ in 0..3 {
        load.go_on(300);
        world.redis.kill();
        thread::sleep(Duration::from_millis(300));
        world.revive();
    }
    world.foreign().check_served(RETURN);
    let asked = load.stop();
    world.foreign().check_answered(&asked);
    world.check_all_settled();
}

#[test]
fn a_daemon_without_redis_stops_in_time() {
    let mut world = World::open();
    world.foreign().check_served(RETURN);
    world.redis.kill();
    let start = Instant::now();
    let ended = world.running.stop();
    assert!(ended.is_clean(), "{ended:?}");
    assert!(start.elapsed() < Duration::from_secs(5), "it took {:?}", start.elapsed());
}

#[test]
fn answers_that_redis_does_not_take_by_the_end_are_counted() {
    let mut gate = None;
    let change = |config: &mut cerbas::Config| config.server.shutdown_timeout = Duration::from_secs(1);
    let mut world = World::serving(scratch(), change, |server| {
        let (server, made) = Gate::add(server, "held", Duration::from_secs(60));
        gate = Some(made);
        server
    });
    let gate = gate.expect("it was made");
    world.foreign().send("one", json!({"func": "held"}));
    gate.next();
    world.redis.kill();
    drop(gate);
    let ended = world.running.stop();
    assert_eq!((ended.given_up, ended.unsettled), (0, 1));
}

#[test]
fn a_wrong_password_is_said_at_once() {
    let redis = cerbas::broker::ScratchRedis::start_with(&["save \"\""]).expect("redis-server starts");
    let mut foreign = Foreign::connect(&redis.url());
    let () = foreign.ask(&["CONFIG", "SET", "requirepass", "secret"]);
    let mut config = super::world::config(&redis.url());
    config.redis.password = Some("wrong".to_owned());
    let error = cerbas::Server::new(config).start().map(drop).expect_err("it is refused");
    assert!(error.to_string().contains("WRONGPASS") || error.to_string().contains("assword"), "{error}");
    assert!(!error.to_string().contains("wrong\""), "{error}");
}
