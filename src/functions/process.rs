//! How programs are started: as which user, where, with what environment and under which limits.
//!
//! Every program leads a process group of its own, cannot reach our terminal, and gets only what is named here of our
//! environment. A [`Process`] that was started never outlives its value: dropping it kills what it started, and reaps it.

mod running;
mod tree;

use std::collections::BTreeMap;
use std::env;
use std::ffi::OsString;
use std::fs;
use std::io;
use std::os::unix::fs::PermissionsExt;
use std::os::unix::process::CommandExt;
use std::path::{Path, PathBuf};
use std::process::Command;

use rustix::fs::{Mode, OFlags};
use rustix::io::Errno;
use rustix::process::{Gid, Resource, Rlimit};

use super::output::plain;
use crate::accounts::{self, Account};
use crate::children::{self, Identity, Steps};
pub(super) use running::{Interrupt, Pipes, Process, wait_ready};

/// How the processes of a function are started.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct ProcessOptions {
    /// Added to the environment, which is otherwise only a short list of harmless names.
    pub env: BTreeMap<String, String>,
    /// The directory to start in; that of cerbas where there is none.
    pub cwd: Option<PathBuf>,
    /// The user to run as, by name or number, with all its groups. Needs root.
    pub user: Option<String>,
    /// From -20 (more than its share of the processor) to 19.
    pub nice: Option<i32>,
    /// What each process may use up.
    pub limits: ResourceLimits,
    /// It is started as cron starts a job: in the home of its user, with nothing of our environment, and with one place for
    /// all that it writes.
    pub is_job: bool,
}

/// What a process may use up. A limit above that of cerbas itself is lowered to it.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct ResourceLimits {
    /// Bytes of address space.
    pub memory: Option<u64>,
    /// Seconds of processor time.
    pub cpu: Option<u64>,
    /// Open files.
    pub open_files: Option<u64>,
    /// Processes of its user.
    pub processes: Option<u64>,
    /// Bytes in one file that it writes.
    pub file_size: Option<u64>,
}

/// What a program gets of our own environment.
const INHERITED: [&str; 9] = ["PATH", "HOME", "LANG", "LC_ALL", "TZ", "TMPDIR", "USER", "LOGNAME", "SHELL"];

/// Where programs are looked for when nobody says.
const DEFAULT_PATH: &str = "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin";

/// The same for a job of cron (Debian's `crontab(5)`).
const JOB_PATH: &str = "/usr/bin:/bin";

/// Starts `argv` without a shell, with `extra` in its environment besides what the options say.
pub(super) fn start(
    argv: &[String],
    options: &ProcessOptions,
    extra: impl IntoIterator<Item = (String, String)>,
) -> Result<(Process, Pipes), String> {
    let (program, arguments) = argv.split_first().ok_or("no program is named")?;
    let user = user_of(options)?;
    let environment = environment(options, user.as_ref());
    let mut command = Command::new(program);
    if let Some(directory) = directory(options, &environment) {
        command.current_dir(directory);
    }
    command.args(arguments).env_clear().envs(environment).envs(extra);
    let steps = steps(options, user.as_ref());
    if steps.are_none() && !has_terminal() {
        // Nobody in our session has a terminal, or can get one without leading it: a group is as good as a session. And
        // without steps a child starts without a copy of our page tables.
        command.process_group(0);
    } else {
        children::before_exec(&mut command, steps);
    }
    Process::spawn(&mut command, options.is_job).map_err(|error| {
        // The operating system has one error for a missing program, directory and interpreter.
        let fault = check_program(argv, options).into_iter().next();
        fault.unwrap_or_else(|| format!("cannot run {program:?}: {}{}", plain(&error), hint(&error)))
    })
}

/// Whether our session has a terminal, into which a child could type, or at which it could be stopped when it asks.
fn has_terminal() -> bool {
    let terminal = rustix::fs::open("/dev/tty", OFlags::RDWR | OFlags::NOCTTY | OFlags::CLOEXEC, Mode::empty());
    !matches!(terminal, Err(Errno::NXIO))
}

