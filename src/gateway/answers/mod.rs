//! The answers that callers of the gateway wait for: pushed over one subscription, however many wait, and asked for once when a wait begins and
//! when its time is over.
//!
//! One thread has the subscription. It listens to a request first and looks then how far it has come, so that no change falls in between; and
//! after it has lost the subscription, the same for all.

mod waits;

use std::io;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant};

use crossbeam_channel::{Receiver, RecvTimeoutError, Sender, TrySendError, bounded};

use self::waits::Waits;
pub(super) use self::waits::{Wait, Wants};
use super::desk::{Caller, Line, OpenPost, tell};
use crate::broker::{Stage, Subscription};
use crate::lock::Unpoisoned;
use crate::outage::Retry;
use crate::protocol::RequestId;
use crate::thread::{Joined, Pulse, Threads};

/// So many may be on their way to the thread.
const MOST_ARRIVING: usize = 4096;

/// So many are looked for in one round trip.
const BATCH: usize = 512;

/// The thread goes round at least as often.
const PATIENCE: Duration = Duration::from_secs(1);

/// The thread, and the way to it.
pub(super) struct Answers {
    arriving: Sender<(Caller, Wait)>,
    bell: Arc<Bell>,
}

/// Wakes the thread where it listens to the broker.
#[derive(Default)]
struct Bell {
    is_listening: AtomicBool,
    of: Mutex<Option<RequestId>>,
}

impl Answers {
    /// Starts the thread. It ends when this is dropped.
    pub(super) fn start(open: &OpenPost, threads: &Threads) -> io::Result<(Self, Joined)> {
        let (arriving, taken) = bounded(MOST_ARRIVING);
        let bell = Arc::new(Bell::default());
        let listener = Listener {
            line: Line::new(open),
            taken,
            bell: Arc::clone(&bell),
            waits: Waits::default(),
            subscription: None,
            retry: Retry::default(),
            is_deaf: false,
        };
        let pulse = threads.pulse("http-answers");
        let thread = threads.spawn("http-answers", move || listener.run(&pulse))?;
        Ok((Answers { arriving, bell }, thread))
    }

    /// Lets `caller` wait; gives it back where too many do. The thread is woken over `line`.
    pub(super) fn wait(&self, caller: Caller, wait: Wait, line: &mut Line) -> Result<(), Box<(Caller, Wait)>> {
        self.arriving.try_send((caller, wait)).map_err(|error| match error {
            TrySendError::Full(both) | TrySendError::Disconnected(both) => Box::new(both),
        })?;
        if self.bell.is_listening.load(Ordering::SeqCst) {
            let bell = self.bell.of.lock().unpoisoned().clone();
            // One that does not hear it looks by itself, within its patience.
            let _is_rung = bell.map(|bell| line.post().map(|post| post.ring(&bell)));
        }
        Ok(())
    }
}

/// What the thread has.
struct Listener {
    taken: Receiver<(Caller, Wait)>,
    bell: Arc<Bell>,
    waits: Waits<Caller>,
    /// To look; the subscription cannot.
    line: Line,
    /// `None`: nobody is listened to.
    subscription: Option<Box<dyn Subscription>>,
    retry: Retry,
    /// It was said that answers are not heard.
    is_deaf: bool,
}

/// Nothing more comes.
struct Closed;

impl Listener {
    fn run(mut self, pulse: &Pulse) {
        while self.round(pulse).is_ok() {}
        for (caller, wait) in self.waits.take_all() {
            tell(caller, wait.unmet());
        }
    }

    fn round(&mut self, pulse: &Pulse) -> Result<(), Closed> {
        let new = self.take_in(pulse)?;
        pulse.beat();
        match self.listen_to(&new) {
            Ok(()) => self.hear(pulse),
            Err(error) => self.go_deaf(&error),
        }
        let over = self.waits.over(Instant::now());
        if !over.is_empty() {
            // What was not pushed is found here at the latest.
            let looked = self.look(&over);
            self.end(&over);
            looked.unwrap_or_else(|error| self.go_deaf(&error));
        }
        Ok(())
    }

