//! What a caller gets, whichever way the request came and whatever the function is.

use std::collections::HashMap;
use std::time::Duration;

use cerbas::protocol::{RequestId, Verdict};
use cerbas::{ClientError, NativeError, Terms};
use serde::{Deserialize, Serialize};
use serde_json::{Value, json};

use crate::support::{
    Anything, Counter, Daemon, PATIENCE, SHORT, becomes, configured, failed, ok, rejected, unfit, verdicts, within,
    workers,
};

#[derive(Deserialize)]
struct Table {
    table: String,
    #[serde(default)]
    limit: Option<u8>,
}

#[derive(Serialize)]
struct Count {
    table: String,
    rows: u64,
}

const AUTH: &str = r#"
[server]
workers = 2
[auth]
sources = ["web", "cron"]
users = ["tom", "eve"]
[functions.echo]
builtin = "echo"
[functions.hello]
builtin = "hello"
[functions.sum]
builtin = "sum"
[functions.withargs]
builtin = "withargs"
[functions.witherror]
builtin = "witherror"
[functions.nightly]
builtin = "echo"
sources = ["cron"]
users = ["tom"]
"#;

/// A daemon that knows tables, and lets only some in.
fn daemon() -> Daemon {
    Daemon::start(configured(AUTH), |server, _| {
        let terms = Terms { params: vec!["table".to_owned()], ..Terms::default() };
        server
            .function_with("count", terms, |_, Table { table, limit }: Table| {
                if table == "gone" {
                    return Err(NativeError::from(format!("no such table: {table}")));
                }
                Ok(Count { table, rows: limit.map_or(300, u64::from) })
            })
            .function("whoami", |call, _: Anything| {
                Ok(json!([call.id.to_string(), call.func, call.user, call.source, call.timeout.as_millis() as u64]))
            })
    })
}

/// Sends `request` as the program `web`, under an id.
#[track_caller]
fn check(request: Value, expected: Value) {
    let daemon = daemon();
    let mut full = json!({"id": "the-call", "source": "web"});
    for (name, value) in request.as_object().expect("a request is an object") {
        full[name] = value.clone();
    }
    daemon.push(full);
    assert_eq!(daemon.answer("the-call"), expected);
    assert_eq!(daemon.settled().accepted, 1);
}

#[test]
fn a_function_answers_with_its_value() {
    check(json!({"func": "count", "args": {"table": "users"}}), ok(json!({"table": "users", "rows": 300})));
    check(json!({"func": "count", "args": {"table": "users", "limit": 5}}), ok(json!({"table": "users", "rows": 5})));
}

#[test]
fn a_function_that_fails_answers_with_its_own_text() {
    check(json!({"func": "count", "args": {"table": "gone"}}), failed("no such table: gone"));
}

#[test]
fn the_built_in_functions_answer_as_ever() {
    check(json!({"func": "hello"}), ok("hello world!"));
    check(json!({"func": "echo", "args": {"message": {"a": [1, null]}}}), ok(json!({"a": [1, null]})));
    check(json!({"func": "sum", "args": {"a": 1, "b": 2}}), ok(3));
    check(json!({"func": "sum", "args": {"a": 1, "b": 0.5}}), ok(1.5));
    check(json!({"func": "sum", "args": {"a": 1, "b": "2"}}), failed("bad arguments"));
    check(json!({"func": "withargs", "args": {"foo": "bar"}}), ok("bar"));
    check(json!({"func": "withargs"}), unfit("foo: is missing"));
    check(json!({"func": "witherror"}), failed("unexpected error"));
}

#[test]
fn a_function_that_nobody_knows_is_undefined() {
    check(json!({"func": "nothing"}), rejected("Undefined function"));
    check(json!({"func": "Hello"}), rejected("Undefined function"));
    check(json!({"func": " hello"}), rejected("Undefined function"));
}

#[test]
fn arguments_must_be_there_and_fit() {
    check(json!({"func": "count"}), unfit("table: is missing"));
    check(json!({"func": "count", "args": {"limit": 1}}), unfit("table: is missing"));
    check(json!({"func": "count", "args": {"table": 7}}), unfit("invalid type: integer `7`, expected a string"));
    check(json!({"func": "count", "args": {"table": null}}), unfit("table: is missing"));
    check(
        json!({"func": "count", "args": {"table": "users", "limit": 256}}),
        unfit("invalid value: integer `256`, expected u8"),
    );
    check(json!({"func": "count", "args": ["users"]}), unfit("must be an object"));
}

#[test]
fn a_request_that_cannot_be_read_is_a_bad_call() {
    check(json!({"args": {}}), rejected("bad call"));
    check(json!({"func": 7}), rejected("bad call"));
    check(json!({"func": "hello", "delay": -1}), rejected("bad call"));
    check(json!({"func": "hello", "timeout": 0}), rejected("bad call"));
}

