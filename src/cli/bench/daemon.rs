//! The daemon that is measured, as a process of its own.

use std::fs;
use std::io::{BufRead, BufReader};
use std::path::PathBuf;
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

use rustix::process::{Pid, Signal, kill_process};

use super::failed;
use crate::broker::ScratchRedis;
use crate::cli::exit::Failure;

/// The configuration of the measured daemon. `echo` is the function of all figures but one.
const CONFIG: &str = "\
[redis]
server = \"external\"

[functions.echo]
builtin = \"echo\"

[functions.once]
builtin = \"echo\"
delivery = \"at-most-once\"
";

/// A running daemon; ended when dropped.
pub(super) struct Daemon {
    process: Process,
    started_in: Duration,
}

impl Daemon {
    /// Starts a daemon on `scratch` and waits until it says that it is ready.
    pub(super) fn start(scratch: &ScratchRedis) -> Result<Self, Failure> {
        Self::start_with(scratch, CONFIG)
    }

    /// Starts a daemon with a configuration of its own.
    pub(super) fn start_with(scratch: &ScratchRedis, config: &str) -> Result<Self, Failure> {
        let text = config;
        let config = scratch.folder().join("bench.toml");
        fs::write(&config, text).map_err(|error| failed("its configuration", error))?;
        let program = program()?;
        let mut command = Command::new(program);
        command.arg("run").arg("--config").arg(config);
        command.env("CERBAS_REDIS_URL", scratch.url()).env("RUST_LOG", "info").stderr(Stdio::piped());
        let start = Instant::now();
        let mut process = Process(command.spawn().map_err(|error| failed("starting the daemon", error))?);
        let log = process.0.stderr.take().expect("it is piped");
        let mut lines = BufReader::new(log).lines();
        let is_ready = lines.by_ref().map_while(Result::ok).any(|line| line.contains("ready"));
        let started_in = start.elapsed();
        if !is_ready {
            return Err(failed("starting the daemon", "it ended before it was ready"));
        }
        // Its log must be read, or it would wait for a reader some day.
        std::thread::spawn(move || lines.map_while(Result::ok).for_each(drop));
        Ok(Daemon { process, started_in })
    }

    /// From its start until it was ready.
    pub(super) fn started_in(&self) -> Duration {
        self.started_in
    }

    /// Its resident memory now, in MiB.
    pub(super) fn memory(&self) -> f64 {
        self.status("VmRSS:")
    }

    /// The most that was resident so far, in MiB.
    pub(super) fn peak_memory(&self) -> f64 {
        self.status("VmHWM:")
    }

    fn status(&self, field: &str) -> f64 {
        let status = fs::read_to_string(format!("/proc/{}/status", self.process.0.id())).unwrap_or_default();
        let line = status.lines().find_map(|line| line.strip_prefix(field));
        let kib = line.and_then(|line| line.split_whitespace().next()?.parse::<f64>().ok());
        kib.map_or(f64::NAN, |kib| kib / 1024.0)
    }

    /// The processor time of all its threads.
    pub(super) fn cpu_time(&self) -> Duration {
        let tasks = fs::read_dir(format!("/proc/{}/task", self.process.0.id()));
        let times = tasks.into_iter().flatten().flatten().filter_map(|task| {
            let schedstat = fs::read_to_string(task.path().join("schedstat")).ok()?;
            schedstat.split_whitespace().next()?.parse::<u64>().ok()
        });
        Duration::from_nanos(times.sum())
    }

    /// Ends it as `kill -9` does.
    pub(super) fn kill(self) {
        drop(self.process);
    }

    /// Ends it in order.
    pub(super) fn stop(mut self) -> Result<(), Failure> {
        let pid = Pid::from_raw(self.process.0.id().cast_signed()).expect("a child has an id");
        kill_process(pid, Signal::TERM).map_err(|error| failed("stopping the daemon", error))?;
        let status = self.process.0.wait().map_err(|error| failed("stopping the daemon", error))?;
        if status.success() { Ok(()) } else { Err(failed("stopping the daemon", status)) }
    }
}

/// Starts the bare loop that answers calls.
pub(super) fn start_echo(scratch: &ScratchRedis) -> Result<impl Drop + use<>, Failure> {
    let mut command = Command::new(program()?);
    command.arg("bench-echo").arg(scratch.address());
    Ok(Process(command.spawn().map_err(|error| failed("starting the bare loop", error))?))
}

fn program() -> Result<PathBuf, Failure> {
    std::env::current_exe().map_err(|error| failed("finding the program", error))
}

/// A child that is killed and reaped when dropped.
struct Process(Child);

impl Drop for Process {
    fn drop(&mut self) {
        let _already_gone = self.0.kill();
        let _reaped = self.0.wait();
    }
}