    /// Takes in those who have come to wait; waits for one where there are none.
    fn take_in(&mut self, pulse: &Pulse) -> Result<Vec<RequestId>, Closed> {
        let pause = if self.waits.len() == 0 {
            None
        } else if self.is_deaf {
            let pause = self.retry.next_pause();
            Some(self.until_end(pause))
        } else {
            Some(Duration::ZERO)
        };
        pulse.rest();
        let first = match pause {
            None => self.taken.recv().map_err(|_| RecvTimeoutError::Disconnected),
            Some(pause) => self.taken.recv_timeout(pause),
        };
        let first = match first {
            Ok(first) => Some(first),
            Err(RecvTimeoutError::Timeout) => None,
            Err(RecvTimeoutError::Disconnected) => return Err(Closed),
        };
        let mut new = Vec::new();
        for (caller, wait) in first.into_iter().chain(self.taken.try_iter()) {
            new.push(wait.id.clone());
            self.waits.add(caller, wait);
        }
        Ok(new)
    }

    /// Listens to `new`, or to all where nobody was listened to, and looks how far they have come.
    fn listen_to(&mut self, new: &[RequestId]) -> Result<(), String> {
        let left = self.waits.left();
        if let Some(subscription) = &mut self.subscription {
            if new.is_empty() && left.is_empty() {
                return Ok(());
            }
            subscription.watch(new, &left).map_err(|error| error.to_string())?;
            return self.look(new);
        }
        let mut subscription = self.line.post()?.subscribe().map_err(|error| error.to_string())?;
        let all = self.waits.ids();
        subscription.watch(&all, &[]).map_err(|error| error.to_string())?;
        *self.bell.of.lock().unpoisoned() = Some(subscription.bell().clone());
        self.subscription = Some(subscription);
        self.look(&all)?;
        self.retry.succeeded();
        if std::mem::take(&mut self.is_deaf) {
            log::info!("http: answers of the queue are heard again");
        }
        Ok(())
    }

    /// Hears what becomes of those who are listened to, for a while.
    fn hear(&mut self, pulse: &Pulse) {
        let patience = self.until_end(PATIENCE);
        let Some(subscription) = self.subscription.as_mut().filter(|_| self.waits.len() > 0) else { return };
        self.bell.is_listening.store(true, Ordering::SeqCst);
        // Who has come before that was set did not ring.
        let news = if self.taken.is_empty() {
            pulse.rest();
            subscription.next(patience)
        } else {
            Ok(Vec::new())
        };
        self.bell.is_listening.store(false, Ordering::SeqCst);
        match news {
            Ok(news) => news.iter().for_each(|(id, stage)| self.learn(id, stage)),
            Err(error) => self.go_deaf(&error.to_string()),
        }
    }

    /// Asks how far `ids` have come.
    fn look(&mut self, ids: &[RequestId]) -> Result<(), String> {
        for some in ids.chunks(BATCH) {
            let stages = self.line.post()?.stages(some).map_err(|error| error.to_string())?;
            some.iter().zip(&stages).for_each(|(id, stage)| self.learn(id, stage));
        }
        Ok(())
    }

    /// The request has come so far.
    fn learn(&mut self, id: &RequestId, stage: &Stage) {
        if *stage == Stage::Pending {
            for caller in self.waits.callers(id) {
                // One that was given up before is being cancelled.
                let _has_started = caller.place.start();
            }
        }
        for (caller, wait) in self.waits.take_met(id, stage) {
            // One that nobody waited for has not run, and can be asked for again.
            if !caller.place.is_given_up() {
                tell(caller, (wait.answer)(stage));
            }
        }
    }

    /// Answers those whose time is over, also while the broker is away: the client has asked to be told by then.
    fn end(&mut self, ids: &[RequestId]) {
        let now = Instant::now();
        for (caller, wait) in ids.iter().flat_map(|id| self.waits.take_over(id, now)).collect::<Vec<_>>() {
            tell(caller, wait.unmet());
        }
    }

    fn go_deaf(&mut self, error: &str) {
        self.subscription = None;
        self.line.let_go();
        if !std::mem::replace(&mut self.is_deaf, true) {
            log::warn!("http: answers of the queue are not heard: {error}");
        }
    }

    /// So long, or until the next wait is over.
    fn until_end(&self, most: Duration) -> Duration {
        self.waits.next_end().map_or(most, |end| end.saturating_duration_since(Instant::now()).min(most))
    }
}
