//! `delay` and `expires`.

use std::time::{Duration, Instant};

use cerbas::protocol::Verdict;
use serde_json::json;

use crate::support::{
    Anything, Counter, Daemon, becomes, eventually, ok, rejected, unfit, verdicts, wall_clock, workers,
};

const HOUR: u64 = 3_600_000;

#[test]
fn a_delayed_call_starts_when_its_time_has_come() {
    let (started, starts) = std::sync::mpsc::channel();
    let daemon = Daemon::start(workers(1), |server, _| {
        server.function("note", move |_, _: Anything| Ok(started.send(Instant::now())?))
    });
    let sent = Instant::now();
    daemon.push(json!({"id": "later", "func": "note", "delay": 60}));
    assert_eq!(daemon.answer("later"), ok(()));
    let waited = starts.try_recv().expect("it has run").duration_since(sent);
    // The wall clock that counts the delay is cut to milliseconds.
    assert!(waited >= Duration::from_millis(59), "it started after {waited:?}");
    assert_eq!(verdicts(&daemon.settled()), [(Verdict::Ok, 1)]);
}

#[test]
fn the_client_waits_for_a_delayed_call() {
    let daemon = Daemon::plain(workers(1));
    assert_eq!(daemon.client().delay(Duration::from_millis(10)).call("one", json!({})), Ok(json!(1).into()));
}

#[test]
fn delayed_calls_take_no_worker_and_are_not_accepted_yet() {
    let daemon = Daemon::plain(workers(1));
    for _ in 0..100 {
        daemon.push(json!({"func": "one", "delay": HOUR}));
    }
    daemon.has_taken_all();
    assert_eq!(daemon.settled().accepted, 1, "only the one that is not delayed");
    assert_eq!(daemon.pool().waiting, 0);
}

#[test]
fn a_delayed_call_that_nobody_would_serve_is_refused_at_once() {
    let daemon = Daemon::plain(workers(1));
    daemon.push(json!({"id": "a", "func": "nothing", "delay": HOUR}));
    assert_eq!(daemon.answer("a"), rejected("Undefined function"));
    daemon.push(json!({"id": "b", "func": "one", "args": 1, "delay": HOUR}));
    assert_eq!(daemon.answer("b"), unfit("must be an object"));
}

#[test]
fn a_call_that_has_expired_does_not_start() {
    let calls = Counter::default();
    let counted = calls.clone();
    let daemon =
        Daemon::start(workers(1), |server, _| server.function("count", move |_, _: Anything| Ok(counted.next())));
    let expired = json!({"status": "error", "data": "expired", "verdict": "expired"});
    daemon.push(json!({"id": "old", "func": "count", "expires": 1000, "sent_at": wall_clock() - HOUR}));
    assert_eq!(daemon.answer("old"), expired);
    daemon.push(json!({"id": "young", "func": "count", "expires": HOUR, "sent_at": wall_clock()}));
    assert_eq!(daemon.answer("young"), ok(1));
    assert_eq!(verdicts(&daemon.settled()), [(Verdict::Ok, 1), (Verdict::Expired, 1)]);
    assert_eq!(calls.count(), 1);
}

#[test]
fn a_call_expires_while_it_waits_for_a_worker() {
    let daemon = Daemon::plain(workers(1));
    daemon.send("first", "held");
    daemon.gate().holds(1);
    let sent_at = wall_clock();
    daemon.push(json!({"id": "second", "func": "one", "expires": 20, "sent_at": sent_at}));
    eventually("time passes", || wall_clock() > sent_at + 20);
    daemon.gate().open();
    assert_eq!(daemon.answer("second"), json!({"status": "error", "data": "expired", "verdict": "expired"}));
    assert_eq!(daemon.answer("first"), ok("let go"));
}

#[test]
fn a_delayed_call_expires_counted_from_its_delay() {
    let daemon = Daemon::plain(workers(1));
    let sent_at = wall_clock();
    daemon.push(json!({"id": "a", "func": "one", "delay": 30, "expires": HOUR, "sent_at": sent_at}));
    assert_eq!(daemon.answer("a"), ok(1));
    daemon.push(json!({"id": "b", "func": "one", "delay": 10, "expires": 10, "sent_at": sent_at - HOUR}));
    assert_eq!(daemon.answer("b"), json!({"status": "error", "data": "expired", "verdict": "expired"}));
    becomes(2, || daemon.balance().accepted);
}
