//! Who waits for what, and until when. Pure: `now` is an argument, and whoever waits is of any kind.

use std::collections::{BTreeSet, HashMap};
use std::time::Instant;

use crate::broker::Stage;
use crate::gateway::response::Response;
use crate::protocol::RequestId;

/// What somebody waits for.
pub(in crate::gateway) struct Wait {
    pub(in crate::gateway) id: RequestId,
    /// It waits no longer.
    pub(in crate::gateway) until: Instant,
    /// What it waits for.
    pub(in crate::gateway) wants: Wants,
    /// Makes the answer from what is known at the end.
    pub(in crate::gateway) answer: Box<dyn FnOnce(&Stage) -> Response + Send>,
}

/// When a wait is over.
pub(in crate::gateway) enum Wants {
    /// With any change of this.
    Change(Stage),
    /// With the verdict.
    Verdict,
}

impl Wants {
    fn are_met_by(&self, stage: &Stage) -> bool {
        match self {
            Wants::Change(known) => stage != known,
            Wants::Verdict => matches!(stage, Stage::Done(_) | Stage::Unknown),
        }
    }
}

impl Wait {
    /// The answer where nothing more is known.
    pub(in crate::gateway) fn unmet(self) -> Response {
        let last = match self.wants {
            Wants::Change(known) => known,
            Wants::Verdict => Stage::Pending,
        };
        (self.answer)(&last)
    }
}

/// All that wait.
pub(super) struct Waits<C> {
    by_number: HashMap<u64, (C, Wait)>,
    by_id: HashMap<RequestId, Vec<u64>>,
    by_end: BTreeSet<(Instant, u64)>,
    added: u64,
    /// For whom nobody waits since somebody has asked.
    left: Vec<RequestId>,
}

impl<C> Default for Waits<C> {
    fn default() -> Self {
        let (by_number, by_id, by_end) = (HashMap::new(), HashMap::new(), BTreeSet::new());
        Waits { by_number, by_id, by_end, added: 0, left: Vec::new() }
    }
}

impl<C> Waits<C> {
    /// Lets `caller` wait.
    pub(super) fn add(&mut self, caller: C, wait: Wait) {
        self.added += 1;
        self.by_id.entry(wait.id.clone()).or_default().push(self.added);
        self.by_end.insert((wait.until, self.added));
        self.by_number.insert(self.added, (caller, wait));
    }

    /// How many wait.
    pub(super) fn len(&self) -> usize {
        self.by_number.len()
    }

    /// The requests that are waited for.
    pub(super) fn ids(&self) -> Vec<RequestId> {
        self.by_id.keys().cloned().collect()
    }

    /// Those of which that was asked for the first time that nobody waits for them any more.
    pub(super) fn left(&mut self) -> Vec<RequestId> {
        let mut left = std::mem::take(&mut self.left);
        left.retain(|id| !self.by_id.contains_key(id));
        left
    }

    /// Who waits for `id`.
    pub(super) fn callers(&self, id: &RequestId) -> impl Iterator<Item = &C> {
        let numbers = self.by_id.get(id).into_iter().flatten();
        numbers.filter_map(|number| self.by_number.get(number)).map(|(caller, _)| caller)
    }

    /// Whose wait for `id` is over as it has come to `stage`.
    pub(super) fn take_met(&mut self, id: &RequestId, stage: &Stage) -> Vec<(C, Wait)> {
        self.take(id, |wait| wait.wants.are_met_by(stage))
    }

    /// The requests of which a wait is over at `now`.
    pub(super) fn over(&self, now: Instant) -> Vec<RequestId> {
        let numbers = self.by_end.range(..=(now, u64::MAX)).map(|(_, number)| number);
        let mut ids: Vec<RequestId> = numbers.map(|number| self.by_number[number].1.id.clone()).collect();
        ids.sort();
        ids.dedup();
        ids
    }

