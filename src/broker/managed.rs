//! A private `redis-server`: started, watched, started again when it ends, and stopped with us.
//!
//! It keeps its data in a folder of its own, append-only with fsync every second. It listens on a loopback address or a
//! Unix socket only, and is never started where something answers already. One that we left behind when we were killed is
//! known by its folder, and taken over.

use std::fs;
use std::io::{self, Write};
use std::net::{IpAddr, TcpListener, ToSocketAddrs};
use std::os::fd::{AsFd, OwnedFd};
use std::os::unix::process::CommandExt;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::sync::{Arc, Mutex, MutexGuard};
use std::time::{Duration, Instant};

use rustix::event::{PollFd, PollFlags, poll};
use rustix::process::{Pid, PidfdFlags, Signal, pidfd_open, pidfd_send_signal};

use super::redis::Target;
use crate::outage::Retry;
use crate::thread::{Joined, Stop};

/// How long a new server may take until it answers; one that loads much data answers that it does.
const START: Duration = Duration::from_secs(10);

/// How long a server may take to write its data and end.
const END: Duration = Duration::from_secs(10);

/// A server that ran at least this long had started well.
const HEALTHY: Duration = Duration::from_secs(60);

/// The program.
const PROGRAM: &str = "redis-server";

/// The configuration of a server, line by line.
type Settings = Vec<String>;

/// A `redis-server` that belongs to this daemon.
pub struct ManagedRedis {
    shared: Arc<Shared>,
    // Joined on drop, after `Drop` has told it to end.
    _watcher: Joined,
}

struct Shared {
    target: Target,
    settings: Settings,
    folder: PathBuf,
    stop: Stop,
    /// To signal it; never one that was reaped and whose number is another's.
    process: Mutex<OwnedFd>,
}

/// A process that can be waited for: our child, or one that an earlier daemon left behind.
struct Running {
    child: Option<Child>,
    handle: OwnedFd,
}

impl ManagedRedis {
    /// Starts a server at `target` with its data in `folder`, and waits until it answers. `None` if something answers
    /// there already that is not ours. The error is one line for the operator.
    pub fn start(target: &Target, password: Option<&str>, folder: &Path) -> Result<Option<Self>, String> {
        let folder = fs::create_dir_all(folder).and_then(|()| folder.canonicalize());
        let folder = folder.map_err(|error| format!("the folder of the managed Redis: {error}"))?;
        let running = match find_answering(target, &folder) {
            Answering::Nobody => None,
            Answering::Ours(running) => Some(running),
            Answering::Other => return Ok(None),
        };
        let settings = settings(target, password, &folder)?;
        let running = match running {
            Some(running) => running,
            None => launch(target, &settings, &folder)?,
        };
        let handle = running.handle.try_clone().map_err(|error| format!("the managed Redis: {error}"))?;
        let shared = Arc::new(Shared {
            target: target.clone(),
            settings,
            folder,
            stop: Stop::new(),
            process: Mutex::new(handle),
        });
        let watcher = Joined::spawn("redis-watcher", {
            let shared = Arc::clone(&shared);
            move || shared.watch(running)
        });
        let watcher = watcher.map_err(|error| format!("the managed Redis: {error}"))?;
        Ok(Some(ManagedRedis { shared, _watcher: watcher }))
    }

    /// Where its data is.
    pub fn folder(&self) -> &Path {
        &self.shared.folder
    }
}

impl Drop for ManagedRedis {
    fn drop(&mut self) {
        self.shared.stop.ask();
        let process = self.shared.process();
        // It writes its data and ends; the watcher, which waits for that, is joined next.
        let _already_gone = pidfd_send_signal(process.as_fd(), Signal::TERM);
        if !has_ended(&process, Some(END)) {
            log::error!("the managed Redis did not end within {END:?} and is killed");
            let _already_gone = pidfd_send_signal(process.as_fd(), Signal::KILL);
        }
    }
}

impl Shared {
    fn process(&self) -> MutexGuard<'_, OwnedFd> {
        self.process.lock().expect("nothing panics under this lock")
    }

    /// Waits for the server to end and starts it again, until we stop.
    fn watch(&self, mut running: Running) {
        let mut retry = Retry::default();
        loop {
            let since = Instant::now();
            let end = running.wait();
            if self.stop.is_asked() {
                return;
            }
            log::error!("the managed Redis ended ({end}), starting it again; its log is {}", log_file(&self.folder));
            if since.elapsed() > HEALTHY {
                retry.succeeded();
            }
            running = loop {
                if !retry.pause(&self.stop) {
                    return;
                }
                match launch(&self.target, &self.settings, &self.folder) {
                    Ok(running) => break running,
                    Err(error) => log::error!("{error}"),
                }
            };
            match running.handle.try_clone() {
                Ok(handle) => *self.process() = handle,
                Err(error) => log::error!("the managed Redis: {error}"),
            }
            if self.stop.is_asked() {
                // Asked while it started: the signal went to the one before.
                let _already_gone = pidfd_send_signal(running.handle.as_fd(), Signal::TERM);
            }
        }
    }
}

