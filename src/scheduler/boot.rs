//! Which start of the machine this is: what runs once after each of them (`@reboot`) must not run when the daemon starts again,
//! nor when its line is written.
//!
//! In a container the start that counts is that of its first process.

use std::fs;
use std::io::{self, Write};
use std::path::{Path, PathBuf};
use std::time::Duration;

use rustix::param::clock_ticks_per_second;
use rustix::time::{ClockId, clock_gettime};

use crate::private;

/// In the folder for what outlives a restart: the start of the machine after which this daemon was there first.
const RECORD: &str = "cron.boot";

/// A daemon that finds no record was not there before. If the machine has been up for longer, another cron has run what follows on
/// its start.
const JUST_NOW: Duration = Duration::from_mins(10);

/// A start of the machine.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Boot {
    /// Unlike that of any other start.
    pub(super) id: String,
    /// How long ago it was.
    age: Duration,
}

impl Boot {
    /// The last one (proc(5)).
    pub(super) fn last() -> Self {
        let id = fs::read_to_string("/proc/sys/kernel/random/boot_id").unwrap_or_default();
        let stat = fs::read_to_string("/proc/1/stat").unwrap_or_default();
        let now = clock_gettime(ClockId::Boottime);
        let now = Duration::from_secs(u64::try_from(now.tv_sec).unwrap_or(0));
        Self::read(id.trim(), &stat, now, clock_ticks_per_second())
    }

    /// The same by the name that Linux gives it, what it tells of the first process, and the time since then.
    fn read(id: &str, stat: &str, now: Duration, ticks_per_second: u64) -> Self {
        // The name of the program stands in brackets, and may have anything in it.
        let mut fields = stat.rsplit(')').next().unwrap_or_default().split_whitespace();
        let started = fields.nth(22 - 3).and_then(|ticks| ticks.parse::<u64>().ok()).unwrap_or(0);
        let id = if id.is_empty() { "unknown" } else { id };
        let age = now.saturating_sub(Duration::from_secs(started / ticks_per_second.max(1)));
        Boot { id: format!("{id}.{started}"), age }
    }
}

/// Whether what runs after a start of the machine is still to be run, and where that is noted.
pub(super) struct Boots {
    path: PathBuf,
    known: Option<String>,
}

/// What is to be done after a start of the machine.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum AfterBoot {
    /// What runs after it has run.
    Done,
    /// It is to be run.
    Run,
    /// Whoever was here before has run it.
    Others,
}

impl Boots {
    /// What is noted in `folder`.
    pub(super) fn open(folder: &Path) -> Self {
        let path = folder.join(RECORD);
        let known = fs::read_to_string(&path).ok().map(|known| known.trim().to_owned());
        Boots { path, known }
    }

    /// What is to be done after `boot`.
    pub(super) fn after(&self, boot: &Boot) -> AfterBoot {
        match &self.known {
            Some(known) if *known == boot.id => AfterBoot::Done,
            None if boot.age > JUST_NOW => AfterBoot::Others,
            Some(_) | None => AfterBoot::Run,
        }
    }

    /// From now on it has been done.
    pub(super) fn note(&mut self, boot: &Boot) -> io::Result<()> {
        self.known = Some(boot.id.clone());
        if let Some(folder) = self.path.parent() {
            private::make_folder(folder)?;
        }
        writeln!(private::create(&self.path)?, "{}", boot.id)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_start_is_that_of_the_first_process() {
        let stat = "1 (a) b) S 0 1 1 0 -1 4194560 1 2 3 4 5 6 7 8 20 0 1 0 12345 9 9";
        let boot = Boot::read("abc", stat, Duration::from_secs(200), 100);
        assert_eq!(boot, Boot { id: "abc.12345".to_owned(), age: Duration::from_secs(77) });
        let unseen = Boot::read("", "", Duration::from_secs(200), 100);
        assert_eq!(unseen, Boot { id: "unknown.0".to_owned(), age: Duration::from_secs(200) });
    }

    #[test]
    fn what_runs_after_a_start_runs_once_for_it_and_not_where_another_cron_was_there_before() {
        let boots = |known: Option<&str>| Boots { path: PathBuf::new(), known: known.map(str::to_owned) };
        let boot = |minutes: u64| Boot { id: "this".to_owned(), age: Duration::from_mins(minutes) };
        for minutes in [1, 60] {
            assert_eq!(boots(Some("this")).after(&boot(minutes)), AfterBoot::Done);
            assert_eq!(boots(Some("the last one")).after(&boot(minutes)), AfterBoot::Run);
        }
        assert_eq!(boots(None).after(&boot(1)), AfterBoot::Run);
        assert_eq!(boots(None).after(&boot(60)), AfterBoot::Others);
    }
}