    /// Whose wait for `id` is over at `now`.
    pub(super) fn take_over(&mut self, id: &RequestId, now: Instant) -> Vec<(C, Wait)> {
        self.take(id, |wait| wait.until <= now)
    }

    /// When the next wait is over.
    pub(super) fn next_end(&self) -> Option<Instant> {
        self.by_end.first().map(|(end, _)| *end)
    }

    /// All of them.
    pub(super) fn take_all(&mut self) -> Vec<(C, Wait)> {
        let ids = self.ids();
        ids.iter().flat_map(|id| self.take(id, |_| true)).collect()
    }

    fn take(&mut self, id: &RequestId, is_taken: impl Fn(&Wait) -> bool) -> Vec<(C, Wait)> {
        let Some(numbers) = self.by_id.remove(id) else { return Vec::new() };
        let is_taken = |number: &u64| is_taken(&self.by_number[number].1);
        let (taken, rest): (Vec<u64>, Vec<u64>) = numbers.into_iter().partition(is_taken);
        if rest.is_empty() {
            self.left.push(id.clone());
        } else {
            self.by_id.insert(id.clone(), rest);
        }
        let taken = taken.into_iter().filter_map(|number| {
            let (caller, wait) = self.by_number.remove(&number)?;
            self.by_end.remove(&(wait.until, number));
            Some((caller, wait))
        });
        taken.collect()
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::*;

    fn id(text: &str) -> RequestId {
        RequestId::from_text(text).expect("it is an id")
    }

    fn wait(text: &str, until: Instant, wants: Wants) -> Wait {
        Wait { id: id(text), until, wants, answer: Box::new(|_| Response::text(200, "")) }
    }

    fn names(taken: Vec<(&'static str, Wait)>) -> Vec<&'static str> {
        taken.into_iter().map(|(name, _)| name).collect()
    }

    #[test]
    fn each_is_told_what_it_waits_for_and_nothing_else() {
        let now = Instant::now();
        let mut waits = Waits::default();
        waits.add("change", wait("a", now, Wants::Change(Stage::Accepted)));
        waits.add("verdict", wait("a", now, Wants::Verdict));
        waits.add("other", wait("b", now, Wants::Verdict));
        assert!(waits.take_met(&id("a"), &Stage::Accepted).is_empty());
        assert_eq!(names(waits.take_met(&id("a"), &Stage::Pending)), ["change"]);
        assert_eq!(waits.left(), []);
        assert_eq!(names(waits.take_met(&id("a"), &Stage::Done(Vec::new()))), ["verdict"]);
        assert!(waits.take_met(&id("a"), &Stage::Unknown).is_empty());
        assert_eq!((waits.left(), waits.left(), waits.len()), (vec![id("a")], Vec::new(), 1));
    }

    #[test]
    fn a_wait_ends_at_its_time_and_those_for_the_same_request_go_on() {
        let now = Instant::now();
        let later = now + Duration::from_secs(1);
        let mut waits = Waits::default();
        waits.add("long", wait("a", later, Wants::Verdict));
        waits.add("short", wait("a", now, Wants::Verdict));
        assert_eq!((waits.next_end(), waits.over(now)), (Some(now), vec![id("a")]));
        assert_eq!(names(waits.take_over(&id("a"), now)), ["short"]);
        assert_eq!((waits.next_end(), waits.over(now)), (Some(later), Vec::new()));
        assert_eq!(names(waits.take_all()), ["long"]);
        assert_eq!((waits.next_end(), waits.len()), (None, 0));
    }

    #[test]
    fn a_request_that_somebody_waits_for_again_is_not_left() {
        let now = Instant::now();
        let mut waits = Waits::default();
        waits.add("first", wait("a", now, Wants::Verdict));
        waits.take_over(&id("a"), now);
        waits.add("second", wait("a", now, Wants::Verdict));
        assert_eq!(waits.left(), []);
    }
}
