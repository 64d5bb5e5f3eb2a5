//! Clients of the old kind: they push, and subscribe when Redis has taken that.

use std::thread;
use std::time::Duration;

use serde_json::{Value, json};

use super::world::{Subscription, World};

#[test]
fn a_client_that_subscribes_late_gets_its_answer_in_json_and_in_messagepack() {
    let world = World::open();
    let mut foreign = world.foreign();
    let ids: Vec<String> = (0..2)
        .map(|_| foreign.try_send_numbered(&json!({"func": "sum", "args": {"a": 1, "b": 2}})).expect("Redis is there"))
        .collect();
    ids.iter().for_each(|id| drop(foreign.answer(id)));
    // How late they are is what this is about.
    thread::sleep(Duration::from_millis(300));
    let mut json = Subscription::to(&world.redis.url(), &[&format!("CERBAS-RESPONSE-1-{}", ids[0])]);
    let mut msgpack = Subscription::to(&world.redis.url(), &[&format!("MSGPACK:CERBAS-RESPONSE-1-{}", ids[1])]);

    let expected = json!({"status": "ok", "data": 3});
    assert_eq!(json.next_json(), expected);
    let answer: Value = rmp_serde::from_slice(&msgpack.next().1).expect("it is MessagePack");
    assert_eq!(answer, expected);
}
