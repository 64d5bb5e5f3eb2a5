//! `cerbas run`: its log, its signals, its end.

use std::time::{Duration, Instant};

use rustix::process::Signal;

use super::program::{Daemon, Output, Place, Started, eventually};

/// A function that runs until there is a file `go`. It ends with the folder, too.
const WAITING: &str = r#"
[functions.waiting]
command = ["sh", "-c", "touch started; while [ -e started ] && [ ! -e go ]; do sleep 0.02; done; echo done"]
timeout = "1m"
"#;

const HELLO: &str = "[functions.hello]\nbuiltin = \"hello\"\n";

/// A daemon in whose function `waiting` a call runs.
fn busy(place: &Place) -> (Daemon, Started) {
    let daemon = place.daemon();
    let call = place.start(&["call", "waiting", "--timeout", "30s"]);
    eventually("the call runs", || place.path("started").exists());
    (daemon, call)
}

#[test]
fn it_says_when_it_is_ready_and_where() {
    let place = Place::with(HELLO);
    let mut daemon = place.daemon();
    daemon.wait_for(&format!("1 functions are ready at {}", place.url()));
    daemon.signal(Signal::TERM);
    assert_eq!(daemon.wait().code(), Some(0));
    daemon.wait_for("SIGTERM: stopping");
    daemon.wait_for("stopped: 0 requests accepted, 0 of them handed back, 0 in flight");
    assert!(!daemon.log().contains("ERROR") && !daemon.log().contains("WARN"), "{}", daemon.log());
}

#[test]
fn a_running_call_ends_after_sigterm() {
    for signal in [Signal::TERM, Signal::INT] {
        let place = Place::with(WAITING);
        let (mut daemon, call) = busy(&place);
        daemon.signal(signal);
        daemon.wait_for("stopping");
        assert!(daemon.is_running());
        place.write("go", "");
        assert_eq!(call.finish(), Output::new(0, "done\n", ""));
        assert_eq!(daemon.wait().code(), Some(0), "{}", daemon.log());
    }
}

#[test]
fn a_call_that_does_not_end_in_time_is_given_up_with_status_1() {
    let place = Place::with_server("shutdown_timeout = \"300ms\"", WAITING);
    let (mut daemon, call) = busy(&place);
    let start = Instant::now();
    daemon.signal(Signal::TERM);
    assert_eq!(daemon.wait().code(), Some(1));
    assert!(start.elapsed() < Duration::from_secs(8), "it took {:?}", start.elapsed());
    daemon.wait_for("1 calls still ran after 300ms");
    assert!(!daemon.log().contains("panicked"), "{}", daemon.log());
    // The request is in the queue again, and the next daemon answers it.
    place.write("go", "");
    let _daemon = place.daemon();
    assert_eq!(call.finish(), Output::new(0, "done\n", ""));
}

#[test]
fn a_second_signal_ends_it_at_once() {
    let place = Place::with(WAITING);
    let (mut daemon, call) = busy(&place);
    daemon.signal(Signal::TERM);
    daemon.wait_for("SIGTERM: stopping");
    let start = Instant::now();
    daemon.signal(Signal::INT);
    assert_eq!(daemon.wait().code(), Some(1));
    assert!(start.elapsed() < Duration::from_secs(20), "it took {:?}", start.elapsed());
    // Nobody answers any more.
    drop(call);
}

#[test]
fn sighup_takes_over_the_functions_of_the_file() {
    let place = Place::with(HELLO);
    let daemon = place.daemon();
    place.check(&["call", "more"], 1, "", "cerbas: more: Undefined function\n");
    place.configure("", "[functions.more]\nbuiltin = \"hello\"\n");
    daemon.signal(Signal::HUP);
    daemon.wait_for("reload: 1 functions");
    place.check(&["call", "more"], 0, "hello world!\n", "");
    place.check(&["call", "hello"], 1, "", "cerbas: hello: Undefined function\n");
}

#[test]
fn a_broken_file_at_sighup_is_told_with_its_line_and_changes_nothing() {
    let place = Place::with(HELLO);
    let mut daemon = place.daemon();
    place.configure("", "[functions.more]\nbuiltin = \"helo\"\n");
    daemon.signal(Signal::HUP);
    daemon.wait_for("cerbas.toml:8:11: functions.more.builtin: ");
    std::fs::remove_file(place.path("cerbas.toml")).expect("it is there");
    daemon.signal(Signal::HUP);
    daemon.wait_for("cerbas.toml: cannot read the configuration");
    assert!(daemon.is_running());
    let url = place.url();
    place.check(&["call", "hello", "--redis", &url], 0, "hello world!\n", "");
}

#[test]
fn a_running_call_goes_on_through_a_reload() {
    let place = Place::with(WAITING);
    let (daemon, call) = busy(&place);
    place.configure("", HELLO);
    daemon.signal(Signal::HUP);
    daemon.wait_for("reload: 1 functions");
    place.write("go", "");
    assert_eq!(call.finish(), Output::new(0, "done\n", ""));
}

#[test]
fn an_absent_redis_is_said_once_and_waited_for() {
    let mut place = Place::with(HELLO);
    place.kill_redis();
    let mut daemon = place.daemon();
    daemon.wait_for("redis is away");
    // Enough for several attempts, each of which could be told.
    std::thread::sleep(Duration::from_secs(1));
    assert_eq!(daemon.log().matches("redis is away").count(), 1, "{}", daemon.log());
    daemon.signal(Signal::TERM);
    assert_eq!(daemon.wait().code(), Some(0), "{}", daemon.log());
}

#[test]
fn a_call_that_fails_has_one_line_in_the_log_and_what_is_refused_one_for_each_kind() {
    let place = Place::with(
        "[functions.failing]\ncommand = [\"sh\", \"-c\", \"echo no disk; echo \\\"$CERBAS_ARG_X\\\" >&2; exit 3\"]\n\
         [functions.slow]\ncommand = [\"sleep\", \"60\"]\ntimeout = \"100ms\"\n\
         [functions.hello]\nbuiltin = \"hello\"\n",
    );
    let daemon = place.daemon();
    place.run(&["call", "failing", r#"{"x": "\u001b[2Jdisk is full"}"#]);
    daemon.wait_for(": error after ");
    place.run(&["call", "slow"]);
    daemon.wait_for(": timeout after ");
    place.check(&["call", "hello"], 0, "hello world!\n", "");
    for _ in 0..5 {
        place.run(&["send", "helo"]);
    }
    daemon.wait_for("helo: refused: Undefined function");
    place.check(&["call", "hello"], 0, "hello world!\n", "");
    let log = daemon.log();
    let line = log.lines().find(|line| line.contains(": error after ")).expect("it is there");
    assert!(line.contains("failing ") && line.contains(", run 1: ") && line.ends_with("disk is full"), "{line}");
    assert!(!log.contains('\x1b'), "{log}");
    assert_eq!(log.matches("refused: Undefined function").count(), 1, "{log}");
    assert!(!log.contains("hello "), "calls that go well have no line: {log}");
}
