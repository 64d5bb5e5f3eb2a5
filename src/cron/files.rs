//! The files of a daemon: single ones, and folders as `/etc/cron.d`.

use std::collections::HashMap;
use std::fmt;
use std::fs;
use std::io;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use super::policies::Policies;
use super::table::{Entry, Reading, Table, TableFault, free_name};
use crate::trust::{Role, Trust, Unread};

/// Which files there are, and what holds for all of them.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Crontabs {
    /// Files, or folders with files, whose lines have no user.
    pub files: Vec<PathBuf>,
    /// The same, with the user behind the schedule.
    pub system_files: Vec<PathBuf>,
    /// What holds for entries that say nothing else.
    pub defaults: Policies,
    /// The name of the host.
    pub host: String,
}

/// What is wrong with one of the files.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct FileFault {
    /// The file.
    pub path: PathBuf,
    /// Where in it, and what; the line is 0 where the file as a whole is wrong.
    pub fault: TableFault,
}

impl fmt::Display for FileFault {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let FileFault { path, fault: TableFault { line, column, reason } } = self;
        match line {
            0 => write!(f, "{}: {reason}", path.display()),
            _ => write!(f, "{}:{line}:{column}: {reason}", path.display()),
        }
    }
}

/// What the files say.
#[derive(Debug, Clone, Default, PartialEq)]
pub struct Loaded {
    /// The entries. Their names are those of one table: none comes twice.
    pub entries: Vec<Arc<Entry>>,
    /// Every fault. A line that has one costs itself only, and a file that cannot be read does.
    pub faults: Vec<FileFault>,
    /// The files and folders that are named and not there: they have no entries.
    pub missing: Vec<PathBuf>,
}

impl Crontabs {
    /// Reads all files. As root, what somebody else could have written is a fault.
    pub fn read(&self) -> Loaded {
        self.read_as(Trust::ours())
    }

    /// The same for files that are only looked at, whoever has written them.
    pub(crate) fn look(&self) -> Loaded {
        self.read_as(Trust::All)
    }

    fn read_as(&self, trust: Trust) -> Loaded {
        let mut loaded = Loaded::default();
        let mut known: HashMap<String, (PathBuf, usize)> = HashMap::new();
        for (path, has_users) in self.paths(trust, &mut loaded) {
            let table = match self.read_file(&path, has_users, trust) {
                Ok(table) => table,
                Err(error) => {
                    loaded.refuse(&path, error);
                    continue;
                }
            };
            let of_file = |fault| FileFault { path: path.clone(), fault };
            loaded.faults.extend(table.faults.into_iter().map(of_file));
            for mut entry in table.entries {
                if entry.policies.name.is_none() {
                    entry.name = free_name(&entry.name, |name| known.contains_key(name));
                } else if let Some((first, line)) = known.get(&entry.name) {
                    let reason = format!("the name {} is that of {}:{line}, too", entry.name, first.display());
                    loaded.faults.push(of_file(TableFault { line: entry.line, column: 1, reason }));
                    continue;
                }
                known.insert(entry.name.clone(), (path.clone(), entry.line));
                loaded.entries.push(Arc::new(entry));
            }
        }
        loaded
    }

    /// All files that there are, and whether they have users.
    fn paths(&self, trust: Trust, loaded: &mut Loaded) -> Vec<(PathBuf, bool)> {
        let mut paths = Vec::new();
        let named =
            self.files.iter().map(|path| (path, false)).chain(self.system_files.iter().map(|path| (path, true)));
        for (path, has_users) in named {
            match is_folder(path) {
                false => paths.push((path.clone(), has_users)),
                true => match files_in(path, trust) {
                    Ok(found) => paths.extend(found.into_iter().map(|path| (path, has_users))),
                    Err(error) => loaded.refuse(path, error),
                },
            }
        }
        paths
    }

    fn read_file(&self, path: &Path, has_users: bool, trust: Trust) -> Result<Table, Unread> {
        let text = trust.read(path, Role::Crontab)?;
        let file = Arc::from(path);
        Ok(Table::read(text, &Reading { file, has_users, host: &self.host, defaults: self.defaults.clone() }))
    }
}

impl Loaded {
    /// Whether all that is named was read, and is good.
    pub fn is_whole(&self) -> bool {
        self.faults.is_empty() && self.missing.is_empty()
    }

    /// The file or folder `path` cannot be read.
    fn refuse(&mut self, path: &Path, error: Unread) {
        let path = path.to_owned();
        let reason = match error {
            Unread::System(error) if error.kind() == io::ErrorKind::NotFound => return self.missing.push(path),
            Unread::System(error) => error.to_string().split(" (os error").next().unwrap_or_default().to_lowercase(),
            Unread::Distrusted(distrust) => distrust.to_string(),
        };
        self.faults.push(FileFault { path, fault: TableFault { line: 0, column: 0, reason } });
    }
}

fn is_folder(path: &Path) -> bool {
    fs::metadata(path).is_ok_and(|metadata| metadata.is_dir())
}

/// The files of a folder by their names: those that Debian's cron takes, so no hidden ones and no leftovers of packages.
fn files_in(folder: &Path, trust: Trust) -> Result<Vec<PathBuf>, Unread> {
    trust.check(folder, Role::Folder)?;
    let mut found = Vec::new();
    for entry in fs::read_dir(folder)? {
        let path = entry?.path();
        let name = path.file_name().and_then(|name| name.to_str()).unwrap_or_default();
        let is_plain = |byte: u8| byte.is_ascii_alphanumeric() || byte == b'_' || byte == b'-';
        if !name.is_empty() && name.bytes().all(is_plain) && fs::metadata(&path).is_ok_and(|data| data.is_file()) {
            found.push(path);
        }
    }
    found.sort();
    Ok(found)
}
