//! Where Redis is and how to get in: one server, the master that sentinels name, or the node of a cluster that owns our keys.

use std::path::Path;
use std::time::Duration;

use redis::io::tcp::TcpSettings;
use redis::{
    Client, ClientTlsConfig, Connection, ConnectionAddr, ConnectionInfo, ErrorKind, IntoConnectionInfo, RedisError,
    RedisResult, ServerErrorKind, TlsCertificates, cmd, pipe,
};

use super::cause::{cause_of, is_without_databases};
use super::link::{RESPONSE, exchange};
use crate::broker::{BrokerError, Cause, Result};

/// How long opening a connection may take.
const CONNECT: Duration = Duration::from_secs(2);

/// So many nodes of a cluster may send us on to another.
const MOST_HOPS: usize = 5;

/// What can be said of a [`Target`] besides its URL. In a URL and here: this wins.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct TargetOptions {
    /// As whom to log in.
    pub username: Option<String>,
    /// The password.
    pub password: Option<String>,
    /// Certificates in PEM that vouch for the server, instead of those of the system.
    pub ca: Option<Vec<u8>>,
    /// Our certificate and its key in PEM, where the server asks for one.
    pub identity: Option<(Vec<u8>, Vec<u8>)>,
    /// Who knows where the master is, as `host:port`; then the URL only says how to log in.
    pub sentinels: Vec<String>,
    /// What the sentinels call the master.
    pub master_name: String,
    /// The password of the sentinels.
    pub sentinel_password: Option<String>,
    /// More nodes of a cluster, as `host:port`, for when the one of the URL is away.
    pub cluster: Vec<String>,
}

/// Where Redis is and how to get in.
#[derive(Debug, Clone)]
pub struct Target {
    info: ConnectionInfo,
    address: String,
    route: Route,
    /// A key of ours: in a cluster its owner owns all others, too.
    key: Option<String>,
}

/// How the server is found.
#[derive(Debug, Clone)]
enum Route {
    /// It is the one of the URL, or, in a cluster, one that it or one of these names.
    Direct(Vec<ConnectionAddr>),
    /// It is whichever the sentinels name.
    Sentinels { sentinels: Vec<ConnectionInfo>, master: String },
}

impl Target {
    /// The target of a URL as `redis://user:password@host:port/db`, `rediss://...` or `unix:///path?db=1`.
    pub fn new(url: &str, username: Option<&str>, password: Option<&str>) -> Result<Self> {
        let options = TargetOptions {
            username: username.map(str::to_owned),
            password: password.map(str::to_owned),
            ..TargetOptions::default()
        };
        Self::with(url, &options)
    }

    /// The target of a URL, with all that `options` say.
    pub fn with(url: &str, options: &TargetOptions) -> Result<Self> {
        let refuse = |reason: String| BrokerError { address: hide_password(url), reason, cause: Cause::Permanent };
        let info = url.into_connection_info().map_err(|error| refuse(format!("not a Redis URL: {error}")))?;
        let mut settings = info.redis_settings().clone().set_lib_name("cerbas", env!("CARGO_PKG_VERSION"));
        if let Some(username) = &options.username {
            settings = settings.set_username(username);
        }
        if let Some(password) = &options.password {
            settings = settings.set_password(password);
        }
        let is_tls = matches!(info.addr(), ConnectionAddr::TcpTls { .. });
        let address = match info.addr() {
            ConnectionAddr::Unix(path) => format!("unix://{}?db={}", path.display(), settings.db()),
            other => format!("redis{}://{other}/{}", if is_tls { "s" } else { "" }, settings.db()),
        };
        // Small messages that somebody waits for must not wait for each other.
        let tcp = TcpSettings::default().set_nodelay(true);
        let info = info.set_redis_settings(settings).set_tcp_settings(tcp);
        let info = with_certificates(info, options).map_err(|error| refuse(format!("certificates: {error}")))?;
        let place = |text: &String| parse_place(text).ok_or_else(|| refuse(format!("{text:?} is no host:port")));
        let cluster = options.cluster.iter().map(|text| place(text).map(|(host, port)| at(&info, host, port)));
        let cluster: Vec<ConnectionAddr> = cluster.collect::<Result<_>>()?;
        if options.sentinels.is_empty() {
            return Ok(Target { info, address, route: Route::Direct(cluster), key: None });
        }
        let sentinels = options.sentinels.iter().map(|text| {
            let (host, port) = place(text)?;
            let mut settings = redis::RedisConnectionInfo::default().set_skip_set_lib_name();
            if let Some(password) = &options.sentinel_password {
                settings = settings.set_password(password);
            }
            Ok(info.clone().set_addr(at(&info, host, port)).set_redis_settings(settings))
        });
        let sentinels = sentinels.collect::<Result<_>>()?;
        let address = format!("{} by sentinels/{}", options.master_name, info.redis_settings().db());
        let route = Route::Sentinels { sentinels, master: options.master_name.clone() };
        Ok(Target { info, address, route, key: None })
    }

