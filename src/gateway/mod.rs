//! The gateway: HTTP in front of the functions.
//!
//! A few threads own all connections (`front.rs`), whatever clients do with them. They read whole requests, under deadlines, and send calls
//! down the road, which never blocks; the answers come back by their mailboxes. What needs the broker is asked by a few threads of its own (`desk.rs`).
//! Sockets and the reading of HTTP are those of `net`, and what goes to upstreams is done by `proxy`.

mod access;
mod answers;
mod api;
mod args;
mod client;
mod desk;
mod door;
mod front;
mod idempotency;
mod log;
mod mailbox;
mod metrics;
mod orders;
mod response;
mod services;
mod settings;
mod traffic;
mod vitals;

use std::io;
use std::net::SocketAddr;
use std::sync::{Arc, Mutex};
use std::time::Instant;

pub use self::access::{Token, TokenHash};
pub use self::api::RESERVED;
use self::api::{Api, Book};
use self::desk::Desk;
pub use self::desk::OpenPost;
use self::front::Front;
use self::idempotency::Kept;
use self::mailbox::Mailbox;
use self::orders::Orders;
use self::services::{Ids, Services};
pub use self::settings::{AccessLog, Limits, Network, Settings};
use self::traffic::Traffic;
pub use self::vitals::{Process, Vitals};
use crate::dispatch::Dispatcher;
use crate::lock::Unpoisoned;
use crate::net::{Crowd, ListenAddress, Listener, Poller};
use crate::pages::Pages;
use crate::proxy::{Sites, Watch};
use crate::thread::{Joined, Threads};

/// What a [`Gateway`] needs.
pub struct GatewayOptions {
    /// Where it listens.
    pub listen: Vec<ListenAddress>,
    /// What holds at first.
    pub settings: Settings,
    /// Where calls go.
    pub dispatcher: Arc<Dispatcher>,
    /// The pages that others have.
    pub pages: Vec<Arc<dyn Pages>>,
    /// How the broker is reached.
    pub open: OpenPost,
    /// Why the daemon cannot do its work at this moment; nothing if it can.
    pub faults: Arc<Faults>,
    /// The loops of the daemon that do not turn any more.
    pub stalled: Arc<Faults>,
    /// What the daemon knows of itself, for the metrics; this may take long.
    pub vitals: Arc<dyn Fn() -> Vitals + Send + Sync>,
    /// How many threads share the connections.
    pub threads: usize,
    /// The threads of the daemon; those of the gateway are among them.
    pub crew: Threads,
}

/// Tells why a daemon cannot do its work.
pub type Faults = dyn Fn() -> Vec<String> + Send + Sync;

/// The gateway; dropped, it closes at once.
pub struct Gateway {
    fronts: Vec<(Arc<Orders>, Arc<Mailbox>)>,
    addresses: Vec<SocketAddr>,
    sites: Mutex<(Arc<Sites>, Watch)>,
    threads: Vec<Joined>,
}

