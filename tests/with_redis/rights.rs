//! Rights that a daemon lacks in Redis are found when it starts, and named.

use std::time::Duration;

use cerbas::broker::{Presence, RedisBroker, RedisOptions, Target};
use cerbas::config::Config;
use cerbas::{Client, Server};
use serde_json::json;

use super::options::options;
use super::world::{Foreign, PATIENCE, World, config, eventually, scratch};

/// What a daemon is let do besides what is taken away.
fn allow(admin: &mut Foreign, rules: &[&str]) {
    let _: () = admin.ask(&[&["ACL", "SETUSER", "cerbas", "reset", "on", ">secret"], rules].concat());
}

fn broker(url: &str) -> RedisBroker {
    let target = Target::new(url, Some("cerbas"), Some("secret")).expect("it is a URL");
    RedisBroker::new(RedisOptions { target, ..options(url, "node.1", PATIENCE) })
}

/// What is said to be missing when `rules` hold.
fn missing(admin: &mut Foreign, url: &str, rules: &[&str]) -> String {
    allow(admin, rules);
    let broker = broker(url);
    let _may_be_refused = broker.heartbeat();
    broker.trouble().unwrap_or_default()
}

/// All commands that daemons, clients and this test have used on a Redis in which much was done.
fn used_commands() -> Vec<String> {
    let world = World::with(scratch(), |config| {
        let text = "[functions.one]\nbuiltin = \"echo\"\ncluster_concurrency = 1\n[functions.once]\nbuiltin = \"echo\"\n\
                    delivery = \"at-most-once\"\n[functions.single]\nbuiltin = \"echo\"\nunique = \"replace\"\n\
                    [functions.again]\nbuiltin = \"witherror\"\nretries = 1\nbackoff = \"1ms\"\n";
        let nothing: [(&str, &str); 0] = [];
        let further = Config::from_text(text, "cerbas.toml", nothing).expect("it is well configured");
        config.functions.extend(further.functions);
        config.server.lease = Duration::from_secs(1);
        config.queues.insert("further".to_owned(), cerbas::config::QueueConfig { priority: 1, max_length: Some(5) });
    });
    let mut foreign = world.foreign();
    let asked = foreign.send_mixed(0..40);
    foreign.check_answered(&asked);
    for func in ["one", "once", "single", "again"] {
        for number in 0..3 {
            foreign.send(&format!("{func}-{number}"), json!({"func": func, "args": {"message": 1}, "delay": number}));
        }
        (0..3).for_each(|number| drop(foreign.answer(&format!("{func}-{number}"))));
    }
    let mut client = Client::connect(&world.redis.url()).expect("Redis is there").delay(PATIENCE * 9);
    let id = client.send("hello", json!({})).expect("it is sent");
    assert!(client.cancel(&id).expect("it is found"));
    world.check_all_settled();
    let beats = |foreign: &mut Foreign| -> f64 {
        let node = foreign.ask::<Vec<String>>(&["ZRANGE", "CERBAS-NODES", "0", "0"]).remove(0);
        foreign.ask(&["ZSCORE", "CERBAS-NODES", &node])
    };
    let before = beats(&mut foreign);
    eventually("its lease was renewed", || beats(&mut foreign) > before);
    let stats: String = foreign.ask(&["INFO", "commandstats"]);
    let name = |line: &str| Some(line.strip_prefix("cmdstat_")?.split(':').next()?.to_owned());
    stats.lines().filter_map(name).collect()
}

#[test]
fn each_command_that_is_used_is_named_where_it_is_forbidden_or_not_needed() {
    let commands = used_commands();
    assert!(commands.len() > 40, "{commands:?}");
    let redis = scratch();
    let mut admin = Foreign::connect(&redis.url());
    let (mut named, mut others) = (0, Vec::new());
    for command in &commands {
        let rule = format!("-{command}");
        let trouble = missing(&mut admin, &redis.url(), &["~*", "&*", "+@all", &rule]);
        match trouble.contains(&format!("+{command}")) || trouble.contains(&format!("'{command}'")) {
            true => named += 1,
            false => others.push(command.clone()),
        }
    }
    assert!(named > 40, "{named} are named, and not {others:?}");
    for command in others {
        let rule = format!("-{command}");
        allow(&mut admin, &["~*", "&*", "+@all", &rule]);
        let mut config = config(&redis.url());
        (config.redis.username, config.redis.password) = (Some("cerbas".to_owned()), Some("secret".to_owned()));
        match Server::new(config).start() {
            // It says so before anything else.
            Err(error) => assert!(error.to_string().to_lowercase().contains("perm"), "{command}: {error}"),
            Ok(daemon) => {
                let asked = admin.send_mixed(0..20);
                admin.check_answered(&asked);
                daemon.stop();
            }
        }
    }
}

#[test]
fn keys_and_channels_that_are_closed_are_named_too() {
    let redis = scratch();
    let mut admin = Foreign::connect(&redis.url());
    let all = [
        "~CERBAS*",
        "&CERBAS*",
        "&MSGPACK:CERBAS*",
        "+@all",
        "-@admin",
        "-@dangerous",
        "+info",
        "+role",
        "+client|unblock",
    ];
    assert_eq!(missing(&mut admin, &redis.url(), &all), "");
    let other_keys = missing(&mut admin, &redis.url(), &["~OTHER*", "&*", "+@all"]);
    assert!(other_keys.contains("ACL SETUSER cerbas ~CERBAS[-_]*"), "{other_keys}");
    let one_channel = missing(&mut admin, &redis.url(), &["~*", "resetchannels", "&CERBAS*", "+@all"]);
    assert!(one_channel.ends_with("ACL SETUSER cerbas &MSGPACK:CERBAS-RESPONSE-1-*"), "{one_channel}");
    let nothing = missing(&mut admin, &redis.url(), &["~*", "&*", "-@all", "+auth", "+hello", "+client", "+select"]);
    assert!(
        nothing.contains(" +lmove ") && nothing.contains(" +multi ") && nothing.contains(" +evalsha "),
        "{nothing}"
    );
    assert_eq!(admin.keys("*PROBE*"), [""; 0], "nothing is left of what was tried");
}