    /// The number of the database.
    pub fn database(&self) -> i64 {
        self.info.redis_settings().db()
    }

    /// Where it is, without secrets.
    pub fn address(&self) -> &str {
        &self.address
    }

    /// Host and port, where it is one server that is reached over TCP.
    pub fn host_and_port(&self) -> Option<(&str, u16)> {
        match (self.info.addr(), &self.route) {
            (ConnectionAddr::Tcp(host, port), Route::Direct(_)) => Some((host, *port)),
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

    /// As whom it logs in.
    pub(crate) fn user(&self) -> &str {
        self.info.redis_settings().username().unwrap_or("default")
    }

    /// Whether it says as whom to log in.
    pub(crate) fn has_login(&self) -> bool {
        let settings = self.info.redis_settings();
        settings.username().is_some() || settings.password().is_some()
    }

    /// The password, where there is one.
    pub(crate) fn password(&self) -> Option<&str> {
        self.info.redis_settings().password()
    }

    /// The same place for who has no password.
    pub(crate) fn without_login(&self) -> Self {
        let settings = redis::RedisConnectionInfo::default()
            .set_db(self.database())
            .set_lib_name("cerbas", env!("CARGO_PKG_VERSION"));
        Target { info: self.info.clone().set_redis_settings(settings), ..self.clone() }
    }

    /// Whether somebody gets in without a password.
    pub(crate) fn is_open(&self) -> bool {
        self.without_login().connect("cerbas-access").is_ok()
    }

    /// The same server, with `password`, and by `socket` where there is one.
    pub(crate) fn through(&self, socket: Option<&Path>, password: &str) -> Self {
        let settings = self.info.redis_settings().clone().set_password(password);
        let info = self.info.clone().set_redis_settings(settings);
        let Some(socket) = socket else { return Target { info, ..self.clone() } };
        let address = format!("unix://{}?db={}", socket.display(), self.database());
        let info = info.set_addr(ConnectionAddr::Unix(socket.to_owned()));
        Target { info, address, route: Route::Direct(Vec::new()), key: self.key.clone() }
    }

    /// The same place; in a cluster it is the node that owns `key`.
    pub(super) fn owning(&self, key: String) -> Self {
        Target { key: Some(key), ..self.clone() }
    }

    /// The same place, whatever it owns.
    pub(super) fn owning_nothing(&self) -> Self {
        Target { key: None, ..self.clone() }
    }

    /// The same place, spoken to in RESP3.
    pub(super) fn in_resp3(&self) -> Self {
        let settings = self.info.redis_settings().clone().set_protocol(redis::ProtocolVersion::RESP3);
        Target { info: self.info.clone().set_redis_settings(settings), ..self.clone() }
    }

    /// Opens a connection that is called `name` in Redis.
    pub(crate) fn connect(&self, name: &str) -> Result<Connection> {
        let opened = match &self.route {
            Route::Direct(seeds) => self.connect_directly(name, seeds),
            Route::Sentinels { sentinels, master } => self.connect_to_master(name, sentinels, master),
        };
        opened.map_err(|error| self.describe(&error))
    }

    /// The node of the URL, or else one of `seeds`; and the one that those name, if they do.
    fn connect_directly(&self, name: &str, seeds: &[ConnectionAddr]) -> RedisResult<Connection> {
        let mut first_fault = None;
        for addr in std::iter::once(self.info.addr()).chain(seeds) {
            match self.follow(name, addr.clone()) {
                Err(error) if error.is_io_error() && !seeds.is_empty() => first_fault = first_fault.or(Some(error)),
                opened => return opened,
            }
        }
        Err(first_fault.expect("there is at least the node of the URL"))
    }

    fn follow(&self, name: &str, mut addr: ConnectionAddr) -> RedisResult<Connection> {
        for _ in 0..MOST_HOPS {
            let error = match self.greet(name, addr.clone()) {
                Ok(connection) => return Ok(connection),
                Err(error) => error,
            };
            let owner = error.redirect_node().and_then(|(place, _)| parse_place(place));
            let Some((host, port)) = owner else { return Err(error) };
            // A node that knows itself by no name says where only by its port.
            let host = if host.is_empty() { host_of(&addr) } else { host };
            addr = at(&self.info, host, port);
        }
        Err(RedisError::from((ErrorKind::Client, "the nodes of the cluster send us in a circle")))
    }

    fn greet(&self, name: &str, addr: ConnectionAddr) -> RedisResult<Connection> {
        // The library waits for each reply of its own greeting anew, also where the first has not come; so there is as
        // little of it as can be, and the rest is said here.
        let settings = self.info.redis_settings().clone().set_db(0).set_skip_set_lib_name();
        let mut connection = open(self.info.clone().set_addr(addr).set_redis_settings(settings))?;
        let mut greeting = pipe();
        greeting.cmd("SELECT").arg(self.database()).cmd("CLIENT").arg("SETNAME").arg(name);
        if let Some(key) = &self.key {
            // A node of a cluster that does not own our keys says who does.
            greeting.cmd("EXISTS").arg(key);
        }
        exchange(&mut connection, &greeting)?;
        Ok(connection)
    }

    /// The master as the first sentinel names it that answers; one that is being replaced is not taken for it.
    fn connect_to_master(&self, name: &str, sentinels: &[ConnectionInfo], master: &str) -> RedisResult<Connection> {
        let mut last_fault = None;
        for sentinel in sentinels {
            match self.ask_sentinel(sentinel, master).and_then(|addr| self.greet(name, addr)) {
                Ok(mut connection) => {
                    let role: Vec<redis::Value> = cmd("ROLE").query(&mut connection)?;
                    let role: Option<String> =
                        role.into_iter().next().and_then(|role| redis::from_redis_value(role).ok());
                    if role.as_deref() == Some("master") {
                        return Ok(connection);
                    }
                    let reason = "the sentinels name a server that is no master at this moment";
                    last_fault = Some(RedisError::from((ErrorKind::Io, reason)));
                }
                Err(error) => last_fault = Some(error),
            }
        }
        Err(last_fault.expect("there is at least one sentinel"))
    }

    fn ask_sentinel(&self, sentinel: &ConnectionInfo, master: &str) -> RedisResult<ConnectionAddr> {
        let mut connection = open(sentinel.clone())?;
        let mut ask = cmd("SENTINEL");
        let named: Option<(String, u16)> = ask.arg("get-master-addr-by-name").arg(master).query(&mut connection)?;
        let unknown = || {
            let reason = "the sentinels know no master of that name";
            RedisError::from((ErrorKind::InvalidClientConfig, reason, master.to_owned()))
        };
        named.map(|(host, port)| at(&self.info, host, port)).ok_or_else(unknown)
    }

    /// `error` in our words.
    pub(super) fn describe(&self, error: &RedisError) -> BrokerError {
        let text = error.to_string();
        let reason = match error.kind() {
            _ if error.is_timeout() => "does not answer in time".to_owned(),
            _ if error.code() == Some("NOAUTH") => {
                "asks for a password: see password_file; one that a daemon has started is for the user of that daemon"
                    .to_owned()
            }
            ErrorKind::InvalidClientConfig => error.detail().map_or(text, str::to_owned),
            ErrorKind::Server(ServerErrorKind::CrossSlot) => {
                "prefix must be in braces, as {CERBAS}, on a Redis Cluster".to_owned()
            }
            _ if is_without_databases(&text) => "a cluster has database 0 only: end the URL with /0".to_owned(),
            _ if error.is_io_error() => strip_os_code(&text),
            _ => text,
        };
        BrokerError { address: self.address.clone(), reason, cause: cause_of(error) }
    }
}

fn open(info: ConnectionInfo) -> RedisResult<Connection> {
    let connection = Client::open(info)?.get_connection_with_timeout(CONNECT)?;
    connection.set_read_timeout(Some(RESPONSE))?;
    connection.set_write_timeout(Some(RESPONSE))?;
    Ok(connection)
}

/// `info` with the certificates of `options`, where it speaks TLS.
fn with_certificates(info: ConnectionInfo, options: &TargetOptions) -> RedisResult<ConnectionInfo> {
    if !matches!(info.addr(), ConnectionAddr::TcpTls { .. }) || (options.ca.is_none() && options.identity.is_none()) {
        return Ok(info);
    }
    let client_tls =
        options.identity.clone().map(|(client_cert, client_key)| ClientTlsConfig { client_cert, client_key });
    let certificates = TlsCertificates { client_tls, root_cert: options.ca.clone() };
    let client = Client::build_with_tls(info.clone(), certificates)?;
    Ok(info.set_addr(client.get_connection_info().addr().clone()))
}

/// Another place that is reached in the same way as `like`.
fn at(like: &ConnectionInfo, host: String, port: u16) -> ConnectionAddr {
    match like.addr() {
        ConnectionAddr::TcpTls { insecure, tls_params, .. } => {
            ConnectionAddr::TcpTls { host, port, insecure: *insecure, tls_params: tls_params.clone() }
        }
        _ => ConnectionAddr::Tcp(host, port),
    }
}

fn host_of(addr: &ConnectionAddr) -> String {
    match addr {
        ConnectionAddr::Tcp(host, _) | ConnectionAddr::TcpTls { host, .. } => host.clone(),
        _ => "127.0.0.1".to_owned(),
    }
}

/// Host and port of `host:port` or `[::1]:port`.
fn parse_place(text: &str) -> Option<(String, u16)> {
    let (host, port) = text.rsplit_once(':')?;
    let host = host.strip_prefix('[').and_then(|host| host.strip_suffix(']')).unwrap_or(host);
    Some((host.to_owned(), port.parse().ok()?))
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

    #[test]
    fn a_place_has_a_host_and_a_port() {
        assert_eq!(parse_place("redis-1.example:6379"), Some(("redis-1.example".to_owned(), 6379)));
        assert_eq!(parse_place("[::1]:6379"), Some(("::1".to_owned(), 6379)));
        assert_eq!((parse_place("redis-1"), parse_place("redis-1:many")), (None, None));
    }
}