impl Running {
    /// Blocks until it has ended; tells how, for people.
    fn wait(&mut self) -> String {
        has_ended(&self.handle, None);
        match self.child.as_mut().map(Child::wait) {
            Some(Ok(status)) => status.to_string(),
            _ => "it was left behind by an earlier daemon".to_owned(),
        }
    }
}

/// Waits, at most `patience`, for a process to end; tells whether it has.
fn has_ended(handle: &OwnedFd, patience: Option<Duration>) -> bool {
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

enum Answering {
    Nobody,
    Ours(Running),
    Other,
}

/// Who answers at `target`.
fn find_answering(target: &Target, folder: &Path) -> Answering {
    let Ok(mut connection) = target.connect("cerbas-start") else {
        // Also something that is no Redis, or lets nobody in, is somebody.
        let somebody = match target.host_and_port() {
            Some(address) => std::net::TcpStream::connect(address).is_ok(),
            None => false,
        };
        return if somebody { Answering::Other } else { Answering::Nobody };
    };
    let mut ours = || {
        let (_, dir): (String, String) = redis::cmd("CONFIG").arg("GET").arg("dir").query(&mut connection).ok()?;
        let info: redis::InfoDict = redis::cmd("INFO").arg("server").query(&mut connection).ok()?;
        let pid = Pid::from_raw(info.get::<i32>("process_id")?)?;
        let handle = pidfd_open(pid, PidfdFlags::empty()).ok()?;
        (Path::new(&dir) == folder).then_some(Running { child: None, handle })
    };
    ours().map_or(Answering::Other, Answering::Ours)
}

/// What the server is told; it reads it from its standard input, so that no password shows in a list of processes.
fn settings(target: &Target, password: Option<&str>, folder: &Path) -> Result<Settings, String> {
    let mut settings = match target.host_and_port() {
        Some((host, port)) => vec![format!("bind {}", loopback(host, port)?), format!("port {port}")],
        None => {
            let path = target.socket().ok_or("a managed Redis needs a TCP address or a Unix socket")?;
            vec!["port 0".to_owned(), format!("unixsocket {}", quote(&path.display().to_string()))]
        }
    };
    settings.extend(["appendonly yes", "appendfsync everysec", "save \"\"", "daemonize no"].map(str::to_owned));
    settings.push(format!("databases {}", (target.database() + 1).max(16)));
    settings.push(format!("dir {}", quote(&folder.display().to_string())));
    settings.push(format!("logfile {}", quote(&log_file(folder))));
    settings.extend(password.map(|password| format!("requirepass {}", quote(password))));
    Ok(settings)
}

/// The address to bind to, which must not be reachable from other machines.
fn loopback(host: &str, port: u16) -> Result<IpAddr, String> {
    let refuse = || format!("{host}: a managed Redis runs on a loopback address only; set redis.server = \"external\"");
    let mut addresses = (host, port).to_socket_addrs().map_err(|error| format!("{host}: {error}"))?;
    let first = addresses.next().ok_or_else(refuse)?.ip();
    (first.is_loopback() && addresses.all(|address| address.ip().is_loopback())).then_some(first).ok_or_else(refuse)
}

/// `text` as one word of a Redis configuration.
fn quote(text: &str) -> String {
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

fn log_file(folder: &Path) -> String {
    folder.join("redis.log").display().to_string()
}

/// Starts a server and waits until it answers.
fn launch(target: &Target, settings: &[String], folder: &Path) -> Result<Running, String> {
    let child = spawn(settings).map_err(|error| match error.kind() {
        io::ErrorKind::NotFound => format!(
            "{PROGRAM} is not installed: install it (on Debian: apt install redis-server), \
             or set redis.server = \"external\" or \"none\""
        ),
        _ => format!("cannot start {PROGRAM}: {error}"),
    })?;
    let handle = handle_of(&child).map_err(|error| format!("cannot watch {PROGRAM}: {error}"))?;
    let mut running = Running { child: Some(child), handle };
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

fn spawn(settings: &[String]) -> io::Result<Child> {
    let mut command = Command::new(PROGRAM);
    // A group of its own: Ctrl-C in the terminal is for us, and we stop it after our last answer.
    command.arg("-").process_group(0).stdin(Stdio::piped()).stdout(Stdio::null()).stderr(Stdio::null());
    let mut child = command.spawn()?;
    let mut input = child.stdin.take().expect("its input is piped");
    let written = input.write_all((settings.join("\n") + "\n").as_bytes());
    drop(input);
    // One that ended before it read all says why in its log.
    drop(written);
    Ok(child)
}

fn handle_of(child: &Child) -> io::Result<OwnedFd> {
    let pid = Pid::from_raw(child.id().cast_signed()).ok_or_else(|| io::Error::other("no process id"))?;
    Ok(pidfd_open(pid, PidfdFlags::empty())?)
}

/// Whether a server answers, be it that it still loads its data.
fn answers(target: &Target) -> bool {
    match target.connect("cerbas-start") {
        Ok(_) => true,
        Err(error) => error.reason.contains("LOADING") || error.reason.contains("loading"),
    }
}

fn last_line(folder: &Path) -> String {
    let log = fs::read_to_string(log_file(folder)).unwrap_or_default();
    log.lines().rfind(|line| !line.trim().is_empty()).unwrap_or("it wrote no log").trim().to_owned()
}

/// A server without persistence on a free port in a temporary folder, for tests and measurements. Its process and folder go when it is dropped.
pub struct ScratchRedis {
    address: String,
    folder: PathBuf,
    settings: Settings,
    running: Option<Running>,
}

impl ScratchRedis {
    /// Starts a server that keeps nothing on disk.
    pub fn start() -> Result<Self, String> {
        Self::start_with(&["save \"\"", "appendonly no"])
    }

    /// Starts a server that writes an append-only file.
    pub fn start_with_log() -> Result<Self, String> {
        Self::start_with(&["save \"\"", "appendonly yes", "appendfsync everysec"])
    }

    /// Starts a server with lines of configuration.
    pub fn start_with(lines: &[&str]) -> Result<Self, String> {
        let folder = std::env::temp_dir().join(format!("cerbas-{}", uuid::Uuid::new_v4()));
        fs::create_dir_all(&folder).map_err(|error| format!("{}: {error}", folder.display()))?;
        let port = free_port().map_err(|error| format!("no free port: {error}"))?;
        let mut settings = vec!["bind 127.0.0.1".to_owned(), format!("port {port}")];
        settings.push(format!("dir {}", quote(&folder.display().to_string())));
        settings.push(format!("logfile {}", quote(&log_file(&folder))));
        settings.extend(lines.iter().map(|line| (*line).to_owned()));
        let mut scratch = ScratchRedis { address: format!("127.0.0.1:{port}"), folder, settings, running: None };
        scratch.revive()?;
        Ok(scratch)
    }

    /// Its URL, for database 1.
    pub fn url(&self) -> String {
        format!("redis://{}/1", self.address)
    }

    /// Its host and port.
    pub fn address(&self) -> &str {
        &self.address
    }

    /// Forgets all data.
    pub fn flush(&self) -> Result<(), String> {
        let target = Target::new(&self.url(), None, None).map_err(|error| error.to_string())?;
        let mut connection = target.connect("cerbas-scratch").map_err(|error| error.to_string())?;
        redis::cmd("FLUSHALL").query(&mut connection).map_err(|error| error.to_string())
    }

    /// Its temporary folder.
    pub fn folder(&self) -> &Path {
        &self.folder
    }

    /// Its process id, while it runs.
    pub fn pid(&self) -> Option<u32> {
        self.running.as_ref().and_then(|running| running.child.as_ref()).map(Child::id)
    }

    /// Ends it as `kill -9` does.
    pub fn kill(&mut self) {
        self.running = None;
    }

    /// Starts it again at the same address.
    pub fn revive(&mut self) -> Result<(), String> {
        let target = Target::new(&self.url(), None, None).map_err(|error| error.to_string())?;
        self.running = Some(launch(&target, &self.settings, &self.folder)?);
        Ok(())
    }
}

impl Drop for ScratchRedis {
    fn drop(&mut self) {
        self.running = None;
        let _already_gone = fs::remove_dir_all(&self.folder);
    }
}

fn free_port() -> io::Result<u16> {
    Ok(TcpListener::bind(("127.0.0.1", 0))?.local_addr()?.port())
}
