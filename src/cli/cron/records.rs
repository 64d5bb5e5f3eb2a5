//! Where the runs of entries are on record: in Redis, with a daemon that has none, or in the state folder that one has left.

use std::collections::{BTreeMap, BTreeSet};
use std::io;
use std::path::{Path, PathBuf};
use std::time::Duration;

use crate::broker::{BrokerError, Fate, Inspect, Memory, Store};
use crate::cli::Place;
use crate::cli::exit::{Exit, Failure};
use crate::inspect::Remote;
use crate::protocol::{RequestId, Run};
use crate::scheduler::records;

/// The records of one daemon, or of those that share a Redis.
pub(in crate::cli) enum Records {
    Broker(Box<dyn Inspect>),
    /// No daemon runs with this state folder.
    Folder(PathBuf),
}

impl Records {
    /// Those of the place that the command line or the configuration names.
    pub(in crate::cli) fn open(place: &Place) -> Result<Self, Failure> {
        match place.state_dir()? {
            Some(folder) => Self::of_folder(folder),
            None => Ok(Records::Broker(place.operator()?)),
        }
    }

    /// Those of the daemon with this state folder, or of its last one.
    pub(super) fn of_folder(folder: PathBuf) -> Result<Self, Failure> {
        Ok(match Remote::find(&folder)? {
            Some(daemon) => Records::Broker(Box::new(daemon)),
            None => Records::Folder(folder),
        })
    }

    /// The runs of the entry `name`, the oldest first.
    pub(in crate::cli) fn of(&self, name: &str) -> Result<Vec<Run>, Failure> {
        self.look(|store| records::runs(store, name))
    }

    /// The runs of all entries.
    pub(in crate::cli) fn all(&self) -> Result<BTreeMap<String, Vec<Run>>, Failure> {
        self.look(records::all_runs)
    }

    /// Since when the entry `name` is known, in milliseconds since 1970.
    pub(in crate::cli) fn known_since(&self, name: &str) -> Result<Option<u64>, Failure> {
        self.look(|store| records::known_since(store, name))
    }

    /// The entries that are paused.
    pub(in crate::cli) fn paused(&self) -> Result<BTreeSet<String>, Failure> {
        self.look(records::paused)
    }

    /// How the request `id` stands, where that can be seen.
    pub(in crate::cli) fn fate(&mut self, id: &RequestId) -> Result<Option<Fate>, Failure> {
        match self {
            Records::Broker(operator) => Ok(Some(operator.fate(id)?).filter(|fate| !matches!(fate, Fate::Unknown))),
            Records::Folder(_) => Ok(None),
        }
    }

    /// Pauses the entry `name`, or lets it go on; tells whether that changed anything.
    pub(in crate::cli) fn pause(&self, name: &str, is_paused: bool) -> Result<bool, Failure> {
        self.change(|store| records::pause(store, name, is_paused))
    }

    /// Puts `run` on record, which was no daemon's.
    pub(super) fn keep(&self, run: &Run) -> Result<(), Failure> {
        self.change(|store| records::keep(store, run))
    }

    fn look<T>(&self, look: impl FnOnce(&dyn Store) -> Result<T, BrokerError>) -> Result<T, Failure> {
        match self {
            Records::Broker(operator) => Ok(look(&**operator)?),
            Records::Folder(folder) => {
                let kept = Memory::read_from(folder).map_err(|error| unusable(folder, &error))?;
                Ok(look(&kept)?)
            }
        }
    }

    fn change<T>(&self, change: impl FnOnce(&dyn Store) -> Result<T, BrokerError>) -> Result<T, Failure> {
        let folder = match self {
            Records::Broker(operator) => return Ok(change(&**operator)?),
            Records::Folder(folder) => folder,
        };
        let memory = Memory::new(Duration::ZERO);
        match memory.keep_in(folder) {
            Ok(()) => Ok(change(&memory)?),
            // A daemon has started since.
            Err(error) if error.kind() == io::ErrorKind::AlreadyExists => match Remote::find(folder)? {
                Some(daemon) => Ok(change(&daemon)?),
                None => Err(unusable(folder, &error)),
            },
            Err(error) => Err(unusable(folder, &error)),
        }
    }
}

fn unusable(folder: &Path, error: &io::Error) -> Failure {
    Failure::new(Exit::CannotStart, format!("{}: {error}", folder.display()))
}
