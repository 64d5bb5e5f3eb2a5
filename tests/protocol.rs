//! Pins what other programs rely on. Whoever changes a line here breaks clients.

use std::time::Duration;

use cerbas::protocol::codec::{Unreadable, decode_request, encode_outcome, json_to_msgpack};
use cerbas::protocol::keys::Keys;
use cerbas::protocol::{
    Answer, Arguments, CallError, Json, MAX_DELAY, Occurrence, Outcome, Request, RequestId, Scheduled, Status, Verdict,
};
use serde_json::{Value, json};

/// The moment at which everything here is read, in milliseconds since 1970.
const NOW: u64 = 1_800_000_000_000;

/// A year and a day, in milliseconds.
const LONGEST_DELAY: u64 = 366 * 24 * 60 * 60 * 1000;

/// The number under which bodies are read that bring no id.
const NUMBER: u64 = 7;

fn text_id(text: &str) -> RequestId {
    RequestId::from_text(text).expect("the test's id is one")
}

/// The request that `change` makes out of a call of `f` without anything.
fn request(change: impl FnOnce(&mut Request)) -> Request {
    let mut request = Request::new(RequestId::Number(NUMBER), "f", Arguments::new());
    change(&mut request);
    request
}

#[track_caller]
fn check(json: impl AsRef<[u8]>, expected: Request) {
    assert_eq!(decode_request(json.as_ref(), Some(NUMBER), NOW), Ok(expected));
}

