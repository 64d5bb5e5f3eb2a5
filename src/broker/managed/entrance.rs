//! How its own user gets into a private Redis that is closed to all others: over a Unix socket in a private folder, with a password.
//!
//! The daemon keeps the password in its state folder. Beside it there is a note in the home of the user, by the port of the server, so
//! that clients which know only a URL find both; it stays when the daemon ends. The socket tells whether it holds: nobody listens at one of a
//! server that is gone, and nobody else can.

use std::fs;
use std::io;
use std::io::Write;
use std::os::unix::fs::MetadataExt;
use std::os::unix::net::UnixStream;
use std::path::{Path, PathBuf};

use serde::{Deserialize, Serialize};

use crate::accounts;
use crate::broker::redis::Target;
use crate::private;

/// The file with the password, in the state folder.
const PASSWORD: &str = "redis.password";

/// The socket, in the folder of the server.
pub(super) const SOCKET: &str = "redis.sock";

/// Where notes are, from the home of the user.
const NOTES: &str = ".local/state/cerbas";

/// Longer paths cannot be those of sockets.
const MOST_PATH: usize = 107;

/// A socket and a password.
#[derive(Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Entrance {
    /// `None` where the path would be too long; then the password is for the address of the URL.
    socket: Option<PathBuf>,
    password: String,
}

impl Entrance {
    /// That of the server whose state folder this is, if it has one that others do not have. An error is that it is another user's.
    pub fn of(state_dir: &Path) -> io::Result<Option<Self>> {
        match fs::read_to_string(state_dir.join(PASSWORD)) {
            Ok(password) => Ok(Some(Self::new(state_dir, password.trim().to_owned()))),
            Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(None),
            Err(error) => Err(error),
        }
    }

    /// The same, with a new password where there is none yet.
    pub(super) fn make(state_dir: &Path) -> io::Result<Self> {
        if let Some(known) = Self::of(state_dir)?.filter(|known| !known.password.is_empty()) {
            return Ok(known);
        }
        // 244 bits of chance.
        let password = format!("{}{}", uuid::Uuid::new_v4().simple(), uuid::Uuid::new_v4().simple());
        // In one step, so that no reader finds half of it.
        let fresh = state_dir.join(format!("{PASSWORD}.new"));
        private::create(&fresh)?.write_all(format!("{password}\n").as_bytes())?;
        fs::rename(&fresh, state_dir.join(PASSWORD))?;
        Ok(Self::new(state_dir, password))
    }

    fn new(state_dir: &Path, password: String) -> Self {
        let socket = std::path::absolute(state_dir.join("redis").join(SOCKET)).unwrap_or_default();
        let fits = socket.as_os_str().len() <= MOST_PATH && socket.is_absolute();
        Entrance { socket: fits.then_some(socket), password }
    }

    /// The one that the user of this process has into the server at `target`, by the note of the daemon.
    pub fn noted(target: &Target) -> Option<Self> {
        let (host, port) = target.host_and_port()?;
        let is_here = host == "localhost" || host.parse().is_ok_and(|address: std::net::IpAddr| address.is_loopback());
        let note = home()?.join(note(port));
        let is_ours = fs::metadata(&note).is_ok_and(|data| data.uid() == rustix::process::geteuid().as_raw());
        if !is_here || target.has_login() || !is_ours {
            return None;
        }
        let entrance: Entrance = serde_json::from_slice(&fs::read(note).ok()?).ok()?;
        entrance.leads_somewhere().then_some(entrance)
    }

    /// Leaves the note. That it cannot be left is no fault: the command line finds the state folder, too.
    pub(super) fn leave_note(&self, port: u16) {
        let Some(home) = home() else { return };
        // Root with the home of another user would write where that one can put links.
        let is_ours = fs::metadata(&home).is_ok_and(|data| data.uid() == rustix::process::geteuid().as_raw());
        let path = home.join(note(port));
        let text = serde_json::to_string(self).expect("an entrance is JSON");
        let write = || {
            private::make_folder(&home.join(NOTES))?;
            private::create(&path)?.write_all(text.as_bytes())
        };
        if let Some(Err(error)) = is_ours.then(write) {
            log::info!("{}: {error}; clients need the password in {PASSWORD}", path.display());
        }
    }

    /// The server at `target`, by this entrance.
    pub fn target(&self, target: &Target) -> Target {
        target.through(self.socket.as_deref(), &self.password)
    }

    /// Whether somebody listens there, as far as that can be told.
    pub fn leads_somewhere(&self) -> bool {
        self.socket.as_deref().is_none_or(|socket| UnixStream::connect(socket).is_ok())
    }

    pub(super) fn password(&self) -> &str {
        &self.password
    }

    pub(super) fn has_socket(&self) -> bool {
        self.socket.is_some()
    }
}

fn note(port: u16) -> PathBuf {
    Path::new(NOTES).join(format!("redis-{port}.json"))
}

/// The home of the user of this process.
fn home() -> Option<PathBuf> {
    let set = std::env::var_os("HOME").map(PathBuf::from).filter(|home| home.is_absolute());
    set.or_else(|| accounts::ours().map(|account| PathBuf::from(account.home)))
}
