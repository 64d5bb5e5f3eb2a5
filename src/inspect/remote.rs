//! The other end of the socket: a running daemon as something that can be inspected.

use std::io::{self, BufRead, BufReader, Write};
use std::os::unix::net::UnixStream;
use std::path::{Path, PathBuf};
use std::time::Duration;

use serde::de::DeserializeOwned;

use super::question::{Answered, Question};
use super::socket;
use crate::broker::{
    Beginning, BrokerError, Cause, DeadEntry, Facts, Fate, Fields, Found, Inspect, Job, Member, Overview, Result, Store,
};
use crate::effects::{FieldValue, Put, StoreKey};
use crate::protocol::{Answer, RequestId};

/// How long a daemon may take for one answer.
const PATIENCE: Duration = Duration::from_secs(10);

/// The daemon with one state folder. Each question has a connection of its own, so it may end and start again meanwhile.
pub(crate) struct Remote {
    folder: PathBuf,
}

impl Remote {
    /// The daemon that runs with the state folder `folder`; `None` if none does.
    pub(crate) fn find(folder: &Path) -> Result<Option<Self>> {
        let remote = Remote { folder: folder.to_owned() };
        let found = socket::connect(folder).map_err(|error| remote.failed(&error))?;
        Ok(found.map(|_| remote))
    }

    fn ask<T: DeserializeOwned>(&self, question: &Question) -> Result<T> {
        let stream = match socket::connect(&self.folder) {
            Ok(Some(stream)) => stream,
            Ok(None) => return Err(self.error(Cause::NoDaemon, "the daemon has ended".to_owned())),
            Err(error) => return Err(self.failed(&error)),
        };
        let line = talk(stream, question).map_err(|error| self.failed(&error))?;
        if line.is_empty() {
            return Err(self.error(Cause::NoDaemon, "the daemon has hung up; it ends, or is asked too much".to_owned()));
        }
        match serde_json::from_slice(&line) {
            Ok(Answered::Ok(found)) => Ok(found),
            Ok(Answered::Error(reason)) => Err(self.error(Cause::Refused, reason)),
            Err(error) => Err(self.error(Cause::Refused, format!("its answer cannot be read: {error}"))),
        }
    }

    fn failed(&self, error: &io::Error) -> BrokerError {
        let is_late = matches!(error.kind(), io::ErrorKind::WouldBlock | io::ErrorKind::TimedOut);
        let reason = if is_late { format!("no answer within {PATIENCE:?}") } else { error.to_string() };
        self.error(Cause::NoDaemon, reason)
    }

    fn error(&self, cause: Cause, reason: String) -> BrokerError {
        BrokerError { address: self.address(), reason, cause }
    }
}

fn talk(mut stream: UnixStream, question: &Question) -> io::Result<Vec<u8>> {
    stream.set_read_timeout(Some(PATIENCE))?;
    stream.set_write_timeout(Some(PATIENCE))?;
    let mut line = serde_json::to_vec(question)?;
    line.push(b'\n');
    let sent = stream.write_all(&line);
    let mut answer = Vec::new();
    BufReader::new(stream).read_until(b'\n', &mut answer)?;
    // One that refuses what is too long may say so before it has read it.
    if answer.is_empty() { sent.map(|()| answer) } else { Ok(answer) }
}

impl Inspect for Remote {
    fn address(&self) -> String {
        format!("unix:{}", socket::path(&self.folder).display())
    }

    fn overview(&mut self) -> Result<Overview> {
        self.ask(&Question::Overview)
    }

    fn members(&mut self) -> Result<Vec<Member>> {
        self.ask(&Question::Members)
    }

    fn jobs(&mut self, most: usize) -> Result<Vec<Job>> {
        self.ask(&Question::Jobs { most })
    }

    fn fate(&mut self, id: &RequestId) -> Result<Fate> {
        self.ask(&Question::Fate { id: id.to_string() })
    }

    fn answer(&mut self, id: &RequestId) -> Result<Option<(Answer, u64)>> {
        self.ask(&Question::Answer { id: id.to_string() })
    }

    fn cancel(&mut self, id: &RequestId, result_ttl: Duration) -> Result<Found> {
        self.ask(&Question::Cancel { id: id.to_string(), result_ttl })
    }

    fn dead(&mut self) -> Result<Vec<DeadEntry>> {
        self.ask(&Question::Dead)
    }

    fn retry_dead(&mut self, entry: &DeadEntry) -> Result<bool> {
        self.ask(&Question::RetryDead { entry: Box::new(entry.clone()) })
    }

    fn delete_dead(&mut self, entry: &DeadEntry) -> Result<bool> {
        self.ask(&Question::DeleteDead { entry: Box::new(entry.clone()) })
    }

    fn begin_at(&mut self, node: &str, beginning: &Beginning) -> Result<()> {
        self.ask(&Question::BeginAt { node: node.to_owned(), beginning: Box::new(beginning.clone()) })
    }

    fn facts(&mut self) -> Result<Option<Facts>> {
        self.ask(&Question::Facts)
    }
}

impl Store for Remote {
    fn read(&self, keys: &[StoreKey]) -> Result<Vec<Fields>> {
        self.ask(&Question::Read { keys: keys.to_vec() })
    }

    fn get(&self, key: &StoreKey, field: &str) -> Result<Option<FieldValue>> {
        self.ask(&Question::Get { key: key.clone(), field: field.to_owned() })
    }

    fn put(&self, puts: &[Put]) -> Result<Vec<bool>> {
        self.ask(&Question::Put { puts: puts.to_vec() })
    }

    fn forget(&self, keys: &[StoreKey]) -> Result<()> {
        self.ask(&Question::Forget { keys: keys.to_vec() })
    }
}
