//! Where the client commands find Redis, or the daemon that has none.

use std::path::PathBuf;

use super::ConfigPath;
use super::exit::{Exit, Failure};
use crate::broker::{BrokerError, Cause, Entrance, Inspect, Operator, RedisPost, Target};
use crate::client::Client;
use crate::config::{Config, RedisServer};
use crate::inspect::Remote;
use crate::protocol::keys::Keys;
use crate::server::{named_target, target};

/// Where Redis is: as the configuration says, or as given.
#[derive(clap::Args)]
pub(super) struct Place {
    #[command(flatten)]
    config: ConfigPath,
    /// Redis, instead of the one in the configuration
    #[arg(long, value_name = "URL")]
    redis: Option<String>,
    /// What keys start with, beside --redis
    #[arg(long, value_name = "TEXT", requires = "redis", default_value = "CERBAS")]
    prefix: String,
}

impl Place {
    /// That of the configuration.
    pub(super) fn of(config: ConfigPath) -> Self {
        Place { config, redis: None, prefix: String::new() }
    }

    /// A client for it.
    pub(super) fn connect(&self) -> Result<Client, Failure> {
        self.open(|target, keys| Ok(Client::over(Box::new(RedisPost::connect(target, keys)?))))
    }

    /// An operator's side of it; without Redis the daemon itself is asked.
    pub(super) fn operator(&self) -> Result<Box<dyn Inspect>, Failure> {
        if let Some(folder) = self.state_dir()? {
            let daemon = Remote::find(&folder)?;
            return daemon.map(|daemon| Box::new(daemon) as Box<dyn Inspect>).ok_or_else(|| {
                let folder = folder.display();
                Failure::new(
                    Exit::NoAnswer,
                    format!("no daemon runs with state_dir {folder}: start it with cerbas run"),
                )
            });
        }
        self.open(|target, keys| Ok(Box::new(Operator::connect(target, keys)?) as Box<dyn Inspect>))
    }

    /// Where it listens for others than the daemon's own user.
    pub(super) fn address(&self) -> Result<Target, Failure> {
        match &self.redis {
            Some(url) => Ok(Target::new(url, None, None)?),
            None => Ok(named_target(&self.load()?.redis)?),
        }
    }

    /// The folder in which the daemon keeps what is kept in Redis otherwise, where there is none.
    pub(super) fn state_dir(&self) -> Result<Option<PathBuf>, Failure> {
        if self.redis.is_some() {
            return Ok(None);
        }
        let config = self.load()?;
        Ok((config.redis.server == RedisServer::None).then_some(config.server.state_dir))
    }

    /// The configuration.
    pub(super) fn load(&self) -> Result<Config, Failure> {
        let config = Config::look(&self.config.config, std::env::vars_os());
        config.map_err(|faults| Failure::new(Exit::CannotStart, format!("{faults}; or give --redis URL")))
    }

    /// Where the configuration is.
    pub(super) fn config(&self) -> ConfigPath {
        self.config.clone()
    }

    fn open<T>(&self, open: impl FnOnce(&Target, Keys) -> Result<T, BrokerError>) -> Result<T, Failure> {
        if let Some(url) = &self.redis {
            let target = Target::new(url, None, None)?;
            let target = Entrance::noted(&target).map_or(target.clone(), |entrance| entrance.target(&target));
            return Ok(open(&target, Keys::new(&self.prefix, target.database()))?);
        }
        let config = self.load()?;
        let redis = &config.redis;
        if redis.server == RedisServer::None {
            let reason = "redis.server is \"none\": such a daemon is called over HTTP, or from inside its own program";
            return Err(Failure::new(Exit::NoRedis, reason));
        }
        let target = target(&config)?;
        open(&target, Keys::new(&redis.prefix, target.database())).map_err(|error| {
            if error.cause != Cause::Permanent && redis.server == RedisServer::Managed {
                return Failure::new(Exit::NoRedis, format!("{error}; the managed Redis runs while `cerbas run` does"));
            }
            error.into()
        })
    }
}
