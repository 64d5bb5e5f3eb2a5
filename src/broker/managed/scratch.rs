//! A server for tests and measurements.

use std::fs;
use std::io;
use std::net::TcpListener;
use std::path::Path;
use std::process::Child;

use super::process::{LOG, Running, Settings, launch};
use crate::broker::redis::Target;
use crate::private;

/// A server without persistence on a free port in a temporary folder, for tests and measurements. Its process and folder go when it is dropped.
pub struct ScratchRedis {
    address: String,
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
        private::make_folder(&folder).map_err(|error| format!("{}: {error}", folder.display()))?;
        let port = free_port().map_err(|error| format!("no free port: {error}"))?;
        let mut settings = vec!["bind 127.0.0.1".to_owned(), format!("port {port}")];
        settings.extend(["dir .".to_owned(), format!("logfile {LOG}")]);
        settings.extend(lines.iter().map(|line| (*line).to_owned()));
        let settings = Settings { lines: settings, folder, identity: None };
        let mut scratch = ScratchRedis { address: format!("127.0.0.1:{port}"), settings, running: None };
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
        &self.settings.folder
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
        self.running = Some(launch(&target, &self.settings)?);
        Ok(())
    }
}

impl Drop for ScratchRedis {
    fn drop(&mut self) {
        self.running = None;
        let _already_gone = fs::remove_dir_all(&self.settings.folder);
    }
}

fn free_port() -> io::Result<u16> {
    Ok(TcpListener::bind(("127.0.0.1", 0))?.local_addr()?.port())
}