/// As whom it runs, where that matters.
fn user_of(options: &ProcessOptions) -> Result<Option<Account>, String> {
    match options.user.as_deref() {
        Some(name) => accounts::find(name).map(Some),
        None if options.is_job => Ok(Some(accounts::ours_or_made())),
        None => Ok(None),
    }
}

/// Where it starts.
fn directory(options: &ProcessOptions, environment: &BTreeMap<String, OsString>) -> Option<PathBuf> {
    // A user whose home is not there can still have jobs.
    let home = || environment.get("HOME").map(PathBuf::from).filter(|home| home.is_dir());
    let of_job = || options.is_job.then(|| home().unwrap_or_else(|| PathBuf::from("/")));
    options.cwd.clone().or_else(of_job)
}

fn hint(error: &io::Error) -> &'static str {
    match error.kind() {
        io::ErrorKind::NotFound => "; is the interpreter in its first line there?",
        io::ErrorKind::PermissionDenied => "; only root can change the user or go below its own nice",
        io::ErrorKind::ArgumentListTooLong => "; its arguments and environment are too large",
        _ => "",
    }
}

/// What would keep `argv` from being started, a line each; nothing is started.
pub fn check_program(argv: &[String], options: &ProcessOptions) -> Vec<String> {
    let mut faults = Vec::new();
    let user = user_of(options).unwrap_or_else(|fault| {
        faults.push(fault);
        None
    });
    let me = rustix::process::geteuid();
    if let Some(user) = user.as_ref().filter(|user| user.uid != me && !me.is_root()) {
        faults.push(format!("user {:?}: only root can run programs as another user", user.name));
    }
    if let Some(directory) = options.cwd.as_deref().filter(|directory| !directory.is_dir()) {
        faults.push(format!("cwd {}: is not a directory", directory.display()));
    }
    if options.nice.is_some_and(|nice| !(-20..=19).contains(&nice)) {
        faults.push("nice: must be from -20 to 19".to_owned());
    }
    match argv.first() {
        None => faults.push("no program is named".to_owned()),
        Some(program) => {
            let path = environment(options, user.as_ref()).remove("PATH").unwrap_or_default();
            faults.extend(find_program(program, &path, options.cwd.as_deref()).err());
        }
    }
    faults
}

/// Where `program` is, as the operating system will look for it: a path from the directory it is started in.
fn find_program(program: &str, path: &OsString, cwd: Option<&Path>) -> Result<PathBuf, String> {
    let from_start = |file: &Path| cwd.unwrap_or(Path::new("")).join(file);
    let is_executable = |file: &PathBuf| {
        fs::metadata(file).is_ok_and(|metadata| metadata.is_file() && metadata.permissions().mode() & 0o111 != 0)
    };
    let (candidates, where_to): (Vec<PathBuf>, &str) = if program.contains('/') {
        (vec![from_start(Path::new(program))], "")
    } else {
        let directories = env::split_paths(path).map(|directory| from_start(&directory).join(program));
        (directories.collect(), "; it is in no directory of PATH")
    };
    if let Some(found) = candidates.iter().find(|file| is_executable(file)) {
        return Ok(found.clone());
    }
    Err(match candidates.iter().find(|file| file.exists()) {
        Some(file) if file.is_dir() => format!("cannot run {program:?}: it is a directory"),
        Some(file) => format!("cannot run {program:?}: Permission denied; chmod +x {}", file.display()),
        None => format!("cannot run {program:?}: No such file or directory{where_to}"),
    })
}

fn environment(options: &ProcessOptions, user: Option<&Account>) -> BTreeMap<String, OsString> {
    let path = if options.is_job { JOB_PATH } else { DEFAULT_PATH };
    let mut environment = BTreeMap::from([("PATH".to_owned(), OsString::from(path))]);
    if !options.is_job {
        environment.extend(INHERITED.iter().filter_map(|&name| Some((name.to_owned(), env::var_os(name)?))));
    }
    if let Some(user) = user {
        let own = [("USER", &user.name), ("LOGNAME", &user.name), ("HOME", &user.home), ("SHELL", &user.shell)];
        environment.extend(own.map(|(name, value)| (name.to_owned(), value.into())));
    }
    if options.is_job {
        environment.insert("SHELL".to_owned(), "/bin/sh".into());
    }
    environment.extend(options.env.iter().map(|(name, value)| (name.clone(), value.into())));
    environment
}

