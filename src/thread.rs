//! Threads with names that are joined, the [`Stop`] that ends their loops, and the [`Threads`] of one daemon, which know when one of
//! them has broken.

use std::any::Any;
use std::collections::BTreeMap;
use std::fmt;
use std::io;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Condvar, Mutex, MutexGuard};
use std::thread;
use std::time::{Duration, Instant};

use crossbeam_channel::{Receiver, Sender, bounded};

use crate::lock::Unpoisoned;

/// Tells every loop that holds a clone that it should end. Asked once, asked for ever.
#[derive(Debug, Clone, Default)]
pub struct Stop(Arc<Shared>);

#[derive(Debug, Default)]
struct Shared {
    asked: AtomicBool,
    lock: Mutex<()>,
    changed: Condvar,
}

impl Stop {
    /// A stop that nobody has asked for yet.
    pub fn new() -> Self {
        Self::default()
    }

    /// Asks everybody to stop.
    pub fn ask(&self) {
        let _lock = self.0.lock.lock().unpoisoned();
        self.0.asked.store(true, Ordering::Release);
        self.0.changed.notify_all();
    }

    /// Whether somebody has asked.
    pub fn is_asked(&self) -> bool {
        self.0.asked.load(Ordering::Acquire)
    }

    /// Sleeps for `pause`, or until somebody asks; tells whether somebody has.
    pub fn wait(&self, pause: Duration) -> bool {
        let lock = self.0.lock.lock().unpoisoned();
        let waited = self.0.changed.wait_timeout_while(lock, pause, |()| !self.is_asked());
        drop(waited.unpoisoned());
        self.is_asked()
    }
}

/// Tells when loops last went round. Clones share it.
#[derive(Debug, Clone, Default)]
pub struct Pulses(Arc<Mutex<BTreeMap<String, Arc<Mutex<Turn>>>>>);

/// That of one loop; forgotten when it is dropped, unless its thread panics.
#[derive(Debug)]
pub struct Pulse {
    name: String,
    turn: Arc<Mutex<Turn>>,
    pulses: Pulses,
}

/// Where a loop is.
#[derive(Debug, Clone, Copy)]
struct Turn {
    since: Instant,
    phase: Phase,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Phase {
    /// It is on its way round.
    Turning,
    /// It waits for something to do, however long that takes.
    Resting,
    /// Its thread has panicked.
    Broken,
}

/// A loop that should turn and does not.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Stalled {
    /// What it is called.
    pub name: String,
    /// How long ago it last went round.
    pub since: Duration,
    /// Whether its thread has panicked, so that it never will again.
    pub has_panicked: bool,
}

impl Pulses {
    /// That of the loop called `name`, which goes round now.
    pub fn of(&self, name: &str) -> Pulse {
        let turn = Arc::new(Mutex::new(Turn { since: Instant::now(), phase: Phase::Turning }));
        self.all().insert(name.to_owned(), Arc::clone(&turn));
        Pulse { name: name.to_owned(), turn, pulses: self.clone() }
    }

    /// How long ago each of them last went round.
    pub fn ages(&self) -> BTreeMap<String, Duration> {
        self.all().iter().map(|(name, turn)| (name.clone(), lock(turn).since.elapsed())).collect()
    }

    /// Those that have been on their way for longer than `longest`, or have panicked.
    pub fn stalled(&self, longest: Duration) -> Vec<Stalled> {
        let all = self.all();
        let stalled = all.iter().filter_map(|(name, turn)| {
            let Turn { since, phase } = *lock(turn);
            let since = since.elapsed();
            let is_stalled = phase == Phase::Broken || (phase == Phase::Turning && since > longest);
            is_stalled.then(|| Stalled { name: name.clone(), since, has_panicked: phase == Phase::Broken })
        });
        stalled.collect()
    }

    fn all(&self) -> MutexGuard<'_, BTreeMap<String, Arc<Mutex<Turn>>>> {
        lock(&self.0)
    }
}

fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unpoisoned()
}

impl Pulse {
    /// The loop goes round.
    pub fn beat(&self) {
        self.enter(Phase::Turning);
    }

    /// The loop waits for something to do, until it beats again.
    pub fn rest(&self) {
        self.enter(Phase::Resting);
    }

    fn enter(&self, phase: Phase) {
        *lock(&self.turn) = Turn { since: Instant::now(), phase };
    }
}

impl Drop for Pulse {
    fn drop(&mut self) {
        if thread::panicking() {
            self.enter(Phase::Broken);
        } else {
            self.pulses.all().remove(&self.name);
        }
    }
}

impl fmt::Display for Stalled {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        if self.has_panicked {
            return write!(f, "the loop {} has panicked; this is a bug in cerbas", self.name);
        }
        write!(f, "the loop {} has not turned for {} s", self.name, self.since.as_secs())
    }
}

/// The threads of one daemon. One that panics has left undone what nobody knows, so it is broken, and the whole daemon with it. Clones
/// share that.
#[derive(Debug, Clone, Default)]
pub struct Threads(Arc<Crew>);

#[derive(Debug)]
struct Crew {
    pulses: Pulses,
    broken: Mutex<Option<Broken>>,
    tell: Sender<()>,
    told: Receiver<()>,
}

impl Default for Crew {
    fn default() -> Self {
        let (tell, told) = bounded(1);
        Crew { pulses: Pulses::default(), broken: Mutex::default(), tell, told }
    }
}

