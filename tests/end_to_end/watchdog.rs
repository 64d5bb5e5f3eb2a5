//! Functions that run past their time limit.

use std::sync::mpsc;
use std::time::Duration;

use cerbas::protocol::Verdict;
use cerbas::{Client, Terms};
use serde_json::json;

use crate::support::{
    Anything, Counter, Daemon, PATIENCE, SHORT, becomes, configured, ok, timeout, verdicts, within, workers,
};

#[test]
fn the_caller_of_a_stuck_function_is_told_in_time() {
    let daemon = Daemon::plain(workers(1));
    daemon.send("a", "stuck");
    assert_eq!(daemon.answer("a"), timeout());
    becomes((1, 1), || (daemon.gate().waiting(), daemon.pool().stuck));
    assert_eq!(verdicts(&daemon.settled()), [(Verdict::Timeout, 1)]);
}

#[test]
fn a_request_may_ask_for_less_time_than_its_function_has_but_not_for_more() {
    let daemon = Daemon::plain(workers(2));
    daemon.push(json!({"id": "less", "func": "held", "timeout": 10}));
    daemon.push(json!({"id": "more", "func": "stuck", "timeout": 3_600_000}));
    assert_eq!((daemon.answer("less"), daemon.answer("more")), (timeout(), timeout()));
    daemon.gate().holds(2);
}

#[test]
fn functions_that_are_stuck_for_ever_leave_the_daemon_serving() {
    let daemon = Daemon::plain(workers(4));
    for number in 0..64 {
        daemon.send(&format!("call-{number}"), "stuck");
    }
    for number in 0..64 {
        assert_eq!(daemon.answer(&format!("call-{number}")), timeout());
    }
    daemon.gate().holds(64);
    becomes((4, 64), || (daemon.pool().workers, daemon.pool().stuck));
    (0..20).for_each(|_| daemon.serves());

    daemon.gate().open();
    daemon.has_a_whole_pool_of(4);
    daemon.serves();
    assert_eq!(verdicts(&daemon.settled()), [(Verdict::Ok, 21), (Verdict::Timeout, 64)]);
}

#[test]
fn there_is_an_end_to_stuck_workers_and_work_goes_on_when_they_come_back() {
    let daemon = Daemon::plain(configured("[server]\nworkers = 2\nmax_stuck = 3"));
    for number in 0..8 {
        daemon.send(&format!("call-{number}"), "stuck");
    }
    // Three are replaced; then the two on duty get stuck themselves.
    for number in 0..5 {
        assert_eq!(daemon.answer(&format!("call-{number}")), timeout());
    }
    becomes((0, 5), || (daemon.pool().workers, daemon.pool().stuck));
    assert_eq!(daemon.memory().queue(0).len(), 3, "what nobody can start stays in the queue");

    daemon.gate().open();
    for number in 5..8 {
        assert_eq!(daemon.answer(&format!("call-{number}")), ok("late"));
    }
    daemon.has_a_whole_pool_of(2);
}

#[test]
fn a_late_value_is_dropped() {
    let daemon = Daemon::plain(workers(2));
    daemon.send("a", "stuck");
    let first = daemon.encoded("a");
    daemon.gate().open();
    daemon.has_a_whole_pool_of(2);
    daemon.serves();
    assert_eq!(first, daemon.encoded("a"));
    assert_eq!(daemon.answer("a"), timeout());
    assert_eq!(verdicts(&daemon.settled()), [(Verdict::Ok, 1), (Verdict::Timeout, 1)]);
}

#[test]
fn a_late_panic_is_dropped() {
    let daemon = Daemon::start(workers(2), |server, gate| {
        let gate = gate.clone();
        server.function_with("panics", within(SHORT), move |_, _: Anything| -> Result<(), _> {
            gate.pass();
            panic!("late")
        })
    });
    daemon.send("a", "panics");
    assert_eq!(daemon.answer("a"), timeout());
    daemon.gate().open();
    daemon.has_a_whole_pool_of(2);
    assert_eq!(daemon.answer("a"), timeout());
    assert_eq!(verdicts(&daemon.settled()), [(Verdict::Timeout, 1)]);
}

