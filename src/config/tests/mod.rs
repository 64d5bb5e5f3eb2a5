//! What an operator writes, and what comes of it.

mod function;
mod sample;
mod sources;

use std::collections::HashSet;
use std::fs;
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};
use std::time::Duration;

use super::*;
use crate::functions::{BuiltinFunction, Delivery, Retries, Terms};
use crate::protocol::OnDuplicate;

/// What `text` comes to as `/etc/cerbas.toml`, without variables.
#[track_caller]
fn read(text: &str) -> Config {
    read_with(text, &[])
}

#[track_caller]
fn read_with(text: &str, environment: &[(&str, &str)]) -> Config {
    Config::from_text(text, "/etc/cerbas.toml", environment.iter().copied())
        .unwrap_or_else(|faults| panic!("unexpected faults:\n{faults}"))
}

/// That `text` as `cerbas.toml` has exactly these faults.
#[track_caller]
fn check(text: &str, expected: &[&str]) {
    check_with(text, &[], expected);
}

#[track_caller]
fn check_with(text: &str, environment: &[(&str, &str)], expected: &[&str]) {
    let faults = Config::from_text(text, "cerbas.toml", environment.iter().copied()).expect_err("it has faults");
    assert_eq!(faults.to_string().lines().collect::<Vec<_>>(), expected);
}

fn names(names: &[&str]) -> Option<HashSet<String>> {
    Some(names.iter().map(|&name| name.to_owned()).collect())
}

/// A folder of its own under the system's, removed at the end of a test.
struct Folder(PathBuf);

impl Folder {
    fn new() -> Self {
        let path = std::env::temp_dir().join(format!("cerbas-config-{}", uuid::Uuid::new_v4()));
        fs::create_dir(&path).expect("a new folder can be made");
        Folder(path)
    }

    fn write(&self, name: &str, content: impl AsRef<[u8]>) -> PathBuf {
        let path = self.0.join(name);
        fs::write(&path, content).expect("a file can be written");
        path
    }

    fn load(&self, environment: &[(&str, &str)]) -> Result<Config, String> {
        Config::load(&self.0.join("cerbas.toml"), environment.iter().copied())
            .map_err(|faults| faults.to_string().replace(&format!("{}/", self.0.display()), ""))
    }
}

impl Drop for Folder {
    fn drop(&mut self) {
        drop(fs::remove_dir_all(&self.0));
    }
}

#[test]
fn an_empty_file_holds_the_defaults() {
    let expected = Config {
        file: Some(PathBuf::from("/etc/cerbas.toml")),
        server: ServerConfig { state_dir: PathBuf::from("/etc/state"), ..ServerConfig::default() },
        ..Config::default()
    };
    assert_eq!(read(""), expected);
    assert_eq!(read("[redis]\n[server]\n[auth]\n[functions]\n"), expected);
}

/// The comments of the fields say their defaults as they would stand in the file.
#[test]
fn every_default_that_is_documented_holds() {
    let mut text = String::new();
    let mut default = None;
    let mut found = 0;
    for line in include_str!("../mod.rs").lines().map(str::trim) {
        if let Some(section) = line.strip_prefix("/// `[").and_then(|rest| rest.split(']').next()) {
            text += &format!("[{section}]\n");
        } else if let Some((_, rest)) = line.split_once("Default: `") {
            default = rest.strip_suffix("`.");
        } else if let Some((key, _)) = line.strip_prefix("pub ").and_then(|field| field.split_once(": "))
            && let Some(value) = default.take()
        {
            text += &format!("{key} = {value}\n");
            found += 1;
        }
    }
    assert_eq!(found, 20, "{text}");
    assert_eq!(read(&text), read("[cron]"));
}

