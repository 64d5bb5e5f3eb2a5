//! Puts the house together: opens the rooms in order, and closes them in the other order.

mod about;
mod ask;
mod connection;
mod daemon;
mod gateway;
mod loops;
mod onward;
mod process;
mod running;
mod shelf;
mod standby;
mod state;

use std::fmt;
use std::io;
use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

use serde::Serialize;
use serde::de::DeserializeOwned;

use self::about::About;
use self::connection::{Connection, Kind};
pub(crate) use self::connection::{named_target, target};
use self::daemon::{Daemon, Loop};
use self::loops::Loops;
use self::onward::Exchange;
pub use self::running::{Ended, Handle, ReloadError, Reloaded, Running};
use self::running::{Halted, Outside};
use self::shelf::FunctionShelf;
use self::standby::Standby;
use crate::broker::Memory;
use crate::config::{Config, RedisServer};
use crate::control;
use crate::cron::{Entry, Loaded};
use crate::dispatch::{Dispatcher, PoolSize};
use crate::errand::{Room, Rooms};
use crate::error::StartError;
use crate::functions::{Body, Call, Function, Functions, Native, NativeError, Terms};
use crate::heartbeat;
use crate::outbox::Outbox;
use crate::pages::Pages;
use crate::protocol::{Run, RunOutcome};
use crate::scheduler::records::{self, NewRun};
use crate::scheduler::{Alarm, CronRoom, OpenStandby, Scheduler, SchedulerOptions};
use crate::signals;
use crate::thread::{Stop, Threads};

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
#[must_use = "nothing is served before it is started"]
pub struct Server {
    config: Config,
    natives: Functions,
    /// The names that were registered more than once.
    twice: Vec<String>,
    pages: Vec<Arc<dyn Pages>>,
    reaps_orphans: bool,
    is_asked: bool,
}

impl fmt::Debug for Server {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let natives: Vec<&str> = self.natives.iter().map(|function| function.name.as_str()).collect();
        f.debug_struct("Server").field("config", &self.config).field("natives", &natives).finish_non_exhaustive()
    }
}

impl Server {
    /// A daemon as the file at `path` says, with the `CERBAS_` variables of the environment over it.
    pub fn from_file(path: impl AsRef<Path>) -> Result<Self, StartError> {
        Ok(Self::new(Config::load(path.as_ref(), std::env::vars_os())?))
    }

    /// A daemon as `config` says.
    pub fn new(config: Config) -> Self {
        Server {
            config,
            natives: Functions::default(),
            twice: Vec::new(),
            pages: Vec::new(),
            reaps_orphans: false,
            is_asked: false,
        }
    }

    /// A daemon without Redis, whose functions are called from inside this program: no server is looked for or started, and no file is made.
    pub fn in_memory() -> Self {
        let mut config = Config::default();
        config.redis.server = RedisServer::None;
        Self::new(config)
    }

