//! The client for Rust programs.

use std::thread;
use std::time::{Duration, Instant};

use cerbas::protocol::{RequestId, Verdict};
use cerbas::{Client, ClientError};
use serde_json::{Value, json};

use super::world::{Foreign, Gate, PATIENCE, World, eventually, scratch, scratch_with_log};

fn client(world: &World) -> Client {
    Client::connect(&world.redis.url()).expect("Redis is there").source("rust").user("tom")
}

fn gated(redis: cerbas::broker::ScratchRedis) -> (World, Gate) {
    let mut gate = None;
    let world = World::serving(
        redis,
        |_| {},
        |server| {
            let (server, made) = Gate::add(server, "held", Duration::from_secs(60));
            gate = Some(made);
            server
        },
    );
    (world, gate.expect("it was made"))
}

#[test]
fn a_call_gives_the_value_of_the_function() {
    let world = World::open();
    let mut client = client(&world);
    for number in 0..50 {
        assert_eq!(client.call("sum", json!({"a": number, "b": 1})), Ok(json!(number + 1).into()));
    }
    assert_eq!(client.call("hello", ()), Ok(json!("hello world!").into()));
    let mut own = world.running.client().expect("Redis is there");
    assert_eq!(own.call("echo", json!({"message": [1, null]})), Ok(json!([1, null]).into()));
}

#[test]
fn an_error_of_the_function_is_an_error_with_its_verdict() {
    let world = World::open();
    let mut client = client(&world);
    let mut check = |func: &str, args: Value, verdict: Verdict, message: &str| match client.call(func, args) {
        Err(error @ ClientError::Answered { verdict: found, .. }) => {
            assert_eq!((found, error.to_string().as_str()), (verdict, message), "{func}");
        }
        other => panic!("{func}: {other:?}"),
    };
    check("witherror", json!({}), Verdict::Error, "unexpected error");
    check("sum", json!({"a": "x", "b": 1}), Verdict::Error, "bad arguments");
    check("sum", json!({"a": 1}), Verdict::Rejected, "invalid arguments: b: is missing");
    check("nothing", json!({}), Verdict::Rejected, "Undefined function");
    assert!(matches!(client.call("sum", json!([1, 2])), Err(ClientError::Arguments(_))));
}

#[test]
fn a_time_limit_is_the_functions() {
    let (world, gate) = gated(scratch());
    let mut client = client(&world).time_limit(Duration::from_millis(100));
    let is_late = |error: ClientError| matches!(error, ClientError::Answered { verdict: Verdict::Timeout, .. });
    assert!(client.call("held", ()).is_err_and(is_late));
    drop(gate);
}

#[test]
fn a_request_that_nobody_took_is_taken_back() {
    let redis = scratch();
    let mut foreign = Foreign::connect(&redis.url());
    let patience = Duration::from_millis(200);
    let mut client = Client::connect(&redis.url()).expect("Redis is there").patience(patience);
    for _ in 0..2 {
        let expected = ClientError::NoAnswer { was_taken: false, waited: patience };
        assert_eq!(client.call("hello", ()), Err(expected));
        assert_eq!(foreign.waiting(), 0);
    }
    // The client is as good as new.
    let world = World::with(redis, |_| {});
    let mut client = client.patience(PATIENCE);
    assert_eq!(client.call("hello", ()), Ok(json!("hello world!").into()));
    assert_eq!(world.running.balance().accepted, 1);
}

#[test]
fn a_request_that_a_daemon_took_is_not_taken_back() {
    let (world, gate) = gated(scratch());
    let patience = Duration::from_millis(200);
    let mut client = client(&world).patience(patience);
    let expected = ClientError::NoAnswer { was_taken: true, waited: patience };
    assert_eq!(client.call("held", ()), Err(expected));
    drop(gate);
    world.check_all_settled();
    // The answer that comes late is not taken for that of the next call.
    let mut client = client.patience(PATIENCE);
    assert_eq!(client.call("sum", json!({"a": 1, "b": 2})), Ok(json!(3).into()));
}

#[test]
fn a_sent_request_runs_without_an_answer() {
    let (world, gate) = gated(scratch());
    let id = client(&world).send("held", json!({"n": 1})).expect("Redis is there");
    assert_eq!(gate.next(), json!({"n": 1}));
    drop(gate);
    world.check_all_settled();
    assert_eq!(world.foreign().stored(&id.to_string()), None);
}

