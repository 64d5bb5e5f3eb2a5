//! How many requests end, with which verdicts, and how fast.

use std::collections::BTreeMap;

use crate::broker::Overview;
use crate::protocol::Verdict;

/// How many requests have ended with each verdict.
#[derive(Debug, Clone, PartialEq)]
pub(crate) struct Totals {
    pub(crate) counts: BTreeMap<Verdict, u64>,
    /// Whether they are counted in Redis, for ever and to the last one. Else they are what the living daemons said with their
    /// last heartbeats.
    pub(crate) are_exact: bool,
}

impl Totals {
    pub(crate) fn of(overview: &Overview) -> Self {
        if let Some(counts) = &overview.verdicts {
            return Totals { counts: counts.clone(), are_exact: true };
        }
        let mut counts = BTreeMap::from(Verdict::ALL.map(|verdict| (verdict, 0)));
        for record in overview.members.iter().filter_map(|member| member.record.as_ref()) {
            for (verdict, count) in &record.status.verdicts {
                *counts.entry(*verdict).or_default() += count;
            }
        }
        Totals { counts, are_exact: false }
    }

    fn sum(&self) -> u64 {
        self.counts.values().sum()
    }
}

/// How many requests ended per second between two looks, by verdict. `None` where nobody can tell: what daemons say changes
/// with their heartbeats only, so a rate made of it would be none or far too high.
pub(crate) fn rates(before: &Overview, after: &Overview) -> Option<BTreeMap<Verdict, f64>> {
    let (earlier, later) = (Totals::of(before), Totals::of(after));
    // Where none has ended yet, nothing is counted in Redis.
    let are_known = |totals: &Totals| totals.are_exact || totals.sum() == 0;
    let seconds = after.now.saturating_sub(before.now) as f64 / 1000.0;
    if !are_known(&earlier) || !are_known(&later) || seconds <= 0.0 {
        return None;
    }
    let rate = |verdict: &Verdict, count: u64| {
        let ended = count.saturating_sub(earlier.counts.get(verdict).copied().unwrap_or(0));
        ended as f64 / seconds
    };
    Some(later.counts.iter().map(|(verdict, count)| (*verdict, rate(verdict, *count))).collect())
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::broker::Member;
    use crate::protocol::{Node, NodeStatus};

    fn overview(now: u64, counted: Option<u64>, said: u64) -> Overview {
        let status = NodeStatus { verdicts: BTreeMap::from([(Verdict::Ok, said)]), ..NodeStatus::default() };
        let record = Some(Node { status, ..Node::default() });
        let member = Member { node: "a".to_owned(), silent: 0, record, claimed: 0, inbox: 0 };
        Overview {
            now,
            members: vec![member],
            queues: Vec::new(),
            delayed: 0,
            next_due: None,
            dead: 0,
            verdicts: counted.map(|count| BTreeMap::from([(Verdict::Ok, count)])),
        }
    }

    #[test]
    fn a_rate_is_what_was_counted_over_the_time_between() {
        let rates = rates(&overview(1000, Some(10), 0), &overview(3000, Some(50), 0));
        assert_eq!(rates, Some(BTreeMap::from([(Verdict::Ok, 20.0)])));
    }

    #[test]
    fn what_only_heartbeats_tell_gives_totals_but_no_rates() {
        let (before, after) = (overview(1000, None, 5), overview(2000, None, 9));
        assert_eq!((Totals::of(&after).counts[&Verdict::Ok], Totals::of(&after).are_exact), (9, false));
        assert_eq!(rates(&before, &after), None);
    }

    #[test]
    fn where_nothing_has_ended_yet_all_rates_are_zero() {
        let rates = rates(&overview(1000, None, 0), &overview(2000, None, 0)).expect("it is known");
        assert!(rates.len() == Verdict::ALL.len() && rates.values().all(|rate| *rate == 0.0), "{rates:?}");
    }
}
