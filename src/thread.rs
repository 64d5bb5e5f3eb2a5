//! Threads with names that are joined, and the [`Stop`] that ends their loops.

use std::collections::BTreeMap;
use std::io;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Condvar, Mutex, MutexGuard};
use std::thread;
use std::time::{Duration, Instant};

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
        let _lock = self.0.lock.lock().expect("nothing panics under this lock");
        self.0.asked.store(true, Ordering::Release);
        self.0.changed.notify_all();
    }

    /// Whether somebody has asked.
    pub fn is_asked(&self) -> bool {
        self.0.asked.load(Ordering::Acquire)
    }

    /// Sleeps for `pause`, or until somebody asks; tells whether somebody has.
    pub fn wait(&self, pause: Duration) -> bool {
        let lock = self.0.lock.lock().expect("nothing panics under this lock");
        let waited = self.0.changed.wait_timeout_while(lock, pause, |()| !self.is_asked());
        drop(waited.expect("nothing panics under this lock"));
        self.is_asked()
    }
}

/// Tells when loops last went round. Clones share it.
#[derive(Debug, Clone, Default)]
pub struct Pulses(Arc<Mutex<BTreeMap<String, Arc<Mutex<Instant>>>>>);

/// That of one loop; forgotten when it is dropped.
#[derive(Debug)]
pub struct Pulse {
    name: String,
    last: Arc<Mutex<Instant>>,
    pulses: Pulses,
}

impl Pulses {
    /// That of the loop called `name`, which goes round now.
    pub fn of(&self, name: &str) -> Pulse {
        let last = Arc::new(Mutex::new(Instant::now()));
        self.all().insert(name.to_owned(), Arc::clone(&last));
        Pulse { name: name.to_owned(), last, pulses: self.clone() }
    }

    /// How long ago each of them last went round.
    pub fn ages(&self) -> BTreeMap<String, Duration> {
        let age = |last: &Mutex<Instant>| last.lock().expect("nothing panics under this lock").elapsed();
        self.all().iter().map(|(name, last)| (name.clone(), age(last))).collect()
    }

    fn all(&self) -> MutexGuard<'_, BTreeMap<String, Arc<Mutex<Instant>>>> {
        self.0.lock().expect("nothing panics under this lock")
    }
}

impl Pulse {
    /// The loop goes round.
    pub fn beat(&self) {
        *self.last.lock().expect("nothing panics under this lock") = Instant::now();
    }
}

impl Drop for Pulse {
    fn drop(&mut self) {
        self.pulses.all().remove(&self.name);
    }
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
