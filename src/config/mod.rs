//! What an operator can set: [`Config`], read from a file and from variables of the environment.
//!
//! A key that nobody knows is a fault, not a surprise, and all faults are told at once, each with its line. Every
//! default is in `defaults.rs`. Nothing here opens a connection or starts anything; the only files read besides the
//! configuration are those that hold secrets.
//!
//! A variable `CERBAS_<SECTION>_<KEY>` overrides a key of `[redis]`, `[server]` or `[auth]`; in it, a list is separated
//! by commas. Relative paths in the file start from the folder that it is in, wherever the daemon was started; those in
//! variables start from the working directory, as everywhere else on a command line.

mod cron;
mod defaults;
mod environment;
mod faults;
mod function;
mod functions;
mod http;
mod made;
mod proxy;
mod ranges;
mod rooms;
mod section;
mod value;

#[cfg(test)]
mod tests;

use std::cell::RefCell;
use std::collections::{BTreeMap, HashSet};
use std::ffi::OsString;
use std::fmt;
use std::path::{Path, PathBuf};
use std::str::FromStr;
use std::time::Duration;

use toml::de::DeTable;

use crate::cron::Crontabs;
use crate::functions::Terms;
use crate::trust::{Role, Trust, Unread};
use environment::Environment;
use section::{Origin, Section, quoted};

pub(crate) use cron::unmailed;
pub use faults::{Fault, Faults, Place, Position};
pub use function::{BodyConfig, CommandConfig, FunctionConfig, HttpConfig, LimitsConfig, ProcessConfig, WorkerConfig};
pub use functions::build;
pub use http::GatewayConfig;

/// Everything that can be set.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Config {
    /// Where it was read from. Default: nowhere.
    pub file: Option<PathBuf>,
    /// How requests come in.
    pub redis: RedisConfig,
    /// How much is done at once, and for how long.
    pub server: ServerConfig,
    /// Who may call.
    pub auth: AuthConfig,
    /// The queues that are served, by name. Default: only the usual one, which is called `default` here.
    pub queues: BTreeMap<String, QueueConfig>,
    /// What can be called, by name. Default: nothing.
    pub functions: BTreeMap<String, FunctionConfig>,
    /// What is done by the clock. Default: nothing.
    pub cron: Option<CronConfig>,
    /// What answers over HTTP. Default: nothing.
    pub http: Option<GatewayConfig>,
}

/// `[redis]`: how requests come in. A `_file` is read at load, and excludes the key that it stands for.
#[derive(Clone, PartialEq, Eq)]
pub struct RedisConfig {
    /// Where Redis is: `redis://host:port/db`, or `unix:///path?db=1`. Default: `"redis://127.0.0.1:6379/1"`.
    ///
    /// `url_file` names a file that has it instead.
    pub url: String,
    /// As whom to log in; it overrides the one in the URL. Default: none.
    pub username: Option<String>,
    /// The password; it overrides the one in the URL. Default: none.
    ///
    /// `password_file` names a file that has it instead.
    pub password: Option<String>,
    /// Certificates in PEM that vouch for the server of a `rediss://` URL, instead of those of the system. Default: none.
    pub ca_file: Option<PathBuf>,
    /// Our certificate in PEM, where the server asks for one; with `key_file`. Default: none.
    pub cert_file: Option<PathBuf>,
    /// The key of `cert_file`. Default: none.
    pub key_file: Option<PathBuf>,
    /// The sentinels that know where the master is, as `host:port`. Default: `[]`.
    pub sentinels: Vec<String>,
    /// What the sentinels call the master. Default: `"mymaster"`.
    pub master_name: String,
    /// The password of the sentinels. Default: none.
    ///
    /// `sentinel_password_file` names a file that has it instead.
    pub sentinel_password: Option<String>,
    /// More nodes of a Redis Cluster, as `host:port`, for when the one of the URL is away. Default: `[]`.
    pub cluster: Vec<String>,
    /// Whether to start a server where none answers. Default: `"managed"`.
    pub server: RedisServer,
    /// Whether everybody on this machine gets into the server that is started, and not only our own user. Not for root. Default: `false`.
    pub open: bool,
    /// What every key and channel starts with: 1 to 128 characters without blanks. Default: `"CERBAS"`.
    pub prefix: String,
    /// Channels to publish answers on as well, with `{prefix}`, `{db}` and `{id}`. Default: `[]`.
    pub extra_channels: Vec<String>,
}