#[test]
fn a_restart_of_redis_between_two_calls_is_not_noticed() {
    let mut world = World::open();
    let mut client = client(&world);
    assert_eq!(client.call("hello", ()), Ok(json!("hello world!").into()));
    world.redis.kill();
    world.revive();
    assert_eq!(client.call("hello", ()), Ok(json!("hello world!").into()));
    world.check_all_settled();
}

#[test]
fn a_redis_that_is_away_is_said_in_one_line() {
    let mut world = World::open();
    let mut client = client(&world);
    world.redis.kill();
    let start = Instant::now();
    let error = client.call("hello", ()).expect_err("Redis is away");
    assert!(matches!(error, ClientError::Redis(_)), "{error:?}");
    assert!(error.to_string().contains("connection refused"), "{error}");
    assert!(start.elapsed() < Duration::from_secs(5));
    let Err(error) = Client::connect(&world.redis.url()) else { panic!("Redis is away") };
    assert!(!error.to_string().contains('\n'), "{error}");
}

#[test]
fn an_answer_that_comes_while_the_connection_is_broken_is_found() {
    let (world, gate) = gated(scratch());
    let mut foreign = world.foreign();
    for number in 0..10 {
        let mut client = client(&world).patience(PATIENCE);
        let calling = thread::spawn(move || client.call("held", json!({"n": number})));
        gate.next();
        // Before, at about the same time, or after: who comes first is not the same in each round.
        let go = gate.go.clone();
        let letting_go = thread::spawn(move || go.send(()));
        let list: String = foreign.ask(&["CLIENT", "LIST"]);
        for line in list.lines().filter(|line| line.contains(" name=cerbas-client ")) {
            let id = line.split_once("id=").and_then(|(_, rest)| rest.split(' ').next()).expect("it has an id");
            let _already_gone = foreign.try_ask::<i64>(&["CLIENT", "KILL", "ID", id]);
        }
        letting_go.join().expect("it was let go").expect("somebody waits");
        assert_eq!(calling.join().expect("it ends"), Ok(json!({"n": number}).into()));
    }
    drop(gate);
    world.check_all_settled();
}

#[test]
fn a_call_outlives_a_restart_of_redis() {
    let (mut world, gate) = gated(scratch_with_log());
    let mut client = client(&world).patience(PATIENCE);
    let calling = thread::spawn(move || client.call("held", json!({"n": 1})));
    gate.next();
    world.redis.kill();
    drop(gate);
    eventually("it has run", || world.running.balance().in_flight == 0);
    world.revive();
    assert_eq!(calling.join().expect("it ends"), Ok(json!({"n": 1}).into()));
    world.check_all_settled();
}

#[test]
fn a_client_cancels_what_waits_and_what_runs() {
    let (world, gate) = gated(scratch());
    let mut client = client(&world);
    let waiting = client.send("nothing-yet", ()).map(|id| id.to_string()).expect("Redis is there");
    let mut foreign = world.foreign();
    // It was refused at once, and has its verdict.
    eventually("it has ended", || foreign.ask::<Vec<u64>>(&["HVALS", "CERBAS-VERDICTS"]).iter().sum::<u64>() == 1);
    assert_eq!(client.cancel(&RequestId::from_text(&waiting).expect("it is an id")), Ok(false));

    let mut later = self::client(&world).delay(Duration::from_secs(3600));
    let delayed = later.send("held", json!({"n": 1})).expect("Redis is there");
    eventually("it waits", || foreign.ask::<u64>(&["ZCARD", "CERBAS-DELAYED"]) == 1);
    assert_eq!(client.cancel(&delayed), Ok(true));
    assert_eq!(client.cancel(&delayed), Ok(false));
    assert_eq!(foreign.ask::<u64>(&["ZCARD", "CERBAS-DELAYED"]), 0);

    let running = client.send("held", json!({"n": 2})).expect("Redis is there");
    gate.next();
    assert_eq!(client.cancel(&running), Ok(true));
    eventually("it is cancelled", || world.running.balance().count(Verdict::Cancelled) == 1);
    drop(gate);
    world.check_all_settled();
}
