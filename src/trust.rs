//! Whether root may do what a file says: only if nobody else could have written it.
//!
//! The rule is that of cron(8), with the way to the file as sshd and sudo look at it. The file, each folder above it and each link on
//! the way belong to root; nobody else can write them. A folder as `/tmp`, which all can write but only for themselves, may be on the
//! way, as nobody else can put another file in the place of one that is root's. The way is looked at from `/` downwards: what was
//! found to be root's alone, only root can change before the next step. The file itself is judged when it is open.
//!
//! Who is not root asks nothing: what he may not do the operating system refuses.

use std::ffi::OsString;
use std::fmt;
use std::fs::{self, File, Metadata, OpenOptions};
use std::io::{self, Read};
use std::os::unix::fs::{MetadataExt, OpenOptionsExt};
use std::path::{Component, Path, PathBuf};

use rustix::fs::OFlags;

/// Whom files are trusted by.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Trust {
    /// Whoever can write them.
    All,
    /// Root alone.
    Root,
}

/// What a file is for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Role {
    /// It says what is done.
    File,
    /// It does too, and has one name only, as cron wants it.
    Crontab,
    /// All files in it say what is done.
    Folder,
    /// It is on the way to one of these.
    Above,
    /// It leads to one of these.
    Link,
}

/// What is known of one thing on the way to a file.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
struct Facts {
    owner: u32,
    mode: u32,
    /// How many names it has.
    names: u64,
}

impl From<&Metadata> for Facts {
    fn from(data: &Metadata) -> Self {
        // What is no file on a disk, as a pipe, has no names to count.
        let names = if data.is_file() { data.nlink() } else { 1 };
        Facts { owner: data.uid(), mode: data.mode(), names }
    }
}

/// What is wrong with it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Flaw {
    Owner(u32),
    Writable,
    Names(u64),
}

/// A thing on the way to a file that somebody else can change.
#[derive(Debug, PartialEq, Eq)]
pub(crate) struct Distrust {
    /// The file itself, a folder or a link.
    path: PathBuf,
    role: Role,
    flaw: Flaw,
}

/// Why a file was not read.
#[derive(Debug)]
pub(crate) enum Unread {
    System(io::Error),
    Distrusted(Distrust),
}

const ROOT: u32 = 0;

/// Group and others may write.
const WRITABLE: u32 = 0o022;

/// In this folder nobody may take away or rename what is not his.
const STICKY: u32 = 0o1000;

/// As the operating system counts them.
const MOST_LINKS: usize = 40;

fn judge(facts: Facts, role: Role) -> Result<(), Flaw> {
    let is_writable = match role {
        // A link has no mode of its own.
        Role::Link => false,
        Role::Above => facts.mode & WRITABLE != 0 && facts.mode & STICKY == 0,
        Role::File | Role::Crontab | Role::Folder => facts.mode & WRITABLE != 0,
    };
    match facts {
        Facts { owner, .. } if owner != ROOT => Err(Flaw::Owner(owner)),
        _ if is_writable => Err(Flaw::Writable),
        Facts { names, .. } if role == Role::Crontab && names != 1 => Err(Flaw::Names(names)),
        _ => Ok(()),
    }
}

/// One thing on the way: what is known of it, and where it leads if it is a link.
type Seen = (Facts, Option<PathBuf>);

/// Follows `path`, which is absolute, and judges all that it goes through. Gives the path without links; the last step is not judged.
fn walk(path: &Path, mut look: impl FnMut(&Path) -> io::Result<Seen>) -> Result<PathBuf, Unread> {
    let check = |path: &Path, facts, role| {
        let distrust = |flaw| Unread::Distrusted(Distrust { path: path.to_owned(), role, flaw });
        judge(facts, role).map_err(distrust)
    };
    let mut at = PathBuf::from("/");
    let mut rest = parts(path);
    let mut links = 0;
    check(&at, look(&at)?.0, Role::Above)?;
    while let Some(part) = rest.pop() {
        if part == ".." {
            at.pop();
            continue;
        }
        let next = at.join(&part);
        let (facts, target) = look(&next)?;
        let Some(target) = target else {
            at = next;
            if !rest.is_empty() {
                check(&at, facts, Role::Above)?;
            }
            continue;
        };
        check(&next, facts, Role::Link)?;
        if next.starts_with("/proc") {
            // The kernel knows where it leads; there may be no path, as with `<(...)` of a shell.
            rest.reverse();
            return Ok(next.join(rest.iter().collect::<PathBuf>()));
        }
        links += 1;
        if links > MOST_LINKS {
            return Err(io::Error::from(rustix::io::Errno::LOOP).into());
        }
        if target.is_absolute() {
            at = PathBuf::from("/");
        }
        rest.extend(parts(&target));
    }
    Ok(at)
}

