//! Two requests can be equal to the last byte, and are two: each has its own verdict, its own deliveries and its own answer.

use std::collections::HashSet;
use std::sync::Arc;
use std::time::Duration;

use cerbas::broker::{Claimed, End, Presence, RedisBroker, Settlement, Source, Work};
use cerbas::config::Config;
use cerbas::protocol::codec::decode_request;
use cerbas::protocol::{RequestId, Verdict};
use serde_json::{Value, json};

use super::options::options;
use super::world::{Foreign, Gate, PATIENCE, Subscription, World, eventually, scratch};

/// A daemon that is no more than its broker, and dies when its lease runs out.
fn broker(url: &str, node: &str, lease: Duration) -> RedisBroker {
    RedisBroker::new(options(url, node, lease))
}

fn claim_all(broker: &RedisBroker) -> Vec<Claimed> {
    let claim = |source| broker.claim(source, 100, Duration::ZERO).expect("Redis is there");
    [Source::Queue(0), Source::Delayed].into_iter().flat_map(claim).collect()
}

fn id_of(claimed: &Claimed) -> RequestId {
    let number = std::str::from_utf8(&claimed.claim.element).ok().and_then(|text| text.parse().ok());
    let json = if number.is_some() { br#"{"func":"f"}"#.as_slice() } else { &claimed.claim.element };
    decode_request(json, number, 0).expect("it is a request").id
}

fn end(broker: &RedisBroker, claimed: Claimed) {
    let id = id_of(&claimed);
    let end = End::Answered { id, verdict: Verdict::Ok, answer: None, is_tracked: false };
    broker.settle(&[Settlement::plain(claimed.claim, end).into()]).expect("Redis is there");
}

/// A daemon claims what is there and dies; another takes it back. Gives back what that one claims then.
fn die_with_it(url: &str, round: usize, survivor: &RedisBroker, expected: usize) -> Vec<Claimed> {
    let victim = broker(url, &format!("victim.{round}"), Duration::from_millis(100));
    let mut had = 0;
    eventually("it has claimed all", || {
        had += claim_all(&victim).len();
        had == expected
    });
    take_over(survivor, expected)
}

fn take_over(survivor: &RedisBroker, expected: usize) -> Vec<Claimed> {
    let mut claimed = Vec::new();
    eventually("the other has taken it over", || {
        survivor.heartbeat().expect("Redis is there");
        claimed.extend(claim_all(survivor));
        claimed.len() >= expected
    });
    claimed
}

#[test]
fn equal_requests_without_an_id_that_are_in_flight_at_one_death_count_one_delivery_each() {
    let redis = scratch();
    let mut foreign = Foreign::connect(&redis.url());
    let survivor = broker(&redis.url(), "survivor.1", PATIENCE);
    survivor.heartbeat().expect("Redis is there");
    for element in [r#"{"func":"f","reply":false}"#, r#"  { "func" : "f" }"#, r#"{"args":{"id":"x"},"func":"f"}"#] {
        (0..5).for_each(|_| foreign.push(element));
    }
    let claimed = die_with_it(&redis.url(), 0, &survivor, 15);
    assert!(claimed.iter().all(|claimed| claimed.end.is_none()));
    let ids: HashSet<RequestId> = claimed.iter().map(id_of).collect();
    assert_eq!(ids.len(), 15, "each has an id of its own");
    claimed.into_iter().for_each(|claimed| end(&survivor, claimed));
    assert_eq!(foreign.keys("CERBAS-DELIVERIES-*"), [""; 0], "the counts end with their requests");
}

#[test]
fn requests_of_one_text_that_each_met_one_death_are_never_lost() {
    let redis = scratch();
    let mut foreign = Foreign::connect(&redis.url());
    let survivor = broker(&redis.url(), "survivor.1", PATIENCE);
    survivor.heartbeat().expect("Redis is there");
    let texts = [r#"{"func":"nightly"}"#, r#"{"id":"nightly","func":"nightly"}"#, r#"{"func":"f","id":"behind"}"#, "7"];
    for round in 0..4 {
        texts.iter().for_each(|text| foreign.push(text));
        for claimed in die_with_it(&redis.url(), round, &survivor, texts.len()) {
            assert!(claimed.end.is_none(), "round {round}: {:?}", claimed.claim);
            end(&survivor, claimed);
        }
    }
    assert_eq!(foreign.keys("CERBAS-DELIVERIES-*"), [""; 0]);
}

#[test]
fn one_request_that_is_in_flight_at_each_of_three_deaths_is_lost() {
    let redis = scratch();
    let mut foreign = Foreign::connect(&redis.url());
    for text in [r#"{"func":"f"}"#, r#"{"id":"x","func":"f"}"#, "7"] {
        foreign.push(text);
        let url = redis.url();
        for round in 0..3 {
            let node = format!("victim.{}.{round}", text.len());
            let victim = broker(&url, &node, Duration::from_millis(100));
            let claimed = take_over(&victim, 1);
            assert_eq!((claimed.len(), claimed[0].end.is_some()), (1, false), "{text}: {round}");
        }
        let survivor = broker(&url, &format!("survivor.{}", text.len()), PATIENCE);
        let claimed = take_over(&survivor, 1).remove(0);
        assert!(claimed.end.is_some(), "{text}");
        end(&survivor, claimed);
        survivor.leave().expect("Redis is there");
    }
}

#[test]
fn equal_requests_that_wait_for_a_place_all_run() {
    let limited = |config: &mut Config| {
        let text = "[functions.one]\nbuiltin = \"echo\"\ncluster_concurrency = 1\n";
        let nothing: [(&str, &str); 0] = [];
        let further = Config::from_text(text, "cerbas.toml", nothing).expect("it is well configured");
        config.functions.extend(further.functions);
    };
    let world = World::with(scratch(), limited);
    let mut foreign = world.foreign();
    for _ in 0..40 {
        foreign.push(r#"{"func":"one","args":{"message":1}}"#);
    }
    eventually("each has its verdict", || world.running.balance().count(Verdict::Ok) == 40);
    world.check_all_settled();
}

/// Redis loses what it was told since the counter stood at `counter`: it knows nothing of what is in flight, and all connections
/// break as they do when it dies.
fn forget(foreign: &mut Foreign, counter: u64) {
    for key in foreign.keys("CERBAS-INFLIGHT-*").into_iter().chain(foreign.keys("CERBAS-REQ*")) {
        let _: u64 = foreign.ask(&["DEL", &key]);
    }
    let _: () = foreign.ask(&["SET", "CERBAS-COUNTER", &counter.to_string()]);
    let _: u64 = foreign.ask(&["CLIENT", "KILL", "TYPE", "normal", "SKIPME", "yes"]);
}

fn gated() -> (World, Gate) {
    let mut gate = None;
    let add = |server| {
        let (server, added) = Gate::add(server, "held", PATIENCE);
        gate = Some(added);
        server
    };
    let world = World::serving(scratch(), |_| {}, add);
    (world, gate.expect("it was added"))
}

#[test]
fn whoever_draws_a_number_again_that_redis_has_forgotten_gets_the_answer_to_their_own_question() {
    let (world, gate) = gated();
    let mut foreign = world.foreign();
    let id = foreign.try_send_numbered(&json!({"func": "held", "args": {"of": "the first"}})).expect("Redis takes it");
    gate.next();
    forget(&mut foreign, 0);
    foreign.check_served(PATIENCE);

    // The first one still runs; the second is claimed beside it.
    let again =
        foreign.try_send_numbered(&json!({"func": "held", "args": {"of": "the second"}})).expect("Redis takes it");
    assert_eq!(again, id);
    let mut channel = Subscription::to(&world.redis.url(), &[&format!("CERBAS-RESPONSE-1-{id}")]);
    gate.next();
    gate.go.send(()).expect("one waits");
    gate.go.send(()).expect("one waits");
    assert_eq!(channel.next_json()["data"], json!({"of": "the second"}));
    eventually("both have ended", || world.running.balance().in_flight == 0);
    assert_eq!(foreign.stored(&id).map(|answer| answer["data"].clone()), Some(json!({"of": "the second"})));
    world.check_all_settled();
}

#[test]
fn an_answer_to_what_redis_has_forgotten_reaches_nobody_also_before_the_number_is_drawn_again() {
    let (world, gate) = gated();
    let mut foreign = world.foreign();
    let id = foreign.try_send_numbered(&json!({"func": "held", "args": {"of": "the first"}})).expect("Redis takes it");
    gate.next();
    forget(&mut foreign, 0);
    gate.go.send(()).expect("it waits");
    eventually("the first has ended", || world.running.balance().in_flight == 0);
    foreign.check_served(PATIENCE);
    assert_eq!(foreign.stored(&id), None::<Value>);

    let again = foreign.try_send_numbered(&json!({"func": "sum", "args": {"a": 1, "b": 2}})).expect("Redis takes it");
    assert_eq!(again, id);
    assert_eq!(foreign.answer(&id), json!({"status": "ok", "data": 3}));
    world.check_all_settled();
}

#[test]
fn what_redis_still_has_in_flight_when_its_connections_break_is_answered() {
    let (world, gate) = gated();
    let mut foreign = world.foreign();
    for number in 0..3 {
        foreign.send(&format!("held-{number}"), json!({"func": "held", "args": {"of": number}}));
        gate.next();
        let _: u64 = foreign.ask(&["CLIENT", "KILL", "TYPE", "normal", "SKIPME", "yes"]);
    }
    (0..3).for_each(|_| gate.go.send(()).expect("one waits"));
    for number in 0..3 {
        assert_eq!(foreign.answer(&format!("held-{number}"))["data"], json!({"of": number}));
    }
    world.check_all_settled();
}

#[test]
fn a_request_without_an_id_has_one_while_it_is_in_flight() {
    let (world, gate) = gated();
    let mut foreign = world.foreign();
    let element: Arc<str> = r#"{"func":"held","args":{"z":1.0,"a":12345678901234567890123}}"#.into();
    foreign.push(&*element);
    foreign.push(&*element);
    (0..2).for_each(|_| drop(gate.next()));
    let in_flight = foreign.in_flight();
    assert_eq!(in_flight.len(), 2);
    assert_ne!(in_flight[0], in_flight[1]);
    for one in in_flight {
        assert!(one.contains(r#""args":{"z":1.0,"a":12345678901234567890123}"#), "{one}");
        assert!(decode_request(one.as_bytes(), None, 0).expect("it is a request").is_named, "{one}");
    }
    (0..2).for_each(|_| gate.go.send(()).expect("one waits"));
    world.check_all_settled();
}
