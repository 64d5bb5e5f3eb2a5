//! Crontabs that run: each instant once, with one verdict, whatever happens meanwhile.

use std::collections::HashSet;
use std::fs;
use std::os::unix::fs::{PermissionsExt, symlink};

use redis::Commands;
use rustix::process::Signal;
use serde_json::{Value, json};

use super::program::{Daemon, Output, Place, eventually, is_root};

/// A place without Redis, with this crontab and these further lines in `[cron]`.
pub(super) fn alone(crontab: &str, cron: &str) -> Place {
    let place = Place::empty();
    place.write("CRONTAB", crontab);
    place.write("cerbas.toml", &format!("[redis]\nserver = \"none\"\n[server]\nworkers = 4\n[cron]\n{cron}\n"));
    place
}

/// A place with a Redis, with this crontab.
fn shared(server: &str, crontab: &str) -> Place {
    let place = Place::with_server(server, "[functions.hello]\nbuiltin = \"hello\"\n[cron]\n");
    place.write("CRONTAB", crontab);
    place
}

/// The runs of an entry that are on record, the oldest first.
#[track_caller]
pub(super) fn history(place: &Place, name: &str) -> Vec<Value> {
    let output = place.run(&["cron", "history", name, "-n", "1000", "--json"]);
    assert_eq!((output.status, &*output.stderr), (Some(0), ""));
    serde_json::from_str(&output.stdout).expect("it is JSON")
}

/// How many runs of an entry became `outcome`.
#[track_caller]
fn count(place: &Place, name: &str, outcome: &str) -> usize {
    history(place, name).iter().filter(|run| run["outcome"] == outcome).count()
}

#[track_caller]
pub(super) fn eventually_count(place: &Place, name: &str, outcome: &str, least: usize) {
    eventually(&format!("{least} runs of {name} are {outcome}"), || count(place, name, outcome) >= least);
}

pub(super) fn lines(place: &Place, name: &str) -> Vec<String> {
    fs::read_to_string(place.path(name)).unwrap_or_default().lines().map(str::to_owned).collect()
}

#[track_caller]
fn stop(daemon: &mut Daemon) {
    daemon.signal(Signal::TERM);
    assert!(daemon.wait().code().is_some(), "{}", daemon.log());
}

