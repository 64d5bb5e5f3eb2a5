//! The scratch Redis and the daemons, and what is done to them.

use std::fs::File;
use std::os::unix::process::{CommandExt, ExitStatusExt};
use std::path::PathBuf;
use std::process::{Child, Command, ExitStatus, Stdio};
use std::time::{Duration, Instant};

use rustix::process::{Pid, Signal, kill_process};

use super::failed;
use super::settings::configuration;
use crate::broker::ScratchRedis;
use crate::cli::exit::Failure;

/// How long a daemon that was told to end may take, also when Redis is away meanwhile.
const LONGEST_END: Duration = Duration::from_secs(30);

/// In which state something is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum State {
    Running,
    /// Stopped by SIGSTOP until then.
    Paused(Instant),
    /// Told to end at that time; away for so long afterwards.
    Ending(Instant, Duration),
    /// Gone until then.
    Away(Instant),
}

/// How daemons ended that were not killed by us.
#[derive(Debug, Clone, Default)]
pub(super) struct Ends {
    /// Ended by a deadly request.
    pub(super) aborted: u64,
    /// Told to end, and had to abandon something.
    pub(super) abandoned: u64,
    /// What must not be.
    pub(super) strange: Vec<String>,
}

/// All processes, which are killed when it is dropped.
pub(super) struct World {
    redis: ScratchRedis,
    redis_state: State,
    daemons: Vec<Daemon>,
    program: PathBuf,
    pub(super) ends: Ends,
}

struct Daemon {
    number: usize,
    child: Option<Child>,
    state: State,
}

impl World {
    /// Starts Redis, which writes down what it acknowledges before it does so, and `nodes` daemons.
    pub(super) fn start(nodes: usize) -> Result<Self, Failure> {
        let redis = ScratchRedis::start_with(&["save \"\"", "appendonly yes", "appendfsync always"]);
        let redis = redis.map_err(|reason| failed("its Redis", reason))?;
        let program = std::env::current_exe().map_err(|error| failed("finding the program", error))?;
        let mut world =
            World { redis, redis_state: State::Running, daemons: Vec::new(), program, ends: Ends::default() };
        let configuration = configuration(&world.redis.url(), &world.runs(), &world.program);
        std::fs::write(world.configuration(), configuration)
            .map_err(|error| failed("the configuration of the daemons", error))?;
        for number in 0..nodes {
            let mut daemon = Daemon { number, child: None, state: State::Running };
            world.launch(&mut daemon)?;
            world.daemons.push(daemon);
        }
        Ok(world)
    }

    pub(super) fn url(&self) -> String {
        self.redis.url()
    }

    pub(super) fn daemons(&self) -> usize {
        self.daemons.len()
    }

    /// The file with a line for each run.
    pub(super) fn runs(&self) -> PathBuf {
        self.redis.folder().join("runs")
    }

    fn configuration(&self) -> PathBuf {
        self.redis.folder().join("torture.toml")
    }

    fn launch(&self, daemon: &mut Daemon) -> Result<(), Failure> {
        let log = self.redis.folder().join(format!("daemon-{}.log", daemon.number + 1));
        let log = File::options().create(true).append(true).open(log).map_err(|error| failed("a log", error))?;
        let mut command = Command::new(&self.program);
        command.arg("torture-daemon").arg(self.configuration()).arg(self.runs());
        // What is set for the daemon of this machine is not for ours.
        for (name, _) in std::env::vars_os().filter(|(name, _)| name.to_string_lossy().starts_with("CERBAS_")) {
            command.env_remove(name);
        }
        command.env("CERBAS_SERVER_NAME", format!("daemon-{}", daemon.number + 1)).env("RUST_BACKTRACE", "0");
        // It ends when its standard input does, and does not hear the keys that are pressed on our terminal.
        command.stdin(Stdio::piped()).stdout(Stdio::null()).stderr(log).process_group(0);
        daemon.child = Some(command.spawn().map_err(|error| failed("starting a daemon", error))?);
        daemon.state = State::Running;
        Ok(())
    }

    /// `kill -9` of daemon `number`; false if there is none to kill.
    pub(super) fn kill(&mut self, number: usize, now: Instant, away: Duration) -> bool {
        let daemon = &mut self.daemons[number];
        let Some(mut child) = daemon.child.take() else { return false };
        let _gone_already = child.kill();
        let _reaped = child.wait();
        daemon.state = State::Away(now + away);
        true
    }

    /// SIGTERM to daemon `number`; false if it does not run.
    pub(super) fn end(&mut self, number: usize, now: Instant, away: Duration) -> bool {
        self.daemons[number].change(Signal::TERM, State::Ending(now, away))
    }

    /// SIGSTOP to daemon `number`; false if it does not run.
    pub(super) fn pause(&mut self, number: usize, now: Instant, length: Duration) -> bool {
        self.daemons[number].change(Signal::STOP, State::Paused(now + length))
    }

    /// `kill -9` of Redis; false if it is away.
    pub(super) fn kill_redis(&mut self, now: Instant, away: Duration) -> bool {
        if matches!(self.redis_state, State::Away(_)) {
            return false;
        }
        self.redis.kill();
        self.redis_state = State::Away(now + away);
        true
    }