/// Whose the Redis server is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum RedisServer {
    /// If none answers, ours: started under the state folder, and stopped with us.
    Managed,
    /// Somebody else's: we only connect.
    External,
    /// There is none.
    None,
}

/// `[server]`: how much is done at once, and for how long.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ServerConfig {
    /// What this daemon is called, for people: 1 to 64 characters out of `A-Z a-z 0-9 _ . -`. Default: the name of the host.
    pub name: Option<String>,
    /// How many calls run at once, 1 to 4096. Default: 4 for each processor.
    pub workers: usize,
    /// The folder for what must outlive a restart. Default: `"state"`.
    pub state_dir: PathBuf,
    /// How long running calls may go on after a stop was asked for. Default: `"25s"`.
    pub shutdown_timeout: Duration,
    /// The longest request in bytes, up to 512 MiB. Default: `"1MiB"`.
    pub max_request: usize,
    /// The most that a function may give back, in bytes, up to 512 MiB. Default: `"1MiB"`.
    pub max_output: usize,
    /// How long an answer can be read after it was given, at least a second. Default: `"60s"`.
    pub result_ttl: Duration,
    /// How long after its last heartbeat a daemon is taken for dead, and others take back what it had claimed, at least a
    /// second. Default: `"10s"`.
    pub lease: Duration,
    /// How often a request may be in flight when its daemon dies, 1 to 100; then it is `lost`. Default: `3`.
    pub max_deliveries: u32,
    /// How many workers that are held by a function past its time limit are replaced, 1 to 4096. Default: `256`.
    pub max_stuck: usize,
    /// Whether the priorities of queues are shares, or those of a lower one wait until all higher ones are empty:
    /// `weighted` or `strict`. Default: `"weighted"`.
    pub queue_order: QueueOrder,
}

/// What the priorities of queues mean.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub enum QueueOrder {
    /// Shares: one of priority 6 gets twice as much as one of 3.
    #[default]
    Weighted,
    /// An order: a queue is served while all of higher priority are empty.
    Strict,
}

/// A section `[queues.NAME]`: a queue besides the usual one, or what holds for the usual one, which is called `default`.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct QueueConfig {
    /// Who goes first, or gets more, 1 to 1000. Where nothing is said, 1.
    pub priority: u32,
    /// How long it may be; the newest requests beyond that are rejected. Default: as long as it gets.
    pub max_length: Option<usize>,
}

/// `[auth]`: who may call. A function can narrow it further.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct AuthConfig {
    /// The programs that may call; an empty list: none. Default: all.
    pub sources: Option<HashSet<String>>,
    /// The users that may call; an empty list: none. Default: all.
    pub users: Option<HashSet<String>>,
    /// Whether a request must name its user. Default: `false`.
    pub require_user: bool,
}

/// `[cron]`: what is done by the clock.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct CronConfig {
    /// The crontabs, and what holds for entries that say nothing else: `file`, by default `"CRONTAB"` where nothing else is
    /// named; `files` and `system_files`, of which folders are read as `/etc/cron.d` is; `timezone`, by default `"local"`;
    /// and the policies `overlap`, `timeout`, `catchup`, `jitter`, `retries`, `on_failure` and `expires`.
    pub crontabs: Crontabs,
    /// How many runs of each entry are on record, 1 to 10000. Default: `100`.
    pub history: usize,
    /// The program that mail is given to. Default: `"/usr/sbin/sendmail"`.
    pub sendmail: PathBuf,
}

impl Config {
    /// Reads the file at `path`, with the variables of `environment` over it. As root, what somebody else could have written is
    /// a fault.
    pub fn load(
        path: &Path,
        environment: impl IntoIterator<Item = (impl Into<OsString>, impl Into<OsString>)>,
    ) -> Result<Self, Faults> {
        Self::load_as(Trust::ours(), path, environment)
    }

    /// The same for who only asks a daemon, and runs nothing of what stands there.
    pub(crate) fn look(
        path: &Path,
        environment: impl IntoIterator<Item = (impl Into<OsString>, impl Into<OsString>)>,
    ) -> Result<Self, Faults> {
        Self::load_as(Trust::All, path, environment)
    }

