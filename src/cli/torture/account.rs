//! The account at the end: what was accepted, what became of it, and whether the law holds. Pure.

use std::collections::{BTreeMap, HashMap, HashSet};
use std::ops::RangeInclusive;

use super::kinds::Kind;
use crate::protocol::{Answer, RequestId, Status, Verdict};

/// A request that was sent.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Sent {
    pub(super) id: RequestId,
    pub(super) kind: Kind,
    /// Whether Redis said that it has it. If not, nobody knows.
    pub(super) is_acknowledged: bool,
}

/// What was found when all was quiet.
#[derive(Debug, Clone, Default)]
pub(super) struct Evidence {
    pub(super) sent: Vec<Sent>,
    /// The stored answers.
    pub(super) answers: HashMap<RequestId, Answer>,
    /// How often each id ran.
    pub(super) runs: HashMap<String, u32>,
    /// The ids on the dead list.
    pub(super) dead: HashSet<String>,
    /// What daemons have counted in Redis.
    pub(super) counted: BTreeMap<Verdict, u64>,
    /// What still waits or is in flight, as a person would be told.
    pub(super) open: Vec<String>,
    /// What else went wrong.
    pub(super) strange: Vec<String>,
}

/// The account.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub(super) struct Account {
    /// What Redis acknowledged.
    pub(super) accepted: u64,
    /// What it did not acknowledge, but has after all.
    pub(super) unsure: u64,
    /// What was answered.
    pub(super) answered: u64,
    /// The verdicts that daemons have counted in Redis.
    pub(super) verdicts: BTreeMap<Verdict, u64>,
    /// Requests that ran more than once, as their daemon died.
    pub(super) repeated: u64,
    /// Requests that did nothing bad, and were in flight so often when their daemon died that they were given up.
    pub(super) given_up: u64,
    /// Requests without a verdict. Must be 0.
    pub(super) silent: u64,
    /// Where the law was broken.
    pub(super) faults: Vec<String>,
}

/// Holds all that was found against the law.
pub(super) fn settle(evidence: &Evidence) -> Account {
    let mut account = Account { verdicts: evidence.counted.clone(), ..Account::default() };
    let mut may_be = 0;
    for sent in &evidence.sent {
        let answer = evidence.answers.get(&sent.id);
        let runs = evidence.runs.get(&sent.id.to_string()).copied().unwrap_or(0);
        let is_dead = evidence.dead.contains(&sent.id.to_string());
        account.answered += u64::from(answer.is_some());
        match (sent.is_acknowledged, sent.kind.is_answered()) {
            (true, _) => account.accepted += 1,
            (false, true) => account.unsure += u64::from(answer.is_some()),
            (false, false) => may_be += 1,
        }
        if sent.kind == Kind::Garbage || (answer.is_none() && !sent.is_acknowledged) {
            continue;
        }
        if let Some(fault) = look(sent, answer, runs, is_dead) {
            account.silent += u64::from(fault == Wrong::Silent);
            account.faults.push(format!("{}: {}", sent.id, fault.text()));
        }
        account.repeated += u64::from(runs > 1 && sent.kind != Kind::Flaky);
        account.given_up += u64::from(
            answer.is_some_and(|answer| answer.verdict() == Verdict::Lost)
                && !matches!(sent.kind, Kind::Deadly | Kind::Once),
        );
    }
    let certain = account.accepted + account.unsure;
    let counted = evidence.counted.values().sum();
    if let Some(fault) = compare(certain..=certain + may_be, counted) {
        account.faults.push(fault);
    }
    let open = evidence.open.iter().map(|open| format!("still open: {open}"));
    account.faults.extend(open.chain(evidence.strange.iter().cloned()));
    account
}

/// What is wrong with one request.
#[derive(Debug, Clone, PartialEq, Eq)]
enum Wrong {
    Silent,
    Other(String),
}

impl Wrong {
    fn text(self) -> String {
        match self {
            Wrong::Silent => "it was accepted and has no verdict".to_owned(),
            Wrong::Other(text) => text,
        }
    }
}

fn look(sent: &Sent, answer: Option<&Answer>, runs: u32, is_dead: bool) -> Option<Wrong> {
    let wrong = |text: String| Some(Wrong::Other(text));
    if sent.kind == Kind::Once && runs > 1 {
        return wrong(format!("it must not run twice, and ran {runs} times"));
    }
    let Some(answer) = answer else {
        // Nobody is told of those, so only a run or an entry of the dead list can tell.
        let is_known = !sent.kind.is_answered() && (runs > 0 || is_dead);
        return if is_known { None } else { Some(Wrong::Silent) };
    };
    let verdict = answer.verdict();
    if !sent.kind.is_answered() {
        return wrong("nobody waits for it, but it was answered".to_owned());
    }
    if !sent.kind.allows(verdict) {
        return wrong(format!("a {} must not end with {verdict}: {}", sent.kind.function(), answer.data));
    }
    if answer.status == Status::Ok && runs == 0 {
        return wrong("it has a value and never ran".to_owned());
    }
    if answer.status == Status::Ok && answer.data != sent.id.to_string() {
        return wrong(format!("it has the answer of another: {}", answer.data));
    }
    None
}