    /// SIGSTOP to Redis; false if it does not run.
    pub(super) fn pause_redis(&mut self, now: Instant, length: Duration) -> bool {
        let is_done = self.redis_state == State::Running && self.signal_redis(Signal::STOP);
        if is_done {
            self.redis_state = State::Paused(now + length);
        }
        is_done
    }

    fn signal_redis(&self, with: Signal) -> bool {
        self.redis.pid().is_some_and(|pid| signal(pid, with))
    }

    /// Does what is due at `now`: lets go on what was held up, and starts what is away. Tells what ended by itself.
    pub(super) fn turn(&mut self, now: Instant) -> Result<(), Failure> {
        match self.redis_state {
            State::Paused(until) if now >= until => {
                self.signal_redis(Signal::CONT);
                self.redis_state = State::Running;
            }
            State::Away(until) if now >= until => {
                self.redis.revive().map_err(|reason| failed("starting Redis again", reason))?;
                self.redis_state = State::Running;
            }
            _ => {}
        }
        for number in 0..self.daemons.len() {
            self.turn_daemon(number, now)?;
        }
        Ok(())
    }

    fn turn_daemon(&mut self, number: usize, now: Instant) -> Result<(), Failure> {
        let daemon = &mut self.daemons[number];
        let ended = daemon.child.as_mut().map_or(Ok(None), Child::try_wait);
        if let Some(status) = ended.map_err(|error| failed("looking after a daemon", error))? {
            daemon.child = None;
            let was_told = matches!(daemon.state, State::Ending(..));
            let away = if let State::Ending(_, away) = daemon.state { away } else { Duration::ZERO };
            daemon.state = State::Away(now + away);
            self.ends.add(number, status, was_told);
            return Ok(());
        }
        match daemon.state {
            State::Paused(until) if now >= until => {
                daemon.change_any(Signal::CONT, State::Running);
            }
            State::Ending(since, _) if now >= since + LONGEST_END => {
                self.ends.strange.push(format!("daemon {} has not ended {LONGEST_END:?} after SIGTERM", number + 1));
                self.kill(number, now, Duration::ZERO);
            }
            State::Away(until) if now >= until => {
                let mut daemon = std::mem::replace(daemon, Daemon { number, child: None, state: State::Running });
                self.launch(&mut daemon)?;
                self.daemons[number] = daemon;
            }
            _ => {}
        }
        Ok(())
    }

    /// Lets all go on that is held up, and brings all back that is away, with the next turns.
    pub(super) fn calm(&mut self, now: Instant) {
        let states = self.daemons.iter_mut().map(|daemon| &mut daemon.state).chain([&mut self.redis_state]);
        for state in states {
            match state {
                State::Paused(until) | State::Away(until) => *until = now,
                State::Ending(_, away) => *away = Duration::ZERO,
                State::Running => {}
            }
        }
    }

    /// Ends all daemons in order.
    pub(super) fn finish(&mut self) -> Result<(), Failure> {
        let now = Instant::now();
        for number in 0..self.daemons.len() {
            self.end(number, now, Duration::from_secs(3600));
        }
        while self.daemons.iter().any(|daemon| matches!(daemon.state, State::Ending(..))) {
            self.turn(Instant::now())?;
            std::thread::sleep(Duration::from_millis(5));
        }
        Ok(())
    }

    /// Leaves its files where they are, and tells where.
    pub(super) fn keep_files(&mut self) -> std::io::Result<PathBuf> {
        let kept = self.redis.folder().with_extension("kept");
        self.redis.kill();
        std::fs::rename(self.redis.folder(), &kept)?;
        Ok(kept)
    }
}

impl Drop for World {
    fn drop(&mut self) {
        for number in 0..self.daemons.len() {
            self.kill(number, Instant::now(), Duration::ZERO);
        }
    }
}

impl Daemon {
    fn change(&mut self, with: Signal, next: State) -> bool {
        self.state == State::Running && self.change_any(with, next)
    }

    fn change_any(&mut self, with: Signal, next: State) -> bool {
        let is_done = self.child.as_ref().is_some_and(|child| signal(child.id(), with));
        if is_done {
            self.state = next;
        }
        is_done
    }
}

impl Ends {
    fn add(&mut self, number: usize, status: ExitStatus, was_told: bool) {
        match (status.code(), status.signal()) {
            (_, Some(signal)) if signal == Signal::ABORT.as_raw() => self.aborted += 1,
            (Some(0), _) if was_told => {}
            // So soon after its start that it did not listen to signals yet, and had taken nothing.
            (_, Some(signal)) if was_told && signal == Signal::TERM.as_raw() => {}
            (Some(1), _) if was_told => self.abandoned += 1,
            _ => self.strange.push(format!("daemon {} ended by itself: {status}", number + 1)),
        }
    }
}

fn signal(pid: u32, with: Signal) -> bool {
    Pid::from_raw(pid.cast_signed()).is_some_and(|pid| kill_process(pid, with).is_ok())
}
