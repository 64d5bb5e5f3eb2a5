//! The socket in `state_dir` at which a running daemon can be asked: where it is, who has it, who may use it.
//!
//! Who holds the lock beside it has the socket, so one that a dead daemon has left is replaced, and that of a living one is not. Its
//! file is made for its owner alone; who connects is looked at all the same, as root and what reaches it by other ways can.

use std::fs::{self, File};
use std::io::{self, ErrorKind};
use std::os::fd::AsRawFd;
use std::os::unix::fs::FileTypeExt;
use std::os::unix::net::{UnixListener, UnixStream};
use std::path::{Path, PathBuf};

use rustix::fs::{FlockOperation, Mode, OFlags, fchmod, flock};
use rustix::io::Errno;
use rustix::net::{self, AddressFamily, SocketAddrUnix, SocketFlags, SocketType, socket_with};

use crate::private;

/// What the socket is called.
const NAME: &str = "inspect.sock";

/// Who holds a lock on this file has the socket.
const LOCK: &str = "inspect.lock";

/// Its owner may use it.
const FOR_OWNER: u32 = 0o600;

/// So many may wait to be taken.
const BACKLOG: i32 = 64;

const IS_TAKEN: &str = "another daemon is asked there already; give each a state_dir of its own";

/// A socket that is ours until this is dropped; then its file goes.
#[derive(Debug)]
pub(super) struct Bound {
    pub(super) listener: UnixListener,
    path: PathBuf,
    // Below the path: nobody else makes a socket there before ours is gone.
    _lock: File,
}

impl Drop for Bound {
    fn drop(&mut self) {
        let _gone_already = fs::remove_file(&self.path);
    }
}

/// Where the socket of a daemon with this `state_dir` is.
pub(super) fn path(folder: &Path) -> PathBuf {
    folder.join(NAME)
}

/// Listens in `folder`, which is made if it is missing.
pub(super) fn bind(folder: &Path) -> io::Result<Bound> {
    private::make_folder(folder)?;
    let lock = private::create(&folder.join(LOCK))?;
    flock(&lock, FlockOperation::NonBlockingLockExclusive).map_err(|errno| match errno {
        Errno::WOULDBLOCK => io::Error::new(ErrorKind::AlreadyExists, IS_TAKEN),
        errno => errno.into(),
    })?;
    let path = path(folder);
    remove_left_behind(&path)?;
    let socket = socket_with(AddressFamily::UNIX, SocketType::STREAM, SocketFlags::CLOEXEC, None)?;
    // Linux makes the file with what the socket has, less the umask: so it is never wider.
    fchmod(&socket, Mode::from_raw_mode(FOR_OWNER))?;
    at(folder, |address| Ok(net::bind(&socket, address)?))?;
    let listener = UnixListener::from(socket);
    let bound = Bound { listener, path, _lock: lock };
    net::listen(&bound.listener, BACKLOG)?;
    bound.listener.set_nonblocking(true)?;
    Ok(bound)
}

/// Takes away what a dead daemon has left; we hold the lock.
fn remove_left_behind(path: &Path) -> io::Result<()> {
    match fs::symlink_metadata(path) {
        Ok(data) if data.file_type().is_socket() => fs::remove_file(path),
        Ok(_) => Err(io::Error::new(ErrorKind::AlreadyExists, format!("{NAME} is there and is no socket; remove it"))),
        Err(error) if error.kind() == ErrorKind::NotFound => Ok(()),
        Err(error) => Err(error),
    }
}

/// Connects to the daemon with the state folder `folder`; `None` if none runs.
pub(super) fn connect(folder: &Path) -> io::Result<Option<UnixStream>> {
    let socket = socket_with(AddressFamily::UNIX, SocketType::STREAM, SocketFlags::CLOEXEC, None)?;
    match at(folder, |address| Ok(net::connect(&socket, address)?)) {
        Ok(()) => Ok(Some(UnixStream::from(socket))),
        Err(error) if matches!(error.kind(), ErrorKind::NotFound | ErrorKind::ConnectionRefused) => Ok(None),
        Err(error) => Err(error),
    }
}

/// Does `work` with the address of the socket in `folder`. An address holds 108 bytes; where the path is longer, the folder is opened and
/// named by its descriptor.
fn at<T>(folder: &Path, work: impl FnOnce(&SocketAddrUnix) -> io::Result<T>) -> io::Result<T> {
    match SocketAddrUnix::new(path(folder)) {
        Ok(address) => work(&address),
        Err(Errno::NAMETOOLONG) => {
            let flags = OFlags::PATH | OFlags::DIRECTORY | OFlags::CLOEXEC;
            let opened = rustix::fs::open(folder, flags, Mode::empty())?;
            let short = Path::new("/proc/self/fd").join(opened.as_raw_fd().to_string());
            if !short.exists() {
                let reason =
                    "its path is longer than a socket can have, and /proc is not there; give a shorter state_dir";
                return Err(io::Error::new(ErrorKind::InvalidInput, reason));
            }
            work(&SocketAddrUnix::new(short.join(NAME))?)
        }
        Err(errno) => Err(errno.into()),
    }
}

/// Whether whoever is at the other end of `stream` may ask: our own user, or root.
pub(super) fn may_ask(stream: &UnixStream) -> bool {
    let peer = net::sockopt::socket_peercred(stream).map(|peer| peer.uid);
    peer.is_ok_and(|peer| peer.is_root() || peer == rustix::process::geteuid())
}
