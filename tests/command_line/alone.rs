//! A daemon without Redis: it is asked itself, over the socket in its `state_dir`.

use std::fs;
use std::io::{Read, Write};
use std::os::unix::fs::PermissionsExt;
use std::os::unix::net::UnixStream;

use rustix::process::Signal;
use serde_json::{Value, json};

use super::open_calls::Call;
use super::program::{Daemon, Place, eventually, is_root};

const CONFIG: &str = r#"
[redis]
server = "none"
[server]
name = "alone"
workers = 2
[functions.hello]
builtin = "hello"
[functions.waiting]
command = ["sh", "-c", "touch started; while [ -e started ] && [ ! -e go ]; do sleep 0.02; done; echo done"]
timeout = "1m"
[functions.failing]
command = ["sh", "-c", "echo no such table >&2; exit 1"]
[cron]
"#;

/// The entries can be run by hand; one of them waits until there is a file `go`.
const CRONTAB: &str = "#: name=quick\n0 3 1 1 * echo quick\n\
    #: name=slow\n0 3 1 1 * | {\"func\": \"waiting\"}\n\
    #: name=broken on_failure='{\"func\": \"failing\"}'\n0 3 1 1 * false\n";

fn place() -> Place {
    let place = Place::empty();
    place.write("cerbas.toml", CONFIG);
    place.write("CRONTAB", CRONTAB);
    place
}

/// What `cerbas <arguments> --json` prints, and its exit status.
#[track_caller]
fn json_of(place: &Place, arguments: &[&str]) -> (Option<i32>, Value) {
    let output = place.run(&[arguments, &["--json"]].concat());
    assert_eq!(output.stderr, "", "cerbas {arguments:?}");
    (output.status, serde_json::from_str(&output.stdout).expect("it is JSON"))
}

/// Runs the entry `slow`, which goes on until there is a file `go`; gives back the id of its request.
#[track_caller]
fn start_slow(place: &Place) -> String {
    let (status, run) = json_of(place, &["cron", "run", "slow", "--no-wait"]);
    assert_eq!((status, &run["outcome"]), (Some(0), &json!("waiting")));
    eventually("it runs", || place.path("started").exists());
    format!("cron:slow:{}", run["instant"].as_str().expect("it has an instant"))
}

#[test]
fn without_a_daemon_every_command_that_asks_it_says_which_one_and_what_to_do() {
    let place = place();
    let state = place.path("state");
    let expected = format!("no daemon runs with state_dir {}: start it with cerbas run", state.display());
    for arguments in [
        &["status"][..],
        &["nodes"],
        &["top", "-n", "1"],
        &["jobs", "list"],
        &["jobs", "cancel", "a"],
        &["dead", "list"],
        &["dead", "retry", "a"],
        &["dead", "delete", "a"],
        &["why", "a"],
        &["doctor"],
    ] {
        place.check_fails(arguments, 4, &[&expected]);
    }
    assert!(!state.exists(), "who asks makes nothing");
}

#[test]
fn nodes_status_top_and_doctor_ask_the_daemon() {
    let place = place();
    let daemon = place.daemon();
    let (status, nodes) = json_of(&place, &["nodes"]);
    let seen = ["name", "pid", "is_alive", "workers", "holds"].map(|name| nodes[0][name].clone());
    assert_eq!((status, json!(seen)), (Some(0), json!(["alone", daemon.pid(), true, 2, true])));
    let (status, look) = json_of(&place, &["status"]);
    assert_eq!(
        (status, &look["queues"][0]["name"], &look["queues"][0]["length"]),
        (Some(0), &json!("default"), &json!(0))
    );
    assert_eq!((&look["verdicts_are_exact"], &look["per_second"]["ok"]), (&json!(true), &json!(0.0)));
    let top = place.run(&["top", "-n", "1", "--every", "100ms"]);
    assert!(top.status == Some(0) && top.stdout.contains("1 alive") && top.stdout.contains("alone"), "{top:?}");
    assert!(top.stdout.contains("unix:") && top.stdout.contains("inspect.sock"), "{top:?}");
    let doctor = place.run(&["doctor"]);
    assert_eq!((doctor.status, &*doctor.stderr), (Some(0), ""));
    assert!(doctor.stdout.contains("is lost with its daemon") && doctor.stdout.contains("turn"), "{doctor:?}");
}

#[test]
fn a_run_that_is_started_by_hand_is_the_daemons_and_is_listed_explained_and_cancelled() {
    let place = place();
    let daemon = place.daemon();
    let quick = place.run(&["cron", "run", "quick"]);
    assert!(
        quick.status == Some(0) && quick.stdout.contains("ended with ok") && quick.stdout.contains("quick"),
        "{quick:?}"
    );
    assert!(quick.stdout.contains("ran at memory"), "{quick:?}");

    let id = start_slow(&place);
    let (_, jobs) = json_of(&place, &["jobs", "list", "--state", "running"]);
    assert_eq!(
        (&jobs[0]["id"], &jobs[0]["func"], jobs.as_array().map(Vec::len)),
        (&json!(id), &json!("waiting"), Some(1))
    );
    let why = place.run(&["why", &id]);
    assert!(why.status == Some(0) && why.stdout.contains("waiting has been running for"), "{why:?}");
    let cancelled = place.run(&["jobs", "cancel", &id]);
    assert_eq!((cancelled.status, &*cancelled.stderr), (Some(0), ""), "{cancelled:?}");
    eventually("its verdict is on record", || place.run(&["cron", "history", "slow"]).stdout.contains("cancelled"));
    assert_eq!(place.run(&["jobs", "list"]).stdout, "no requests\n");
    assert_eq!(place.run(&["jobs", "cancel", "nobody"]).status, Some(1));
    drop(daemon);
}

