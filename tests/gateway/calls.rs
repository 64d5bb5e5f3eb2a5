//! Calls of functions.

use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;

use cerbas::{Call, Terms};
use serde_json::{Map, Value, json};

use crate::support::{Connection, address, ask, eventually, get, serve, server};

type Anything = Map<String, Value>;

#[test]
fn a_function_is_called_by_its_path_with_arguments_of_the_query_and_the_body() {
    let running = serve("");
    let at = address(&running);
    let hello = get(at, "/api/hello");
    assert_eq!((hello.status, hello.json()), (200, json!({"status": "ok", "data": "hello world!"})));
    assert_eq!(hello.header("content-type"), Some("application/json"));
    assert!(hello.header("date").is_some_and(|date| date.ends_with(" GMT")), "{hello:?}");
    assert_eq!(get(at, "/api/sum?a=1&b=2").json()["data"], 3);
    assert_eq!(
        ask(at, "POST", "/api/sum", "Content-Type: application/json\r\n", "{\"a\": 1, \"b\": 2.5}").json()["data"],
        3.5
    );
    let form = "Content-Type: application/x-www-form-urlencoded\r\n";
    assert_eq!(ask(at, "POST", "/api/sum?a=1", form, "b=5").json()["data"], 6);
    assert_eq!(ask(at, "POST", "/api/sum", form, "{\"a\": 1, \"b\": 1}").json()["data"], 2);
    let general =
        ask(at, "POST", "/api/general", "", "{\"request\": {\"func\": \"sum\", \"args\": {\"a\": 4, \"b\": 5}}}");
    assert_eq!(general.json()["data"], 9);
    assert_eq!(get(at, "/").text(), "OK\n");
}

#[test]
fn the_status_says_how_a_call_ended() {
    let terms = Terms { timeout: Duration::from_millis(30), ..Terms::default() };
    let running = server("[functions.rare]\nbuiltin = \"hello\"\ncache = \"1ms\"\nrate = \"1/h\"\n")
        .function_with("late", terms, |call: &Call, _: Anything| {
            call.cancel.wait(Duration::from_secs(20));
            Ok(())
        })
        .start()
        .expect("it starts");
    let at = address(&running);
    for (target, status, text) in [
        ("/api/nothing", 404, "Undefined function"),
        ("/api/sum?a=1", 400, "invalid arguments"),
        ("/api/witherror", 500, "unexpected error"),
        ("/api/late", 504, "timeout"),
        ("/nothing", 404, "not found: no page and no function has this path"),
    ] {
        let answer = get(at, target);
        assert_eq!((answer.status, &answer.json()["data"]), (status, &json!(text)), "{target}");
    }
    assert_eq!(get(at, "/api/rare").status, 200);
    let refused = get(at, "/api/rare?x=1");
    assert_eq!((refused.status, refused.header("retry-after")), (429, Some("1")));
    let wrong = ask(at, "DELETE", "/api/sum", "", "");
    assert_eq!((wrong.status, wrong.header("allow")), (405, Some("GET, HEAD, POST, OPTIONS")));
    assert_eq!(ask(at, "POST", "/api/echo", "Content-Type: image/png\r\n", "x").status, 415);
    assert_eq!(ask(at, "POST", "/api/echo", "Content-Type: application/json\r\n", "{").status, 400);
    assert_eq!(ask(at, "POST", "/api/echo", "Content-Type: application/json\r\n", "[1]").status, 400);
    assert_eq!(ask(at, "POST", "/api/general", "", "{\"request\": {\"func\": 1}}").status, 400);
    eventually("all have their verdict", || running.balance().in_flight == 0);
    assert!(running.balance().holds());
}

#[test]
fn message_pack_goes_in_and_out() {
    let running = serve("");
    let mut connection = Connection::open(address(&running));
    let body = rmp_serde::to_vec_named(&json!({"a": 1, "b": 2})).expect("it is MessagePack");
    connection.send(format!(
        "POST /api/sum HTTP/1.1\r\nHost: localhost\r\nContent-Type: application/msgpack\r\nAccept: application/msgpack\r\nContent-Length: {}\r\n\r\n",
        body.len()
    ));
    connection.send(&body);
    let answer = connection.answer();
    assert_eq!(answer.header("content-type"), Some("application/msgpack"));
    let value: Value = rmp_serde::from_slice(&answer.body).expect("it is MessagePack");
    assert_eq!(value, json!({"status": "ok", "data": 3}));
}

