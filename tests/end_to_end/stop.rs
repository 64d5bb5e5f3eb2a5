//! The end of a daemon.

use std::sync::{Arc, mpsc};
use std::thread;
use std::time::{Duration, Instant};

use cerbas::broker::Memory;
use cerbas::dispatch::{Again, Dispatcher, Door, PoolSize, Rules};
use cerbas::effects::Effects;
use cerbas::functions::{Function, Functions, Native};
use cerbas::protocol::codec::Encoded;
use cerbas::protocol::{Request, RequestId};
use cerbas::thread::Threads;
use cerbas::{Call, Config, Ended, Terms};
use serde_json::{Value, json};

use crate::support::{
    Anything, Daemon, Gate, PATIENCE, abandoned, at_most, becomes, cached, configured, lost, ok, text_id, timeout,
    within, workers,
};

/// A configuration that waits hardly for running calls.
fn hurried(workers: usize) -> Config {
    configured(&format!("[server]\nworkers = {workers}\nshutdown_timeout = \"20ms\""))
}

/// The ids of what waits in the first queue.
fn queue(memory: &Memory) -> Vec<String> {
    let id = |element: Vec<u8>| {
        let request: Value = serde_json::from_slice(&element).expect("the test's requests are JSON");
        request["id"].as_str().unwrap_or_default().to_owned()
    };
    memory.queue(0).into_iter().map(id).collect()
}

fn answer(memory: &Memory, id: &str) -> Option<Value> {
    let encoded = memory.answer(&text_id(id), Duration::ZERO)?;
    Some(serde_json::from_slice(&encoded.json).expect("an answer is JSON"))
}

fn ids(name: &str, count: usize) -> Vec<String> {
    (0..count).map(|number| format!("{name}-{number:02}")).collect()
}

/// A daemon with a function `limited`, one call of which waits at the gate, and others that are parked.
fn with_parked_calls(config: Config, terms: Terms, parked: &[String]) -> Daemon {
    let daemon = Daemon::start(config, |server, gate| {
        let gate = gate.clone();
        server.function_with("limited", terms, move |_, _: Anything| {
            gate.pass();
            Ok("done")
        })
    });
    daemon.push(json!({"id": "running", "func": "limited", "args": {"x": 0}}));
    daemon.gate().holds(1);
    for (number, id) in parked.iter().enumerate() {
        daemon.push(json!({"id": id, "func": "limited", "args": {"x": 1 + number}}));
    }
    daemon.has_taken_all();
    assert_eq!(daemon.pool().waiting, parked.len());
    daemon
}

#[test]
fn a_daemon_with_nothing_to_do_stops_at_once() {
    let daemon = Daemon::plain(workers(4));
    daemon.serves();
    let start = Instant::now();
    assert_eq!(daemon.stop(), Ended::default());
    assert!(start.elapsed() < PATIENCE / 2, "it took {:?}", start.elapsed());
}

#[test]
fn a_daemon_that_may_not_wait_gives_nothing_up_where_nothing_runs() {
    let daemon = Daemon::plain(configured("[server]\nworkers = 16\nshutdown_timeout = \"0s\""));
    daemon.has_a_whole_pool_of(16);
    assert_eq!(daemon.stop(), Ended::default());
}

#[test]
fn running_calls_end_and_those_that_have_not_started_go_back_in_order() {
    let unstarted = ids("parked", 8);
    let daemon = with_parked_calls(workers(2), at_most(1), &unstarted);
    let (memory, gate) = (daemon.memory().clone(), daemon.gate().clone());
    // It opens only when the daemon is stopping, and has put back what has not started.
    let opener = thread::spawn({
        let memory = memory.clone();
        move || {
            becomes(8, || memory.queue(0).len());
            gate.open();
        }
    });
    assert_eq!(daemon.stop(), Ended::default());
    opener.join().expect("the queue was filled again");
    assert_eq!(answer(&memory, "running"), Some(ok("done")));
    assert_eq!((queue(&memory), memory.in_flight()), (unstarted.clone(), 0));
    // There they would wait for another daemon, but none comes after this one.
    assert!(unstarted.iter().all(|id| answer(&memory, id) == Some(lost())));
}

