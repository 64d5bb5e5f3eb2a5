//! Connections break while Redis stays.

use std::thread;
use std::time::{Duration, Instant};

use super::world::{Foreign, Load, PATIENCE, RETURN, Tally, Wire, World, scratch, within};

/// Under load, does `kill` again and again. Nothing may be lost, and nothing answered twice. Gives back how many were
/// asked, and how many verdicts were counted in Redis.
#[track_caller]
fn check(mut kill: impl FnMut(&mut Foreign)) -> (u64, u64) {
    let world = World::with(scratch(), |config| config.server.result_ttl = Duration::from_secs(600));
    let tally = Tally::start(&world.redis.url());
    let mut operator = world.foreign();
    let load = Load::start(&world.redis.url());
    let until = Instant::now() + Duration::from_millis(2500);
    while Instant::now() < until {
        kill(&mut operator);
    }
    operator.check_served(RETURN);
    let asked = load.stop();
    assert!(!asked.is_empty());
    operator.check_answered(&asked);
    world.check_all_settled();
    tally.check_each_once(&asked);
    assert_eq!(operator.keys("CERBAS-DEAD"), [""; 0]);
    let counted: Vec<u64> = operator.ask(&["HVALS", "CERBAS-VERDICTS"]);
    // The one that was served at last is not among the load.
    (asked.len() as u64 + 1, counted.iter().sum())
}

/// Kills the connections of the daemon whose name ends so.
fn kill_named(operator: &mut Foreign, endings: &[&str]) {
    let list: String = operator.ask(&["CLIENT", "LIST"]);
    for line in list.lines() {
        let field = |name: &str| line.split(' ').find_map(|field| field.strip_prefix(name)).unwrap_or_default();
        if endings.iter().any(|ending| field("name=").ends_with(ending)) {
            let _already_gone = operator.try_ask::<i64>(&["CLIENT", "KILL", "ID", field("id=")]);
        }
    }
}

#[test]
fn killing_all_connections_again_and_again_loses_nothing() {
    let (asked, counted) = check(|operator| {
        let _: i64 = operator.ask(&["CLIENT", "KILL", "TYPE", "normal"]);
        thread::sleep(Duration::from_millis(60));
    });
    // The connection of the load is killed, too, so Redis has more than it acknowledged.
    assert!(counted >= asked, "{asked} asked, {counted} counted");
}

#[test]
fn claims_that_were_lost_with_their_connection_are_found_again() {
    let (asked, counted) = check(|operator| {
        kill_named(operator, &["-claim", "-claim.1", "-claim.delayed"]);
        thread::sleep(Duration::from_millis(3));
    });
    assert_eq!(counted, asked);
}

#[test]
fn settlements_whose_connection_breaks_are_settled_once() {
    let (asked, counted) = check(|operator| {
        kill_named(operator, &["-settle"]);
        thread::sleep(Duration::from_millis(3));
    });
    assert_eq!(counted, asked);
}

#[test]
fn a_network_that_swallows_everything_for_a_while_loses_nothing() {
    let redis = scratch();
    let wire = Wire::to(&redis.url());
    let world = World::with(redis, |config| {
        config.redis.url = wire.url();
        config.server.result_ttl = Duration::from_secs(600);
    });
    let tally = Tally::start(&world.redis.url());
    let load = Load::start(&world.redis.url());
    load.go_on(500);
    wire.cut();
    thread::sleep(Duration::from_secs(4));
    wire.mend();
    // Many have come in the meantime, so that a new one waits for its turn.
    let before = world.running.balance().accepted;
    within(RETURN, "more is accepted", || world.running.balance().accepted > before);
    let mut foreign = world.foreign();
    foreign.check_served(PATIENCE);
    let asked = load.stop();
    foreign.check_answered(&asked);
    world.check_all_settled();
    tally.check_each_once(&asked);
}

#[test]
fn a_daemon_stops_in_time_while_the_network_swallows_everything() {
    let redis = scratch();
    let wire = Wire::to(&redis.url());
    let world = World::with(redis, |config| config.redis.url = wire.url());
    world.foreign().check_served(RETURN);
    wire.cut();
    let start = Instant::now();
    world.running.stop();
    // What was asked of Redis last is waited for, beyond the time that calls may take.
    assert!(start.elapsed() < Duration::from_secs(30), "it took {:?}", start.elapsed());
}
