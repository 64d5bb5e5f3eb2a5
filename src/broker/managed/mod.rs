//! A private `redis-server`: started, watched, started again when it ends, and stopped with us.
//!
//! It keeps its data in a folder of its own, append-only with fsync every second. It listens on a loopback address or a
//! Unix socket only, and is never started where something answers already. One that we left behind when we were killed is
//! known by its folder, and taken over, unless it lets others in than this one shall.
//!
//! It is closed to other users of the machine ([`Access`]), and does not run as root ([`keeper`]).

mod access;
mod entrance;
mod keeper;
mod process;
mod scratch;
mod stranger;

use std::fs::{self, File};
use std::io;
use std::net::{IpAddr, TcpStream, ToSocketAddrs};
use std::os::fd::{AsFd, OwnedFd};
use std::os::unix::fs::{FileTypeExt, MetadataExt, symlink};
use std::os::unix::net::UnixStream;
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, MutexGuard};
use std::time::{Duration, Instant};

use rustix::fs::{FlockOperation, flock};
use rustix::io::Errno;
use rustix::process::{Pid, PidfdFlags, Signal, pidfd_open, pidfd_send_signal};

use self::access::Access;
pub use self::entrance::Entrance;
use self::process::{LOG, Running, Settings, has_ended, launch, log_file};
pub use self::scratch::ScratchRedis;
use super::redis::Target;
use crate::children::Identity;
use crate::lock::Unpoisoned;
use crate::outage::Retry;
use crate::private;
use crate::thread::{Joined, Stop, Threads};

/// How long a server may take to write its data and end.
const END: Duration = Duration::from_secs(10);

/// Who holds a lock on this file, in the state folder, stops the server.
const LOCK: &str = "redis.lock";

/// A server that ran at least this long had started well.
const HEALTHY: Duration = Duration::from_secs(60);

/// Which server it is, and who gets in.
pub struct ManagedOptions<'a> {
    /// Where it listens. Who knows its password gets in; without one nobody but our own user does.
    pub target: &'a Target,
    /// Everybody on this machine gets in, where there is no password. Not for root.
    pub is_open: bool,
    /// The folder for its password, and for a folder with its data.
    pub state_dir: &'a Path,
}

/// A `redis-server` that belongs to this daemon.
pub struct ManagedRedis {
    shared: Arc<Shared>,
    // Joined on drop, after `Drop` has told it to end.
    _watcher: Joined,
    /// Held as long as the server is ours.
    _owner: File,
    /// A link to its socket, which goes with it.
    link: Option<PathBuf>,
}

struct Shared {
    target: Target,
    settings: Settings,
    stop: Stop,
    /// To signal it; never one that was reaped and whose number is another's.
    process: Mutex<OwnedFd>,
}

impl ManagedRedis {
    /// Starts a server, and waits until it answers. `None` if another answers there already. Beside it stands how to reach whichever
    /// it is. The error is one line for the operator.
    pub fn start(options: &ManagedOptions<'_>, threads: &Threads) -> Result<(Option<Self>, Target), String> {
        let told = |error: io::Error| format!("the folder of the managed Redis: {error}");
        let ManagedOptions { target, state_dir, .. } = *options;
        let folder = state_dir.join("redis");
        let folder = private::make_folder(&folder).and_then(|()| folder.canonicalize()).map_err(told)?;
        let access = access(options)?;
        let wanted =
            Wanted { url: target, target: access.target(target), identity: keeper::identity()?, access, folder };
        let settings = settings(&wanted)?;
        let Some(owner) = own(state_dir).map_err(told)? else {
            // Another daemon has it, and stops it when that ends.
            return Ok((None, wanted.wait_for_other()?));
        };
        let running = match wanted.find_answering(state_dir) {
            Answering::Nobody => None,
            Answering::Ours(running) => Some(running),
            Answering::Changed(running) => {
                log::info!(
                    "an earlier daemon has left a Redis that lets in others than this one shall: starting it again"
                );
                end(&running.handle);
                None
            }
            Answering::Other => match stranger::owner(target).filter(|_| wanted.access.is_closed()) {
                None => return Ok((None, target.clone())),
                Some(owner) => return Err(of_stranger(target, owner)),
            },
        };
        let running = match running {
            Some(running) => running,
            None => {
                keeper::hand_over(&wanted.folder, wanted.identity.as_ref())?;
                wanted.link_socket().map_err(|error| format!("the socket of the managed Redis: {error}"))?;
                launch(&wanted.target, &settings)?
            }
        };
        let handle = running.handle.try_clone().map_err(|error| format!("the managed Redis: {error}"))?;
        wanted.leave_note();
        let link = wanted.link().map(Path::to_owned);
        let target = wanted.target;
        let shared =
            Arc::new(Shared { target: target.clone(), settings, stop: Stop::new(), process: Mutex::new(handle) });
        let watcher = threads.spawn("redis-watcher", {
            let shared = Arc::clone(&shared);
            move || shared.watch(running)
        });
        let watcher = watcher.map_err(|error| format!("the managed Redis: {error}"))?;
        Ok((Some(ManagedRedis { shared, _watcher: watcher, _owner: owner, link }), target))
    }

