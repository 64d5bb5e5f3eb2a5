//! What those are told who watch requests.

use std::time::Duration;

use cerbas::broker::{End, Found, Notice, Settlement, Source, Stage, Subscription};
use cerbas::protocol::codec::encode_outcome;
use cerbas::protocol::{Json, Verdict};

use super::{Both, PATIENCE, each, element, id};

const QUEUE: Source = Source::Queue(0);

/// Submits a request called `name`, whose answer is wanted.
fn submit(both: &mut Both, name: &str) {
    let is_new = both.post.submit(None, element(name).as_bytes(), &id(name), PATIENCE).expect("it is there");
    assert!(is_new);
}

/// Ends the next one with `value`; gives back its answer.
fn answer(both: &Both, name: &str, value: u64) -> Vec<u8> {
    let claim = both.claim(QUEUE);
    let answer = encode_outcome(Ok(Json::from(value)));
    let json = answer.json.to_vec();
    let end = End::Answered { id: id(name), verdict: Verdict::Ok, answer: Some(answer), is_tracked: true };
    both.settle(Settlement::plain(claim, end));
    json
}

/// The next news, without those who were woken for nothing.
#[track_caller]
fn next(watching: &mut dyn Subscription) -> (String, Stage) {
    let mut news = watching.next(PATIENCE).expect("it is there");
    while news.is_empty() {
        news = watching.next(PATIENCE).expect("it is there");
    }
    assert_eq!(news.len(), 1, "{news:?}");
    let (id, stage) = news.remove(0);
    (id.to_string(), stage)
}

#[test]
fn who_watches_a_request_is_told_that_it_has_started_and_its_answer() {
    each(|both| {
        let mut watching = both.post.subscribe().expect("it is there");
        submit(both, "a");
        submit(both, "other");
        watching.watch(&[id("a")], &[]).expect("it is there");
        both.broker.settle(&[Notice::Started { id: id("other") }.into()]).expect("it is there");
        both.broker.settle(&[Notice::Started { id: id("a") }.into()]).expect("it is there");
        assert_eq!(next(&mut *watching), ("a".to_owned(), Stage::Pending));
        let json = answer(both, "a", 7);
        assert_eq!(next(&mut *watching), ("a".to_owned(), Stage::Done(json)));
    });
}

#[test]
fn who_watches_a_request_that_ends_without_an_answer_is_told_that_nobody_knows_it() {
    each(|both| {
        let mut watching = both.post.subscribe().expect("it is there");
        submit(both, "a");
        watching.watch(&[id("a"), id("b")], &[]).expect("it is there");
        let end = End::Answered { id: id("a"), verdict: Verdict::Ok, answer: None, is_tracked: true };
        both.settle(Settlement::plain(both.claim(QUEUE), end));
        assert_eq!(next(&mut *watching), ("a".to_owned(), Stage::Unknown));
        // Also where it ends while it waits.
        submit(both, "b");
        assert_eq!(both.post.cancel(&id("b")).expect("it is there"), Found::Waiting);
        let (name, stage) = next(&mut *watching);
        assert!(name == "b" && matches!(stage, Stage::Unknown | Stage::Done(_)), "{name}: {stage:?}");
    });
}

#[test]
fn who_watches_a_request_no_longer_is_told_nothing_of_it_and_of_others_as_before() {
    each(|both| {
        let mut watching = both.post.subscribe().expect("it is there");
        submit(both, "a");
        submit(both, "b");
        watching.watch(&[id("a")], &[]).expect("it is there");
        watching.watch(&[id("b")], &[id("a")]).expect("it is there");
        answer(both, "a", 1);
        let json = answer(both, "b", 2);
        assert_eq!(next(&mut *watching), ("b".to_owned(), Stage::Done(json)));
    });
}

#[test]
fn a_request_that_is_cancelled_while_it_waits_is_told_as_answered() {
    each(|both| {
        let mut watching = both.post.subscribe().expect("it is there");
        let request = br#"{"id":"a","func":"f"}"#;
        both.post.submit(None, request, &id("a"), PATIENCE).expect("it is there");
        watching.watch(&[id("a")], &[]).expect("it is there");
        both.post.cancel(&id("a")).expect("it is there");
        let (name, stage) = next(&mut *watching);
        let Stage::Done(json) = stage else { panic!("it has ended: {stage:?}") };
        assert!(name == "a" && String::from_utf8_lossy(&json).contains("cancelled"));
    });
}

#[test]
fn who_watches_is_woken_by_its_bell_and_by_no_other() {
    each(|both| {
        let mut watching = both.post.subscribe().expect("it is there");
        let other = both.post.subscribe().expect("it is there");
        both.post.ring(other.bell()).expect("it is there");
        both.post.ring(watching.bell()).expect("it is there");
        // It would wait for longer than a test may take.
        assert_eq!(watching.next(Duration::from_secs(3600)), Ok(Vec::new()));
    });
}

#[test]
fn a_wait_that_comes_to_nothing_disturbs_nothing() {
    each(|both| {
        let mut watching = both.post.subscribe().expect("it is there");
        submit(both, "a");
        watching.watch(&[id("a")], &[]).expect("it is there");
        for _ in 0..3 {
            assert_eq!(watching.next(Duration::from_millis(1)), Ok(Vec::new()));
        }
        submit(both, "b");
        watching.watch(&[id("b")], &[]).expect("it is there");
        let json = answer(both, "a", 1);
        assert_eq!(next(&mut *watching), ("a".to_owned(), Stage::Done(json)));
    });
}
