//! Reads `[http]`.

use super::Config;
use super::ranges::{CONNECTIONS, INSTANT, THREADS};
use super::section::Section;
use super::value::{Fit, Value};
use crate::gateway::{AccessLog, Network, Settings, Token, TokenHash};
use crate::net::ListenAddress;
use crate::pages::{Right, Rights};
use crate::proxy::Fallback;

/// `[http]`: the gateway.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct GatewayConfig {
    /// Where it listens: `host:port`, `unix:/path` or `systemd`. Default: `["127.0.0.1:4455"]`.
    pub listen: Vec<ListenAddress>,
    /// How many threads share the connections, 1 to 64. Where nothing is said, one for each processor, at most 4.
    pub threads: usize,
    /// All else. Each limit has its own key: `max_connections`, by default 4096; `max_per_address`, 1024; `max_calls`, 1024; `head_timeout`,
    /// `"10s"`; `body_timeout`, `"30s"`; `idle_timeout`, `"60s"`; `write_timeout`, `"30s"`; `queue_timeout`, `"30s"`. The longest body is
    /// `max_request` of `[server]`.
    pub settings: Settings,
}

const LISTEN: &str = "127.0.0.1:4455";

const ACCESS_LOGS: [(&str, AccessLog); 3] =
    [("off", AccessLog::Off), ("errors", AccessLog::Errors), ("all", AccessLog::All)];

/// More are seldom needed: one thread serves a hundred thousand requests a second.
const MOST_THREADS: usize = 4;

pub(super) fn read(section: &mut Section<'_>, max_request: usize) -> GatewayConfig {
    let mut config = GatewayConfig {
        listen: vec![ListenAddress::read(LISTEN).expect("it is a place")],
        settings: Settings::default(),
        threads: std::thread::available_parallelism().map_or(1, usize::from).min(MOST_THREADS),
    };
    let Settings { limits, tokens, origins, hosts, source, work, access_log, trusted, sites: _ } = &mut config.settings;
    limits.max_request = max_request;
    section.set("listen", &mut config.listen, |value| {
        let places = value.list()?;
        if places.is_empty() {
            return Err("expected at least one place to listen at".to_owned().into());
        }
        places.iter().map(|place| Ok(ListenAddress::read(place)?)).collect()
    });
    section.set("threads", &mut config.threads, |value| value.number(THREADS));
    section.set("origins", origins, |value| value.list()?.into_iter().map(origin).collect());
    section.set("hosts", hosts, |value| Ok(value.list()?.into_iter().map(|host| host.to_ascii_lowercase()).collect()));
    section.set("source", source, Value::text);
    section.set("work", work, Value::text);
    section.set("trusted_proxies", trusted, |value| {
        let network = |text: String| {
            let network = Network::read(&text);
            network.ok_or_else(|| format!("expected addresses or networks such as 10.0.0.0/8, found {text:?}").into())
        };
        value.list()?.into_iter().map(network).collect()
    });
    section.set("access_log", access_log, |value| value.choice(&ACCESS_LOGS));
    section.set("max_connections", &mut limits.max_connections, |value| value.number(CONNECTIONS));
    section.set("max_per_address", &mut limits.max_per_address, |value| value.number(CONNECTIONS));
    section.set("max_calls", &mut limits.max_calls, |value| value.number(CONNECTIONS));
    for (key, limit) in [
        ("head_timeout", &mut limits.head_timeout),
        ("body_timeout", &mut limits.body_timeout),
        ("idle_timeout", &mut limits.idle_timeout),
        ("write_timeout", &mut limits.write_timeout),
        ("queue_timeout", &mut limits.queue_timeout),
    ] {
        section.set(key, limit, |value| value.duration(INSTANT));
    }
    section.table("tokens", |section| {
        section.each_table(|name, section| tokens.extend(token(name, section)));
    });
    let is_public = config.listen.iter().find(|place| place.is_public());
    if let Some(place) = is_public.filter(|_| config.settings.tokens.is_empty()) {
        let reason =
            "others than this machine can reach it, so [http.tokens.NAME] must say who may; `cerbas token` makes one";
        section.key_fault("listen", &format!("{place}: {reason}"));
    }
    config
}

/// The functions that the gateway names and that are not there, a line each. A program may bring functions of its own, so it starts.
pub(super) fn check(config: &Config) -> Vec<String> {
    let Some(http) = &config.http else { return Vec::new() };
    let usual = Settings::default().work;
    let work = Some(&http.settings.work).filter(|work| **work != usual).map(|work| ("http.work".to_owned(), work));
    let fallbacks = http.settings.sites.iter().filter_map(|site| match &site.fallback {
        Fallback::Function(name) => Some((format!("proxy.{}.fallback", site.name), name)),
        Fallback::Refuse | Fallback::Stale(_) => None,
    });
    let missing = work.into_iter().chain(fallbacks).filter(|(_, name)| !config.functions.contains_key(*name));
    missing.map(|(key, name)| format!("{key}: there is no function {name:?}")).collect()
}

fn token(name: &str, section: &mut Section<'_>) -> Option<Token> {
    let hash = section.get("hash", |value| {
        let text = value.text()?;
        TokenHash::read(&text)
            .ok_or_else(|| "expected sha256: and 64 digits, as `cerbas token` prints them".to_owned().into())
    });
    let mut token =
        Token { name: name.to_owned(), hash: TokenHash::of(""), user: None, source: None, may: Rights::default() };
    section.set_some("user", &mut token.user, Value::text);
    section.set_some("source", &mut token.source, Value::text);
    section.set("may", &mut token.may, |value| Ok(value.choices(&Right::ALL)?.into_iter().collect()));
    match hash {
        Some(hash) => token.hash = hash,
        None => {
            if section.level("hash").is_none() {
                section.fault("hash is missing; `cerbas token` makes a token and prints it");
            }
            return None;
        }
    }
    Some(token)
}

fn origin(text: String) -> Fit<String> {
    let rest = text.split_once("://").map(|(_, rest)| rest);
    if text == "*" || rest.is_some_and(|rest| !rest.is_empty() && !rest.contains(['/', ' '])) {
        return Ok(text);
    }
    Err(format!("expected origins such as https://app.example.org, found {text:?}").into())
}
