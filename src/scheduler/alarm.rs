//! What the thread of cron waits for: a time of the wall clock, a clock that is set, files that change, somebody who tells it something.

use std::collections::{HashMap, HashSet};
use std::ffi::{OsStr, OsString};
use std::io;
use std::mem::MaybeUninit;
use std::os::fd::OwnedFd;
use std::os::unix::ffi::OsStrExt;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::{Duration, Instant};

use jiff::Timestamp;
use rustix::event::{EventfdFlags, PollFd, PollFlags, Timespec, eventfd, poll};
use rustix::fs::inotify::{self, CreateFlags, WatchFlags};
use rustix::io::Errno;
use rustix::time::{Itimerspec, TimerfdClockId, TimerfdFlags, TimerfdTimerFlags, timerfd_create, timerfd_settime};

use crate::cron::Crontabs;

/// A time that never comes: the timer still tells when the clock is set.
const NEVER: i64 = 1 << 40;

/// Links that lead to links, at the most.
const MOST_LINKS: usize = 16;

/// What the thread of cron waits with.
pub struct Alarm {
    timer: OwnedFd,
    told: Arc<OwnedFd>,
    files: OwnedFd,
    /// The names that count in each folder that is watched; `None`: all.
    names: HashMap<i32, Option<HashSet<OsString>>>,
}

/// Folders, and the names that count in each; `None`: all.
type Folders = HashMap<PathBuf, Option<HashSet<OsString>>>;

/// Why a wait ended.
#[derive(Debug, Default, PartialEq, Eq)]
pub(super) struct Woken {
    /// A file may have changed.
    pub(super) by_files: bool,
}

/// Wakes an [`Alarm`] from another thread.
#[derive(Clone)]
pub(super) struct Waker(Arc<OwnedFd>);

impl Waker {
    pub(super) fn wake(&self) {
        // A full counter wakes as well.
        let _ = rustix::io::write(&*self.0, &1_u64.to_ne_bytes());
    }
}

impl Alarm {
    /// One that looks after `crontabs`.
    pub fn watching(crontabs: &Crontabs) -> io::Result<Self> {
        let mut alarm = Self::new()?;
        alarm.watch(crontabs);
        Ok(alarm)
    }

    fn new() -> io::Result<Self> {
        Ok(Alarm {
            timer: timerfd_create(TimerfdClockId::Realtime, TimerfdFlags::CLOEXEC | TimerfdFlags::NONBLOCK)?,
            told: Arc::new(eventfd(0, EventfdFlags::CLOEXEC | EventfdFlags::NONBLOCK)?),
            files: inotify::init(CreateFlags::CLOEXEC | CreateFlags::NONBLOCK)?,
            names: HashMap::new(),
        })
    }

    pub(super) fn waker(&self) -> Waker {
        Waker(Arc::clone(&self.told))
    }

    /// Looks after `crontabs` from now on, instead of others before.
    pub(super) fn watch(&mut self, crontabs: &Crontabs) {
        let paths: Vec<PathBuf> = crontabs.files.iter().chain(&crontabs.system_files).cloned().collect();
        if let Err(error) = self.watch_paths(&paths) {
            log::warn!("cron: changes of crontabs are not noticed, send SIGHUP instead: {error}");
        }
    }

    /// Looks after `paths`, and all links on the way to them.
    fn watch_paths(&mut self, paths: &[PathBuf]) -> io::Result<()> {
        self.files = inotify::init(CreateFlags::CLOEXEC | CreateFlags::NONBLOCK)?;
        self.names.clear();
        let mut folders = Folders::new();
        paths.iter().for_each(|path| add_folders_of(path, &mut folders));
        for (folder, names) in folders {
            let changes = WatchFlags::CLOSE_WRITE | WatchFlags::MOVE | WatchFlags::CREATE | WatchFlags::DELETE;
            let flags =
                changes | WatchFlags::ATTRIB | WatchFlags::ONLYDIR | WatchFlags::MOVE_SELF | WatchFlags::DELETE_SELF;
            // One that is not there is told of when the file is read.
            match inotify::add_watch(&self.files, &folder, flags) {
                Ok(watch) => drop(self.names.insert(watch, names)),
                Err(Errno::NOENT | Errno::NOTDIR) => {}
                Err(error) => log::warn!("cron: changes in {} are not noticed: {error}", folder.display()),
            }
        }
        Ok(())
    }

