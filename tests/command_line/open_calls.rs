//! Calls over HTTP in the hands of an operator: they stand in no list of Redis, so the daemons that have them are asked.

use std::io::{Read, Write};
use std::net::TcpStream;

use serde_json::{Value, json};

use super::program::{Daemon, PATIENCE, Place, eventually};

/// One worker, which the first call that waits for a file `go` holds.
const CONFIG: &str = r#"
[server]
name = "web-1"
lease = "1s"
workers = 1
[http]
listen = ["127.0.0.1:0"]
queue_timeout = "3h"
[functions.hello]
builtin = "hello"
[functions.waiting]
command = ["sh", "-c", "touch started; while [ -e started ] && [ ! -e go ]; do sleep 0.02; done; echo done"]
timeout = "1m"
[functions.single]
command = ["sh", "-c", "touch started; while [ -e started ] && [ ! -e go ]; do sleep 0.02; done; echo done"]
concurrency = 1
timeout = "1m"
[functions.flaky]
command = ["sh", "-c", "exit 1"]
retries = 3
backoff = "1h"
max_backoff = "1h"
"#;

/// A place whose daemons have no Redis.
fn alone() -> Place {
    let place = Place::empty();
    place.write("cerbas.toml", &format!("[redis]\nserver = \"none\"\n{CONFIG}"));
    place
}

/// A place whose daemons share a Redis.
fn shared() -> Place {
    let place = Place::with("");
    place.write("cerbas.toml", &format!("[redis]\nurl = \"{}\"\nserver = \"external\"\n{CONFIG}", place.url()));
    place
}

/// A call over HTTP under the id `id`, on its way.
pub(super) struct Call(TcpStream);

impl Call {
    pub(super) fn start(daemon: &Daemon, func: &str, id: &str) -> Self {
        daemon.wait_for("listens at http://");
        let log = daemon.log();
        let address = log.split("listens at http://").nth(1).and_then(|rest| rest.split_whitespace().next());
        let mut stream = TcpStream::connect(address.expect("it says where")).expect("somebody listens");
        stream.set_read_timeout(Some(PATIENCE)).expect("a socket has time limits");
        let head =
            format!("GET /api/{func} HTTP/1.1\r\nHost: localhost\r\nX-Request-Id: {id}\r\nConnection: close\r\n\r\n");
        stream.write_all(head.as_bytes()).expect("it is read");
        Call(stream)
    }

    pub(super) fn answer(mut self) -> String {
        let mut answer = String::new();
        self.0.read_to_string(&mut answer).expect("an answer comes");
        answer
    }
}

/// The job called `id`, as `jobs list` shows it.
fn job(place: &Place, id: &str) -> Option<Value> {
    let output = place.run(&["jobs", "list", "--json"]);
    assert_eq!((output.status, &*output.stderr), (Some(0), ""));
    let jobs: Vec<Value> = serde_json::from_str(&output.stdout).expect("it is JSON");
    jobs.into_iter().find(|job| job["id"] == id)
}

/// That the call `id` is listed as `state`, explained with `sentence`, and can be cancelled.
#[track_caller]
fn check(place: &Place, id: &str, state: &str, sentence: &str, call: Call) {
    let mut found = None;
    eventually(&format!("{id} is {state}"), || {
        found = job(place, id);
        found.as_ref().is_some_and(|job| job["state"] == state)
    });
    let found = found.expect("it was found");
    assert_eq!((&found["door"], &found["is_alive"]), (&json!("http"), &json!(true)), "{found}");
    let why = place.run(&["why", id]);
    assert!(why.status == Some(0) && why.stdout.contains(sentence), "{why:?}");
    place.check(&["jobs", "cancel", id], 0, &format!("{id}: cancelled\n"), "");
    let answer = call.answer();
    assert!(answer.contains("cancelled"), "{answer}");
    eventually("it is gone", || job(place, id).is_none());
    let again = place.run(&["jobs", "cancel", id]);
    assert_eq!(again.status, Some(1), "{again:?}");
    assert!(place.run(&["why", id]).stdout.contains("nothing is known of it"));
}

#[track_caller]
fn check_all(place: &Place) {
    let daemon = place.daemon();
    eventually("it is seen", || place.run(&["nodes"]).status == Some(0));
    let again = Call::start(&daemon, "flaky", "again-1");
    check(place, "again-1", "retrying", "flaky has failed once and runs again in ", again);
    let running = Call::start(&daemon, "waiting", "running-1");
    eventually("it runs", || place.path("started").exists());
    let waiting = Call::start(&daemon, "hello", "waiting-1");
    eventually("top shows both", || {
        let top = place.run(&["top", "-n", "1", "--every", "100ms"]).stdout;
        top.contains("running-1") && top.contains("waiting-1") && top.contains("waits for a worker")
    });
    check(place, "waiting-1", "claimed", "hello waits for a worker at ", waiting);
    check(place, "running-1", "running", "waiting has been running for ", running);
    assert_eq!(place.run(&["jobs", "list"]).stdout, "no requests\n");
}

#[test]
fn calls_over_http_are_listed_explained_and_cancelled_with_redis() {
    check_all(&shared());
}

#[test]
fn calls_over_http_are_listed_explained_and_cancelled_without_redis() {
    check_all(&alone());
}

#[test]
fn a_call_that_waits_for_another_of_its_function_is_parked() {
    let place = alone();
    place
        .write("cerbas.toml", &format!("[redis]\nserver = \"none\"\n{}", CONFIG.replace("workers = 1", "workers = 2")));
    let daemon = place.daemon();
    let first = Call::start(&daemon, "single", "first-1");
    eventually("it runs", || place.path("started").exists());
    let second = Call::start(&daemon, "single", "second-1");
    check(&place, "second-1", "parked", "single waits at memory until fewer calls of it run there", second);
    check(&place, "first-1", "running", "single has been running for ", first);
}

#[test]
fn an_id_that_no_list_has_is_asked_of_all_daemons() {
    let place = shared();
    let (first, second) = (place.daemon(), place.daemon());
    eventually("both are seen", || {
        let nodes: Value = serde_json::from_str(&place.run(&["nodes", "--json"]).stdout).expect("it is JSON");
        nodes.as_array().map(Vec::len) == Some(2)
    });
    let calls = [Call::start(&first, "flaky", "on-1"), Call::start(&second, "flaky", "on-2")];
    for (id, call) in ["on-1", "on-2"].into_iter().zip(calls) {
        check(&place, id, "retrying", "flaky has failed once", call);
    }
    let replies: Vec<String> =
        redis::cmd("KEYS").arg("CERBAS-REPLY-*").query(&mut place.connect()).expect("Redis answers");
    for key in replies {
        let left: i64 = redis::cmd("TTL").arg(&key).query(&mut place.connect()).expect("Redis answers");
        assert!((0..=60).contains(&left) || left == -2, "{key}: {left}");
    }
}