impl Gateway {
    /// Opens all places and starts the threads. The error names the place.
    pub fn start(options: GatewayOptions) -> io::Result<Self> {
        let GatewayOptions { listen, settings, dispatcher, pages, open, faults, stalled, vitals, threads, crew } =
            options;
        let book = Book::new(&pages).map_err(|reason| io::Error::new(io::ErrorKind::InvalidInput, reason))?;
        for function in dispatcher.rules().functions.iter() {
            book.does_not_hide(&function.name).map_err(|reason| io::Error::new(io::ErrorKind::InvalidInput, reason))?;
        }
        let book = Arc::new(book);
        let mut listeners = Vec::new();
        for address in &listen {
            let opened = address.open().map_err(|error| io::Error::new(error.kind(), format!("{address}: {error}")))?;
            listeners.extend(opened);
        }
        let addresses: Vec<SocketAddr> = listeners.iter().filter_map(Listener::address).collect();
        if let Some(address) = open_to_all(&addresses, &settings) {
            let reason =
                format!("{address}: others than this machine can reach it, so [http.tokens.NAME] must say who may");
            return Err(io::Error::new(io::ErrorKind::PermissionDenied, reason));
        }
        let shown: Vec<String> = listeners.iter().map(Listener::shown).collect();
        let now = Instant::now();
        let sites = Arc::new(Sites::new(&settings.sites, &Sites::default(), now));
        let mut watch = Watch::new(crew.clone());
        watch.set(&sites)?;
        let count = threads.max(1);
        let pollers: Vec<Poller> = (0..count).map(|_| Poller::new()).collect::<io::Result<_>>()?;
        let mailboxes: Vec<Arc<Mailbox>> =
            pollers.iter().map(|poller| Arc::new(Mailbox::new(poller.waker()))).collect();
        let (settings, desk) = (Arc::new(settings), Arc::new(Desk::start(&open, &crew)?));
        let scraping = Arc::default();
        let (kept, waiting, ids) = (Arc::new(Kept::default()), Arc::default(), Arc::new(Ids::new()));
        let (traffic, crowd) = (Arc::new(Traffic::default()), Arc::new(Crowd::new(count)));
        let mut gateway = Gateway {
            fronts: Vec::new(),
            addresses,
            sites: Mutex::new((Arc::clone(&sites), watch)),
            threads: Vec::new(),
        };
        for (number, poller) in pollers.into_iter().enumerate() {
            let (mailbox, orders) = (Arc::clone(&mailboxes[number]), Arc::new(Orders::default()));
            let services = Arc::new(Services {
                dispatcher: Arc::clone(&dispatcher),
                mailbox: Arc::clone(&mailbox),
                desk: Arc::clone(&desk),
                kept: Arc::clone(&kept),
                waiting: Arc::clone(&waiting),
                scraping: Arc::clone(&scraping),
                ids: Arc::clone(&ids),
                book: Arc::clone(&book),
                faults: Arc::clone(&faults),
                stalled: Arc::clone(&stalled),
                vitals: Arc::clone(&vitals),
                traffic: Arc::clone(&traffic),
                crowd: Arc::clone(&crowd),
                pulses: crew.pulses().clone(),
            });
            let api = Api::new(Arc::clone(&settings), services, Arc::clone(&sites));
            let front =
                Front::new(poller, std::mem::take(&mut listeners), mailboxes.clone(), api, Arc::clone(&orders))?;
            let name = format!("http-{number}");
            let pulse = crew.pulse(&name);
            gateway.fronts.push((orders, mailbox));
            gateway.threads.push(crew.spawn(name, move || front.run(&pulse))?);
        }
        ::log::info!("http: listens at {}", shown.join(", "));
        Ok(gateway)
    }

    /// The addresses at which it listens.
    pub fn addresses(&self) -> &[SocketAddr] {
        &self.addresses
    }

    /// From now on `settings` hold; requests that run go on. Without tokens nothing changes where others than this machine can ask.
    pub fn reconfigure(&self, settings: Settings) {
        if let Some(address) = open_to_all(&self.addresses, &settings) {
            return ::log::error!(
                "http: the settings stay as they were: {address} would be open to all without tokens"
            );
        }
        let mut known = self.sites.lock().unpoisoned();
        let (old, watch) = &mut *known;
        let sites = Arc::new(Sites::new(&settings.sites, old, Instant::now()));
        if let Err(error) = watch.set(&sites) {
            ::log::error!("http: upstreams are not looked after: {error}");
        }
        *old = Arc::clone(&sites);
        let settings = Arc::new(settings);
        self.tell(|orders| orders.reconfigure(Arc::clone(&settings), Arc::clone(&sites)));
    }

    fn tell(&self, order: impl Fn(&Orders)) {
        for (orders, mailbox) in &self.fronts {
            order(orders);
            mailbox.wake();
        }
    }

    /// Takes no more connections; those that are open end with the answer they wait for.
    pub fn close(&self) {
        self.tell(Orders::close);
    }

    /// Waits until all connections have ended, `until` at the latest, and ends.
    pub fn end(mut self, until: Instant) {
        self.tell(|orders| orders.end(until));
        self.threads.clear();
    }
}

/// The address that others than this machine can reach without a token.
fn open_to_all<'a>(addresses: &'a [SocketAddr], settings: &Settings) -> Option<&'a SocketAddr> {
    addresses.iter().find(|address| settings.tokens.is_empty() && !address.ip().to_canonical().is_loopback())
}

impl Drop for Gateway {
    fn drop(&mut self) {
        self.tell(|orders| {
            orders.close();
            orders.end(Instant::now());
        });
        self.threads.clear();
    }
}
