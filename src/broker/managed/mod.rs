//! A private `redis-server`: started, watched, started again when it ends, and stopped with us.
//!
//! It keeps its data in a folder of its own, append-only with fsync every second. It listens on a loopback address or a
//! Unix socket only, and is never started where something answers already. One that we left behind when we were killed is
//! known by its folder, and taken over.

mod process;
mod scratch;

use std::fs::File;
use std::io;
use std::net::{IpAddr, ToSocketAddrs};
use std::os::fd::{AsFd, OwnedFd};
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, MutexGuard};
use std::time::{Duration, Instant};

use rustix::fs::{FlockOperation, flock};
use rustix::io::Errno;
use rustix::process::{Pid, PidfdFlags, Signal, pidfd_open, pidfd_send_signal};

use self::process::{Running, Settings, has_ended, launch, log_file, quote};
pub use self::scratch::ScratchRedis;
use super::redis::Target;
use crate::outage::Retry;
use crate::private;
use crate::thread::{Joined, Stop};

/// How long a server may take to write its data and end.
const END: Duration = Duration::from_secs(10);

/// A server that ran at least this long had started well.
const HEALTHY: Duration = Duration::from_secs(60);

/// A `redis-server` that belongs to this daemon.
pub struct ManagedRedis {
    shared: Arc<Shared>,
    // Joined on drop, after `Drop` has told it to end.
    _watcher: Joined,
    /// Held as long as the server is ours.
    _owner: File,
}

struct Shared {
    target: Target,
    settings: Settings,
    folder: PathBuf,
    stop: Stop,
    /// To signal it; never one that was reaped and whose number is another's.
    process: Mutex<OwnedFd>,
}

impl ManagedRedis {
    /// Starts a server at `target` with its data in `folder`, and waits until it answers. `None` if something answers
    /// there already that is not ours. The error is one line for the operator.
    pub fn start(target: &Target, password: Option<&str>, folder: &Path) -> Result<Option<Self>, String> {
        let folder = private::make_folder(folder).and_then(|()| folder.canonicalize());
        let folder = folder.map_err(|error| format!("the folder of the managed Redis: {error}"))?;
        let settings = settings(target, password, &folder)?;
        let Some(owner) = own(&folder).map_err(|error| format!("the folder of the managed Redis: {error}"))? else {
            // Another daemon has it, and stops it when that ends.
            return wait_for_other(target, &folder);
        };
        let running = match find_answering(target, &folder) {
            Answering::Nobody => None,
            Answering::Ours(running) => Some(running),
            Answering::Other => return Ok(None),
        };
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
        Ok(Some(ManagedRedis { shared, _watcher: watcher, _owner: owner }))
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

/// Makes the server of `folder` ours; `None` where it is another daemon's.
fn own(folder: &Path) -> io::Result<Option<File>> {
    let owner = private::create(&folder.join("owner.lock"))?;
    match flock(&owner, FlockOperation::NonBlockingLockExclusive) {
        Ok(()) => Ok(Some(owner)),
        Err(Errno::WOULDBLOCK) => Ok(None),
        Err(error) => Err(error.into()),
    }
}

/// Waits until the server of another daemon answers.
fn wait_for_other(target: &Target, folder: &Path) -> Result<Option<ManagedRedis>, String> {
    let until = Instant::now() + END;
    while matches!(find_answering(target, folder), Answering::Nobody) {
        if Instant::now() > until {
            return Err(format!("another daemon has {}, and its Redis does not answer", folder.display()));
        }
        std::thread::sleep(Duration::from_millis(20));
    }
    Ok(None)
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
