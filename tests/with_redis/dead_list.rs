//! What cannot be read.

use std::time::Duration;

use serde_json::{Value, json};

use super::world::{Foreign, World, eventually, scratch};

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

    let dead: Vec<String> = foreign.ask(&["ZRANGE", "CERBAS-REFUSED", "0", "-1"]);
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
    let dead: u64 = foreign.ask(&["ZCARD", "CERBAS-REFUSED"]);
    assert!((1..=1000).contains(&dead), "{dead} are on the dead list");
    let largest = foreign.ask::<Vec<Vec<u8>>>(&["ZRANGE", "CERBAS-REFUSED", "0", "-1"]).iter().map(Vec::len).max();
    assert!(largest < Some(16 << 10), "an entry of {largest:?} bytes is on the dead list");
}

#[test]
fn the_dead_list_holds_the_newest_thousand_and_no_flood_of_refusals_pushes_any_of_them_off() {
    let world = World::open();
    let mut foreign = world.foreign();
    for number in 0..1200 {
        foreign.send(&format!("failed-{number}"), json!({"func": "witherror", "reply": false}));
    }
    for number in 0..1500 {
        foreign.push(format!("not a number: {number}"));
        foreign.send(&format!("refused-{number}"), json!({"func": "helo", "reply": false}));
    }
    eventually("all have their verdicts", || world.running.balance().accepted == 1200 + 2 * 1500);
    world.check_all_settled();
    let dead: Vec<String> = foreign.ask(&["ZRANGE", "CERBAS-DEAD", "0", "-1"]);
    assert_eq!(dead.len(), 1000);
    assert!(dead.iter().all(|entry| entry.contains("witherror")));
    let refused: Vec<String> = foreign.ask(&["ZRANGE", "CERBAS-REFUSED", "0", "-1"]);
    let of = |text: &str| refused.iter().filter(|entry| entry.contains(text)).count();
    // So many of a kind a minute.
    assert!((1..=40).contains(&of("helo")) && (1..=40).contains(&of("not a number")), "{}", refused.len());
}

#[test]
fn what_is_refused_and_nobody_waits_for_is_on_record_with_the_reason_and_can_be_found_by_its_id() {
    let world = World::with(scratch(), |config| {
        let text = "[functions.ops]\nbuiltin = \"echo\"\nparams = [\"message\"]\nsources = [\"ops\"]\n";
        let nothing: [(&str, &str); 0] = [];
        let further = cerbas::Config::from_text(text, "cerbas.toml", nothing).expect("it is well configured");
        config.functions.extend(further.functions);
    });
    let mut foreign = world.foreign();
    let quiet = |more: Value| {
        let mut request = json!({"func": "ops", "source": "ops", "args": {"message": 1}, "reply": false});
        request.as_object_mut().expect("it is one").extend(more.as_object().expect("it is one").clone());
        request
    };
    let cases = [
        ("function", json!({"func": "helo"}), "Undefined function"),
        ("arguments", json!({"args": {}}), "invalid arguments"),
        ("source", json!({"source": "evil"}), "cerbas authorization - invalid source"),
        ("node", json!({"node": "ghost"}), "no such node"),
        ("delayed", json!({"func": "helo", "delay": 1}), "Undefined function"),
        ("cycle", json!({"chain": ["ops"]}), "cycle"),
        ("unique", json!({"args": {}, "unique": "k"}), "invalid arguments"),
    ];
    for (id, more, reason) in &cases {
        foreign.send(id, quiet(more.clone()));
        let mut found = None;
        eventually("it is on record", || {
            let refused: Vec<String> = foreign.ask(&["ZRANGE", "CERBAS-REFUSED", "0", "-1"]);
            let entries = refused.iter().map(|entry| serde_json::from_str::<Value>(entry).expect("it is JSON"));
            found = entries.into_iter().find(|entry| entry["id"] == *id);
            found.is_some()
        });
        let entry = found.expect("it is there");
        assert!(entry["message"].as_str().is_some_and(|message| message.contains(reason)), "{id}: {entry}");
        assert_eq!((&entry["verdict"], &entry["request"]["id"]), (&json!("rejected"), &json!(id)));
    }
    // Whoever waits is told, which is enough.
    foreign.send("told", json!({"func": "helo"}));
    foreign.answer("told");
    let refused: Vec<String> = foreign.ask(&["ZRANGE", "CERBAS-REFUSED", "0", "-1"]);
    assert_eq!(refused.len(), cases.len());
    world.check_all_settled();
}

#[test]
fn a_dead_list_that_is_no_list_stops_nobody() {
    let world = World::open();
    let mut foreign = world.foreign();
    for list in ["CERBAS-DEAD", "CERBAS-REFUSED"] {
        let () = foreign.ask(&["SET", list, "somebody's text"]);
    }
    foreign.push("{");
    foreign.push("8");
    eventually("both are refused", || world.running.balance().accepted == 2);
    world.check_all_settled();
    // Not with those in one step: what cannot be buried must not hold back what comes after.
    foreign.check_served(Duration::from_secs(5));
    world.check_all_settled();
}