#[test]
fn only_listed_sources_and_users_may_call() {
    let no_source = rejected("cerbas authorization - invalid source");
    let no_user = rejected("cerbas authorization - invalid user");
    check(json!({"func": "hello", "source": "cron", "user": "tom"}), ok("hello world!"));
    check(json!({"func": "hello", "source": "shell"}), no_source.clone());
    check(json!({"func": "hello", "source": null}), no_source.clone());
    check(json!({"func": "hello", "user": "peter"}), no_user.clone());
    check(json!({"func": "nightly", "args": {"message": 1}, "source": "cron", "user": "tom"}), ok(1));
    check(json!({"func": "nightly", "args": {"message": 1}, "user": "tom"}), no_source);
    check(json!({"func": "nightly", "args": {"message": 1}, "source": "cron", "user": "eve"}), no_user.clone());
    check(json!({"func": "nightly", "args": {"message": 1}, "source": "cron"}), no_user);
    // What is not known is not known, whoever asks.
    check(json!({"func": "nothing", "source": "shell"}), rejected("Undefined function"));
}

#[test]
fn a_function_sees_who_asks_and_how_long_it_may_run() {
    check(json!({"func": "whoami"}), ok(json!(["the-call", "whoami", null, "web", 5000])));
    check(
        json!({"func": "whoami", "user": "tom", "source": "cron", "timeout": 1234}),
        ok(json!(["the-call", "whoami", "tom", "cron", 1234])),
    );
    check(json!({"func": "whoami", "timeout": 3_600_000}), ok(json!(["the-call", "whoami", null, "web", 5000])));
}

#[test]
fn the_client_gets_values_and_errors() {
    let daemon = daemon();
    let mut client = daemon.client().source("web").user("tom");
    assert_eq!(client.call("sum", json!({"a": 40, "b": 2})), Ok(json!(42).into()));
    let mut error = |func: &str| match client.call(func, json!({})) {
        Err(ClientError::Answered { verdict, message, is_for_good, .. }) => (verdict, message, is_for_good),
        other => panic!("{func}: {other:?}"),
    };
    assert_eq!(error("witherror"), (Verdict::Error, "unexpected error".to_owned(), false));
    assert_eq!(error("nothing"), (Verdict::Rejected, "Undefined function".to_owned(), true));
    assert_eq!(
        client.call("sum", json!([1])),
        Err(ClientError::Arguments("must be a JSON object, by name".to_owned()))
    );
}

#[test]
fn a_client_whose_request_nobody_takes_takes_it_back() {
    let daemon = Daemon::plain(workers(1));
    daemon.send("first", "held");
    daemon.gate().holds(1);
    let waited = Duration::from_millis(20);
    let answer = daemon.client().patience(waited).call("one", json!({}));
    assert_eq!(answer, Err(ClientError::NoAnswer { was_taken: false, waited }));
    assert_eq!(daemon.memory().queue(0).len(), 0);
}