/// What is left to do between fork and exec.
fn steps(options: &ProcessOptions, user: Option<&Account>) -> Steps {
    let ResourceLimits { memory, cpu, open_files, processes, file_size } = options.limits;
    let wanted = [
        (Resource::As, memory),
        (Resource::Cpu, cpu),
        (Resource::Nofile, open_files),
        (Resource::Nproc, processes),
        (Resource::Fsize, file_size),
    ];
    let limits = wanted.into_iter().filter_map(|(resource, limit)| {
        let highest = rustix::process::getrlimit(resource).maximum.unwrap_or(u64::MAX);
        let limit = Some(limit?.min(highest));
        Some((resource, Rlimit { current: limit, maximum: limit }))
    });
    // Who is that user already need not, and may not, change anything.
    let me = rustix::process::geteuid();
    // Without a name it is for the environment only.
    let named = user.filter(|_| options.user.is_some());
    let other = named.filter(|user| (me.is_root() || user.uid != me) && !is_already(user));
    let identity = other.map(|user| Identity { user: user.uid, group: user.gid, groups: user.groups.clone() });
    Steps { nice: options.nice, limits: limits.collect(), identity, ..Steps::default() }
}

/// Whether we are `user` ourselves, with exactly its groups.
fn is_already(user: &Account) -> bool {
    let ids =
        (rustix::process::getuid(), rustix::process::geteuid(), rustix::process::getgid(), rustix::process::getegid());
    let sorted = |mut groups: Vec<Gid>| {
        groups.sort_by_key(|group| group.as_raw());
        groups.dedup();
        groups
    };
    let groups = rustix::process::getgroups().map(sorted);
    ids == (user.uid, user.uid, user.gid, user.gid) && groups.is_ok_and(|groups| groups == sorted(user.groups.clone()))
}

#[cfg(test)]
mod tests {
    use std::io::Read;
    use std::time::{Duration, Instant};

    use super::super::testing::{eventually, is_our_child, marker, running, shell};
    use super::*;

    /// What `script` prints when it is started with `options`.
    fn output_of(script: &str, options: &ProcessOptions) -> String {
        let (mut process, mut pipes) = start(&shell(script, &[]), options, []).unwrap();
        assert!(process.wait(Instant::now() + Duration::from_secs(10)));
        process.kill();
        let mut output = Vec::new();
        // Not at once: another thread that starts a process at this moment holds the pipe open until its exec.
        eventually("its output ends", || pipes.stdout.read_to_end(&mut output).is_ok());
        String::from_utf8(output).unwrap().trim().to_owned()
    }

    #[test]
    fn the_environment_is_a_short_list_and_what_the_options_add() {
        let options = ProcessOptions { env: BTreeMap::from([("COLOUR".into(), "red".into())]), ..Default::default() };
        let lines = output_of("env", &options);
        let mut names: Vec<&str> = lines.lines().filter_map(|line| Some(line.split_once('=')?.0)).collect();
        names.retain(|name| !INHERITED.contains(name) && !["PWD", "OLDPWD", "SHLVL", "_"].contains(name));
        assert_eq!(names, ["COLOUR"]);
        assert_eq!(output_of("echo $COLOUR", &options), "red");
    }

    #[test]
    fn directory_nice_and_limits_are_those_of_the_options() {
        let options = ProcessOptions {
            cwd: Some("/usr".into()),
            nice: Some(7),
            limits: ResourceLimits { open_files: Some(33), cpu: Some(44), file_size: Some(5120), ..Default::default() },
            ..Default::default()
        };
        assert_eq!(output_of("pwd; nice; ulimit -n; ulimit -t; ulimit -f", &options), "/usr\n7\n33\n44\n10");
    }

