//! Where the runs of entries are on record: in Redis, or without one in the state folder.

use std::collections::BTreeMap;
use std::path::PathBuf;

use crate::broker::{Fate, Inspect, read_paused, read_runs, write_paused};
use crate::cli::Place;
use crate::cli::exit::{Exit, Failure};
use crate::inspect::Remote;
use crate::protocol::{RequestId, Run};

/// The records of one daemon, or of those that share a Redis.
pub(in crate::cli) enum Records {
    Broker(Box<dyn Inspect>),
    Folder(PathBuf),
}

impl Records {
    /// Those of the place that the command line or the configuration names.
    pub(in crate::cli) fn open(place: &Place) -> Result<Self, Failure> {
        match place.state_dir()? {
            Some(folder) => Ok(Records::Folder(folder)),
            None => Ok(Records::Broker(place.operator()?)),
        }
    }

    /// The runs of the entry `name`, the oldest first.
    pub(in crate::cli) fn of(&mut self, name: &str) -> Result<Vec<Run>, Failure> {
        match self {
            Records::Broker(operator) => Ok(operator.runs(name)?),
            Records::Folder(_) => Ok(self.all()?.remove(name).unwrap_or_default()),
        }
    }

    /// The runs of all entries.
    pub(in crate::cli) fn all(&mut self) -> Result<BTreeMap<String, Vec<Run>>, Failure> {
        match self {
            Records::Broker(operator) => Ok(operator.all_runs()?),
            Records::Folder(folder) => read_runs(folder).map_err(|error| unreadable(folder, &error)),
        }
    }

    /// Since when the entry `name` is known, in milliseconds since 1970.
    pub(in crate::cli) fn known_since(&mut self, name: &str) -> Result<Option<u64>, Failure> {
        match self {
            Records::Broker(operator) => Ok(operator.known_since(name)?),
            Records::Folder(folder) => {
                let daemon = Remote::find(folder)?;
                Ok(daemon.map(|mut daemon| daemon.known_since(name)).transpose()?.flatten())
            }
        }
    }

    /// How the request `id` stands, where that can be seen.
    pub(in crate::cli) fn fate(&mut self, id: &RequestId) -> Result<Option<Fate>, Failure> {
        match self {
            Records::Broker(operator) => Ok(Some(operator.fate(id)?).filter(|fate| !matches!(fate, Fate::Unknown))),
            Records::Folder(folder) => {
                let Some(mut daemon) = Remote::find(folder)? else { return Ok(None) };
                Ok(Some(daemon.fate(id)?).filter(|fate| !matches!(fate, Fate::Unknown)))
            }
        }
    }

    /// The entries that are paused.
    pub(in crate::cli) fn paused(&mut self) -> Result<Vec<String>, Failure> {
        match self {
            Records::Broker(operator) => Ok(operator.paused()?.into_iter().collect()),
            Records::Folder(folder) => read_paused(folder).map_err(|error| unreadable(folder, &error)),
        }
    }

    /// Pauses the entry `name`, or lets it go on; tells whether that changed anything.
    pub(in crate::cli) fn pause(&mut self, name: &str, is_paused: bool) -> Result<bool, Failure> {
        match self {
            Records::Broker(operator) => Ok(operator.pause(name, is_paused)?),
            Records::Folder(folder) => {
                let mut names = read_paused(folder).map_err(|error| unreadable(folder, &error))?;
                let was_paused = names.iter().any(|other| other == name);
                names.retain(|other| other != name);
                names.extend(is_paused.then(|| name.to_owned()));
                write_paused(folder, &names).map_err(|error| unreadable(folder, &error))?;
                Ok(was_paused != is_paused)
            }
        }
    }
}

fn unreadable(folder: &std::path::Path, error: &std::io::Error) -> Failure {
    Failure::new(Exit::CannotStart, format!("{}: {error}", folder.display()))
}
