//! What is open: each call that was accepted and has not ended can be seen, told what it waits for, and ended, wherever it is.

use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, mpsc};
use std::thread;
use std::time::{Duration, Instant};

use cerbas::dispatch::{Again, Dispatcher, Door, PoolSize, Rules};
use cerbas::effects::Effects;
use cerbas::functions::{Function, Functions, Native, Retries};
use cerbas::protocol::codec::Encoded;
use cerbas::protocol::{CallState, Request, RequestId, Verdict};
use cerbas::thread::Threads;
use cerbas::{Call, NativeError, Terms};
use proptest::prelude::*;

use crate::support::{Anything, Gate, OpenedAtTheEnd, PATIENCE, at_most, becomes, cached, eventually, text_id, within};

/// What a door was told.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Told {
    Answer(Verdict),
    HandedBack,
    RunsAgain,
}

/// A door that keeps what fails waiting here, as HTTP does, or gives it back, as the queue does.
struct Witness {
    waits_here: bool,
    told: mpsc::Sender<Told>,
}

impl Witness {
    fn tell(&self, told: Told) {
        let _the_test_has_ended = self.told.send(told);
    }
}

impl Door for Witness {
    fn name(&self) -> &'static str {
        if self.waits_here { "http" } else { "queue" }
    }

    fn waits_here(&self) -> bool {
        self.waits_here
    }

    fn answer(self: Box<Self>, answer: Arc<Encoded>, _: Effects) {
        self.tell(Told::Answer(answer.verdict));
    }

    fn answer_early(&mut self, _: Arc<Encoded>) {}

    fn run_again(self: Box<Self>, _: Again, _: Arc<Encoded>) {
        self.tell(Told::RunsAgain);
    }

    fn hand_back(self: Box<Self>) {
        self.tell(Told::HandedBack);
    }
}

/// A road with functions of many kinds.
struct Road {
    dispatcher: Arc<Dispatcher>,
    gate: Gate,
}

impl Road {
    fn start(workers: usize, backoff: Duration) -> Self {
        let gate = Gate::default();
        let retries = Retries { count: 2, backoff, ..Retries::default() };
        let mut functions = Functions::default();
        let mut add = |name: &str, terms: Terms, body: fn(&Call, &Gate) -> Result<(), NativeError>| {
            let gate = gate.clone();
            let body = Native::new(move |call: &Call, _: Anything| body(call, &gate));
            functions.add(Function { name: name.to_owned(), terms, body: Box::new(body) });
        };
        add("value", within(PATIENCE), |_, _| Ok(()));
        add("failure", Terms { retries, ..within(PATIENCE) }, |_, _| Err(NativeError::from("no")));
        add("panic", Terms { retries, ..within(PATIENCE) }, |_, _| panic!("as the test wants"));
        add("short", Terms { retries, ..within(Duration::from_millis(2)) }, |call, _| {
            call.cancel.wait(PATIENCE);
            Ok(())
        });
        let held: fn(&Call, &Gate) -> Result<(), NativeError> = |_, gate| {
            gate.pass();
            Ok(())
        };
        add("held", within(PATIENCE), held);
        add("limited", at_most(1), held);
        add("shared", cached(), held);
        let rules = Rules { functions, ..Rules::default() };
        let dispatcher = Dispatcher::start(rules, PoolSize { workers, max_stuck: 64 }, &Threads::default())
            .expect("there are threads");
        Road { dispatcher, gate }
    }

    fn call(&self, id: &str, func: &str, waits_here: bool) -> mpsc::Receiver<Told> {
        let (told, tells) = mpsc::channel();
        let request = Request::new(text_id(id), func, Anything::new().into());
        self.dispatcher.dispatch(request, Box::new(Witness { waits_here, told }));
        tells
    }

    fn opened_at_the_end(&self) -> OpenedAtTheEnd {
        self.gate.opened_at_the_end()
    }

    /// What `id` does, if it is open.
    fn state(&self, id: &str) -> Option<CallState> {
        self.dispatcher.find(&text_id(id)).first().map(|call| call.state)
    }

