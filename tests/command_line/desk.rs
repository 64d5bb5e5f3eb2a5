//! `cerbas why`, `jobs`, `dead` and `doctor`: single requests in the hands of an operator.

use redis::Commands;
use serde_json::{Value, json};

use super::program::{Daemon, Place, eventually};

const SERVER: &str = "name = \"web-1\"\nlease = \"1s\"\nshutdown_timeout = \"5s\"";

const FUNCTIONS: &str = r#"
[functions.hello]
builtin = "hello"
[functions.waiting]
command = ["sh", "-c", "sleep 60"]
timeout = "1m"
concurrency = 1
[functions.failing]
command = ["sh", "-c", "echo no such table >&2; exit 1"]
[functions.flaky]
command = ["sh", "-c", "echo try later >&2; exit 1"]
retries = 3
backoff = "1h"
max_backoff = "1h"
"#;

fn place() -> (Place, Daemon) {
    let place = Place::with_server(SERVER, FUNCTIONS);
    let daemon = place.daemon();
    eventually("it is seen", || place.run(&["nodes"]).status == Some(0));
    (place, daemon)
}

/// Sends a request; gives back its id.
#[track_caller]
fn send(place: &Place, arguments: &[&str]) -> String {
    let output = place.run(&[&["send"], arguments].concat());
    assert_eq!(output.status, Some(0), "{output:?}");
    output.stdout.trim().to_owned()
}

/// The one sentence of `why`, without the id before it.
#[track_caller]
fn why(place: &Place, id: &str) -> String {
    let output = place.run(&["why", id]);
    assert_eq!(output.stderr, "");
    assert_eq!(output.stdout.lines().count(), 1, "one sentence: {output:?}");
    output.stdout.trim().split_once(": ").expect("the id stands before it").1.to_owned()
}

#[track_caller]
fn eventually_why(place: &Place, id: &str, beginning: &str) {
    let mut last = String::new();
    eventually(&format!("why says {beginning:?}"), || {
        last = why(place, id);
        last.starts_with(beginning)
    });
}