    /// Where its data is.
    pub fn folder(&self) -> &Path {
        &self.shared.settings.folder
    }
}

impl Drop for ManagedRedis {
    fn drop(&mut self) {
        self.shared.stop.ask();
        if let Some(link) = &self.link {
            let _already_gone = fs::remove_file(link);
        }
        // It writes its data and ends; the watcher, which waits for that, is joined next.
        end(&self.shared.process());
    }
}

/// Ends a server in order, or else at once.
fn end(process: &OwnedFd) {
    let _already_gone = pidfd_send_signal(process.as_fd(), Signal::TERM);
    if !has_ended(process, Some(END)) {
        log::error!("the managed Redis did not end within {END:?} and is killed");
        let _already_gone = pidfd_send_signal(process.as_fd(), Signal::KILL);
        has_ended(process, Some(END));
    }
}

impl Shared {
    fn process(&self) -> MutexGuard<'_, OwnedFd> {
        self.process.lock().unpoisoned()
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
            log::error!(
                "the managed Redis ended ({end}), starting it again; its log is {}",
                log_file(&self.settings.folder)
            );
            if since.elapsed() > HEALTHY {
                retry.succeeded();
            }
            running = loop {
                if !retry.pause(&self.stop) {
                    return;
                }
                match launch(&self.target, &self.settings) {
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

fn of_stranger(target: &Target, owner: u32) -> String {
    let address = target.address();
    format!(
        "{address}: user {owner} has a server there already, and could call all functions; stop it, name another place in \
         redis.url, or set redis.server = \"external\" to use it all the same"
    )
}

/// Makes the server of `state_dir` ours; `None` where it is another daemon's.
fn own(state_dir: &Path) -> io::Result<Option<File>> {
    let owner = private::create(&state_dir.join(LOCK))?;
    match flock(&owner, FlockOperation::NonBlockingLockExclusive) {
        Ok(()) => Ok(Some(owner)),
        Err(Errno::WOULDBLOCK) => Ok(None),
        Err(error) => Err(error.into()),
    }
}

/// Who gets in, as the options say.
fn access(options: &ManagedOptions<'_>) -> Result<Access, String> {
    Ok(match options.target.password() {
        Some(password) => Access::Password(password.to_owned()),
        None if options.is_open => Access::Everybody,
        None if options.target.host_and_port().is_none() => Access::Socket,
        None => {
            let entrance = Entrance::make(options.state_dir);
            Access::Entrance(entrance.map_err(|error| format!("the password of the managed Redis: {error}"))?)
        }
    })
}

/// The server that there shall be.
struct Wanted<'a> {
    /// Where the configuration says that it is.
    url: &'a Target,
    /// How we reach it.
    target: Target,
    access: Access,
    identity: Option<Identity>,
    folder: PathBuf,
}

enum Answering {
    Nobody,
    Ours(Running),
    /// It has our data, and is not as it shall be.
    Changed(Running),
    Other,
}

impl Wanted<'_> {
    /// Waits until the server of another daemon answers, whoever that one lets in.
    fn wait_for_other(&self) -> Result<Target, String> {
        let until = Instant::now() + END;
        loop {
            let ways = [&self.target, self.url];
            if let Some(target) = ways.into_iter().find(|target| target.connect("cerbas-start").is_ok()) {
                return Ok(target.clone());
            }
            if Instant::now() > until {
                let folder = self.folder.display();
                return Err(format!("another daemon has {folder}, and its Redis does not answer"));
            }
            std::thread::sleep(Duration::from_millis(20));
        }
    }

    /// Who answers there, by whichever way an earlier daemon may have left open.
    fn find_answering(&self, state_dir: &Path) -> Answering {
        if let Some(running) = self.ours(&self.target) {
            return if self.is_as_wanted(&running) { Answering::Ours(running) } else { Answering::Changed(running) };
        }
        let entrance = Entrance::of(state_dir).ok().flatten();
        let others = [Some(self.url.clone()), Some(self.url.without_login()), entrance.map(|it| it.target(self.url))];
        if let Some(running) = others.iter().flatten().find_map(|target| self.ours(target)) {
            return Answering::Changed(running);
        }
        // Also something that is no Redis, or lets nobody in, is somebody.
        let somebody = match self.url.host_and_port() {
            Some(address) => TcpStream::connect(address).is_ok(),
            None => self.url.socket().is_some_and(|socket| UnixStream::connect(socket).is_ok()),
        };
        if somebody { Answering::Other } else { Answering::Nobody }
    }

    /// The server behind `target`, if it has our data.
    fn ours(&self, target: &Target) -> Option<Running> {
        let mut connection = target.connect("cerbas-start").ok()?;
        let (_, dir): (String, String) = redis::cmd("CONFIG").arg("GET").arg("dir").query(&mut connection).ok()?;
        let info: redis::InfoDict = redis::cmd("INFO").arg("server").query(&mut connection).ok()?;
        let pid = Pid::from_raw(info.get::<i32>("process_id")?)?;
        let handle = pidfd_open(pid, PidfdFlags::empty()).ok()?;
        (Path::new(&dir) == self.folder).then_some(Running { child: None, handle, pid })
    }

    /// Whether it runs as whom it shall, and lets nobody in who shall stay out.
    fn is_as_wanted(&self, running: &Running) -> bool {
        let me = rustix::process::geteuid();
        let user = self.identity.as_ref().map_or(me, |identity| identity.user);
        let is_its =
            fs::metadata(format!("/proc/{}", running.pid.as_raw_pid())).is_ok_and(|it| it.uid() == user.as_raw());
        let keeps_out = || !self.access.is_closed() || self.url.without_login().connect("cerbas-start").is_err();
        is_its && (self.url.socket().is_some() || keeps_out())
    }

    /// The socket of the URL, as the server has to open it: who does not run as we do can only in its own folder.
    fn socket(&self) -> Option<&Path> {
        let socket = self.url.socket()?;
        Some(if self.identity.is_some() { Path::new(entrance::SOCKET) } else { socket })
    }

    /// Makes the socket of the URL lead to it, where the server cannot. Nobody answers there.
    fn link_socket(&self) -> io::Result<()> {
        let Some(link) = self.link() else { return Ok(()) };
        let named = |error: io::Error| io::Error::new(error.kind(), format!("{}: {error}", link.display()));
        if fs::symlink_metadata(link).is_ok_and(|data| data.is_symlink() || data.file_type().is_socket()) {
            fs::remove_file(link).map_err(named)?;
        }
        symlink(self.folder.join(entrance::SOCKET), link).map_err(named)
    }

    /// The socket of the URL, if it is a link to that of the server.
    fn link(&self) -> Option<&Path> {
        self.url.socket().filter(|_| self.identity.is_some())
    }

    /// Tells clients of the same user the way.
    fn leave_note(&self) {
        if let (Access::Entrance(entrance), Some((_, port))) = (&self.access, self.url.host_and_port()) {
            entrance.leave_note(port);
        }
    }
}

/// What the server is told; it reads it from its standard input, so that no password shows in a list of processes.
fn settings(wanted: &Wanted<'_>) -> Result<Settings, String> {
    let mut lines = match wanted.url.host_and_port() {
        Some((host, port)) => vec![format!("bind {}", loopback(host, port)?), format!("port {port}")],
        None if wanted.url.socket().is_some() => vec!["port 0".to_owned()],
        None => return Err("a managed Redis needs a TCP address or a Unix socket".to_owned()),
    };
    lines.extend(wanted.access.settings(wanted.socket()));
    lines.extend(["appendonly yes", "appendfsync everysec", "save \"\"", "daemonize no"].map(str::to_owned));
    lines.push(format!("databases {}", (wanted.url.database() + 1).max(16)));
    lines.extend(["dir .".to_owned(), format!("logfile {LOG}")]);
    Ok(Settings { lines, folder: wanted.folder.clone(), identity: wanted.identity.clone() })
}

/// The address to bind to, which must not be reachable from other machines.
fn loopback(host: &str, port: u16) -> Result<IpAddr, String> {
    let refuse = || format!("{host}: a managed Redis runs on a loopback address only; set redis.server = \"external\"");
    let mut addresses = (host, port).to_socket_addrs().map_err(|error| format!("{host}: {error}"))?;
    let first = addresses.next().ok_or_else(refuse)?.ip();
    (first.is_loopback() && addresses.all(|address| address.ip().is_loopback())).then_some(first).ok_or_else(refuse)
}
