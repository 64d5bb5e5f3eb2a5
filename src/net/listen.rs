//! Where connections come in.

use std::fmt;
use std::fs::{self, Permissions};
use std::io::{self, ErrorKind};
use std::net::{IpAddr, SocketAddr, TcpListener, ToSocketAddrs};
use std::os::fd::{AsFd, BorrowedFd};
use std::os::unix::fs::{FileTypeExt, PermissionsExt};
use std::os::unix::net::{UnixListener, UnixStream};
use std::path::{Path, PathBuf};

use listenfd::ListenFd;
use rustix::fs::{Mode, fchmod};
use rustix::io::Errno;
use rustix::net::{self, AddressFamily, SocketAddrUnix, SocketFlags, SocketType, socket_with};

use super::stream::Stream;

/// Who may use a socket: its owner, and the group.
const FOR_GROUP: u32 = 0o660;

/// So many connections may wait to be taken, as with the sockets of the standard library.
const BACKLOG: i32 = 4096;

/// A place to listen at.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum ListenAddress {
    /// `host:port`.
    Address(String),
    /// A socket of this machine.
    Path(PathBuf),
    /// The sockets that systemd has opened (`sd_listen_fds(3)`).
    Systemd,
}

impl ListenAddress {
    /// Reads `127.0.0.1:4455`, `[::1]:4455`, `unix:/run/cerbas/http.sock` or `systemd`.
    pub fn read(text: &str) -> Result<Self, String> {
        if text == "systemd" {
            return Ok(ListenAddress::Systemd);
        }
        if let Some(path) = text.strip_prefix("unix:") {
            let path = path.strip_prefix("//").unwrap_or(path);
            return if path.starts_with('/') {
                Ok(ListenAddress::Path(path.into()))
            } else {
                Err(format!("expected a whole path such as unix:/run/cerbas/http.sock, found {text:?}"))
            };
        }
        match text.rsplit_once(':') {
            Some((host, port)) if !host.is_empty() && port.parse::<u16>().is_ok() => {
                Ok(ListenAddress::Address(text.to_owned()))
            }
            _ => Err(format!("expected a place such as 127.0.0.1:4455, unix:/PATH or systemd, found {text:?}")),
        }
    }

    /// Whether other machines can reach it, as far as that can be told from its name.
    pub fn is_public(&self) -> bool {
        match self {
            ListenAddress::Address(address) => match address.to_socket_addrs() {
                Ok(mut addresses) => addresses.any(|address| !address.ip().is_loopback()),
                Err(_) => true,
            },
            ListenAddress::Path(_) | ListenAddress::Systemd => false,
        }
    }

    /// Opens it.
    pub(crate) fn open(&self) -> io::Result<Vec<Listener>> {
        match self {
            ListenAddress::Address(address) => Ok(vec![Listener::tcp(TcpListener::bind(address)?)?]),
            ListenAddress::Path(path) => Ok(vec![Listener::unix(bind(path)?, Some(path.clone()))?]),
            ListenAddress::Systemd => from_systemd(),
        }
    }
}

impl fmt::Display for ListenAddress {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            ListenAddress::Address(address) => f.write_str(address),
            ListenAddress::Path(path) => write!(f, "unix:{}", path.display()),
            ListenAddress::Systemd => f.write_str("systemd"),
        }
    }
}

/// Takes connections.
pub(crate) enum Listener {
    Tcp(TcpListener),
    /// The path goes with it, if it is ours.
    Unix(UnixListener, Option<PathBuf>),
}

impl Listener {
    fn tcp(listener: TcpListener) -> io::Result<Self> {
        listener.set_nonblocking(true)?;
        Ok(Listener::Tcp(listener))
    }

    fn unix(listener: UnixListener, path: Option<PathBuf>) -> io::Result<Self> {
        listener.set_nonblocking(true)?;
        Ok(Listener::Unix(listener, path))
    }

    /// Takes a connection, with the address of its other end.
    pub(crate) fn accept(&self) -> io::Result<(Stream, Option<IpAddr>)> {
        match self {
            Listener::Tcp(listener) => {
                let (stream, peer) = listener.accept()?;
                stream.set_nonblocking(true)?;
                // An answer is written in one go; nothing is gained by waiting for more.
                stream.set_nodelay(true)?;
                Ok((Stream::Tcp(stream), Some(peer.ip().to_canonical())))
            }
            Listener::Unix(listener, _) => {
                let (stream, _) = listener.accept()?;
                stream.set_nonblocking(true)?;
                Ok((Stream::Unix(stream), None))
            }
        }
    }

    /// The address that it has, where that is one.
    pub(crate) fn address(&self) -> Option<SocketAddr> {
        match self {
            Listener::Tcp(listener) => listener.local_addr().ok(),
            Listener::Unix(..) => None,
        }
    }

    /// Where it is, for people.
    pub(crate) fn shown(&self) -> String {
        match self {
            Listener::Tcp(_) => self.address().map_or_else(String::new, |address| format!("http://{address}")),
            Listener::Unix(_, Some(path)) => format!("unix:{}", path.display()),
            Listener::Unix(_, None) => "unix".to_owned(),
        }
    }
}

impl AsFd for Listener {
    fn as_fd(&self) -> BorrowedFd<'_> {
        match self {
            Listener::Tcp(listener) => listener.as_fd(),
            Listener::Unix(listener, _) => listener.as_fd(),
        }
    }
}

impl Drop for Listener {
    fn drop(&mut self) {
        if let Listener::Unix(_, Some(path)) = self {
            let _gone_already = fs::remove_file(path);
        }
    }
}

/// Listens at `path`, in the place of a daemon that is gone; others than its group cannot reach it.
fn bind(path: &Path) -> io::Result<UnixListener> {
    let address = SocketAddrUnix::new(path)?;
    let socket = socket_with(AddressFamily::UNIX, SocketType::STREAM, SocketFlags::CLOEXEC, None)?;
    // Linux makes the file with what the socket has, less the umask: so it is never wider.
    fchmod(&socket, Mode::from_raw_mode(FOR_GROUP))?;
    match net::bind(&socket, &address) {
        Err(Errno::ADDRINUSE) if is_left_behind(path) => {
            fs::remove_file(path)?;
            net::bind(&socket, &address)?;
        }
        bound => bound?,
    }
    fs::set_permissions(path, Permissions::from_mode(FOR_GROUP))?;
    net::listen(&socket, BACKLOG)?;
    Ok(UnixListener::from(socket))
}

fn is_left_behind(path: &Path) -> bool {
    let is_socket = fs::symlink_metadata(path).is_ok_and(|data| data.file_type().is_socket());
    is_socket && UnixStream::connect(path).is_err_and(|error| error.kind() == ErrorKind::ConnectionRefused)
}

fn from_systemd() -> io::Result<Vec<Listener>> {
    let mut given = ListenFd::from_env();
    let mut listeners = Vec::new();
    for at in 0..given.len() {
        // A socket of another kind is told by an error, and still there for the next question.
        match given.take_tcp_listener(at) {
            Ok(Some(listener)) => listeners.push(Listener::tcp(listener)?),
            Ok(None) => {}
            Err(_) => {
                if let Some(listener) = given.take_unix_listener(at)? {
                    listeners.push(Listener::unix(listener, None)?);
                }
            }
        }
    }
    if listeners.is_empty() {
        return Err(io::Error::new(ErrorKind::NotFound, "systemd has opened no sockets; is there a .socket unit?"));
    }
    Ok(listeners)
}
