//! Puts the house together: opens the rooms in order, and closes them in the other order.

mod about;
mod connection;
mod jobs;
mod onward;
mod shelf;
mod standby;

use std::io;
use std::path::Path;
use std::sync::Arc;
use std::time::{Duration, Instant};

use crossbeam_channel::{Receiver, bounded};
use serde::Serialize;
use serde::de::DeserializeOwned;

use self::about::About;
pub(crate) use self::connection::target;
use self::connection::{Connection, Kind};
use self::onward::Exchange;
use self::shelf::FunctionShelf;
use self::standby::Standby;
use crate::broker::{Broker, Memory, NewRun, Source};
use crate::client::{Client, ClientError};
use crate::config::{Config, QueueOrder, RedisServer};
use crate::control;
use crate::cron::Entry;
use crate::dispatch::{Dispatcher, PoolSize, PoolStatus};
use crate::error::StartError;
use crate::functions::{Body, Call, Function, Functions, Native, NativeError, Terms};
use crate::heartbeat;
use crate::intake::{Intake, Shares};
use crate::ledger::{Balance, Ledger};
use crate::outbox::Outbox;
use crate::protocol::{Node, Run, RunOutcome};
use crate::scheduler::{OpenStandby, Scheduler, SchedulerOptions};
use crate::signals::{self, Signalled};
use crate::thread::{Joined, Stop};

/// Settlements that are left at the end get at least this long.
const FLUSH: Duration = Duration::from_secs(2);

/// A daemon that is not started yet.
///
/// ```no_run
/// #[derive(serde::Deserialize)]
/// struct Greet {
///     name: String,
/// }
///
/// cerbas::Server::from_file("cerbas.toml")?
///     .function("greet", |_call: &cerbas::Call, args: Greet| Ok(format!("hello {}", args.name)))
///     .run()?;
/// # Ok::<(), cerbas::StartError>(())
/// ```
pub struct Server {
    config: Config,
    natives: Functions,
}

impl Server {
    /// A daemon as the file at `path` says, with the `CERBAS_` variables of the environment over it.
    pub fn from_file(path: impl AsRef<Path>) -> Result<Self, StartError> {
        Ok(Self::new(Config::load(path.as_ref(), std::env::vars_os())?))
    }

    /// A daemon as `config` says.
    pub fn new(config: Config) -> Self {
        Server { config, natives: Functions::default() }
    }

    /// Registers a native function under `name`, with the usual terms. One in the configuration of the same name is replaced.
    pub fn function<Args, T>(
        self,
        name: impl Into<String>,
        function: impl Fn(&Call, Args) -> Result<T, NativeError> + Send + Sync + 'static,
    ) -> Self
    where
        Args: DeserializeOwned + 'static,
        T: Serialize + 'static,
    {
        self.function_with(name, Terms::default(), function)
    }

    /// Registers a native function under `name`, with `terms`.
    pub fn function_with<Args, T>(
        self,
        name: impl Into<String>,
        terms: Terms,
        function: impl Fn(&Call, Args) -> Result<T, NativeError> + Send + Sync + 'static,
    ) -> Self
    where
        Args: DeserializeOwned + 'static,
        T: Serialize + 'static,
    {
        self.body(name, terms, Native::new(function))
    }

    /// Registers a function with a body of any kind.
    pub fn body(mut self, name: impl Into<String>, terms: Terms, body: impl Body + 'static) -> Self {
        self.natives.add(Function { name: name.into(), terms, body: Box::new(body) });
        self
    }

    /// Runs until SIGTERM, SIGINT or the function `halt` stops it; SIGHUP reloads the configuration. A second signal ends the process at once.
    pub fn run(self) -> Result<Ended, StartError> {
        let signals = signals::listen()?;
        let mut running = self.start()?;
        log::info!("{} functions are ready at {}", about::served(&running.dispatcher).len(), running.address);
        loop {
            crossbeam_channel::select! {
                recv(signals) -> signal => match signal {
                    Ok(Signalled::Reload) => running.reload(),
                    Ok(Signalled::Stop(name)) => {
                        log::info!("{name}: stopping; a second signal ends at once");
                        break;
                    }
                    Err(_) => break,
                },
                recv(running.halted) -> _ => {
                    log::info!("halt was called: stopping");
                    break;
                }
            }
        }
        Ok(running.stop())
    }

