//! The clients: one thread that sends requests of all kinds, and writes down what Redis acknowledged.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::mpsc::{Receiver, Sender, channel};
use std::thread::{self, JoinHandle};
use std::time::{Duration, Instant};

use serde_json::json;

use super::account::Sent;
use super::kinds::Kind;
use super::random::Random;
use crate::broker::{Result, RoughClient};
use crate::clock;
use crate::protocol::RequestId;

/// How long it waits before it tries a Redis again that is away.
const PAUSE: Duration = Duration::from_millis(20);

/// It sends until it is stopped.
pub(super) struct Load {
    shared: Arc<Shared>,
    orders: Sender<(Kind, usize)>,
    thread: JoinHandle<Vec<Sent>>,
}

#[derive(Default)]
struct Shared {
    is_over: AtomicBool,
    sent: AtomicU64,
}

impl Load {
    /// Sends about `rate` requests a second.
    pub(super) fn start(client: RoughClient, random: Random, rate: u64) -> Self {
        let shared = Arc::new(Shared::default());
        let (orders, wanted) = channel();
        let mut sender = Sending { client, random, sent: Vec::new() };
        let thread = thread::spawn({
            let shared = Arc::clone(&shared);
            move || {
                sender.run(rate, &wanted, &shared);
                sender.sent
            }
        });
        Load { shared, orders, thread }
    }

    /// Sends `count` requests of `kind` besides.
    pub(super) fn order(&self, kind: Kind, count: usize) {
        // It ends with this.
        let _listens = self.orders.send((kind, count));
    }

    /// How many requests were sent so far.
    pub(super) fn sent(&self) -> u64 {
        self.shared.sent.load(Ordering::Relaxed)
    }

    /// Sends no more, and tells all that was sent.
    pub(super) fn stop(self) -> Vec<Sent> {
        self.shared.is_over.store(true, Ordering::Relaxed);
        self.thread.join().expect("the requests were sent")
    }
}

struct Sending {
    client: RoughClient,
    random: Random,
    sent: Vec<Sent>,
}

impl Sending {
    fn run(&mut self, rate: u64, wanted: &Receiver<(Kind, usize)>, shared: &Shared) {
        let pause = Duration::from_secs(1) / u32::try_from(rate).unwrap_or(u32::MAX);
        let mut next = Instant::now();
        while !shared.is_over.load(Ordering::Relaxed) {
            for (kind, count) in wanted.try_iter() {
                (0..count).for_each(|_| self.send(kind));
            }
            let kind = Kind::draw(&mut self.random);
            self.send(kind);
            shared.sent.store(self.sent.len() as u64, Ordering::Relaxed);
            // After an outage it does not make up for what it could not send.
            next = (next + pause).max(Instant::now() - Duration::from_millis(100));
            thread::sleep(next.saturating_duration_since(Instant::now()));
        }
    }

    fn send(&mut self, kind: Kind) {
        let (id, done) = match kind {
            Kind::Numbered => self.send_numbered(),
            _ => self.send_inline(kind),
        };
        let is_acknowledged = done.is_ok();
        if let Some(id) = id {
            self.sent.push(Sent { id, kind, is_acknowledged });
        }
        if !is_acknowledged {
            thread::sleep(PAUSE);
        }
    }

    /// Without a number there is nothing that could have been accepted.
    fn send_numbered(&mut self) -> (Option<RequestId>, Result<()>) {
        match self.client.draw_number() {
            Ok(number) => {
                let body = Kind::Numbered.request(&mut self.random).to_string();
                (Some(RequestId::Number(number)), self.client.push_numbered(number, body.as_bytes()))
            }
            Err(error) => (None, Err(error)),
        }
    }

    fn send_inline(&mut self, kind: Kind) -> (Option<RequestId>, Result<()>) {
        let id = format!("{}-{}", kind.function(), self.sent.len());
        let mut request = kind.request(&mut self.random);
        request["id"] = json!(id);
        request["sent_at"] = json!(clock::now());
        let queue = kind.queue(&mut self.random);
        let mut element = request.to_string();
        if kind == Kind::Garbage {
            element.truncate(element.len() / 2);
        }
        (Some(RequestId::Text(id.into())), self.client.push(queue, element.as_bytes()))
    }
}
