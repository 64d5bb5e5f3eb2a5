//! Who else may look into what the daemon keeps.

use std::fs;
use std::os::unix::fs::PermissionsExt;
use std::process::Command;

use super::program::{Daemon, Place, eventually};

/// The daemon of `place`, started by somebody whose files are open to all.
#[track_caller]
fn carefree(place: &Place) -> Daemon {
    let cerbas = place.command(&["run"]);
    let mut command = Command::new("sh");
    command.args(["-c", "umask 0; exec \"$0\" run"]).arg(cerbas.get_program()).current_dir(place.path(""));
    command.envs(cerbas.get_envs().filter_map(|(name, value)| Some((name, value?))));
    Daemon::start(command)
}

/// What others than the owner may do with what is in the state folder, and with the folder.
#[track_caller]
fn open_to_others(place: &Place) -> Vec<String> {
    let mut folders = vec![place.path("state")];
    let mut found = Vec::new();
    while let Some(folder) = folders.pop() {
        let entries = fs::read_dir(&folder).expect("it is a folder").map(|entry| entry.expect("it is there").path());
        for path in entries.chain([folder.clone()]) {
            let data = fs::symlink_metadata(&path).expect("it is there");
            if data.permissions().mode() & 0o077 != 0 {
                found.push(format!("{} {:o}", path.display(), data.permissions().mode()));
            }
            if data.is_dir() && path != folder {
                folders.push(path);
            }
        }
    }
    found
}

#[test]
fn what_the_daemon_keeps_is_its_owners_alone() {
    let place = Place::empty();
    place.write("cerbas.toml", "[redis]\nserver = \"none\"\n[cron]\n");
    place.write("CRONTAB", "#: name=secret\n@every 1s echo password=hunter2\n");
    let _daemon = carefree(&place);
    eventually("it has run", || place.run(&["cron", "history", "secret"]).stdout.contains("hunter2"));
    place.check(&["cron", "pause", "secret"], 0, "secret: is paused from now on\n", "");
    assert_eq!(open_to_others(&place), [""; 0]);
}

#[test]
fn what_an_earlier_daemon_left_open_is_closed_at_the_start() {
    let place = Place::empty();
    place.write("cerbas.toml", "[redis]\nserver = \"none\"\n[cron]\n");
    place.write("CRONTAB", "");
    for folder in ["state", "state/redis", "state/redis/appendonlydir"] {
        fs::create_dir(place.path(folder)).expect("a folder can be made");
        fs::set_permissions(place.path(folder), fs::Permissions::from_mode(0o755)).expect("it is ours");
    }
    for file in ["state/store.jsonl", "state/redis/redis.log", "state/redis/appendonlydir/appendonly.aof"] {
        place.write(file, "");
        fs::set_permissions(place.path(file), fs::Permissions::from_mode(0o644)).expect("it is ours");
    }
    let _daemon = place.daemon();
    assert_eq!(open_to_others(&place), [""; 0]);
}

#[test]
fn a_state_folder_that_is_used_for_other_things_is_left_as_it_is_with_a_warning() {
    let place = Place::empty();
    place.write("cerbas.toml", "[redis]\nserver = \"none\"\n[server]\nstate_dir = \".\"\n[cron]\n");
    place.write("CRONTAB", "");
    fs::set_permissions(place.path(""), fs::Permissions::from_mode(0o755)).expect("it is ours");
    let daemon = place.daemon();
    daemon.wait_for("others can look into it");
    let mode = |name: &str| fs::metadata(place.path(name)).expect("it is there").permissions().mode() & 0o777;
    assert_eq!((mode(""), mode("store.jsonl")), (0o755, 0o600));
}