    /// Runs `entry` in this process, by a clock of its own: as `new`, to its end and to that of what follows on it.
    pub(crate) fn run_once(mut self, entry: &Arc<Entry>, new: &NewRun) -> Result<Run, StartError> {
        self.config.redis.server = RedisServer::None;
        self.config.server.workers = 2;
        let running = self.start_with(vec![Arc::clone(entry)], false)?;
        let memory = running.memory().expect("it was told to have no other").clone();
        memory.begin(std::slice::from_ref(new), 1)?;
        loop {
            let record = memory.runs(&new.name).pop().and_then(|record| serde_json::from_str::<Run>(&record).ok());
            if let Some(run) = record.filter(|run| run.outcome != RunOutcome::Waiting && memory.is_idle()) {
                running.stop();
                return Ok(run);
            }
            std::thread::sleep(Duration::from_millis(10));
        }
    }

    /// Starts all threads and gives the daemon into the caller's hands. No signal is listened to.
    pub fn start(self) -> Result<Running, StartError> {
        let entries = match &self.config.cron {
            Some(cron) => cron.crontabs.read().map_err(StartError::Crontabs)?,
            None => Vec::new(),
        };
        self.start_with(entries, true)
    }

    /// Starts all threads; that of cron only if it `has_clock`.
    fn start_with(self, entries: Vec<Arc<Entry>>, has_clock: bool) -> Result<Running, StartError> {
        let (halt, halted) = bounded(1);
        let functions = Arc::new(FunctionShelf::new(self.natives, halt, &self.config, &entries));
        let rules = functions.rules();
        let link = Connection::open(&self.config)?;
        let cron = self.config.cron.as_ref().filter(|_| has_clock);
        if let (Some(_), Kind::Memory(memory)) = (cron, &link.kind) {
            keep_runs(memory, &self.config.server.state_dir)?;
        }
        let address = link.broker.address();

        let server = &self.config.server;
        let size = PoolSize { workers: server.workers, max_stuck: server.max_stuck };
        let dispatcher = Arc::new(Dispatcher::start(rules, size, Arc::new(Ledger::default()))?);
        dispatcher.connect(Arc::new(Exchange::new(link.opener(&self.config))));
        let outbox = Outbox::start(Arc::clone(&link.broker))?;
        let stop = Stop::new();
        let control = Loop::start("control", {
            let (broker, dispatcher) = (Arc::clone(&link.broker), Arc::clone(&dispatcher));
            move |stop| control::run(&*broker, &dispatcher, stop)
        })?;
        let served = connection::queues(&self.config).into_iter().map(|queue| queue.name).collect();
        let standby = Standby::default();
        let may_be_away = matches!(link.kind, Kind::Redis(_));
        // Its requests wait in the broker until the intakes are there.
        let scheduler = match cron {
            Some(cron) => Some(Scheduler::start(SchedulerOptions {
                broker: Arc::clone(&link.broker),
                name: about::name(&self.config.server),
                crontabs: cron.crontabs.clone(),
                entries,
                history: cron.history,
                apply: {
                    let (functions, dispatcher) = (Arc::clone(&functions), Arc::clone(&dispatcher));
                    Box::new(move |entries| functions.schedule(entries, &dispatcher))
                },
                standby: may_be_away.then(|| -> OpenStandby {
                    let (standby, dispatcher) = (standby.clone(), Arc::clone(&dispatcher));
                    let (server, node) = (self.config.server.clone(), link.broker.node().to_owned());
                    Box::new(move || standby.open(&server, &node, &dispatcher))
                }),
                has_unrecorded: may_be_away && standby::is_left_in(&server.state_dir),
            })?),
            None => None,
        };
        let cron = scheduler.as_ref().map(Scheduler::watch);
        let about = About::new(&self.config.server, served, &dispatcher, cron);
        // Before the first claim, which may come before the first heartbeat and takes a lease as well.
        link.broker.tell(about.look());
        let mut running = Running {
            scheduler,
            standby,
            intakes: Vec::new(),
            stop,
            dispatcher,
            outbox: Some(outbox),
            control,
            heartbeat: Loop::start("heartbeat", {
                let (broker, lease) = (Arc::clone(&link.broker), self.config.server.lease);
                move |stop| heartbeat::run(&*broker, lease, || about.look(), stop)
            })?,
            link,
            halted,
            functions,
            address,
            config: self.config,
        };
        running.open_intakes()?;
        Ok(running)
    }
}

