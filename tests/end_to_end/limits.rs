//! How many calls of one function run at once.

use cerbas::Terms;
use cerbas::protocol::Verdict;
use serde_json::json;

use crate::support::{
    Anything, Daemon, Peak, SHORT, at_most, becomes, configured, ok, rejected, timeout, verdicts, workers,
};

#[test]
fn no_more_calls_run_at_once_than_a_function_allows() {
    let peak = Peak::default();
    let measured = peak.clone();
    let daemon = Daemon::start(workers(8), |server, gate| {
        let gate = gate.clone();
        server.function_with("limited", at_most(3), move |_, _: Anything| {
            measured.enter();
            gate.pass();
            measured.leave();
            Ok(())
        })
    });
    for number in 0..60 {
        daemon.send(&format!("call-{number}"), "limited");
    }
    daemon.gate().holds(3);
    daemon.has_taken_all();
    assert_eq!((daemon.gate().waiting(), daemon.pool().waiting), (3, 57));
    daemon.gate().open();
    // And the one of `has_taken_all`.
    becomes(61, || daemon.balance().count(Verdict::Ok));
    assert_eq!(peak.most(), 3);
    daemon.settled();
    daemon.has_a_whole_pool_of(8);
}

#[test]
fn calls_beyond_the_rate_of_a_function_are_rejected_at_once() {
    let terms = Terms { rate: "2/h".parse().ok(), ..Terms::default() };
    let daemon = Daemon::start(workers(2), |server, _| server.function_with("rated", terms, |_, _: Anything| Ok(1)));
    (0..4).for_each(|number| daemon.send(&format!("call-{number}"), "rated"));
    let answers: Vec<_> = (0..4).map(|number| daemon.answer(&format!("call-{number}"))).collect();
    assert_eq!(answers, [ok(1), ok(1), rejected("overload"), rejected("overload")]);
    daemon.serves();
}

#[test]
fn a_limited_function_holds_nobody_else_up() {
    let daemon = Daemon::start(workers(2), |server, gate| {
        let gate = gate.clone();
        server.function_with("limited", at_most(1), move |_, _: Anything| {
            gate.pass();
            Ok(())
        })
    });
    for _ in 0..20 {
        daemon.push(json!({"func": "limited"}));
    }
    daemon.gate().holds(1);
    for _ in 0..20 {
        daemon.serves();
    }
    assert_eq!(daemon.gate().waiting(), 1);
}

#[test]
fn limited_calls_run_in_the_order_in_which_they_came() {
    let (ran, order) = std::sync::mpsc::channel();
    let daemon = Daemon::start(workers(4), |server, gate| {
        let gate = gate.clone();
        server.function_with("limited", at_most(1), move |call, _: Anything| {
            gate.pass();
            Ok(ran.send(call.id.to_string())?)
        })
    });
    let ids: Vec<String> = (0..30).map(|number| format!("call-{number}")).collect();
    ids.iter().for_each(|id| daemon.send(id, "limited"));
    daemon.has_taken_all();
    daemon.gate().open();
    daemon.settled();
    assert_eq!(order.try_iter().collect::<Vec<_>>(), ids);
}

#[test]
fn each_limited_function_has_its_own_limit() {
    let daemon = Daemon::start(workers(4), |server, gate| {
        let (one, two) = (gate.clone(), gate.clone());
        server
            .function_with("single", at_most(1), move |_, _: Anything| {
                one.pass();
                Ok(())
            })
            .function_with("double", at_most(2), move |_, _: Anything| {
                two.pass();
                Ok(())
            })
    });
    for _ in 0..5 {
        daemon.push(json!({"func": "single"}));
        daemon.push(json!({"func": "double"}));
    }
    daemon.gate().holds(3);
    daemon.has_taken_all();
    assert_eq!(daemon.gate().waiting(), 3);
}

#[test]
fn a_call_past_its_limit_gives_its_place_to_the_next() {
    let daemon = Daemon::start(workers(2), |server, gate| {
        let gate = gate.clone();
        server.function_with("limited", Terms { timeout: SHORT, ..at_most(1) }, move |_, _: Anything| {
            gate.pass();
            Ok(())
        })
    });
    for id in ["a", "b", "c"] {
        daemon.send(id, "limited");
    }
    assert_eq!([daemon.answer("a"), daemon.answer("b"), daemon.answer("c")], [timeout(), timeout(), timeout()]);
    becomes(3, || daemon.pool().stuck);
    daemon.gate().open();
    daemon.send("d", "limited");
    assert_eq!(daemon.answer("d"), json!({"status": "ok", "data": null}));
    daemon.has_a_whole_pool_of(2);
}

#[test]
fn a_parked_call_starts_also_when_no_more_workers_are_hired() {
    let config = configured("[server]\nworkers = 4\nmax_stuck = 1");
    let daemon = Daemon::start(config, |server, gate| {
        let gate = gate.clone();
        server.function_with("limited", Terms { timeout: SHORT, ..at_most(1) }, move |call, _: Anything| {
            if call.id.to_string() == "first" {
                gate.pass();
            }
            Ok(2)
        })
    });
    daemon.send("stuck", "stuck");
    assert_eq!(daemon.answer("stuck"), timeout());
    // This one is one too many: its worker is not replaced, but others are idle.
    daemon.send("first", "limited");
    daemon.send("second", "limited");
    assert_eq!(daemon.answer("first"), timeout());
    assert_eq!(daemon.answer("second"), ok(2));
}

#[test]
fn a_panic_gives_its_place_to_the_next() {
    let daemon = Daemon::start(workers(2), |server, _| {
        server.function_with("limited", at_most(1), |_, _: Anything| -> Result<(), _> { panic!("no") })
    });
    for number in 0..10 {
        daemon.send(&format!("call-{number}"), "limited");
    }
    becomes(10, || daemon.balance().accepted);
    assert_eq!(verdicts(&daemon.settled()), [(Verdict::Error, 10)]);
}
