//! The gateway: HTTP in front of the functions.
//!
//! One thread owns all connections (`front.rs`). It reads whole requests, under deadlines, and sends calls down the road, which never blocks;
//! the answers come back by its mailbox. What needs the broker is asked by a few threads of its own (`desk.rs`).

mod access;
mod api;
mod args;
mod buffer;
mod client;
mod desk;
mod door;
mod front;
#[cfg(fuzzing)]
pub(crate) mod fuzzing;
mod idempotency;
mod listen;
mod log;
mod mailbox;
mod metrics;
mod poller;
mod proxy;
mod response;
mod settings;
mod slots;
mod stream;
mod timers;
mod traffic;
mod wire;

use std::io;
use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Instant;

pub use self::access::{Token, TokenHash};
pub use self::api::RESERVED;
use self::api::{Ids, Progress, Services};
use self::desk::Desk;
pub use self::desk::OpenPost;
use self::front::{Front, Orders};
use self::idempotency::Kept;
pub use self::listen::Place;
use self::mailbox::Mailbox;
pub use self::metrics::{House, Process};
use self::poller::Poller;
pub use self::proxy::{Address, Balance, BreakerTerms, Fallback, HealthTerms, SiteTerms};
pub use self::settings::{AccessLog, Limits, Network, Settings};
use self::traffic::Traffic;
use crate::dispatch::Dispatcher;
use crate::thread::Joined;

/// What a [`Gateway`] needs.
pub struct GatewayOptions {
    /// Where it listens.
    pub places: Vec<Place>,
    /// What holds at first.
    pub settings: Settings,
    /// Where calls go.
    pub dispatcher: Arc<Dispatcher>,
    /// How the broker is reached.
    pub open: OpenPost,
    /// Why the daemon cannot do its work at this moment; nothing if it can.
    pub faults: Box<dyn Fn() -> Vec<String> + Send + Sync>,
    /// What the house knows of itself, for the metrics; this may take long.
    pub house: Box<dyn Fn() -> House + Send + Sync>,
}

/// The gateway; dropped, it closes at once.
pub struct Gateway {
    orders: Arc<Orders>,
    mailbox: Arc<Mailbox>,
    addresses: Vec<SocketAddr>,
    thread: Option<Joined>,
}

impl Gateway {
    /// Opens all places and starts the threads. The error names the place.
    pub fn start(options: GatewayOptions) -> io::Result<Self> {
        let GatewayOptions { places, settings, dispatcher, open, faults, house } = options;
        let mut listeners = Vec::new();
        for place in &places {
            let opened = place.open().map_err(|error| io::Error::new(error.kind(), format!("{place}: {error}")))?;
            listeners.extend(opened);
        }
        let addresses: Vec<SocketAddr> = listeners.iter().filter_map(listen::Listener::address).collect();
        if let Some(address) = open_to_all(&addresses, &settings) {
            let reason =
                format!("{address}: others than this machine can reach it, so [http.tokens.NAME] must say who may");
            return Err(io::Error::new(io::ErrorKind::PermissionDenied, reason));
        }
        let shown: Vec<String> = listeners.iter().map(listen::Listener::shown).collect();
        let poller = Poller::new()?;
        let mailbox = Arc::new(Mailbox::new(poller.waker()));
        let services = Arc::new(Services {
            dispatcher,
            desk: Desk::start(&open, &mailbox)?,
            mailbox: Arc::clone(&mailbox),
            kept: Arc::new(Kept::default()),
            waiting: Arc::default(),
            ids: Ids::new(),
            faults,
            house,
            traffic: Traffic::default(),
            progress: Arc::new(Progress::new(Instant::now())),
        });
        let orders = Arc::new(Orders::default());
        let front = Front::new(poller, listeners, Arc::new(settings), services, Arc::clone(&orders))?;
        let thread = Joined::spawn("http", move || front.run())?;
        ::log::info!("http: listens at {}", shown.join(", "));
        Ok(Gateway { orders, mailbox, addresses, thread: Some(thread) })
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
        self.orders.reconfigure(Arc::new(settings));
        self.mailbox.wake();
    }

    /// Takes no more connections; those that are open end with the answer they wait for.
    pub fn close(&self) {
        self.orders.close();
        self.mailbox.wake();
    }

    /// Waits until all connections have ended, `until` at the latest, and ends.
    pub fn end(mut self, until: Instant) {
        self.orders.end(until);
        self.mailbox.wake();
        self.thread = None;
    }
}

/// The address that others than this machine can reach without a token.
fn open_to_all<'a>(addresses: &'a [SocketAddr], settings: &Settings) -> Option<&'a SocketAddr> {
    addresses.iter().find(|address| settings.tokens.is_empty() && !address.ip().to_canonical().is_loopback())
}

impl Drop for Gateway {
    fn drop(&mut self) {
        self.orders.close();
        self.orders.end(Instant::now());
        self.mailbox.wake();
        self.thread = None;
    }
}