#[test]
fn why_tells_what_a_request_waits_for_or_how_it_ended() {
    let (place, _daemon) = place();
    let running = send(&place, &["waiting"]);
    eventually_why(&place, &running, "waiting has been running for ");
    let behind = send(&place, &["waiting"]);
    eventually_why(&place, &behind, "waiting is taken by ");
    let delayed = send(&place, &["hello", "--delay", "1h"]);
    eventually_why(&place, &delayed, "hello is delayed and starts in 59m");
    let flaky = send(&place, &["flaky"]);
    eventually_why(&place, &flaky, "flaky has failed once and runs again in ");
    assert!(why(&place, &flaky).ends_with("the last error: try later"));
    let failed = send(&place, &["failing"]);
    eventually_why(&place, &failed, "failing ended with error ");
    assert!(why(&place, &failed).ends_with("is on the dead list: no such table"));
    let mut redis = place.connect();
    let _: i64 = redis.rpush("CERBAS-QUEUE-nobody", r#"{"id": "unserved", "func": "hello"}"#).expect("Redis is there");
    assert!(why(&place, "unserved").starts_with("hello waits in queue nobody, which no daemon serves at this moment"));

    let () = redis.set("CERBAS-REQ-0000000007", r#"{"func": "hello"}"#).expect("Redis is there");
    assert!(why(&place, "7").starts_with("its body is there, but its number stands in no queue"));
    let _: i64 = redis.rpush("CERBAS-QUEUE", 7).expect("Redis is there");
    eventually_why(&place, "7", "ended with ok; its answer can be read for ");
    assert!(why(&place, "0000000007").ends_with(r#""hello world!""#));

    let unknown = place.run(&["why", "never-sent"]);
    assert_eq!((unknown.status, &*unknown.stderr), (Some(1), ""));
    assert!(unknown.stdout.starts_with("never-sent: nothing is known of it"));
    place.check_fails(&["why", "no id"], 2, &["\"no id\" is no id"]);
}

#[test]
fn jobs_are_listed_with_what_they_do_and_can_be_cancelled_wherever_they_are() {
    let (place, _daemon) = place();
    let running = send(&place, &["waiting"]);
    eventually_why(&place, &running, "waiting has been running for ");
    let delayed = send(&place, &["hello", "--delay", "1h"]);
    eventually_why(&place, &delayed, "hello is delayed");
    let listed = |state: &str| -> Vec<String> {
        let output = place.run(&["jobs", "list", "--state", state, "--json"]);
        let jobs: Vec<Value> = serde_json::from_str(&output.stdout).expect("it is JSON");
        jobs.iter().map(|job| job["id"].as_str().expect("it has an id").to_owned()).collect()
    };
    assert_eq!((listed("running"), listed("delayed")), (vec![running.clone()], vec![delayed.clone()]));
    assert_eq!(listed("retrying"), Vec::<String>::new());
    let table = place.run(&["jobs", "list"]).stdout;
    assert!(table.lines().count() == 3 && table.contains(&running) && table.contains("running"), "{table}");

    let cancelled = place.run(&["jobs", "cancel", &delayed, &running]);
    assert_eq!(cancelled.status, Some(0), "{cancelled:?}");
    assert!(cancelled.stdout.starts_with(&format!("{delayed}: cancelled\n{running}: is in flight no more")));
    assert_eq!(place.run(&["jobs", "list"]).stdout, "no requests\n");
    let again = place.run(&["jobs", "cancel", &delayed, "--json"]);
    let again: Value = serde_json::from_str(&again.stdout).expect("it is JSON");
    assert_eq!(again[0]["outcome"], "unknown");
}

#[test]
fn whoever_waits_for_a_request_that_is_cancelled_is_told() {
    let (place, _daemon) = place();
    let call = place.start(&["call", "waiting", "--timeout", "50s"]);
    let mut id = None;
    eventually("it runs", || {
        let output = place.run(&["jobs", "list", "--state", "running", "--json"]);
        let jobs: Vec<Value> = serde_json::from_str(&output.stdout).expect("it is JSON");
        id = jobs.first().and_then(|job| job["id"].as_str().map(str::to_owned));
        id.is_some()
    });
    let id = id.expect("it was found");
    place.check(&["jobs", "cancel", &id], 0, &format!("{id}: cancelled\n"), "");
    let output = call.finish();
    assert_eq!((output.status, &*output.stderr), (Some(1), "cerbas: waiting: cancelled\n"));
    let ended = place.run(&["jobs", "cancel", &id]);
    assert_eq!((ended.status, ended.stdout), (Some(0), format!("{id}: cancelled\n")));
}

#[test]
fn the_dead_list_is_shown_tried_again_and_emptied() {
    let (place, _daemon) = place();
    place.check(&["dead", "list"], 0, "the dead list is empty\n", "");
    let failed = send(&place, &["failing", r#"{"table": "users"}"#]);
    let _: i64 = place.connect().rpush("CERBAS-QUEUE", "{no request").expect("Redis is there");
    let entries =
        || -> Vec<Value> { serde_json::from_str(&place.run(&["dead", "list", "--json"]).stdout).expect("it is JSON") };
    eventually("both are there", || entries().len() == 2);
    let unreadable = entries().into_iter().find(|entry| entry["id"].is_null()).expect("it is there");
    let name = unreadable["name"].as_str().expect("it has a name").to_owned();
    assert!(name.starts_with('~') && name.len() == 13, "{name}");

    let shown = place.run(&["dead", "show", &failed]).stdout;
    for part in [&failed, "error", "no such table", "\"table\": \"users\"", "runs      1"] {
        assert!(shown.contains(part), "no {part} in {shown}");
    }
    assert!(place.run(&["dead", "show", &name]).stdout.contains("{no request"));
    assert_eq!(place.run(&["dead", "list", "--func", "failing"]).stdout.lines().count(), 2);
    place.check_fails(&["dead", "show", "other"], 1, &["other: is not on the dead list"]);

    let both = place.run(&["dead", "retry", &failed, &name]);
    assert_eq!(both.status, Some(1));
    assert_eq!(both.stdout, format!("{failed}: sent again\n"));
    assert_eq!(both.stderr, format!("cerbas: {name}: cannot be sent again, as it could not be read\n"));
    eventually("it has failed again", || entries().iter().any(|entry| entry["id"] == json!(failed)));

    place.check_fails(&["dead", "delete", "--all"], 2, &["say --yes"]);
    assert_eq!(
        place.run(&["dead", "delete", "--all", "--func", "failing", "--yes"]).stdout,
        format!("{failed}: deleted\n")
    );
    assert_eq!(place.run(&["dead", "delete", &name]).status, Some(0));
    place.check(&["dead", "list"], 0, "the dead list is empty\n", "");
}

#[test]
fn doctor_tells_what_this_redis_can_be_trusted_with() {
    let (place, _daemon) = place();
    let checks = |place: &Place| -> (Option<i32>, Value) {
        let output = place.run(&["doctor", "--json"]);
        (output.status, serde_json::from_str(&output.stdout).expect("it is JSON"))
    };
    let level = |report: &Value, name: &str| -> String {
        let checks = report["checks"].as_array().expect("there are checks");
        let check = checks.iter().find(|check| check["name"] == name).expect("it was looked at");
        check["level"].as_str().expect("it has a level").to_owned()
    };
    let (status, report) = checks(&place);
    assert_eq!(status, Some(0), "{report}");
    assert_eq!((level(&report, "version"), level(&report, "persistence")), ("ok".to_owned(), "warn".to_owned()));

    let mut redis = place.connect();
    let () =
        redis::cmd("CONFIG").arg(&["SET", "maxmemory-policy", "allkeys-lru"]).query(&mut redis).expect("it is allowed");
    let () = redis.set("CERBAS-SOMETHING", "endless").expect("Redis is there");
    let () = redis.set("CERBAS-REQ-0000000009", "{}").expect("Redis is there");
    let (status, report) = checks(&place);
    assert_eq!(status, Some(1), "{report}");
    assert_eq!(level(&report, "eviction"), "fail");
    assert_eq!((level(&report, "keys"), level(&report, "bodies")), ("warn".to_owned(), "warn".to_owned()));
    let text = place.run(&["doctor"]).stdout;
    assert!(text.contains("CERBAS-SOMETHING") && text.contains("set maxmemory-policy noeviction"), "{text}");
}

#[test]
fn without_redis_the_desk_ends_with_5() {
    let mut place = Place::with_server(SERVER, FUNCTIONS);
    place.kill_redis();
    for arguments in [&["why", "1"][..], &["jobs", "list"], &["jobs", "cancel", "1"], &["dead", "list"], &["doctor"]] {
        place.check_fails(arguments, 5, &["connection refused"]);
    }
}

#[test]
fn a_queue_that_nobody_serves_is_refused_where_one_asks_and_shown_by_every_tool() {
    let (place, _daemon) = place();
    place.check_fails(&["send", "hello", "--queue", "nobody"], 1, &["no daemon serves the queue \"nobody\""]);
    place.check_fails(&["call", "hello", "--queue", "nobody"], 1, &["no daemon serves the queue \"nobody\""]);
    assert!(place.run(&["doctor"]).stdout.contains("what waits stands in queues that daemons serve"));
    let request = r#"{"id": "unserved", "func": "hello"}"#;
    let _: i64 = place.connect().rpush("CERBAS-QUEUE-nobody", request).expect("Redis is there");
    let status = place.run(&["status", "--no-rates"]).stdout;
    assert!(status.contains("nobody, which no daemon serves"), "{status}");
    let json: Value = serde_json::from_str(&place.run(&["status", "--no-rates", "--json"]).stdout).expect("it is JSON");
    let served = |name: &str| {
        json["queues"]
            .as_array()
            .and_then(|all| all.iter().find(|one| one["name"] == name))
            .map(|one| one["is_served"].clone())
    };
    assert_eq!((served("nobody"), served("default")), (Some(false.into()), Some(true.into())));
    let jobs = place.run(&["jobs", "list", "--queue", "nobody"]).stdout;
    assert!(jobs.contains("unserved") && jobs.contains("which no daemon serves"), "{jobs}");
    let doctor = place.run(&["doctor"]);
    assert_eq!(doctor.status, Some(1), "{doctor:?}");
    assert!(doctor.stdout.contains("no daemon serves these, in which requests wait: \"nobody\" (1)"), "{doctor:?}");
    assert_eq!(place.run(&["jobs", "cancel", "unserved"]).status, Some(0));
    assert!(place.run(&["doctor"]).stdout.contains("what waits stands in queues that daemons serve"));
}
