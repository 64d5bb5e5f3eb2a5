//! What holds for settings wherever they come from: a program that makes them in code is told what a file would be told.

use std::fmt;
use std::ops::RangeInclusive;
use std::time::Duration;

use super::function::wrong_name;
use super::ranges::{
    CONNECTIONS, DELIVERIES, HISTORY, INSTANT, MESSAGE_SIZE, PLACES, PRIORITY, QUEUE_LENGTH, SECOND, STUCK, THREADS,
    WORKERS,
};
use super::rooms;
use super::section::quoted;
use super::value::Fit;
use super::{Config, QueueConfig, RedisConfig, RedisServer, ServerConfig};
use crate::functions::Terms;

/// What is wrong with `config`, a line each.
pub(super) fn faults(config: &Config) -> Vec<String> {
    let mut found = Found::default();
    server(&config.server, &mut found);
    if config.redis.server != RedisServer::None {
        redis(&config.redis, &mut found);
    }
    for (name, QueueConfig { priority, max_length }) in &config.queues {
        let key = |key: &str| format!("queues.{}.{key}", quoted(name));
        found.number(key("priority"), *priority, PRIORITY);
        if let Some(most) = max_length {
            found.number(key("max_length"), *most, QUEUE_LENGTH);
        }
    }
    for (name, function) in &config.functions {
        terms(name, &function.terms, &mut found);
    }
    if let Some(cron) = &config.cron {
        found.number("cron.history", cron.history, HISTORY);
    }
    if let Some(http) = &config.http {
        found.number("http.threads", http.threads, THREADS);
        let limits = &http.settings.limits;
        for (key, most) in [
            ("http.max_connections", limits.max_connections),
            ("http.max_per_address", limits.max_per_address),
            ("http.max_calls", limits.max_calls),
        ] {
            found.number(key, most, CONNECTIONS);
        }
    }
    found.0
}

/// What is wrong with a function that a program has registered under `name`, a line each.
pub(super) fn faults_of_function(name: &str, of: &Terms) -> Vec<String> {
    let mut found = Found::default();
    if let Some(reason) = wrong_name(name) {
        found.add(format!("functions.{}", quoted(name)), reason);
    }
    terms(name, of, &mut found);
    found.0
}

fn redis(redis: &RedisConfig, found: &mut Found) {
    found.text("redis.url", &redis.url, rooms::url);
    found.text("redis.prefix", &redis.prefix, rooms::prefix);
    for template in &redis.extra_channels {
        found.text("redis.extra_channels", template, rooms::channel);
    }
}

fn server(server: &ServerConfig, found: &mut Found) {
    if let Some(name) = &server.name {
        found.text("server.name", name, rooms::name);
    }
    found.number("server.workers", server.workers, WORKERS);
    found.number("server.max_request", server.max_request, MESSAGE_SIZE);
    found.number("server.max_output", server.max_output, MESSAGE_SIZE);
    found.number("server.max_deliveries", server.max_deliveries, DELIVERIES);
    found.number("server.max_stuck", server.max_stuck, STUCK);
    found.duration("server.result_ttl", server.result_ttl, SECOND);
    found.duration("server.lease", server.lease, SECOND);
}

fn terms(name: &str, terms: &Terms, found: &mut Found) {
    let key = |key: &str| format!("functions.{}.{key}", quoted(name));
    found.duration(key("timeout"), terms.timeout, INSTANT);
    found.duration(key("unique_for"), terms.unique_for, SECOND);
    if let Some(cache) = terms.cache {
        found.duration(key("cache"), cache, INSTANT);
    }
    for (limit, places) in [("concurrency", terms.concurrency), ("cluster_concurrency", terms.cluster_concurrency)] {
        if let Some(places) = places {
            found.number(key(limit), places, PLACES);
        }
    }
}

/// What is wrong, a line each.
#[derive(Default)]
struct Found(Vec<String>);

impl Found {
    fn add(&mut self, key: impl fmt::Display, reason: impl fmt::Display) {
        self.0.push(format!("{key}: {reason}"));
    }

    fn number<N, R>(&mut self, key: impl fmt::Display, number: N, range: RangeInclusive<R>)
    where
        N: fmt::Display + Copy,
        R: TryFrom<N> + PartialOrd + fmt::Display,
    {
        if !R::try_from(number).is_ok_and(|number| range.contains(&number)) {
            let (least, most) = (range.start(), range.end());
            self.add(key, format!("expected a whole number from {least} to {most}, found {number}"));
        }
    }

    fn duration(&mut self, key: impl fmt::Display, duration: Duration, least: Duration) {
        if duration < least {
            let (least, found) = (humantime::format_duration(least), humantime::format_duration(duration));
            self.add(key, format!("expected at least {least}, found {found}"));
        }
    }

    fn text(&mut self, key: impl fmt::Display, text: &str, fits: impl Fn(String) -> Fit<String>) {
        if text.is_empty() {
            self.add(key, "expected a text, found an empty one");
        } else if let Err(mismatch) = fits(text.to_owned()) {
            self.add(key, mismatch.message);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_usual_is_right() {
        assert_eq!(faults(&Config::default()), [""; 0]);
        assert_eq!(faults_of_function("add", &Terms::default()), [""; 0]);
    }

    #[test]
    fn all_that_is_wrong_is_told_at_once_by_its_key() {
        let mut config = Config::default();
        config.server.workers = 0;
        config.server.lease = Duration::ZERO;
        config.server.name = Some("a b\nc".to_owned());
        config.redis.prefix = String::new();
        config.redis.extra_channels = vec!["{bogus}".to_owned()];
        assert_eq!(
            faults(&config),
            [
                "server.name: expected 1 to 64 characters out of A-Z a-z 0-9 _ . -, found \"a b\\nc\"",
                "server.workers: expected a whole number from 1 to 4096, found 0",
                "server.lease: expected at least 1s, found 0s",
                "redis.prefix: expected a text, found an empty one",
                "redis.extra_channels: expected templates with {id}, found \"{bogus}\"",
            ]
        );
    }

    #[test]
    fn a_function_of_a_program_has_a_name_and_terms_as_one_of_a_file() {
        let terms = Terms { concurrency: Some(0), timeout: Duration::ZERO, ..Terms::default() };
        let found = faults_of_function("", &terms);
        assert_eq!(found.len(), 3, "{found:?}");
        assert!(found[0].starts_with("functions.\"\": cannot be the name of a function"), "{found:?}");
        assert_eq!(found[2], "functions.\"\".concurrency: expected a whole number from 1 to 65536, found 0");
    }
}