#[test]
fn a_function_is_told_that_its_time_is_over() {
    let (told, tells) = mpsc::channel();
    let daemon = Daemon::start(workers(1), |server, _| {
        server.function_with("obedient", within(SHORT), move |call, _: Anything| {
            let before = call.is_cancelled();
            let was_cancelled = call.cancel.wait(PATIENCE);
            Ok(told.send((before, was_cancelled, call.is_cancelled(), call.remaining()))?)
        })
    });
    daemon.send("a", "obedient");
    assert_eq!(daemon.answer("a"), timeout());
    assert_eq!(tells.recv_timeout(PATIENCE), Ok((false, true, true, Duration::ZERO)));
    daemon.has_a_whole_pool_of(1);
}

#[test]
fn functions_that_end_when_they_are_told_leave_the_pool_whole() {
    let daemon = Daemon::start(workers(4), |server, _| {
        server.function_with("obedient", within(Duration::from_millis(3)), |call, _: Anything| {
            call.cancel.wait(PATIENCE);
            Ok(())
        })
    });
    for _ in 0..300 {
        daemon.push(json!({"func": "obedient"}));
    }
    becomes(300, || daemon.balance().count(Verdict::Timeout));
    daemon.has_a_whole_pool_of(4);
    daemon.serves();
}

/// A command is killed in this way: the function ends while the watchdog is still about it.
#[test]
fn a_function_may_end_before_the_watchdog_has_told_it_to_the_end() {
    let daemon = Daemon::start(workers(2), |server, _| {
        server.function_with("hooked", within(Duration::from_millis(5)), |call, _: Anything| {
            let (cancelled, was_cancelled) = mpsc::channel();
            let _hook = call.cancel.on_cancel(move || {
                let _gone = cancelled.send(());
                // The watchdog is held here for a moment, as on a machine that has much to do.
                let (_nobody, never) = mpsc::channel::<()>();
                let _late = never.recv_timeout(SHORT);
            });
            Ok(was_cancelled.recv_timeout(PATIENCE)?)
        })
    });
    daemon.send("a", "hooked");
    assert_eq!(daemon.answer("a"), timeout());
    daemon.has_a_whole_pool_of(2);
    daemon.serves();
    daemon.has_a_whole_pool_of(2);
}

#[test]
fn a_function_may_have_all_the_time_there_is() {
    let daemon = Daemon::start(workers(1), |server, _| {
        server.function_with("unlimited", within(Duration::MAX), |_, _: Anything| Ok(2)).function_with(
            "unlimited-cached",
            Terms { cache: Some(PATIENCE), ..within(Duration::MAX) },
            |_, _: Anything| Ok(3),
        )
    });
    daemon.send("a", "unlimited");
    assert_eq!(daemon.answer("a"), ok(2));
    daemon.push(json!({"id": "b", "func": "unlimited", "timeout": u64::MAX}));
    assert_eq!(daemon.answer("b"), ok(2));
    daemon.push(json!({"id": "c", "func": "unlimited-cached", "timeout": u64::MAX}));
    assert_eq!(daemon.answer("c"), ok(3));
    daemon.has_a_whole_pool_of(1);
}

#[test]
fn many_clients_share_a_pool_with_stuck_functions() {
    let calls = Counter::default();
    let counted = calls.clone();
    let daemon =
        Daemon::start(workers(3), |server, _| server.function("count", move |_, _: Anything| Ok(counted.next())));
    for _ in 0..10 {
        daemon.push(json!({"func": "stuck"}));
    }
    let serve = |mut client: Client| {
        for _ in 0..50 {
            client.call("count", json!({})).expect("it has a value");
        }
    };
    std::thread::scope(|scope| {
        for _ in 0..4 {
            scope.spawn(|| serve(daemon.client()));
        }
    });
    assert_eq!(calls.count(), 200);
    becomes(10, || daemon.balance().count(Verdict::Timeout));
    daemon.gate().open();
    daemon.has_a_whole_pool_of(3);
}
