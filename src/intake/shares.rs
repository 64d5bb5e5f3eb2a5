//! Who may claim how much, where several queues have work: each gets a share that is proportional to its priority. The core is
//! pure; it counts claims, not time.

use std::sync::{Mutex, MutexGuard};

use crate::lock::Unpoisoned;

/// The shares of the queues of one daemon.
///
/// A claimed request costs its queue `1 / priority`. While several have work, none may be ahead of the one that has paid
/// least by more than `LEAD`. One that had nothing to do saves nothing up: it starts where the others are.
#[derive(Debug)]
pub struct Shares(Mutex<Vec<Queue>>);

#[derive(Debug, Clone)]
struct Queue {
    priority: f64,
    paid: f64,
    /// Whether its last claim found as much as it asked for.
    is_busy: bool,
}

/// How far a queue may be ahead: at this a queue of priority 1 gets at least one request in its turn.
const LEAD: f64 = 1.0;

impl Shares {
    /// Shares in proportion to `priorities`, of which each is more than 0.
    pub fn new(priorities: impl IntoIterator<Item = u32>) -> Self {
        let queue = |priority| Queue { priority: f64::from(priority), paid: 0.0, is_busy: false };
        Shares(Mutex::new(priorities.into_iter().map(queue).collect()))
    }

    /// How many of `room` requests the queue `number` may claim now.
    pub(super) fn allow(&self, number: usize, room: usize) -> usize {
        let queues = self.queues();
        let Some(least) = least_paid(&queues, number) else { return room };
        let queue = &queues[number];
        let most = (least + LEAD - queue.paid) * queue.priority;
        if most < 1.0 { 0 } else { room.min(most as usize) }
    }

    /// The queue `number` has asked for `asked` requests and found `found`.
    pub(super) fn note(&self, number: usize, asked: usize, found: usize) {
        let mut queues = self.queues();
        if !queues[number].is_busy
            && let Some(least) = least_paid(&queues, number)
        {
            queues[number].paid = queues[number].paid.max(least);
        }
        let queue = &mut queues[number];
        queue.paid += found as f64 / queue.priority;
        queue.is_busy = found == asked;
        // So that the numbers stay small however long it runs.
        let least = queues.iter().map(|queue| queue.paid).fold(f64::INFINITY, f64::min);
        queues.iter_mut().for_each(|queue| queue.paid -= least);
    }

    /// Whether the queue `number` had more work than it claimed.
    pub(super) fn is_busy(&self, number: usize) -> bool {
        self.queues()[number].is_busy
    }

    fn queues(&self) -> MutexGuard<'_, Vec<Queue>> {
        self.0.lock().unpoisoned()
    }
}

/// What the busy rival of `number` has paid that has paid least.
fn least_paid(queues: &[Queue], number: usize) -> Option<f64> {
    let rivals = queues.iter().enumerate().filter(|(other, queue)| *other != number && queue.is_busy);
    rivals.map(|(_, queue)| queue.paid).reduce(f64::min)
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Claims with room for `room` in turns, while all have work; gives back how many each got.
    fn claim(shares: &Shares, queues: usize, turns: usize, room: usize) -> Vec<usize> {
        let mut got = vec![0; queues];
        for turn in 0..turns {
            let number = turn % queues;
            let allowed = shares.allow(number, room);
            if allowed > 0 {
                shares.note(number, allowed, allowed);
            }
            got[number] += allowed;
        }
        got
    }

    #[test]
    fn under_load_the_shares_are_as_the_priorities() {
        for room in [1, 7, 128] {
            let shares = Shares::new([6, 3, 1]);
            for number in 0..3 {
                shares.note(number, 1, 1);
            }
            let got = claim(&shares, 3, 3000, room);
            let all: usize = got.iter().sum();
            let percent: Vec<usize> = got.iter().map(|count| (count * 100 + all / 2) / all).collect();
            assert!(
                percent.iter().zip([60, 30, 10]).all(|(share, wanted)| share.abs_diff(wanted) <= 2),
                "room {room}: {percent:?}"
            );
        }
    }

    #[test]
    fn a_queue_without_rivals_is_not_held_back() {
        let shares = Shares::new([1, 100]);
        for _ in 0..100 {
            assert_eq!(shares.allow(0, 64), 64);
            shares.note(0, 64, 64);
        }
    }

    #[test]
    fn a_queue_that_had_nothing_to_do_has_saved_nothing_up() {
        let shares = Shares::new([1, 1]);
        for _ in 0..100 {
            shares.note(0, 64, 64);
        }
        shares.note(1, 10, 10);
        assert!(shares.allow(1, 1000) <= 1, "it may not catch up");
        assert!(shares.allow(0, 1000) >= 1);
    }
}
