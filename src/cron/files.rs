//! The files of a daemon: single ones, and folders as `/etc/cron.d`.

use std::collections::HashMap;
use std::fmt;
use std::fs;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use super::policies::Policies;
use super::table::{Entry, Reading, Table, TableFault};
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

impl Crontabs {
    /// Reads all files. Every fault is told, not only the first. Names are those of one table: none comes twice. As root, what
    /// somebody else could have written is a fault.
    pub fn read(&self) -> Result<Vec<Arc<Entry>>, Vec<FileFault>> {
        self.read_as(Trust::ours())
    }

    /// The same for files that are only looked at, whoever has written them.
    pub(crate) fn look(&self) -> Result<Vec<Arc<Entry>>, Vec<FileFault>> {
        self.read_as(Trust::All)
    }

    fn read_as(&self, trust: Trust) -> Result<Vec<Arc<Entry>>, Vec<FileFault>> {
        let (mut entries, mut faults) = (Vec::new(), Vec::new());
        let mut known: HashMap<String, (PathBuf, usize)> = HashMap::new();
        for (path, has_users) in self.paths(trust, &mut faults) {
            let table = match self.read_file(&path, has_users, trust) {
                Ok(table) => table,
                Err(found) => {
                    faults.extend(found.into_iter().map(|fault| FileFault { path: path.clone(), fault }));
                    continue;
                }
            };
            for mut entry in table.entries {
                if entry.policies.name.is_none() {
                    rename(&mut entry, &known);
                }
                if let Some((first, line)) = known.get(&entry.name) {
                    let reason = format!("the name {} is that of {}:{line}, too", entry.name, first.display());
                    let fault = TableFault { line: entry.line, column: 1, reason };
                    faults.push(FileFault { path: path.clone(), fault });
                    continue;
                }
                known.insert(entry.name.clone(), (path.clone(), entry.line));
                entries.push(Arc::new(entry));
            }
        }
        if faults.is_empty() { Ok(entries) } else { Err(faults) }
    }

    /// All files that there are, and whether they have users.
    fn paths(&self, trust: Trust, faults: &mut Vec<FileFault>) -> Vec<(PathBuf, bool)> {
        let mut paths = Vec::new();
        let named =
            self.files.iter().map(|path| (path, false)).chain(self.system_files.iter().map(|path| (path, true)));
        for (path, has_users) in named {
            match is_folder(path) {
                false => paths.push((path.clone(), has_users)),
                true => match files_in(path, trust) {
                    Ok(found) => paths.extend(found.into_iter().map(|path| (path, has_users))),
                    Err(error) => faults.push(whole(path, error)),
                },
            }
        }
        paths
    }

    fn read_file(&self, path: &Path, has_users: bool, trust: Trust) -> Result<Table, Vec<TableFault>> {
        let bytes = trust.read(path, Role::Crontab).map_err(|error| vec![whole(path, error).fault])?;
        let text = String::from_utf8(bytes).map_err(|error| {
            let line =
                1 + error.as_bytes()[..error.utf8_error().valid_up_to()].iter().filter(|byte| **byte == b'\n').count();
            vec![TableFault { line, column: 1, reason: "expected text in UTF-8".to_owned() }]
        })?;
        let file = Arc::from(path);
        Table::read(&text, &Reading { file, has_users, host: &self.host, defaults: self.defaults.clone() })
    }
}

/// An entry without a name of its own gets another if one of an earlier file is called so.
fn rename(entry: &mut Entry, known: &HashMap<String, (PathBuf, usize)>) {
    let made = entry.name.clone();
    let mut copy = 2;
    while known.contains_key(&entry.name) {
        entry.name = format!("{made}-{copy}");
        copy += 1;
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

fn whole(path: &Path, error: Unread) -> FileFault {
    let reason = match error {
        Unread::System(error) => error.to_string().split(" (os error").next().unwrap_or_default().to_lowercase(),
        Unread::Distrusted(distrust) => distrust.to_string(),
    };
    FileFault { path: path.to_owned(), fault: TableFault { line: 0, column: 0, reason } }
}