#[test]
fn requests_on_one_connection_are_answered_in_their_order() {
    let running = serve("");
    let mut connection = Connection::open(address(&running));
    let requests: String =
        (0..50).map(|number| format!("GET /api/echo?message={number} HTTP/1.1\r\nHost: localhost\r\n\r\n")).collect();
    connection.send(requests);
    for number in 0..50 {
        assert_eq!(connection.answer().json()["data"], number);
    }
    connection.send("GET /api/hello HTTP/1.0\r\n\r\n");
    assert_eq!(connection.answer().header("connection"), Some("close"));
    assert!(connection.rest().is_empty());
}

#[test]
fn head_is_get_without_a_body_and_options_says_what_is_allowed() {
    let running = serve("");
    let at = address(&running);
    let (head, got) = (ask(at, "HEAD", "/api/hello", "", ""), get(at, "/api/hello"));
    assert_eq!((head.status, head.body.len()), (200, 0));
    assert_eq!(head.header("content-length"), Some(&*got.body.len().to_string()));
    let options = ask(at, "OPTIONS", "/api/work", "", "");
    assert_eq!((options.status, options.header("allow")), (204, Some("POST, OPTIONS")));
    assert_eq!(ask(at, "OPTIONS", "*", "", "").status, 204);
}

#[test]
fn a_client_that_asks_first_is_told_to_go_on() {
    let running = serve("");
    let mut connection = Connection::open(address(&running));
    connection.send("POST /api/sum HTTP/1.1\r\nHost: localhost\r\nExpect: 100-continue\r\nContent-Length: 15\r\n\r\n");
    assert_eq!(connection.answer().status, 100);
    connection.send("{\"a\": 1, \"b\":2}");
    assert_eq!(connection.answer().json()["data"], 3);
}

#[test]
fn a_request_has_an_id_which_the_function_sees() {
    let running =
        server("").function("id", |call: &Call, _: Anything| Ok(call.id.to_string())).start().expect("it starts");
    let at = address(&running);
    let own = ask(at, "GET", "/api/id", "X-Request-Id: order-7\r\n", "");
    assert_eq!((own.header("x-request-id"), &own.json()["data"]), (Some("order-7"), &json!("order-7")));
    let made = get(at, "/api/id");
    assert_eq!(made.header("x-request-id"), made.json()["data"].as_str());
    let wrong = ask(at, "GET", "/api/id", "X-Request-Id: a b\r\n", "");
    assert_ne!(wrong.header("x-request-id"), Some("a b"));
}

#[test]
fn a_deadline_and_a_time_limit_are_handed_on() {
    let running = server("")
        .function("left", |call: &Call, _: Anything| Ok(call.timeout.as_millis() as u64))
        .start()
        .expect("it starts");
    let at = address(&running);
    assert_eq!(ask(at, "GET", "/api/left", "X-Request-Timeout: 700\r\n", "").json()["data"], 700);
    let late = ask(at, "GET", "/api/left", "X-Request-Deadline: 1000\r\n", "");
    assert_eq!((late.status, &late.json()["verdict"]), (504, &json!("expired")));
    assert_eq!(ask(at, "GET", "/api/left", "X-Request-Timeout: soon\r\n", "").status, 400);
}

#[test]
fn a_call_that_comes_again_under_its_key_gets_the_same_answer_and_runs_once() {
    let count = Arc::new(AtomicUsize::new(0));
    let running = server("")
        .function("count", {
            let count = Arc::clone(&count);
            move |_: &Call, _: Anything| Ok(count.fetch_add(1, Ordering::SeqCst))
        })
        .start()
        .expect("it starts");
    let at = address(&running);
    let again = |key: &str, body: &str| ask(at, "POST", "/api/count", &format!("Idempotency-Key: {key}\r\n"), body);
    assert_eq!(again("a", "{\"x\": 1}").json()["data"], 0);
    let second = again("a", "{\"x\": 1}");
    assert_eq!((second.json()["data"].as_u64(), second.header("idempotency-replayed")), (Some(0), Some("true")));
    assert_eq!(again("a", "{\"x\": 2}").status, 422);
    assert_eq!(again("b", "{\"x\": 2}").json()["data"], 1);
    assert_eq!(count.load(Ordering::SeqCst), 2);
}

