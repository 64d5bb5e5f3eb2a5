//! What is asked for, and what may become of it. Pure.

use serde_json::{Value, json};

use super::random::Random;
use super::settings::BULK;
use crate::protocol::Verdict;

/// A kind of request.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub(super) enum Kind {
    /// Ends at once.
    Quick,
    /// The same, with a body under a key of its own.
    Numbered,
    /// The same, and nobody waits for an answer.
    Silent,
    /// Takes its time.
    Slow,
    /// Starts later.
    Delayed,
    /// Need not start when it is too late.
    Expiring,
    /// Fails.
    Fails,
    /// Panics.
    Panics,
    /// Never ends.
    Hangs,
    /// Fails now and then, and is tried again.
    Flaky,
    /// Must not run twice.
    Once,
    /// Waits for one of few places over all daemons.
    Limited,
    /// A command.
    Command,
    /// A command that is killed.
    CommandDies,
    /// A command that never ends.
    CommandHangs,
    /// A worker process.
    Worker,
    /// A worker process that ends instead of answering.
    WorkerDies,
    /// Ends the daemon that runs it.
    Deadly,
    /// Cannot be read.
    Garbage,
}

/// How many of a thousand are of which kind.
const SHARES: [(Kind, u64); 18] = [
    (Kind::Quick, 480),
    (Kind::Numbered, 120),
    (Kind::Silent, 80),
    (Kind::Slow, 80),
    (Kind::Delayed, 15),
    (Kind::Expiring, 10),
    (Kind::Fails, 30),
    (Kind::Panics, 15),
    (Kind::Hangs, 8),
    (Kind::Flaky, 40),
    (Kind::Once, 50),
    (Kind::Limited, 25),
    (Kind::Command, 12),
    (Kind::CommandDies, 5),
    (Kind::CommandHangs, 3),
    (Kind::Worker, 20),
    (Kind::WorkerDies, 4),
    (Kind::Garbage, 3),
];

impl Kind {
    /// Any kind that comes by itself.
    pub(super) fn draw(random: &mut Random) -> Self {
        let mut left = random.between(0, SHARES.iter().map(|(_, share)| share).sum::<u64>() - 1);
        for (kind, share) in SHARES {
            match left.checked_sub(share) {
                Some(rest) => left = rest,
                None => return kind,
            }
        }
        unreachable!("it was less than the sum")
    }

    /// The name of its function.
    pub(super) fn function(self) -> &'static str {
        match self {
            Kind::Quick | Kind::Numbered | Kind::Silent | Kind::Delayed | Kind::Expiring | Kind::Garbage => "quick",
            Kind::Slow => "slow",
            Kind::Fails => "fails",
            Kind::Panics => "panics",
            Kind::Hangs => "hangs",
            Kind::Flaky => "flaky",
            Kind::Once => "once",
            Kind::Limited => "limited",
            Kind::Command => "command",
            Kind::CommandDies => "command-dies",
            Kind::CommandHangs => "command-hangs",
            Kind::Worker => "worker",
            Kind::WorkerDies => "worker-dies",
            Kind::Deadly => "deadly",
        }
    }

    /// Which queue it goes into.
    pub(super) fn queue(self, random: &mut Random) -> &'static str {
        // A request with a number is always in the usual one.
        if self != Kind::Numbered && random.between(0, 3) == 0 { BULK } else { "default" }
    }

    /// The request, without an id.
    pub(super) fn request(self, random: &mut Random) -> Value {
        let mut request = json!({"func": self.function(), "source": "torture"});
        match self {
            Kind::Silent => request["reply"] = json!(false),
            Kind::Slow => request["args"] = json!({"ms": random.between(20, 300)}),
            Kind::Once | Kind::Limited => request["args"] = json!({"ms": random.between(0, 30)}),
            Kind::Delayed => request["delay"] = json!(random.between(100, 3000)),
            Kind::Expiring => request["expires"] = json!(random.between(1, 500)),
            _ => {}
        }
        request
    }

    /// Whether its answer is stored.
    pub(super) fn is_answered(self) -> bool {
        !matches!(self, Kind::Silent | Kind::Garbage)
    }

    /// Whether `verdict` is right. `lost` is right for each: it was in flight so often when its daemon died.
    pub(super) fn allows(self, verdict: Verdict) -> bool {
        let right: &[Verdict] = match self {
            Kind::Fails | Kind::Panics | Kind::CommandDies | Kind::WorkerDies => &[Verdict::Error],
            Kind::Hangs | Kind::CommandHangs => &[Verdict::Timeout],
            Kind::Flaky => &[Verdict::Ok, Verdict::Error],
            Kind::Expiring => &[Verdict::Ok, Verdict::Expired],
            Kind::Deadly => &[],
            _ => &[Verdict::Ok],
        };
        verdict == Verdict::Lost || right.contains(&verdict)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_kind_comes_about_as_often_as_it_should() {
        let mut random = Random::new(1);
        let drawn: Vec<Kind> = (0..100_000).map(|_| Kind::draw(&mut random)).collect();
        for (kind, share) in SHARES {
            let count = drawn.iter().filter(|&&one| one == kind).count() as u64;
            assert!((share * 60..=share * 140).contains(&count), "{kind:?}: {count} for {share}");
        }
    }
}
