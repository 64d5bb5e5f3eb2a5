//! The signals that the daemon listens to, while somebody asks for it and no longer.

use std::collections::BTreeMap;
use std::collections::btree_map::Entry;
use std::fs;
use std::io;
use std::os::raw::c_int;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex};

use crate::children;
use crate::lock::Unpoisoned;
use crate::thread::Joined;
use crossbeam_channel::{Receiver, unbounded};
use signal_hook::consts::{SIGCHLD, SIGHUP, SIGINT, SIGTERM};
use signal_hook::flag;
use signal_hook::iterator::{Handle, Signals as Incoming};

/// What a signal asks for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Signalled {
    /// SIGHUP: read the configuration again.
    Reload,
    /// SIGTERM or SIGINT, by its name: stop in order.
    Stop(&'static str),
}

/// Signals that come while this lives. When it is dropped, they do again what they did before.
pub(crate) struct Signals {
    received: Receiver<Signalled>,
    _taken: Taken,
    _thread: Listening,
}

impl Signals {
    /// What has come.
    pub(crate) fn received(&self) -> &Receiver<Signalled> {
        &self.received
    }
}

/// Starts to listen.
pub(crate) fn listen() -> io::Result<Signals> {
    let signals = [SIGHUP, SIGINT, SIGTERM];
    let taken = Taken::take(&signals)?;
    let (sender, received) = unbounded();
    let thread = Listening::start("signals", &signals, move |signal| {
        let signalled = match signal {
            SIGHUP => Signalled::Reload,
            SIGINT => Signalled::Stop("SIGINT"),
            _ => Signalled::Stop("SIGTERM"),
        };
        // Nobody listens any more while the daemon ends.
        let _unheard = sender.send(signalled);
    })?;
    Ok(Signals { received, _taken: taken, _thread: thread })
}

/// Reaps orphans while it lives.
pub(crate) struct Reaping {
    _thread: Listening,
}

/// Starts to reap the processes that lose their parent; only process 1 inherits any.
pub(crate) fn reap_orphans() -> io::Result<Option<Reaping>> {
    if !children::are_orphans_ours() {
        return Ok(None);
    }
    let thread = Listening::start("orphans", &[SIGCHLD], |_| children::reap_orphans())?;
    // Those that have ended before.
    children::reap_orphans();
    Ok(Some(Reaping { _thread: thread }))
}

/// A thread that waits for signals, until this is dropped.
struct Listening {
    handle: Handle,
    _thread: Joined,
}

impl Listening {
    fn start(name: &str, signals: &[c_int], hear: impl Fn(c_int) + Send + 'static) -> io::Result<Self> {
        let mut incoming = Incoming::new(signals)?;
        let handle = incoming.handle();
        let thread = Joined::spawn(name, move || incoming.forever().for_each(hear))?;
        Ok(Listening { handle, _thread: thread })
    }
}

impl Drop for Listening {
    fn drop(&mut self) {
        // The thread ends, and is joined next.
        self.handle.close();
    }
}

/// How many listen to a signal in this process, and the flag that says that nobody does.
type Listeners = BTreeMap<c_int, (usize, Arc<AtomicBool>)>;

/// A handler of a signal can never be taken out of a process safely. So there is one for each, for ever, which does what the system
/// would have done while nobody listens.
static LISTENERS: Mutex<Listeners> = Mutex::new(BTreeMap::new());

/// Signals that somebody listens to.
struct Taken(Vec<c_int>);

impl Taken {
    fn take(signals: &[c_int]) -> io::Result<Self> {
        // Above the lock, which it takes when it is dropped.
        let mut taken = Taken(Vec::new());
        let mut listeners = LISTENERS.lock().unpoisoned();
        for &signal in signals {
            let (count, nobody_listens) = match listeners.entry(signal) {
                Entry::Occupied(known) => known.into_mut(),
                Entry::Vacant(first) => {
                    let nobody_listens = Arc::new(AtomicBool::new(false));
                    // Whoever has a handler of its own keeps it, and it is called as before: nothing is to be done in its place.
                    if has_default(signal) {
                        flag::register_conditional_default(signal, Arc::clone(&nobody_listens))?;
                    }
                    first.insert((0, nobody_listens))
                }
            };
            *count += 1;
            nobody_listens.store(false, Ordering::Release);
            taken.0.push(signal);
        }
        Ok(taken)
    }
}

impl Drop for Taken {
    fn drop(&mut self) {
        let mut listeners = LISTENERS.lock().unpoisoned();
        for signal in &self.0 {
            if let Some((count, nobody_listens)) = listeners.get_mut(signal) {
                *count -= 1;
                nobody_listens.store(*count == 0, Ordering::Release);
            }
        }
    }
}

/// Whether `signal` does in this process what the system does with it: nobody catches it, and nobody ignores it (proc(5)).
fn has_default(signal: c_int) -> bool {
    let status = fs::read_to_string("/proc/self/status").unwrap_or_default();
    let has = |mask: &str| {
        let line = status.lines().find_map(|line| line.strip_prefix(mask));
        line.and_then(|line| u64::from_str_radix(line.trim(), 16).ok())
            .is_some_and(|mask| mask >> (signal - 1) & 1 == 1)
    };
    !has("SigCgt:") && !has("SigIgn:")
}
