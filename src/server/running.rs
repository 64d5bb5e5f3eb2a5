//! A daemon that runs, as the program that started it sees it: how it is told, asked and waited for.

use std::fmt;
use std::net::SocketAddr;
use std::ops::Deref;
use std::sync::{Arc, Condvar, Mutex, MutexGuard};
use std::time::Duration;

use crossbeam_channel::{Receiver, Sender, bounded, unbounded};

use super::about::About;
use super::daemon::Daemon;
use crate::broker::{Broker, Memory, Post};
use crate::client::{Client, ClientError};
use crate::config::{Config, Faults};
use crate::dispatch::{Dispatcher, PoolStatus};
use crate::error::StartError;
use crate::ledger::Balance;
use crate::lock::Unpoisoned;
use crate::protocol::Node;
use crate::signals::Signalled;
use crate::thread::{Broken, Joined, Stop, Threads};

/// A daemon that runs, and a [`Handle`] to it. Dropped, it stops without waiting for running calls.
#[must_use = "the daemon stops when this is dropped"]
pub struct Running {
    handle: Handle,
    // Joined on drop, after `Drop` has told it to end.
    _keeper: Joined,
}

/// A way to tell a daemon and to ask it. Clones lead to the same daemon, from any thread; they do not keep it running.
#[derive(Clone)]
pub struct Handle(Arc<Shared>);

struct Shared {
    orders: Sender<Order>,
    halted: Arc<Halted>,
    address: String,
    http_addresses: Vec<SocketAddr>,
    memory: Option<Memory>,
    open: Box<dyn Fn() -> Result<Box<dyn Post>, ClientError> + Send + Sync>,
    threads: Threads,
    life: Mutex<Life>,
    has_ended: Condvar,
    /// Closed when it has ended.
    end: Receiver<()>,
}

/// Whether the function `halt` was called.
pub(super) struct Halted {
    called: Stop,
    tell: Sender<()>,
    /// Has something to say once it was.
    told: Receiver<()>,
}

impl Default for Halted {
    fn default() -> Self {
        let (tell, told) = bounded(1);
        Halted { called: Stop::new(), tell, told }
    }
}

impl Halted {
    pub(super) fn call(&self) {
        self.called.ask();
        let _told_already = self.tell.try_send(());
    }
}

/// A daemon that runs is asked itself; of one that has ended nothing stays open.
enum Life {
    Runs {
        dispatcher: Arc<Dispatcher>,
        broker: Arc<dyn Broker>,
        about: Box<About>,
    },
    /// Last comes how it ended: until then it still closes.
    Ended {
        ended: Option<Ended>,
        balance: Balance,
        pool: PoolStatus,
    },
}

/// What a daemon is told.
pub(super) enum Order {
    /// Stop, and let running calls end within this time; `None`: within `shutdown_timeout`.
    Stop(Option<Duration>),
    /// Read the configuration again.
    Reload(Sender<Result<Reloaded, ReloadError>>),
    /// Take this configuration.
    Reconfigure(Box<Config>, Sender<Result<Reloaded, ReloadError>>),
}

/// What a daemon is called by those outside, while it lives and later.
pub(super) struct Outside {
    pub(super) about: About,
    pub(super) halted: Arc<Halted>,
    pub(super) address: String,
    pub(super) open: Box<dyn Fn() -> Result<Box<dyn Post>, ClientError> + Send + Sync>,
}

/// How a daemon ended.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
#[non_exhaustive]
pub struct Ended {
    /// Calls that still ran at the end of `shutdown_timeout`: they were cancelled and put back into the queue. Without Redis they are
    /// lost.
    pub given_up: usize,
    /// Functions past their time limit that did not end: each still holds its thread.
    pub left_behind: usize,
    /// Answers that Redis did not take any more.
    pub unsettled: usize,
    /// The thread of the daemon that has panicked, and so ended it. What was in flight then is taken over by others when its lease ends.
    pub broken: Option<Broken>,
}

impl Ended {
    /// Whether nothing had to be abandoned.
    pub fn is_clean(&self) -> bool {
        self.given_up == 0 && self.left_behind == 0 && self.unsettled == 0 && self.broken.is_none()
    }
}

