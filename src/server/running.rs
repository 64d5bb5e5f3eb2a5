//! A daemon that runs: what it is asked, what it reads again, and how it ends.

use std::net::SocketAddr;
use std::sync::Arc;
use std::time::{Duration, Instant};

use crossbeam_channel::Receiver;

use super::about::About;
use super::ask;
use super::connection::{self, Connection, Kind};
use super::shelf::FunctionShelf;
use super::standby::Standby;
use crate::broker::{Broker, Memory, Source};
use crate::client::{Client, ClientError};
use crate::config::{Config, QueueOrder};
use crate::dispatch::{Dispatcher, PoolStatus};
use crate::error::StartError;
use crate::gateway::Gateway;
use crate::inspect::Listener;
use crate::intake::{Intake, Shares};
use crate::ledger::Balance;
use crate::outbox::Outbox;
use crate::protocol::Node;
use crate::scheduler::Scheduler;
use crate::thread::{Joined, Pulses, Stop};

/// Settlements that are left at the end get at least this long.
const FLUSH: Duration = Duration::from_secs(2);

/// A daemon that runs. Dropped, it stops without waiting for running calls.
pub struct Running {
    // The fields are in the order in which they are closed, but for this: one can ask until the heartbeat ends.
    pub(super) listener: Option<Listener>,
    pub(super) about: About,
    pub(super) gateway: Option<Gateway>,
    pub(super) scheduler: Option<Scheduler>,
    pub(super) standby: Standby,
    pub(super) intakes: Vec<Joined>,
    pub(super) stop: Stop,
    pub(super) control: Loop,
    pub(super) dispatcher: Arc<Dispatcher>,
    pub(super) outbox: Option<Outbox>,
    pub(super) heartbeat: Loop,
    pub(super) link: Connection,
    pub(super) halted: Receiver<()>,
    pub(super) functions: Arc<FunctionShelf>,
    pub(super) address: String,
    pub(super) config: Config,
    pub(super) pulses: Pulses,
}

/// A thread that runs until it is ended.
pub(super) struct Loop {
    stop: Stop,
    thread: Option<Joined>,
}

impl Loop {
    pub(super) fn start(name: &str, run: impl FnOnce(&Stop) + Send + 'static) -> Result<Self, StartError> {
        let stop = Stop::new();
        let thread = Joined::spawn(name, {
            let stop = stop.clone();
            move || run(&stop)
        })?;
        Ok(Loop { stop, thread: Some(thread) })
    }

    fn end(&mut self) {
        self.stop.ask();
        self.thread = None;
    }
}

impl Drop for Loop {
    fn drop(&mut self) {
        self.end();
    }
}

/// How a daemon ended.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Ended {
    /// Calls that still ran at the end of `shutdown_timeout`: they were cancelled and put back into the queue. Without Redis they are
    /// lost.
    pub given_up: usize,
    /// Answers that Redis did not take any more.
    pub unsettled: usize,
}

impl Ended {
    /// Whether nothing had to be abandoned.
    pub fn is_clean(&self) -> bool {
        self.given_up == 0 && self.unsettled == 0
    }
}

impl Running {
    pub(super) fn open_intakes(&mut self) -> Result<(), StartError> {
        let outbox = self.outbox.as_ref().expect("it is open until the end");
        let node: Arc<str> = Arc::from(self.link.broker.node());
        let queues = connection::queues(&self.config);
        // Under its old name the usual queue stands once more.
        let terms = |number: usize| &queues[number.saturating_sub(1)];
        // In strict order it is the broker that keeps it.
        let is_weighted = self.config.server.queue_order == QueueOrder::Weighted;
        let priority = |number| if is_weighted { terms(number).priority } else { 1 };
        let shares = Arc::new(Shares::new((0..=queues.len()).map(priority)));
        for source in self.link.broker.sources() {
            let (name, max_length) = match source {
                Source::Queue(1) => ("intake-old-name".to_owned(), terms(1).max_length),
                Source::Queue(number) => (format!("intake-{}", terms(number).name), terms(number).max_length),
                Source::Delayed => ("intake-delayed".to_owned(), None),
                Source::Inbox => ("intake-inbox".to_owned(), None),
            };
            let intake = Intake {
                source,
                shares: Arc::clone(&shares),
                max_length,
                node: Arc::clone(&node),
                broker: Arc::clone(&self.link.broker),
                dispatcher: Arc::clone(&self.dispatcher),
                mailing: outbox.mailing(),
                max_request: self.config.server.max_request,
                rooms: super::rooms(),
                pulse: self.pulses.of(&name),
            };
            let stop = self.stop.clone();
            self.intakes.push(Joined::spawn(name, move || intake.run(&stop))?);
        }
        Ok(())
    }

    /// Without Redis: lets operators ask this daemon over the socket in its state folder.
    pub(super) fn let_be_asked(&mut self) {
        self.listener = ask::open(&self.config.server, &self.link, &self.dispatcher, &self.about, &self.pulses);
    }

    /// A client of this daemon.
    pub fn client(&self) -> Result<Client, ClientError> {
        self.link.opener(&self.config)().map(Client::over)
    }

    /// The addresses at which the gateway listens.
    pub fn http_addresses(&self) -> &[SocketAddr] {
        self.gateway.as_ref().map_or(&[], Gateway::addresses)
    }

    /// All daemons that live and share this one's Redis, itself among them as soon as it has a lease.
    pub fn nodes(&self) -> Result<Vec<Node>, ClientError> {
        self.client()?.nodes()
    }

