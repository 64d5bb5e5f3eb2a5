//! As whom the lines of crontabs run.

use std::fs;
use std::os::unix::fs::{PermissionsExt, chown};

use serde_json::Value;

use super::crontab::{alone, eventually_count, history, lines};
use super::program::{Daemon, Place, eventually, is_root};

#[test]
fn each_line_of_a_system_crontab_runs_as_its_user() {
    if !is_root() {
        return;
    }
    let place = Place::empty();
    let here = place.path("").display().to_string();
    fs::create_dir(place.path("cron.d")).expect("a folder can be made");
    place.write("cron.d/who", &format!("@every 1s nobody id -un; id -Gn\n@every 1s root id -un > {here}/root\n"));
    place.write("cron.d/who.dpkg-old", "nonsense\n");
    place.write("cerbas.toml", "[redis]\nserver = \"none\"\n[cron]\nsystem_files = [\"cron.d\"]\n");
    let list = place.run(&["cron", "list", "--json"]);
    let entries: Vec<Value> = serde_json::from_str(&list.stdout).expect("it is JSON");
    let name = entries[0]["name"].as_str().expect("it has a name").to_owned();
    let _daemon = place.daemon();
    eventually_count(&place, &name, "ran", 1);
    assert_eq!(history(&place, &name)[0]["output"], "nobody\nnogroup");
    eventually("the other has run", || lines(&place, "root") == ["root"]);

    place.write("cron.d/nobody", "@daily nobody-here true\n");
    let check = place.run(&["check"]);
    assert!(
        check.stdout.contains("cron.d/nobody:1:1: user \"nobody-here\": neither /etc/passwd nor getent knows it"),
        "{check:?}"
    );
    fs::set_permissions(place.path("cron.d/who"), fs::Permissions::from_mode(0o666)).expect("it is ours");
    let check = place.run(&["check"]);
    assert_eq!(check.status, Some(1));
    assert!(check.stdout.contains("cron.d/who: others than its owner can write it"), "{check:?}");
}

/// As in a container that is given any number.
#[test]
fn a_user_that_nobody_knows_has_jobs() {
    if !is_root() {
        return;
    }
    let place = alone("#: name=who\n@every 1s id -u; echo $LOGNAME $HOME $SHELL; pwd\n", "");
    let uid = "250001";
    for name in ["", "CRONTAB", "cerbas.toml"] {
        chown(place.path(name), Some(250_001), Some(250_001)).expect("root can");
    }
    let as_user = |arguments: &[&str]| {
        let mut command = place.as_user(place.command(arguments), uid);
        command.env_remove("LOGNAME").env_remove("USER").env("HOME", place.path(""));
        command
    };
    let check = as_user(&["check"]).output().expect("it can be run");
    assert!(check.status.success(), "{check:?}");
    let _daemon = Daemon::start(as_user(&["run"]));
    eventually_count(&place, "who", "ran", 1);
    let home = place.path("").display().to_string();
    let home = home.trim_end_matches('/');
    let run = &history(&place, "who")[0];
    let output = run["output"].as_str().unwrap_or_default().replace(&format!("{home}/"), home);
    assert_eq!((run["verdict"].as_str(), output), (Some("ok"), format!("{uid}\n{uid} {home} /bin/sh\n{home}")));
}