#[test]
fn a_request_that_cannot_be_read_is_answered_wherever_its_id_stands_plainly_in_it() {
    let world = World::with(scratch(), |config| config.server.max_request = 4096);
    let mut foreign = world.foreign();
    let bad_call = json!({"status": "error", "data": "bad call", "verdict": "rejected"});
    let large = "x".repeat(5000);
    let broken = [
        ("nan", r#"{"id": "nan", "func": "echo", "args": {"message": NaN}}"#.to_owned()),
        ("infinity", r#"{"func": "echo", "args": {"message": -Infinity, "id": "other"}, "id": "infinity"}"#.to_owned()),
        ("cut-off", r#"{"id": "cut-off", "func": "echo", "args": {"mess"#.to_owned()),
        ("comma", r#"{"id": "comma", "func": "hello",}"#.to_owned()),
        ("tab", "{\"id\": \"tab\", \"func\": \"hello\", \"x\": \"a\tb\"}".to_owned()),
        ("mark", "\u{feff}{\"id\": \"mark\", \"func\": \"hello\"}".to_owned()),
        ("12345", r#"{"id": 12345, "func": "hello"}"#.to_owned()),
        ("large", format!(r#"{{"id": "large", "func": "echo", "args": {{"message": "{large}"}}}}"#)),
        (
            "large-end",
            format!(r#"{{"func": "echo", "args": {{"message": "{large}", "id": "other"}}, "id": "large-end"}}"#),
        ),
    ];
    for (id, text) in &broken {
        foreign.push(text);
        assert_eq!(foreign.answer(id), bad_call, "{text}");
    }
    assert_eq!(foreign.stored("other"), None);
    world.check_all_settled();
    let dead: Vec<String> = foreign.ask(&["ZRANGE", "CERBAS-REFUSED", "0", "-1"]);
    let ids: Vec<Value> =
        dead.iter().map(|entry| serde_json::from_str::<Value>(entry).expect("it is JSON")["id"].clone()).collect();
    for (id, _) in &broken {
        assert!(ids.contains(&json!(id)), "{id}: {ids:?}");
    }
}

#[test]
fn one_that_says_that_nobody_waits_is_not_answered_however_broken_it_is() {
    let world = World::open();
    let mut foreign = world.foreign();
    foreign.push(r#"{"id": "quiet", "reply": false, "func": "echo", "args": {"message": NaN}}"#);
    foreign.push(r#"{"id": "told", "func": "echo", "args": {"message": NaN}}"#);
    foreign.answer("told");
    assert_eq!(foreign.stored("quiet"), None);
    world.check_all_settled();
}

/// The bytes that the test's own connection and the daemon's have been sent by Redis so far.
fn bytes_sent(foreign: &mut Foreign) -> u64 {
    let stats: String = foreign.ask(&["INFO", "stats"]);
    let found = stats.lines().find_map(|line| line.strip_prefix("total_net_output_bytes:"));
    found.and_then(|bytes| bytes.trim().parse().ok()).expect("Redis counts them")
}

#[test]
fn what_is_far_too_large_is_answered_without_being_fetched() {
    let world = World::with(scratch(), |config| config.server.max_request = 4096);
    let mut foreign = world.foreign();
    let pad = "x".repeat(8 << 20);
    let bad_call = json!({"status": "error", "data": "bad call", "verdict": "rejected"});
    let element = |number: usize| match number % 2 {
        0 => format!(r#"{{"id":"huge-{number}","func":"echo","args":{{"message":"{pad}"}}}}"#),
        _ => format!(r#"{{"func":"echo","args":{{"message":"{pad}","id":"other"}},"id":"huge-{number}"}}"#),
    };
    let (elements, bodies): (Vec<String>, Vec<String>) =
        (0..6).map(|number| (element(number), element(number))).unzip();
    let before = bytes_sent(&mut foreign);
    for (number, body) in bodies.iter().enumerate() {
        let _: () = foreign.ask(&["SET", &format!("CERBAS-REQUEST-{:010}", 700 + number), body]);
    }
    // All in one step, so that they are there together when the first of them wakes the daemon.
    let mut push = redis::pipe();
    push.atomic();
    for (number, element) in elements.iter().enumerate() {
        push.rpush("CERBAS-QUEUE", element).ignore();
        push.rpush("CERBAS-QUEUE", 700 + number).ignore();
    }
    let () = push.query(&mut foreign.connection).expect("Redis takes them");
    for number in 0..6 {
        assert_eq!(foreign.answer(&format!("huge-{number}")), bad_call, "{number}");
        assert_eq!(foreign.answer(&format!("{:010}", 700 + number)), bad_call, "{number}");
    }
    assert_eq!(foreign.stored("other"), None);
    world.check_all_settled();
    // The one that wakes the daemon is moved whole; 95 MiB would be all of them.
    let sent = bytes_sent(&mut foreign) - before;
    assert!(sent < 40 << 20, "{sent} bytes were fetched");
    let letters: Vec<String> = foreign.ask(&["ZRANGE", "CERBAS-REFUSED", "0", "-1"]);
    let lengths = letters.iter().filter(|letter| letter.contains("\"bytes\":838")).count();
    assert!(lengths >= 5, "the letters say how long they were: {letters:.300?}");
}
