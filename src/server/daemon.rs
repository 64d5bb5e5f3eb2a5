//! All that a daemon consists of, in the hands of one thread: what it reads again, and how it is closed.

use std::net::SocketAddr;
use std::sync::Arc;
use std::time::{Duration, Instant};

use crossbeam_channel::{Receiver, select};

use super::about::About;
use super::ask;
use super::connection::{self, Connection, Kind};
use super::running::{Ended, Order, ReloadError, Reloaded};
use super::shelf::FunctionShelf;
use super::standby::Standby;
use crate::broker::{Broker, Memory, Source};
use crate::config::{Config, QueueOrder};
use crate::dispatch::Dispatcher;
use crate::error::StartError;
use crate::gateway::Gateway;
use crate::inspect::Listener;
use crate::intake::{Intake, Shares};
use crate::ledger::Balance;
use crate::outbox::Outbox;
use crate::scheduler::Scheduler;
use crate::signals::Reaping;
use crate::thread::{Joined, Stop, Threads};

/// Settlements that are left at the end get at least this long.
const FLUSH: Duration = Duration::from_secs(2);

/// A daemon that runs.
pub(super) struct Daemon {
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
    pub(super) functions: Arc<FunctionShelf>,
    pub(super) config: Config,
    pub(super) threads: Threads,
    pub(super) reaping: Option<Reaping>,
}

/// A thread that runs until it is ended.
pub(super) struct Loop {
    stop: Stop,
    thread: Option<Joined>,
}

impl Loop {
    pub(super) fn start(
        name: &str,
        threads: &Threads,
        run: impl FnOnce(&Stop) + Send + 'static,
    ) -> Result<Self, StartError> {
        let stop = Stop::new();
        let thread = threads.spawn(name, {
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

impl Daemon {
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
                pulse: self.threads.pulse(&name),
            };
            let stop = self.stop.clone();
            self.intakes.push(self.threads.spawn(name, move || intake.run(&stop))?);
        }
        Ok(())
    }

    /// Without Redis: lets operators ask this daemon over the socket in its state folder.
    pub(super) fn let_be_asked(&mut self) {
        self.listener = ask::open(&self.config.server, &self.link, &self.dispatcher, &self.about, &self.threads);
    }

    /// The addresses at which the gateway listens.
    pub(super) fn http_addresses(&self) -> Vec<SocketAddr> {
        self.gateway.as_ref().map_or(Vec::new(), |gateway| gateway.addresses().to_vec())
    }

    /// The broker in memory, where there is no Redis.
    pub(super) fn memory(&self) -> Option<&Memory> {
        match &self.link.kind {
            Kind::Memory(memory) => Some(memory),
            Kind::Redis(_) => None,
        }
    }

    /// Takes over functions and admission from `config`, and tells what waits for the next start.
    pub(super) fn reconfigure(&mut self, config: Config) -> Reloaded {
        self.functions.configure(&config, &self.dispatcher);
        let mut waits = Vec::new();
        let mut later = |is_changed: bool, what: &'static str| waits.extend(is_changed.then_some(what));
        later(config.redis != self.config.redis, "[redis]");
        later(config.server != self.config.server, "[server]");
        later(config.queues != self.config.queues, "[queues]");
        if let (Some(gateway), Some(http)) = (&self.gateway, &config.http) {
            gateway.reconfigure(http.settings.clone());
        }
        let listened = |config: &Config| config.http.as_ref().map(|http| (http.listen.clone(), http.threads));
        later(self.gateway.is_some() != config.http.is_some(), "[http]");
        let both_listen = self.gateway.is_some() && config.http.is_some();
        later(both_listen && listened(&config) != listened(&self.config), "listen and threads in [http]");
        if let (Some(scheduler), Some(cron)) = (&self.scheduler, &config.cron) {
            scheduler.reload(cron.crontabs.clone(), cron.history);
        }
        later(self.scheduler.is_some() != config.cron.is_some(), "[cron]");
        if !waits.is_empty() {
            log::warn!("reload: changes in {} take effect at the next start", waits.join(", "));
        }
        let reloaded = Reloaded { functions: config.functions.len(), at_next_start: waits };
        log::info!("reload: {} functions", reloaded.functions);
        self.config.functions = config.functions;
        self.config.auth = config.auth;
        self.config.http = config.http.filter(|_| self.gateway.is_some());
        self.config.cron = config.cron.filter(|_| self.scheduler.is_some());
        reloaded
    }

    /// Obeys `orders` until one of them, or a thread that has broken, ends the daemon.
    pub(super) fn keep(mut self, orders: &Receiver<Order>) -> Ended {
        loop {
            select! {
                recv(orders) -> order => match order {
                    Ok(Order::Stop(timeout)) => {
                        return self.close(timeout.unwrap_or(self.config.server.shutdown_timeout));
                    }
                    Ok(Order::Reload(told)) => drop(told.send(self.reload())),
                    Ok(Order::Reconfigure(config, told)) => drop(told.send(Ok(self.reconfigure(*config)))),
                    // Nobody can tell it anything any more.
                    Err(_) => return self.close(Duration::ZERO),
                },
                recv(self.threads.when_broken()) -> _ => {
                    // Others may take over what it has from the moment its lease ends, however long this takes: the fence keeps
                    // what is settled late from being settled twice.
                    self.heartbeat.end();
                    return self.close(Duration::ZERO);
                }
            }
        }
    }

    fn reload(&mut self) -> Result<Reloaded, ReloadError> {
        let path = self.config.file.clone().ok_or(ReloadError::NoFile)?;
        let config = Config::load(&path, std::env::vars_os()).map_err(ReloadError::Config)?;
        Ok(self.reconfigure(config))
    }

    /// Takes no more requests, lets running calls end within `timeout`, puts back what has not started, and sends all answers.
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
        let left_behind = self.dispatcher.pool().stuck;
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
        self.reaping = None;
        let ended = Ended { given_up, left_behind, unsettled, broken: self.threads.broken() };
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
        let Balance { accepted, returned, in_flight, .. } = self.dispatcher.balance();
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

impl Drop for Daemon {
    fn drop(&mut self) {
        if self.outbox.is_some() {
            self.close(Duration::ZERO);
        }
    }
}
