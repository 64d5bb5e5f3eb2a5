//! Lets a daemon be asked over the socket in its state folder, where there is no Redis in which all can be seen.

use super::about::About;
use super::connection::{Connection, Kind};
use crate::broker::Broker;
use crate::config::ServerConfig;
use crate::inspect::{self, Listener};
use crate::thread::Pulses;

/// Opens the socket; `None` where Redis tells all, or where it cannot be opened: calls are answered all the same.
pub(super) fn open(config: &ServerConfig, link: &Connection, about: &About, pulses: &Pulses) -> Option<Listener> {
    let Kind::Memory(memory) = &link.kind else { return None };
    let (mut memory, about) = (memory.clone(), about.clone());
    let answer = move |question: &[u8]| {
        // Its record is of this moment, not of the last heartbeat.
        memory.tell(about.look());
        inspect::answer(question, &mut memory)
    };
    let pulse = pulses.of(inspect::THREAD);
    match Listener::open(&config.state_dir, Box::new(answer), pulse) {
        Ok(listener) => Some(listener),
        Err(error) => {
            let folder = config.state_dir.display();
            log::warn!("{folder}: {error}; cerbas status, jobs and the like cannot ask this daemon");
            None
        }
    }
}
