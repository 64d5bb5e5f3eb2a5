//! What a request needs of other daemons before it goes on. Pure.

use std::time::Duration;

use crate::broker::IfHeld;
use crate::errand::Errand;
use crate::functions::{Delivery, Terms};
use crate::protocol::{OnDuplicate, Request, UniqueKey};

/// What has to be arranged with other daemons before a request goes on.
#[derive(Debug, PartialEq)]
pub(super) struct Needs {
    /// Whether it starts now, on this daemon.
    pub(super) runs_here: bool,
    /// A unique key, and how long it keeps others away at the most.
    pub(super) unique: Option<(Box<str>, Duration)>,
    /// What becomes of it if another has this key.
    pub(super) if_held: IfHeld,
    /// A place among those calls of the function that run at once, and how many there are.
    pub(super) slot: Option<(Box<str>, usize)>,
    /// Whether it must not run again.
    pub(super) is_once: bool,
}

impl Needs {
    /// What `request` needs, which is for `errand` and for whose function `terms` hold; `None`: nothing.
    pub(super) fn of(request: &Request, errand: Option<&dyn Errand>, terms: &Terms, runs_here: bool) -> Option<Self> {
        let (key, if_held) = key_of(request, errand, terms.unique).unzip();
        let if_held = if_held.unwrap_or(IfHeld::Rejected);
        // What waits takes its key where it runs.
        let key = key.filter(|_| runs_here || !matches!(if_held, IfHeld::Waits { .. }));
        // What a room has sent keeps the next one away however long it takes.
        let longest = if errand.is_some() { terms.longest_hold() } else { terms.unique_for };
        let needs = Needs {
            runs_here,
            unique: key.map(|key| (key, longest)),
            if_held,
            // What only waits needs no place yet, and may still go back.
            slot: terms.cluster_concurrency.map(|most| (request.func.as_str().into(), most)).filter(|_| runs_here),
            is_once: terms.delivery == Delivery::AtMostOnce && runs_here,
        };
        let is_something = needs.unique.is_some() || needs.slot.is_some() || needs.is_once;
        is_something.then_some(needs)
    }
}

/// The unique key of `request`, and what happens to it where another has that; `by_function` is what its function says.
fn key_of(
    request: &Request,
    errand: Option<&dyn Errand>,
    by_function: Option<OnDuplicate>,
) -> Option<(Box<str>, IfHeld)> {
    let func = request.func.as_str();
    let named = |key: UniqueKey<'_>, if_held| Some((key.to_string().into(), if_held));
    let exclusion = errand.and_then(Errand::exclusion);
    if let Some(key) = &request.unique {
        let on_duplicate = request.on_duplicate.or(by_function).unwrap_or(OnDuplicate::Reject);
        let by_room = exclusion.filter(|exclusion| exclusion.is_for_every_key).map(|exclusion| exclusion.if_held);
        return named(UniqueKey::OfRequest { func, key }, by_room.unwrap_or(if_held(on_duplicate)));
    }
    if let (Some(exclusion), Some(room)) = (exclusion, request.vouched_by) {
        return named(UniqueKey::OfRoom { room, key: &exclusion.key }, exclusion.if_held);
    }
    // One that is for a certain node is not the same as one that is for another.
    let by_function = by_function.filter(|_| request.node.is_none())?;
    let args = request.args.canonical();
    // What the function protects from a second call no client can have cancelled.
    named(UniqueKey::OfFunction { func, args: &args }, if_held(by_function))
}