    /// Waits until the wall clock shows `at`, or is set, or a file changes, or somebody wakes it; `patience` at the most.
    pub(super) fn wait(&self, at: Option<Timestamp>, patience: Option<Duration>) -> io::Result<Woken> {
        let at = at.map_or((NEVER, 0), |at| (at.as_second(), i64::from(at.subsec_nanosecond())));
        let value = Timespec { tv_sec: at.0, tv_nsec: at.1 };
        let once = Itimerspec { it_interval: Timespec { tv_sec: 0, tv_nsec: 0 }, it_value: value };
        timerfd_settime(&self.timer, TimerfdTimerFlags::ABSTIME | TimerfdTimerFlags::CANCEL_ON_SET, &once)?;
        let ready = |patience: Option<Duration>| -> io::Result<[bool; 3]> {
            let mut handles = [&self.timer, &*self.told, &self.files].map(|handle| PollFd::new(handle, PollFlags::IN));
            let until = patience.and_then(|patience| Instant::now().checked_add(patience));
            loop {
                let left = until.map(|until| until.saturating_duration_since(Instant::now()));
                let left = left.and_then(|left| Timespec::try_from(left).ok());
                match poll(&mut handles, left.as_ref()) {
                    Err(Errno::INTR) => {}
                    done => break done.map(drop)?,
                }
            }
            Ok(handles.map(|handle| !handle.revents().is_empty()))
        };
        let [_, told, files] = ready(patience)?;
        if told {
            drain(&self.told);
        }
        Ok(Woken { by_files: files && self.have_changed() })
    }

    /// Whether one of the files has changed, of all that has happened in their folders.
    fn have_changed(&self) -> bool {
        let mut buffer = [MaybeUninit::<u8>::uninit(); 4096];
        let mut reader = inotify::Reader::new(&self.files, &mut buffer);
        let mut have_changed = false;
        while let Ok(event) = reader.next() {
            let name = event.file_name().map(|name| OsStr::from_bytes(name.to_bytes()));
            have_changed |= match self.names.get(&event.wd()) {
                Some(Some(names)) => name.is_none_or(|name| names.contains(name)),
                // All count, or too much has happened to be told.
                Some(None) | None => true,
            };
        }
        have_changed
    }
}

/// Takes out what waits to be read; only that it was there counts.
fn drain(handle: &OwnedFd) {
    let mut buffer = [MaybeUninit::<u8>::uninit(); 4096];
    while rustix::io::read(handle, &mut buffer).is_ok_and(|(read, _)| !read.is_empty()) {}
}

/// Adds the folders in which a change can change what `path` leads to: its own, and those of the links on the way.
fn add_folders_of(path: &Path, folders: &mut Folders) {
    let mut paths = vec![path.to_owned()];
    for _ in 0..MOST_LINKS {
        let Some(path) = paths.pop() else { return };
        if path.is_dir() {
            folders.insert(path.clone(), None);
        }
        add(&path, folders);
        let parts: Vec<_> = path.components().map(|part| part.as_os_str().to_owned()).collect();
        let mut so_far = PathBuf::new();
        for (index, part) in parts.iter().enumerate() {
            so_far.push(part);
            if let Ok(target) = std::fs::read_link(&so_far) {
                add(&so_far, folders);
                let rest: PathBuf = parts[index + 1..].iter().collect();
                let target = so_far.parent().unwrap_or(Path::new("")).join(target);
                paths.push(if rest.as_os_str().is_empty() { target } else { target.join(rest) });
                break;
            }
        }
    }
}

