//! What a request needs of other daemons before it goes on. Pure.

use std::time::Duration;

use crate::functions::{Delivery, Terms};
use crate::protocol::{CRON_ID, OnDuplicate, Request, UniqueKey};

/// What has to be arranged with other daemons before a request goes on.
#[derive(Debug, PartialEq)]
pub(super) struct Needs {
    /// Whether it starts now, on this daemon.
    pub(super) runs_here: bool,
    /// A unique key, and how long it keeps others away at the most.
    pub(super) unique: Option<(Box<str>, Duration)>,
    /// Whether it takes the place of another that has this key.
    pub(super) replaces: bool,
    /// A place among those calls of the function that run at once, and how many there are.
    pub(super) slot: Option<(Box<str>, usize)>,
    /// Whether it must not run again.
    pub(super) is_once: bool,
    /// How many may wait for a place; `None`: any number.
    pub(super) most_parked: Option<usize>,
}

impl Needs {
    /// What `request` needs, for whose function `terms` hold; `None`: nothing.
    pub(super) fn of(request: &Request, terms: &Terms, runs_here: bool) -> Option<Self> {
        let (key, on_duplicate) = key_of(request, terms.unique).unzip();
        // A run of cron keeps the next one away however long it takes.
        let longest = if request.cron.is_some() { terms.longest_hold() } else { terms.unique_for };
        let needs = Needs {
            runs_here,
            unique: key.map(|key| (key, longest)),
            replaces: on_duplicate == Some(OnDuplicate::Replace),
            // What only waits needs no place yet, and may still go back.
            slot: terms.cluster_concurrency.map(|most| (request.func.as_str().into(), most)).filter(|_| runs_here),
            is_once: terms.delivery == Delivery::AtMostOnce && runs_here,
            most_parked: None,
        };
        let needs = match request.cron.as_ref().filter(|scheduled| scheduled.waits && runs_here) {
            Some(scheduled) => Needs {
                slot: Some((format!("{CRON_ID}{}", scheduled.occurrence.name).into(), 1)),
                most_parked: Some(1),
                ..needs
            },
            None => needs,
        };
        let is_something = needs.unique.is_some() || needs.slot.is_some() || needs.is_once;
        is_something.then_some(needs)
    }
}

/// The unique key of `request`, and what happens to it where another has that; `by_function` is what its function says.
fn key_of(request: &Request, by_function: Option<OnDuplicate>) -> Option<(Box<str>, OnDuplicate)> {
    let func = request.func.as_str();
    let named = |key: UniqueKey<'_>, on_duplicate| Some((key.to_string().into(), on_duplicate));
    if let Some(key) = &request.unique {
        let on_duplicate = request.on_duplicate.or(by_function).unwrap_or(OnDuplicate::Reject);
        return named(UniqueKey::OfRequest { func, key }, on_duplicate);
    }
    if let Some((scheduled, alone)) = request.cron.as_ref().and_then(|scheduled| Some((scheduled, scheduled.alone?))) {
        return named(UniqueKey::OfEntry { name: &scheduled.occurrence.name }, alone);
    }
    // One that is for a certain node is not the same as one that is for another.
    let by_function = by_function.filter(|_| request.node.is_none())?;
    let args = request.args.canonical();
    // What the function protects from a second call no client can have cancelled.
    named(UniqueKey::OfFunction { func, args: &args }, by_function)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::protocol::{Arguments, Occurrence, RequestId, Scheduled};

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
        Some((key.into(), longest, needs.replaces))
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
    fn a_run_of_cron_that_may_wait_needs_the_one_place_of_its_entry_and_one_may_wait_for_it() {
        let needs = Needs::of(&of_cron(None, true), &Terms::default(), true).expect("it needs something");
        assert_eq!((needs.slot, needs.most_parked, needs.unique), (Some(("cron:backup".into(), 1)), Some(1), None));
        assert_eq!(Needs::of(&of_cron(None, true), &Terms::default(), false), None);
    }
}
