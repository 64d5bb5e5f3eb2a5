//! The way back: settlements of all doors go through one queue to the broker, many in one round trip.
//!
//! Invariants:
//! * Nothing that is in the outbox is dropped: while the broker is away the same batch is offered again and again, and
//!   the intakes, which ask [`Mailing::has_room`], claim nothing new. So the outbox is bounded by what was claimed before.
//! * An answer that nobody received is published again after each of [`AGAIN`]; only its id is kept, the answer is in
//!   the broker.

use std::collections::VecDeque;
use std::io;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::{Duration, Instant};

use crossbeam_channel::{Receiver, RecvTimeoutError, Sender, at, bounded, never, select, unbounded};

use crate::broker::{Outgoing, Work};
use crate::outage::Retry;
use crate::protocol::RequestId;
use crate::refusals::Refusals;
use crate::thread::{Joined, Pulse, Stop, Threads};

/// Old clients subscribe after they push. An answer that nobody received is published again after each of these pauses.
pub const AGAIN: [Duration; 4] =
    [Duration::from_millis(10), Duration::from_millis(50), Duration::from_millis(250), Duration::from_millis(1000)];

/// How many settlements go in one round trip: enough that its cost is shared, few enough that Redis serves others in between.
const BATCH: usize = 128;

/// More unsettled requests than this, and nothing new is claimed.
const MOST_UNSETTLED: usize = 4096;

/// More unsettled bytes than this, and nothing new is claimed.
const MOST_BYTES: usize = 16 << 20;

/// How many ids wait to be published again. Past it the oldest are left to be read from where they are stored.
const MOST_AGAIN: usize = 100_000;

/// Times that fall into the same pause are served together.
const GRAIN: Duration = Duration::from_millis(5);

/// Takes settlements to the broker.
pub struct Outbox {
    sender: Sender<Letter>,
    load: Arc<Load>,
    refusals: Arc<Refusals>,
    give_up: Stop,
    /// Closed when the settler has ended.
    settler_ended: Receiver<()>,
    _settler: Joined,
    _publisher: Joined,
}

/// What goes through the outbox.
enum Letter {
    /// Something to tell.
    Tell(Outgoing),
    /// Nothing that matters comes behind this.
    End,
}

/// How much is in the outbox.
#[derive(Default)]
struct Load {
    settlements: AtomicUsize,
    bytes: AtomicUsize,
}

impl Load {
    fn add(&self, outgoing: &Outgoing) {
        self.settlements.fetch_add(1, Ordering::Relaxed);
        self.bytes.fetch_add(size(outgoing), Ordering::Relaxed);
    }

    fn remove(&self, outgoing: &Outgoing) {
        self.settlements.fetch_sub(1, Ordering::Relaxed);
        self.bytes.fetch_sub(size(outgoing), Ordering::Relaxed);
    }
}

/// Puts settlements into an [`Outbox`].
#[derive(Clone)]
pub struct Mailing {
    sender: Sender<Letter>,
    load: Arc<Load>,
    refusals: Arc<Refusals>,
}

impl Mailing {
    /// Tells the broker `outgoing` as soon as it listens. Never blocks.
    pub fn send(&self, outgoing: impl Into<Outgoing>) {
        let outgoing = outgoing.into();
        self.load.add(&outgoing);
        if self.sender.send(Letter::Tell(outgoing)).is_err() {
            // Only a function that was left behind at the end answers so late; its request was handed back.
            log::warn!("an answer came after the end and was dropped");
        }
    }

    /// A request for `func` was refused for `reason`. Says so in the log, many of a kind together; tells whether this one is to be put on record.
    pub fn refused(&self, func: &str, reason: &str) -> bool {
        self.refusals.note(func, reason, Instant::now())
    }

    /// Whether more may be claimed.
    pub fn has_room(&self) -> bool {
        self.load.settlements.load(Ordering::Relaxed) < MOST_UNSETTLED
            && self.load.bytes.load(Ordering::Relaxed) < MOST_BYTES
    }
}

impl Outbox {
    /// Starts the threads that settle and publish again.
    pub fn start(broker: Arc<dyn Work>, threads: &Threads) -> io::Result<Self> {
        Self::start_as(["settler", "publisher"], broker, threads)
    }

    /// Starts them under other names, where there is another outbox.
    pub fn start_as([settles, publishes]: [&str; 2], broker: Arc<dyn Work>, threads: &Threads) -> io::Result<Self> {
        let (sender, letters) = unbounded();
        // Small, so that a settler that is faster than the publisher waits for it.
        let (unheard, unheard_ids) = bounded(64);
        let load = Arc::new(Load::default());
        let give_up = Stop::new();
        let (settler_lives, settler_ended) = bounded(0);
        let settler = threads.spawn(settles, {
            let settler = Settler {
                broker: Arc::clone(&broker),
                letters,
                unheard,
                load: Arc::clone(&load),
                give_up: give_up.clone(),
                pulse: threads.pulse(settles),
            };
            move || {
                let _until_the_end = settler_lives;
                settler.run();
            }
        })?;
        let publisher = threads.spawn(publishes, {
            let (give_up, pulse) = (give_up.clone(), threads.pulse(publishes));
            move || publish_again(&*broker, &unheard_ids, &pulse, &give_up)
        })?;
        let refusals = Arc::default();
        Ok(Outbox { sender, load, refusals, give_up, settler_ended, _settler: settler, _publisher: publisher })
    }

