//! The descendants of a process, also those that left its group and session.

use std::collections::HashMap;
use std::fs;
use std::os::fd::OwnedFd;

use rustix::event::{PollFd, PollFlags};
use rustix::process::{Pid, PidfdFlags, Signal, pidfd_open, pidfd_send_signal};

use super::running::wait_ready;

/// A process below another. It is held by a handle, so that a signal never strikes a stranger with the same number.
pub(super) struct Descendant {
    pub(super) pid: Pid,
    pub(super) group: i32,
    pub(super) handle: OwnedFd,
}

impl Descendant {
    /// Sends `signal`; nothing happens where the process is gone or not ours to signal.
    pub(super) fn signal(&self, signal: Signal) {
        let _ = pidfd_send_signal(&self.handle, signal);
    }

    /// Whether it runs.
    pub(super) fn is_alive(&self) -> bool {
        let ended = wait_ready(&mut [PollFd::new(&self.handle, PollFlags::IN)], Some(std::time::Instant::now()));
        !matches!(ended, Ok(true))
    }
}

/// What `/proc/<pid>/stat` tells.
#[derive(Debug, PartialEq, Eq)]
struct Stat {
    parent: i32,
    group: i32,
    started: u64,
}

/// All running processes below `roots`, the roots left out.
///
/// A process whose parent ended belongs to init and is not found here.
pub(super) fn descendants(roots: &[Pid]) -> Vec<Descendant> {
    let mut children: HashMap<i32, Vec<(Pid, Stat)>> = HashMap::new();
    let entries = fs::read_dir("/proc").into_iter().flatten().flatten();
    for pid in entries.filter_map(|entry| Pid::from_raw(entry.file_name().to_str()?.parse().ok()?)) {
        if let Some(stat) = read_stat(pid) {
            children.entry(stat.parent).or_default().push((pid, stat));
        }
    }
    let mut found = Vec::new();
    let mut parents: Vec<Pid> = roots.to_vec();
    while let Some(parent) = parents.pop() {
        for (pid, stat) in children.remove(&parent.as_raw_pid()).unwrap_or_default() {
            parents.push(pid);
            let Ok(handle) = pidfd_open(pid, PidfdFlags::empty()) else { continue };
            // Between the look and the handle the number may have gone to another process, which then started later.
            if !roots.contains(&pid) && read_stat(pid).is_some_and(|now| now.started == stat.started) {
                found.push(Descendant { pid, group: stat.group, handle });
            }
        }
    }
    found
}

fn read_stat(pid: Pid) -> Option<Stat> {
    parse_stat(&String::from_utf8_lossy(&fs::read(format!("/proc/{pid}/stat")).ok()?))
}

/// Reads a stat line; `None` for one that has ended and only waits to be reaped.
fn parse_stat(line: &str) -> Option<Stat> {
    // The second field is the name of the program, in parentheses; it may hold anything, also parentheses.
    let (_, fields) = line.rsplit_once(')')?;
    let fields: Vec<&str> = fields.split_whitespace().collect();
    let number = |index: usize| fields.get(index)?.parse::<u64>().ok();
    let is_ended = matches!(fields.first(), Some(&("Z" | "X")));
    let stat = Stat { parent: number(1)? as i32, group: number(2)? as i32, started: number(19)? };
    (!is_ended).then_some(stat)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_stat_line_is_read_whatever_the_program_is_called() {
        let line = "42 (a) (b c) S 7 40 40 0 -1 4194304 1 0 0 0 0 0 0 0 20 0 1 0 98765 1 2 3";
        assert_eq!(parse_stat(line), Some(Stat { parent: 7, group: 40, started: 98765 }));
        assert_eq!(parse_stat(&line.replace(" S ", " Z ")), None);
        assert_eq!(parse_stat("nonsense"), None);
    }
}
