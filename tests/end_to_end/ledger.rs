//! Nothing ends in silence: whatever comes, and in whatever order, each request has exactly one verdict, and the account
//! holds at any moment.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread;
use std::time::Duration;

use cerbas::dispatch::Dispatcher;
use cerbas::dispatch::PoolSize;
use cerbas::functions::{Body, Function, Functions, Native};
use cerbas::ledger::Balance;
use cerbas::protocol::Verdict;
use cerbas::{Call, NativeError, Terms};
use proptest::prelude::*;
use serde_json::json;

use crate::parts::{Fate, Parts};
use crate::support::{Anything, Gate, PATIENCE, at_most, becomes, cached, eventually, within};

/// One request and what becomes of it where it runs.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Kind {
    Value,
    Failure,
    Panic,
    /// Never ends by itself.
    Stuck,
    /// Ends when it is told that its time is over.
    Obedient,
    Expired,
    Unknown,
    BadArguments,
    Unreadable,
    /// Its daemon has died too often.
    Lost,
    /// One of a few values that are kept.
    Cached(u8),
    CachedFailure,
    /// A shared run that takes longer than the caller's own time.
    CachedHasty,
    Limited,
    LimitedCached(u8),
    Async,
    AsyncStuck,
    Quiet,
    Delayed,
}

fn any_kind() -> impl Strategy<Value = Kind> {
    prop_oneof![
        4 => Just(Kind::Value),
        2 => Just(Kind::Failure),
        2 => Just(Kind::Panic),
        2 => Just(Kind::Stuck),
        2 => Just(Kind::Obedient),
        1 => Just(Kind::Expired),
        1 => Just(Kind::Unknown),
        1 => Just(Kind::BadArguments),
        1 => Just(Kind::Unreadable),
        1 => Just(Kind::Lost),
        4 => (0..3_u8).prop_map(Kind::Cached),
        2 => Just(Kind::CachedFailure),
        1 => Just(Kind::CachedHasty),
        4 => Just(Kind::Limited),
        2 => (0..3_u8).prop_map(Kind::LimitedCached),
        2 => Just(Kind::Async),
        1 => Just(Kind::AsyncStuck),
        2 => Just(Kind::Quiet),
        2 => Just(Kind::Delayed),
    ]
}

/// How a case ends.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum End {
    /// When all have their verdict.
    Settled,
    /// In the middle, when about so many were accepted.
    After(usize),
}

#[derive(Debug, Clone)]
struct Case {
    kinds: Vec<Kind>,
    workers: usize,
    /// How often the broker goes away meanwhile.
    outages: usize,
    end: End,
}

fn any_case() -> impl Strategy<Value = Case> {
    let end = prop_oneof![Just(End::Settled), (0..40_usize).prop_map(End::After)];
    let outages = prop_oneof![2 => Just(0_usize), 1 => 1..3_usize];
    (prop::collection::vec(any_kind(), 1..40), 1..5_usize, outages, end)
        .prop_map(|(kinds, workers, outages, end)| Case { kinds, workers, outages, end })
}

impl Kind {
    fn request(self, id: &str) -> String {
        let request = match self {
            Kind::Value => json!({"id": id, "func": "value"}),
            Kind::Failure => json!({"id": id, "func": "failure"}),
            Kind::Panic => json!({"id": id, "func": "panic"}),
            Kind::Stuck => json!({"id": id, "func": "stuck"}),
            Kind::Obedient => json!({"id": id, "func": "obedient"}),
            Kind::Expired => json!({"id": id, "func": "value", "expires": 1, "sent_at": 1}),
            Kind::Unknown => json!({"id": id, "func": "unknown"}),
            Kind::BadArguments => json!({"id": id, "func": "value", "args": [1]}),
            Kind::Unreadable => return json!({"id": id, "func": "value"}).to_string().replace('}', ""),
            Kind::Lost => json!({"id": id, "func": "value", "user": "unlucky"}),
            Kind::Cached(number) => json!({"id": id, "func": "cached", "args": {"number": number}}),
            Kind::CachedFailure => json!({"id": id, "func": "cached-failure"}),
            Kind::CachedHasty => json!({"id": id, "func": "cached-obedient", "timeout": 5}),
            Kind::Limited => json!({"id": id, "func": "limited"}),
            Kind::LimitedCached(number) => json!({"id": id, "func": "limited-cached", "args": {"number": number}}),
            Kind::Async => json!({"id": id, "func": "async"}),
            Kind::AsyncStuck => json!({"id": id, "func": "async-stuck"}),
            Kind::Quiet => json!({"id": id, "func": "value", "reply": false}),
            Kind::Delayed => json!({"id": id, "func": "value", "delay": 3}),
        };
        request.to_string()
    }