    fn load_as(
        trust: Trust,
        path: &Path,
        environment: impl IntoIterator<Item = (impl Into<OsString>, impl Into<OsString>)>,
    ) -> Result<Self, Faults> {
        let fault = |position, message| Fault { place: Place::File(path.to_owned()), position, message };
        let bytes = trust.read(path, Role::File).map_err(|error| match error {
            Unread::System(error) => fault(None, format!("cannot read the configuration: {error}")),
            Unread::Distrusted(distrust) => fault(None, format!("{distrust}, or run cerbas as another user than root")),
        })?;
        let text = String::from_utf8(bytes).map_err(|error| {
            let valid = String::from_utf8_lossy(&error.as_bytes()[..error.utf8_error().valid_up_to()]);
            fault(Some(Position::of(valid.len(), &valid)), "expected text in UTF-8".to_owned())
        })?;
        Self::read_text(trust, &text, path, environment)
    }

    /// Reads `text` as if it were the file `file_name`, with the variables of `environment` over it.
    pub fn from_text(
        text: &str,
        file_name: impl AsRef<Path>,
        environment: impl IntoIterator<Item = (impl Into<OsString>, impl Into<OsString>)>,
    ) -> Result<Self, Faults> {
        Self::read_text(Trust::ours(), text, file_name, environment)
    }

    fn read_text(
        trust: Trust,
        text: &str,
        file_name: impl AsRef<Path>,
        environment: impl IntoIterator<Item = (impl Into<OsString>, impl Into<OsString>)>,
    ) -> Result<Self, Faults> {
        let (file, environment) = (file_name.as_ref(), Environment::new(environment));
        // Some editors put a byte order mark in front; it is no character of the first line.
        let text = text.strip_prefix('\u{feff}').unwrap_or(text);
        let folder = Path::new(".").join(file.parent().unwrap_or(Path::new("")));
        let folder = std::path::absolute(&folder).unwrap_or(folder);
        let origin =
            Origin { file, text, folder: &folder, trust, environment: &environment, faults: RefCell::default() };

        let (table, mut errors) = DeTable::parse_recoverable(text);
        // Of two at one place the later one is about the value, the earlier one about what it stands in.
        errors.reverse();
        errors.sort_by_key(|error| error.span().map(|span| span.start));
        for error in &errors {
            let offset = error.span().map_or(text.len(), |span| span.start);
            origin.syntax_fault(offset, error.message());
        }
        // What is left of a broken file would give faults that nobody made.
        let config = if errors.is_empty() { Self::read(&origin, table.get_ref()) } else { Config::default() };
        Faults::unless_empty(origin.faults.into_inner())?;
        Ok(config)
    }

    fn read<'a>(origin: &'a Origin<'a>, table: &'a DeTable<'a>) -> Self {
        let mut config = Config { file: Some(origin.file.to_owned()), ..Config::default() };
        config.server.state_dir = origin.folder.join(&config.server.state_dir);
        let mut root = Section::root(origin, table);
        root.overridable_table("redis", |section| rooms::redis(section, &mut config.redis));
        root.overridable_table("server", |section| rooms::server(section, &mut config.server));
        root.overridable_table("auth", |section| rooms::auth(section, &mut config.auth));
        let max_output = config.server.max_output;
        root.table("queues", |section| {
            section.each_table(|name, section| {
                if let Some(queue) = rooms::queue(name, section) {
                    config.queues.insert(name.to_owned(), queue);
                }
            });
        });
        root.table("functions", |section| {
            section.each_table(|name, section| {
                if let Some(function) = function::read(name, section, max_output) {
                    config.functions.insert(name.to_owned(), function);
                }
            });
        });
        let has_cron = table.contains_key("cron");
        let cron = root.table("cron", |section| cron::read(section));
        config.cron = Some(cron).filter(|_| has_cron);
        let has_gateway = table.contains_key("http");
        let max_request = config.server.max_request;
        let gateway = root.table("http", |section| http::read(section, max_request));
        config.http = Some(gateway).filter(|_| has_gateway);
        root.table("proxy", |section| {
            if !has_gateway && table.contains_key("proxy") {
                section.fault("is for the gateway; add a section [http]");
            }
            section.each_table(|name, section| {
                if let (Some(site), Some(http)) = (proxy::read(name, section), &mut config.http) {
                    http.settings.sites.push(site);
                }
            });
        });
        root.finish();
        config
    }

    /// Looks for what the functions need on this machine, programs, folders, users, and reads the crontabs.
    pub fn check(&self) -> Result<(), Faults> {
        let file = self.file.clone().unwrap_or_else(|| PathBuf::from("configuration"));
        let crontabs = self.cron.iter().flat_map(cron::check);
        let open = self.redis.open_as_root().map(|message| Fault {
            place: Place::File(file.clone()),
            position: None,
            message,
        });
        let gateway = http::check(self).into_iter().map(|message| Fault {
            place: Place::File(file.clone()),
            position: None,
            message,
        });
        let faults = self.functions.iter().flat_map(|(name, function)| {
            let fault = |why| Fault {
                place: Place::File(file.clone()),
                position: function.position,
                message: format!("functions.{}: {why}", quoted(name)),
            };
            functions::check(function).into_iter().map(fault).collect::<Vec<_>>()
        });
        Faults::unless_empty(faults.chain(open).chain(gateway).chain(crontabs).collect())
    }
}