#[test]
fn without_a_daemon_an_entry_runs_in_the_program_that_is_told_to() {
    let place = place();
    let quick = place.run(&["cron", "run", "quick"]);
    assert!(quick.status == Some(0) && quick.stdout.contains("ended with ok"), "{quick:?}");
    assert!(!place.path("state/inspect.sock").exists());

    // One that was started without a crontab cannot be told to.
    place.write("cerbas.toml", &CONFIG.replace("[cron]\n", ""));
    let _daemon = place.daemon();
    place.write("cerbas.toml", CONFIG);
    let quick = place.run(&["cron", "run", "quick"]);
    assert!(quick.status == Some(0) && quick.stdout.contains("ended with ok"), "{quick:?}");
}

#[test]
fn what_failed_for_good_is_shown_sent_again_and_deleted() {
    let place = place();
    let _daemon = place.daemon();
    place.check(&["dead", "list"], 0, "the dead list is empty\n", "");
    assert_eq!(place.run(&["cron", "run", "broken"]).status, Some(1));
    let entries = || json_of(&place, &["dead", "list"]).1.as_array().cloned().unwrap_or_default();
    eventually("what follows has failed, too", || entries().len() == 1);
    let name = entries()[0]["name"].as_str().expect("it has a name").to_owned();
    assert!(place.run(&["why", &name]).stdout.contains("no such table"));
    let first_at = entries()[0]["at"].clone();
    place.check(&["dead", "retry", &name], 0, &format!("{name}: sent again\n"), "");
    eventually("it has failed again", || entries().first().is_some_and(|entry| entry["at"] != first_at));
    place.check(&["dead", "delete", &name], 0, &format!("{name}: deleted\n"), "");
    place.check(&["dead", "list"], 0, "the dead list is empty\n", "");
}

#[test]
fn the_socket_is_closed_to_others_goes_with_the_daemon_and_one_that_is_left_is_replaced() {
    let place = place();
    let socket = place.path("state/inspect.sock");
    let mut daemon = place.daemon();
    let mode = fs::symlink_metadata(&socket).expect("it is there").permissions().mode();
    assert_eq!(mode & 0o777, 0o600);
    daemon.signal(Signal::TERM);
    daemon.wait();
    assert!(!socket.exists());

    let mut killed = place.daemon();
    killed.signal(Signal::KILL);
    killed.wait();
    assert!(socket.exists(), "nobody was left to remove it");
    place.check_fails(&["nodes"], 4, &["no daemon runs with state_dir"]);
    let again = place.daemon();
    assert_eq!(json_of(&place, &["nodes"]).1[0]["pid"], again.pid());
}

#[test]
fn a_second_daemon_without_crontabs_leaves_the_socket_to_the_first() {
    let place = Place::empty();
    place.write("cerbas.toml", "[redis]\nserver = \"none\"\n[functions.hello]\nbuiltin = \"hello\"\n");
    let first = place.daemon();
    let second = place.daemon();
    second.wait_for("give each a state_dir of its own");
    let mut second: Daemon = second;
    second.signal(Signal::TERM);
    assert!(second.wait().success());
    assert_eq!(json_of(&place, &["nodes"]).1[0]["pid"], first.pid());
}

#[test]
fn a_client_that_hangs_holds_up_neither_others_nor_the_end() {
    let place = place();
    let mut daemon = place.daemon();
    let mut hanging: Vec<UnixStream> =
        (0..3).map(|_| UnixStream::connect(place.path("state/inspect.sock")).expect("it listens")).collect();
    hanging[0].write_all(b"\"overv").expect("it is read");
    assert_eq!(json_of(&place, &["nodes"]).0, Some(0));
    daemon.signal(Signal::TERM);
    assert!(daemon.wait().success());
    assert_eq!(hanging[0].read(&mut [0; 1]).expect("it is closed"), 0);
}

#[test]
fn calls_over_http_are_counted() {
    let place = place();
    place.write("cerbas.toml", &format!("{CONFIG}[http]\nlisten = [\"127.0.0.1:0\"]\n"));
    let daemon = place.daemon();
    let answer = Call::start(&daemon, "hello", "counted").answer();
    assert!(answer.starts_with("HTTP/1.1 200"), "{answer}");
    assert_eq!(json_of(&place, &["status", "--no-rates"]).1["verdicts"]["ok"], 1);
}

/// Only root can be somebody else.
#[test]
fn other_users_are_refused_also_where_the_socket_is_open_to_them() {
    if !is_root() {
        return;
    }
    let place = place();
    let _daemon = place.daemon();
    let open = |name: &str, mode: u32| {
        fs::set_permissions(place.path(name), fs::Permissions::from_mode(mode)).expect("it is ours");
    };
    let ask = || place.as_user(place.command(&["nodes"]), "65534").output().expect("it can be run");
    open("", 0o755);
    open("state", 0o711);
    let said = |output: std::process::Output| String::from_utf8_lossy(&output.stderr).into_owned();
    assert!(said(ask()).contains("inspect.sock: Permission denied"), "{}", said(ask()));
    open("state/inspect.sock", 0o666);
    assert!(said(ask()).contains("only the user of the daemon and root may ask it"), "{}", said(ask()));
}
