//! What a request needs of other daemons before it goes on. Pure.

use std::time::Duration;

use crate::broker::IfHeld;
use crate::functions::{Delivery, Terms};
use crate::protocol::{OnDuplicate, Request, Scheduled, UniqueKey};

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
    /// What `request` needs, for whose function `terms` hold; `None`: nothing.
    pub(super) fn of(request: &Request, terms: &Terms, runs_here: bool) -> Option<Self> {
        let (key, if_held) = key_of(request, terms.unique).unzip();
        let if_held = if_held.unwrap_or(IfHeld::Rejected);
        // What waits takes its key where it runs.
        let key = key.filter(|_| runs_here || !matches!(if_held, IfHeld::Waits { .. }));
        // A run of cron keeps the next one away however long it takes.
        let longest = if request.cron.is_some() { terms.longest_hold() } else { terms.unique_for };
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
fn key_of(request: &Request, by_function: Option<OnDuplicate>) -> Option<(Box<str>, IfHeld)> {
    let func = request.func.as_str();
    let named = |key: UniqueKey<'_>, if_held| Some((key.to_string().into(), if_held));
    let scheduled = request.cron.as_ref();
    let its_turn = scheduled.and_then(|scheduled| its_turn(scheduled));
    if let Some(key) = &request.unique {
        let on_duplicate = request.on_duplicate.or(by_function).unwrap_or(OnDuplicate::Reject);
        return named(UniqueKey::OfRequest { func, key }, its_turn.unwrap_or(if_held(on_duplicate)));
    }
    let alone = scheduled.and_then(|scheduled| Some((scheduled, its_turn.or(scheduled.alone.map(if_held))?)));
    if let Some((scheduled, alone)) = alone {
        return named(UniqueKey::OfEntry { name: &scheduled.occurrence.name }, alone);
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

/// How a run of cron waits for the last one, if it does.
fn its_turn(scheduled: &Scheduled) -> Option<IfHeld> {
    match scheduled {
        Scheduled { in_turn: true, .. } => Some(IfHeld::Waits { most: usize::MAX }),
        Scheduled { waits: true, .. } => Some(IfHeld::Waits { most: 1 }),
        _ => None,
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::protocol::{Arguments, Occurrence, RequestId};

    fn request(unique: Option<&str>, on_duplicate: Option<OnDuplicate>) -> Request {
        let request = Request::new(RequestId::Number(1), "job", Arguments::new());
        Request { unique: unique.map(Into::into), on_duplicate, ..request }
    }

    fn of_cron(alone: Option<OnDuplicate>, waits: bool) -> Request {
        let occurrence = Occurrence { name: "backup".to_owned(), ..Occurrence::default() };
        let scheduled = Scheduled { occurrence, alone, waits, ..Scheduled::default() };
        Request { cron: Some(Box::new(scheduled)), ..request(None, None) }
    }

    fn unique(request: &Request, terms: &Terms) -> Option<(String, Duration, bool)> {
        let needs = Needs::of(request, terms, true)?;
        let (key, longest) = needs.unique?;
        Some((key.into(), longest, needs.if_held == IfHeld::Replaces))
    }

    const HOUR: Duration = Duration::from_hours(1);

    #[test]
    fn the_key_of_a_client_counts_within_its_function() {
        let asked = request(Some("cron:job"), Some(OnDuplicate::Replace));
        let key = Some(("request:job:cron:job".to_owned(), HOUR, true));
        assert_eq!(unique(&asked, &Terms::default()), key);
        assert_eq!(Needs::of(&request(None, None), &Terms::default(), true), None);
    }

    #[test]
    fn the_key_that_a_function_makes_is_its_own_and_only_the_function_lets_replace() {
        let terms = |on_duplicate| Terms { unique: Some(on_duplicate), ..Terms::default() };
        let key = |replaces| Some(("function:job:{}".to_owned(), HOUR, replaces));
        let asked = request(None, Some(OnDuplicate::Replace));
        assert_eq!(unique(&asked, &terms(OnDuplicate::Reject)), key(false));
        assert_eq!(unique(&asked, &terms(OnDuplicate::Replace)), key(true));
    }

    #[test]
    fn the_key_of_an_entry_is_held_as_long_as_a_run_can_take() {
        let terms = Terms { timeout: HOUR * 5, ..Terms::default() };
        let key = |replaces| Some(("cron:backup".to_owned(), HOUR * 5, replaces));
        assert_eq!(unique(&of_cron(Some(OnDuplicate::Reject), false), &terms), key(false));
        assert_eq!(unique(&of_cron(Some(OnDuplicate::Replace), false), &terms), key(true));
        let own = Request { unique: Some("mine".into()), ..of_cron(Some(OnDuplicate::Reject), false) };
        assert_eq!(unique(&own, &terms).map(|(key, ..)| key), Some("request:job:mine".to_owned()));
    }

    #[test]
    fn runs_of_cron_wait_for_the_last_one_by_their_policy_or_all_that_are_due_at_one_moment() {
        let if_held = |request: &Request| {
            let needs = Needs::of(request, &Terms { cluster_concurrency: Some(3), ..Terms::default() }, true)?;
            assert_eq!(needs.slot, Some(("job".into(), 3)), "the places of its function count as for anybody");
            Some((String::from(needs.unique?.0), needs.if_held))
        };
        let entry = |if_held| Some(("cron:backup".to_owned(), if_held));
        assert_eq!(if_held(&of_cron(None, true)), entry(IfHeld::Waits { most: 1 }));
        assert_eq!(if_held(&of_cron(Some(OnDuplicate::Reject), false)), entry(IfHeld::Rejected));
        assert_eq!(if_held(&of_cron(None, false)), None);
        let all = IfHeld::Waits { most: usize::MAX };
        for (alone, waits) in [(None, true), (Some(OnDuplicate::Reject), false), (Some(OnDuplicate::Replace), false)] {
            let mut one_of_many = of_cron(alone, waits);
            one_of_many.cron.as_mut().expect("cron has sent it").in_turn = true;
            assert_eq!(if_held(&one_of_many), entry(all));
            let own = Request { unique: Some("mine".into()), ..one_of_many };
            assert_eq!(if_held(&own), Some(("request:job:mine".to_owned(), all)));
        }
        assert_eq!(Needs::of(&of_cron(None, true), &Terms::default(), false), None);
    }
}
