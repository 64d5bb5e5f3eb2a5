//! What the daemon starts while it runs in somebody's terminal.

use std::fs::{self, File};
use std::os::unix::fs::PermissionsExt;
use std::process::{Command, Stdio};

use rustix::fs::{Mode, OFlags};
use rustix::pty::{OpenptFlags, grantpt, openpt, ptsname, unlockpt};

use super::program::{Daemon, Place, eventually};

/// What a shell says of a terminal that it does not have.
const NONE: &str = "No such device or address";

/// A daemon in a terminal of its own, which is there until the file is dropped.
#[track_caller]
fn in_terminal(place: &Place) -> (Daemon, File) {
    let keyboard = openpt(OpenptFlags::RDWR | OpenptFlags::NOCTTY | OpenptFlags::CLOEXEC).expect("there is /dev/ptmx");
    grantpt(&keyboard).and_then(|()| unlockpt(&keyboard)).expect("it is ours");
    let name = ptsname(&keyboard, Vec::new()).expect("it has a name");
    let terminal = rustix::fs::open(&*name, OFlags::RDWR | OFlags::NOCTTY | OFlags::CLOEXEC, Mode::empty());
    let cerbas = place.command(&["run"]);
    let mut command = Command::new("setsid");
    command.arg("--ctty").arg(cerbas.get_program()).args(cerbas.get_args());
    command.current_dir(place.path("")).stdin(Stdio::from(File::from(terminal.expect("it can be opened"))));
    for (name, value) in cerbas.get_envs() {
        match value {
            Some(value) => command.env(name, value),
            None => command.env_remove(name),
        };
    }
    let daemon = Daemon::start(command);
    let stat = fs::read_to_string(format!("/proc/{}/stat", daemon.pid())).expect("it runs");
    let terminal = stat.rsplit(") ").next().and_then(|fields| fields.split(' ').nth(4)).expect("it is told");
    assert_ne!(terminal, "0", "the daemon should have a terminal, else this shows nothing");
    (daemon, File::from(keyboard))
}

#[test]
fn commands_and_workers_cannot_reach_the_terminal_of_the_daemon() {
    let worker = "while read -r line; do id=${line#*\\\"id\\\":\\\"}; said=$( (: < /dev/tty) 2>&1); \
                  echo \"{\\\"id\\\":\\\"${id%%\\\"*}\\\",\\\"status\\\":\\\"ok\\\",\\\"data\\\":\\\"$said\\\"}\"; done";
    let place = Place::with(&format!(
        r#"
[functions.by_path]
command = ["/bin/sh", "-c", "(: < /dev/tty) 2>&1; true"]
[functions.by_name]
command = ["sh", "-c", "(: < /dev/tty) 2>&1; true"]
[functions.worker]
worker = ["/bin/sh", "-c", '''{worker}''']
"#
    ));
    let (_daemon, _terminal) = in_terminal(&place);
    for function in ["by_path", "by_name", "worker"] {
        let output = place.run(&["call", function]);
        let said = format!("{}{}", output.stdout, output.stderr);
        assert!(said.contains(NONE), "{function}: {output:?}");
    }
}

#[test]
fn a_job_that_asks_at_the_terminal_fails_at_once_and_so_does_what_sends_mail() {
    let place = Place::empty();
    let here = place.path("").display().to_string();
    let job = format!("MAILTO=ops\n@every 1s cd {here}; read -r answer < /dev/tty || echo asked in vain >> job\n");
    place.write("CRONTAB", &job);
    place.write("sendmail", &format!("#!/bin/sh\ncat > /dev/null\n(: < /dev/tty) 2>> {here}/mail\n"));
    fs::set_permissions(place.path("sendmail"), fs::Permissions::from_mode(0o755)).expect("it is ours");
    place.write("cerbas.toml", "[redis]\nserver = \"none\"\n[cron]\nsendmail = \"sendmail\"\n");
    let (_daemon, _terminal) = in_terminal(&place);
    let read = |name: &str| fs::read_to_string(place.path(name)).unwrap_or_default();
    eventually("two jobs have ended", || read("job").lines().count() >= 2);
    eventually("mail was sent", || read("mail").contains(NONE));
}