#[test]
fn everything_can_be_set() {
    let config = read(
        r#"
        [redis]
        url = "unix:///run/redis.sock?db=8"
        username = "u"
        password = "p"
        ca_file = "ca.pem"
        cert_file = "cert.pem"
        key_file = "key.pem"
        sentinels = ["s1:26379"]
        master_name = "main"
        sentinel_password = "sp"
        cluster = ["[::1]:7000"]
        server = "external"
        open = true
        prefix = "{CERBAS}"
        extra_channels = ["{prefix}-RESPONSE-{id}"]
        [server]
        name = "web-1.example"
        workers = 1_000
        state_dir = "/var/lib/cerbas"
        shutdown_timeout = "1m 30s"
        max_request = "64KiB"
        max_output = 10_000_000
        result_ttl = "2h"
        lease = "30s"
        max_deliveries = 5
        max_stuck = 0x10
        queue_order = "strict"
        [queues.urgent]
        priority = 10
        max_length = 500
        [queues.default]
        [auth]
        sources = ["a", "b"]
        users = []
        require_user = true
        "#,
    );
    let redis = RedisConfig {
        url: "unix:///run/redis.sock?db=8".to_owned(),
        username: Some("u".to_owned()),
        password: Some("p".to_owned()),
        ca_file: Some(PathBuf::from("/etc/ca.pem")),
        cert_file: Some(PathBuf::from("/etc/cert.pem")),
        key_file: Some(PathBuf::from("/etc/key.pem")),
        sentinels: vec!["s1:26379".to_owned()],
        master_name: "main".to_owned(),
        sentinel_password: Some("sp".to_owned()),
        cluster: vec!["[::1]:7000".to_owned()],
        server: RedisServer::External,
        open: true,
        prefix: "{CERBAS}".to_owned(),
        extra_channels: vec!["{prefix}-RESPONSE-{id}".to_owned()],
    };
    let server = ServerConfig {
        name: Some("web-1.example".to_owned()),
        workers: 1000,
        state_dir: PathBuf::from("/var/lib/cerbas"),
        shutdown_timeout: Duration::from_secs(90),
        max_request: 64 * 1024,
        max_output: 10_000_000,
        result_ttl: Duration::from_hours(2),
        lease: Duration::from_secs(30),
        max_deliveries: 5,
        max_stuck: 16,
        queue_order: QueueOrder::Strict,
    };
    let queue = |name: &str, priority, max_length| (name.to_owned(), QueueConfig { priority, max_length });
    assert_eq!(config.queues, [queue("urgent", 10, Some(500)), queue("default", 1, None)].into());
    let auth = AuthConfig { sources: names(&["a", "b"]), users: names(&[]), require_user: true };
    assert_eq!((config.redis, config.server, config.auth), (redis, server, auth));
}

#[test]
fn places_and_certificates_are_checked() {
    check(
        "[redis]\nsentinels = ['s1']\ncert_file = 'c.pem'",
        &[
            "cerbas.toml:2:13: redis.sentinels: expected places as \"host:port\", found \"s1\"",
            "cerbas.toml:3:1: redis.cert_file: needs key_file beside it",
        ],
    );
}

#[test]
fn the_name_of_a_queue_can_stand_in_a_key() {
    check(
        "[queues.Big]\npriority = 0",
        &[
            "cerbas.toml:1:9: queues.Big: cannot be the name of a queue: expected 1 to 64 characters out of a-z 0-9 _ -",
            "cerbas.toml:2:12: queues.Big.priority: expected a whole number from 1 to 1000, found 0",
        ],
    );
}

#[test]
fn the_name_of_a_daemon_can_stand_in_a_table() {
    for name in ["a b", "", "ä", "a/b", &"x".repeat(65)] {
        let faults = Config::from_text(&format!("[server]\nname = {name:?}"), "cerbas.toml", [("", "")]);
        let faults = faults.expect_err("it is no name").to_string();
        assert!(faults.starts_with("cerbas.toml:2:8: server.name: expected "), "{faults}");
    }
}

#[test]
fn unknown_keys_come_with_the_nearest_name() {
    check("[server]\n\nwrokers = 3\n", &["cerbas.toml:3:1: server.wrokers: unknown key, did you mean workers?"]);
    check("[server]\nSTATE-DIR = 'a'", &["cerbas.toml:2:1: server.STATE-DIR: unknown key, did you mean state_dir?"]);
    check("[srever]\nworkers = 1", &["cerbas.toml:1:2: srever: unknown section, did you mean server?"]);
    check(
        "workers = 3",
        &["cerbas.toml:1:1: workers: unknown key, known are redis, server, auth, queues, functions, cron, http, proxy"],
    );
    check(
        "[auth]\n\"grüße\" = 1",
        &["cerbas.toml:2:1: auth.\"grüße\": unknown key, known are sources, users, require_user"],
    );
}

#[test]
fn sections_of_later_versions_are_unknown() {
    for section in ["workflow.a", "actor.a"] {
        let name = section.split('.').next().expect("it has a name");
        let fault = format!(
            "cerbas.toml:1:2: {name}: unknown section, known are redis, server, auth, queues, functions, cron, http, proxy"
        );
        check(&format!("[{section}]\na = 1"), &[&fault]);
    }
}

