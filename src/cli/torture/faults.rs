//! What is done to daemons and Redis, and when. Pure.

use std::time::Duration;

use serde::Serialize;

use super::random::Random;
use super::settings::LEASE;

/// Something bad that happens.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Serialize)]
#[serde(rename_all = "kebab-case")]
pub(super) enum Fault {
    /// `kill -9` of a daemon.
    KillDaemon,
    /// A request that ends the daemon which runs it.
    DeadlyRequest,
    /// SIGTERM to a daemon.
    EndDaemon,
    /// A daemon is held up for longer than its lease.
    PauseDaemon,
    /// A daemon is held up for less than its lease.
    DelayDaemon,
    /// `kill -9` of Redis.
    KillRedis,
    /// Redis is held up.
    PauseRedis,
    /// More slow requests than there are workers.
    FillPool,
}

impl Fault {
    /// What a person calls it.
    pub(super) fn name(self) -> &'static str {
        match self {
            Fault::KillDaemon => "kill -9 of a daemon",
            Fault::DeadlyRequest => "a request that ends its daemon",
            Fault::EndDaemon => "SIGTERM to a daemon",
            Fault::PauseDaemon => "a daemon held up longer than its lease",
            Fault::DelayDaemon => "a daemon held up for a moment",
            Fault::KillRedis => "kill -9 of Redis",
            Fault::PauseRedis => "Redis held up",
            Fault::FillPool => "more slow requests than workers",
        }
    }

    /// How long what it hits stays away or held up.
    pub(super) fn length(self, random: &mut Random) -> Duration {
        let lease = LEASE.as_millis() as u64;
        let (from, to) = match self {
            // Sometimes it is back before the others have taken over, sometimes not.
            Fault::KillDaemon | Fault::EndDaemon | Fault::DeadlyRequest => (0, lease * 2),
            Fault::PauseDaemon => (lease * 3 / 2, lease * 3),
            Fault::DelayDaemon => (50, lease / 2),
            Fault::KillRedis => (0, 1000),
            Fault::PauseRedis => (50, 2000),
            Fault::FillPool => (0, 0),
        };
        Duration::from_millis(random.between(from, to))
    }
}

/// How often each comes in one round. The kills are more than half.
const ROUND: [(Fault, usize); 8] = [
    (Fault::KillDaemon, 6),
    (Fault::KillRedis, 2),
    (Fault::DeadlyRequest, 1),
    (Fault::EndDaemon, 1),
    (Fault::PauseDaemon, 1),
    (Fault::DelayDaemon, 1),
    (Fault::PauseRedis, 1),
    (Fault::FillPool, 1),
];

/// Deals faults in rounds, each round in another order: so each kind comes as often as it should, however short the time.
#[derive(Debug)]
pub(super) struct Deck {
    random: Random,
    round: Vec<Fault>,
}

impl Deck {
    pub(super) fn new(random: Random) -> Self {
        Deck { random, round: Vec::new() }
    }

    /// The next fault.
    pub(super) fn deal(&mut self) -> Fault {
        if self.round.is_empty() {
            self.round = ROUND.iter().flat_map(|&(fault, count)| std::iter::repeat_n(fault, count)).collect();
            self.random.shuffle(&mut self.round);
        }
        self.round.pop().expect("it was filled")
    }

    /// How long it is until the next one.
    pub(super) fn pause(&mut self) -> Duration {
        Duration::from_millis(self.random.between(600, 1800))
    }

    /// How long `fault` lasts.
    pub(super) fn length(&mut self, fault: Fault) -> Duration {
        fault.length(&mut self.random)
    }

    /// One of so many daemons.
    pub(super) fn pick(&mut self, count: usize) -> usize {
        self.random.between(0, count as u64 - 1) as usize
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_same_seed_deals_the_same() {
        let deal = |seed| {
            let mut deck = Deck::new(Random::new(seed));
            (0..50).map(|_| (deck.deal(), deck.pause())).collect::<Vec<_>>()
        };
        assert_eq!(deal(7), deal(7));
        assert_ne!(deal(7), deal(8));
    }

    #[test]
    fn a_round_has_every_fault_and_more_kills_than_anything_else() {
        let mut deck = Deck::new(Random::new(1));
        let count = ROUND.iter().map(|(_, count)| count).sum();
        let round: Vec<Fault> = (0..count).map(|_| deck.deal()).collect();
        for (fault, times) in ROUND {
            assert_eq!(round.iter().filter(|&&dealt| dealt == fault).count(), times, "{fault:?}");
        }
        let is_kill = |fault: &&Fault| matches!(fault, Fault::KillDaemon | Fault::KillRedis);
        assert!(round.iter().filter(is_kill).count() * 2 > count);
    }
}