fn compare(right: RangeInclusive<u64>, counted: u64) -> Option<String> {
    let (least, most) = (*right.start(), *right.end());
    let expected = if least == most { least.to_string() } else { format!("{least} to {most}") };
    (!right.contains(&counted)).then(|| format!("{expected} requests were accepted, and {counted} verdicts counted"))
}

#[cfg(test)]
mod tests {
    use serde_json::{Value, json};

    use super::*;

    fn sent(id: &str, kind: Kind) -> Sent {
        Sent { id: RequestId::Text(id.into()), kind, is_acknowledged: true }
    }

    fn answer(value: Value) -> Answer {
        serde_json::from_value(value).expect("it is an answer")
    }

    fn ok(id: &str) -> Answer {
        answer(json!({"status": "ok", "data": id}))
    }

    fn failed(verdict: &str) -> Answer {
        answer(json!({"status": "error", "data": "it failed", "verdict": verdict}))
    }

    /// `kind` was sent, ran `runs` times, and got `answer`; so many verdicts were counted.
    fn one(kind: Kind, runs: u32, answer: Option<Answer>, counted: u64) -> Evidence {
        Evidence {
            sent: vec![sent("a", kind)],
            answers: answer.map(|answer| (RequestId::Text("a".into()), answer)).into_iter().collect(),
            runs: HashMap::from([("a".to_owned(), runs)]),
            counted: BTreeMap::from([(Verdict::Ok, counted)]),
            ..Evidence::default()
        }
    }

    #[track_caller]
    fn check(evidence: &Evidence, faults: &[&str]) {
        assert_eq!(settle(evidence).faults, faults);
    }

    #[test]
    fn the_law_holds_when_each_has_one_right_verdict() {
        check(&one(Kind::Quick, 1, Some(ok("a")), 1), &[]);
        check(&one(Kind::Fails, 1, Some(failed("error")), 1), &[]);
        check(&one(Kind::Expiring, 0, Some(failed("expired")), 1), &[]);
        check(&one(Kind::Silent, 1, None, 1), &[]);
        check(&one(Kind::Garbage, 0, None, 1), &[]);
    }

    #[test]
    fn what_was_accepted_and_has_no_verdict_is_silent() {
        for kind in [Kind::Quick, Kind::Deadly, Kind::Once] {
            let account = settle(&one(kind, 0, None, 1));
            assert_eq!((account.silent, account.faults.len()), (1, 1), "{kind:?}");
        }
        check(&one(Kind::Silent, 0, None, 1), &["a: it was accepted and has no verdict"]);
    }

    #[test]
    fn a_verdict_too_many_or_too_few_is_seen() {
        check(&one(Kind::Quick, 1, Some(ok("a")), 2), &["1 requests were accepted, and 2 verdicts counted"]);
        check(&one(Kind::Silent, 1, None, 0), &["1 requests were accepted, and 0 verdicts counted"]);
        check(&one(Kind::Garbage, 0, None, 0), &["1 requests were accepted, and 0 verdicts counted"]);
    }

    #[test]
    fn what_redis_did_not_acknowledge_may_or_may_not_be_there() {
        let unsure = |kind, answer, counted| {
            let mut evidence = one(kind, 1, answer, counted);
            evidence.sent[0].is_acknowledged = false;
            evidence
        };
        check(&unsure(Kind::Quick, None, 0), &[]);
        check(&unsure(Kind::Quick, Some(ok("a")), 1), &[]);
        check(&unsure(Kind::Silent, None, 0), &[]);
        check(&unsure(Kind::Silent, None, 1), &[]);
        check(&unsure(Kind::Silent, None, 2), &["0 to 1 requests were accepted, and 2 verdicts counted"]);
    }

    #[test]
    fn a_verdict_that_its_kind_cannot_have_is_a_fault() {
        check(&one(Kind::Fails, 1, Some(ok("a")), 1), &["a: a fails must not end with ok: \"a\""]);
        check(
            &one(Kind::Deadly, 3, Some(failed("timeout")), 1),
            &["a: a deadly must not end with timeout: \"it failed\""],
        );
    }

    #[test]
    fn a_value_that_nothing_made_or_that_another_should_have_is_a_fault() {
        check(&one(Kind::Quick, 0, Some(ok("a")), 1), &["a: it has a value and never ran"]);
        check(&one(Kind::Quick, 1, Some(ok("b")), 1), &["a: it has the answer of another: \"b\""]);
        check(&one(Kind::Silent, 1, Some(ok("a")), 1), &["a: nobody waits for it, but it was answered"]);
    }

    #[test]
    fn only_what_must_not_run_twice_must_not() {
        check(&one(Kind::Once, 2, Some(ok("a")), 1), &["a: it must not run twice, and ran 2 times"]);
        let account = settle(&one(Kind::Quick, 2, Some(ok("a")), 1));
        assert_eq!((account.repeated, account.faults.len()), (1, 0));
    }

    #[test]
    fn what_is_left_and_what_is_strange_are_faults() {
        let evidence = Evidence {
            open: vec!["a is in flight".to_owned()],
            strange: vec!["daemon 1 ended by itself".to_owned()],
            ..Evidence::default()
        };
        check(&evidence, &["still open: a is in flight", "daemon 1 ended by itself"]);
    }
}