    /// A way to put settlements in.
    pub fn mailing(&self) -> Mailing {
        Mailing { sender: self.sender.clone(), load: Arc::clone(&self.load), refusals: Arc::clone(&self.refusals) }
    }

    /// Waits until `deadline` for all that was put in to be settled. Gives back how many settlements the broker did not
    /// take by then. An answer that nobody received is still published again, for a second at most.
    pub fn close(self, deadline: Instant) -> usize {
        let _ended_before = self.sender.send(Letter::End);
        if self.settler_ended.recv_deadline(deadline) == Err(RecvTimeoutError::Timeout) {
            self.give_up.ask();
        }
        self.load.settlements.load(Ordering::Relaxed)
    }
}

impl Drop for Outbox {
    fn drop(&mut self) {
        // For one that was not closed; the threads are joined next.
        let _ended_before = self.sender.send(Letter::End);
    }
}

fn size(outgoing: &Outgoing) -> usize {
    let element = outgoing.claim().map_or(0, |claim| claim.element.len());
    let sent = |outgoing: &Outgoing| outgoing.settlement().map_or(0, |settlement| settlement.effects.size());
    element + sent(outgoing) + outgoing.answer().map_or(0, |(_, answer)| answer.json.len() + answer.msgpack.len())
}

/// What the thread has that settles.
struct Settler {
    broker: Arc<dyn Work>,
    letters: Receiver<Letter>,
    unheard: Sender<Vec<RequestId>>,
    load: Arc<Load>,
    give_up: Stop,
    pulse: Pulse,
}

impl Settler {
    fn run(self) {
        let mut batch = Vec::with_capacity(BATCH);
        let mut is_open = true;
        while is_open {
            self.pulse.rest();
            let Ok(first) = self.letters.recv() else { return };
            for letter in std::iter::once(first).chain(self.letters.try_iter().take(BATCH - 1)) {
                match letter {
                    Letter::Tell(outgoing) => batch.push(outgoing),
                    Letter::End => is_open = false,
                }
            }
            if batch.is_empty() {
                break;
            }
            let Some(unheard_ids) = self.settle(&batch) else { return };
            for outgoing in batch.drain(..) {
                self.load.remove(&outgoing);
            }
            if !unheard_ids.is_empty() && self.unheard.send(unheard_ids).is_err() {
                return;
            }
        }
    }

    /// Offers `batch` until the broker takes it; gives back the ids of the answers that nobody received, or `None` when it is to give up.
    fn settle(&self, batch: &[Outgoing]) -> Option<Vec<RequestId>> {
        let mut retry = Retry::default();
        loop {
            self.pulse.beat();
            match self.broker.settle(batch) {
                Ok(ids) => return Some(ids),
                Err(_) if retry.pause(&self.give_up) => {}
                Err(_) => return None,
            }
        }
    }
}

/// Ids that are to be published again, by how often they were.
struct Again {
    rounds: [VecDeque<(Instant, RequestId)>; AGAIN.len()],
    len: usize,
}

impl Again {
    fn add(&mut self, round: usize, ids: Vec<RequestId>, now: Instant) {
        let Some(pause) = AGAIN.get(round) else { return };
        // The times of a round are counted from the first publication.
        let passed = round.checked_sub(1).map_or(Duration::ZERO, |before| AGAIN[before]);
        let due = now + (*pause - passed);
        self.len += ids.len();
        self.rounds[round].extend(ids.into_iter().map(|id| (due, id)));
        while self.len > MOST_AGAIN {
            let fullest = self.rounds.iter_mut().max_by_key(|round| round.len()).expect("there are rounds");
            fullest.pop_front();
            self.len -= 1;
        }
    }

    fn next(&self) -> Option<Instant> {
        self.rounds.iter().filter_map(|round| round.front()).map(|(due, _)| *due).min()
    }

    /// The ids of `round` that are due at `now`.
    fn take_due(&mut self, round: usize, now: Instant) -> Vec<RequestId> {
        let queue = &mut self.rounds[round];
        let count = queue.iter().take_while(|(due, _)| *due <= now).count();
        self.len -= count;
        queue.drain(..count).map(|(_, id)| id).collect()
    }
}

/// The publisher's loop.
fn publish_again(broker: &dyn Work, unheard: &Receiver<Vec<RequestId>>, pulse: &Pulse, give_up: &Stop) {
    let mut again = Again { rounds: Default::default(), len: 0 };
    let mut is_open = true;
    while is_open || again.next().is_some() {
        let alarm = again.next().map_or_else(never, |due| at(due + GRAIN));
        pulse.rest();
        if is_open {
            select! {
                recv(unheard) -> ids => match ids {
                    Ok(ids) => again.add(0, ids, Instant::now()),
                    Err(_) => is_open = false,
                },
                recv(alarm) -> _ => {}
            }
        } else {
            // The daemon stops; what is left takes a second at most, unless it must go at once.
            let _woken = alarm.recv();
        }
        pulse.beat();
        let now = Instant::now();
        for round in 0..AGAIN.len() {
            let due = again.take_due(round, now);
            if due.is_empty() {
                continue;
            }
            // While the broker is away this round is left out: the answers are stored, and the next round comes.
            match broker.publish_again(&due) {
                Ok(unheard) => again.add(round + 1, unheard, now),
                Err(_) if is_open => again.add(round + 1, due, now),
                Err(_) => return,
            }
        }
        if give_up.is_asked() {
            return;
        }
    }
}
