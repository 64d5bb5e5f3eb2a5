//! How much a client may have, and how long it may take.

use std::io::{Read, Write};
use std::time::{Duration, Instant};

use cerbas::{Call, Terms};
use serde_json::{Map, Value};

use crate::support::{Connection, PATIENCE, address, ask, eventually, get, serve, server};

#[test]
fn what_is_too_large_is_refused_and_the_connection_closed() {
    let running = serve("");
    let at = address(&running);
    let refused = |bytes: String, status: u16| {
        let mut connection = Connection::open(at);
        connection.send(bytes);
        let answer = connection.answer();
        assert_eq!((answer.status, answer.header("connection")), (status, Some("close")));
        assert!(connection.rest().is_empty());
    };
    refused(format!("GET /{} HTTP/1.1\r\nHost: localhost\r\n\r\n", "x".repeat(9000)), 414);
    refused(format!("GET / HTTP/1.1\r\nHost: localhost\r\nX: {}\r\n\r\n", "x".repeat(17_000)), 431);
    let many: String = (0..120).map(|number| format!("X-{number}: 1\r\n")).collect();
    refused(format!("GET / HTTP/1.1\r\nHost: localhost\r\n{many}\r\n"), 431);
    refused("POST /api/echo HTTP/1.1\r\nHost: localhost\r\nContent-Length: 2000000\r\n\r\n".to_owned(), 413);
    let chunks = format!("{:x}\r\n{}\r\n", 600_000, "x".repeat(600_000)).repeat(2);
    refused(format!("POST /api/echo HTTP/1.1\r\nHost: localhost\r\nTransfer-Encoding: chunked\r\n\r\n{chunks}"), 413);
    refused("POST /api/echo HTTP/1.1\r\nHost: localhost\r\nExpect: a miracle\r\n\r\n".to_owned(), 417);
}

#[test]
fn who_takes_too_long_is_told_so() {
    let running = serve("head_timeout = \"50ms\"\nbody_timeout = \"50ms\"\nidle_timeout = \"50ms\"\n");
    let at = address(&running);
    for start in ["GET / HTTP/1.1\r\nHost", "POST /api/sum HTTP/1.1\r\nHost: localhost\r\nContent-Length: 10\r\n\r\n{"]
    {
        let mut connection = Connection::open(at);
        connection.send(start);
        assert_eq!(connection.answer().status, 408, "{start:?}");
        assert!(connection.rest().is_empty());
    }
    // Who says nothing is not waited for, and is told nothing.
    assert!(Connection::open(at).rest().is_empty());
    let mut connection = Connection::open(at);
    connection.send("GET / HTTP/1.1\r\nHost: localhost\r\n\r\n");
    assert_eq!(connection.answer().status, 200);
    assert!(connection.rest().is_empty());
}

#[test]
fn a_deadline_is_not_moved_by_single_bytes() {
    let running = serve("head_timeout = \"300ms\"\n");
    let mut connection = Connection::open(address(&running));
    let started = Instant::now();
    connection.send("GET / HTTP/1.1\r\nX: ");
    connection.0.set_read_timeout(Some(Duration::from_millis(10))).expect("a socket has time limits");
    let mut byte = [0];
    while connection.0.read(&mut byte).is_err() {
        connection.send("x");
        assert!(started.elapsed() < PATIENCE, "it is never told");
    }
    connection.0.set_read_timeout(Some(PATIENCE)).expect("a socket has time limits");
    assert!(String::from_utf8_lossy(&connection.rest()).starts_with("TTP/1.1 408"));
}

#[test]
fn a_client_that_never_reads_is_let_go() {
    let big = "x".repeat(900_000);
    let running = server("write_timeout = \"100ms\"\n")
        .function_with(
            "big",
            Terms { cache: Some(Duration::from_secs(60)), ..Terms::default() },
            move |_: &Call, _: Map<String, Value>| Ok(big.clone()),
        )
        .start()
        .expect("it starts");
    let mut connection = Connection::open(address(&running));
    for _ in 0..64 {
        connection.send("GET /api/big HTTP/1.1\r\nHost: localhost\r\n\r\n");
    }
    eventually("it is let go", || connection.0.write_all(b"GET").is_err());
    assert_eq!(get(address(&running), "/api/hello").status, 200);
}

#[test]
fn more_connections_than_there_may_be_are_told_so() {
    let running = serve("max_connections = 4\n");
    let at = address(&running);
    let mut kept: Vec<Connection> = (0..4).map(|_| Connection::open(at)).collect();
    for connection in &mut kept {
        connection.send("GET /api/hello HTTP/1.1\r\nHost: localhost\r\n\r\n");
        assert_eq!(connection.answer().status, 200);
    }
    let mut fifth = Connection::open(at);
    assert_eq!(fifth.answer().status, 503);
    assert!(fifth.rest().is_empty());
    kept.clear();
    eventually("there is room again", || {
        let mut connection = Connection::open(at);
        connection.send("GET /api/hello HTTP/1.1\r\nHost: localhost\r\n\r\n");
        connection.answer().status == 200
    });
}

#[test]
fn one_address_cannot_have_all_connections() {
    let running = serve("max_per_address = 2\n");
    let at = address(&running);
    let mut kept = [Connection::open(at), Connection::open(at)];
    for connection in &mut kept {
        connection.send("GET /api/hello HTTP/1.1\r\nHost: localhost\r\n\r\n");
        assert_eq!(connection.answer().status, 200);
    }
    let mut third = Connection::open(at);
    let answer = third.answer();
    assert_eq!(answer.status, 503);
    assert!(answer.text().contains("from this address"), "{}", answer.text());
}

#[test]
fn more_calls_than_may_wait_are_refused() {
    let (go, gone) = std::sync::mpsc::channel::<()>();
    let gone = std::sync::Mutex::new(gone);
    let running = server("max_calls = 2\n")
        .function("held", move |_: &Call, _: Map<String, Value>| {
            gone.lock().expect("it is whole").recv().expect("the test says when");
            Ok(())
        })
        .start()
        .expect("it starts");
    let at = address(&running);
    let mut held = [Connection::open(at), Connection::open(at)];
    for connection in &mut held {
        connection.send("GET /api/held HTTP/1.1\r\nHost: localhost\r\n\r\n");
    }
    eventually("both wait", || running.balance().in_flight == 2);
    let refused = get(at, "/api/held");
    assert_eq!((refused.status, refused.header("retry-after")), (503, Some("1")));
    go.send(()).and_then(|()| go.send(())).expect("the functions wait");
    for connection in &mut held {
        assert_eq!(connection.answer().status, 200);
    }
}

#[test]
fn a_body_that_stops_half_way_harms_nobody() {
    let running = serve("");
    let at = address(&running);
    let mut connection = Connection::open(at);
    connection.send("POST /api/sum HTTP/1.1\r\nHost: localhost\r\nContent-Length: 100\r\n\r\n{\"a\"").finish();
    assert!(connection.rest().is_empty());
    assert_eq!(ask(at, "POST", "/api/sum", "", "{\"a\": 1, \"b\": 2}").status, 200);
    assert_eq!(running.balance().accepted, 1);
}