#[test]
fn a_crontab_is_run_as_cron_would_run_it() {
    let crontab = "\
# a crontab as there are many\r
MAILTO=\"\"\r
PATH = /opt/things:/usr/bin:/bin\r
GREETING='good day'\r
\r
@every 1s  cd HERE && { echo \"$GREETING $PATH $SHELL $LOGNAME\"; cat; } >> out%line one%line \\% two\r
@every 1s  cd HERE && pwd -P > home && env | cut -d= -f1 | sort > names";
    let place = Place::empty();
    let here = place.path("").display().to_string();
    place.write("CRONTAB", &crontab.replace("HERE", &here));
    place.write("cerbas.toml", "[redis]\nserver = \"none\"\n[cron]\n");
    place.check(&["check"], 0, "cerbas.toml: good, 0 functions, 2 cron entries\n", "");
    let _daemon = place.daemon();
    eventually("both have run", || lines(&place, "out").len() >= 3 && lines(&place, "names").len() >= 5);
    let out = lines(&place, "out");
    let user = std::process::Command::new("id").arg("-un").output().expect("there is id").stdout;
    let user = String::from_utf8_lossy(&user).trim().to_owned();
    assert_eq!(
        out[..3],
        [format!("good day /opt/things:/usr/bin:/bin /bin/sh {user}"), "line one".into(), "line % two".into()]
    );
    let names: HashSet<String> = lines(&place, "names").into_iter().collect();
    let expected = ["GREETING", "HOME", "LOGNAME", "MAILTO", "PATH", "SHELL"];
    assert!(expected.iter().all(|name| names.contains(*name)), "{names:?}");
    assert!(!names.iter().any(|name| name.starts_with("CERBAS") || name == "TMPDIR"), "{names:?}");
}

#[test]
fn each_instant_has_one_verdict_also_those_for_which_the_last_run_left_no_room() {
    let job = "touch started-NAME; echo run >> NAME; while [ -e CRONTAB ] && [ ! -e go ]; do sleep 0.02; done";
    let crontab: String = ["skip", "queue", "parallel"]
        .map(|name| format!("#: name={name} overlap={name}\n@every 1s cd HERE && {}\n", job.replace("NAME", name)))
        .concat();
    let place = Place::empty();
    place.write("CRONTAB", &crontab.replace("HERE", &place.path("").display().to_string()));
    place.write("cerbas.toml", "[redis]\nserver = \"none\"\n[cron]\n");
    let mut daemon = place.daemon();
    eventually_count(&place, "skip", "skipped-overlap", 2);
    eventually_count(&place, "queue", "skipped-overlap", 2);
    assert_eq!((lines(&place, "skip").len(), lines(&place, "queue").len()), (1, 1));
    // One runs, and one waits.
    assert_eq!((count(&place, "skip", "waiting"), count(&place, "queue", "waiting")), (1, 2));
    eventually("several run beside each other", || lines(&place, "parallel").len() >= 3);
    assert_eq!(count(&place, "parallel", "skipped-overlap"), 0);
    place.write("go", "");
    eventually_count(&place, "queue", "ran", 2);
    stop(&mut daemon);
    for name in ["skip", "queue", "parallel"] {
        let runs = history(&place, name);
        let instants: HashSet<&str> = runs.iter().filter_map(|run| run["instant"].as_str()).collect();
        assert_eq!(instants.len(), runs.len(), "an instant stands there twice: {runs:?}");
        let ran = runs.iter().filter(|run| run["outcome"] == "ran").count();
        assert_eq!(ran, lines(&place, name).len(), "{name}: {runs:?}");
        assert!(runs.iter().all(|run| run["outcome"] != "waiting"), "{name}: {runs:?}");
    }
}

#[test]
fn a_run_that_is_replaced_is_cancelled() {
    let place = Place::empty();
    let here = place.path("").display().to_string();
    let job = format!("cd {here} && echo run >> out && while [ -e CRONTAB ] && [ ! -e go ]; do sleep 0.02; done");
    place.write("CRONTAB", &format!("#: name=a overlap=replace\n@every 1s {job}\n"));
    place.write("cerbas.toml", "[redis]\nserver = \"none\"\n[cron]\n");
    let _daemon = place.daemon();
    let is_cancelled = |run: &Value| run["verdict"] == "cancelled";
    eventually("two were replaced", || history(&place, "a").iter().filter(|run| is_cancelled(run)).count() >= 2);
    assert!(lines(&place, "out").len() >= 2);
}

#[test]
fn what_follows_on_a_run_is_as_much_of_cron_as_the_run_with_redis_and_without() {
    let crontab = "\
MAILTO=ops@example.org
#: name=flaky retries=1 on_failure='touch HERE/followed'
0 0 1 1 * echo run >> HERE/out; exit 3
#: name=told retries=1 on_failure='{\"func\": \"note\", \"source\": \"crontab\"}'
0 0 1 1 * | {\"func\": \"witherror\", \"source\": \"crontab\"}
";
    let functions = "\
[auth]
sources = [\"crontab\"]
[functions.witherror]
builtin = \"witherror\"
backoff = \"10ms\"
[functions.note]
command = [\"touch\", \"other\"]
[cron]
sendmail = \"sendmail\"
";
    for (place, is_shared) in [(Place::empty(), false), (Place::with(""), true)] {
        match is_shared {
            true => place.configure("", functions),
            false => place.write("cerbas.toml", &format!("[redis]\nserver = \"none\"\n{functions}")),
        }
        let here = place.path("").display().to_string();
        place.write("sendmail", &format!("#!/bin/sh\ncat > {here}/mailed\nmv {here}/mailed {here}/mail\n"));
        fs::set_permissions(place.path("sendmail"), fs::Permissions::from_mode(0o755)).expect("it is ours");
        place.write("CRONTAB", &crontab.replace("HERE", &here));
        let daemon = is_shared.then(|| place.daemon());
        eventually("a daemon can be told to", || daemon.is_none() || place.run(&["nodes"]).status == Some(0));
        for name in ["flaky", "told"] {
            let output = place.run(&["cron", "run", name]);
            assert_ne!(output.status, Some(0), "{output:?}");
        }
        assert_eq!(lines(&place, "out"), ["run", "run"], "it was tried again");
        for name in ["followed", "mail", "other"] {
            eventually(name, || place.path(name).exists());
        }
        let attempts = |name: &str| history(&place, name)[0]["attempts"].clone();
        assert_eq!((attempts("flaky"), attempts("told")), (2.into(), 2.into()));
    }
}

#[test]
fn an_operator_can_try_again_what_cron_has_sent_and_not_what_only_said_so() {
    let place = shared("lease = \"1s\"", "");
    let here = place.path("").display().to_string();
    place.write(
        "CRONTAB",
        &["genuine", "forged"].map(|name| format!("#: name={name}\n0 0 1 1 * touch {here}/{name}\n")).concat(),
    );
    let _daemon = place.daemon();
    for (id, verdict) in [("genuine", "lost"), ("forged", "rejected")] {
        let request = serde_json::json!({"id": id, "func": format!("cron/{id}")});
        let letter = serde_json::json!({"at": 1, "id": id, "verdict": verdict, "message": "", "request": request});
        let _: i64 = place.connect().zadd("CERBAS-DEAD", letter.to_string(), u32::MAX).expect("Redis is there");
        place.check(&["dead", "retry", id], 0, &format!("{id}: sent again\n"), "");
    }
    let answer =
        |id: &str| -> Option<String> { place.connect().get(format!("CERBAS-RESULT-{id}")).expect("Redis is there") };
    eventually("both have ended", || ["genuine", "forged"].iter().all(|id| answer(id).is_some()));
    assert!(place.path("genuine").exists() && !place.path("forged").exists());
    assert!(answer("forged").expect("it has one").contains("only cron may send this"));
}

#[test]
fn a_crontab_that_changes_is_read_again_and_a_broken_line_costs_itself_only() {
    let entry = |name: &str| format!("#: name={name}\n@every 1s echo {name}\n");
    let place = alone(&entry("first"), "");
    let daemon = place.daemon();
    place.write("CRONTAB", &format!("{}{}", entry("first"), entry("second")));
    daemon.wait_for("2 entries; added second");
    eventually_count(&place, "second", "ran", 1);

    place.write("CRONTAB", &format!("{}61 * * * * echo\n", entry("third")));
    daemon.wait_for("CRONTAB:3:1: minute: 61 is not from 0 to 59; all else runs");
    daemon.wait_for("1 entries; added third; removed first, second");
    eventually_count(&place, "third", "ran", 1);

    // As editors and packages do it.
    place.write("CRONTAB.new", &entry("mended"));
    fs::rename(place.path("CRONTAB.new"), place.path("CRONTAB")).expect("it can be replaced");
    daemon.wait_for("1 entries; added mended; removed third");
    fs::remove_file(place.path("CRONTAB")).expect("it can be removed");
    daemon.wait_for("CRONTAB is not there, so it has no entries");
    daemon.wait_for("0 entries; removed mended");
    place.write("CRONTAB", &entry("again"));
    daemon.wait_for("1 entries; added again");

    // As a ConfigMap is replaced.
    for version in ["fourth", "fifth"] {
        fs::create_dir(place.path(version)).expect("a folder can be made");
        place.write(&format!("{version}/CRONTAB"), &entry(version));
    }
    symlink("fourth", place.path("data")).expect("a link can be made");
    symlink("data/CRONTAB", place.path("link")).expect("a link can be made");
    fs::rename(place.path("link"), place.path("CRONTAB")).expect("it can be replaced");
    daemon.wait_for("added fourth; removed again");
    symlink("fifth", place.path("fresh")).expect("a link can be made");
    fs::rename(place.path("fresh"), place.path("data")).expect("it can be replaced");
    daemon.wait_for("added fifth; removed fourth");

    place.write("cerbas.toml", "[redis]\nserver = \"none\"\n[cron]\nfile = \"fourth/CRONTAB\"\n");
    daemon.signal(Signal::HUP);
    daemon.wait_for("added fourth; removed fifth");
}

#[test]
fn an_entry_can_be_paused_and_run_by_hand() {
    let place = alone("#: name=tick\n@every 1s echo tick; exit 4\n", "");
    let _daemon = place.daemon();
    eventually_count(&place, "tick", "ran", 1);
    place.check(&["cron", "pause", "tick"], 0, "tick: is paused from now on\n", "");
    place.check(&["cron", "pause", "tick"], 0, "tick: was paused already\n", "");
    eventually_count(&place, "tick", "disabled", 2);
    assert!(place.run(&["cron", "list"]).stdout.contains("tick (paused)"));
    let by_hand = place.run(&["cron", "run", "tick"]);
    assert_eq!(by_hand.status, Some(1), "{by_hand:?}");
    assert!(
        by_hand.stdout.contains("ended with error") && by_hand.stdout.ends_with("  exit status 4\n  tick\n"),
        "{by_hand:?}"
    );
    let before = count(&place, "tick", "ran");
    place.check(&["cron", "resume", "tick"], 0, "tick: is not paused from now on\n", "");
    eventually_count(&place, "tick", "ran", before + 1);
    for arguments in [["cron", "pause", "tock"], ["cron", "run", "tock"]] {
        place.check_fails(&arguments, 1, &["no entry is called \"tock\""]);
    }
}

#[test]
fn what_was_missed_while_nobody_was_there_is_on_record_and_made_up_for_by_policy() {
    let crontab = "#: name=skip tz=UTC\n0 * * * * echo skip\n#: name=once tz=UTC catchup=once\n0 * * * * echo once\n";
    let place = alone(crontab, "");
    let hours_ago = |hours: u64| {
        let now = std::time::SystemTime::now().duration_since(std::time::UNIX_EPOCH).expect("it is after 1970");
        now.as_millis() as u64 / 3_600_000 * 3_600_000 - hours * 3_600_000
    };
    fs::create_dir(place.path("state")).expect("a folder can be made");
    let mark = |name: &str| {
        let mark = format!("{{\"schedule\":\"0 * * * * UTC\",\"since\":{0},\"seen\":{0}}}", hours_ago(3) + 1);
        format!("{}\n", json!([{"key": "CRON-ENTRIES", "set": {name: mark}}]))
    };
    // The end of a crash.
    place.write("state/store.jsonl", &format!("{}{}[{{\"key\":\"CR", mark("skip"), mark("once")));
    let mut daemon = place.daemon();
    eventually_count(&place, "once", "ran", 1);
    let skipped = history(&place, "skip");
    let outcomes: Vec<&Value> = skipped.iter().map(|run| &run["outcome"]).collect();
    // If the hour has just begun its instant is not missed, but late.
    assert!(outcomes.len() == 3 && outcomes[..2].iter().all(|outcome| **outcome == "missed-down"), "{skipped:?}");
    let made_up = history(&place, "once").pop().expect("it is on record");
    assert_eq!((&made_up["verdict"], &made_up["output"]), (&"ok".into(), &"once".into()));
    assert_eq!(made_up["at"], hours_ago(0));
    let local = skipped[0]["local"].as_str().expect("it is a text").to_owned();
    let why = place.run(&["why", &format!("skip@{local}")]);
    assert!(why.stdout.contains("missed-down: no daemon was there"), "{why:?}");
    stop(&mut daemon);
    // Nothing is missed twice.
    let _daemon = place.daemon();
    eventually("it is ready", || place.run(&["cron", "history"]).status == Some(0));
    assert_eq!(history(&place, "skip").len(), skipped.len());
}

#[test]
fn what_runs_after_a_start_of_the_machine_does_not_run_after_one_of_the_daemon_nor_when_it_is_written() {
    let place = Place::empty();
    // The daemon was here before the last start of the machine.
    fs::create_dir(place.path("state")).expect("a folder can be made");
    place.write("state/cron.boot", "another one\n");
    let here = place.path("").display().to_string();
    place.write("CRONTAB", &format!("#: name=boot\n@reboot echo up >> {here}/up\n#: name=tick\n@every 1s true\n"));
    place.write("cerbas.toml", "[redis]\nserver = \"none\"\n[cron]\n");
    for start in 1..=2 {
        let mut daemon = place.daemon();
        let before = count(&place, "tick", "ran");
        eventually_count(&place, "tick", "ran", before + 1);
        eventually("it has run", || lines(&place, "up").len() == 1);
        stop(&mut daemon);
        assert_eq!(history(&place, "boot").len(), 1, "after start {start}");
    }
    let daemon = place.daemon();
    let crontab = fs::read_to_string(place.path("CRONTAB")).expect("it is there");
    let edited = crontab.replace("name=boot", "name=server").replace("echo up", "echo up -v");
    place.write("CRONTAB", &format!("{edited}#: name=again\n@every 1s true\n@reboot echo up >> {here}/up\n"));
    daemon.wait_for("added server");
    eventually_count(&place, "again", "ran", 1);
    assert_eq!((lines(&place, "up"), history(&place, "server").len()), (vec!["up".to_owned()], 0));
}

#[test]
fn a_job_that_was_cut_off_by_a_crash_is_lost_and_on_record() {
    let place = Place::empty();
    let here = place.path("").display().to_string();
    place.write(
        "CRONTAB",
        &format!("#: name=long\n@every 1s cd {here}; touch started; while [ -e CRONTAB ]; do sleep 0.05; done\n"),
    );
    place.write("cerbas.toml", "[redis]\nserver = \"none\"\n[cron]\n");
    let mut daemon = place.daemon();
    eventually("it runs", || place.path("started").exists());
    let started = history(&place, "long");
    assert_eq!(started[0]["outcome"], "waiting");
    daemon.signal(Signal::KILL);
    daemon.wait();
    let _daemon = place.daemon();
    eventually("it is lost", || history(&place, "long")[0]["verdict"] == "lost");
}

#[test]
fn two_daemons_without_redis_do_not_share_their_records() {
    let place = alone("@every 1s true\n", "");
    let _daemon = place.daemon();
    let second = place.run(&["run"]);
    assert_eq!(second.status, Some(6), "{second:?}");
    assert!(second.stderr.contains("another daemon has its records there"), "{second:?}");
}

#[test]
fn what_is_wrong_with_crontabs_costs_no_other_entry_at_the_start_and_later() {
    let place = alone("", "files = [\"jobs.d\", \"not-there\"]");
    fs::create_dir(place.path("jobs.d")).expect("a folder can be made");
    let entry = |name: &str| format!("#: name={name}\n@every 1s echo {name}\n");
    place.write("jobs.d/good", &entry("good"));
    place.write("jobs.d/half", &format!("* * * * *\n{}61 * * * * echo\n", entry("half")));
    let latin = [b"# T\xe4glich\n".as_slice(), entry("latin").as_bytes(), b"@daily echo \xe4\n"].concat();
    fs::write(place.path("jobs.d/latin"), latin).expect("it can be written");
    place.write("jobs.d/twice", &entry("good"));
    let daemon = place.daemon();
    let faults = [
        "jobs.d/half:1:1: a command is missing",
        "jobs.d/half:4:1: minute: 61 is not from 0 to 59",
        "jobs.d/latin:4:13: expected text in UTF-8",
        "jobs.d/good:2, too",
    ];
    for fault in faults {
        daemon.wait_for(&format!("{fault}; all else runs"));
    }
    daemon.wait_for("not-there is not there, so it has no entries");
    for name in ["good", "half", "latin"] {
        eventually_count(&place, name, "ran", 1);
    }
    let check = place.run(&["check"]);
    assert_eq!((check.status, check.stdout.lines().count()), (Some(1), 5), "{check:?}");
    let list = place.run(&["cron", "list"]);
    assert_eq!((list.status, list.stdout.lines().count(), list.stderr.lines().count()), (Some(1), 4, 5), "{list:?}");
    let lost = place.run(&["cron", "run", "lost"]);
    assert_eq!((lost.status, lost.stderr.lines().count()), (Some(1), 6), "{lost:?}");

    // While all of that is wrong, what is removed stops and what is added starts.
    fs::remove_file(place.path("jobs.d/good")).expect("it can be removed");
    place.write("jobs.d/new", &entry("new"));
    eventually_count(&place, "new", "ran", 1);
    eventually("the name is free", || place.run(&["check"]).stdout.lines().count() == 4);
    let log = daemon.log();
    assert!(!log.contains("removed half") && !log.contains("removed latin"), "{log}");
}

#[test]
fn several_daemons_with_one_crontab_run_each_instant_once() {
    let place = shared("lease = \"1s\"", "");
    let here = place.path("").display().to_string();
    place.write(
        "CRONTAB",
        &format!(
            "#: name=tick\n@every 1s echo run >> {here}/out\n#: name=hello\n@every 1s | {{\"func\": \"hello\"}}\n"
        ),
    );
    let mut daemons = [place.daemon(), place.daemon(), place.daemon()];
    eventually_count(&place, "tick", "ran", 4);
    daemons.iter_mut().for_each(stop);
    let runs = history(&place, "tick");
    assert_eq!(lines(&place, "out").len(), runs.iter().filter(|run| run["verdict"] == "ok").count(), "{runs:?}");
    assert!(history(&place, "hello").iter().any(|run| run["output"] == "hello world!"));
    let at: Vec<u64> = runs.iter().filter_map(|run| run["at"].as_u64()).collect();
    assert!(at.windows(2).all(|pair| pair[1] - pair[0] == 1000), "an instant is missing: {at:?}");
}

#[test]
fn a_broken_crontab_is_seen_in_the_status() {
    let place = shared("lease = \"1s\"", "#: name=tick\n@every 1s true\n");
    let daemon = place.daemon();
    let status = || place.run(&["status", "--no-rates"]).stdout;
    eventually("it is in force", || status().contains("in force\n"));
    place.write("CRONTAB", "61 * * * * echo\n");
    daemon.wait_for("CRONTAB:1:1: minute: 61 is not from 0 to 59; all else runs");
    eventually("it is said", || status().contains("in force but for ") && status().contains("CRONTAB:1:1: minute"));
    place.write("CRONTAB", "#: name=tick\n@every 1s true\n");
    eventually("it is in force again", || status().contains("in force\n"));
}

#[test]
fn the_run_of_a_daemon_that_dies_is_taken_over() {
    let place = shared("lease = \"1s\"", "");
    let here = place.path("").display().to_string();
    let job =
        format!("cd {here} && echo run >> out && while [ -e CRONTAB ] && [ ! -e go ]; do sleep 0.02; done; echo done");
    place.write("CRONTAB", &format!("#: name=long\n@every 1s {job}\n"));
    let mut first = place.daemon();
    eventually("it runs", || lines(&place, "out").len() == 1);
    let _second = place.daemon();
    first.signal(Signal::KILL);
    first.wait();
    eventually("another runs it again", || lines(&place, "out").len() == 2);
    place.write("go", "");
    eventually("it has its verdict", || history(&place, "long")[0]["verdict"] == "ok");
    assert_eq!(history(&place, "long")[0]["output"], "done");
}

#[test]
fn cron_goes_on_while_redis_is_away_and_says_later_what_it_did() {
    let mut place = shared("lease = \"1s\"", "");
    let here = place.path("").display().to_string();
    place.write("CRONTAB", &format!("#: name=tick\n@every 1s echo run >> {here}/out\n"));
    let mut daemon = place.daemon();
    eventually_count(&place, "tick", "ran", 1);
    place.kill_redis();
    let before = lines(&place, "out").len();
    eventually("it goes on", || lines(&place, "out").len() >= before + 3);
    // It has not come back when the daemon ends.
    stop(&mut daemon);
    let ran = lines(&place, "out").len();
    place.revive_redis();
    let _daemon = place.daemon();
    eventually("all is on record", || count(&place, "tick", "ran") >= ran);
}

#[test]
fn jobs_that_take_long_do_not_keep_workers_from_others() {
    let place = shared("shutdown_timeout = \"0s\"", "");
    let here = place.path("").display().to_string();
    let job = format!("cd {here} && echo run >> out && while [ -e CRONTAB ]; do sleep 0.05; done");
    let crontab: String = (0..8).map(|number| format!("#: name=long{number}\n@every 1s {job}\n")).collect();
    place.write("CRONTAB", &crontab);
    let _daemon = place.daemon();
    eventually("more run than there are workers", || lines(&place, "out").len() == 8);
    place.check(&["call", "hello"], 0, "hello world!\n", "");
}

#[test]
fn as_process_1_it_leaves_no_zombie() {
    if !is_root() {
        return;
    }
    let place = Place::empty();
    let here = place.path("").display().to_string();
    let orphan = format!("(sh -c 'sleep 0.01; echo gone >> {here}/gone' &) >/dev/null 2>&1");
    place.write("CRONTAB", &format!("@every 1s {orphan}\n"));
    place.write("cerbas.toml", "[redis]\nserver = \"none\"\n[cron]\n");
    let program = env!("CARGO_BIN_EXE_cerbas");
    let inner = format!("exec {program} run");
    let mut unshare = std::process::Command::new("unshare");
    unshare.args(["--pid", "--fork", "--kill-child", "--mount-proc", "sh", "-c", &inner]);
    let mut child =
        unshare.current_dir(place.path("")).stderr(std::process::Stdio::null()).spawn().expect("it can be run");
    let zombies = || -> usize {
        let is_zombie = |pid: &str| {
            let status = fs::read_to_string(format!("/proc/{pid}/status")).unwrap_or_default();
            status.contains("State:\tZ")
                && status.lines().any(|line| line.starts_with("NSpid:") && line.split_whitespace().count() > 2)
        };
        let processes = fs::read_dir("/proc").expect("there is /proc").flatten();
        processes.filter(|entry| is_zombie(&entry.file_name().to_string_lossy())).count()
    };
    let is_done = std::panic::catch_unwind(|| {
        eventually("orphans have ended", || lines(&place, "gone").len() >= 2);
        eventually("none is a zombie", || zombies() == 0);
    });
    let _already_gone = child.kill();
    let _reaped = child.wait();
    assert!(is_done.is_ok());
}

#[test]
fn an_import_tells_line_by_line_what_would_be_different() {
    let place = Place::empty();
    fs::create_dir(place.path("cron.d")).expect("a folder can be made");
    place.write(
        "cron.d/job",
        "CRON_TZ=Europe/Rome\n17 * * * * root run-parts /etc/cron.hourly\n@reboot nobody-here true",
    );
    place.write("cron.d/broken", "17 25 * * * root true\n#: a remark\n-*/15 * * * * root true\n");
    let output = place.run(&["cron", "import", "--system", "cron.d"]);
    assert_eq!(output.status, Some(1), "{output:?}");
    for part in [
        "cron.d/job:2: 17 * * * *  root: run-parts /etc/cron.hourly\n    fires by the clock of Europe/Rome (CRON_TZ)",
        "user \"nobody-here\": neither /etc/passwd nor getent knows it: each run will fail",
        "the last line has no line break",
        "cron.d/broken:1:4: hour: 25 is not from 0 to 23; this would not run",
        "cron.d/broken:3: */15 * * * *  root: true",
        "an entry does not start while its last run goes on",
        "system_files = [\"",
    ] {
        assert!(output.stdout.contains(part), "no {part:?} in\n{}", output.stdout);
    }
}

#[test]
fn why_tells_of_an_instant_what_became_of_it() {
    let place = alone(
        "#: name=nightly tz=Europe/Rome\n30 2 * * * true\n#: name=quarter tz=Europe/Rome\n*/30 2 * * * true\n",
        "",
    );
    let why = |instant: &str| -> Output { place.run(&["why", instant]) };
    assert!(why("nightly@2027-11-20T02:30").stdout.contains("it is due in "), "{:?}", why("nightly@2027-11-20T02:30"));
    assert!(why("nightly@2025-11-20T02:31").stdout.contains("it was not due then"));
    assert!(why("quarter@2027-03-28T02:30").stdout.contains("dst-shifted: the clock left this time out"));
    let past = why("nightly@2025-11-20T02:30");
    assert_eq!(past.status, Some(1));
    assert!(past.stdout.contains("it was due then"), "{past:?}");
    place.check_fails(&["why", "never@2025-11-20T02:30"], 1, &["no entry is called \"never\""]);
    place.check_fails(&["why", "nightly@soon"], 2, &["expected a time such as"]);
}
