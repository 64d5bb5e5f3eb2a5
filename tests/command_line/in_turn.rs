//! Several instants of one entry that are due at one moment: all of them run, one after the other, whatever its overlap says.

use std::fs;

use redis::Commands;
use serde_json::{Value, json};

use super::crontab::history;
use super::program::{Place, eventually};

const HOUR: u64 = 60 * 60 * 1000;

fn now() -> u64 {
    let now = std::time::SystemTime::now().duration_since(std::time::UNIX_EPOCH).expect("it is after 1970");
    now.as_millis() as u64
}

/// What was known of `name` when nobody was there any more, from `since` on.
fn leave(place: &Place, name: &str, schedule: &str, since: u64, has_redis: bool) {
    let mark = json!({"schedule": schedule, "since": since, "seen": since});
    if has_redis {
        let mut redis = place.connect();
        redis.hset::<_, _, _, ()>("CERBAS-CRON-ENTRIES", name, mark.to_string()).expect("Redis is there");
    } else {
        fs::create_dir_all(place.path("state")).expect("a folder can be made");
        let journal = place.path("state/store.jsonl");
        let before = fs::read_to_string(&journal).unwrap_or_default();
        fs::write(journal, format!("{before}{}\n", json!([{"key": "CRON-ENTRIES", "set": {name: mark.to_string()}}])))
            .expect("it is ours");
    }
}

/// All that `catchup=all` makes up for has run, and no two at once.
fn check_caught_up(has_redis: bool) {
    let config = "[functions.shout]\ncommand = [\"sh\", \"-c\", \"JOB\"]\ncluster_concurrency = 3\n[cron]\n";
    let place = if has_redis { Place::with_server("", "") } else { Place::empty() };
    let job = |name: &str| {
        let here = place.path("").display().to_string();
        format!("echo + >> {here}{name}; sleep 0.02; echo - >> {here}{name}")
    };
    let config = config.replace("JOB", &job("request"));
    match has_redis {
        true => place.configure("", &config),
        false => place.write("cerbas.toml", &format!("[redis]\nserver = \"none\"\n{config}")),
    }
    let overlaps = ["skip", "queue", "replace", "parallel"];
    let mut crontab: String = overlaps
        .map(|name| format!("#: name={name} overlap={name} catchup=all tz=UTC\n@every 1h {}\n", job(name)))
        .concat();
    crontab += "#: name=request catchup=all tz=UTC\n@every 1h | {\"func\": \"shout\"}\n";
    crontab += "#: name=unique catchup=all tz=UTC\n@every 1h | {\"func\": \"shout\", \"unique\": \"mine\"}\n";
    let names = overlaps.iter().chain(&["request", "unique"]);
    place.write("CRONTAB", &crontab);
    for name in names.clone() {
        leave(&place, name, "@every 1h UTC", now() - 12 * HOUR, has_redis);
    }
    let _daemon = place.daemon();
    for name in names {
        let has_ended = |run: &Value| run["outcome"] != "waiting";
        eventually("all have ended", || {
            let runs = history(&place, name);
            runs.len() >= 12 && runs.iter().all(has_ended)
        });
        let runs = history(&place, name);
        // The last hour may have begun just now.
        assert!((12..=13).contains(&runs.len()), "{name}: {runs:?}");
        assert!(runs.iter().all(|run| (&run["outcome"], &run["verdict"]) == (&json!("ran"), &json!("ok"))), "{runs:?}");
        let mut started: Vec<(u64, &str)> =
            runs.iter().filter_map(|run| Some((run["started"].as_u64()?, run["instant"].as_str()?))).collect();
        let all = started.len();
        started.sort_unstable();
        let instants: Vec<&str> = started.iter().map(|(_, instant)| *instant).collect();
        if *name != "parallel" {
            assert!(instants.is_sorted() && all == runs.len(), "{name}: not in their order: {instants:?}");
        }
        if ["skip", "queue", "replace"].contains(name) {
            let out = fs::read_to_string(place.path(name)).expect("they have run");
            assert_eq!(out, "+\n-\n".repeat(runs.len()), "{name}: two ran at once");
        }
    }
}

#[test]
fn what_catchup_makes_up_for_runs_one_after_the_other_without_redis() {
    check_caught_up(false);
}

#[test]
fn what_catchup_makes_up_for_runs_one_after_the_other_with_redis() {
    check_caught_up(true);
}

/// One of them waits for its turn, is found there, and can be cancelled there.
#[test]
fn what_waits_for_its_turn_is_seen_and_can_be_cancelled() {
    let place = Place::with_server("", "[cron]\n");
    let here = place.path("").display().to_string();
    let job = format!("echo + >> {here}out; while [ -e {here}CRONTAB ] && [ ! -e {here}go ]; do sleep 0.02; done");
    place.write("CRONTAB", &format!("#: name=a catchup=all tz=UTC\n@every 1h {job}\n"));
    leave(&place, "a", "@every 1h UTC", now() - 3 * HOUR, true);
    let _daemon = place.daemon();
    let behind = || -> Vec<Value> {
        let list = place.run(&["jobs", "list", "--state", "behind", "--json"]);
        serde_json::from_str(&list.stdout).expect("it is JSON")
    };
    eventually("two wait", || behind().len() >= 2);
    let waiting = behind();
    let id = waiting.last().and_then(|job| job["id"].as_str()).expect("it has an id");
    let why = place.run(&["why", id]);
    assert!(why.stdout.contains("waits until the run before it has ended"), "{why:?}");
    assert_eq!(place.run(&["jobs", "cancel", id]).status, Some(0));
    assert_eq!(behind().len(), waiting.len() - 1);
    place.write("go", "");
    eventually("the others run", || {
        fs::read_to_string(place.path("out")).unwrap_or_default().lines().count() == waiting.len()
    });
}

#[test]
fn the_turn_goes_on_where_the_daemon_dies_that_had_it() {
    let place = Place::with_server("lease = \"1s\"", "[cron]\n");
    let here = place.path("").display().to_string();
    let job = format!("echo + >> {here}out; while [ -e {here}CRONTAB ] && [ ! -e {here}go ]; do sleep 0.02; done");
    place.write("CRONTAB", &format!("#: name=a catchup=all retries=1 tz=UTC\n@every 1h {job}\n"));
    leave(&place, "a", "@every 1h UTC", now() - 5 * HOUR, true);
    let mut first = place.daemon();
    let started = || fs::read_to_string(place.path("out")).unwrap_or_default().lines().count();
    eventually("the first one runs", || started() == 1);
    let _second = place.daemon();
    first.signal(rustix::process::Signal::KILL);
    first.wait();
    eventually("another daemon runs it again", || started() == 2);
    place.write("go", "");
    eventually("all have run", || {
        let runs = history(&place, "a");
        runs.len() >= 5 && runs.iter().all(|run| run["verdict"] == "ok")
    });
    assert_eq!(started(), history(&place, "a").len() + 1);
}