    #[track_caller]
    fn cancelled(&self, id: &str, tells: &mpsc::Receiver<Told>) {
        assert!(self.dispatcher.cancel(&text_id(id)), "{id} is not here");
        assert_eq!(tells.recv_timeout(PATIENCE), Ok(Told::Answer(Verdict::Cancelled)), "{id}");
        becomes(None, || self.state(id));
    }
}

#[test]
fn a_call_is_seen_and_cancelled_wherever_it_waits() {
    let road = Road::start(1, PATIENCE);
    let _opened = road.opened_at_the_end();
    let calls = [
        ("again", "failure", CallState::Again),
        ("runs", "limited", CallState::Running),
        ("parked", "limited", CallState::Parked),
        ("waits", "held", CallState::Waiting),
        ("shares", "shared", CallState::Waiting),
        ("too", "shared", CallState::Waiting),
    ];
    let mut told = Vec::new();
    for (id, func, state) in calls {
        told.push(road.call(id, func, true));
        becomes(Some(state), || road.state(id));
    }
    let again = road.dispatcher.find(&text_id("again")).pop().expect("it is open");
    assert_eq!((&*again.func, &*again.door, again.attempt, again.due.is_some()), ("failure", "http", 1, true));
    let (running, queued) = road.dispatcher.record();
    assert_eq!((running.len(), queued.len()), (1, 5));
    assert_eq!(road.dispatcher.balance().in_flight, 6);
    for ((id, ..), tells) in calls.iter().zip(&told) {
        road.cancelled(id, tells);
    }
    assert!(!road.dispatcher.cancel(&text_id("runs")), "it has ended");
    let balance = road.dispatcher.balance();
    assert_eq!((balance.count(Verdict::Cancelled), balance.in_flight), (6, 0));
}

#[test]
fn the_last_one_to_leave_a_shared_run_ends_it() {
    let road = Road::start(1, PATIENCE);
    let _opened = road.opened_at_the_end();
    let told = [road.call("a", "shared", true), road.call("b", "shared", false)];
    becomes((Some(CallState::Running), Some(CallState::Running)), || (road.state("a"), road.state("b")));
    road.cancelled("a", &told[0]);
    assert_eq!(road.state("b"), Some(CallState::Running), "it goes on for the other");
    road.cancelled("b", &told[1]);
    eventually("the worker is free", || road.dispatcher.pool().idle == 1);
}

#[test]
fn all_calls_of_one_id_are_cancelled_together() {
    let road = Road::start(1, PATIENCE);
    let _opened = road.opened_at_the_end();
    let told: Vec<_> = (0..3).map(|_| road.call("same", "held", true)).collect();
    assert!(road.dispatcher.cancel(&text_id("same")));
    for tells in told {
        assert_eq!(tells.recv_timeout(PATIENCE), Ok(Told::Answer(Verdict::Cancelled)));
    }
}

#[test]
fn what_waits_to_run_again_when_the_daemon_stops_ends_as_it_failed() {
    let road = Road::start(1, PATIENCE);
    let (here, there) = (road.call("here", "failure", true), road.call("there", "failure", false));
    becomes(Some(CallState::Again), || road.state("here"));
    assert_eq!(there.recv_timeout(PATIENCE), Ok(Told::RunsAgain));
    assert_eq!(road.dispatcher.close(Instant::now() + PATIENCE), 0);
    assert_eq!(here.recv_timeout(PATIENCE), Ok(Told::Answer(Verdict::Error)));
    let balance = road.dispatcher.balance();
    assert_eq!((balance.accepted, balance.returned, balance.count(Verdict::Error), balance.in_flight), (2, 1, 1, 0));
}

#[test]
fn a_function_that_is_held_past_its_limit_stays_on_show_until_it_returns() {
    let gate = Gate::default();
    let held = gate.clone();
    let mut functions = Functions::default();
    let body = Native::new(move |_: &Call, _: Anything| {
        held.pass();
        Ok(())
    });
    let terms = within(Duration::from_millis(2));
    functions.add(Function { name: "stuck".to_owned(), terms, body: Box::new(body) });
    let rules = Rules { functions, ..Rules::default() };
    let dispatcher = Dispatcher::start(rules, PoolSize { workers: 1, max_stuck: 1 }, &Threads::default())
        .expect("there are threads");
    let (told, tells) = mpsc::channel();
    let door = Witness { waits_here: true, told };
    dispatcher.dispatch(Request::new(text_id("a"), "stuck", Anything::new().into()), Box::new(door));
    assert_eq!(tells.recv_timeout(PATIENCE), Ok(Told::Answer(Verdict::Timeout)));
    // It is answered before it is counted as ended.
    eventually("it has ended", || dispatcher.balance().in_flight == 0);
    becomes(vec!["a".to_owned()], || dispatcher.record().0.into_iter().map(|call| call.id).collect());
    gate.open();
    eventually("it is forgotten", || dispatcher.record().0.is_empty());
}

