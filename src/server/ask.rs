//! Lets a daemon be asked over the socket in its state folder, where there is no Redis in which all can be seen.

use std::sync::Arc;

use super::about::About;
use super::connection::{Connection, Kind};
use crate::broker::Presence;
use crate::config::ServerConfig;
use crate::dispatch::Dispatcher;
use crate::inspect::{self, Calls, Listener};
use crate::protocol::{OpenCall, RequestId};
use crate::thread::Threads;

/// Opens the socket; `None` where Redis tells all, or where it cannot be opened: calls are answered all the same.
pub(super) fn open(
    config: &ServerConfig,
    link: &Connection,
    dispatcher: &Arc<Dispatcher>,
    about: &About,
    threads: &Threads,
) -> Option<Listener> {
    let Kind::Memory(memory) = &link.kind else { return None };
    let (mut memory, about) = (memory.clone(), about.clone());
    let calls = OpenCalls { node: link.broker.node().to_owned(), dispatcher: Arc::clone(dispatcher) };
    let answer = move |question: &[u8]| {
        // Its record is of this moment, not of the last heartbeat.
        memory.tell(about.look());
        inspect::answer(question, &mut memory, &calls)
    };
    match Listener::open(&config.state_dir, Box::new(answer), threads) {
        Ok(listener) => Some(listener),
        Err(error) => {
            let folder = config.state_dir.display();
            log::warn!("{folder}: {error}; cerbas status, jobs and the like cannot ask this daemon");
            None
        }
    }
}

/// What the dispatcher of this daemon has.
struct OpenCalls {
    node: String,
    dispatcher: Arc<Dispatcher>,
}

impl Calls for OpenCalls {
    fn node(&self) -> &str {
        &self.node
    }

    fn open(&self) -> Vec<OpenCall> {
        self.dispatcher.open_calls(|_| true, usize::MAX)
    }

    fn find(&self, id: &RequestId) -> Vec<OpenCall> {
        self.dispatcher.find(id)
    }

    fn cancel(&self, id: &RequestId) -> bool {
        self.dispatcher.cancel(id)
    }
}