fn if_held(on_duplicate: OnDuplicate) -> IfHeld {
    match on_duplicate {
        OnDuplicate::Reject => IfHeld::Rejected,
        OnDuplicate::Replace => IfHeld::Replaces,
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::effects::Effects;
    use crate::errand::{Ending, Exclusion};
    use crate::protocol::{Arguments, ROOMS, RequestId, Verdict};

    const ROOM: &str = ROOMS[0];

    fn request(unique: Option<&str>, on_duplicate: Option<OnDuplicate>) -> Request {
        let request = Request::new(RequestId::Number(1), "job", Arguments::new());
        Request { unique: unique.map(Into::into), on_duplicate, ..request }
    }

    fn of_room(unique: Option<&str>) -> Request {
        Request { vouched_by: Some(ROOM), ..request(unique, None) }
    }

    /// An errand that keeps others away so.
    struct Alone(Option<IfHeld>, bool);

    impl Errand for Alone {
        fn exclusion(&self) -> Option<Exclusion> {
            let if_held = self.0?;
            Some(Exclusion { key: "backup".into(), if_held, is_for_every_key: self.1 })
        }

        fn is_buried(&self, _: Verdict) -> bool {
            true
        }

        fn ended(&self, _: &Ending<'_>) -> Effects {
            Effects::default()
        }
    }

    fn key(request: &Request, errand: Option<&Alone>, terms: &Terms) -> Option<(String, Duration, IfHeld)> {
        let needs = Needs::of(request, errand.map(|errand| errand as &dyn Errand), terms, true)?;
        let (key, longest) = needs.unique?;
        Some((key.into(), longest, needs.if_held))
    }

    const HOUR: Duration = Duration::from_hours(1);

    #[test]
    fn the_key_of_a_client_counts_within_its_function() {
        let asked = request(Some("other:job"), Some(OnDuplicate::Replace));
        let expected = Some(("request:job:other:job".to_owned(), HOUR, IfHeld::Replaces));
        assert_eq!(key(&asked, None, &Terms::default()), expected);
        assert_eq!(Needs::of(&request(None, None), None, &Terms::default(), true), None);
    }

    #[test]
    fn the_key_that_a_function_makes_is_its_own_and_only_the_function_lets_replace() {
        let terms = |on_duplicate| Terms { unique: Some(on_duplicate), ..Terms::default() };
        let expected = |if_held| Some(("function:job:{}".to_owned(), HOUR, if_held));
        let asked = request(None, Some(OnDuplicate::Replace));
        assert_eq!(key(&asked, None, &terms(OnDuplicate::Reject)), expected(IfHeld::Rejected));
        assert_eq!(key(&asked, None, &terms(OnDuplicate::Replace)), expected(IfHeld::Replaces));
    }

    #[test]
    fn the_key_of_a_room_is_held_as_long_as_a_call_can_take() {
        let terms = Terms { timeout: HOUR * 5, ..Terms::default() };
        let expected = |if_held| Some((format!("{ROOM}:backup"), HOUR * 5, if_held));
        for if_held in [IfHeld::Rejected, IfHeld::Replaces, IfHeld::Waits { most: 1 }] {
            assert_eq!(key(&of_room(None), Some(&Alone(Some(if_held), false)), &terms), expected(if_held));
        }
        assert_eq!(key(&of_room(None), Some(&Alone(None, false)), &terms), None);
    }

    #[test]
    fn a_key_of_the_request_counts_before_that_of_its_room_which_may_say_how_long_it_waits_for_it() {
        let waits = IfHeld::Waits { most: usize::MAX };
        let if_held = |is_for_every_key| {
            key(&of_room(Some("mine")), Some(&Alone(Some(waits), is_for_every_key)), &Terms::default())
        };
        assert_eq!(if_held(true), Some(("request:job:mine".to_owned(), HOUR, waits)));
        assert_eq!(if_held(false), Some(("request:job:mine".to_owned(), HOUR, IfHeld::Rejected)));
    }

    #[test]
    fn what_waits_takes_its_key_where_it_runs_and_the_places_of_its_function_count_as_for_anybody() {
        let errand = Alone(Some(IfHeld::Waits { most: 1 }), true);
        let terms = Terms { cluster_concurrency: Some(3), ..Terms::default() };
        let here = Needs::of(&of_room(None), Some(&errand), &terms, true).expect("it needs both");
        assert_eq!((here.slot, here.unique.is_some()), (Some(("job".into(), 3)), true));
        assert_eq!(Needs::of(&of_room(None), Some(&errand), &Terms::default(), false), None);
    }
}