#[test]
fn a_call_that_fails_runs_again_as_its_function_says() {
    let count = Arc::new(AtomicUsize::new(0));
    let retries = cerbas::functions::Retries { count: 2, backoff: Duration::from_millis(1), ..Default::default() };
    let running = server("")
        .function_with("third", Terms { retries, ..Terms::default() }, {
            let count = Arc::clone(&count);
            move |_: &Call, _: Anything| match count.fetch_add(1, Ordering::SeqCst) {
                2 => Ok("at last"),
                _ => Err("not yet".into()),
            }
        })
        .start()
        .expect("it starts");
    assert_eq!(get(address(&running), "/api/third").json()["data"], "at last");
    assert!(running.balance().holds());
}

#[test]
fn a_call_with_a_unique_key_goes_by_the_queue_where_keys_are_known() {
    let running = serve("[functions.once]\nbuiltin = \"echo\"\nunique = \"reject\"\n");
    let at = address(&running);
    assert_eq!(get(at, "/api/once?message=1").json(), json!({"status": "ok", "data": 1}));
    let body = "{\"request\": {\"func\": \"sum\", \"args\": {\"a\": 1, \"b\": 2}, \"delay\": 5}}";
    assert_eq!(ask(at, "POST", "/api/general", "", body).json()["data"], 3);
    assert_eq!(get(at, "/api/once").status, 400);
}

#[test]
fn the_loops_of_the_daemon_are_seen_to_turn() {
    let running = serve("");
    let at = address(&running);
    let turned = || get(at, "/livez").json()["turned_ms"].clone();
    for name in ["http-0", "intake-default", "intake-inbox", "control", "heartbeat"] {
        eventually(name, || turned()[name].as_u64().is_some_and(|turned| turned < 5000));
    }
}

#[test]
fn what_is_running_is_answered_before_the_daemon_ends() {
    let (started, starts) = std::sync::mpsc::channel();
    let (go, gone) = std::sync::mpsc::channel::<()>();
    let (started, gone) = (std::sync::Mutex::new(started), std::sync::Mutex::new(gone));
    let running = server("")
        .function("held", move |_: &Call, _: Anything| {
            started.lock().expect("it is whole").send(()).expect("the test waits");
            gone.lock().expect("it is whole").recv().expect("the test says when");
            Ok("done")
        })
        .start()
        .expect("it starts");
    let mut connection = Connection::open(address(&running));
    let mut idle = Connection::open(address(&running));
    connection.send("GET /api/held HTTP/1.1\r\nHost: localhost\r\n\r\n");
    starts.recv().expect("the function runs");
    let stopping = std::thread::spawn(move || running.stop());
    // A connection that has nothing to say is closed at once.
    assert!(idle.rest().is_empty());
    go.send(()).expect("the function waits");
    let answer = connection.answer();
    assert_eq!((answer.status, answer.header("connection")), (200, Some("close")));
    assert!(stopping.join().expect("it stops").is_clean());
}

#[test]
fn a_program_is_told_the_port_on_which_its_proxy_looks_for_it() {
    let running = serve(
        "[functions.proxiedhostport]\nbuiltin = \"proxiedhostport\"\n\
         [proxy.app]\npath = \"/app\"\ntarget = \"http://127.0.0.1:5000\"\n\
         [proxy.two]\npath = \"/two\"\ntargets = [\"http://localhost:5001\", \"http://127.0.0.1:5002\"]\n\
         [proxy.usual]\npath = \"/usual\"\ntarget = \"http://example.org\"\n\
         [proxy.socket]\npath = \"/socket\"\ntarget = \"unix:/run/app.sock\"\n",
    );
    let ask = |server: &str| get(address(&running), &format!("/api/proxiedhostport?server={server}")).json();
    for (server, port) in [("app", 5000), ("two", 5001), ("usual", 80)] {
        assert_eq!(ask(server), json!({"status": "ok", "data": port}));
    }
    let failed = |text: &str| json!({"status": "error", "data": text});
    assert_eq!(ask("ghost"), failed("no proxy is called \"ghost\""));
    assert_eq!(ask("socket"), failed("the proxy \"socket\" sends requests to a unix socket, which has no port"));
}