/// What is done with the road.
#[derive(Debug, Clone, Copy)]
enum Step {
    Call {
        func: &'static str,
        waits_here: bool,
    },
    /// Of the calls so far, counted from the newest.
    Cancel(usize),
    Pause,
    OpenGate,
}

fn any_step() -> impl Strategy<Value = Step> {
    const FUNCS: [&str; 8] = ["value", "failure", "panic", "short", "held", "limited", "shared", "unknown"];
    let func = proptest::sample::select(&FUNCS[..]);
    prop_oneof![
        8 => (func, any::<bool>()).prop_map(|(func, waits_here)| Step::Call { func, waits_here }),
        4 => (0..6_usize).prop_map(Step::Cancel),
        2 => Just(Step::Pause),
        1 => Just(Step::OpenGate),
    ]
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 60, max_shrink_iters: 200, failure_persistence: None, ..ProptestConfig::default() })]

    #[test]
    fn each_call_ends_once_and_both_accounts_agree_at_every_moment(
        steps in prop::collection::vec(any_step(), 1..60),
        workers in 1..4_usize,
        is_stopped_early: bool,
    ) {
        let road = Road::start(workers, Duration::from_millis(1));
        let is_done = Arc::new(AtomicBool::new(false));
        let wrong: Arc<Mutex<Option<String>>> = Arc::default();
        let auditor = thread::spawn({
            let (dispatcher, is_done, wrong) = (Arc::clone(&road.dispatcher), Arc::clone(&is_done), Arc::clone(&wrong));
            move || while !is_done.load(Ordering::Acquire) {
                let balance = dispatcher.balance();
                if !balance.holds() {
                    *wrong.lock().expect("nobody panics") = Some(format!("{balance:?}"));
                }
                thread::yield_now();
            }
        });
        let mut told = Vec::new();
        for (number, step) in steps.iter().enumerate() {
            match step {
                Step::Call { func, waits_here } => told.push((number, road.call(&format!("r{number}"), func, *waits_here))),
                Step::Cancel(back) => {
                    if let Some((number, _)) = told.iter().rev().nth(*back) {
                        road.dispatcher.cancel(&text_id(&format!("r{number}")));
                    }
                }
                Step::Pause => (0..50).for_each(|_| thread::yield_now()),
                Step::OpenGate => road.gate.open(),
            }
        }
        road.gate.open();
        if !is_stopped_early {
            eventually("all have ended", || road.dispatcher.balance().in_flight == 0);
        }
        road.dispatcher.close(Instant::now() + if is_stopped_early { Duration::ZERO } else { PATIENCE });
        is_done.store(true, Ordering::Release);
        auditor.join().expect("it does not panic");
        prop_assert_eq!(wrong.lock().expect("nobody panics").take(), None);
        let balance = road.dispatcher.balance();
        prop_assert_eq!((balance.accepted, balance.in_flight), (told.len() as u64, 0));
        let (mut returned, mut answered) = (0, 0);
        for (number, tells) in told {
            let heard: Vec<Told> = tells.try_iter().collect();
            prop_assert_eq!(heard.len(), 1, "{}: {:?} was told {:?}", number, steps[number], heard);
            match heard[0] {
                Told::Answer(_) => answered += 1,
                Told::HandedBack | Told::RunsAgain => returned += 1,
            }
        }
        prop_assert_eq!((balance.verdicts.iter().sum::<u64>(), balance.returned), (answered, returned));
    }
}

#[test]
fn what_is_not_here_is_not_found() {
    let road = Road::start(1, PATIENCE);
    assert!(!road.dispatcher.cancel(&RequestId::Number(7)));
    assert_eq!(road.dispatcher.find(&RequestId::Number(7)), []);
}
