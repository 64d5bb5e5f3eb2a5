//! What the thread of cron waits for: a time of the wall clock, a clock that is set, files that change, somebody who tells it something.

use std::ffi::OsString;
use std::io;
use std::mem::MaybeUninit;
use std::os::fd::OwnedFd;
use std::path::{Component, Path, PathBuf};
use std::sync::Arc;
use std::time::{Duration, Instant};

use jiff::Timestamp;
use rustix::event::{EventfdFlags, PollFd, PollFlags, Timespec, eventfd, poll};
use rustix::fs::inotify::{self, CreateFlags, WatchFlags};
use rustix::io::Errno;
use rustix::time::{Itimerspec, TimerfdClockId, TimerfdFlags, TimerfdTimerFlags, timerfd_create, timerfd_settime};

/// A time that never comes: the timer still tells when the clock is set.
const NEVER: i64 = 1 << 40;

/// A file is written in several steps; they are waited for, so long after the first one.
const SETTLE: Duration = Duration::from_millis(50);

/// Links that lead to links, at the most.
const MOST_LINKS: usize = 16;

pub(super) struct Alarm {
    timer: OwnedFd,
    told: Arc<OwnedFd>,
    files: OwnedFd,
}

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
    pub(super) fn new() -> io::Result<Self> {
        Ok(Alarm {
            timer: timerfd_create(TimerfdClockId::Realtime, TimerfdFlags::CLOEXEC | TimerfdFlags::NONBLOCK)?,
            told: Arc::new(eventfd(0, EventfdFlags::CLOEXEC | EventfdFlags::NONBLOCK)?),
            files: inotify::init(CreateFlags::CLOEXEC | CreateFlags::NONBLOCK)?,
        })
    }

    pub(super) fn waker(&self) -> Waker {
        Waker(Arc::clone(&self.told))
    }

    /// Looks after `paths` from now on, and all links on the way to them, instead of others before.
    pub(super) fn watch(&mut self, paths: &[PathBuf]) -> io::Result<()> {
        self.files = inotify::init(CreateFlags::CLOEXEC | CreateFlags::NONBLOCK)?;
        let mut folders: Vec<PathBuf> = paths.iter().flat_map(|path| folders_of(path)).collect();
        folders.sort();
        folders.dedup();
        for folder in folders {
            let changes = WatchFlags::CLOSE_WRITE | WatchFlags::MOVE | WatchFlags::CREATE | WatchFlags::DELETE;
            let flags =
                changes | WatchFlags::ATTRIB | WatchFlags::ONLYDIR | WatchFlags::MOVE_SELF | WatchFlags::DELETE_SELF;
            // One that is not there is told of when the file is read.
            match inotify::add_watch(&self.files, &folder, flags) {
                Ok(_) | Err(Errno::NOENT | Errno::NOTDIR) => {}
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
        if files {
            std::thread::sleep(SETTLE);
            drain(&self.files);
        }
        Ok(Woken { by_files: files })
    }
}

/// Takes out what waits to be read; only that it was there counts.
fn drain(handle: &OwnedFd) {
    let mut buffer = [MaybeUninit::<u8>::uninit(); 4096];
    while rustix::io::read(handle, &mut buffer).is_ok_and(|(read, _)| !read.is_empty()) {}
}

/// The folders in which a change can change what `path` leads to.
fn folders_of(path: &Path) -> Vec<PathBuf> {
    let mut folders = Vec::new();
    let mut paths = vec![path.to_owned()];
    while let Some(path) = paths.pop() {
        if folders.len() > MOST_LINKS {
            break;
        }
        if path.is_dir() {
            folders.push(path.clone());
        }
        folders.extend(path.parent().map(Path::to_owned));
        // Each part of it can be a link.
        let mut so_far = PathBuf::new();
        let parts: Vec<OsString> = path.components().map(|part: Component<'_>| part.as_os_str().to_owned()).collect();
        for (index, part) in parts.iter().enumerate() {
            so_far.push(part);
            if let Ok(target) = std::fs::read_link(&so_far) {
                folders.extend(so_far.parent().map(Path::to_owned));
                let rest: PathBuf = parts[index + 1..].iter().collect();
                paths.push(so_far.parent().unwrap_or(Path::new("")).join(target).join(rest));
                break;
            }
        }
    }
    folders.into_iter().map(|folder| if folder.as_os_str().is_empty() { PathBuf::from(".") } else { folder }).collect()
}
