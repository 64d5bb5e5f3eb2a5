//! Values that are kept, and identical calls that share one run.

use std::time::Duration;

use cerbas::protocol::Verdict;
use cerbas::{NativeError, Terms};
use serde_json::json;

use crate::support::{
    Anything, Counter, Daemon, PATIENCE, SHORT, becomes, cached, eventually, failed, ok, timeout, verdicts, wall_clock,
    workers,
};

/// A daemon whose function `count` waits at the gate and gives the number of its run.
fn counting(terms: Terms) -> (Daemon, Counter) {
    let runs = Counter::default();
    let counted = runs.clone();
    let daemon = Daemon::start(workers(4), |server, gate| {
        let gate = gate.clone();
        server.function_with("count", terms, move |_, _: Anything| {
            let run = counted.next();
            gate.pass();
            Ok(run)
        })
    });
    (daemon, runs)
}

#[test]
fn a_value_is_kept_for_calls_with_the_same_arguments() {
    let (daemon, runs) = counting(cached());
    daemon.gate().open();
    daemon.push(json!({"id": "a", "func": "count", "args": {"x": 1, "y": [2]}}));
    assert_eq!(daemon.answer("a"), ok(1));
    // The order of the names makes no difference, nor who asks.
    daemon.memory().push(0, r#"{"id": "b", "func": "count", "args": {"y": [2], "x": 1}, "user": "tom"}"#);
    assert_eq!(daemon.answer("b"), ok(1));
    daemon.push(json!({"id": "c", "func": "count", "args": {"x": 1, "y": [3]}}));
    assert_eq!(daemon.answer("c"), ok(2));
    daemon.push(json!({"id": "d", "func": "count"}));
    assert_eq!(daemon.answer("d"), ok(3));
    assert_eq!((runs.count(), verdicts(&daemon.settled())), (3, vec![(Verdict::Ok, 4)]));
}

#[test]
fn a_value_is_made_anew_when_its_time_is_over() {
    let (daemon, runs) = counting(Terms { cache: Some(Duration::from_millis(1)), ..Terms::default() });
    daemon.gate().open();
    let mut client = daemon.client();
    eventually("a value is made anew", || {
        client.call("count", json!({})).expect("it has a value");
        runs.count() > 1
    });
}

#[test]
fn identical_calls_that_come_together_run_once() {
    let (daemon, runs) = counting(cached());
    let ids: Vec<String> = (0..40).map(|number| format!("call-{number}")).collect();
    ids.iter().for_each(|id| daemon.send(id, "count"));
    daemon.gate().holds(1);
    daemon.has_taken_all();
    becomes((40, 1), || (daemon.balance().in_flight, runs.count()));
    assert_eq!(daemon.pool().waiting, 0, "those who wait for a run take no place");
    daemon.gate().open();
    for id in &ids {
        assert_eq!(daemon.answer(id), ok(1));
    }
    assert_eq!(runs.count(), 1);
    // And the one of `has_taken_all`.
    assert_eq!(verdicts(&daemon.settled()), [(Verdict::Ok, 41)]);
}

#[test]
fn calls_that_differ_do_not_wait_for_each_other() {
    let (daemon, runs) = counting(cached());
    for number in 0..4 {
        daemon.push(json!({"func": "count", "args": {"x": number}}));
    }
    daemon.gate().holds(4);
    assert_eq!(runs.count(), 4);
}

#[test]
fn a_failure_is_shared_by_those_who_wait_and_then_forgotten() {
    let runs = Counter::default();
    let counted = runs.clone();
    let daemon = Daemon::start(workers(4), |server, gate| {
        let gate = gate.clone();
        server.function_with("fails", cached(), move |_, _: Anything| {
            let run = counted.next();
            gate.pass();
            Err::<(), _>(NativeError::from(format!("failure {run}")))
        })
    });
    daemon.send("a", "fails");
    daemon.send("b", "fails");
    daemon.has_taken_all();
    daemon.gate().open();
    assert_eq!((daemon.answer("a"), daemon.answer("b")), (failed("failure 1"), failed("failure 1")));
    daemon.send("c", "fails");
    assert_eq!(daemon.answer("c"), failed("failure 2"));
}

#[test]
fn a_run_past_its_limit_is_a_timeout_for_all_who_wait_and_leaves_nothing_behind() {
    let (daemon, runs) = counting(Terms { timeout: SHORT, ..cached() });
    daemon.send("a", "count");
    daemon.send("b", "count");
    assert_eq!((daemon.answer("a"), daemon.answer("b")), (timeout(), timeout()));
    let before = runs.count();
    daemon.gate().open();
    daemon.has_a_whole_pool_of(4);
    daemon.send("c", "count");
    assert_eq!(daemon.answer("c"), ok(before + 1), "the late value was not kept");
}

#[test]
fn a_waiter_with_less_time_gets_a_timeout_while_the_run_goes_on() {
    let (daemon, runs) = counting(cached());
    daemon.send("patient", "count");
    daemon.gate().holds(1);
    daemon.push(json!({"id": "hasty", "func": "count", "timeout": 20}));
    assert_eq!(daemon.answer("hasty"), timeout());
    assert_eq!((daemon.gate().waiting(), daemon.pool().stuck), (1, 0));
    assert!(daemon.is_unanswered("patient"));
    daemon.gate().open();
    assert_eq!(daemon.answer("patient"), ok(1));
    assert_eq!((runs.count(), verdicts(&daemon.settled())), (1, vec![(Verdict::Ok, 1), (Verdict::Timeout, 1)]));
    assert_eq!(daemon.answer("hasty"), timeout());
}

#[test]
fn the_run_goes_on_when_the_one_who_started_it_had_less_time() {
    let (daemon, runs) = counting(cached());
    daemon.push(json!({"id": "hasty", "func": "count", "timeout": 20}));
    assert_eq!(daemon.answer("hasty"), timeout());
    daemon.send("patient", "count");
    daemon.has_taken_all();
    daemon.gate().open();
    assert_eq!(daemon.answer("patient"), ok(1));
    assert_eq!(runs.count(), 1);
}

#[test]
fn an_async_function_that_is_cached_answers_at_once_and_runs_once() {
    let (daemon, runs) = counting(Terms { is_async: true, ..cached() });
    daemon.send("a", "count");
    daemon.send("b", "count");
    assert_eq!((daemon.answer("a"), daemon.answer("b")), (ok(""), ok("")));
    daemon.has_taken_all();
    daemon.gate().open();
    assert_eq!(verdicts(&daemon.settled()), [(Verdict::Ok, 3)]);
    assert_eq!(runs.count(), 1);
}

#[test]
fn a_shared_run_has_one_place_in_a_limited_function() {
    let (daemon, runs) = counting(Terms { concurrency: Some(1), ..cached() });
    for number in 0..10 {
        daemon.push(json!({"id": format!("a{number}"), "func": "count", "args": {"x": 0}}));
        daemon.push(json!({"id": format!("b{number}"), "func": "count", "args": {"x": 1}}));
    }
    daemon.has_taken_all();
    daemon.gate().open();
    for number in 0..10 {
        assert_eq!(daemon.answer(&format!("a{number}")), ok(1));
        assert_eq!(daemon.answer(&format!("b{number}")), ok(2));
    }
    assert_eq!(runs.count(), 2);
}

#[test]
fn a_call_that_has_expired_does_not_start_a_cached_function_either() {
    let (daemon, runs) = counting(cached());
    daemon.gate().open();
    let an_hour_ago = wall_clock() - 3_600_000;
    daemon.push(json!({"id": "old", "func": "count", "expires": 1000, "sent_at": an_hour_ago}));
    assert_eq!(daemon.answer("old"), json!({"status": "error", "data": "expired", "verdict": "expired"}));
    assert_eq!(runs.count(), 0);
}

#[test]
fn a_value_may_be_kept_for_ever() {
    let (daemon, runs) = counting(Terms { cache: Some(Duration::MAX), timeout: PATIENCE, ..Terms::default() });
    daemon.gate().open();
    daemon.send("a", "count");
    assert_eq!(daemon.answer("a"), ok(1));
    daemon.send("b", "count");
    assert_eq!(daemon.answer("b"), ok(1));
    assert_eq!(runs.count(), 1);
}
