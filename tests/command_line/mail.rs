//! Who is told what a job printed: in mail, in the history, by a function that follows.

use std::fs;
use std::os::unix::fs::PermissionsExt;

use rustix::process::Signal;
use serde_json::Value;

use super::crontab::{alone, eventually_count, history};
use super::program::{Place, eventually};

/// A place without Redis whose jobs mail to a file for each letter.
fn mailing(crontab: &str) -> Place {
    let place = alone("", "sendmail = \"sendmail\"\n");
    let here = place.path("").display().to_string();
    with_sendmail(&place, &format!("cat >> {here}/mailed.$$\nmv {here}/mailed.$$ {here}/mail.$$"));
    place.write("CRONTAB", &format!("MAILTO=ops@example.org\n{}", crontab.replace("HERE", &here)));
    place
}

fn with_sendmail(place: &Place, script: &str) {
    place.write("sendmail", &format!("#!/bin/sh\n{script}\n"));
    fs::set_permissions(place.path("sendmail"), fs::Permissions::from_mode(0o755)).expect("it is ours");
}

/// The letters so far.
fn mails(place: &Place) -> Vec<String> {
    let files = fs::read_dir(place.path("")).expect("it is there").flatten();
    let mails = files.filter(|file| file.file_name().to_string_lossy().starts_with("mail."));
    mails.map(|file| fs::read_to_string(file.path()).unwrap_or_default()).collect()
}

#[test]
fn what_a_job_prints_is_mailed_and_what_fails_is_followed() {
    let place = mailing("#: name=broken on_failure='cat > HERE/failure'\n@every 1s echo no space; exit 3\n");
    let _daemon = place.daemon();
    eventually_count(&place, "broken", "ran", 1);
    eventually("somebody gets mail", || !mails(&place).is_empty());
    let mail = &mails(&place)[0];
    assert!(mail.starts_with("To: ops@example.org\nSubject: Cron <"), "{mail}");
    assert!(
        mail.contains("echo no space; exit 3 (error)\n") && mail.contains("\n\nexit status 3\nno space\n"),
        "{mail}"
    );
    eventually("something follows", || place.path("failure").metadata().is_ok_and(|data| data.len() > 0));
    let told: Value =
        serde_json::from_slice(&fs::read(place.path("failure")).expect("it is there")).expect("it is JSON");
    let failure = &told["args"]["failure"];
    assert_eq!((&failure["name"], &failure["verdict"]), (&"broken".into(), &"error".into()));
    assert_eq!(failure["message"], "exit status 3\nno space");
    let run = &history(&place, "broken")[0];
    assert_eq!((&run["verdict"], &run["output"]), (&"error".into(), &"exit status 3\nno space".into()));
}

/// Its first run has this verdict, what it printed until then is on record, and mailed.
#[track_caller]
fn check_cut_off(place: &Place, verdict: &str) {
    eventually("it has its verdict", || history(place, "cut").iter().any(|run| run["verdict"] == verdict));
    let runs = history(place, "cut");
    let run = runs.iter().find(|run| run["verdict"] == verdict).expect("it is there");
    assert_eq!(run["output"], format!("{verdict}\nstep1\nstep2"), "{run}");
}

/// A job that prints something and then hangs.
const HANGS: &str = "echo step1; echo step2 >&2; touch HERE/printed; while [ -e HERE/CRONTAB ]; do sleep 0.05; done";

#[test]
fn what_a_job_printed_until_it_ran_out_of_time_is_kept_and_mailed() {
    let place = mailing(&format!("#: name=cut timeout=1s\n@every 1s {HANGS}\n"));
    let daemon = place.daemon();
    check_cut_off(&place, "timeout");
    eventually("it is mailed", || mails(&place).iter().any(|mail| mail.contains("\n\ntimeout\nstep1\nstep2\n")));
    assert!(
        daemon.log().lines().any(|line| line.contains("cron: cut@") && line.ends_with(": step2")),
        "{}",
        daemon.log()
    );
}

#[test]
fn what_a_job_printed_until_the_next_one_took_its_place_is_kept_and_mailed() {
    let place = mailing(&format!("#: name=cut overlap=replace\n@every 1s {HANGS}\n"));
    let _daemon = place.daemon();
    check_cut_off(&place, "cancelled");
    eventually("it is mailed", || mails(&place).iter().any(|mail| mail.contains("\n\ncancelled\nstep1\nstep2\n")));
}

