//! What requests hold over all daemons: unique keys, and places among the calls of a function.

use std::time::{Duration, Instant};

use cerbas::broker::{Arranged, Claim, End, Found, IfHeld, Settlement, Source};

use super::{Both, PATIENCE, each, eventually, id, id_of, ready};

const QUEUE: Source = Source::Queue(0);
const HOUR: Duration = Duration::from_secs(3600);
const WAITS: IfHeld = IfHeld::Waits { most: 9 };

/// Sends `id`, claims it, and asks for the key `k`.
fn ask(both: &mut Both, id: &str, if_held: IfHeld, longest: Duration) -> Arranged {
    both.send(id);
    let claim = both.claim(QUEUE);
    both.arrange(claim, if_held, |locks| locks.unique = Some(("k".into(), longest)))
}

/// Lets it wait for its next run.
fn defer(both: &Both, claim: Claim) {
    let waiting = claim.element.clone();
    both.settle(Settlement::plain(claim, End::Deferred { due: u64::MAX / 4, waiting }));
}

#[test]
fn a_key_keeps_others_away_until_who_has_it_ends() {
    each(|both| {
        let first = ready(ask(both, "a", IfHeld::Rejected, HOUR));
        assert_eq!(ask(both, "b", IfHeld::Rejected, HOUR), Arranged::Duplicate);
        both.end(first);
        ready(ask(both, "c", IfHeld::Rejected, HOUR));
    });
}

#[test]
fn a_key_has_an_end_whoever_has_it() {
    each(|both| {
        let _it_never_ends = ready(ask(both, "a", IfHeld::Rejected, Duration::from_millis(1)));
        let until = Instant::now() + PATIENCE;
        for number in 0.. {
            if let Arranged::Ready { .. } = ask(both, &format!("next{number}"), IfHeld::Rejected, HOUR) {
                break;
            }
            assert!(Instant::now() < until, "{}: the key is held for ever", both.broker.address());
        }
    });
}

#[test]
fn who_waits_for_a_key_gets_it_in_the_order_in_which_they_came() {
    each(|both| {
        let first = ready(ask(both, "a", WAITS, HOUR));
        assert_eq!(ask(both, "b", WAITS, HOUR), Arranged::Parked);
        assert_eq!(ask(both, "c", WAITS, HOUR), Arranged::Parked);
        both.end(first);
        for next in ["b", "c"] {
            let claim = both.claim(Source::Inbox);
            assert_eq!(id_of(&claim), next);
            assert_eq!(ask(both, &format!("after-{next}"), IfHeld::Rejected, HOUR), Arranged::Duplicate);
            let claim = ready(both.arrange(claim, WAITS, |locks| locks.unique = Some(("k".into(), HOUR))));
            both.end(claim);
        }
    });
}

#[test]
fn who_is_cancelled_while_it_waits_for_its_next_run_gives_its_key_to_the_next() {
    each(|both| {
        let first = ready(ask(both, "a", WAITS, HOUR));
        defer(both, first);
        assert_eq!(ask(both, "b", WAITS, HOUR), Arranged::Parked);
        assert_eq!(both.post.cancel(&id("a")).expect("it is there"), Found::Waiting);
        let both = &*both;
        let mut next = Vec::new();
        eventually(both, "the next one has its turn", || {
            next = both.broker.claim(Source::Inbox, 1, Duration::ZERO).expect("it is there");
            if next.is_empty() {
                next = both.broker.claim(Source::Delayed, 1, Duration::ZERO).expect("it is there");
            }
            !next.is_empty()
        });
        assert_eq!(id_of(&next[0].claim), "b");
    });
}

#[test]
fn who_is_cancelled_while_it_waits_for_a_key_leaves_it_to_those_behind() {
    each(|both| {
        let first = ready(ask(both, "a", WAITS, HOUR));
        assert_eq!(ask(both, "b", WAITS, HOUR), Arranged::Parked);
        assert_eq!(ask(both, "c", WAITS, HOUR), Arranged::Parked);
        assert_eq!(both.post.cancel(&id("b")).expect("it is there"), Found::Waiting);
        both.end(first);
        assert_eq!(id_of(&both.claim(Source::Inbox)), "c");
    });
}

#[test]
fn who_takes_the_place_of_another_is_told_whose() {
    each(|both| {
        let _first = ready(ask(both, "a", IfHeld::Replaces, HOUR));
        let second = ask(both, "b", IfHeld::Replaces, HOUR);
        assert!(matches!(&second, Arranged::Ready { replaced: Some(other), .. } if *other == id("a")), "{second:?}");
    });
}

#[test]
fn no_more_run_than_there_are_places_and_the_next_comes_when_one_is_free() {
    each(|both| {
        let ask = |both: &mut Both, id: &str| {
            both.send(id);
            let claim = both.claim(QUEUE);
            both.arrange(claim, IfHeld::Rejected, |locks| locks.slot = Some(("f".into(), 1)))
        };
        let first = ready(ask(both, "a"));
        assert_eq!(ask(both, "b"), Arranged::Parked);
        assert!(both.has_nothing(Source::Delayed));
        both.end(first);
        let next = both.claim(Source::Delayed);
        assert_eq!(id_of(&next), "b");
        ready(both.arrange(next, IfHeld::Rejected, |locks| locks.slot = Some(("f".into(), 1))));
    });
}