fn add(path: &Path, folders: &mut Folders) {
    let (Some(folder), Some(name)) = (path.parent(), path.file_name()) else { return };
    let folder = if folder.as_os_str().is_empty() { Path::new(".") } else { folder };
    if let Some(names) = folders.entry(folder.to_owned()).or_insert_with(|| Some(HashSet::new())) {
        names.insert(name.to_owned());
    }
}

#[cfg(test)]
mod tests {
    use std::fs;
    use std::os::unix::fs::symlink;

    use super::*;

    /// A folder of its own, removed at the end of a test.
    struct Folder(PathBuf);

    impl Folder {
        fn new() -> Self {
            let path = std::env::temp_dir().join(format!("cerbas-alarm-{}", uuid::Uuid::new_v4()));
            fs::create_dir(&path).expect("a new folder can be made");
            Folder(path)
        }
    }

    impl Drop for Folder {
        fn drop(&mut self) {
            drop(fs::remove_dir_all(&self.0));
        }
    }

    const PATIENCE: Option<Duration> = Some(Duration::from_secs(10));

    fn watching(path: &Path) -> Alarm {
        let mut alarm = Alarm::new().expect("there is a timer");
        alarm.watch_paths(&[path.to_owned()]).expect("it can be watched");
        alarm
    }

    #[test]
    fn a_time_that_has_passed_wakes_at_once_and_one_that_is_told_too() {
        let alarm = Alarm::new().expect("there is a timer");
        assert_eq!(alarm.wait(Some(Timestamp::now()), PATIENCE).expect("it wakes"), Woken::default());
        alarm.waker().wake();
        assert_eq!(alarm.wait(None, PATIENCE).expect("it wakes"), Woken::default());
    }

    #[test]
    fn a_file_that_is_written_or_replaced_wakes_and_its_neighbours_do_not() {
        let folder = Folder::new();
        let (file, other) = (folder.0.join("CRONTAB"), folder.0.join("other"));
        fs::write(&file, "a").expect("it can be written");
        let alarm = watching(&file);
        fs::write(&other, "a").expect("it can be written");
        assert!(!alarm.wait(None, PATIENCE).expect("it wakes").by_files);
        fs::write(&file, "b").expect("it can be written");
        assert!(alarm.wait(None, PATIENCE).expect("it wakes").by_files);
        while alarm.wait(None, Some(Duration::ZERO)).expect("it wakes").by_files {}
        fs::rename(&other, &file).expect("it can be replaced");
        assert!(alarm.wait(None, PATIENCE).expect("it wakes").by_files);
    }

    #[test]
    fn a_link_that_leads_elsewhere_wakes_also_where_a_folder_is_the_link() {
        // As a mounted ConfigMap of Kubernetes is replaced.
        let folder = Folder::new();
        for version in ["v1", "v2"] {
            fs::create_dir(folder.0.join(version)).expect("a folder can be made");
            fs::write(folder.0.join(version).join("CRONTAB"), version).expect("it can be written");
        }
        symlink("v1", folder.0.join("data")).expect("a link can be made");
        symlink("data/CRONTAB", folder.0.join("CRONTAB")).expect("a link can be made");
        let alarm = watching(&folder.0.join("CRONTAB"));
        symlink("v2", folder.0.join("fresh")).expect("a link can be made");
        fs::rename(folder.0.join("fresh"), folder.0.join("data")).expect("it can be replaced");
        while !alarm.wait(None, PATIENCE).expect("it wakes").by_files {}
        let alarm = watching(&folder.0.join("CRONTAB"));
        fs::write(folder.0.join("v2/CRONTAB"), "v3").expect("it can be written");
        assert!(alarm.wait(None, PATIENCE).expect("it wakes").by_files);
    }
}
