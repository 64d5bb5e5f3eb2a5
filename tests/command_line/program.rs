//! What the tests share: a folder with a configuration, the program in it, and a daemon.

use std::fs;
use std::io::{BufRead, BufReader, Write};
use std::path::PathBuf;
use std::process::{Child, Command, ExitStatus, Stdio};
use std::sync::{Arc, Mutex};
use std::thread;
use std::time::{Duration, Instant};

use cerbas::broker::ScratchRedis;
use rustix::process::{Pid, Signal, kill_process};

/// How long anything may take that is expected to happen; far more than it takes.
pub(super) const PATIENCE: Duration = Duration::from_secs(20);

/// Waits until `condition` holds; fails the test if that takes unreasonably long.
#[track_caller]
pub(super) fn eventually(what: &str, condition: impl FnMut() -> bool) {
    within(PATIENCE, what, condition);
}

/// Waits until `condition` holds; fails the test if it does not within `patience`.
#[track_caller]
pub(super) fn within(patience: Duration, what: &str, mut condition: impl FnMut() -> bool) {
    let until = Instant::now() + patience;
    while !condition() {
        assert!(Instant::now() < until, "not within {patience:?}: {what}");
        thread::sleep(Duration::from_millis(5));
    }
}

/// A folder with a `cerbas.toml`, and a Redis.
pub(super) struct Place {
    folder: PathBuf,
    redis: Option<ScratchRedis>,
}

/// What a command came to.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Output {
    pub(super) status: Option<i32>,
    pub(super) stdout: String,
    pub(super) stderr: String,
}

impl Output {
    /// What a command that ends with `status` and prints `stdout` and `stderr` comes to.
    pub(super) fn new(status: i32, stdout: &str, stderr: &str) -> Self {
        Output { status: Some(status), stdout: stdout.to_owned(), stderr: stderr.to_owned() }
    }
}

impl Place {
    /// A place without a Redis and without a configuration.
    pub(super) fn empty() -> Self {
        let folder = std::env::temp_dir().join(format!("cerbas-cli-{}", uuid::Uuid::new_v4()));
        fs::create_dir(&folder).expect("a new folder can be made");
        Place { folder: folder.canonicalize().expect("it is there"), redis: None }
    }

    /// A place whose configuration has these functions.
    pub(super) fn with(functions: &str) -> Self {
        Self::with_server("", functions)
    }

    /// A place whose configuration has these lines in `[server]`, and these functions.
    pub(super) fn with_server(server: &str, functions: &str) -> Self {
        let mut place = Self::empty();
        place.redis = Some(ScratchRedis::start().expect("redis-server starts"));
        place.configure(server, functions);
        place
    }

    /// Writes the configuration anew.
    pub(super) fn configure(&self, server: &str, functions: &str) {
        let redis = format!("[redis]\nurl = \"{}\"\nserver = \"external\"\n", self.url());
        self.write("cerbas.toml", &format!("{redis}[server]\nworkers = 4\n{server}\n{functions}\n"));
    }

    pub(super) fn write(&self, name: &str, text: &str) {
        fs::write(self.path(name), text).expect("a file can be written");
    }

    pub(super) fn path(&self, name: &str) -> PathBuf {
        self.folder.join(name)
    }

    /// The URL of its Redis.
    pub(super) fn url(&self) -> String {
        self.redis.as_ref().map(ScratchRedis::url).expect("it has a Redis")
    }

    /// Its Redis is there no more.
    pub(super) fn kill_redis(&mut self) {
        self.redis.as_mut().expect("it has a Redis").kill();
    }

    /// It is there again.
    pub(super) fn revive_redis(&mut self) {
        self.redis.as_mut().expect("it has a Redis").revive().expect("redis-server starts");
    }

    /// A connection to its Redis.
    pub(super) fn connect(&self) -> redis::Connection {
        let client = redis::Client::open(self.url()).expect("it is a URL");
        client.get_connection_with_timeout(PATIENCE).expect("Redis is there")
    }

    /// The program, to be started in the folder.
    pub(super) fn command(&self, arguments: &[&str]) -> Command {
        let mut command = Command::new(env!("CARGO_BIN_EXE_cerbas"));
        command.args(arguments).current_dir(&self.folder).env("TMPDIR", &self.folder).stdin(Stdio::null());
        for (name, _) in std::env::vars_os() {
            if name.to_string_lossy().starts_with("CERBAS_") || name == "RUST_LOG" {
                command.env_remove(name);
            }
        }
        // A backtrace would show even where somebody who looks for a fault has asked for them.
        command.env("RUST_BACKTRACE", "1");
        command
    }

    /// The program, to be started as the user with the number `uid`; only root can.
    pub(super) fn as_user(&self, own: Command, uid: &str) -> Command {
        let program = self.path("cerbas");
        if !program.exists() {
            // Where it was built need not be open to everybody.
            fs::hard_link(own.get_program(), &program)
                .or_else(|_| fs::copy(own.get_program(), &program).map(drop))
                .expect("a file can be copied");
        }
        let mut command = Command::new("setpriv");
        command.args(["--reuid", uid, "--regid", uid, "--clear-groups"]).arg(program).args(own.get_args());
        command.current_dir(self.path("")).stdin(Stdio::null());
        for (name, value) in own.get_envs() {
            match value {
                Some(value) => command.env(name, value),
                None => command.env_remove(name),
            };
        }
        command
    }

    /// Runs the program to its end.
    #[track_caller]
    pub(super) fn run(&self, arguments: &[&str]) -> Output {
        self.start(arguments).finish()
    }

    /// Runs the program and checks all that comes of it.
    #[track_caller]
    pub(super) fn check(&self, arguments: &[&str], status: i32, stdout: &str, stderr: &str) {
        assert_eq!(self.run(arguments), Output::new(status, stdout, stderr), "cerbas {arguments:?}");
    }