    /// A daemon for the Redis at `url`, which must be there; none is started.
    pub fn at(url: impl Into<String>) -> Self {
        let mut config = Config::default();
        (config.redis.server, config.redis.url) = (RedisServer::External, url.into());
        Self::new(config)
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

    /// Registers a function with a body of any kind. Two of one name are refused at the start.
    pub fn body(mut self, name: impl Into<String>, terms: Terms, body: impl Body + 'static) -> Self {
        let name = name.into();
        if self.natives.get(&name).is_some() {
            self.twice.push(name.clone());
        }
        self.natives.add(Function { name, terms, body: Box::new(body) });
        self
    }

    /// Shows `pages` over HTTP, beside what the gateway answers itself. Where it has no `[http]` nobody sees them.
    pub fn pages(mut self, pages: impl Pages + 'static) -> Self {
        self.pages.push(Arc::new(pages));
        self
    }

    /// Lets the daemon reap the processes that lose their parent where it is process 1 of a machine or a container. The end of a child that
    /// somebody else in this process waits for is then lost to them, so only a program that starts none of its own asks for this.
    pub fn reap_orphans(self) -> Self {
        Server { reaps_orphans: true, ..self }
    }

    /// Without Redis: operators can ask the daemon, over the socket in its state folder.
    pub(crate) fn let_be_asked(self) -> Self {
        Server { is_asked: true, ..self }
    }

    /// Runs until SIGTERM, SIGINT or the function `halt` stops it, or a thread of it panics; SIGHUP reloads the configuration. From the
    /// first signal to stop on, and when this returns, signals do again what they did before: a second one ends the process at once.
    pub fn run(self) -> Result<Ended, StartError> {
        let signals = signals::listen()?;
        let running = self.let_be_asked().start()?;
        running.until_told(signals.received());
        drop(signals);
        Ok(running.stop())
    }

    /// Runs `entry` in this process, by a clock of its own: as `new`, to its end and to that of what follows on it.
    pub(crate) fn run_once(mut self, entry: &Arc<Entry>, new: &NewRun) -> Result<Run, StartError> {
        self.config.redis.server = RedisServer::None;
        self.config.server.workers = 2;
        let loaded = Loaded { entries: vec![Arc::clone(entry)], ..Loaded::default() };
        let running = self.start_with(loaded, None, None)?;
        let mut memory = running.memory().expect("it was told to have no other").clone();
        new.begin_at(&mut memory, "")?;
        loop {
            let record = records::run(&memory, &new.name, &new.instant)?;
            if let Some(run) = record.filter(|run| run.outcome != RunOutcome::Waiting && memory.is_idle()) {
                running.stop();
                return Ok(run);
            }
            std::thread::sleep(Duration::from_millis(10));
        }
    }

    /// Starts all threads and gives the daemon into the caller's hands. No signal is listened to. Settings and terms out of their ranges are
    /// refused, all of them at once.
    pub fn start(self) -> Result<Running, StartError> {
        match &self.config.cron {
            Some(cron) => {
                let alarm = Alarm::watching(&cron.crontabs)?;
                let loaded = cron.crontabs.read();
                self.start_with(loaded, Some(alarm), Some(Records::Now))
            }
            None => {
                // A daemon inside a program makes no files that nobody asked for.
                let records = self.is_asked.then_some(Records::Later);
                self.start_with(Loaded::default(), None, records)
            }
        }
    }

    /// Starts all threads; that of cron only with an alarm. Where there are no `records`, what rooms keep ends with the daemon.
    fn start_with(self, loaded: Loaded, alarm: Option<Alarm>, records: Option<Records>) -> Result<Running, StartError> {
        let natives = self.natives.iter().map(|function| (function.name.as_str(), &function.terms));
        self.config.check_made(natives, &self.twice)?;
        for name in self.natives.iter().map(|function| &function.name) {
            if self.config.functions.contains_key(name) {
                log::warn!("functions.{name}: is not used, as the program has a function of this name");
            }
        }
        let (halted, threads) = (Arc::new(Halted::default()), Threads::default());
        let halt = Arc::clone(&halted);
        let functions =
            Arc::new(FunctionShelf::new(self.natives, Arc::new(move || halt.call()), &self.config, &loaded.entries));
        let rules = functions.rules();
        state::close(&self.config.server.state_dir);
        let link = Connection::open(&self.config, &threads)?;
        let cron = self.config.cron.as_ref().zip(alarm);
        if let (Some(records), Kind::Memory(memory)) = (records, &link.kind) {
            let folder = &self.config.server.state_dir;
            keep(memory, records, folder)
                .map_err(|error| io::Error::new(error.kind(), format!("{}: {error}", folder.display())))?;
        }
        let address = link.broker.address();

        let server = &self.config.server;
        let size = PoolSize { workers: server.workers, max_stuck: server.max_stuck };
        let dispatcher = Dispatcher::start(rules, size, &threads)?;
        dispatcher.connect(Arc::new(Exchange::new(link.opener(&self.config))));
        let outbox = Outbox::start(link.broker.clone(), &threads)?;
        let stop = Stop::new();
        let control = Loop::start("control", &threads, {
            let (broker, dispatcher) = (Arc::clone(&link.broker), Arc::clone(&dispatcher));
            let pulse = threads.pulse("control");
            move |stop| control::run(&*broker, &dispatcher, &pulse, stop)
        })?;
        let served = connection::queues(&self.config).into_iter().map(|queue| queue.name).collect();
        let standby = Standby::default();
        let may_be_away = matches!(link.kind, Kind::Redis(_));
        // Its requests wait in the broker until the intakes are there.
        let scheduler = match cron {
            Some((cron, alarm)) => Some(Scheduler::start(
                SchedulerOptions {
                    broker: Arc::clone(&link.broker),
                    name: about::name(&self.config.server),
                    crontabs: cron.crontabs.clone(),
                    loaded,
                    history: cron.history,
                    state_dir: self.config.server.state_dir.clone(),
                    apply: {
                        let (functions, dispatcher) = (Arc::clone(&functions), Arc::clone(&dispatcher));
                        Box::new(move |entries| functions.schedule(entries, &dispatcher))
                    },
                    standby: may_be_away.then(|| -> OpenStandby {
                        let (standby, dispatcher, threads) =
                            (standby.clone(), Arc::clone(&dispatcher), threads.clone());
                        let (server, node) = (self.config.server.clone(), link.broker.node().to_owned());
                        Box::new(move || standby.open(&server, &node, &dispatcher, &threads))
                    }),
                    has_unrecorded: may_be_away && standby::is_left_in(&server.state_dir),
                    pulse: threads.pulse("cron"),
                },
                alarm,
                &threads,
            )?),
            None => None,
        };
        let cron = scheduler.as_ref().map(Scheduler::watch);
        let loops = Loops::new(threads.clone(), self.config.server.lease);
        let about = About::new(&self.config.server, served, &dispatcher, cron, loops.clone());
        // Before the first claim, which may come before the first heartbeat and takes a lease as well.
        link.broker.tell(about.look());
        let gateway = gateway::start(&self.config, &link, &dispatcher, &about, self.pages, &threads)?;
        let reaping = if self.reaps_orphans { signals::reap_orphans()? } else { None };
        let outside = Outside { about: about.clone(), halted, address, open: Box::new(link.opener(&self.config)) };
        let mut daemon = Daemon {
            listener: None,
            about: about.clone(),
            gateway,
            scheduler,
            standby,
            intakes: Vec::new(),
            stop,
            dispatcher,
            outbox: Some(outbox),
            control,
            heartbeat: Loop::start("heartbeat", &threads, {
                let (broker, lease) = (Arc::clone(&link.broker), self.config.server.lease);
                let pulse = threads.pulse("heartbeat");
                let look = move || {
                    loops.tell();
                    about.look()
                };
                move |stop| heartbeat::run(&*broker, lease, look, &pulse, stop)
            })?,
            link,
            functions,
            config: self.config,
            threads,
            reaping,
        };
        daemon.open_intakes()?;
        if self.is_asked {
            daemon.let_be_asked();
        }
        Running::start(daemon, outside)
    }
}

/// The rooms that send requests of their own.
fn rooms() -> Rooms {
    Rooms::new([Arc::new(CronRoom) as Arc<dyn Room>])
}

/// When a broker in memory opens the file of what rooms keep.
enum Records {
    /// At once: it is written there for sure.
    Now,
    /// When there is something to keep.
    Later,
}

/// Lets `memory` have what earlier daemons have put on record in `folder`.
fn keep(memory: &Memory, records: Records, folder: &Path) -> io::Result<()> {
    match records {
        Records::Now => records::keep_in(memory, folder),
        Records::Later => memory.keep_later_in(folder),
    }
}