/// Lets `memory` have what earlier daemons have put on record in `folder`.
fn keep_runs(memory: &Memory, folder: &Path) -> Result<(), StartError> {
    memory
        .keep_runs_in(folder)
        .map_err(|error| StartError::System(io::Error::new(error.kind(), format!("{}: {error}", folder.display()))))
}

/// A daemon that runs. Dropped, it stops without waiting for running calls.
pub struct Running {
    // The fields are in the order in which they are closed.
    scheduler: Option<Scheduler>,
    standby: Standby,
    intakes: Vec<Joined>,
    stop: Stop,
    control: Loop,
    dispatcher: Arc<Dispatcher>,
    outbox: Option<Outbox>,
    heartbeat: Loop,
    link: Connection,
    halted: Receiver<()>,
    functions: Arc<FunctionShelf>,
    address: String,
    config: Config,
}

/// A thread that runs until it is ended.
struct Loop {
    stop: Stop,
    thread: Option<Joined>,
}

impl Loop {
    fn start(name: &str, run: impl FnOnce(&Stop) + Send + 'static) -> Result<Self, StartError> {
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
    /// Calls that still ran at the end of `shutdown_timeout`: they were cancelled and put back into the queue.
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
    fn open_intakes(&mut self) -> Result<(), StartError> {
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
            };
            let stop = self.stop.clone();
            self.intakes.push(Joined::spawn(name, move || intake.run(&stop))?);
        }
        Ok(())
    }

    /// A client of this daemon.
    pub fn client(&self) -> Result<Client, ClientError> {
        self.link.opener(&self.config)().map(Client::over)
    }

    /// All daemons that live and share this one's Redis, itself among them as soon as it has a lease.
    pub fn nodes(&self) -> Result<Vec<Node>, ClientError> {
        self.client()?.nodes()
    }

    /// The account of all requests.
    pub fn balance(&self) -> Balance {
        self.dispatcher.ledger().balance()
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
        match (&self.scheduler, &config.cron) {
            (Some(scheduler), Some(cron)) => scheduler.reload(cron.crontabs.clone(), cron.history),
            (None, None) => {}
            _ => log::warn!("reload: [cron] comes and goes at the next start"),
        }
        log::info!("reload: {count} functions");
        self.config.functions = config.functions;
        self.config.auth = config.auth;
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
        self.stop.ask();
        let broker = Arc::clone(&self.link.broker);
        self.standby.stop();
        interrupting(&broker, || self.intakes.clear());
        let given_up = self.dispatcher.close(deadline);
        interrupting(&broker, || self.control.end());
        let flushed_by = deadline.max(Instant::now() + FLUSH);
        self.standby.close(flushed_by);
        let unsettled = self.outbox.take().map_or(0, |outbox| outbox.close(flushed_by));
        // Last: until here nobody else may take over what is still being answered.
        self.heartbeat.end();
        let _taken_back_when_the_lease_ends = self.link.broker.leave();
        let ended = Ended { given_up, unsettled };
        if given_up > 0 {
            log::error!(
                "{given_up} calls still ran after {timeout:?}; they were cancelled and put back into the queue"
            );
        }
        if unsettled > 0 {
            log::error!("{unsettled} answers could not be sent; their requests stay in the in-flight list");
        }
        let balance = self.balance();
        log::info!("stopped: {} requests accepted, {} in flight", balance.accepted, balance.in_flight);
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
