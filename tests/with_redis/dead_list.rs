//! What cannot be read.

use std::time::Duration;

use serde_json::{Value, json};

use super::world::{World, eventually};

#[test]
fn what_cannot_be_read_is_answered_where_an_id_is_known_and_kept_with_the_reason() {
    let world = World::open();
    let mut foreign = world.foreign();
    let bad_call = json!({"status": "error", "data": "bad call", "verdict": "rejected"});
    foreign.push("{");
    foreign.push("5");
    let () = foreign.ask(&["SET", "CERBAS-REQ-0000000006", "[]"]);
    foreign.push("6");
    foreign.push(r#"{"id": "typed", "func": 1}"#);
    for id in ["0000000005", "0000000006", "typed"] {
        assert_eq!(foreign.answer(id), bad_call, "{id}");
    }
    world.check_all_settled();
    assert_eq!(foreign.keys("CERBAS-REQ*"), [""; 0], "a body that is of no use goes, too");

    let dead: Vec<String> = foreign.ask(&["ZRANGE", "CERBAS-DEAD", "0", "-1"]);
    let mut dead: Vec<Value> = dead.iter().map(|entry| serde_json::from_str(entry).expect("it is JSON")).collect();
    dead.sort_by_key(|entry| entry["element"].to_string());
    let shown: Vec<_> = dead.iter().map(|entry| (&entry["element"], &entry["id"], &entry["verdict"])).collect();
    let rejected = json!("rejected");
    assert_eq!(
        shown,
        [
            (&json!("5"), &json!("0000000005"), &rejected),
            (&json!("6"), &json!("0000000006"), &rejected),
            (&json!("{"), &Value::Null, &rejected),
            (&json!(r#"{"id": "typed", "func": 1}"#), &json!("typed"), &rejected),
        ]
    );
    assert!(dead.iter().all(|entry| entry["message"].as_str().is_some_and(|message| !message.is_empty())), "{dead:?}");
    assert_eq!(dead[0]["message"], "there is no body for this number");
}

#[test]
fn a_thousand_malformed_requests_leave_it_serving() {
    let world = World::open();
    let mut foreign = world.foreign();
    let deep =
        format!(r#"{{"id": "deep", "func": "echo", "args": {{"message": {}1{}}}}}"#, "[".repeat(500), "]".repeat(500));
    let large = format!(r#"{{"id": "large", "func": "{}"}}"#, "x".repeat(1 << 20));
    let malformed: Vec<Vec<u8>> = vec![
        b"".to_vec(),
        b"\0\xff\xfe".to_vec(),
        b"-1".to_vec(),
        b"1.5".to_vec(),
        b"99999999999999999999999".to_vec(),
        b"null".to_vec(),
        b"\"text\"".to_vec(),
        b"[1, 2]".to_vec(),
        b"{\"func\": \"hello\"".to_vec(),
        b"{\"id\": \"\xff\", \"func\": \"hello\"}".to_vec(),
        br#"{"id": "no spaces, please", "func": "hello"}"#.to_vec(),
        br#"{"id": "n", "func": "hello", "delay": -1}"#.to_vec(),
        br#"{"id": "n", "func": "hello", "delay": 1e300}"#.to_vec(),
        br#"{"id": "n", "func": "hello", "timeout": 0}"#.to_vec(),
        br#"{"id": "n", "func": "hello", "args": [1]}"#.to_vec(),
        br#"{"id": "n", "func": "hello", "args": "x"}"#.to_vec(),
        br#"{"id": "n", "func": ["hello"]}"#.to_vec(),
        br#"{"id": "n", "func": ""}"#.to_vec(),
        br#"{"id": "n", "func": "hello"} and more"#.to_vec(),
        deep.into_bytes(),
    ];
    let mut count = 1;
    foreign.push(large);
    for number in 0..1000_usize {
        let body = &malformed[number % malformed.len()];
        if number % 2 == 0 {
            foreign.push(body);
        } else {
            let () = redis::cmd("SET")
                .arg(format!("CERBAS-REQ-{number:010}"))
                .arg(body)
                .query(&mut foreign.connection)
                .expect("Redis is there");
            foreign.push(number.to_string());
        }
        count += 1;
    }
    // Bodies that are no strings.
    let _: i64 = foreign.ask(&["RPUSH", "CERBAS-REQ-0000002000", "a list"]);
    foreign.push("2000");
    eventually("all are accepted", || world.running.balance().accepted > count);
    foreign.check_served(Duration::from_secs(10));
    world.check_all_settled();
    let dead: u64 = foreign.ask(&["ZCARD", "CERBAS-DEAD"]);
    assert!((1..=1000).contains(&dead), "{dead} are on the dead list");
    let largest = foreign.ask::<Vec<Vec<u8>>>(&["ZRANGE", "CERBAS-DEAD", "0", "-1"]).iter().map(Vec::len).max();
    assert!(largest < Some(16 << 10), "an entry of {largest:?} bytes is on the dead list");
}

#[test]
fn the_dead_list_holds_the_newest_thousand() {
    let world = World::open();
    let mut foreign = world.foreign();
    for number in 0..1500 {
        foreign.push(format!("not a number: {number}"));
    }
    eventually("all are refused", || world.running.balance().accepted == 1500);
    world.check_all_settled();
    assert_eq!(foreign.ask::<u64>(&["ZCARD", "CERBAS-DEAD"]), 1000);
}

#[test]
fn a_dead_list_that_is_no_list_stops_nobody() {
    let world = World::open();
    let mut foreign = world.foreign();
    let () = foreign.ask(&["SET", "CERBAS-DEAD", "somebody's text"]);
    foreign.push("{");
    foreign.push("8");
    eventually("both are refused", || world.running.balance().accepted == 2);
    world.check_all_settled();
    // Not with those in one step: what cannot be buried must not hold back what comes after.
    foreign.check_served(Duration::from_secs(5));
    world.check_all_settled();
}
