//! Redis is there, but does not do what it is asked.

use std::thread;
use std::time::Duration;

use cerbas::broker::ScratchRedis;
use rustix::process::{Pid, Signal, kill_process};

use super::world::{Foreign, Load, RETURN, Tally, World, scratch};

/// How long it refuses, which nothing shows from outside.
const REFUSED: Duration = Duration::from_millis(1000);

/// Under load, does `refuse` to Redis and later `relent`. Nothing may be lost, and nothing answered twice.
#[track_caller]
fn check(refuse: impl FnOnce(&ScratchRedis, &mut Foreign), relent: impl FnOnce(&ScratchRedis, &mut Foreign)) {
    let world = World::with(scratch(), |config| config.server.result_ttl = Duration::from_secs(600));
    let tally = Tally::start(&world.redis.url());
    let mut operator = world.foreign();
    let load = Load::start(&world.redis.url());
    load.go_on(500);
    refuse(&world.redis, &mut operator);
    relent(&world.redis, &mut operator);
    operator.check_served(RETURN);
    load.go_on(100);
    let asked = load.stop();
    operator.check_answered(&asked);
    world.check_all_settled();
    tally.check_each_once(&asked);
    assert_eq!(operator.keys("CERBAS-DEAD"), [""; 0]);
}

#[test]
fn a_redis_that_is_read_only_for_a_while_loses_nothing() {
    check(
        |_, operator| {
            let () = operator.ask(&["REPLICAOF", "127.0.0.1", "1"]);
            thread::sleep(REFUSED);
        },
        |_, operator| operator.ask(&["REPLICAOF", "NO", "ONE"]),
    );
}

#[test]
fn a_redis_that_is_out_of_memory_for_a_while_loses_nothing() {
    check(
        |_, operator| {
            let () = operator.ask(&["CONFIG", "SET", "maxmemory", "1"]);
            thread::sleep(REFUSED);
        },
        |_, operator| operator.ask(&["CONFIG", "SET", "maxmemory", "0"]),
    );
}

#[test]
fn a_redis_that_pauses_its_clients_loses_nothing() {
    check(
        |_, operator| {
            let () = operator.ask(&["CLIENT", "PAUSE", "4000", "ALL"]);
            // Longer than the daemon waits for a reply, so that it connects anew in between.
            thread::sleep(Duration::from_millis(4000));
        },
        |_, operator| operator.ask(&["CLIENT", "UNPAUSE"]),
    );
}

/// Lets a stopped process go on, also when a test fails.
struct Stopped(Pid);

impl Stopped {
    fn new(redis: &ScratchRedis) -> Self {
        let pid = Pid::from_raw(redis.pid().expect("it runs").cast_signed()).expect("it has a number");
        kill_process(pid, Signal::STOP).expect("it can be stopped");
        Stopped(pid)
    }
}

impl Drop for Stopped {
    fn drop(&mut self) {
        kill_process(self.0, Signal::CONT).expect("it can go on");
    }
}

#[test]
fn a_redis_that_hangs_for_a_while_loses_nothing() {
    check(
        |redis, _| {
            let stopped = Stopped::new(redis);
            // Longer than the daemon waits for a reply.
            thread::sleep(Duration::from_millis(4500));
            drop(stopped);
        },
        |_, _| {},
    );
}

#[test]
fn a_daemon_stops_in_time_while_redis_hangs() {
    let world = World::open();
    world.foreign().check_served(RETURN);
    let stopped = Stopped::new(&world.redis);
    let start = std::time::Instant::now();
    let ended = world.running.stop();
    drop(stopped);
    // Whether Redis took the last answer, which its client has, it may have had no time to say.
    assert_eq!(ended.given_up, 0, "{ended:?}");
    // What was asked of Redis last is waited for, beyond the time that calls may take.
    assert!(start.elapsed() < Duration::from_secs(30), "it took {:?}", start.elapsed());
}
