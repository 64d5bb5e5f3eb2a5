//! Whatever stands in the queue, the daemon goes on.

use cerbas::protocol::Verdict;
use cerbas::protocol::codec::decode_request;
use serde_json::{Value, json};

use crate::support::{Daemon, becomes, configured, ok, rejected, unfit, verdicts};

const GOOD: &str = r#"{"id": "the-id", "func": "one", "args": {"a": [1, -0.5e1, "\u00fc\\", true, null, {}]}, "user": "tom", "source": "web", "timeout": 250, "expires": 1000, "sent_at": 0, "reply": true}"#;

const MAX_REQUEST: usize = 65_536;

/// Requests that are none.
fn malformed() -> Vec<Vec<u8>> {
    let mut all: Vec<Vec<u8>> = Vec::new();
    // Cut off at every byte.
    all.extend((0..GOOD.len()).map(|end| GOOD.as_bytes()[..end].to_vec()));
    // Without its beginning.
    all.extend((1..GOOD.len()).map(|start| GOOD.as_bytes()[start..].to_vec()));
    // A byte at every place that no text in UTF-8 has, and one that no JSON has.
    for byte in [0xff, 0x00] {
        all.extend((0..GOOD.len()).map(|at| {
            let mut bytes = GOOD.as_bytes().to_vec();
            bytes[at] = byte;
            bytes
        }));
    }
    // Every field with what does not belong there.
    let values = [
        "[]",
        "[[]]",
        "{}",
        "true",
        "1.5",
        "-1",
        "\"\"",
        "18446744073709551616",
        "-1e400",
        "1e400",
        "nul",
        "\"\\ud800\"",
    ];
    for name in ["id", "func", "args", "user", "source", "timeout", "delay", "expires", "sent_at", "reply"] {
        let taken = |value: &&str| match name {
            "args" => *value != "{}",
            "user" | "source" => *value != "\"\"",
            "reply" => *value != "true",
            _ => true,
        };
        for value in values.iter().filter(|value| taken(value)) {
            let func = if name == "func" { "" } else { r#""func": "one", "# };
            all.push(format!("{{{func}\"{name}\": {value}}}").into());
        }
        all.push(format!(r#"{{"func": "one", "{name}": null, "{name}": null}}"#).into());
    }
    for value in ["0", "31622400001", "18446744073709551615"] {
        all.push(format!(r#"{{"func": "one", "delay": -{value}1}}"#).into());
    }
    all.push(br#"{"func": "one", "delay": 31622400001}"#.to_vec());
    all.push(br#"{"func": "one", "timeout": 0}"#.to_vec());
    all.push(br#"{"func": "one", "expires": 0}"#.to_vec());
    // What is no object at all.
    let scalars = [
        "null",
        "true",
        "false",
        "-1",
        "1.5",
        "1e9",
        "\"one\"",
        "[]",
        "[1]",
        "99999999999999999999",
        "NaN",
        " ",
        "\n",
        "\u{feff}{}",
        "{}",
        "[{\"func\": \"one\"}]",
        "'one'",
        "func=one",
        "{\"func\": \"one\"}{\"func\": \"one\"}",
        "{\"func\": \"one\"}]",
    ];
    all.extend(scalars.map(|text| text.as_bytes().to_vec()));
    // Too deep, too long, both.
    for (opening, closing) in [("[", "]"), ("{\"a\":", "}")] {
        for levels in [130, 1000, 10_000] {
            let (opening, closing) = (opening.repeat(levels), closing.repeat(levels));
            all.push(format!("{{\"func\": \"one\", \"args\": {{\"a\": {opening}1{closing}}}}}").into());
            all.push(format!("{{\"func\": \"one\", \"args\": {{\"a\": {opening}").into());
            all.push(opening.into());
        }
    }
    all.push(format!("{{\"func\": \"one\", \"x\": \"{}\"}}", "x".repeat(MAX_REQUEST)).into());
    all.push(vec![b' '; MAX_REQUEST + 1]);
    all.push(vec![b'9'; MAX_REQUEST + 1]);
    all.push(vec![0; 4 * MAX_REQUEST]);
    // Noise.
    let mut state: u64 = 1;
    let mut noise = || {
        state = state.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
        (state >> 56) as u8
    };
    for length in 1..200 {
        all.push((0..length).map(|_| noise()).collect());
        all.push(GOOD.bytes().map(|byte| if noise() < 20 { noise() | 0x80 } else { byte }).chain([0x80]).collect());
    }
    all
}

fn daemon() -> Daemon {
    Daemon::plain(configured(&format!("[server]\nworkers = 2\nmax_request = {MAX_REQUEST}")))
}

#[track_caller]
fn check_all_are_rejected(daemon: &Daemon, count: u64) {
    becomes(count, || daemon.balance().accepted);
    assert_eq!(verdicts(&daemon.settled()), [(Verdict::Rejected, count)]);
    let dead = daemon.memory().refused();
    assert!(!dead.is_empty() && dead.len() <= 1000, "{} are on the dead list", dead.len());
    for entry in dead {
        assert!(entry.len() < 40_000, "{} bytes of a dead element are kept", entry.len());
        let entry: Value = serde_json::from_str(&entry).expect("an entry is JSON");
        assert_eq!(entry["verdict"], "rejected");
        assert!(entry["message"].as_str().is_some_and(|message| !message.is_empty()), "{entry}");
    }
    daemon.has_a_whole_pool_of(2);
    daemon.serves();
}

#[test]
fn malformed_elements_are_rejected_each_and_the_daemon_serves_on() {
    let (daemon, malformed) = (daemon(), malformed());
    assert!(malformed.len() > 1000, "only {}", malformed.len());
    for (number, element) in malformed.iter().enumerate() {
        daemon.memory().push(number % 2, element.clone());
    }
    check_all_are_rejected(&daemon, malformed.len() as u64);
}

#[test]
fn malformed_bodies_are_rejected_each_and_the_daemon_serves_on() {
    let (daemon, malformed) = (daemon(), malformed());
    for (number, body) in malformed.iter().enumerate() {
        daemon.memory().set_body(number as u64, body.clone());
        daemon.memory().push(number % 2, number.to_string());
    }
    // The id in a body does not count, so what is wrong in nothing else is fine there.
    let fine = malformed.iter().filter(|body| is_fine_with_a_number(body)).count() as u64;
    becomes(malformed.len() as u64, || daemon.balance().accepted);
    let balance = daemon.settled();
    assert_eq!(balance.count(Verdict::Rejected) + fine, malformed.len() as u64);
    daemon.has_a_whole_pool_of(2);
    daemon.serves();
}

fn is_fine_with_a_number(body: &[u8]) -> bool {
    body.len() <= MAX_REQUEST && decode_request(body, Some(1), 0).is_ok()
}

#[test]
fn good_requests_among_malformed_ones_are_answered() {
    let (daemon, malformed) = (daemon(), malformed());
    for (number, element) in malformed.iter().enumerate() {
        daemon.memory().push(0, element.clone());
        if number % 20 == 0 {
            daemon.send(&format!("good-{number}"), "one");
        }
    }
    for number in (0..malformed.len()).step_by(20) {
        assert_eq!(daemon.answer(&format!("good-{number}")), ok(1));
    }
    assert_eq!(daemon.settled().count(Verdict::Rejected), malformed.len() as u64);
}

#[test]
fn who_can_be_told_of_a_malformed_request_is_told() {
    let daemon = daemon();
    let requests = [
        ("no-func", json!({}), "bad call"),
        ("wrong-type", json!({"func": ["one"]}), "bad call"),
        ("out-of-range", json!({"func": "one", "delay": -5}), "bad call"),
    ];
    for (id, mut request, text) in requests {
        request["id"] = id.into();
        daemon.push(request);
        assert_eq!(daemon.answer(id), rejected(text));
    }
    daemon.push(json!({"id": "wrong-args", "func": "one", "args": [1]}));
    assert_eq!(daemon.answer("wrong-args"), unfit("must be an object"));
}

#[test]
fn a_request_may_be_as_long_as_allowed_and_not_longer() {
    let daemon = daemon();
    let request = |id: &str, length: usize| {
        let start = format!("{{\"id\": \"{id}\", \"func\": \"one\", \"x\": \"");
        format!("{start}{}\"}}", "x".repeat(length - start.len() - 2))
    };
    daemon.memory().push(0, request("longest", MAX_REQUEST));
    daemon.memory().push(0, request("too-long", MAX_REQUEST + 1));
    assert_eq!(daemon.answer("longest"), ok(1));
    becomes(1, || daemon.balance().count(Verdict::Rejected));
    assert_eq!(daemon.answer("too-long"), rejected("bad call"));
}

#[test]
fn a_flood_of_what_cannot_be_read_is_on_record_with_some_of_it() {
    let daemon = daemon();
    for number in 0..1500 {
        daemon.memory().push(0, format!("no request {number}"));
    }
    becomes(1500, || daemon.balance().count(Verdict::Rejected));
    daemon.settled();
    let refused = daemon.memory().refused();
    assert!((1..=40).contains(&refused.len()), "{}", refused.len());
    assert!(refused[0].contains("no request 0"), "{}", refused[0]);
    assert_eq!(daemon.memory().dead(), [""; 0]);
}
