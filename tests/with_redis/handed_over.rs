//! What cron has sent stays cron's while it goes from one daemon to another: for the one that it names, for its next run, when a place is free,
//! and when its daemon ends.

use std::fs;
use std::path::{Path, PathBuf};
use std::thread;
use std::time::{Duration, Instant};

use cerbas::broker::ScratchRedis;
use cerbas::functions::Retries;
use cerbas::{Call, Config, Running, Server, Terms};
use serde_json::{Value, json};

use super::world::{Foreign, PATIENCE, config, eventually, new_id, scratch};

/// `there` names a daemon, `failing` runs three times, of `queued` two are due while one goes on, `long` goes on until the test lets it end.
const CRONTAB: &str = "\
#: name=there
@every 1s | {\"func\": \"echo\", \"args\": {\"message\": \"m\"}, \"node\": \"two\"}
#: name=failing retries=2 overlap=parallel
@every 1s | {\"func\": \"failing\"}
#: name=queued overlap=queue
@every 1s | {\"func\": \"slow\"}
#: name=long
@every 1s | {\"func\": \"long\"}
";

fn daemon(redis: &ScratchRedis, name: &str, folder: &Path) -> Running {
    let mut config = config(&redis.url());
    config.server.name = Some(name.to_owned());
    config.server.workers = 16;
    config.server.lease = Duration::from_secs(1);
    config.server.shutdown_timeout = Duration::ZERO;
    config.server.state_dir = folder.join(name);
    let text = format!("[cron]\nfile = \"{}/CRONTAB\"\n", folder.display());
    let nothing: [(&str, &str); 0] = [];
    config.cron = Config::from_text(&text, "cerbas.toml", nothing).expect("it is a configuration").cron;
    let retries = Retries { backoff: Duration::from_millis(10), ..Retries::default() };
    let failing = Terms { retries, ..Terms::default() };
    let (seconds, patient) = (Duration::from_millis(1500), Terms { timeout: PATIENCE, ..Terms::default() });
    let may_end = folder.join("go");
    let held = move |call: &Call, _: Value| {
        let until = Instant::now() + PATIENCE;
        while !call.is_cancelled() && !may_end.exists() && Instant::now() < until {
            thread::sleep(Duration::from_millis(5));
        }
        Ok(())
    };
    Server::new(config)
        .function_with("failing", failing, |_: &Call, _: Value| -> Result<(), _> { Err("it fails".into()) })
        .function_with("slow", patient.clone(), move |_: &Call, _: Value| {
            thread::sleep(seconds);
            Ok(())
        })
        .function_with("long", patient, held)
        .start()
        .expect("the daemon starts")
}

/// The records of the runs of an entry.
fn runs(foreign: &mut Foreign, name: &str) -> Vec<Value> {
    let runs: Vec<String> = foreign.ask(&["HVALS", &format!("CERBAS-CRON-RUNS-{name}")]);
    runs.iter().map(|run| serde_json::from_str(run).expect("a record is JSON")).collect()
}

fn count(foreign: &mut Foreign, name: &str, fits: impl Fn(&Value) -> bool) -> usize {
    runs(foreign, name).iter().filter(|run| fits(run)).count()
}

#[test]
fn what_cron_has_sent_stays_cron_s_on_its_way_between_daemons() {
    let folder: PathBuf = std::env::temp_dir().join(format!("cerbas-handed-{}", new_id()));
    fs::create_dir(&folder).expect("a new folder can be made");
    fs::write(folder.join("CRONTAB"), CRONTAB).expect("a file can be written");
    let redis = scratch();
    let mut foreign = Foreign::connect(&redis.url());
    let [one, two, three] = ["one", "two", "three"].map(|name| daemon(&redis, name, &folder));

    eventually("runs are done where they are to be", || {
        count(&mut foreign, "there", |run| run["verdict"] == "ok" && run["output"] == "m") >= 4
    });
    let there: Vec<Value> = runs(&mut foreign, "there").into_iter().filter(|run| run["verdict"] == "ok").collect();
    assert!(there.iter().all(|run| run["node"] == there[0]["node"]), "one daemon has done them all: {there:?}");
    eventually("failures are tried again", || {
        count(&mut foreign, "failing", |run| run["attempts"] == 3 && run["output"] == "it fails") >= 3
    });
    eventually("those that wait for a place run", || count(&mut foreign, "queued", |run| run["verdict"] == "ok") >= 3);

    // The daemon that runs it ends, and another runs it.
    let long = |foreign: &mut Foreign| -> Vec<Value> {
        runs(foreign, "long").into_iter().filter(|run| run["outcome"] == "waiting").collect()
    };
    eventually("the long one goes on", || long(&mut foreign).len() == 1);
    let instant = long(&mut foreign)[0]["instant"].as_str().expect("it has one").to_owned();
    for daemon in [one, three] {
        daemon.stop();
    }
    fs::write(folder.join("go"), "").expect("a file can be written");
    eventually("it has its verdict", || {
        let record: String = foreign.ask(&["HGET", "CERBAS-CRON-RUNS-long", &instant]);
        record.contains("\"verdict\":\"ok\"")
    });
    drop(two);
    for name in ["there", "failing", "queued", "long"] {
        let refused = json!("cerbas authorization - only cron may send this");
        assert_eq!(count(&mut foreign, name, |run| run["output"] == refused), 0, "{name}");
        let rejected = count(&mut foreign, name, |run| run["verdict"] == "rejected" && run["outcome"] == "ran");
        assert_eq!(rejected, 0, "{name}: {:?}", runs(&mut foreign, name));
    }
    fs::remove_dir_all(folder).expect("it is ours");
}
