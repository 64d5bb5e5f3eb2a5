//! Reads `[redis]`, `[server]` and `[auth]`, over the defaults.

use std::time::Duration;

use super::ranges::{DELIVERIES, MESSAGE_SIZE, PRIORITY, QUEUE_LENGTH, SECOND, STUCK, WORKERS};
use super::section::Section;
use super::value::{Fit, Value};
use super::{AuthConfig, QueueConfig, QueueOrder, RedisConfig, RedisServer, ServerConfig};

const MAX_PREFIX_LENGTH: usize = 128;

const MAX_NAME_LENGTH: usize = 64;

/// What the broker can speak; it alone knows the rest of a URL.
const SCHEMES: [&str; 4] = ["redis", "rediss", "unix", "redis+unix"];

const MAX_QUEUE_NAME: usize = 64;

const ORDERS: [(&str, QueueOrder); 2] = [("weighted", QueueOrder::Weighted), ("strict", QueueOrder::Strict)];

const SERVERS: [(&str, RedisServer); 3] =
    [("managed", RedisServer::Managed), ("external", RedisServer::External), ("none", RedisServer::None)];

pub(super) fn redis(section: &mut Section<'_>, config: &mut RedisConfig) {
    if let Some(url) = secret(section, "url", "url_file", url) {
        config.url = url;
    }
    section.set_some("username", &mut config.username, Value::text);
    if let Some(password) = secret(section, "password", "password_file", Ok) {
        config.password = Some(password);
    }
    section.set_some("ca_file", &mut config.ca_file, Value::file);
    section.set_some("cert_file", &mut config.cert_file, Value::file);
    section.set_some("key_file", &mut config.key_file, Value::file);
    if config.cert_file.is_some() != config.key_file.is_some() {
        let (key, other) =
            if config.cert_file.is_some() { ("cert_file", "key_file") } else { ("key_file", "cert_file") };
        section.key_fault(key, &format!("needs {other} beside it"));
    }
    section.set("sentinels", &mut config.sentinels, |value| value.list()?.into_iter().map(place).collect());
    section.set("master_name", &mut config.master_name, Value::text);
    if let Some(password) = secret(section, "sentinel_password", "sentinel_password_file", Ok) {
        config.sentinel_password = Some(password);
    }
    section.set("cluster", &mut config.cluster, |value| value.list()?.into_iter().map(place).collect());
    section.set("server", &mut config.server, |value| value.choice(&SERVERS));
    section.set("open", &mut config.open, Value::switch);
    section.set("prefix", &mut config.prefix, |value| prefix(value.text()?));
    section.set("extra_channels", &mut config.extra_channels, |value| value.list()?.into_iter().map(channel).collect());
}

pub(super) fn server(section: &mut Section<'_>, config: &mut ServerConfig) {
    section.set_some("name", &mut config.name, |value| name(value.text()?));
    section.set("workers", &mut config.workers, |value| value.number(WORKERS));
    section.set("state_dir", &mut config.state_dir, Value::path);
    section.set("shutdown_timeout", &mut config.shutdown_timeout, |value| value.duration(Duration::ZERO));
    section.set("max_request", &mut config.max_request, |value| value.size(MESSAGE_SIZE));
    section.set("max_output", &mut config.max_output, |value| value.size(MESSAGE_SIZE));
    section.set("result_ttl", &mut config.result_ttl, |value| value.duration(SECOND));
    section.set("lease", &mut config.lease, |value| value.duration(SECOND));
    section.set("max_deliveries", &mut config.max_deliveries, |value| value.number(DELIVERIES));
    section.set("max_stuck", &mut config.max_stuck, |value| value.number(STUCK));
    section.set("queue_order", &mut config.queue_order, |value| value.choice(&ORDERS));
}

/// The queue `name`, unless something is wrong with it.
pub(super) fn queue(name: &str, section: &mut Section<'_>) -> Option<QueueConfig> {
    let mut config = QueueConfig::default();
    section.set("priority", &mut config.priority, |value| value.number(PRIORITY));
    section.set_some("max_length", &mut config.max_length, |value| value.number(QUEUE_LENGTH));
    let fits = |byte: u8| byte.is_ascii_lowercase() || byte.is_ascii_digit() || byte == b'_' || byte == b'-';
    if name.is_empty() || name.len() > MAX_QUEUE_NAME || !name.bytes().all(fits) {
        section.fault(&format!(
            "cannot be the name of a queue: expected 1 to {MAX_QUEUE_NAME} characters out of a-z 0-9 _ -"
        ));
        return None;
    }
    Some(config)
}

pub(super) fn auth(section: &mut Section<'_>, config: &mut AuthConfig) {
    section.set_some("sources", &mut config.sources, Value::set);
    section.set_some("users", &mut config.users, Value::set);
    section.set("require_user", &mut config.require_user, Value::switch);
}

/// The value of `key`, or what is in the file that `file_key` names. One from a variable wins over one from the file;
/// both from the same place contradict each other.
fn secret(
    section: &mut Section<'_>,
    key: &'static str,
    file_key: &'static str,
    fits: impl Fn(String) -> Fit<String>,
) -> Option<String> {
    let (direct, in_file) = (section.level(key), section.level(file_key));
    if direct.is_some() && direct == in_file {
        section.key_fault(file_key, &format!("{key} is there as well, give only one of them"));
        return None;
    }
    if in_file > direct {
        section.get(file_key, |value| fits(value.content()?))
    } else {
        section.get(key, |value| fits(value.text()?))
    }
}

/// The text is not repeated in the message: it may have a password in it.
pub(super) fn url(url: String) -> Fit<String> {
    let scheme = url.split_once("://").map(|(scheme, _)| scheme);
    if scheme.is_some_and(|scheme| SCHEMES.contains(&scheme)) {
        return Ok(url);
    }
    Err("expected a URL such as redis://127.0.0.1:6379/1 or unix:///run/redis.sock?db=1".to_owned().into())
}

fn place(place: String) -> Fit<String> {
    let is_place = place.rsplit_once(':').is_some_and(|(host, port)| !host.is_empty() && port.parse::<u16>().is_ok());
    if is_place {
        return Ok(place);
    }
    Err(format!("expected places as \"host:port\", found {place:?}").into())
}

pub(super) fn prefix(prefix: String) -> Fit<String> {
    let is_seen = |character: char| !character.is_control() && !character.is_whitespace();
    if prefix.chars().all(is_seen) && prefix.len() <= MAX_PREFIX_LENGTH {
        return Ok(prefix);
    }
    Err(format!("expected 1 to {MAX_PREFIX_LENGTH} characters without blanks, found {prefix:?}").into())
}

pub(super) fn name(name: String) -> Fit<String> {
    let is_allowed = |byte: u8| byte.is_ascii_alphanumeric() || b"_.-".contains(&byte);
    if name.bytes().all(is_allowed) && name.len() <= MAX_NAME_LENGTH {
        return Ok(name);
    }
    Err(format!("expected 1 to {MAX_NAME_LENGTH} characters out of A-Z a-z 0-9 _ . -, found {name:?}").into())
}

pub(super) fn channel(template: String) -> Fit<String> {
    if template.contains("{id}") {
        return Ok(template);
    }
    Err(format!("expected templates with {{id}}, found {template:?}").into())
}
