//! The file of what rooms keep: a line for each step, which has all changes of it.

use std::collections::BTreeMap;
use std::fs::{self, File};
use std::io::{self, BufRead, BufReader, Read, Seek, Write};
use std::path::{Path, PathBuf};

use rustix::fs::{FlockOperation, flock};
use rustix::io::Errno;
use serde::{Deserialize, Serialize};

use crate::broker::Fields;
use crate::effects::{FieldValue, Put, StoreKey};
use crate::private;

/// The file in the folder for what outlives a restart.
pub const JOURNAL: &str = "store.jsonl";

/// Who holds a lock on this file writes the other one.
const LOCK: &str = "store.lock";

const IS_TAKEN: &str = "another daemon has its records there; give each a state_dir of its own";

/// So many lines more than what they say needs, and the file is written anew.
const SPARE_LINES: usize = 10_000;

/// What becomes of one key. A line is a list of these: all of it was done, or nothing.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub(super) struct Change {
    pub(super) key: StoreKey,
    /// All that was there is gone.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub(super) is_forgotten: bool,
    /// What fields are from then on; `null`: they are gone.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    pub(super) set: BTreeMap<Box<str>, Option<FieldValue>>,
}

impl Change {
    pub(super) fn put(put: &Put) -> Self {
        let set = put.fields.iter().map(|field| (field.name.clone(), field.value.clone())).collect();
        Change { key: put.key.clone(), is_forgotten: false, set }
    }

    pub(super) fn forget(key: &StoreKey) -> Self {
        Change { key: key.clone(), is_forgotten: true, set: BTreeMap::new() }
    }

    pub(super) fn all(key: &StoreKey, fields: &Fields) -> Self {
        let set = fields.iter().map(|(name, value)| (name.clone(), Some(value.clone()))).collect();
        Change { key: key.clone(), is_forgotten: false, set }
    }
}

/// The file of one process: no other has the lock.
pub(super) struct Journal {
    file: File,
    path: PathBuf,
    /// How many lines the file has.
    lines: usize,
    /// Held as long as we write there.
    _lock: File,
}

impl Journal {
    /// Opens the file in `folder`, and gives what is there to `take`.
    pub(super) fn open(folder: &Path, take: impl FnMut(Change)) -> io::Result<Self> {
        private::make_folder(folder)?;
        let lock = private::create(&folder.join(LOCK))?;
        private::give_to_owner_of(folder, &lock);
        flock(&lock, FlockOperation::NonBlockingLockExclusive).map_err(|errno| match errno {
            Errno::WOULDBLOCK => io::Error::new(io::ErrorKind::AlreadyExists, IS_TAKEN),
            errno => errno.into(),
        })?;
        let path = folder.join(JOURNAL);
        let mut file = private::append(&path)?;
        private::give_to_owner_of(folder, &file);
        let lines = Self::read(folder, take)?;
        // A crash may have left a part of a line; what is written next is not to be taken for the rest of it.
        if !ends_with_line(&path)? {
            file.write_all(b"\n")?;
        }
        Ok(Journal { file, path, lines, _lock: lock })
    }

    /// Reads the file in `folder`, which may not be there, and tells how many lines it has. One that cannot be read, as a crash may leave at the
    /// end, is passed over.
    pub(super) fn read(folder: &Path, mut take: impl FnMut(Change)) -> io::Result<usize> {
        let file = match File::open(folder.join(JOURNAL)) {
            Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(0),
            file => file?,
        };
        let mut lines = 0;
        for line in BufReader::new(file).split(b'\n') {
            if let Ok(changes) = serde_json::from_slice::<Vec<Change>>(&line?) {
                changes.into_iter().for_each(&mut take);
            }
            lines += 1;
        }
        Ok(lines)
    }

    /// Adds the changes of one step.
    pub(super) fn write(&mut self, changes: &[Change]) {
        if changes.is_empty() {
            return;
        }
        self.lines += 1;
        if let Err(error) = self.file.write_all(&line(changes)) {
            log::error!("{}: {error}; what is kept is not written down until this is mended", self.path.display());
        }
    }

    /// Whether what `keys` keys have should be written anew.
    pub(super) fn is_too_long(&self, keys: usize) -> bool {
        self.lines > keys + SPARE_LINES || (keys == 0 && self.lines > 0)
    }

    /// Writes `changes`, which are all there is, to a new file, which takes the place of the old one.
    pub(super) fn rewrite(&mut self, changes: impl Iterator<Item = Change>) -> io::Result<()> {
        let fresh = self.path.with_extension("new");
        let (mut text, mut lines) = (Vec::new(), 0);
        for change in changes {
            text.extend(line(&[change]));
            lines += 1;
        }
        let mut file = private::create(&fresh)?;
        private::give_to_owner_of(&self.path, &file);
        file.write_all(&text)?;
        file.sync_all()?;
        fs::rename(&fresh, &self.path)?;
        self.file = private::append(&self.path)?;
        self.lines = lines;
        Ok(())
    }
}

/// Whether the file at `path` is empty, or ends with the end of a line.
fn ends_with_line(path: &Path) -> io::Result<bool> {
    let mut file = File::open(path)?;
    if file.metadata()?.len() == 0 {
        return Ok(true);
    }
    let mut last = [0];
    file.seek(io::SeekFrom::End(-1))?;
    file.read_exact(&mut last)?;
    Ok(last == *b"\n")
}

fn line(changes: &[Change]) -> Vec<u8> {
    let mut line = serde_json::to_vec(changes).expect("changes are JSON");
    line.push(b'\n');
    line
}
