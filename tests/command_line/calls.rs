//! `cerbas call`, `send` and `halt`.

use std::process::Command;
use std::time::{Duration, Instant};

use super::program::{Place, eventually};

const FUNCTIONS: &str = r#"
[functions.hello]
builtin = "hello"
[functions.echo]
builtin = "echo"
[functions.sum]
builtin = "sum"
[functions.witherror]
builtin = "witherror"
[functions.slow]
builtin = "slow"
[functions.halt]
builtin = "halt"
[functions.tom]
builtin = "hello"
users = ["tom"]
sources = ["web"]
"#;

#[test]
fn a_call_prints_the_value() {
    let place = Place::with(FUNCTIONS);
    let _daemon = place.daemon();
    place.check(&["call", "hello"], 0, "hello world!\n", "");
    place.check(&["call", "sum", r#"{"a": 1, "b": 2.5}"#], 0, "3.5\n", "");
    place.check(&["call", "echo", r#"{"message": {"a": [1, null]}}"#], 0, "{\"a\":[1,null]}\n", "");
    place.check(&["call", "sum", r#"{"a": 1, "b": 2}"#, "--json"], 0, "{\"status\":\"ok\",\"data\":3}\n", "");
    let output = place.command(&["call", "hello", "--msgpack"]).output().expect("it can be run");
    assert_eq!(output.stdout, b"\x82\xa6status\xa2ok\xa4data\xachello world!");
}

#[test]
fn an_error_of_the_function_is_one_line_and_status_1() {
    let place = Place::with(FUNCTIONS);
    let _daemon = place.daemon();
    place.check(&["call", "witherror"], 1, "", "cerbas: witherror: unexpected error\n");
    place.check(&["call", "nothing"], 1, "", "cerbas: nothing: Undefined function\n");
    place.check(&["call", "sum"], 1, "", "cerbas: sum: invalid arguments: a: is missing\n");
    let answer = "{\"status\":\"error\",\"data\":\"Undefined function\",\"verdict\":\"rejected\"}\n";
    place.check(&["call", "nothing", "--json"], 1, answer, "");
}

#[test]
fn who_asks_can_be_said() {
    let place = Place::with(FUNCTIONS);
    let _daemon = place.daemon();
    place.check(&["call", "tom", "--user", "tom", "--source", "web"], 0, "hello world!\n", "");
    place.check(
        &["call", "tom", "--user", "peter", "--source", "web"],
        1,
        "",
        "cerbas: tom: cerbas authorization - invalid user\n",
    );
    place.check(&["call", "tom", "--user", "tom"], 1, "", "cerbas: tom: cerbas authorization - invalid source\n");
}

#[test]
fn a_function_out_of_time_is_status_3() {
    let place = Place::with(FUNCTIONS);
    let _daemon = place.daemon();
    place.check(&["call", "slow", "--timeout", "200ms"], 3, "", "cerbas: slow: timeout\n");
}

#[test]
fn a_delay_is_waited_for() {
    let place = Place::with(FUNCTIONS);
    let _daemon = place.daemon();
    let start = Instant::now();
    place.check(&["call", "hello", "--delay", "300ms"], 0, "hello world!\n", "");
    assert!(start.elapsed() >= Duration::from_millis(300), "it took {:?}", start.elapsed());
}

#[test]
fn without_a_daemon_it_is_status_4_and_the_request_is_taken_back() {
    let place = Place::with(FUNCTIONS);
    place.check_fails(&["call", "hello", "--timeout", "100ms"], 4, &["no daemon answers", "taken back"]);
    let left: u64 = redis::cmd("DBSIZE").query(&mut place.connect()).expect("Redis is there");
    assert_eq!(left, 0);
}

#[test]
fn without_redis_it_is_status_5() {
    let mut place = Place::with(FUNCTIONS);
    let url = place.url();
    place.kill_redis();
    for command in ["call", "send"] {
        place.check_fails(&[command, "hello"], 5, &[&url, "connection refused"]);
        place.check_fails(&[command, "hello", "--redis", "redis://127.0.0.1:1/1"], 5, &["redis://127.0.0.1:1/1"]);
    }
    place.check_fails(&["halt"], 5, &[&url]);
}

#[test]
fn a_wrong_command_line_is_status_2() {
    let place = Place::with(FUNCTIONS);
    place.check_fails(&["call", "hello", "{"], 2, &["arguments: expected a JSON object such as '{\"a\": 1}'"]);
    place.check_fails(&["call", "hello", "[1]"], 2, &["arguments", "found [1]"]);
    place.check_fails(&["send", "hello", "1"], 2, &["arguments", "found 1"]);
    for arguments in
        [&["call"][..], &["call", "hello", "--timeout", "soon"], &["frobnicate"], &["call", "hello", "--no"]]
    {
        let output = place.run(arguments);
        assert_eq!((output.status, &*output.stdout), (Some(2), ""), "{arguments:?}: {output:?}");
        assert!(output.stderr.starts_with("error: "), "{arguments:?}: {output:?}");
    }
}

#[test]
fn redis_can_be_named_instead_of_a_configuration() {
    let place = Place::with(FUNCTIONS);
    let _daemon = place.daemon();
    let elsewhere = Place::empty();
    elsewhere.check(&["call", "hello", "--redis", &place.url()], 0, "hello world!\n", "");
    elsewhere.check_fails(&["call", "hello"], 6, &["cerbas.toml", "or give --redis URL"]);
    elsewhere.check_fails(&["call", "hello", "--redis", "nonsense"], 5, &["nonsense"]);
    elsewhere.check_fails(&["call", "hello", "--redis", "redis://tom:secret@127.0.0.1:1/1"], 5, &["127.0.0.1:1"]);
    let output = elsewhere.run(&["call", "hello", "--redis", "redis://tom:secret@127.0.0.1:1/1"]);
    assert!(!output.stderr.contains("secret"), "{output:?}");
}

#[test]
fn a_sent_request_runs_and_its_id_is_printed() {
    let place = Place::with("[functions.mark]\ncommand = [\"touch\", \"mark\"]\n");
    let _daemon = place.daemon();
    let output = place.run(&["send", "mark"]);
    assert_eq!((output.status, &*output.stderr), (Some(0), ""), "{output:?}");
    assert_eq!(output.stdout.trim().len(), 36, "{output:?}");
    eventually("it has run", || place.path("mark").exists());
    let output = place.run(&["send", "mark", "--json"]);
    let printed: serde_json::Value = serde_json::from_str(&output.stdout).expect("it is JSON");
    assert_eq!(printed["id"].as_str().map(str::len), Some(36), "{output:?}");
}

#[test]
fn halt_stops_the_daemon() {
    let place = Place::with(FUNCTIONS);
    let mut daemon = place.daemon();
    place.check(&["halt", "--delay", "1ms"], 0, "halting\n", "");
    assert_eq!(daemon.wait().code(), Some(0), "{}", daemon.log());
}

#[test]
fn a_reader_that_has_gone_is_no_failure() {
    let place = Place::with(FUNCTIONS);
    let script = format!("{} completions bash | head -n 1 >/dev/null", env!("CARGO_BIN_EXE_cerbas"));
    let output = Command::new("sh").args(["-c", &script]).output().expect("it can be run");
    assert!(output.status.success() && output.stderr.is_empty(), "{output:?}");
    drop(place);
}
