//! Redis servers that need more than a port: sentinels, and nodes of a cluster.

use std::fs;
use std::net::TcpListener;
use std::path::PathBuf;
use std::process::{Child, Command, Stdio};

use redis::{Connection, RedisResult, cmd};

use super::world::{Folder, connect, eventually};

/// A `redis-server` with a configuration of its own, in a folder of its own. Both go with it.
pub(super) struct RawServer {
    child: Child,
    pub(super) port: u16,
    _folder: Folder,
}

impl RawServer {
    /// Starts one with these lines and waits until it answers. `mode` is an argument such as `--sentinel`.
    pub(super) fn start(lines: &[String], mode: &[&str]) -> Self {
        let folder = Folder::new();
        let port = free_port();
        let mut text = format!("port {port}\nbind 127.0.0.1\ndir {}\nsave \"\"\n", folder.path().display());
        lines.iter().for_each(|line| text += &format!("{line}\n"));
        let path: PathBuf = folder.path().join("redis.conf");
        fs::write(&path, text).expect("a file can be written");
        let mut command = Command::new("redis-server");
        command.arg(&path).args(mode).stdin(Stdio::null()).stdout(Stdio::null()).stderr(Stdio::null());
        let server = RawServer { child: command.spawn().expect("redis-server starts"), port, _folder: folder };
        eventually("the server answers", || {
            server.try_connect().and_then(|mut connection| cmd("PING").query::<()>(&mut connection)).is_ok()
        });
        server
    }

    /// A connection to database 0. A server that just changes its role closes those that come.
    pub(super) fn connect(&self) -> Connection {
        let mut opened = None;
        eventually("it answers", || {
            opened = self.try_connect().ok();
            opened.is_some()
        });
        opened.expect("it was opened")
    }

    fn try_connect(&self) -> RedisResult<Connection> {
        connect(&self.url())
    }

    /// Its URL, for database 0.
    pub(super) fn url(&self) -> String {
        format!("redis://127.0.0.1:{}/0", self.port)
    }

    /// Its host and port.
    pub(super) fn place(&self) -> String {
        format!("127.0.0.1:{}", self.port)
    }

    /// Ends it as `kill -9` does.
    pub(super) fn kill(&mut self) {
        let _already_gone = self.child.kill();
        let _reaped = self.child.wait();
    }
}

impl Drop for RawServer {
    fn drop(&mut self) {
        self.kill();
    }
}

/// A port that nobody listens to; low enough that a cluster's second port, 10,000 above it, is one, too.
pub(super) fn free_port() -> u16 {
    loop {
        let listener = TcpListener::bind(("127.0.0.1", 0)).expect("there are free ports");
        let port = listener.local_addr().expect("it has an address").port();
        if port < 55_000 {
            return port;
        }
    }
}
