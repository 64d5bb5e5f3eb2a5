//! The sample that everybody starts with.

use super::*;
use crate::functions::House;

const SAMPLE: &str = include_str!("../../../cerbas.toml");

#[test]
fn the_sample_has_all_builtins_and_one_command() {
    let config = read(SAMPLE);
    let builtins = config.functions.values().filter_map(|function| match function.body {
        BodyConfig::Builtin(builtin) => Some(builtin),
        _ => None,
    });
    assert_eq!(builtins.count(), BuiltinFunction::ALL.len());
    assert!(matches!(&config.functions["date"].body, BodyConfig::Command(date) if date.argv == ["date", "-u"]));
    assert_eq!(config.auth.sources, names(&["cli", "cerbastest", "python", "rust", "foo", "bar", "web", "tom"]));
    let open = RedisConfig { open: true, ..RedisConfig::default() };
    assert_eq!((config.auth.users, config.redis), (None, open));
    for (name, function) in &config.functions {
        assert!(functions::check(function).is_empty(), "{name}");
        assert_eq!(build(name, function, House::empty()).name, *name);
    }
}

#[test]
fn the_defaults_in_the_sample_are_the_defaults() {
    let uncommented: Vec<&str> = SAMPLE
        .lines()
        .map(|line| line.strip_prefix('#').filter(|rest| rest.starts_with(char::is_alphabetic)).unwrap_or(line))
        .collect();
    assert_ne!(uncommented, SAMPLE.lines().collect::<Vec<_>>());
    assert_eq!(read(&uncommented.join("\n")), read(SAMPLE));
}

#[test]
fn what_the_sample_only_mentions_can_be_written() {
    let is_example =
        |rest: &str| rest.starts_with('[') || rest.split_once(" = ").is_some_and(|(key, _)| !key.contains(' '));
    let uncommented: Vec<&str> = SAMPLE
        .lines()
        // Its file is not there.
        .filter(|line| !line.starts_with("# password_file") && !line.starts_with("# sentinel_password_file"))
        .map(|line| line.strip_prefix("# ").filter(|rest| is_example(rest)).unwrap_or(line))
        .collect();
    let config = read(&uncommented.join("\n"));
    assert_eq!((config.server.workers, config.functions.len()), (16, 13));
}

#[test]
fn the_sample_runs_hello_every_minute() {
    let folder = std::path::Path::new(env!("CARGO_MANIFEST_DIR"));
    let cron = read(SAMPLE).cron.expect("it has a section [cron]");
    assert!(cron.crontabs.files[0].ends_with("CRONTAB"), "{:?}", cron.crontabs.files);
    let text = std::fs::read_to_string(folder.join("CRONTAB")).expect("it is beside the sample");
    let entries = crate::cron::Table::read(&text, &crate::cron::Reading::default()).entries;
    let [entry] = &entries[..] else { panic!("it has one entry: {entries:?}") };
    let crate::cron::Action::Request(request) = &entry.action else { panic!("it is a request: {entry:?}") };
    assert_eq!((&*entry.text, request.text("func").as_deref()), ("* * * * *", Some("hello")));
}