#[test]
fn what_goes_back_stands_before_what_was_waiting() {
    let unstarted = ids("parked", 3);
    let daemon = with_parked_calls(hurried(2), at_most(1), &unstarted);
    let memory = daemon.memory().clone();
    // The other worker gets something to do, so that the rest stays in the queue.
    daemon.send("held", "held");
    daemon.gate().holds(2);
    let waiting = ids("waiting", 3);
    waiting.iter().for_each(|id| daemon.send(id, "one"));
    assert_eq!(daemon.stop(), abandoned(2, 2, 0));
    let order = queue(&memory);
    assert_eq!(order[order.len() - 3..], waiting);
    let unstarted_order: Vec<_> = order.iter().filter(|id| id.starts_with("parked")).cloned().collect();
    assert_eq!(unstarted_order, unstarted);
    assert_eq!((order.len(), memory.in_flight()), (8, 0));
}

#[test]
fn calls_that_wait_for_a_shared_run_go_back_in_order() {
    let unstarted = ids("waiter", 6);
    let daemon = Daemon::start(hurried(2), |server, gate| {
        let gate = gate.clone();
        let terms = Terms { concurrency: Some(1), ..cached() };
        server.function_with("limited", terms, move |_, _: Anything| {
            gate.pass();
            Ok("done")
        })
    });
    let memory = daemon.memory().clone();
    daemon.push(json!({"id": "running", "func": "limited", "args": {"x": 0}}));
    daemon.gate().holds(1);
    for id in &unstarted {
        daemon.push(json!({"id": id, "func": "limited", "args": {"x": 1}}));
    }
    daemon.has_taken_all();
    assert_eq!(daemon.stop(), abandoned(1, 1, 0));
    let order: Vec<_> = queue(&memory).into_iter().filter(|id| id.starts_with("waiter")).collect();
    assert_eq!(order, unstarted);
}

/// Writes down which request was put back when.
struct Witness {
    id: RequestId,
    put_back: mpsc::Sender<String>,
}

impl Door for Witness {
    fn name(&self) -> &'static str {
        "test"
    }

    fn answer(self: Box<Self>, _: Arc<Encoded>, _: Effects) {}

    fn answer_early(&mut self, _: Arc<Encoded>) {}

    fn run_again(self: Box<Self>, _: Again, _: Arc<Encoded>) {}

    fn hand_back(self: Box<Self>) {
        let _told = self.put_back.send(self.id.to_string());
    }
}

#[test]
fn the_order_holds_among_calls_that_wait_for_different_things() {
    let gate = Gate::default();
    let held = gate.clone();
    let mut functions = Functions::default();
    for (name, terms) in [("held", within(PATIENCE)), ("limited", at_most(1))] {
        let held = held.clone();
        let body = Native::new(move |_: &Call, _: Anything| {
            held.pass();
            Ok(())
        });
        functions.add(Function { name: name.to_owned(), terms, body: Box::new(body) });
    }
    let rules = Rules { functions, ..Rules::default() };
    let size = PoolSize { workers: 1, max_stuck: 1 };
    let dispatcher = Dispatcher::start(rules, size, &Threads::default()).expect("there are threads");
    let _opened_before_it_ends = gate.opened_at_the_end();
    let (put_back, all_put_back) = mpsc::channel();
    let calls = [("a", "held"), ("b", "limited"), ("c", "limited"), ("d", "held"), ("e", "limited"), ("f", "held")];
    for (id, func) in calls {
        let id = text_id(id);
        let door = Witness { id: id.clone(), put_back: put_back.clone() };
        dispatcher.dispatch(Request::new(id, func, Anything::new().into()), Box::new(door));
        gate.holds(1);
    }
    assert_eq!(dispatcher.close(Instant::now()), 1);
    // Each goes to the head of the queue: the first one comes last.
    assert_eq!(all_put_back.try_iter().collect::<Vec<_>>(), ["f", "e", "d", "c", "b", "a"]);
}

#[test]
fn a_function_that_does_not_end_is_given_up_and_its_call_goes_back() {
    let daemon = Daemon::plain(hurried(2));
    let (memory, gate) = (daemon.memory().clone(), daemon.gate().clone());
    daemon.send("a", "held");
    daemon.gate().holds(1);
    let ended = daemon.stop();
    assert_eq!((&ended, ended.is_clean()), (&abandoned(1, 1, 0), false));
    assert_eq!((queue(&memory), memory.in_flight()), (vec!["a".to_owned()], 0));
    // What it comes to after that is nobody's.
    becomes(0, || gate.waiting());
    assert_eq!(answer(&memory, "a"), Some(lost()));
}

#[test]
fn calls_that_are_given_up_go_back_in_the_order_in_which_they_came() {
    let daemon = Daemon::plain(hurried(4));
    let memory = daemon.memory().clone();
    let given_up = ids("held", 4);
    for (number, id) in given_up.iter().enumerate() {
        daemon.send(id, "held");
        daemon.gate().holds(number + 1);
    }
    assert_eq!(daemon.stop(), abandoned(4, 4, 0));
    assert_eq!(queue(&memory), given_up);
}

