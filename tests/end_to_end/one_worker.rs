//! Everything over a single worker: nothing on the road may wait for another one.

use cerbas::protocol::Verdict;
use cerbas::{NativeError, Terms};
use serde_json::json;

use crate::support::{
    Anything, Daemon, PATIENCE, at_most, becomes, cached, failed, ok, rejected, timeout, verdicts, within, workers,
};

#[test]
fn a_single_worker_serves_everything() {
    let daemon = Daemon::start(workers(1), |server, _| {
        server
            .function("fails", |_, _: Anything| Err::<(), _>(NativeError::from("no")))
            .function("panics", |_, _: Anything| -> Result<(), _> { panic!("no") })
            .function_with("cached", cached(), |_, _: Anything| Ok(2))
            .function_with("limited", at_most(1), |_, _: Anything| Ok(3))
            .function_with("limited-cached", Terms { concurrency: Some(1), ..cached() }, |_, _: Anything| Ok(4))
            .function_with("later", Terms { is_async: true, ..within(PATIENCE) }, |_, _: Anything| Ok(5))
    });
    let rounds = 5;
    for round in 0..rounds {
        for func in ["one", "fails", "stuck", "panics", "cached", "limited", "limited-cached", "later", "nothing"] {
            daemon.send(&format!("{func}-{round}"), func);
        }
        daemon.push(json!({"id": format!("delayed-{round}"), "func": "one", "delay": 5}));
        daemon.push(json!({"id": format!("bad-{round}")}));
    }
    let expected = [
        ("one", ok(1)),
        ("fails", failed("no")),
        ("stuck", timeout()),
        ("panics", failed("function panicked: no")),
        ("cached", ok(2)),
        ("limited", ok(3)),
        ("limited-cached", ok(4)),
        ("later", ok("")),
        ("nothing", rejected("Undefined function")),
        ("delayed", ok(1)),
        ("bad", rejected("bad call")),
    ];
    for round in 0..rounds {
        for (func, answer) in &expected {
            assert_eq!(daemon.answer(&format!("{func}-{round}")), *answer, "{func}");
        }
    }
    let counts = [(Verdict::Ok, 30), (Verdict::Error, 10), (Verdict::Timeout, 5), (Verdict::Rejected, 10)];
    assert_eq!(verdicts(&daemon.settled()), counts);
    becomes(5, || daemon.pool().stuck);
    daemon.gate().open();
    daemon.has_a_whole_pool_of(1);
}

#[test]
fn a_single_worker_serves_those_who_wait_for_one_run() {
    let daemon = Daemon::start(workers(1), |server, gate| {
        let gate = gate.clone();
        server.function_with("cached", cached(), move |_, _: Anything| {
            gate.pass();
            Ok(2)
        })
    });
    for number in 0..20 {
        daemon.send(&format!("call-{number}"), "cached");
    }
    daemon.gate().holds(1);
    daemon.gate().open();
    for number in 0..20 {
        assert_eq!(daemon.answer(&format!("call-{number}")), ok(2));
    }
}
