//! The broker goes away for a while.

use cerbas::Server;
use cerbas::protocol::Verdict;
use serde_json::json;

use crate::support::{
    Anything, Counter, Daemon, Gate, abandoned, becomes, cached, eventually, ok, text_id, verdicts, within, workers,
};
use crate::support::{PATIENCE, configured};

/// A server whose function `count` waits at the gate and gives the number of its run.
fn counting(server: Server, gate: &Gate, runs: &Counter) -> Server {
    let (gate, runs) = (gate.clone(), runs.clone());
    server.function_with("count", within(PATIENCE), move |_, _: Anything| {
        let run = runs.next();
        gate.pass();
        Ok(run)
    })
}

#[test]
fn answers_wait_while_the_broker_is_away_and_none_is_lost_or_made_twice() {
    let runs = Counter::default();
    let daemon = Daemon::start(workers(8), |server, gate| counting(server, gate, &runs));
    let ids: Vec<String> = (0..8).map(|number| format!("call-{number}")).collect();
    ids.iter().for_each(|id| daemon.send(id, "count"));
    daemon.gate().holds(8);

    daemon.memory().set_away(true);
    daemon.gate().open();
    becomes(8, || daemon.balance().count(Verdict::Ok));
    assert!(ids.iter().all(|id| daemon.is_unanswered(id)));
    assert_eq!(daemon.memory().in_flight(), 8, "what was not settled is still in the broker");

    daemon.memory().set_away(false);
    let mut answers: Vec<_> = ids.iter().map(|id| daemon.answer(id)["data"].as_u64()).collect();
    answers.sort_unstable();
    assert_eq!(answers, (1..=8).map(Some).collect::<Vec<_>>());
    assert_eq!((runs.count(), verdicts(&daemon.settled())), (8, vec![(Verdict::Ok, 8)]));
}

#[test]
fn nothing_is_taken_while_the_broker_is_away_and_all_of_it_afterwards() {
    let daemon = Daemon::plain(workers(2));
    daemon.memory().set_away(true);
    for number in 0..50 {
        daemon.memory().push(0, format!("{{\"id\": \"call-{number}\", \"func\": \"one\"}}"));
    }
    assert_eq!((daemon.memory().queue(0).len(), daemon.memory().in_flight()), (50, 0));
    daemon.memory().set_away(false);
    for number in 0..50 {
        assert_eq!(daemon.answer(&format!("call-{number}")), ok(1));
    }
    assert_eq!(verdicts(&daemon.settled()), [(Verdict::Ok, 50)]);
}

#[test]
fn a_broker_that_comes_and_goes_loses_nothing_and_doubles_nothing() {
    let runs = Counter::default();
    let daemon = Daemon::start(workers(4), |server, gate| counting(server, gate, &runs));
    daemon.gate().open();
    let ids: Vec<String> = (0..200).map(|number| format!("call-{number}")).collect();
    ids.iter().for_each(|id| daemon.send(id, "count"));
    for round in 1..5 {
        eventually("some are answered", || runs.count() >= 40 * round);
        daemon.memory().set_away(true);
        std::thread::yield_now();
        daemon.memory().set_away(false);
    }
    let mut answers: Vec<_> = ids.iter().map(|id| daemon.answer(id)["data"].as_u64()).collect();
    answers.sort_unstable();
    answers.dedup();
    assert_eq!((answers.len(), runs.count()), (200, 200));
    assert_eq!(verdicts(&daemon.settled()), [(Verdict::Ok, 200)]);
}

#[test]
fn timeouts_are_kept_for_those_who_wait_as_well() {
    let daemon = Daemon::plain(workers(2));
    daemon.send("a", "stuck");
    daemon.gate().holds(1);
    daemon.memory().set_away(true);
    becomes(1, || daemon.balance().count(Verdict::Timeout));
    daemon.memory().set_away(false);
    assert_eq!(daemon.answer("a"), crate::support::timeout());
}

#[test]
fn a_shared_run_survives_an_outage() {
    let daemon = Daemon::start(workers(2), |server, gate| {
        let gate = gate.clone();
        server.function_with("cached", cached(), move |_, _: Anything| {
            gate.pass();
            Ok(2)
        })
    });
    daemon.send("a", "cached");
    daemon.send("b", "cached");
    daemon.has_taken_all();
    daemon.memory().set_away(true);
    daemon.gate().open();
    becomes(3, || daemon.balance().count(Verdict::Ok));
    daemon.memory().set_away(false);
    assert_eq!((daemon.answer("a"), daemon.answer("b")), (ok(2), ok(2)));
}

#[test]
fn a_client_is_told_that_the_broker_is_away() {
    let daemon = Daemon::plain(workers(1));
    daemon.memory().set_away(true);
    let answer = daemon.client().call("one", json!({}));
    assert_eq!(answer.map_err(|error| error.to_string()), Err("memory: is told to be away".to_owned()));
    daemon.memory().set_away(false);
    daemon.serves();
}

#[test]
fn a_daemon_that_stops_while_the_broker_is_away_says_what_it_could_not_send() {
    let daemon = Daemon::plain(configured("[server]\nworkers = 2\nshutdown_timeout = \"10ms\""));
    daemon.send("a", "held");
    daemon.gate().holds(1);
    let memory = daemon.memory().clone();
    memory.set_away(true);
    daemon.gate().open();
    becomes(1, || daemon.balance().count(Verdict::Ok));
    assert_eq!(daemon.stop(), abandoned(0, 0, 1));
    assert_eq!(memory.in_flight(), 1, "whoever recovers it finds it there");
    // Without Redis nobody does, and who waits is told.
    let told = memory.answer(&text_id("a"), std::time::Duration::ZERO).map(|answer| answer.verdict);
    assert_eq!(told, Some(Verdict::Lost));
}
