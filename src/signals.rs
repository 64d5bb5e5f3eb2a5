//! The signals that the daemon listens to.

use std::io;
use std::thread;

use crate::children;
use crossbeam_channel::{Receiver, unbounded};
use signal_hook::consts::{SIGCHLD, SIGHUP, SIGINT, SIGTERM};
use signal_hook::iterator::Signals;

/// What a signal asks for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Signalled {
    /// SIGHUP: read the configuration again.
    Reload,
    /// SIGTERM or SIGINT, by its name: stop in order.
    Stop(&'static str),
}

/// Starts to listen. The second signal to stop ends the process at once, with exit status 1.
pub(crate) fn listen() -> io::Result<Receiver<Signalled>> {
    let mut signals = Signals::new([SIGHUP, SIGINT, SIGTERM])?;
    if children::are_orphans_ours() {
        signals.add_signal(SIGCHLD)?;
    }
    let (sender, receiver) = unbounded();
    // Not joined: it waits for signals until the process ends.
    thread::Builder::new().name("signals".to_owned()).spawn(move || {
        let mut is_stopping = false;
        for signal in &mut signals {
            let signalled = match signal {
                SIGCHLD => {
                    children::reap_orphans();
                    continue;
                }
                SIGHUP => Signalled::Reload,
                SIGINT => Signalled::Stop("SIGINT"),
                _ => Signalled::Stop("SIGTERM"),
            };
            if signalled != Signalled::Reload && std::mem::replace(&mut is_stopping, true) {
                log::error!("a second signal: ending at once");
                std::process::exit(1);
            }
            // Nobody listens any more while the daemon ends.
            let _unheard = sender.send(signalled);
        }
    })?;
    Ok(receiver)
}
