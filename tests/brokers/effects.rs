//! What the end of a request does besides its answer.

use cerbas::broker::{Settlement, Source};
use cerbas::effects::{Effects, Sending, To};

use super::{Both, each, element, ended, id, id_of};

const QUEUE: Source = Source::Queue(0);

/// Ends a request that does `effects`.
fn end_with(both: &mut Both, name: &str, effects: Effects) {
    both.send(name);
    let claim = both.claim(QUEUE);
    both.settle(Settlement { claim, end: ended(name), effects });
}

fn sending(name: &str, to: To) -> Effects {
    let element = element(name).into_bytes().into();
    Effects { send: vec![Sending { id: id(name), element, to, room: None }], ..Effects::default() }
}

#[test]
fn what_is_sent_goes_to_this_daemon_to_a_queue_or_waits_until_it_is_due() {
    each(|both| {
        end_with(both, "a", sending("here", To::Here));
        assert_eq!(id_of(&both.claim(Source::Inbox)), "here");
        end_with(both, "b", sending("queued", To::Queue(None)));
        assert_eq!(id_of(&both.claim(QUEUE)), "queued");
        end_with(both, "c", sending("due", To::Due { at: 1, name: None }));
        assert_eq!(id_of(&both.claim(Source::Delayed)), "due");
        end_with(both, "d", sending("later", To::Due { at: u64::MAX / 4, name: None }));
        assert!(both.has_nothing(Source::Delayed));
    });
}

#[test]
fn what_is_due_under_a_name_is_replaced_by_the_next_of_that_name() {
    each(|both| {
        let timer = |name: &str, at: u64| To::Due { at, name: Some(name.into()) };
        let later = u64::MAX / 1_000_000;
        end_with(both, "a", sending("first", timer("t", later)));
        end_with(both, "b", sending("other", timer("u", later)));
        end_with(both, "c", sending("second", timer("t", 1)));
        assert_eq!(id_of(&both.claim(Source::Delayed)), "second");
        assert!(both.has_nothing(Source::Delayed));
        // What was taken is not taken back.
        end_with(both, "d", sending("third", timer("t", 2)));
        assert_eq!(id_of(&both.claim(Source::Delayed)), "third");
    });
}

#[test]
fn what_a_room_sends_is_vouched_for_and_a_copy_is_not() {
    each(|both| {
        let mut effects = sending("cron:a:i", To::Here);
        effects.send[0].room = Some("cron");
        end_with(both, "a", effects);
        let claim = both.claim(Source::Inbox);
        let vouched = |both: &Both, id_of: &str, element: &[u8]| {
            both.broker.take_vouched("cron", &[(&id(id_of), element)]).expect("it is there")[0]
        };
        assert!(vouched(both, "cron:a:i", &claim.element));
        assert!(!vouched(both, "cron:b:i", &claim.element), "under another id");
        assert!(!vouched(both, "cron:a:i", element("cron:a:i ").as_bytes()), "another text");
    });
}