    /// That the program fails with `status` and one line that has all of `parts` in it.
    #[track_caller]
    pub(super) fn check_fails(&self, arguments: &[&str], status: i32, parts: &[&str]) {
        let output = self.run(arguments);
        assert_eq!((output.status, &*output.stdout), (Some(status), ""), "cerbas {arguments:?}: {output:?}");
        assert_eq!(output.stderr.lines().count(), 1, "cerbas {arguments:?}: {output:?}");
        assert!(output.stderr.starts_with("cerbas: "), "{output:?}");
        for part in parts {
            assert!(output.stderr.contains(part), "cerbas {arguments:?}: no {part:?} in {output:?}");
        }
    }

    /// Starts the program; it is waited for later.
    #[track_caller]
    pub(super) fn start(&self, arguments: &[&str]) -> Started {
        let mut command = self.command(arguments);
        let child = command.stdout(Stdio::piped()).stderr(Stdio::piped()).spawn();
        Started(Some(child.expect("it can be run")))
    }

    /// Starts the daemon and waits until it is ready.
    #[track_caller]
    pub(super) fn daemon(&self) -> Daemon {
        Daemon::start(self.command(&["run"]))
    }
}

impl Daemon {
    /// Starts the daemon with `command` and waits until it is ready.
    #[track_caller]
    pub(super) fn start(command: Command) -> Self {
        let daemon = Self::launch(command);
        daemon.wait_for("functions are ready");
        daemon
    }

    /// Starts the daemon with `command`.
    #[track_caller]
    pub(super) fn launch(mut command: Command) -> Self {
        let mut child = command.stdout(Stdio::null()).stderr(Stdio::piped()).spawn().expect("it can be run");
        let lines = BufReader::new(child.stderr.take().expect("it is a pipe")).lines();
        let log = Arc::new(Mutex::new(String::new()));
        let daemon = Daemon { child, log: Arc::clone(&log) };
        // It ends with the daemon, or when the last process has that still holds its standard error.
        thread::spawn(move || {
            for line in lines.map_while(Result::ok) {
                *log.lock().expect("nothing panics under this lock") += &format!("{line}\n");
            }
        });
        daemon
    }
}

impl Drop for Place {
    fn drop(&mut self) {
        let _already_gone = fs::remove_dir_all(&self.folder);
    }
}

/// The program on its way; ended and reaped at the end of the test.
pub(super) struct Started(Option<Child>);

impl Started {
    pub(super) fn pid(&self) -> u32 {
        self.0.as_ref().expect("it is not finished yet").id()
    }

    pub(super) fn signal(&self, signal: Signal) {
        kill_process(Pid::from_child(self.0.as_ref().expect("it is not finished yet")), signal).expect("it runs");
    }

    /// Waits for its end.
    #[track_caller]
    pub(super) fn finish(mut self) -> Output {
        let child = self.0.take().expect("it is not finished yet");
        let output = child.wait_with_output().expect("it is our child");
        let text = |bytes| String::from_utf8(bytes).expect("it is UTF-8");
        Output { status: output.status.code(), stdout: text(output.stdout), stderr: text(output.stderr) }
    }
}

impl Drop for Started {
    fn drop(&mut self) {
        if let Some(child) = &mut self.0 {
            // First in order: what it has started itself goes with it.
            let _already_gone = kill_process(Pid::from_child(child), Signal::TERM);
            let until = Instant::now() + PATIENCE;
            while matches!(child.try_wait(), Ok(None)) && Instant::now() < until {
                thread::sleep(Duration::from_millis(5));
            }
            let _already_gone = child.kill();
            let _reaped = child.wait();
        }
    }
}

/// A daemon that runs; killed and reaped at the end of the test.
pub(super) struct Daemon {
    child: Child,
    log: Arc<Mutex<String>>,
}

impl Daemon {
    /// What it has written to standard error so far.
    pub(super) fn log(&self) -> String {
        self.log.lock().expect("nothing panics under this lock").clone()
    }

    /// Waits until it has logged `text`.
    #[track_caller]
    pub(super) fn wait_for(&self, text: &str) {
        let until = Instant::now() + PATIENCE;
        while !self.log().contains(text) {
            assert!(Instant::now() < until, "no {text:?} in its log:\n{}", self.log());
            thread::sleep(Duration::from_millis(5));
        }
    }

    pub(super) fn signal(&self, signal: Signal) {
        kill_process(Pid::from_child(&self.child), signal).expect("it runs");
    }

    pub(super) fn pid(&self) -> u32 {
        self.child.id()
    }

    /// Waits for its end.
    #[track_caller]
    pub(super) fn wait(&mut self) -> ExitStatus {
        let mut status = None;
        eventually("it ends", || {
            status = self.child.try_wait().expect("it is our child");
            status.is_some()
        });
        status.expect("it has ended")
    }

    /// Whether it has not ended.
    pub(super) fn is_running(&mut self) -> bool {
        self.child.try_wait().expect("it is our child").is_none()
    }
}

impl Drop for Daemon {
    fn drop(&mut self) {
        let _already_gone = self.child.kill();
        let _reaped = self.child.wait();
        if thread::panicking() {
            std::io::stderr()
                .write_all(format!("the log of the daemon:\n{}", self.log()).as_bytes())
                .unwrap_or_default();
        }
    }
}

/// Whether the test runs as root; it says that it is skipped where not. Only root can be somebody else, and give files to others.
pub(super) fn is_root() -> bool {
    let is_root = rustix::process::geteuid().is_root();
    if !is_root {
        std::io::stderr().write_all(b"skipped: only root can try this\n").expect("it can be written");
    }
    is_root
}
