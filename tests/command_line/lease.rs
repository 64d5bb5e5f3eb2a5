//! Daemons that die or are held up, and others that take over.

use std::fs;
use std::time::Duration;

use redis::Commands;
use rustix::process::Signal;
use serde_json::{Value, json};

use super::program::{Daemon, Place, eventually};

/// A short lease, so that tests do not wait long. A heartbeat that is late on a busy machine only makes a test slower.
const SERVER: &str = "lease = \"1s\"\nshutdown_timeout = \"5s\"";

/// A function that writes a line when it starts, and ends when there is a file `go`. It ends with the folder, too.
const WAITING: &str = r#"
[functions.waiting]
command = ["sh", "-c", "echo start >> starts; while [ -e starts ] && [ ! -e go ]; do sleep 0.02; done; echo done"]
timeout = "1m"
"#;

/// A function that kills its daemon.
const DEADLY: &str = r#"
[functions.deadly]
command = ["sh", "-c", "echo start >> starts; kill -9 $PPID"]
"#;

fn starts(place: &Place) -> usize {
    fs::read_to_string(place.path("starts")).map_or(0, |text| text.lines().count())
}

fn push(place: &Place, id: &str, func: &str) {
    let element = json!({"id": id, "func": func}).to_string();
    let _: u64 = place.connect().rpush("CERBAS-QUEUE", element).expect("Redis takes it");
}

fn stored(place: &Place, id: &str) -> Option<Value> {
    let answer: Option<String> = place.connect().get(format!("CERBAS-RESULT-{id}")).expect("Redis answers");
    answer.map(|json| serde_json::from_str(&json).expect("an answer is JSON"))
}

fn keys(place: &Place, pattern: &str) -> Vec<String> {
    place.connect().keys(pattern).expect("Redis answers")
}

#[test]
fn what_a_killed_daemon_left_runs_elsewhere() {
    let place = Place::with_server(SERVER, WAITING);
    let killed = place.daemon();
    (0..4).for_each(|number| push(&place, &format!("r{number}"), "waiting"));
    eventually("all run", || starts(&place) == 4);
    let living = place.daemon();
    killed.signal(Signal::KILL);
    eventually("all run again", || starts(&place) == 8);
    living.wait_for("took back 4 requests");
    place.write("go", "");
    for number in 0..4 {
        let id = format!("r{number}");
        eventually("it is answered", || stored(&place, &id) == Some(json!({"status": "ok", "data": "done"})));
    }
    assert_eq!(keys(&place, "CERBAS-INFLIGHT-*"), [""; 0]);
}

#[test]
fn the_next_start_takes_back_what_was_left_when_nobody_else_lives() {
    let place = Place::with_server(SERVER, WAITING);
    let killed = place.daemon();
    push(&place, "left", "waiting");
    eventually("it runs", || starts(&place) == 1);
    drop(killed);
    place.write("go", "");
    let _next = place.daemon();
    eventually("it is answered", || stored(&place, "left").is_some());
}

#[test]
fn a_daemon_that_was_held_up_drops_its_late_answers_and_goes_on() {
    let place = Place::with_server(SERVER, WAITING);
    let mut held_up = place.daemon();
    push(&place, "late", "waiting");
    eventually("it runs", || starts(&place) == 1);
    held_up.signal(Signal::STOP);
    let other = place.daemon();
    eventually("it runs again", || starts(&place) == 2);
    let mut messages = place.connect();
    let mut messages = messages.as_pubsub();
    messages.subscribe("CERBAS-RESPONSE-1-late").expect("Redis takes it");
    messages.set_read_timeout(Some(Duration::from_secs(10))).expect("a time-out can be set");

    place.write("go", "");
    held_up.signal(Signal::CONT);
    held_up.wait_for("going on under a new name");
    held_up.wait_for("dropped 1 late answers");
    eventually("it is told of the one that lives under its new name", || {
        let nodes: Value = serde_json::from_str(&place.run(&["nodes", "--json"]).stdout).expect("it is JSON");
        let nodes = nodes.as_array().expect("it is an array");
        nodes.iter().any(|node| node["fenced"] == 1 && node["pid"] == held_up.pid())
    });
    messages.get_message().expect("the other daemon answers");
    // Once: what comes next is the end of the connection's patience.
    messages.set_read_timeout(Some(Duration::from_millis(300))).expect("a time-out can be set");
    assert!(messages.get_message().is_err(), "there is a second answer");

    other.signal(Signal::KILL);
    push(&place, "next", "waiting");
    eventually("it serves under its new name", || stored(&place, "next").is_some());
    held_up.signal(Signal::TERM);
    assert_eq!(held_up.wait().code(), Some(0), "{}", held_up.log());
}

#[test]
fn a_request_that_kills_its_daemon_three_times_is_lost_and_runs_no_more() {
    let place = Place::with_server(SERVER, DEADLY);
    push(&place, "deadly", "deadly");
    for deaths in 1..=3 {
        let mut daemon = Daemon::launch(place.command(&["run"]));
        eventually("it has killed its daemon", || !daemon.is_running());
        assert_eq!(starts(&place), deaths);
    }
    let _daemon = place.daemon();
    eventually("it is lost", || stored(&place, "deadly").is_some());
    assert_eq!(stored(&place, "deadly"), Some(json!({"status": "error", "data": "lost", "verdict": "lost"})));
    assert_eq!(starts(&place), 3);
    let dead: Vec<String> = place.connect().zrange("CERBAS-DEAD", 0, -1).expect("Redis answers");
    assert!(dead.len() == 1 && dead[0].contains("\"verdict\":\"lost\""), "{dead:?}");
}

#[test]
fn what_was_in_flight_beside_a_request_that_kills_its_daemon_is_not_lost_with_it() {
    let innocent = "[functions.innocent]\ncommand = [\"sh\", \"-c\", \"sleep 0.3; echo done\"]\n";
    let place = Place::with_server(SERVER, &format!("{DEADLY}{innocent}"));
    let ids = ["deadly", "a", "b", "c"];
    for id in ids {
        push(&place, id, if id == "deadly" { "deadly" } else { "innocent" });
    }
    let is_done = || ids.iter().all(|id| stored(&place, id).is_some());
    let mut daemons = 0;
    while !is_done() {
        daemons += 1;
        assert!(daemons <= 5, "daemons die without end");
        // It may die before it is ready.
        let mut daemon = Daemon::launch(place.command(&["run"]));
        eventually("it has died, or done all", || !daemon.is_running() || is_done());
    }
    assert_eq!(starts(&place), 3);
    assert_eq!(stored(&place, "deadly").expect("it is done")["verdict"], "lost");
    for id in ["a", "b", "c"] {
        assert_eq!(stored(&place, id), Some(json!({"status": "ok", "data": "done"})), "{id}");
    }
}

#[test]
fn a_daemon_that_ends_in_order_leaves_only_the_stamp_on_the_data() {
    let place = Place::with_server(SERVER, WAITING);
    let mut daemon = place.daemon();
    eventually("it is known", || keys(&place, "CERBAS-NODE-*").len() == 1);
    daemon.signal(Signal::TERM);
    assert_eq!(daemon.wait().code(), Some(0));
    assert_eq!(keys(&place, "CERBAS-*"), ["CERBAS-SCHEMA"]);
}
