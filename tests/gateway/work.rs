//! Work by callback.

use serde_json::json;

use crate::support::{address, ask, eventually, get, serve, server};
use cerbas::Call;
use serde_json::{Map, Value};

#[test]
fn work_is_accepted_and_its_value_can_be_asked_for() {
    let (go, gone) = std::sync::mpsc::channel::<()>();
    let gone = std::sync::Mutex::new(gone);
    let running = server("work = \"shout\"\n")
        .function("shout", move |_: &Call, args: Map<String, Value>| {
            gone.lock().expect("it is whole").recv().expect("the test says when");
            Ok(args["data"].as_str().unwrap_or_default().to_uppercase())
        })
        .start()
        .expect("it starts");
    let at = address(&running);
    let form = "Content-Type: application/x-www-form-urlencoded\r\n";
    for (target, headers, body) in [
        ("/api/work", form, "data=hello"),
        ("/api/v1/work?data=hello", "", ""),
        ("/api/work", "Content-Type: application/json\r\n", "{\"data\": \"hello\"}"),
        ("/api/work", "", "{\"func\": \"shout\", \"args\": {\"data\": \"hello\"}}"),
    ] {
        let accepted = ask(at, "POST", target, headers, body);
        assert_eq!(accepted.status, 202, "{accepted:?}");
        let id = accepted.json()["callback"].as_str().expect("there is an id").to_owned();
        assert_eq!(accepted.header("location"), Some(&*format!("/api/status/{id}")));
        eventually("it runs", || get(at, &format!("/api/status/{id}")).json() == json!({"status": "pending"}));
        let waited = get(at, &format!("/api/status/{id}?wait=10ms"));
        assert_eq!(waited.json(), json!({"status": "pending"}));
        go.send(()).expect("the function waits");
        let done = get(at, &format!("/api/status/{id}?wait=20s"));
        assert_eq!((done.status, done.json()), (200, json!({"status": "done", "value": "HELLO"})));
        assert_eq!(get(at, &format!("/api/v1/status/{id}")).json()["value"], "HELLO");
    }
    // The answers to other requests are not for those who guess their ids.
    assert_eq!(get(at, "/api/status/0000000001").status, 404);
    for target in ["/api/status/nobody", "/api/status/a%20b"] {
        assert_eq!(get(at, target).status, 404);
    }
    assert_eq!(ask(at, "POST", "/api/work", "", "").status, 400);
    assert_eq!(get(at, "/api/work").status, 405);
    assert_eq!(get(at, "/api/status/w-x?wait=soon").status, 400);
}

#[test]
fn work_that_fails_says_how() {
    let running = serve("");
    let at = address(&running);
    for (func, verdict, data) in
        [("witherror", "error", "unexpected error"), ("nothing", "rejected", "Undefined function")]
    {
        let accepted = ask(at, "POST", "/api/work", "", &format!("{{\"func\": \"{func}\"}}"));
        let location = accepted.header("location").expect("it was accepted").to_owned();
        eventually("it has its verdict", || get(at, &location).json() == json!({"status": verdict, "data": data}));
    }
}

#[test]
fn the_same_work_under_the_same_key_is_done_once() {
    let running = serve("");
    let at = address(&running);
    let send = |key: &str| {
        let headers = format!("Idempotency-Key: {key}\r\n");
        let accepted = ask(at, "POST", "/api/work", &headers, "{\"func\": \"echo\", \"args\": {\"message\": 1}}");
        assert_eq!(accepted.status, 202);
        accepted.json()["callback"].clone()
    };
    let first = send("a");
    assert_eq!(first, send("a"));
    assert_ne!(first, send("b"));
    eventually("both are done", || running.balance().verdicts.iter().sum::<u64>() == 2);
    assert_eq!(running.balance().accepted, 2);
}

#[test]
fn a_permutation_has_the_characters_of_its_text() {
    let running = serve("");
    let at = address(&running);
    let accepted = ask(at, "POST", "/api/work?data=hello", "", "");
    let location = accepted.header("location").expect("it was accepted").to_owned();
    let mut value = None;
    eventually("it is done", || {
        value = get(at, &format!("{location}?wait=5s")).json()["value"].as_str().map(str::to_owned);
        value.is_some()
    });
    let mut characters: Vec<char> = value.unwrap_or_default().chars().collect();
    characters.sort_unstable();
    assert_eq!(characters, ['e', 'h', 'l', 'l', 'o']);
}

#[test]
fn a_value_is_there_for_its_time_only() {
    let mut config = cerbas::Config::from_text(
        &format!("{}[server]\nresult_ttl = \"1s\"\n[http]\nlisten = [\"127.0.0.1:0\"]\n", crate::support::FUNCTIONS),
        "cerbas.toml",
        std::iter::empty::<(&str, &str)>(),
    )
    .expect("it is a configuration");
    config.redis.server = cerbas::config::RedisServer::None;
    let running = cerbas::Server::new(config).start().expect("it starts");
    let at = address(&running);
    let accepted = ask(at, "POST", "/api/work", "", "{\"func\": \"hello\"}");
    let location = accepted.header("location").expect("it was accepted").to_owned();
    eventually("it is gone", || get(at, &location).status == 404);
}

#[test]
fn all_daemons_are_listed() {
    let running = serve("");
    let nodes = get(address(&running), "/api/nodes");
    assert_eq!(nodes.status, 200);
    assert_eq!(nodes.json()[0]["pid"], std::process::id());
}