    /// The account of all requests.
    pub fn balance(&self) -> Balance {
        self.dispatcher.balance()
    }

    /// One look at the workers.
    pub fn pool(&self) -> PoolStatus {
        self.dispatcher.pool()
    }

    /// The broker in memory, where there is no Redis.
    pub fn memory(&self) -> Option<&Memory> {
        match &self.link.kind {
            Kind::Memory(memory) => Some(memory),
            Kind::Redis(_) => None,
        }
    }

    /// Waits, at most `patience`, until the function `halt` was called; tells whether it was.
    pub fn wait_for_halt(&self, patience: Duration) -> bool {
        self.halted.recv_timeout(patience).is_ok()
    }

    /// Reads the configuration again. A broken one is reported and changes nothing.
    pub fn reload(&mut self) {
        let Some(path) = self.config.file.clone() else {
            return log::warn!("reload: there is no file to read");
        };
        match Config::load(&path, std::env::vars_os()) {
            Ok(config) => self.reconfigure(config),
            Err(faults) => log::error!("reload: the configuration stays as it was: {faults}"),
        }
    }

    /// Takes over functions and admission from `config`. What needs a restart is said.
    pub fn reconfigure(&mut self, config: Config) {
        self.functions.configure(&config, &self.dispatcher);
        let count = config.functions.len();
        let is_kept =
            |old: &Config| config.redis == old.redis && config.server == old.server && config.queues == old.queues;
        if !is_kept(&self.config) {
            log::warn!("reload: changes in [redis], [server] and [queues] take effect at the next start");
        }
        match (&self.gateway, &config.http) {
            (Some(gateway), Some(http)) => gateway.reconfigure(http.settings.clone()),
            (None, None) => {}
            _ => log::warn!("reload: [http] comes and goes at the next start"),
        }
        let listened = |config: &Config| config.http.as_ref().map(|http| (http.listen.clone(), http.threads));
        if self.gateway.is_some() && config.http.is_some() && listened(&config) != listened(&self.config) {
            log::warn!("reload: listen and threads in [http] take effect at the next start");
        }
        match (&self.scheduler, &config.cron) {
            (Some(scheduler), Some(cron)) => scheduler.reload(cron.crontabs.clone(), cron.history),
            (None, None) => {}
            _ => log::warn!("reload: [cron] comes and goes at the next start"),
        }
        log::info!("reload: {count} functions");
        self.config.functions = config.functions;
        self.config.auth = config.auth;
        self.config.http = config.http.filter(|_| self.gateway.is_some());
        self.config.cron = config.cron.filter(|_| self.scheduler.is_some());
    }

    /// Takes no more requests, lets running calls end within `shutdown_timeout`, puts back what has not started, and
    /// sends all answers.
    pub fn stop(mut self) -> Ended {
        let timeout = self.config.server.shutdown_timeout;
        self.close(timeout)
    }

    fn close(&mut self, timeout: Duration) -> Ended {
        // A century is as long as a daemon can be asked to wait.
        let deadline = Instant::now() + timeout.min(Duration::from_secs(100 * 365 * 24 * 60 * 60));
        self.scheduler = None;
        if let Some(gateway) = &self.gateway {
            gateway.close();
        }
        self.stop.ask();
        let broker = Arc::clone(&self.link.broker);
        self.standby.stop();
        interrupting(&broker, || self.intakes.clear());
        let given_up = self.dispatcher.close(deadline);
        interrupting(&broker, || self.control.end());
        let flushed_by = deadline.max(Instant::now() + FLUSH);
        self.standby.close(flushed_by);
        if let Some(gateway) = self.gateway.take() {
            gateway.end(flushed_by);
        }
        let unsettled = self.outbox.take().map_or(0, |outbox| outbox.close(flushed_by));
        self.listener = None;
        // Last: until here nobody else may take over what is still being answered.
        self.heartbeat.end();
        let _taken_back_when_the_lease_ends = self.link.broker.leave();
        let ended = Ended { given_up, unsettled };
        if given_up > 0 {
            let became = match self.memory() {
                Some(_) => "are lost: without redis there is no queue in which they could wait",
                None => "put back into the queue",
            };
            log::error!("{given_up} calls still ran after {timeout:?}; they were cancelled and {became}");
        }
        if unsettled > 0 {
            log::error!("{unsettled} answers could not be sent; their requests stay in the in-flight list");
        }
        let balance = self.balance();
        let Balance { accepted, returned, in_flight, .. } = balance;
        log::info!("stopped: {accepted} requests accepted, {returned} of them handed back, {in_flight} in flight");
        ended
    }
}

/// Does `work`, which waits for threads that may wait in Redis, and wakes them meanwhile.
fn interrupting(broker: &Arc<dyn Broker>, work: impl FnOnce()) {
    let have_ended = Stop::new();
    // Beside the work, as a Redis that hangs must not hold up the end; and again until it is heard, as a wait may start
    // just after it.
    let _interrupting = Joined::spawn("interrupt", {
        let (broker, have_ended) = (Arc::clone(broker), have_ended.clone());
        move || loop {
            broker.interrupt();
            if have_ended.wait(Duration::from_millis(50)) {
                return;
            }
        }
    });
    work();
    have_ended.ask();
}

impl Drop for Running {
    fn drop(&mut self) {
        if self.outbox.is_some() {
            self.close(Duration::ZERO);
        }
    }
}
