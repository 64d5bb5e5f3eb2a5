//! One connection that opens again by itself.

use std::path::Path;
use std::time::Duration;

use redis::io::tcp::TcpSettings;
use redis::{
    Client, Connection, ConnectionAddr, ConnectionInfo, ErrorKind, IntoConnectionInfo, Pipeline, RedisError,
    RedisResult, Value,
};

use crate::broker::{BrokerError, Result};

/// How long opening a connection may take.
const CONNECT: Duration = Duration::from_secs(2);

/// How long an answer of Redis may take; more than a claim's patience, which Redis waits for work.
pub(super) const RESPONSE: Duration = Duration::from_secs(3);

/// Where Redis is and how to get in.
#[derive(Debug, Clone)]
pub struct Target {
    info: ConnectionInfo,
    address: String,
}

impl Target {
    /// The target of a URL as `redis://user:password@host:port/db` or `unix:///path?db=1`; `username` and `password` go over those in it.
    pub fn new(url: &str, username: Option<&str>, password: Option<&str>) -> Result<Self> {
        let refuse = |reason: String| BrokerError { address: hide_password(url), reason, is_permanent: true };
        let info = url.into_connection_info().map_err(|error| refuse(format!("not a Redis URL: {error}")))?;
        if matches!(info.addr(), ConnectionAddr::TcpTls { .. }) {
            return Err(refuse("TLS is not supported by this version".to_owned()));
        }
        let mut settings = info.redis_settings().clone().set_lib_name("cerbas", env!("CARGO_PKG_VERSION"));
        if let Some(username) = username {
            settings = settings.set_username(username);
        }
        if let Some(password) = password {
            settings = settings.set_password(password);
        }
        let address = match info.addr() {
            ConnectionAddr::Unix(path) => format!("unix://{}?db={}", path.display(), settings.db()),
            other => format!("redis://{other}/{}", settings.db()),
        };
        // Small messages that somebody waits for must not wait for each other.
        let tcp = TcpSettings::default().set_nodelay(true);
        Ok(Target { info: info.set_redis_settings(settings).set_tcp_settings(tcp), address })
    }

    /// The number of the database.
    pub fn database(&self) -> i64 {
        self.info.redis_settings().db()
    }

    /// Where it is, without secrets.
    pub fn address(&self) -> &str {
        &self.address
    }

    /// Host and port, where it is reached over TCP.
    pub fn host_and_port(&self) -> Option<(&str, u16)> {
        match self.info.addr() {
            ConnectionAddr::Tcp(host, port) => Some((host, *port)),
            _ => None,
        }
    }

    /// The Unix socket, where it is reached over one.
    pub fn socket(&self) -> Option<&Path> {
        match self.info.addr() {
            ConnectionAddr::Unix(path) => Some(path),
            _ => None,
        }
    }

    /// The same place, spoken to in RESP3.
    pub(super) fn in_resp3(&self) -> Self {
        let settings = self.info.redis_settings().clone().set_protocol(redis::ProtocolVersion::RESP3);
        Target { info: self.info.clone().set_redis_settings(settings), address: self.address.clone() }
    }

    /// Opens a connection that is called `name` in Redis.
    pub(crate) fn connect(&self, name: &str) -> Result<Connection> {
        let open = || {
            // The library waits for each reply of its own greeting anew, also where the first has not come; so there is as
            // little of it as can be, and the rest is said here.
            let settings = self.info.redis_settings().clone().set_db(0).set_skip_set_lib_name();
            let client = Client::open(self.info.clone().set_redis_settings(settings))?;
            let mut connection = client.get_connection_with_timeout(CONNECT)?;
            connection.set_read_timeout(Some(RESPONSE))?;
            connection.set_write_timeout(Some(RESPONSE))?;
            let mut greeting = redis::pipe();
            greeting.cmd("SELECT").arg(self.database()).cmd("CLIENT").arg("SETNAME").arg(name);
            exchange(&mut connection, &greeting)?;
            Ok(connection)
        };
        open().map_err(|error| self.describe(&error))
    }

    /// `error` in our words.
    pub(super) fn describe(&self, error: &RedisError) -> BrokerError {
        let is_permanent = matches!(error.kind(), ErrorKind::AuthenticationFailed | ErrorKind::InvalidClientConfig);
        let reason = if error.is_timeout() {
            "does not answer in time".to_owned()
        } else if error.is_io_error() {
            strip_os_code(&error.to_string())
        } else {
            error.to_string()
        };
        BrokerError { address: self.address.clone(), reason, is_permanent }
    }
}

/// Sends all commands of `pipeline` and gives back their replies, one for each. It ends with the first reply that does not
/// come in time, where the library would wait as long for each of the others.
pub(super) fn exchange(connection: &mut Connection, pipeline: &Pipeline) -> RedisResult<Vec<Value>> {
    exchange_bytes(connection, &pipeline.get_packed_pipeline(), pipeline.len())
}

/// The same for `count` commands that are bytes already. Messages to subscribers are passed over.
pub(super) fn exchange_bytes(connection: &mut Connection, bytes: &[u8], count: usize) -> RedisResult<Vec<Value>> {
    connection.send_packed_command(bytes)?;
    let mut replies = Vec::with_capacity(count);
    while replies.len() < count {
        match connection.recv_response()? {
            Value::Push { .. } => {}
            reply => replies.push(reply),
        }
    }
    // Only when all are read: what one command is refused for must not be taken for the reply to the next.
    let refused = replies.iter().find_map(|reply| match reply {
        Value::ServerError(error) => Some(RedisError::from(error.clone())),
        _ => None,
    });
    refused.map_or(Ok(replies), Err)
}

/// `Connection refused (os error 111)` without the number, which tells people nothing.
fn strip_os_code(text: &str) -> String {
    text.split(" (os error").next().unwrap_or(text).to_lowercase()
}

/// A URL that may be shown.
fn hide_password(url: &str) -> String {
    match url.split_once("://").and_then(|(scheme, rest)| Some((scheme, rest.rsplit_once('@')?))) {
        Some((scheme, (_, place))) => format!("{scheme}://{place}"),
        None => url.to_owned(),
    }
}

/// A connection that is opened at its first use, and again after a failure.
pub(super) struct Link {
    target: Target,
    name: String,
    connection: Option<Connection>,
}

impl Link {
    pub(super) fn new(target: Target, name: String) -> Self {
        Link { target, name, connection: None }
    }

    pub(super) fn address(&self) -> &str {
        self.target.address()
    }

    pub(super) fn is_open(&self) -> bool {
        self.connection.is_some()
    }

    /// Does `work` on the connection. After any failure the connection is closed, as nobody knows what is still on its way.
    pub(super) fn with<T>(&mut self, work: impl FnOnce(&mut Connection) -> redis::RedisResult<T>) -> Result<T> {
        let connection = match &mut self.connection {
            Some(connection) => connection,
            none => none.insert(self.target.connect(&self.name)?),
        };
        work(connection).map_err(|error| {
            self.connection = None;
            self.target.describe(&error)
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_address_never_shows_the_password() {
        let target = Target::new("redis://tom:secret@127.0.0.1:7000/3", None, None).expect("a URL");
        assert_eq!((target.address(), target.database()), ("redis://127.0.0.1:7000/3", 3));
        let error = Target::new("redis://tom:secret@127.0.0.1:port", None, None).expect_err("no URL");
        assert!(!error.to_string().contains("secret"), "{error}");
    }
}