#[test]
fn a_request_of_cron_says_which_instant_it_is_for() {
    let json = r#"{"func": "f", "cron": {"name": "a", "instant": "20261120T010000Z", "at": 5, "local": "2026-11-20T02:00",
        "zone": "Europe/Rome", "waits": true, "new": 1}}"#;
    let occurrence = Occurrence {
        name: "a".to_owned(),
        instant: "20261120T010000Z".to_owned(),
        at: 5,
        local: "2026-11-20T02:00".to_owned(),
        zone: "Europe/Rome".to_owned(),
        ..Occurrence::default()
    };
    let scheduled = Scheduled { occurrence, waits: true, ..Scheduled::default() };
    let ticket = |json: &str| decode_request(json.as_bytes(), Some(NUMBER), NOW).expect("it is a request").ticket;
    let found = ticket(json).expect("it has a ticket");
    assert_eq!((found.room, found.value.to::<Scheduled>().ok()), ("cron", Some(scheduled)));
    assert_eq!(ticket(r#"{"func": "f", "cron": null}"#), None);
    // Only cron reads what is in it; others are refused for saying that they are of cron.
    assert!(ticket(r#"{"func": "f", "cron": 1}"#).is_some());
}

#[track_caller]
fn check_refused(json: impl AsRef<[u8]>, error: CallError, reason: &str) {
    let json = json.as_ref();
    let refused = decode_request(json, Some(NUMBER), NOW);
    let shown = String::from_utf8_lossy(&json[..json.len().min(100)]);
    let unreadable = refused.expect_err(&format!("{shown} is no request"));
    assert_eq!((unreadable.error, unreadable.id), (error, Some(RequestId::Number(NUMBER))), "{shown}");
    assert!(unreadable.reason.contains(reason), "{shown}: the reason is {:?}", unreadable.reason);
}

#[track_caller]
fn check_bad_call(json: impl AsRef<[u8]>, reason: &str) {
    check_refused(json, CallError::BadCall, reason);
}

/// What is known of the id of an inline request, readable or not.
#[track_caller]
fn check_told(json: impl AsRef<[u8]>, expected: Option<&str>) {
    let id = match decode_request(json.as_ref(), None, NOW) {
        Ok(request) => Some(request.id),
        Err(Unreadable { id, .. }) => id,
    };
    assert_eq!(id, expected.map(text_id));
}

#[track_caller]
fn check_answer(outcome: Outcome, json: &str, msgpack: &[u8]) {
    let encoded = encode_outcome(outcome.clone());
    assert_eq!(std::str::from_utf8(&encoded.json), Ok(json));
    assert_eq!(*encoded.msgpack, *msgpack, "{:02x?}", encoded.msgpack);
    assert_eq!(encoded.verdict, Verdict::of(&outcome));
    assert_eq!(json_to_msgpack(json.as_bytes()).as_deref(), Some(msgpack));
    let read: Answer = serde_json::from_str(json).expect("an answer is readable");
    assert_eq!((read.verdict(), &read), (encoded.verdict, &Answer::from(outcome)));
}

#[track_caller]
fn check_error(error: CallError, text: &str, verdict: &str) {
    assert_eq!((error.to_string().as_str(), error.verdict().as_str()), (text, verdict));
    let mut answer = json!({"status": "error", "data": text});
    if verdict != "error" {
        answer["verdict"] = Value::from(verdict);
    }
    let encoded = encode_outcome(Err(error));
    assert_eq!(serde_json::from_slice::<Value>(&encoded.json).expect("an answer is JSON"), answer);
    assert_eq!(rmp_serde::from_slice::<Value>(&encoded.msgpack).expect("an answer is MessagePack"), answer);
}

// Names.

#[test]
fn every_key_has_its_name() {
    let keys = Keys::new("CERBAS", 1);
    assert_eq!(keys.queue(), "CERBAS-QUEUE");
    assert_eq!(keys.queues(), ["CERBAS-QUEUE", "CERBAS_QUEUE"]);
    assert_eq!(keys.counter(), "CERBAS-COUNTER");
    assert_eq!(keys.bodies(42), ["CERBAS-REQ-0000000042", "CERBAS-REQUEST-0000000042"]);
    assert_eq!(keys.body_prefixes(), ["CERBAS-REQ-", "CERBAS-REQUEST-"]);
    assert_eq!(keys.result(&RequestId::Number(42)), "CERBAS-RESULT-0000000042");
    assert_eq!(keys.result(&text_id("0192f0c1")), "CERBAS-RESULT-0192f0c1");
    assert_eq!(keys.in_flight("node", ""), "CERBAS-INFLIGHT-node");
    assert_eq!(keys.in_flight("node", ".delayed"), "CERBAS-INFLIGHT-node.delayed");
    assert_eq!(keys.nodes(), "CERBAS-NODES");
    assert_eq!(keys.lease("node"), "CERBAS-NODE-node");
    assert_eq!(keys.fence("node"), "CERBAS-FENCE-node");
    assert_eq!(keys.all_deliveries(), "CERBAS-DELIVERIES-");
    assert_eq!(keys.deliveries(&RequestId::Number(42)), "CERBAS-DELIVERIES-0000000042");
    assert_eq!(keys.delayed(), "CERBAS-DELAYED");
    assert_eq!(keys.dead(), "CERBAS-DEAD");
    assert_eq!(keys.refused(), "CERBAS-REFUSED");
    assert_eq!(keys.queue_names(), "CERBAS-QUEUES");
    assert_eq!(keys.named_queue("urgent"), "CERBAS-QUEUE-urgent");
    assert_eq!(keys.inbox("node"), "CERBAS-INBOX-node");
    assert_eq!(keys.verdicts(), "CERBAS-VERDICTS");
    assert_eq!(keys.of_room("CRON-RUNS-backup"), "CERBAS-CRON-RUNS-backup");
    let all = ["", ".1", ".delayed", ".inbox", ".once", ".queue.urgent"];
    assert_eq!(keys.all_in_flight("node", ["urgent"]), all.map(|suffix| format!("CERBAS-INFLIGHT-node{suffix}")));
}

#[test]
fn numbers_longer_than_ten_digits_are_not_cut() {
    let keys = Keys::new("CERBAS", 1);
    assert_eq!(keys.bodies(u64::MAX)[0], "CERBAS-REQ-18446744073709551615");
    assert_eq!(keys.channel(RequestId::Number(12_345_678_901)), "CERBAS-RESPONSE-1-12345678901");
}

#[test]
fn answers_are_published_on_a_channel_for_each_format() {
    let keys = Keys::new("CERBAS", 8);
    let id = RequestId::Number(42);
    assert_eq!(keys.channel(&id), "CERBAS-RESPONSE-8-0000000042");
    assert_eq!(keys.msgpack_channel(&id), "MSGPACK:CERBAS-RESPONSE-8-0000000042");
    let both =
        [("CERBAS-RESPONSE-8-0192f0c1".to_owned(), false), ("MSGPACK:CERBAS-RESPONSE-8-0192f0c1".to_owned(), true)];
    assert_eq!(keys.channels(&text_id("0192f0c1")), both);
}

#[test]
fn extra_channels_are_made_from_templates_and_carry_messagepack_where_their_name_says_so() {
    let templates = ["{prefix}-RESPONSE-{id}", "msgpack:{prefix}-RESPONSE-{db}-{id}", "ä{id}"].map(str::to_owned);
    let keys = Keys::new("CERBAS", 8).with_extra_channels(&templates);
    let extra = [
        ("CERBAS-RESPONSE-0000000042".to_owned(), false),
        ("msgpack:CERBAS-RESPONSE-8-0000000042".to_owned(), true),
        ("ä0000000042".to_owned(), false),
    ];
    assert_eq!(keys.channels(&RequestId::Number(42))[2..], extra);
}

#[test]
fn another_prefix_stands_in_every_name() {
    let keys = Keys::new("{APP}", 0);
    let id = text_id("x");
    let names = [
        keys.queues()[0].clone(),
        keys.queues()[1].clone(),
        keys.counter(),
        keys.bodies(1)[0].clone(),
        keys.bodies(1)[1].clone(),
        keys.result(&id),
        keys.channel(&id),
        keys.in_flight("n", ""),
        keys.nodes(),
        keys.lease("n"),
        keys.fence("n"),
        keys.all_deliveries(),
        keys.delayed(),
        keys.dead(),
        keys.queue_names(),
        keys.named_queue("q"),
        keys.inbox("n"),
        keys.all_in_flight("n", [])[0].clone(),
        keys.verdicts(),
    ];
    for name in names {
        assert!(name.starts_with("{APP}"), "{name}");
    }
    assert_eq!(keys.msgpack_channel(&id), "MSGPACK:{APP}-RESPONSE-0-x");
}

#[test]
fn verdicts_have_their_names_and_their_order() {
    let names = ["ok", "error", "timeout", "expired", "cancelled", "rejected", "lost"];
    assert_eq!(Verdict::ALL.map(Verdict::as_str), names);
    for (verdict, name) in Verdict::ALL.into_iter().zip(names) {
        assert_eq!(verdict.to_string(), name);
        assert_eq!(serde_json::to_value(verdict).expect("a verdict is JSON"), name);
    }
}

// Answers.

#[test]
fn every_error_has_its_text_and_its_verdict() {
    check_error(CallError::Failed("no such table".to_owned()), "no such table", "error");
    check_error(CallError::TimedOut, "timeout", "timeout");
    check_error(CallError::Expired, "expired", "expired");
    check_error(CallError::Cancelled, "cancelled", "cancelled");
    check_error(CallError::BadCall, "bad call", "rejected");
    check_error(CallError::UndefinedFunction, "Undefined function", "rejected");
    check_error(CallError::InvalidArguments(String::new()), "invalid arguments", "rejected");
    check_error(CallError::InvalidSource, "cerbas authorization - invalid source", "rejected");
    check_error(CallError::InvalidUser, "cerbas authorization - invalid user", "rejected");
    check_error(CallError::NotByRoom("cron"), "cerbas authorization - only cron may send this", "rejected");
    check_error(CallError::Overload, "overload", "rejected");
    check_error(CallError::Lost, "lost", "lost");
}

#[test]
fn a_value_is_answered_as_it_is() {
    check_answer(Ok(json!(3).into()), r#"{"status":"ok","data":3}"#, b"\x82\xa6status\xa2ok\xa4data\x03");
    check_answer(Ok(json!(null).into()), r#"{"status":"ok","data":null}"#, b"\x82\xa6status\xa2ok\xa4data\xc0");
    check_answer(Ok(json!("").into()), r#"{"status":"ok","data":""}"#, b"\x82\xa6status\xa2ok\xa4data\xa0");
    check_answer(
        Ok(json!({"b": [true, -1, 0.5], "a": "ü"}).into()),
        r#"{"status":"ok","data":{"a":"ü","b":[true,-1,0.5]}}"#,
        b"\x82\xa6status\xa2ok\xa4data\x82\xa1a\xa2\xc3\xbc\xa1b\x93\xc3\xff\xcb\x3f\xe0\0\0\0\0\0\0",
    );
    let largest = b"\x82\xa6status\xa2ok\xa4data\xcf\xff\xff\xff\xff\xff\xff\xff\xff";
    check_answer(Ok(json!(u64::MAX).into()), r#"{"status":"ok","data":18446744073709551615}"#, largest);
}

#[test]
fn the_error_of_a_function_needs_no_verdict() {
    check_answer(
        Err(CallError::Failed("unexpected error".to_owned())),
        r#"{"status":"error","data":"unexpected error"}"#,
        b"\x82\xa6status\xa5error\xa4data\xb0unexpected error",
    );
}

#[test]
fn every_other_error_says_its_verdict() {
    check_answer(
        Err(CallError::TimedOut),
        r#"{"status":"error","data":"timeout","verdict":"timeout"}"#,
        b"\x83\xa6status\xa5error\xa4data\xa7timeout\xa7verdict\xa7timeout",
    );
    check_answer(
        Err(CallError::UndefinedFunction),
        r#"{"status":"error","data":"Undefined function","verdict":"rejected"}"#,
        b"\x83\xa6status\xa5error\xa4data\xb2Undefined function\xa7verdict\xa8rejected",
    );
}

#[test]
fn what_is_no_answer_has_no_messagepack() {
    for json in ["", "3", "{}", r#"{"status":"maybe","data":1}"#, r#"{"data":1}"#, "\u{0}"] {
        assert_eq!(json_to_msgpack(json.as_bytes()), None, "{json}");
    }
}

#[test]
fn a_client_reads_answers_of_newer_daemons() {
    let read: Answer = serde_json::from_str(r#"{"data":1,"node":"n","status":"ok"}"#).expect("it is an answer");
    assert_eq!(read, Answer { status: Status::Ok, data: Json::from(1), verdict: None, reason: None, retry: None });
}

// Requests.

#[test]
fn a_request_needs_nothing_but_its_function() {
    check(r#"{"func": "f"}"#, request(|_| {}));
    check(" \r\n\t{ \"func\":\"f\" }\n ", request(|_| {}));
    check("{\"func\":\"\\u0066\"}", request(|_| {}));
    check(r#"{"func": "größe"}"#, request(|request| request.func = "größe".to_owned()));
}

#[test]
fn every_field_is_read() {
    let json = r#"{"func": "f", "args": {"table": "users", "n": [1, {"a": null}]}, "user": "peter", "source": "ror",
                   "timeout": 250, "delay": 60000, "expires": 1000, "sent_at": 1799999999000, "reply": false}"#;
    let expected = request(|request| {
        request.args = json!({"table": "users", "n": [1, {"a": null}]}).as_object().expect("it is one").clone().into();
        request.user = Some("peter".to_owned());
        request.source = Some("ror".to_owned());
        request.timeout = Some(Duration::from_millis(250));
        request.not_before = Some(NOW - 1000 + 60_000);
        request.expires_at = Some(NOW - 1000 + 60_000 + 1000);
        request.reply = false;
    });
    check(json, expected);
}

#[test]
fn null_is_the_same_as_a_missing_field() {
    let json = r#"{"func": "f", "id": null, "args": null, "user": null, "source": null, "timeout": null, "delay": null,
                   "expires": null, "sent_at": null, "reply": null}"#;
    check(json, request(|_| {}));
    check_bad_call(r#"{"func": null}"#, "func: is missing");
}

#[test]
fn unknown_fields_are_ignored_whatever_they_hold() {
    check(r#"{"func": "f", "priority": 3, "tags": ["a"], "trace": {"x": -1e400}, "FUNC": "g"}"#, request(|_| {}));
    check(r#"{"x": 1, "func": "f", "x": 2}"#, request(|_| {}));
}

#[test]
fn a_known_field_may_stand_only_once() {
    check_bad_call(r#"{"func": "f", "func": "f"}"#, "duplicate field `func`");
    check_bad_call(r#"{"func": "f", "args": {}, "args": {}}"#, "duplicate field `args`");
    check_bad_call(r#"{"func": "f", "delay": null, "delay": 1}"#, "duplicate field `delay`");
}

#[test]
fn of_an_argument_that_stands_twice_the_last_one_counts() {
    let expected = request(|request| request.args.insert("a", 2));
    check(r#"{"func": "f", "args": {"a": 1, "a": 2}}"#, expected);
}

#[test]
fn only_an_object_is_a_request() {
    for json in ["", " ", "null", "true", "7", "-1", "1.5", "\"f\"", "[]", "[{\"func\": \"f\"}]", "nonsense", "\0"] {
        check_bad_call(json, "must be a JSON object");
    }
    // In this order the fields stand in the source; an array of them must not pass for an object.
    check_bad_call(r#"["x", "f", {}, null, null, null, null, null, null, null]"#, "must be a JSON object");
    check_bad_call("\u{feff}{\"func\": \"f\"}", "must be a JSON object");
}

#[test]
fn what_is_not_json_is_refused_at_every_length() {
    let json = r#"{"func": "f", "args": {"a": [1, "\u00fc", -0.5e1, true, null]}, "id": "x", "delay": 10}"#;
    for end in 0..json.len() {
        check_bad_call(&json[..end], "");
    }
    for json in ["{", "{}}", "{'func': 'f'}", "{func: \"f\"}", "{\"func\": \"f\",}", "{\"func\": \"f\"} x", "{,}"] {
        check_bad_call(json, "");
    }
    check_bad_call("{\"func\": \"a\nb\"}", "control character");
    check_bad_call(r#"{"func": "\ud800"}"#, "");
}

#[test]
fn a_function_must_be_named() {
    check_bad_call("{}", "func: is missing");
    check_bad_call(r#"{"func": ""}"#, "func: is missing");
    for value in ["1", "true", "{}", "[]", "[\"f\"]"] {
        check_bad_call(format!("{{\"func\": {value}}}"), "invalid type");
    }
}

#[test]
fn arguments_that_are_no_object_are_invalid_arguments() {
    for value in ["1", "\"a\"", "true", "[]", "[[\"a\", 1]]"] {
        let json = format!("{{\"func\": \"f\", \"args\": {value}}}");
        check_refused(json, CallError::InvalidArguments("must be an object".to_owned()), "args: must be an object");
    }
    check(r#"{"func": "f", "args": {}}"#, request(|_| {}));
}

#[test]
fn fields_of_the_wrong_type_are_refused() {
    let wrong = [
        ("user", "1"),
        ("user", "[]"),
        ("source", "{}"),
        ("source", "false"),
        ("id", "1"),
        ("id", "{}"),
        ("reply", "0"),
        ("reply", "\"false\""),
        ("timeout", "\"250\""),
        ("timeout", "true"),
        ("delay", "{}"),
        ("expires", "[1]"),
        ("sent_at", "\"now\""),
    ];
    for (name, value) in wrong {
        check_bad_call(format!("{{\"func\": \"f\", \"{name}\": {value}}}"), "invalid type");
    }
}

#[test]
fn numbers_are_whole_and_not_negative() {
    for name in ["timeout", "delay", "expires", "sent_at"] {
        for value in ["-1", "1.0", "0.5", "1e3", "18446744073709551616", "-9223372036854775809", "1e400"] {
            check_bad_call(format!("{{\"func\": \"f\", \"{name}\": {value}}}"), "");
        }
        for value in ["01", "+1", ".5", "1.", "0x10", "NaN", "Infinity", "1_000"] {
            check_bad_call(format!("{{\"func\": \"f\", \"{name}\": {value}}}"), "");
        }
    }
}

#[test]
fn timeout_and_expires_are_at_least_a_millisecond() {
    check_bad_call(r#"{"func": "f", "timeout": 0}"#, "timeout: must be at least 1 millisecond");
    check_bad_call(r#"{"func": "f", "expires": 0}"#, "expires: must be at least 1 millisecond");
    check(r#"{"func": "f", "timeout": 1}"#, request(|request| request.timeout = Some(Duration::from_millis(1))));
    check(r#"{"func": "f", "expires": 1}"#, request(|request| request.expires_at = Some(NOW + 1)));
}

#[test]
fn the_largest_numbers_do_not_overflow() {
    let longest = Some(Duration::from_millis(u64::MAX));
    check(r#"{"func": "f", "timeout": 18446744073709551615}"#, request(|request| request.timeout = longest));
    check(r#"{"func": "f", "expires": 18446744073709551615}"#, request(|request| request.expires_at = Some(u64::MAX)));
    check(r#"{"func": "f", "sent_at": 18446744073709551615}"#, request(|_| {}));
}

#[test]
fn a_delay_is_a_year_and_a_day_at_most() {
    assert_eq!(MAX_DELAY, Duration::from_millis(LONGEST_DELAY));
    check(r#"{"func": "f", "delay": 0}"#, request(|_| {}));
    check(
        format!("{{\"func\": \"f\", \"delay\": {LONGEST_DELAY}}}"),
        request(|request| request.not_before = Some(NOW + LONGEST_DELAY)),
    );
    for delay in [LONGEST_DELAY + 1, u64::MAX] {
        check_bad_call(format!("{{\"func\": \"f\", \"delay\": {delay}}}"), "delay: must be at most 366 days");
    }
}

#[test]
fn times_count_from_when_the_request_was_sent() {
    let check_times = |times: &str, not_before: Option<u64>, expires_at: Option<u64>| {
        let expected = request(|request| (request.not_before, request.expires_at) = (not_before, expires_at));
        check(format!("{{\"func\": \"f\", {times}}}"), expected);
    };
    let past = NOW - 500;
    check_times(r#""delay": 100"#, Some(NOW + 100), None);
    check_times(&format!(r#""delay": 100, "sent_at": {past}"#), Some(past + 100), None);
    check_times(r#""expires": 100"#, None, Some(NOW + 100));
    check_times(&format!(r#""expires": 100, "sent_at": {past}"#), None, Some(past + 100));
    check_times(&format!(r#""expires": 100, "delay": 10, "sent_at": {past}"#), Some(past + 10), Some(past + 110));
    // It is read again when it is due, and expires from there.
    check_times(r#""expires": 100, "delay": 10"#, Some(NOW + 10), Some(NOW + 100));
    // A clock that is ahead must not make anything wait longer.
    check_times(
        &format!(r#""expires": 100, "delay": 10, "sent_at": {}"#, NOW + 60_000),
        Some(NOW + 10),
        Some(NOW + 110),
    );
    check_times(r#""expires": 100, "delay": 10, "sent_at": 0"#, Some(10), Some(110));
    check_times(&format!(r#""sent_at": {past}"#), None, None);
}

#[test]
fn a_request_may_be_a_hundred_levels_deep() {
    let deep = |levels: usize| {
        // The request and its arguments are two of them.
        let arrays = levels - 2;
        format!("{{\"func\": \"f\", \"args\": {{\"a\": {}{}}}}}", "[".repeat(arrays), "]".repeat(arrays))
    };
    assert!(decode_request(deep(100).as_bytes(), Some(NUMBER), NOW).is_ok());
    check_bad_call(deep(101), "too deep");
    check_bad_call(deep(200), "too deep");
    check_bad_call(deep(1_000_000), "too deep");
    check_bad_call(format!("{{\"func\": \"f\", \"args\": {}", "{\"a\":".repeat(1_000_000)), "EOF while parsing");
    check_bad_call(format!("{{\"func\": {}", "[".repeat(1_000_000)), "");
}

#[test]
fn unknown_fields_of_any_depth_do_no_harm() {
    let json = format!("{{\"x\": {}{}, \"func\": \"f\"}}", "[".repeat(500_000), "]".repeat(500_000));
    check(json, request(|_| {}));
    check_bad_call(format!("{{\"x\": {}", "[".repeat(500_000)), "");
}

#[test]
fn text_that_is_not_utf_8_is_refused() {
    check_bad_call(b"{\"func\": \"\xff\"}", "");
    check_bad_call(b"{\"func\": \"f\", \"args\": {\"\xc3\": 1}}", "");
    check_bad_call(b"{\"func\": \"f\", \"args\": {\"a\": \"\xed\xa0\x80\"}}", "");
    check_bad_call(b"{\"func\": \"f\", \"user\": \"\xc0\xaf\"}", "");
    check_bad_call(b"{\"func\": \"f\"}\xff", "");
    check_bad_call(b"\xff\xfe{\0\"\0", "");
}

#[test]
fn text_that_is_not_utf_8_is_refused_in_unknown_fields_too() {
    check_bad_call(b"{\"func\": \"f\", \"x\": \"\xff\"}", "");
}

#[test]
fn what_is_escaped_is_read_as_what_it_means() {
    let expected = request(|request| {
        request.user = Some("ü\0\u{1f600}".to_owned());
    });
    check(r#"{"func": "f", "user": "\u00fc\u0000\ud83d\ude00"}"#, expected);
}

// Ids.

#[test]
fn an_id_is_made_of_few_characters() {
    let longest = "x".repeat(128);
    for text in ["a", "0", "0192f0c1-7d5e-7b1e-8a41-5d0e0f6b3c2a", "A_Z.a:z-09", longest.as_str()] {
        assert_eq!(RequestId::from_text(text).map(|id| id.to_string()).as_deref(), Some(text));
    }
    let too_long = "x".repeat(129);
    for text in ["", " ", "a b", "a\n", "ü", "a/b", "a*", "{a}", "a\0", too_long.as_str()] {
        assert_eq!(RequestId::from_text(text), None, "{text:?}");
    }
}

#[test]
fn a_number_is_filled_to_ten_digits() {
    assert_eq!(RequestId::Number(0).to_string(), "0000000000");
    assert_eq!(RequestId::Number(42).to_string(), "0000000042");
    assert_eq!(RequestId::Number(12_345_678_901).to_string(), "12345678901");
}

#[test]
fn the_id_of_an_inline_request_is_its_own() {
    check_told(r#"{"func": "f", "id": "0192f0c1"}"#, Some("0192f0c1"));
    check_told(r#"{"func": "f", "id": "\u0061"}"#, Some("a"));
    // A number as text is a text.
    check_told(r#"{"func": "f", "id": "42"}"#, Some("42"));
}

#[test]
fn the_number_of_a_request_wins_over_an_id_in_its_body() {
    check(r#"{"func": "f", "id": "mine"}"#, request(|_| {}));
    check(r#"{"func": "f", "id": "not an id"}"#, request(|_| {}));
    check_bad_call(r#"{"id": "mine"}"#, "func: is missing");
}

#[test]
fn a_request_without_an_id_gets_one_that_nobody_else_has() {
    let id = || decode_request(br#"{"func": "f"}"#, None, NOW).expect("it is a request").id;
    let ids = [id(), id()];
    assert_ne!(ids[0], ids[1]);
    for id in ids {
        assert_eq!(RequestId::from_text(&id.to_string()), Some(id));
    }
}

#[test]
fn who_sends_a_bad_call_is_told_where_the_id_can_be_read() {
    check_told(r#"{"id": "x"}"#, Some("x"));
    check_told(r#"{"id": "x", "func": 1}"#, Some("x"));
    check_told(r#"{"id": "x", "func": "f", "args": []}"#, Some("x"));
    check_told(r#"{"id": "x", "func": "f", "delay": -1}"#, Some("x"));
    check_told(r#"{"func": "f", "func": "g", "id": "x"}"#, Some("x"));
    check_told(r#"{"id": 1, "func": "f"}"#, Some("1"));
    check_told(r#"{"id": "x", "func": "f""#, Some("x"));
    check_told(r#"{"id": "x", "id": "x", "func": "f"}"#, Some("x"));
}

#[test]
fn nobody_is_told_where_the_id_cannot_be_read() {
    check_told(r#"{"id": "not an id", "func": "f"}"#, None);
    check_told(r#"{"id": "", "func": "f"}"#, None);
    check_told(r#"{"id": "x", "id": "y", "func": "f"}"#, None);
    check_told("\"x\"", None);
    check_told("", None);
}

#[test]
fn an_array_tells_no_id() {
    check_told(r#"["x"]"#, None);
}