#[test]
fn a_function_that_ends_when_it_is_told_is_given_up_without_waiting_for_it() {
    let daemon = Daemon::start(hurried(1), |server, gate| {
        let gate = gate.clone();
        server.function_with("obedient", within(PATIENCE), move |call, _: Anything| {
            // Seen from outside: it has begun.
            let started = gate.clone();
            thread::spawn(move || started.pass());
            Ok(call.cancel.wait(PATIENCE))
        })
    });
    let memory = daemon.memory().clone();
    daemon.send("a", "obedient");
    daemon.gate().holds(1);
    let start = Instant::now();
    assert_eq!(daemon.stop(), abandoned(1, 0, 0));
    assert!(start.elapsed() < PATIENCE / 2, "it took {:?}", start.elapsed());
    assert_eq!(queue(&memory), ["a"]);
}

#[test]
fn a_call_past_its_limit_is_answered_and_not_given_up() {
    let daemon = Daemon::plain(hurried(1));
    let memory = daemon.memory().clone();
    daemon.send("a", "stuck");
    assert_eq!(daemon.answer("a"), timeout());
    assert_eq!(daemon.stop(), abandoned(0, 1, 0));
    assert_eq!((queue(&memory).len(), memory.in_flight()), (0, 0));
}

#[test]
fn a_call_that_reaches_its_limit_while_the_daemon_stops_is_answered() {
    let daemon = Daemon::plain(workers(1));
    let memory = daemon.memory().clone();
    daemon.send("a", "stuck");
    daemon.gate().holds(1);
    assert_eq!(daemon.stop(), abandoned(0, 1, 0));
    assert_eq!(answer(&memory, "a"), Some(timeout()));
}

#[test]
fn an_async_call_that_is_given_up_goes_back_although_its_caller_was_answered() {
    let daemon = Daemon::start(hurried(1), |server, gate| {
        let gate = gate.clone();
        let terms = Terms { is_async: true, ..within(PATIENCE) };
        server.function_with("later", terms, move |_, _: Anything| {
            gate.pass();
            Ok(())
        })
    });
    let memory = daemon.memory().clone();
    daemon.send("a", "later");
    daemon.gate().holds(1);
    assert_eq!(daemon.answer("a"), ok(""));
    assert_eq!(daemon.stop(), abandoned(1, 1, 0));
    assert_eq!((queue(&memory), answer(&memory, "a")), (vec!["a".to_owned()], Some(ok(""))));
}

#[test]
fn a_daemon_that_is_dropped_puts_back_what_it_holds() {
    let unstarted = ids("parked", 3);
    let daemon = with_parked_calls(workers(2), at_most(1), &unstarted);
    let memory = daemon.memory().clone();
    drop(daemon);
    // The gate is open by then: each has been answered or put back.
    let answered = unstarted
        .iter()
        .map(String::as_str)
        .chain(["running"])
        .filter(|id| answer(&memory, id).is_some_and(|answer| answer != lost()));
    assert_eq!(answered.count() + queue(&memory).len(), 4);
    assert_eq!(memory.in_flight(), 0);
}

#[test]
fn requests_that_come_while_the_daemon_stops_stay_in_the_queue() {
    let daemon = Daemon::plain(workers(1));
    let (memory, gate) = (daemon.memory().clone(), daemon.gate().clone());
    daemon.send("a", "held");
    daemon.gate().holds(1);
    daemon.send("b", "one");
    let stopping = thread::spawn(move || daemon.stop());
    gate.open();
    let ended = stopping.join().expect("it stops");
    assert_eq!(ended, Ended::default());
    memory.push(0, r#"{"id": "c", "func": "one"}"#);
    // It was taken before the stop, or stays.
    let b_was_answered = answer(&memory, "b") == Some(ok(1));
    let expected: &[&str] = if b_was_answered { &["c"] } else { &["b", "c"] };
    assert_eq!(queue(&memory), expected);
    assert_eq!(answer(&memory, "a"), Some(ok("let go")));
}

#[test]
fn the_function_halt_asks_for_the_end() {
    let daemon = Daemon::plain(configured("[server]\nworkers = 1\n[functions.halt]\nbuiltin = \"halt\""));
    assert!(!daemon.wait_for_halt(Duration::ZERO));
    assert_eq!(daemon.client().call("halt", json!({})), Ok(json!("").into()));
    assert!(daemon.wait_for_halt(PATIENCE));
    daemon.serves();
    assert_eq!(daemon.stop(), Ended::default());
}