    /// Its verdict, where it was given the time.
    fn verdict(self) -> Verdict {
        match self {
            Kind::Value
            | Kind::Cached(_)
            | Kind::Limited
            | Kind::LimitedCached(_)
            | Kind::Async
            | Kind::Quiet
            | Kind::Delayed => Verdict::Ok,
            Kind::Failure | Kind::Panic | Kind::CachedFailure => Verdict::Error,
            Kind::Stuck | Kind::Obedient | Kind::CachedHasty | Kind::AsyncStuck => Verdict::Timeout,
            Kind::Expired => Verdict::Expired,
            Kind::Unknown | Kind::BadArguments | Kind::Unreadable => Verdict::Rejected,
            Kind::Lost => Verdict::Lost,
        }
    }

    fn is_async(self) -> bool {
        matches!(self, Kind::Async | Kind::AsyncStuck)
    }

    /// How often the caller of one that was answered is told.
    fn told(self) -> usize {
        // Of what cannot be read not even the id is known.
        usize::from(!matches!(self, Kind::Quiet | Kind::Unreadable))
    }
}

fn functions(gate: &Gate, limit: Duration) -> Functions {
    let mut functions = Functions::default();
    let mut add = |name: &str, terms: Terms, body: Box<dyn Body>| {
        functions.add(Function { name: name.to_owned(), terms, body });
    };
    let value = || Box::new(Native::new(|_: &Call, _: Anything| Ok(1)));
    let failure = || Box::new(Native::new(|_: &Call, _: Anything| Err::<(), _>(NativeError::from("no"))));
    let obedient = || Box::new(Native::new(|call: &Call, _: Anything| Ok(call.cancel.wait(PATIENCE))));
    let stuck = || {
        let gate = gate.clone();
        Box::new(Native::new(move |_: &Call, _: Anything| {
            gate.pass();
            Ok(())
        }))
    };
    add("value", within(PATIENCE), value());
    add("failure", within(PATIENCE), failure());
    add(
        "panic",
        within(PATIENCE),
        Box::new(Native::new(|_: &Call, _: Anything| -> Result<(), NativeError> { panic!("no") })),
    );
    add("stuck", within(limit), stuck());
    add("obedient", within(limit), obedient());
    add("cached", cached(), value());
    add("cached-failure", cached(), failure());
    add("cached-obedient", Terms { timeout: limit * 2, ..cached() }, obedient());
    add("limited", at_most(1), value());
    add("limited-cached", Terms { concurrency: Some(1), ..cached() }, value());
    add("async", Terms { is_async: true, ..within(PATIENCE) }, value());
    add("async-stuck", Terms { is_async: true, ..within(limit) }, stuck());
    functions
}

/// Looks at the account all the time.
struct Auditor {
    is_done: Arc<AtomicBool>,
    thread: thread::JoinHandle<Result<(), String>>,
}

impl Auditor {
    fn of(dispatcher: Arc<Dispatcher>) -> Self {
        let is_done = Arc::new(AtomicBool::new(false));
        let thread = thread::spawn({
            let is_done = Arc::clone(&is_done);
            move || {
                let mut before = Balance::default();
                while !is_done.load(Ordering::Acquire) {
                    let now = dispatcher.balance();
                    let never_fewer = now.verdicts.iter().zip(before.verdicts).all(|(now, before)| *now >= before)
                        && now.accepted >= before.accepted
                        && now.returned >= before.returned;
                    if !now.holds() || !never_fewer {
                        return Err(format!("the account does not hold: {now:?} after {before:?}"));
                    }
                    before = now;
                    thread::yield_now();
                }
                Ok(())
            }
        });
        Auditor { is_done, thread }
    }

    fn result(self) -> Result<(), String> {
        self.is_done.store(true, Ordering::Release);
        self.thread.join().expect("the auditor does not panic")
    }
}

