//! The broker of a daemon, as the configuration says.

use std::fs;
use std::path::PathBuf;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};

use crate::broker::{
    Broker, BrokerError, Cause, Entrance, ManagedOptions, ManagedRedis, Memory, Operator, Post, QueueTerms,
    RedisBroker, RedisOptions, RedisPost, Target, TargetOptions,
};
use crate::client::ClientError;
use crate::config::{Config, QueueConfig, QueueOrder, RedisConfig, RedisServer};
use crate::error::StartError;
use crate::inspect::OpenInspect;
use crate::protocol::keys::Keys;
use crate::thread::Threads;

/// A broker, and what belongs to it.
pub(super) struct Connection {
    pub(super) broker: Arc<dyn Broker>,
    pub(super) kind: Kind,
    // Below the broker: the server goes after the last connection to it.
    _managed: Option<ManagedRedis>,
}

#[derive(Clone)]
pub(super) enum Kind {
    Memory(Memory),
    Redis(Box<Target>),
}

impl Connection {
    pub(super) fn open(config: &Config, threads: &Threads) -> Result<Self, StartError> {
        let redis = &config.redis;
        if redis.server == RedisServer::None {
            let further: Vec<String> = queues(config).into_iter().skip(1).map(|queue| queue.name).collect();
            let memory = Memory::with_queues(config.server.result_ttl, &further);
            return Ok(Connection { broker: Arc::new(memory.clone()), kind: Kind::Memory(memory), _managed: None });
        }
        let target = named_target(redis)?;
        let (managed, target) =
            if redis.is_started() { start_managed(config, &target, threads)? } else { (None, target) };
        let keys = Keys::new(&redis.prefix, target.database()).with_extra_channels(&redis.extra_channels);
        let options = RedisOptions {
            target: target.clone(),
            keys,
            node: node_name(),
            result_ttl: config.server.result_ttl,
            lease: config.server.lease,
            max_deliveries: config.server.max_deliveries,
            queues: queues(config),
            is_strict: config.server.queue_order == QueueOrder::Strict,
            longest: longest(config.server.max_request),
        };
        let broker = RedisBroker::new(options);
        match broker.ping() {
            Err(error) if error.cause == Cause::Permanent => return Err(error.into()),
            // It may come later; the intakes say so, once, and wait for it.
            Ok(()) | Err(_) => {}
        }
        Ok(Connection { broker: Arc::new(broker), kind: Kind::Redis(Box::new(target)), _managed: managed })
    }
}

impl Connection {
    /// Opens a client's side of the same broker.
    pub(super) fn opener(
        &self,
        config: &Config,
    ) -> impl Fn() -> Result<Box<dyn Post>, ClientError> + Send + Sync + 'static {
        let (kind, prefix) = (self.kind.clone(), config.redis.prefix.clone());
        move || match &kind {
            Kind::Memory(memory) => Ok(Box::new(memory.clone())),
            Kind::Redis(target) => Ok(Box::new(RedisPost::connect(target, Keys::new(&prefix, target.database()))?)),
        }
    }
}

impl Connection {
    /// Opens an operator's side of the broker.
    pub(super) fn inspect(&self, config: &Config) -> OpenInspect {
        let (kind, prefix) = (self.kind.clone(), config.redis.prefix.clone());
        Arc::new(move || {
            Ok(match &kind {
                Kind::Memory(memory) => Box::new(memory.clone()),
                Kind::Redis(target) => Box::new(Operator::connect(target, Keys::new(&prefix, target.database()))?),
            })
        })
    }
}

/// Where the Redis of `config` is, and how its own user gets in. Files that cannot be read are told as faults of it.
pub(crate) fn target(config: &Config) -> Result<Target, BrokerError> {
    let target = named_target(&config.redis)?;
    if !config.redis.is_started() || target.has_login() || target.host_and_port().is_none() {
        return Ok(target);
    }
    match Entrance::of(&config.server.state_dir) {
        Ok(entrance) => {
            let entrance = entrance.filter(Entrance::leads_somewhere).or_else(|| Entrance::noted(&target));
            Ok(entrance.map_or(target.clone(), |entrance| entrance.target(&target)))
        }
        // It may be open all the same, or another's; else Redis says that it asks for a password.
        Err(_) => Ok(target),
    }
}

/// Where the configuration says that it is.
pub(crate) fn named_target(config: &RedisConfig) -> Result<Target, BrokerError> {
    let read = |name: &str, path: &Option<PathBuf>| match path {
        None => Ok(None),
        Some(path) => fs::read(path).map(Some).map_err(|error| BrokerError {
            address: config.shown_url(),
            reason: format!("{name} {}: {error}", path.display()),
            cause: Cause::Permanent,
        }),
    };
    let options = TargetOptions {
        username: config.username.clone(),
        password: config.password.clone(),
        ca: read("ca_file", &config.ca_file)?,
        identity: read("cert_file", &config.cert_file)?.zip(read("key_file", &config.key_file)?),
        sentinels: config.sentinels.clone(),
        master_name: config.master_name.clone(),
        sentinel_password: config.sentinel_password.clone(),
        cluster: config.cluster.clone(),
    };
    Target::with(&config.url, &options)
}

/// The queues that are served, the usual one first.
pub(super) fn queues(config: &Config) -> Vec<QueueTerms> {
    let terms = |(name, queue): (&String, &QueueConfig)| QueueTerms {
        name: name.clone(),
        priority: queue.priority,
        max_length: queue.max_length,
    };
    let (usual, further): (Vec<_>, Vec<_>) =
        config.queues.iter().map(terms).partition(|queue| queue.name == QueueTerms::DEFAULT);
    let usual = usual.into_iter().next().unwrap_or_else(QueueTerms::usual);
    std::iter::once(usual).chain(further).collect()
}

/// Starts a server where none answers, and tells how to reach whichever does.
fn start_managed(
    config: &Config,
    target: &Target,
    threads: &Threads,
) -> Result<(Option<ManagedRedis>, Target), StartError> {
    let redis = &config.redis;
    if let Some(reason) = redis.open_as_root() {
        return Err(StartError::ManagedRedis(reason));
    }
    let options = ManagedOptions { target, is_open: redis.open, state_dir: &config.server.state_dir };
    let (managed, reached) = ManagedRedis::start(&options, threads).map_err(StartError::ManagedRedis)?;
    match &managed {
        Some(managed) => {
            log::info!("a private Redis runs at {}, its data is in {}", target.address(), managed.folder().display());
            if redis.open && target.password().is_none() {
                log::warn!(
                    "redis.open: everybody on this machine can call all functions, as any user and source, and read all answers"
                );
            }
        }
        None => log::info!("a Redis answers at {} already and is used", target.address()),
    }
    Ok((managed, reached))
}

/// A name that no other daemon has or has had: host, process and start.
fn node_name() -> String {
    static STARTS: AtomicUsize = AtomicUsize::new(0);
    let host = rustix::system::uname().nodename().to_string_lossy().into_owned();
    let start = STARTS.fetch_add(1, Ordering::Relaxed);
    // Whatever the host is called, the name can stand in a key and in CLIENT SETNAME.
    let host: String = host.chars().map(|c| if c.is_ascii_alphanumeric() { c } else { '-' }).collect();
    format!("{host}.{}.{}.{start}", std::process::id(), crate::clock::now())
}

/// How much of one request is fetched at the most. What is somewhat too large is read whole, so that its id is found wherever it stands.
fn longest(max_request: usize) -> usize {
    max_request.saturating_mul(2).max(1 << 20)
}