/// What was taken over from a configuration.
#[derive(Debug, Clone, PartialEq, Eq)]
#[non_exhaustive]
pub struct Reloaded {
    /// How many functions it has.
    pub functions: usize,
    /// The sections with changes that take effect at the next start only.
    pub at_next_start: Vec<&'static str>,
}

/// Why everything stays as it was.
#[derive(Debug)]
#[non_exhaustive]
pub enum ReloadError {
    /// The configuration was made in code.
    NoFile,
    /// The configuration has faults: a line each.
    Config(Faults),
    /// The daemon has ended.
    Ended,
}

impl fmt::Display for ReloadError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            ReloadError::NoFile => f.write_str("there is no file to read"),
            ReloadError::Config(faults) => write!(f, "the configuration stays as it was: {faults}"),
            ReloadError::Ended => f.write_str("the daemon has ended"),
        }
    }
}

impl std::error::Error for ReloadError {}

impl Running {
    /// Lets a thread keep `daemon` until it ends.
    pub(super) fn start(daemon: Daemon, outside: Outside) -> Result<Self, StartError> {
        let (orders, obeyed) = unbounded();
        let (until_the_end, end) = bounded(0);
        let Outside { about, halted, address, open } = outside;
        let threads = daemon.threads.clone();
        let handle = Handle(Arc::new(Shared {
            orders,
            halted,
            address,
            http_addresses: daemon.http_addresses(),
            memory: daemon.memory().cloned(),
            open,
            threads: threads.clone(),
            life: Mutex::new(Life::Runs {
                dispatcher: Arc::clone(&daemon.dispatcher),
                broker: Arc::clone(&daemon.link.broker),
                about: Box::new(about),
            }),
            has_ended: Condvar::new(),
            end,
        }));
        let keeper = Joined::spawn("keeper", {
            let handle = handle.clone();
            move || {
                let mut ended = None;
                threads.watch("keeper", || ended = Some(daemon.keep(&obeyed)));
                handle.end(ended, &threads);
                drop(until_the_end);
            }
        })?;
        Ok(Running { handle, _keeper: keeper })
    }

    /// Takes no more requests, lets running calls end within `shutdown_timeout`, puts back what has not started, and
    /// sends all answers.
    pub fn stop(self) -> Ended {
        self.handle.stop();
        self.handle.wait()
    }

    /// Waits until a signal, the function `halt` or a broken thread wants it to end; reloads it meanwhile, when a signal says so.
    pub(crate) fn until_told(&self, signals: &Receiver<Signalled>) {
        log::info!("{} functions are ready at {}", self.functions().len(), self.address());
        loop {
            crossbeam_channel::select! {
                recv(signals) -> signal => match signal {
                    Ok(Signalled::Reload) => {
                        if let Err(error) = self.reload() {
                            log::error!("reload: {error}");
                        }
                    }
                    Ok(Signalled::Stop(name)) => return log::info!("{name}: stopping; a second signal ends at once"),
                    Err(_) => return,
                },
                recv(self.handle.0.halted.told) -> _ => return log::info!("halt was called: stopping"),
                recv(self.handle.0.end) -> _ => return,
            }
        }
    }

    /// A way to it for other threads.
    pub fn handle(&self) -> Handle {
        self.handle.clone()
    }
}

impl fmt::Debug for Running {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_tuple("Running").field(&self.address()).finish()
    }
}

impl fmt::Debug for Handle {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_tuple("Handle").field(&self.address()).finish()
    }
}

impl Deref for Running {
    type Target = Handle;

    fn deref(&self) -> &Handle {
        &self.handle
    }
}

impl Drop for Running {
    fn drop(&mut self) {
        self.handle.tell(Order::Stop(Some(Duration::ZERO)));
    }
}

impl Handle {
    /// Tells the daemon to stop in order, and does not wait for that.
    pub fn stop(&self) {
        self.tell(Order::Stop(None));
    }

    /// Waits until the daemon has ended: it was told to, or one of its threads has panicked.
    pub fn wait(&self) -> Ended {
        let mut life = self.life();
        loop {
            if let Life::Ended { ended: Some(ended), .. } = &*life {
                return ended.clone();
            }
            life = self.0.has_ended.wait(life).unpoisoned();
        }
    }

    /// How the daemon ended; `None` while it runs.
    pub fn ended(&self) -> Option<Ended> {
        match &*self.life() {
            Life::Ended { ended, .. } => ended.clone(),
            Life::Runs { .. } => None,
        }
    }