    #[test]
    fn a_program_that_runs_as_another_user_has_none_of_our_rights() {
        if !rustix::process::geteuid().is_root() {
            return;
        }
        let options = ProcessOptions { user: Some("nobody".into()), ..Default::default() };
        let expected = output_of("id -u nobody; id -G nobody", &ProcessOptions::default());
        assert_eq!(output_of("id -u; id -G", &options), expected);
        assert_eq!(output_of("echo $USER $LOGNAME", &options), "nobody nobody");
        assert_eq!(output_of("grep -c '^CapEff:.*[1-9a-f]' /proc/self/status", &options), "0");
    }

    #[test]
    fn what_keeps_a_program_from_starting_is_said_in_one_line() {
        let fault = |program: &str, options: &ProcessOptions| {
            let argv = [program.to_owned()];
            let fault = start(&argv, options, []).map(drop).unwrap_err();
            assert_eq!(check_program(&argv, options).join(" and "), fault);
            fault
        };
        let plain = ProcessOptions::default();
        assert_eq!(fault("/no/such", &plain), "cannot run \"/no/such\": No such file or directory");
        let unknown = "cannot run \"no-such\": No such file or directory; it is in no directory of PATH";
        assert_eq!(fault("no-such", &plain), unknown);
        let locked = "cannot run \"/etc/passwd\": Permission denied; chmod +x /etc/passwd";
        assert_eq!(fault("/etc/passwd", &plain), locked);
        assert_eq!(fault("/tmp", &plain), "cannot run \"/tmp\": it is a directory");
        let elsewhere = ProcessOptions { cwd: Some("/no/such".into()), ..Default::default() };
        assert_eq!(fault("/bin/sh", &elsewhere), "cwd /no/such: is not a directory");
        let stranger = ProcessOptions { user: Some("nobody-here".into()), ..Default::default() };
        assert_eq!(fault("sh", &stranger), "user \"nobody-here\": neither /etc/passwd nor getent knows it");
        let path = ProcessOptions { env: BTreeMap::from([("PATH".into(), "/no/such".into())]), ..Default::default() };
        assert!(fault("sh", &path).ends_with("it is in no directory of PATH"));
        assert!(check_program(&["sh".to_owned()], &plain).is_empty());
    }

    #[test]
    fn what_cannot_be_a_text_of_the_operating_system_is_an_error() {
        assert!(start(&[], &ProcessOptions::default(), []).is_err());
        let error = start(&["a\0b".to_owned()], &ProcessOptions::default(), []).map(drop).unwrap_err();
        assert!(error.starts_with("cannot run \"a\\0b\": "), "{error}");
    }

    #[test]
    fn a_dropped_process_leaves_nobody_behind() {
        let marker = marker();
        let script = "trap '' TERM; setsid sleep $1 & sleep $1 & wait";
        let (process, pipes) = start(&shell(script, &[&marker]), &ProcessOptions::default(), []).unwrap();
        eventually("three processes run", || running(&marker).len() == 3);
        let children: Vec<u32> = running(&marker).into_iter().filter(|&pid| is_our_child(pid)).collect();
        assert_eq!(children.len(), 1);
        drop((process, pipes));
        assert!(!is_our_child(children[0]), "it is a zombie");
        eventually("all are gone", || running(&marker).is_empty());
    }

    #[test]
    fn a_process_that_may_clean_up_does() {
        let script = "trap 'echo clean; exit 0' TERM; echo ready; while :; do sleep 0.01; done";
        let (mut process, mut pipes) = start(&shell(script, &[]), &ProcessOptions::default(), []).unwrap();
        let mut output = Vec::new();
        eventually("it is ready", || {
            _ = pipes.stdout.read_to_end(&mut output);
            output == b"ready\n"
        });
        process.terminate();
        _ = pipes.stdout.read_to_end(&mut output);
        assert_eq!(output, b"ready\nclean\n");
    }

    #[test]
    fn those_that_keep_forking_are_caught() {
        let marker = marker();
        let script = "trap '' TERM; while :; do setsid sh -c 'setsid sleep $1 & sleep $1' sh $1 & sleep 0.01; done";
        let (mut process, _pipes) = start(&shell(script, &[&marker]), &ProcessOptions::default(), []).unwrap();
        eventually("many processes run", || running(&marker).len() > 20);
        process.terminate();
        eventually("all are gone", || running(&marker).is_empty());
    }
}
