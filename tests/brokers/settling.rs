//! Claims, and how they end.

use std::time::Duration;

use cerbas::broker::{End, Found, Settlement, Source, Stage};

use super::{Both, each, element, ended, id, id_of};

const QUEUE: Source = Source::Queue(0);

#[test]
fn what_comes_first_is_claimed_first_and_goes_back_to_the_head() {
    each(|both| {
        ["a", "b", "c"].iter().for_each(|id| both.send(id));
        let (a, b) = (both.claim(QUEUE), both.claim(QUEUE));
        assert_eq!((id_of(&a), id_of(&b)), ("a".to_owned(), "b".to_owned()));
        // The last one first.
        both.settle(Settlement::plain(b, End::HandedBack));
        both.settle(Settlement::plain(a, End::HandedBack));
        let order: Vec<String> = (0..3).map(|_| id_of(&both.claim(QUEUE))).collect();
        assert_eq!(order, ["a", "b", "c"]);
    });
}

#[test]
fn what_is_deferred_comes_when_it_is_due_and_the_earliest_first() {
    each(|both| {
        ["late", "early", "never"].iter().for_each(|id| both.send(id));
        for due in [2, 1, u64::MAX / 4] {
            let claim = both.claim(QUEUE);
            let waiting = claim.element.clone();
            both.settle(Settlement::plain(claim, End::Deferred { due, waiting }));
        }
        let order: Vec<String> = (0..2).map(|_| id_of(&both.claim(Source::Delayed))).collect();
        assert_eq!(order, ["early", "late"]);
        assert!(both.has_nothing(Source::Delayed));
    });
}

#[test]
fn a_request_that_is_tracked_is_known_until_it_ends() {
    each(|both| {
        let stage = |both: &mut Both| both.post.stages(&[id("a")]).expect("it is there").remove(0);
        assert_eq!(stage(both), Stage::Unknown);
        let keep = Duration::from_secs(60);
        assert!(both.post.submit(None, element("a").as_bytes(), &id("a"), keep).expect("it is there"));
        assert!(!both.post.submit(None, element("a").as_bytes(), &id("a"), keep).expect("it is there"));
        assert_eq!(stage(both), Stage::Accepted);
        let claim = both.claim(QUEUE);
        let End::Answered { id: of, verdict, answer, .. } = ended("a") else { unreachable!("it has ended") };
        both.settle(Settlement::plain(claim, End::Answered { id: of, verdict, answer, is_tracked: true }));
        assert_eq!(stage(both), Stage::Unknown);
        assert!(both.has_nothing(QUEUE));
    });
}

#[test]
fn a_tracked_request_that_is_cancelled_while_it_waits_has_its_answer_and_no_stage() {
    each(|both| {
        let request = r#"{"id":"a","func":"f"}"#;
        both.post.submit(None, request.as_bytes(), &id("a"), Duration::from_secs(60)).expect("it is there");
        assert_eq!(both.post.cancel(&id("a")).expect("it is there"), Found::Waiting);
        let stage = both.post.stages(&[id("a")]).expect("it is there").remove(0);
        assert!(
            matches!(&stage, Stage::Done(answer) if String::from_utf8_lossy(answer).contains("cancelled")),
            "{stage:?}"
        );
        assert_eq!(both.post.cancel(&id("a")).expect("it is there"), Found::Ended);
        assert_eq!(both.post.cancel(&id("b")).expect("it is there"), Found::Nowhere);
        assert!(both.has_nothing(QUEUE));
    });
}

#[test]
fn of_two_that_are_the_same_each_ends_by_itself() {
    each(|both| {
        both.send("a");
        both.send("a");
        let (first, second) = (both.claim(QUEUE), both.claim(QUEUE));
        both.end(first);
        both.settle(Settlement::plain(second, End::HandedBack));
        assert_eq!(id_of(&both.claim(QUEUE)), "a");
        assert!(both.has_nothing(QUEUE));
    });
}

#[test]
fn an_element_that_gets_a_name_is_settled_under_it() {
    each(|both| {
        both.post.send(None, br#"{"func":"f","reply":false}"#, None).expect("it is there");
        let claim = both.claim(QUEUE);
        let named = both.broker.name(&[(claim.clone(), element("a").as_bytes().into())]).expect("it is there");
        let named = named.into_iter().next().flatten().expect("it was ours");
        assert_eq!(id_of(&named), "a");
        let again = both.broker.name(&[(claim, element("a").as_bytes().into())]).expect("it is there");
        assert!(again[0].is_none() || again[0] == Some(named.clone()), "{again:?}");
        both.settle(Settlement::plain(named, End::HandedBack));
        assert_eq!(id_of(&both.claim(QUEUE)), "a");
    });
}
