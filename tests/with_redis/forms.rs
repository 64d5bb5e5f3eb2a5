//! The ways to ask, and the places of the answer.

use std::time::Duration;

use serde_json::{Value, json};

use super::world::{Foreign, PATIENCE, Subscription, World, new_id, scratch};

/// Sends a request by `send`, which gives back its id, and checks all that a client sees of the answer.
#[track_caller]
fn check(world: &World, id: &str, send: impl FnOnce(&mut Foreign)) {
    let mut foreign = world.foreign();
    let (json, msgpack) = (format!("CERBAS-RESPONSE-1-{id}"), format!("MSGPACK:CERBAS-RESPONSE-1-{id}"));
    let mut subscription = Subscription::to(&world.redis.url(), &[&json, &msgpack]);
    send(&mut foreign);

    let expected = json!({"status": "ok", "data": 3});
    assert_eq!(subscription.next(), (json, expected.to_string().into_bytes().clone()).also_in_order(&expected));
    // What follows was done in one step with the first message, so nothing is waited for.
    assert_eq!(foreign.stored(id), Some(expected.clone()));
    let left: i64 = foreign.ask(&["TTL", &format!("CERBAS-RESULT-{id}")]);
    assert!((1..=60).contains(&left), "the answer stays {left} s");
    assert_eq!(foreign.in_flight(), [""; 0]);
    assert_eq!(foreign.waiting(), 0);
    assert_eq!(foreign.keys("CERBAS-REQ*"), [""; 0]);

    let (channel, message) = subscription.next();
    assert_eq!(channel, msgpack);
    let answer: Value = rmp_serde::from_slice(&message).expect("it is MessagePack");
    assert_eq!(answer, expected);
}

trait AlsoInOrder {
    fn also_in_order(self, value: &Value) -> Self;
}

impl AlsoInOrder for (String, Vec<u8>) {
    /// `status` stands before `data`, as clients of old compare texts.
    fn also_in_order(self, value: &Value) -> Self {
        (self.0, format!(r#"{{"status":{},"data":{}}}"#, value["status"], value["data"]).into_bytes())
    }
}

const SUM: &str = r#"{"func": "sum", "args": {"a": 1, "b": 2}}"#;

#[test]
fn a_numbered_request_is_found_in_both_spellings_of_its_body_and_in_both_queues() {
    let world = World::open();
    let mut number = 0;
    for body in ["CERBAS-REQ", "CERBAS-REQUEST"] {
        for queue in ["CERBAS-QUEUE", "CERBAS_QUEUE"] {
            number += 1;
            check(&world, &format!("{number:010}"), |foreign| {
                assert_eq!(foreign.ask::<u64>(&["INCR", "CERBAS-COUNTER"]), number);
                let () = foreign.ask(&["SET", &format!("{body}-{number:010}"), SUM]);
                let _: i64 = foreign.ask(&["RPUSH", queue, &number.to_string()]);
            });
        }
    }
}

#[test]
fn an_inline_request_needs_no_other_key_and_can_stand_in_both_queues() {
    let world = World::open();
    for queue in ["CERBAS-QUEUE", "CERBAS_QUEUE"] {
        let id = new_id();
        check(&world, &id, |foreign| {
            let request = json!({"id": id, "func": "sum", "args": {"a": 1, "b": 2}});
            let _: i64 = foreign.ask(&["RPUSH", queue, &request.to_string()]);
        });
    }
}

#[test]
fn the_greatest_number_is_a_number() {
    let world = World::open();
    check(&world, &u64::MAX.to_string(), |foreign| {
        let () = foreign.ask(&["SET", &format!("CERBAS-REQ-{}", u64::MAX), SUM]);
        foreign.push(u64::MAX.to_string());
    });
}

#[test]
fn answers_are_published_on_extra_channels_too() {
    let channels = ["{prefix}-RESPONSE-{id}", "msgpack:{prefix}-OLD-{db}-{id}"];
    let world = World::with(scratch(), |config| config.redis.extra_channels = channels.map(str::to_owned).to_vec());
    let mut subscription = Subscription::to(&world.redis.url(), &["CERBAS-RESPONSE-one", "msgpack:CERBAS-OLD-1-one"]);
    world.foreign().send("one", json!({"func": "echo", "args": {"message": "é"}}));

    let mut messages = [subscription.next(), subscription.next()];
    messages.sort();
    let expected = json!({"status": "ok", "data": "é"});
    let json: Value = serde_json::from_slice(&messages[0].1).expect("it is JSON");
    let msgpack: Value = rmp_serde::from_slice(&messages[1].1).expect("it is MessagePack");
    assert_eq!((&*messages[0].0, json), ("CERBAS-RESPONSE-one", expected.clone()));
    assert_eq!((&*messages[1].0, msgpack), ("msgpack:CERBAS-OLD-1-one", expected));
}

#[test]
fn a_prefix_stands_before_every_key_and_channel() {
    let world = World::with(scratch(), |config| config.redis.prefix = "{mine}".to_owned());
    let mut foreign = world.foreign();
    let mut subscription = Subscription::to(&world.redis.url(), &["{mine}-RESPONSE-1-0000000007"]);
    // Somebody else's requests are left alone.
    foreign.push("7");
    let () = foreign.ask(&["SET", "{mine}-REQUEST-0000000007", SUM]);
    let _: i64 = foreign.ask(&["RPUSH", "{mine}_QUEUE", "7"]);

    assert_eq!(subscription.next_json(), json!({"status": "ok", "data": 3}));
    assert_eq!(foreign.keys_of_requests(), ["CERBAS-QUEUE", "{mine}-RESULT-0000000007"]);
}

#[test]
fn where_nobody_waits_nothing_is_stored_or_published() {
    let world = World::open();
    let mut foreign = world.foreign();
    let mut subscription = Subscription::to_all(&world.redis.url(), &["*CERBAS-RESPONSE-*"]);
    foreign.send("silent", json!({"func": "sum", "args": {"a": 1, "b": 2}, "reply": false}));
    foreign.send("refused", json!({"func": "nothing", "reply": false}));
    let () = foreign.ask(&["SET", "CERBAS-REQ-0000000001", r#"{"func": "hello", "reply": false}"#]);
    foreign.push("1");
    world.check_all_settled();
    assert_eq!(world.running.balance().accepted, 3);

    foreign.send("loud", json!({"func": "hello"}));
    assert_eq!(subscription.next().0, "CERBAS-RESPONSE-1-loud");
    // That one was refused is on record.
    assert_eq!(foreign.keys_of_requests(), ["CERBAS-REFUSED", "CERBAS-RESULT-loud"]);
}

#[test]
fn an_async_function_answers_at_once_and_stays_in_flight_until_it_has_run() {
    let world = World::open();
    let mut foreign = world.foreign();
    let mut subscription = Subscription::to(&world.redis.url(), &["CERBAS-RESPONSE-1-early"]);
    foreign.send("early", json!({"func": "asyncfunc"}));
    assert_eq!(subscription.next_json(), json!({"status": "ok", "data": ""}));
    assert_eq!(foreign.in_flight().len(), 1);
    world.check_all_settled();
}

#[test]
fn stored_answers_go_when_their_time_is_over() {
    let world = World::with(scratch(), |config| config.server.result_ttl = Duration::from_secs(1));
    let mut foreign = world.foreign();
    foreign.send("short", json!({"func": "hello"}));
    assert!(foreign.answer("short").is_object());
    super::world::within(PATIENCE, "the answer is gone", || foreign.stored("short").is_none());
}