#[test]
fn a_numbered_request_is_answered_under_its_number() {
    let daemon = daemon();
    daemon.memory().set_body(42, r#"{"func": "hello", "source": "web", "id": "ignored"}"#);
    daemon.memory().push(0, "42");
    let answer = daemon.memory().answer(&RequestId::Number(42), PATIENCE).expect("it is answered");
    assert_eq!(*answer.json, *br#"{"status":"ok","data":"hello world!"}"#);
    assert!(daemon.is_unanswered("ignored"));
}

#[test]
fn a_number_without_a_body_is_a_bad_call() {
    let daemon = daemon();
    daemon.memory().push(0, "42");
    let answer = daemon.memory().answer(&RequestId::Number(42), PATIENCE).expect("it is answered");
    assert_eq!(*answer.json, *br#"{"status":"error","data":"bad call","verdict":"rejected"}"#);
    assert_eq!(daemon.memory().refused().len(), 1);
}

#[test]
fn the_body_of_a_numbered_request_is_gone_with_its_verdict() {
    let daemon = daemon();
    daemon.memory().set_body(42, r#"{"func": "hello", "source": "web"}"#);
    daemon.memory().push(0, "42");
    becomes(1, || daemon.balance().count(Verdict::Ok));
    daemon.settled();
    daemon.memory().push(0, "42");
    becomes(1, || daemon.balance().count(Verdict::Rejected));
}

#[test]
fn both_queues_are_served() {
    let daemon = Daemon::plain(workers(1));
    daemon.memory().push(1, r#"{"id": "second-queue", "func": "one"}"#);
    daemon.memory().push(0, r#"{"id": "first-queue", "func": "one"}"#);
    assert_eq!((daemon.answer("first-queue"), daemon.answer("second-queue")), (ok(1), ok(1)));
}

#[test]
fn messagepack_says_the_same_as_json() {
    let daemon = daemon();
    for (id, func) in [("value", "hello"), ("error", "witherror"), ("rejected", "nothing")] {
        daemon.push(json!({"id": id, "func": func, "source": "web"}));
        let encoded = daemon.encoded(id);
        let msgpack: Value = rmp_serde::from_slice(&encoded.msgpack).expect("it is MessagePack");
        assert_eq!(msgpack, daemon.answer(id));
    }
}

#[test]
fn where_nobody_waits_nothing_is_stored_but_the_verdict_is_recorded() {
    let calls = Counter::default();
    let counted = calls.clone();
    let daemon =
        Daemon::start(workers(1), |server, _| server.function("count", move |_, _: Anything| Ok(counted.next())));
    daemon.push(json!({"id": "quiet", "func": "count", "reply": false}));
    daemon.push(json!({"id": "quiet-unknown", "func": "nothing", "reply": false}));
    daemon.client().send("count", json!({})).expect("memory takes it");
    becomes(3, || daemon.balance().accepted);
    assert_eq!(verdicts(&daemon.settled()), [(Verdict::Ok, 2), (Verdict::Rejected, 1)]);
    assert_eq!(calls.count(), 2);
    assert!(daemon.is_unanswered("quiet") && daemon.is_unanswered("quiet-unknown"));
}

#[test]
fn a_request_without_an_id_runs_as_well() {
    let calls = Counter::default();
    let counted = calls.clone();
    let daemon =
        Daemon::start(workers(1), |server, _| server.function("count", move |_, _: Anything| Ok(counted.next())));
    daemon.memory().push(0, r#"{"func": "count"}"#);
    becomes(1, || calls.count());
    assert_eq!(verdicts(&daemon.settled()), [(Verdict::Ok, 1)]);
}

#[test]
fn an_async_function_answers_before_it_runs_and_its_verdict_is_recorded() {
    let daemon = Daemon::start(workers(1), |server, gate| {
        let terms = |timeout| Terms { is_async: true, ..within(timeout) };
        let (gate, failing) = (gate.clone(), gate.clone());
        server
            .function_with("later", terms(PATIENCE), move |_, _: Anything| {
                gate.pass();
                Ok("done")
            })
            .function_with("fails-later", terms(PATIENCE), move |_, _: Anything| {
                failing.pass();
                Err::<(), _>(NativeError::from("no"))
            })
    });
    daemon.send("a", "later");
    assert_eq!(daemon.answer("a"), ok(""));
    daemon.gate().holds(1);
    assert_eq!((daemon.balance().in_flight, daemon.memory().in_flight()), (1, 1));
    daemon.send("b", "fails-later");
    daemon.gate().open();
    assert_eq!(daemon.answer("b"), ok(""));
    assert_eq!(verdicts(&daemon.settled()), [(Verdict::Ok, 1), (Verdict::Error, 1)]);
    assert_eq!((daemon.answer("a"), daemon.answer("b")), (ok(""), ok("")));
}

#[test]
fn an_async_function_past_its_limit_is_recorded_as_a_timeout() {
    let daemon = Daemon::start(workers(1), |server, gate| {
        let gate = gate.clone();
        let terms = Terms { is_async: true, ..within(SHORT) };
        server.function_with("later", terms, move |_, _: Anything| {
            gate.pass();
            Ok("done")
        })
    });
    daemon.send("a", "later");
    assert_eq!(daemon.answer("a"), ok(""));
    assert_eq!(verdicts(&daemon.settled()), [(Verdict::Timeout, 1)]);
    assert_eq!(daemon.answer("a"), ok(""));
}

#[test]
fn an_async_function_that_may_not_be_called_is_refused() {
    let daemon = Daemon::start(workers(1), |server, _| {
        let terms = Terms { is_async: true, params: vec!["a".to_owned()], ..Terms::default() };
        server.function_with("later", terms, |_, _: Anything| Ok("done"))
    });
    daemon.send("a", "later");
    assert_eq!(daemon.answer("a"), unfit("a: is missing"));
}

#[test]
fn a_value_that_is_not_json_is_an_error() {
    let daemon = Daemon::start(workers(1), |server, _| {
        server.function("pairs", |_, _: Anything| Ok(HashMap::from([((1, 2), 3)])))
    });
    daemon.send("a", "pairs");
    assert_eq!(daemon.answer("a"), failed("the result is not JSON: key must be a string"));
}

#[test]
fn two_requests_under_one_id_are_both_run() {
    let daemon = Daemon::plain(workers(1));
    daemon.send("twin", "one");
    daemon.send("twin", "one");
    becomes(2, || daemon.balance().count(Verdict::Ok));
    assert_eq!(daemon.answer("twin"), ok(1));
    daemon.settled();
}