/// The configuration that a text in TOML says, without variables of the environment.
impl FromStr for Config {
    type Err = Faults;

    fn from_str(text: &str) -> Result<Self, Faults> {
        Self::from_text(text, "configuration", std::iter::empty::<(OsString, OsString)>())
    }
}

impl Config {
    /// Whether all settings are in their ranges, with those of `functions` that a program has registered, none of them `twice`: what is read
    /// from a file is, what is made in code need not be. A daemon asks when it starts.
    pub(crate) fn check_made<'a>(
        &self,
        functions: impl Iterator<Item = (&'a str, &'a Terms)>,
        twice: &[String],
    ) -> Result<(), Faults> {
        let file = self.file.clone().unwrap_or_else(|| PathBuf::from("configuration"));
        let of_functions = functions.flat_map(|(name, terms)| made::faults_of_function(name, terms));
        let of_twice = twice.iter().map(|name| format!("functions.{}: is registered twice", quoted(name)));
        let messages = made::faults(self).into_iter().chain(of_functions).chain(of_twice);
        let fault = |message| Fault { place: Place::File(file.clone()), position: None, message };
        Faults::unless_empty(messages.map(fault).collect())
    }
}

impl RedisConfig {
    /// Why root does not start such a server, if it does not.
    pub(crate) fn open_as_root(&self) -> Option<String> {
        let is_refused = self.is_started() && self.open && rustix::process::geteuid().is_root();
        let why = "redis.open: everybody on this machine could run as root what the functions do; set open = false \
                   (CERBAS_REDIS_OPEN=false), or run cerbas as another user than root";
        is_refused.then(|| why.to_owned())
    }

    /// Whether a server is started where none answers: who names sentinels or a cluster has servers already.
    pub(crate) fn is_started(&self) -> bool {
        self.server == RedisServer::Managed && self.sentinels.is_empty() && self.cluster.is_empty()
    }

    /// The URL as it can be shown: without the name and the password in it.
    pub fn shown_url(&self) -> String {
        let Some((scheme, rest)) = self.url.split_once("://") else { return "an unreadable URL".to_owned() };
        // A path can have an @; a URL of a host has one only behind name and password.
        let host = if scheme.ends_with("unix") { 0 } else { rest.rfind('@').map_or(0, |at| at + 1) };
        // Behind a `?` there can be a password as well: `unix:///path?pass=...`.
        let shown = rest[host..].split('?').next().unwrap_or_default();
        format!("{scheme}://{shown}")
    }
}

/// Shows no password.
impl fmt::Debug for RedisConfig {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("RedisConfig")
            .field("url", &self.shown_url())
            .field("username", &self.username)
            .field("password", &self.password.as_ref().map(|_| "***"))
            .field("ca_file", &self.ca_file)
            .field("cert_file", &self.cert_file)
            .field("key_file", &self.key_file)
            .field("sentinels", &self.sentinels)
            .field("master_name", &self.master_name)
            .field("sentinel_password", &self.sentinel_password.as_ref().map(|_| "***"))
            .field("cluster", &self.cluster)
            .field("server", &self.server)
            .field("open", &self.open)
            .field("prefix", &self.prefix)
            .field("extra_channels", &self.extra_channels)
            .finish()
    }
}