    /// The thread of it that has panicked, if one has: then it ends.
    pub fn broken(&self) -> Option<Broken> {
        self.0.threads.broken()
    }

    /// Is closed when the daemon has ended.
    pub(crate) fn end_of_it(&self) -> &Receiver<()> {
        &self.0.end
    }

    /// Waits, at most `patience`, until the function `halt` was called; tells whether it was.
    pub fn wait_for_halt(&self, patience: Duration) -> bool {
        self.0.halted.called.wait(patience)
    }

    /// Reads the configuration again. A broken one changes nothing.
    pub fn reload(&self) -> Result<Reloaded, ReloadError> {
        self.ask(Order::Reload)
    }

    /// Takes over functions and admission from `config`.
    pub fn reconfigure(&self, config: Config) -> Result<Reloaded, ReloadError> {
        self.ask(|told| Order::Reconfigure(Box::new(config), told))
    }

    /// A client of this daemon.
    pub fn client(&self) -> Result<Client, ClientError> {
        (self.0.open)().map(Client::over)
    }

    /// Where its Redis is.
    pub fn address(&self) -> &str {
        &self.0.address
    }

    /// The addresses at which the gateway listens.
    pub fn http_addresses(&self) -> &[SocketAddr] {
        &self.0.http_addresses
    }

    /// All daemons that live and share this one's Redis, itself among them as soon as it has a lease.
    pub fn nodes(&self) -> Result<Vec<Node>, ClientError> {
        self.client()?.nodes()
    }

    /// The account of all requests.
    pub fn balance(&self) -> Balance {
        match &*self.life() {
            Life::Runs { dispatcher, .. } => dispatcher.balance(),
            Life::Ended { balance, .. } => balance.clone(),
        }
    }

    /// One look at the workers.
    pub fn pool(&self) -> PoolStatus {
        match &*self.life() {
            Life::Runs { dispatcher, .. } => dispatcher.pool(),
            Life::Ended { pool, .. } => *pool,
        }
    }

    /// Why the daemon cannot do its work at this moment, as `/readyz` says it; nothing if it can.
    pub fn faults(&self) -> Vec<String> {
        match &*self.life() {
            Life::Runs { broker, about, .. } => about.all_faults(&**broker),
            Life::Ended { .. } => vec![ReloadError::Ended.to_string()],
        }
    }

    /// The functions that clients can call.
    pub fn functions(&self) -> Vec<String> {
        match &*self.life() {
            Life::Runs { dispatcher, .. } => super::about::served(dispatcher),
            Life::Ended { .. } => Vec::new(),
        }
    }

    /// The broker in memory, where there is no Redis.
    pub fn memory(&self) -> Option<&Memory> {
        self.0.memory.as_ref()
    }

    fn tell(&self, order: Order) {
        // One that has ended needs to be told nothing.
        let _ended = self.0.orders.send(order);
    }

    fn ask(&self, order: impl FnOnce(Sender<Result<Reloaded, ReloadError>>) -> Order) -> Result<Reloaded, ReloadError> {
        let (told, answer) = bounded(1);
        self.tell(order(told));
        answer.recv().unwrap_or(Err(ReloadError::Ended))
    }

    /// The daemon has ended so; without a word where its keeper has panicked.
    fn end(&self, ended: Option<Ended>, threads: &Threads) {
        let mut life = self.life();
        if let Life::Runs { dispatcher, .. } = &*life {
            let (balance, pool) = (dispatcher.balance(), dispatcher.pool());
            let broken = threads.broken();
            let unknown = || Ended { given_up: pool.busy, left_behind: pool.stuck, unsettled: 0, broken };
            let now_ended = Some(ended.unwrap_or_else(unknown));
            let runs = std::mem::replace(&mut *life, Life::Ended { ended: None, balance, pool });
            drop(life);
            // Functions may take a while to go.
            drop(runs);
            if let Some(memory) = &self.0.memory {
                memory.close();
            }
            if let Life::Ended { ended, .. } = &mut *self.life() {
                *ended = now_ended;
            }
        }
        self.0.has_ended.notify_all();
    }

    fn life(&self) -> MutexGuard<'_, Life> {
        self.0.life.lock().unpoisoned()
    }
}
