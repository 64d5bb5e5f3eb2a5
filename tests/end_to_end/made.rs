//! What a program sets in code.

use std::time::Duration;

use cerbas::protocol::Verdict;
use cerbas::{Call, ClientError, Config, Server, StartError, Terms};
use serde_json::{Map, Value};

use crate::support::{PATIENCE, eventually};

fn nothing(_: &Call, _: Map<String, Value>) -> Result<(), cerbas::NativeError> {
    Ok(())
}

#[test]
fn settings_and_terms_out_of_range_are_refused_at_the_start_all_at_once() {
    let mut config: Config = "[redis]\nserver = \"none\"".parse().expect("it is a configuration");
    config.server.workers = 0;
    config.server.max_request = 0;
    let terms = Terms { cluster_concurrency: Some(0), timeout: Duration::ZERO, ..Terms::default() };
    let started = Server::new(config).function_with("pay", terms, nothing).function("", nothing).start();
    let Err(StartError::Config(faults)) = started else { panic!("it starts, or fails for another reason") };
    let told: Vec<String> = faults.iter().map(|fault| fault.message.clone()).collect();
    assert_eq!(
        told,
        [
            "functions.\"\": cannot be the name of a function: expected 1 to 128 characters, no / or control characters",
            "functions.pay.cluster_concurrency: expected a whole number from 1 to 65536, found 0",
            "functions.pay.timeout: expected at least 1ms, found 0s",
            "server.max_request: expected a whole number from 1 to 536870912, found 0",
            "server.workers: expected a whole number from 1 to 4096, found 0",
        ]
    );
}

#[test]
fn a_function_that_is_registered_twice_is_refused_at_the_start() {
    let twice = Server::in_memory().function("pay", nothing).function("pay", nothing).start();
    let Err(StartError::Config(faults)) = twice else { panic!("it starts, or fails for another reason") };
    assert_eq!(faults.to_string(), "configuration: functions.pay: is registered twice");
}

/// What a program may have.
#[derive(Debug)]
#[expect(dead_code, reason = "it is only shown")]
struct Program {
    server: Server,
    client: cerbas::Client,
}

#[test]
fn what_a_program_has_of_ours_can_be_shown_and_shows_no_secret() {
    let running = Server::in_memory().start().expect("it starts");
    let mut config = Config::default();
    config.redis.password = Some("never told".to_owned());
    let server = Server::new(config).function("pay", nothing);
    let program = Program { server, client: running.client().expect("it is there").user("tom") };
    let shown = format!("{program:?} {running:?}");
    assert!(shown.contains("pay") && shown.contains("tom") && shown.contains("Running(\"memory\")"), "{shown}");
    assert!(!shown.contains("never told"), "{shown}");
}

#[test]
fn who_waits_for_a_daemon_in_memory_is_told_at_its_end_and_nothing_is_sent_to_it_any_more() {
    let (started, starts) = std::sync::mpsc::channel();
    let held = move |call: &Call, (): ()| {
        started.send(()).expect("the test waits");
        call.cancel.wait(PATIENCE);
        Ok(())
    };
    let mut config: Config =
        "[redis]\nserver = \"none\"\n[server]\nshutdown_timeout = \"10ms\"".parse().expect("it is one");
    config.server.workers = 1;
    let terms = Terms { timeout: PATIENCE, ..Terms::default() };
    let running = Server::new(config).function_with("held", terms, held).start().expect("it starts");
    let client = || running.client().expect("it is there").patience(PATIENCE);
    let (mut first, mut second, mut later) = (client(), client(), client());
    let lost = |called: Result<cerbas::Json, ClientError>| {
        matches!(called, Err(ClientError::Answered { verdict: Verdict::Lost, .. }))
    };
    std::thread::scope(|scope| {
        let runs = scope.spawn(move || first.call("held", ()));
        starts.recv_timeout(PATIENCE).expect("it runs");
        let waits = scope.spawn(move || second.call("held", ()));
        eventually("it waits", || {
            running.balance().in_flight == 2 || running.memory().is_some_and(|memory| !memory.queue(0).is_empty())
        });
        assert_eq!(running.stop().given_up, 1);
        assert!(lost(runs.join().expect("it is told")) && lost(waits.join().expect("it is told")));
    });
    assert_eq!(later.call("held", ()), Err(ClientError::Closed));
}

#[test]
fn a_daemon_in_memory_needs_no_configuration_and_leaves_no_file() {
    let running = Server::in_memory().function("ping", |_: &Call, (): ()| Ok("pong")).start().expect("it starts");
    let pong = running.client().expect("it is there").call("ping", ()).expect("it is answered");
    assert_eq!(pong, "pong");
    assert!(running.stop().is_clean());
}