#[test]
fn what_a_job_printed_until_the_daemon_ended_is_kept() {
    let place = mailing(&format!("#: name=cut\n@every 1s {HANGS}\n"));
    let config = fs::read_to_string(place.path("cerbas.toml")).expect("it is there");
    place.write("cerbas.toml", &config.replace("[server]", "[server]\nshutdown_timeout = \"10ms\""));
    let mut daemon = place.daemon();
    eventually("it has printed something", || place.path("printed").exists());
    daemon.signal(Signal::TERM);
    daemon.wait();
    let log = daemon.log();
    assert!(log.contains("1 calls still ran after 10ms; they were cancelled and are lost"), "{log}");
    check_cut_off(&place, "lost");
}

#[test]
fn what_a_job_printed_until_somebody_cancelled_it_is_kept_and_mailed() {
    let place = Place::with_server("", "[cron]\nsendmail = \"sendmail\"\n");
    let here = place.path("").display().to_string();
    with_sendmail(&place, &format!("cat >> {here}/mailed.$$\nmv {here}/mailed.$$ {here}/mail.$$"));
    place.write("CRONTAB", &format!("MAILTO=ops\n#: name=cut\n@every 1s {}\n", HANGS.replace("HERE", &here)));
    let _daemon = place.daemon();
    eventually("it has printed something", || place.path("printed").exists());
    let id = format!("cron:cut:{}", history(&place, "cut")[0]["instant"].as_str().unwrap_or_default());
    assert_eq!(place.run(&["jobs", "cancel", &id]).status, Some(0));
    check_cut_off(&place, "cancelled");
    eventually("it is mailed", || mails(&place).iter().any(|mail| mail.contains("\n\ncancelled\nstep1\nstep2\n")));
}

/// A place with a Redis whose job prints something each second, for somebody to get it in mail.
fn printing(sendmail: &str, script: Option<&str>) -> Place {
    let place = Place::with_server("", &format!("[cron]\nsendmail = \"{sendmail}\"\n"));
    script.iter().for_each(|script| with_sendmail(&place, script));
    place.write("CRONTAB", "MAILTO=ops@example.org\n#: name=tick\n@every 1s echo printed\n");
    place
}

/// One of its runs says why its mail was not sent; the log does, and the list of dead requests does not.
#[track_caller]
fn check_unmailed(place: &Place, log: &dyn Fn() -> String, reason: &str) {
    let unmailed = |run: &Value| run["unmailed"].as_str().is_some_and(|why| why.contains(reason));
    eventually("a run has it on record", || history(place, "tick").iter().any(unmailed));
    let runs = history(place, "tick");
    let run = runs.iter().find(|run| unmailed(run)).expect("it is there");
    assert_eq!((&run["verdict"], &run["output"]), (&"ok".into(), &"printed".into()));
    let said =
        format!("cron: tick@{}: its mail to ops@example.org was not sent: ", run["local"].as_str().unwrap_or_default());
    eventually("it is said", || log().contains(&said));
    assert_eq!(log().matches(&said).count(), 1);
    let why = place.run(&["why", &format!("tick@{}", run["instant"].as_str().unwrap_or_default())]);
    assert!(why.stdout.contains("its mail was not sent: ") && why.stdout.contains(reason), "{why:?}");
    let table = place.run(&["cron", "history", "tick"]);
    assert!(table.stdout.contains("[not mailed] printed"), "{table:?}");
    assert_eq!(place.run(&["dead", "list", "--json"]).stdout, "[]\n");
}

#[test]
fn mail_that_nobody_can_send_is_told_once_and_its_run_has_it_on_record() {
    let place = printing("no-sendmail", None);
    let check = place.run(&["check"]);
    let missing = "CRONTAB:3:1: MAILTO is set for 1 entries, and their mail cannot be sent";
    assert!(check.status == Some(1) && check.stdout.contains(missing), "{check:?}");
    let daemon = place.daemon();
    daemon.wait_for("cron: MAILTO is set for 1 entries, and their mail cannot be sent");
    check_unmailed(&place, &|| daemon.log(), "no-sendmail is not there; install a mail server");
}

#[test]
fn mail_that_is_refused_to_the_end_is_told_once_and_its_run_has_it_on_record() {
    let place = printing("sendmail", Some("cat > /dev/null; echo mailbox full; exit 75"));
    assert_eq!(place.run(&["check"]).status, Some(0));
    let daemon = place.daemon();
    check_unmailed(&place, &|| daemon.log(), "exit status 75: mailbox full");
}
