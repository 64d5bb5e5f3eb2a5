//! A daemon of which a thread panics where no function runs: it ends, says so, and another takes over.

use std::fs;
use std::process::Stdio;

use redis::Commands;
use serde_json::{Value, json};

use super::program::{Daemon, Place, eventually};

/// A short lease, so that the test does not wait long.
const SERVER: &str = "lease = \"1s\"\nshutdown_timeout = \"1m\"";

fn push(place: &Place, id: &str, func: &str, args: &Value) {
    let element = json!({"id": id, "func": func, "args": args}).to_string();
    let _: u64 = place.connect().rpush("CERBAS-QUEUE", element).expect("Redis takes it");
}

fn stored(place: &Place, id: &str) -> Option<Value> {
    let answer: Option<String> = place.connect().get(format!("CERBAS-RESULT-{id}")).expect("Redis answers");
    answer.map(|json| serde_json::from_str(&json).expect("an answer is JSON"))
}

#[test]
fn a_daemon_with_a_broken_thread_ends_with_a_status_of_its_own_and_another_runs_what_it_had() {
    let place = Place::with_server(SERVER, "");
    let runs = || fs::read_to_string(place.path("runs")).unwrap_or_default();
    let daemon = || {
        let mut command = place.command(&["torture-daemon", "cerbas.toml", "runs"]);
        // It ends with who holds the other end of this.
        command.stdin(Stdio::piped());
        Daemon::launch(command)
    };
    let mut broken = daemon();
    push(&place, "long", "slow", &json!({"ms": 1500}));
    eventually("it runs", || runs().lines().count() == 1);
    push(&place, "last", "breaks", &json!({}));
    assert_eq!(broken.wait().code(), Some(7), "{}", broken.log());
    assert!(broken.log().contains("the thread worker has panicked: as it should"), "{}", broken.log());
    assert_eq!(stored(&place, "long"), None, "what it had not done is not answered");

    let _other = daemon();
    eventually("another has done it", || stored(&place, "long") == Some(json!({"status": "ok", "data": "long"})));
    assert_eq!(runs().lines().collect::<Vec<_>>(), ["long", "long"]);
}
