//! Clients that have gone hold nothing, and nobody waits longer than they were told.

use std::io::Write;
use std::sync::Mutex;
use std::sync::mpsc::{Receiver, Sender, channel};

use cerbas::protocol::Verdict;
use cerbas::{Call, Running, Terms};
use serde_json::{Map, Value};

use crate::support::{Connection, address, ask, eventually, get, server};

/// A daemon with one worker and a function that waits until it is let go.
struct Held {
    running: Running,
    go: Sender<()>,
    started: Receiver<Value>,
}

fn held(http: &str, terms: Terms) -> Held {
    let (go, may_go) = channel::<()>();
    let (tell, started) = channel();
    let (may_go, tell) = (Mutex::new(may_go), Mutex::new(tell));
    let body = move |_: &Call, args: Map<String, Value>| {
        let _nobody_looks = tell.lock().expect("it is whole").send(args["n"].clone());
        let _the_test_is_over = may_go.lock().expect("it is whole").recv();
        Ok(())
    };
    let running = server(http).function_with("held", terms, body).start().expect("it starts");
    Held { running, go, started }
}

/// At most one call at once: the others wait.
fn one_at_a_time() -> Terms {
    Terms { concurrency: Some(1), timeout: crate::support::PATIENCE, ..Terms::default() }
}

fn send(held: &Held, number: u64) -> Connection {
    let mut connection = Connection::open(address(&held.running));
    connection.send(format!("GET /api/held?n={number} HTTP/1.1\r\nHost: localhost\r\n\r\n"));
    connection
}

/// How many clients wait for an answer, as the gateway sees it.
fn waiting(held: &Held) -> u64 {
    let metrics = get(address(&held.running), "/metrics").text();
    let line = metrics.lines().find_map(|line| line.strip_prefix("cerbas_http_waiting "));
    line.and_then(|count| count.parse().ok()).expect("it is counted")
}

#[test]
fn a_client_that_has_gone_frees_its_place_and_its_seat_at_once_whether_its_call_runs_or_waits() {
    let held = held("max_calls = 3\nmax_per_address = 4\n", one_at_a_time());
    let at = address(&held.running);
    for round in 0..5 {
        let clients: Vec<Connection> = (0..3).map(|number| send(&held, round * 10 + number)).collect();
        eventually("all of them wait", || held.running.balance().in_flight == 3);
        held.started.recv().expect("one of them runs");
        assert_eq!(get(at, "/api/held?n=0").status, 503, "there is no place");
        drop(clients);
        // Otherwise nothing is answered, and there is no seat for the next round.
        eventually("there are places again", || get(at, "/api/hello").status == 200);
        eventually("all ends were seen", || waiting(&held) == 0);
        held.go.send(()).expect("one waits");
        eventually("only what ran has ended well", || held.running.balance().in_flight == 0);
    }
    let balance = held.running.balance();
    assert_eq!((balance.count(Verdict::Ok), balance.count(Verdict::Cancelled)), (5 + 5, 10), "{balance:?}");
}

#[test]
fn a_call_of_a_client_that_has_gone_does_not_start() {
    let held = held("", one_at_a_time());
    let mut first = send(&held, 1);
    assert_eq!(held.started.recv(), Ok(1.into()));
    let second = send(&held, 2);
    eventually("it waits", || held.running.balance().in_flight == 2);
    drop(second);
    eventually("its end was seen", || waiting(&held) == 1);
    held.go.send(()).expect("it waits");
    assert_eq!(first.answer().status, 200);
    let mut third = send(&held, 3);
    assert_eq!(held.started.recv(), Ok(3.into()), "the second one never started");
    held.go.send(()).expect("it waits");
    assert_eq!(third.answer().status, 200);
    assert_eq!(held.running.balance().count(Verdict::Cancelled), 1);
}

#[test]
fn a_call_that_cannot_start_in_its_time_is_told_so_then_and_not_when_a_worker_is_free() {
    let held = held("queue_timeout = \"200ms\"\n", one_at_a_time());
    let mut first = send(&held, 1);
    assert_eq!(held.started.recv(), Ok(1.into()));
    let mut second = send(&held, 2);
    let answer = second.answer();
    assert_eq!((answer.status, answer.json()["verdict"].as_str()), (504, Some("expired")));
    // The one that runs is not concerned, and the connection goes on.
    second.send("GET /api/hello HTTP/1.1\r\nHost: localhost\r\n\r\n");
    assert_eq!(second.answer().status, 200);
    held.go.send(()).expect("it waits");
    assert_eq!(first.answer().status, 200);
    eventually("it has its verdict", || held.running.balance().in_flight == 0);
    assert_eq!(held.running.balance().count(Verdict::Expired), 1);
}

#[test]
fn a_call_that_is_to_wait_longer_than_calls_may_is_sent_to_work() {
    let held = held("queue_timeout = \"1s\"\n", Terms::default());
    let body = r#"{"request":{"func":"hello","delay":1500}}"#;
    let answer = ask(address(&held.running), "POST", "/api/general", "Content-Type: application/json\r\n", body);
    assert_eq!(answer.status, 400);
    assert!(answer.text().contains("/api/work"), "{}", answer.text());
}

#[test]
fn whoever_looks_after_the_machine_has_seats_of_their_own() {
    let held = held("max_calls = 1\nmax_per_address = 2\nmax_connections = 2\n", one_at_a_time());
    let at = address(&held.running);
    let mut first = send(&held, 1);
    assert_eq!(held.started.recv(), Ok(1.into()));
    let mut second = send(&held, 2);
    assert_eq!(second.answer().status, 503, "there is no place for its call");
    for path in ["/livez", "/readyz", "/metrics"] {
        let answer = get(at, path);
        assert_eq!((answer.status, answer.header("connection")), (200, Some("close")), "{path}");
    }
    for path in ["/api/hello", "/", "/api/nodes"] {
        let answer = get(at, path);
        assert_eq!((answer.status, answer.header("retry-after")), (503, Some("5")), "{path}");
    }
    held.go.send(()).expect("it waits");
    assert_eq!(first.answer().status, 200);
}

#[test]
fn what_a_client_sends_ahead_waits_and_is_answered() {
    let held = held("", one_at_a_time());
    let mut connection = send(&held, 1);
    assert_eq!(held.started.recv(), Ok(1.into()));
    for _ in 0..3 {
        connection.0.write_all(b"GET /api/hello HTTP/1.1\r\nHost: localhost\r\n\r\n").expect("it is open");
    }
    held.go.send(()).expect("it waits");
    for _ in 0..4 {
        assert_eq!(connection.answer().status, 200);
    }
}