/// A thread of the daemon has panicked.
#[derive(Debug, Clone, PartialEq, Eq)]
#[non_exhaustive]
pub struct Broken {
    /// What the thread is called.
    pub thread: String,
    /// What it panicked with.
    pub message: String,
}

impl fmt::Display for Broken {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "the thread {} has panicked: {}; this is a bug in cerbas", self.thread, self.message)
    }
}

impl Threads {
    /// Starts `work` on a thread called `name`.
    pub fn spawn(&self, name: impl Into<String>, work: impl FnOnce() + Send + 'static) -> io::Result<Joined> {
        let (threads, name) = (self.clone(), name.into());
        Joined::spawn(name.clone(), move || threads.watch(&name, work))
    }

    /// Does `work` on this thread, which is called `name`. A panic ends here, and breaks the daemon.
    pub fn watch(&self, name: &str, work: impl FnOnce()) {
        if let Err(panic) = catch_unwind(AssertUnwindSafe(work)) {
            let broken = Broken { thread: name.to_owned(), message: message_of(&*panic).to_owned() };
            // Dropping it could panic again.
            std::mem::forget(panic);
            log::error!("{broken}; the daemon ends, and what it has in flight is left to others");
            lock(&self.0.broken).get_or_insert(broken);
            let _told_already = self.0.tell.try_send(());
        }
    }

    /// The first thread that has broken.
    pub fn broken(&self) -> Option<Broken> {
        lock(&self.0.broken).clone()
    }

    /// Has something to say, once, when a thread has broken.
    pub fn when_broken(&self) -> &Receiver<()> {
        &self.0.told
    }

    /// When the loops last went round.
    pub fn pulses(&self) -> &Pulses {
        &self.0.pulses
    }

    /// That of the loop called `name`, which goes round now.
    pub fn pulse(&self, name: &str) -> Pulse {
        self.0.pulses.of(name)
    }
}

/// What somebody panicked with, if it was a text.
pub fn message_of(panic: &(dyn Any + Send)) -> &str {
    let text = panic.downcast_ref::<&str>().copied();
    text.or_else(|| panic.downcast_ref::<String>().map(String::as_str)).unwrap_or("no message")
}

/// A thread that is joined when this is dropped. Whoever drops it must have told the thread to end.
#[derive(Debug)]
pub struct Joined(Option<thread::JoinHandle<()>>);

impl Joined {
    /// Starts `work` on a thread called `name`.
    pub fn spawn(name: impl Into<String>, work: impl FnOnce() + Send + 'static) -> io::Result<Self> {
        thread::Builder::new().name(name.into()).spawn(work).map(|handle| Joined(Some(handle)))
    }
}

impl Drop for Joined {
    fn drop(&mut self) {
        // A thread that drops the last hold on itself cannot wait for itself; it ends by itself.
        if let Some(handle) = self.0.take()
            && handle.thread().id() != thread::current().id()
            && handle.join().is_err()
        {
            log::error!("a thread of cerbas panicked; this is a bug in cerbas");
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_loop_that_does_not_come_round_is_stalled_and_one_that_rests_is_not() {
        let pulses = Pulses::default();
        let (turning, resting) = (pulses.of("turning"), pulses.of("resting"));
        turning.beat();
        resting.rest();
        assert_eq!(pulses.stalled(Duration::from_secs(3600)), []);
        let names = || pulses.stalled(Duration::ZERO).into_iter().map(|stalled| stalled.name).collect::<Vec<_>>();
        assert_eq!(names(), ["turning"]);
        resting.beat();
        assert_eq!(names(), ["resting", "turning"]);
        drop((turning, resting));
        assert_eq!(names(), [""; 0]);
    }

    #[test]
    fn the_first_thread_that_panics_breaks_the_daemon() {
        let threads = Threads::default();
        // Without a message among those of the tests.
        let panic = |text: &'static str| move || std::panic::resume_unwind(Box::new(text));
        drop(threads.spawn("well", || {}));
        assert_eq!((threads.broken(), threads.when_broken().len()), (None, 0));
        drop(threads.spawn("first", panic("it fell")));
        drop(threads.spawn("second", panic("it fell, too")));
        assert_eq!(threads.broken().expect("one has").thread, "first");
        assert_eq!(
            threads.broken().expect("one has").to_string(),
            "the thread first has panicked: it fell; this is a bug in cerbas"
        );
        assert_eq!(threads.when_broken().recv(), Ok(()));
    }

    #[test]
    fn a_panic_whose_text_panics_when_it_is_dropped_breaks_no_more_than_one_thread() {
        struct Bomb;
        impl Drop for Bomb {
            fn drop(&mut self) {
                panic!("it goes off");
            }
        }
        let threads = Threads::default();
        threads.watch("here", || std::panic::resume_unwind(Box::new(Bomb)));
        assert_eq!(threads.broken().expect("it has").message, "no message");
    }

    #[test]
    fn a_loop_whose_thread_panics_is_stalled_from_then_on() {
        let pulses = Pulses::default();
        let pulse = pulses.of("broken");
        let thread = thread::spawn(move || {
            pulse.rest();
            // Without a message among those of the tests.
            std::panic::resume_unwind(Box::new("the test breaks it"));
        });
        assert!(thread.join().is_err());
        let stalled = pulses.stalled(Duration::from_secs(3600));
        assert_eq!(stalled.len(), 1);
        assert_eq!(stalled[0].to_string(), "the loop broken has panicked; this is a bug in cerbas");
    }
}