#[test]
fn cron_has_crontabs_and_what_holds_for_them_all() {
    let config = read(
        r#"
        [cron]
        file = "tab"
        system_files = ["/etc/cron.d"]
        timezone = "Europe/Rome"
        overlap = "queue"
        timeout = "2h"
        catchup = "within=1h"
        jitter = "5m"
        retries = 2
        on_failure = "logger failed"
        expires = "10m"
        history = 7
        sendmail = "/bin/true"
        "#,
    );
    let cron = config.cron.expect("there is such a section");
    let Crontabs { files, system_files, defaults, .. } = cron.crontabs;
    assert_eq!((files, system_files), (vec![PathBuf::from("/etc/tab")], vec![PathBuf::from("/etc/cron.d")]));
    assert_eq!(defaults.zone.map(|zone| zone.name), Some("Europe/Rome".to_owned()));
    assert_eq!((defaults.retries, cron.history, cron.sendmail), (Some(2), 7, PathBuf::from("/bin/true")));
    assert_eq!(read("[cron]").cron.expect("it is there").crontabs.files, [PathBuf::from("/etc/CRONTAB")]);
    assert_eq!(read("").cron, None);
    check(
        "[cron]\ntimezone = \"Rome\"\noverlap = \"never\"",
        &[
            "cerbas.toml:2:12: cron.timezone: no time zone is called \"Rome\"; expected one such as Europe/Rome",
            "cerbas.toml:3:11: cron.overlap: expected skip, queue, parallel or replace, found \"never\"",
        ],
    );
}

#[test]
fn wrong_values_say_what_was_expected() {
    check(
        r#"
[redis]
url = "localhost:6379"
password = 123456
server = "manged"
prefix = "a b"
extra_channels = ["{id}", "a"]
[server]
workers = 0
state_dir = ""
shutdown_timeout = 5
max_request = "1 flop"
max_output = "1GiB"
result_ttl = "500ms"
max_stuck = 99999999999999999999
[auth]
sources = ["a",
  ""]
users = "tom"
require_user = "yes"
"#,
        &[
            "cerbas.toml:3:7: redis.url: expected a URL such as redis://127.0.0.1:6379/1 or unix:///run/redis.sock?db=1",
            "cerbas.toml:4:12: redis.password: expected a text, found a whole number",
            r#"cerbas.toml:5:10: redis.server: unknown name "manged", did you mean managed?"#,
            r#"cerbas.toml:6:10: redis.prefix: expected 1 to 128 characters without blanks, found "a b""#,
            r#"cerbas.toml:7:18: redis.extra_channels: expected templates with {id}, found "a""#,
            "cerbas.toml:9:11: server.workers: expected a whole number from 1 to 4096, found 0",
            "cerbas.toml:10:13: server.state_dir: expected a text, found an empty one",
            r#"cerbas.toml:11:20: server.shutdown_timeout: expected a duration such as "5s", found 5"#,
            r#"cerbas.toml:12:15: server.max_request: expected a size such as "1MiB", from 1 byte to 512 MiB, found "1 flop""#,
            r#"cerbas.toml:13:14: server.max_output: expected a size such as "1MiB", from 1 byte to 512 MiB, found "1GiB""#,
            r#"cerbas.toml:14:14: server.result_ttl: expected a duration from 1s to 366days, found "500ms""#,
            "cerbas.toml:15:13: server.max_stuck: expected a whole number from 1 to 4096, found 99999999999999999999",
            "cerbas.toml:18:3: auth.sources: expected a text, found an empty one",
            r#"cerbas.toml:19:9: auth.users: expected a list of texts, found "tom""#,
            r#"cerbas.toml:20:16: auth.require_user: expected true or false, found "yes""#,
        ],
    );
}

#[test]
fn errors_of_syntax_are_all_told_each_on_one_line() {
    check("[server]\nworkers = 1\nworkers = 2\n", &["cerbas.toml:3:1: duplicate key"]);
    check(
        "[server\nwrokers = 1\n[auth]\nusers = [\"a]\n",
        &["cerbas.toml:1:8: unclosed table, expected `]`", "cerbas.toml:4:13: invalid basic string, expected `\"`"],
    );
}

#[test]
fn sections_have_to_be_tables() {
    check("server = 3", &["cerbas.toml:1:10: server: expected a table, as in [server]"]);
    check("[[redis]]", &["cerbas.toml:1:1: redis: expected a table, as in [redis]"]);
    check("[functions]\na = 'x'", &["cerbas.toml:2:5: functions.a: expected a table, as in [functions.a]"]);
}

#[test]
fn a_byte_order_mark_is_no_character() {
    check(
        "\u{feff}x = 1",
        &["cerbas.toml:1:1: x: unknown key, known are redis, server, auth, queues, functions, cron, http, proxy"],
    );
}

#[test]
fn no_password_is_shown() {
    #[track_caller]
    fn check(url: &str, shown: &str) {
        let config = RedisConfig { url: url.to_owned(), password: Some("secret".to_owned()), ..RedisConfig::default() };
        assert_eq!(config.shown_url(), shown);
        let debug = format!("{config:?}");
        assert!(!debug.contains("secret"), "{debug}");
    }
    check("redis://user:secret@host:1/2", "redis://host:1/2");
    check("redis://:a/secret?@host", "redis://host");
    check("unix:///run/a@b.sock?db=1&pass=secret", "unix:///run/a@b.sock");
    check("secret", "an unreadable URL");
}
