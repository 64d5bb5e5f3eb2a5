//! Threads with names that are joined, and the [`Stop`] that ends their loops.

use std::io;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Condvar, Mutex};
use std::thread;
use std::time::Duration;

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
