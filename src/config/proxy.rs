//! Reads `[proxy.NAME]`.

use std::time::Duration;

use super::function::http_headers;
use super::section::Section;
use super::value::{Fit, Value};
use crate::net::one_form;
use crate::proxy::{Address, Balance, BreakerTerms, Fallback, HealthTerms, SiteTerms, is_http};

const BALANCES: [(&str, Balance); 2] =
    [("round-robin", Balance::RoundRobin), ("least-connections", Balance::LeastConnections)];

const HOSTS: [(&str, bool); 2] = [("keep", true), ("target", false)];

/// The site `name`, unless something is wrong with it.
pub(super) fn read(name: &str, section: &mut Section<'_>) -> Option<SiteTerms> {
    let mut site = SiteTerms::named(name);
    section.set("path", &mut site.path, |value| path(value.text()?));
    section.set_some("host", &mut site.host, |value| Ok(value.text()?.to_ascii_lowercase()));
    if let Some(target) = section.get("target", |value| Ok(Address::read(&value.text()?)?)) {
        site.targets.push(target);
    }
    section.get("targets", |value| {
        for text in value.list()? {
            site.targets.push(Address::read(&text)?);
        }
        Ok(())
    });
    section.set("strip", &mut site.strips, Value::switch);
    section.set("host_header", &mut site.keeps_host, |value| value.choice(&HOSTS));
    section.set("balance", &mut site.balance, |value| value.choice(&BALANCES));
    section.set("headers", &mut site.headers, |value| Ok(http_headers(value.texts()?)?.into_iter().collect()));
    section.set("upgrades", &mut site.upgrades, |value| value.list()?.into_iter().map(protocol).collect());
    section.set("encoded_slashes", &mut site.takes_encoded_slashes, Value::switch);
    section.set("public", &mut site.is_public, Value::switch);
    section.set_some("max_request", &mut site.max_request, |value| value.size(0..=u64::MAX / 2));
    let least = Duration::from_millis(1);
    section.set("connect_timeout", &mut site.connect_timeout, |value| value.duration(least));
    section.set("first_byte_timeout", &mut site.first_byte_timeout, |value| value.duration(least));
    section.set("idle_timeout", &mut site.idle_timeout, |value| value.duration(least));
    section.set_some("total_timeout", &mut site.total_timeout, |value| value.duration(least));
    section.set("retries", &mut site.retries, |value| value.number(0..=10));
    section.set("failure_statuses", &mut site.failure_statuses, |value| {
        let status = |text: String| {
            let status = text.parse().ok().filter(|status| (500..=599).contains(status));
            status.ok_or_else(|| format!("expected statuses from \"500\" to \"599\", found {text:?}").into())
        };
        value.list()?.into_iter().map(status).collect()
    });
    section.table("breaker", |section| breaker(section, &mut site.breaker));
    let health = section.table("health", health);
    site.health = health;
    if let Some(longest) = section.get("stale", |value| value.duration(least)) {
        site.fallback = Fallback::Stale(longest);
    }
    if let Some(function) = section.get("fallback", Value::text) {
        if matches!(site.fallback, Fallback::Stale(_)) {
            section.key_fault("fallback", "stale is there as well, give only one of them");
        }
        site.fallback = Fallback::Function(function);
    }
    if site.targets.is_empty() {
        if section.level("target").is_none() && section.level("targets").is_none() {
            section.fault("target is missing: where requests go, such as http://127.0.0.1:5000");
        }
        return None;
    }
    Some(site)
}

fn breaker(section: &mut Section<'_>, terms: &mut BreakerTerms) {
    section.set("failures", &mut terms.failures, |value| value.number(1..=1_000_000));
    section.set("within", &mut terms.within, |value| value.duration(Duration::from_millis(10)));
    section.set("minimum", &mut terms.minimum, |value| value.number(1..=1_000_000));
    section.set("percent", &mut terms.percent, |value| value.number(0..=100));
    section.set("open_for", &mut terms.open_for, |value| value.duration(Duration::from_millis(1)));
}

fn health(section: &mut Section<'_>) -> Option<HealthTerms> {
    let mut terms = HealthTerms {
        path: String::new(),
        interval: Duration::from_secs(5),
        timeout: Duration::from_secs(2),
        passes: 2,
        fails: 3,
    };
    section.set("path", &mut terms.path, |value| path(value.text()?));
    section.set("interval", &mut terms.interval, |value| value.duration(Duration::from_millis(100)));
    section.set("timeout", &mut terms.timeout, |value| value.duration(Duration::from_millis(10)));
    section.set("passes", &mut terms.passes, |value| value.number(1..=1000));
    section.set("fails", &mut terms.fails, |value| value.number(1..=1000));
    (!terms.path.is_empty()).then_some(terms)
}

fn path(path: String) -> Fit<String> {
    let is_allowed = |byte: u8| byte.is_ascii_graphic() && byte != b'#' && byte != b'?';
    if !path.starts_with('/') || !path.bytes().all(is_allowed) {
        return Err(format!("expected a path such as /app, found {path:?}").into());
    }
    match one_form(&path) {
        // No request would be found under another one.
        Some(form) if form == path => Ok(path),
        Some(form) => Err(format!("expected a path in its plain form, which is {form:?}, found {path:?}").into()),
        None => Err(format!("expected a path without dots, backslashes and encoded slashes, found {path:?}").into()),
    }
}

fn protocol(name: String) -> Fit<String> {
    let is_allowed = |byte: u8| byte.is_ascii_alphanumeric() || b"-._/+".contains(&byte);
    if name.is_empty() || !name.bytes().all(is_allowed) {
        return Err(format!("expected names of protocols such as \"websocket\", found {name:?}").into());
    }
    if is_http(&name) {
        return Err(format!("{name:?} is HTTP itself: in the tunnel requests would go past all rules").into());
    }
    Ok(name)
}