fn run(case: &Case) -> Result<(), TestCaseError> {
    let is_stopped_early = case.end != End::Settled;
    // What is to be given up must not time out before.
    let limit = if is_stopped_early { PATIENCE } else { Duration::from_millis(15) };
    let gate = Gate::default();
    let size = PoolSize { workers: case.workers, max_stuck: 64 };
    let mut parts = Parts::start(functions(&gate, limit), size);
    let _opened_before_parts_end = gate.opened_at_the_end();
    let auditor = Auditor::of(Arc::clone(&parts.dispatcher));
    let recorder = parts.recorder.clone();

    let kinds: BTreeMap<String, Kind> =
        case.kinds.iter().enumerate().map(|(number, kind)| (format!("r{number:02}"), *kind)).collect();
    for (number, (id, kind)) in kinds.iter().enumerate() {
        recorder.push(id, &kind.request(id));
        if number < case.outages {
            recorder.memory.set_away(true);
            (0..20).for_each(|_| thread::yield_now());
            recorder.memory.set_away(false);
        }
    }

    match case.end {
        End::Settled => becomes(kinds.len() as u64, || parts.balance().verdicts.iter().sum()),
        End::After(count) => {
            // As many as come of themselves: the workers may all be held.
            let mut looks = 0..200;
            eventually("some are accepted", || parts.balance().accepted >= count as u64 || looks.next().is_none());
        }
    }
    gate.open();
    let (given_up, unsettled) = parts.close(if is_stopped_early { Duration::from_millis(5) } else { PATIENCE });
    prop_assert_eq!((unsettled, recorder.memory.in_flight()), (0, 0));
    if !is_stopped_early {
        prop_assert_eq!(given_up, 0);
    }
    auditor.result().map_err(TestCaseError::fail)?;

    let fates = recorder.fates();
    prop_assert_eq!(fates.len(), kinds.len());
    for (id, kind) in &kinds {
        check_fate(id, *kind, &fates[id], is_stopped_early)?;
    }
    let balance = parts.balance();
    let answered = fates.values().map(|fate| fate.answers.len() as u64).sum::<u64>();
    prop_assert_eq!((balance.accepted - balance.returned, balance.in_flight), (answered, 0));
    if !is_stopped_early {
        for verdict in Verdict::ALL {
            let expected = kinds.values().filter(|kind| kind.verdict() == verdict).count() as u64;
            prop_assert_eq!(balance.count(verdict), expected, "{}", verdict);
        }
    }
    Ok(())
}

fn check_fate(id: &str, kind: Kind, fate: &Fate, is_stopped_early: bool) -> Result<(), TestCaseError> {
    let about = format!("{id}, {kind:?}: {fate:?}");
    // In one place, and only one: answered, or still with the broker.
    prop_assert_eq!(fate.answers.len() as i64 + fate.waiting, 1, "{}", about);
    if !is_stopped_early {
        prop_assert_eq!(fate.waiting, 0, "{}", about);
    }
    if fate.waiting == 0 {
        prop_assert_eq!(fate.told, kind.told(), "{}", about);
    } else {
        // One that was told before it ran may yet run again.
        prop_assert!(fate.told == 0 || kind.is_async(), "{}", about);
    }
    for verdict in fate.answers.iter().flatten() {
        let is_right = *verdict == kind.verdict() || (is_stopped_early && *verdict == Verdict::Ok);
        prop_assert!(is_right, "{}", about);
    }
    Ok(())
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 40, max_shrink_iters: 200, failure_persistence: None, ..ProptestConfig::default() })]

    #[test]
    fn every_request_has_exactly_one_verdict_and_the_account_holds_at_any_moment(case in any_case()) {
        run(&case)?;
    }
}

#[test]
fn a_thousand_requests_of_all_kinds_have_a_thousand_verdicts() {
    let all = [
        Kind::Value,
        Kind::Failure,
        Kind::Panic,
        Kind::Obedient,
        Kind::Expired,
        Kind::Unknown,
        Kind::BadArguments,
        Kind::Unreadable,
        Kind::Lost,
        Kind::Cached(0),
        Kind::Cached(1),
        Kind::CachedFailure,
        Kind::Limited,
        Kind::LimitedCached(0),
        Kind::Async,
        Kind::Quiet,
        Kind::Delayed,
    ];
    let kinds = all.into_iter().cycle().take(1000).collect();
    let case = Case { kinds, workers: 8, outages: 2, end: End::Settled };
    run(&case).expect("each has its verdict");
}