/// The names in `path`, the last one first.
fn parts(path: &Path) -> Vec<OsString> {
    let part = |part: Component<'_>| match part {
        Component::Normal(_) | Component::ParentDir => Some(part.as_os_str().to_owned()),
        Component::RootDir | Component::CurDir | Component::Prefix(_) => None,
    };
    path.components().rev().filter_map(part).collect()
}

fn look(path: &Path) -> io::Result<Seen> {
    let data = fs::symlink_metadata(path)?;
    let target = data.is_symlink().then(|| fs::read_link(path)).transpose()?;
    Ok((Facts::from(&data), target))
}

impl Trust {
    /// That of this process.
    pub(crate) fn ours() -> Self {
        if rustix::process::geteuid().is_root() { Trust::Root } else { Trust::All }
    }

    /// What is in a file.
    pub(crate) fn read(self, path: &Path, role: Role) -> Result<Vec<u8>, Unread> {
        let mut content = Vec::new();
        self.open(path, role)?.read_to_end(&mut content)?;
        Ok(content)
    }

    /// Whether a file or a folder can be trusted; one that is not there can.
    pub(crate) fn check(self, path: &Path, role: Role) -> Result<(), Unread> {
        match self.open(path, role) {
            Err(Unread::System(error)) if error.kind() == io::ErrorKind::NotFound => Ok(()),
            opened => opened.map(drop),
        }
    }

    fn open(self, path: &Path, role: Role) -> Result<File, Unread> {
        if self == Trust::All {
            return Ok(File::open(path)?);
        }
        let found = walk(&std::path::absolute(path)?, look)?;
        let mut options = OpenOptions::new();
        if !found.starts_with("/proc") {
            options.custom_flags(OFlags::NOFOLLOW.bits().cast_signed());
        }
        let file = options.read(true).open(&found)?;
        let facts = Facts::from(&file.metadata()?);
        judge(facts, role).map_err(|flaw| Unread::Distrusted(Distrust { path: path.to_owned(), role, flaw }))?;
        Ok(file)
    }
}

/// What is wrong, and what to do.
impl fmt::Display for Distrust {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Distrust { path, role, flaw } = self;
        let path = path.display();
        match role {
            Role::File | Role::Crontab | Role::Folder => {}
            Role::Above => write!(f, "the folder {path} ")?,
            Role::Link => write!(f, "the link {path} ")?,
        }
        match flaw {
            Flaw::Owner(owner) => {
                let flag = if *role == Role::Link { "-h " } else { "" };
                write!(f, "belongs to user {owner}, who could run anything as root through it; chown {flag}root {path}")
            }
            Flaw::Writable if *role == Role::Folder => {
                write!(f, "others than its owner can put files into it, and they would run as root; chmod go-w {path}")
            }
            Flaw::Writable if *role == Role::Above => {
                write!(f, "can be written by others than its owner, who could run anything as root; chmod go-w {path}")
            }
            Flaw::Writable => {
                write!(f, "others than its owner can write it, and it would run as root; chmod go-w {path}")
            }
            Flaw::Names(names) => write!(
                f,
                "has {names} names (hard links), one of which may be somebody else's; make it a file of its own with cp"
            ),
        }
    }
}

impl fmt::Display for Unread {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Unread::System(error) => error.fmt(f),
            Unread::Distrusted(distrust) => distrust.fmt(f),
        }
    }
}

impl From<io::Error> for Unread {
    fn from(error: io::Error) -> Self {
        Unread::System(error)
    }
}

#[cfg(test)]
mod tests;
