//! `cerbas torture`: its daemons and its Redis are killed, and nothing is lost.

use std::fs;

use rustix::process::Signal;
use serde_json::Value;

use super::program::{Output, Place, eventually};

/// What it prints with `--json`.
#[track_caller]
fn report(output: &Output) -> Value {
    serde_json::from_str(&output.stdout).unwrap_or_else(|error| panic!("{error}: {output:?}"))
}

/// The processes that `parent` has started.
fn children(parent: u32) -> Vec<u32> {
    let processes = fs::read_dir("/proc").expect("it is Linux").flatten();
    let pids = processes.filter_map(|entry| entry.file_name().to_str()?.parse::<u32>().ok());
    let is_child = |pid: &u32| {
        let status = fs::read_to_string(format!("/proc/{pid}/status")).unwrap_or_default();
        status.lines().any(|line| line == format!("PPid:\t{parent}"))
    };
    pids.filter(is_child).collect()
}

#[test]
fn every_accepted_request_has_one_verdict_whatever_is_killed() {
    let place = Place::empty();
    let output = place.run(&["torture", "--for", "10s", "--nodes", "3", "--seed", "5", "--json"]);
    let report = report(&output);
    assert_eq!((&report["violations"], &report["lost"]), (&Value::from(Vec::<Value>::new()), &Value::from(0)));
    assert_eq!((output.status, &*output.stderr, &report["holds"]), (Some(0), "", &Value::from(true)));
    let count = |name: &str| report[name].as_u64().unwrap_or_else(|| panic!("no {name} in {report}"));
    assert!(count("accepted") > 500 && count("kills") >= 4 && count("ledgers") > 10, "{report}");
    let ok = report["verdicts"]["ok"].as_u64();
    assert!(ok.is_some_and(|ok| ok > count("accepted") / 2), "{report}");
    let left: Vec<_> = fs::read_dir(place.path(".")).expect("it is there").flatten().collect();
    assert!(left.is_empty(), "{left:?}");
}

#[test]
fn a_signal_ends_it_early_with_its_account_and_all_that_it_has_started() {
    let place = Place::empty();
    let started = place.start(&["torture", "--for", "1h", "--nodes", "2"]);
    eventually("a Redis and two daemons run", || children(started.pid()).len() == 3);
    let children = children(started.pid());
    started.signal(Signal::INT);
    let output = started.finish();
    assert_eq!((output.status, &*output.stderr), (Some(0), ""), "{output:?}");
    assert!(output.stdout.ends_with("the law holds: each has exactly one verdict\n"), "{output:?}");
    assert!(children.iter().all(|child| !fs::exists(format!("/proc/{child}")).unwrap_or(true)), "{children:?}");
}

#[test]
fn without_daemons_or_time_there_is_nothing_to_torture() {
    let place = Place::empty();
    assert_eq!(place.run(&["torture", "--nodes", "0"]).status, Some(2));
    assert_eq!(place.run(&["torture", "--for", "soon"]).status, Some(2));
}
