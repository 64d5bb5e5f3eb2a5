//! A `redis-server` as a process: started with its settings on standard input, waited for, killed when dropped.

use std::fs;
use std::io::{self, Write};
use std::os::fd::OwnedFd;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

use rustix::event::{PollFd, PollFlags, poll};
use rustix::fs::{Mode, OFlags};
use rustix::process::{Pid, PidfdFlags, pidfd_open};

use crate::broker::redis::Target;
use crate::children::{self, Identity, Steps};

/// The program.
const PROGRAM: &str = "redis-server";

/// What it writes its log to, in its folder.
pub(super) const LOG: &str = "redis.log";

/// How long a new server may take until it answers; one that loads much data answers that it does.
const START: Duration = Duration::from_secs(10);

/// How a server is started.
pub(super) struct Settings {
    /// Its configuration, line by line. It starts in its folder, which it need not be able to find from `/`.
    pub(super) lines: Vec<String>,
    pub(super) folder: PathBuf,
    /// As whom it runs, if not as ourselves.
    pub(super) identity: Option<Identity>,
}

/// A process that can be waited for: our child, or one that an earlier daemon left behind.
pub(super) struct Running {
    pub(super) child: Option<Child>,
    pub(super) handle: OwnedFd,
    pub(super) pid: Pid,
}

impl Running {
    /// Blocks until it has ended; tells how, for people.
    pub(super) fn wait(&mut self) -> String {
        has_ended(&self.handle, None);
        match self.child.as_mut().map(Child::wait) {
            Some(Ok(status)) => status.to_string(),
            _ => "it was left behind by an earlier daemon".to_owned(),
        }
    }
}

/// Waits, at most `patience`, for a process to end; tells whether it has.
pub(super) fn has_ended(handle: &OwnedFd, patience: Option<Duration>) -> bool {
    let patience = patience.and_then(|patience| rustix::time::Timespec::try_from(patience).ok());
    loop {
        match poll(&mut [PollFd::new(handle, PollFlags::IN)], patience.as_ref()) {
            Err(rustix::io::Errno::INTR) => {}
            ready => return ready.is_ok_and(|ready| ready > 0),
        }
    }
}

impl Drop for Running {
    fn drop(&mut self) {
        if let Some(child) = &mut self.child
            && !matches!(child.try_wait(), Ok(Some(_)))
        {
            let _already_gone = child.kill();
            let _reaped = child.wait();
        }
    }
}

/// Starts a server and waits until it answers.
pub(super) fn launch(target: &Target, settings: &Settings) -> Result<Running, String> {
    let folder = &settings.folder;
    let child = spawn(settings).map_err(|error| match error.kind() {
        io::ErrorKind::NotFound => format!(
            "{PROGRAM} is not installed: install it (on Debian: apt install redis-server), \
             or set redis.server = \"external\" or \"none\""
        ),
        _ => format!("cannot start {PROGRAM}: {error}"),
    })?;
    let handle = handle_of(&child).map_err(|error| format!("cannot watch {PROGRAM}: {error}"))?;
    let pid = Pid::from_child(&child);
    let mut running = Running { child: Some(child), handle, pid };
    let deadline = Instant::now() + START;
    // Short steps, as a server without data answers within a few milliseconds.
    while !answers(target) {
        let child = running.child.as_mut().expect("it was started here");
        if let Ok(Some(status)) = child.try_wait() {
            return Err(format!("{PROGRAM} ended at once ({status}): {}", last_line(folder)));
        }
        if Instant::now() > deadline {
            return Err(format!("{PROGRAM} does not answer at {}; its log is {}", target.address(), log_file(folder)));
        }
        std::thread::sleep(Duration::from_millis(3));
    }
    Ok(running)
}

fn spawn(settings: &Settings) -> io::Result<Child> {
    let mut command = Command::new(PROGRAM);
    command.arg("-").current_dir(&settings.folder);
    command.stdin(Stdio::piped()).stdout(Stdio::null()).stderr(Stdio::null());
    // A session of its own: Ctrl-C in the terminal is for us, and we stop it after our last answer.
    let umask = Some(Mode::RWXG | Mode::RWXO);
    children::before_exec(&mut command, Steps { umask, identity: settings.identity.clone(), ..Steps::default() });
    let mut child = children::start(&mut command)?;
    let mut input = child.stdin.take().expect("its input is piped");
    let written = input.write_all((settings.lines.join("\n") + "\n").as_bytes());
    drop(input);
    // One that ended before it read all says why in its log.
    drop(written);
    Ok(child)
}

fn handle_of(child: &Child) -> io::Result<OwnedFd> {
    Ok(pidfd_open(Pid::from_child(child), PidfdFlags::empty())?)
}

/// Whether a server answers, be it that it still loads its data.
fn answers(target: &Target) -> bool {
    match target.connect("cerbas-start") {
        Ok(_) => true,
        Err(error) => error.reason.contains("LOADING") || error.reason.contains("loading"),
    }
}

fn last_line(folder: &Path) -> String {
    // Not over a link: who keeps the folder may be another than we are.
    let flags = OFlags::RDONLY | OFlags::NOFOLLOW | OFlags::CLOEXEC;
    let file = rustix::fs::open(log_file(folder), flags, Mode::empty());
    let log =
        file.map_err(io::Error::from).and_then(|file| io::read_to_string(fs::File::from(file))).unwrap_or_default();
    log.lines().rfind(|line| !line.trim().is_empty()).unwrap_or("it wrote no log").trim().to_owned()
}

/// `text` as one word of a Redis configuration.
pub(super) fn quote(text: &str) -> String {
    let escaped: String = text
        .bytes()
        .map(|byte| match byte {
            b'"' | b'\\' => format!("\\{}", char::from(byte)),
            b' '..=b'~' => char::from(byte).to_string(),
            other => format!("\\x{other:02x}"),
        })
        .collect();
    format!("\"{escaped}\"")
}

pub(super) fn log_file(folder: &Path) -> String {
    folder.join(LOG).display().to_string()
}
