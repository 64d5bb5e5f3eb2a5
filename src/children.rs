//! Our child processes, and those of others that become ours.
//!
//! Process 1 of a machine or a container inherits every process that loses its parent, and has to reap it when it ends: else it
//! stays as a zombie, and its number is used up. [`reap_orphans`] does that, and never takes an end that somebody here waits for.

use std::collections::BTreeSet;
use std::fs;
use std::io;
use std::os::unix::process::CommandExt;
use std::process::{Child, Command};
use std::sync::{Mutex, RwLock};

use rustix::fs::Mode;
use rustix::process::{Gid, Pid, Resource, Rlimit, Uid, WaitOptions, waitpid};

use crate::lock::Unpoisoned;

/// Held to read while a child starts: until it is in [`OWN`] nobody may take it for an orphan.
static STARTING: RwLock<()> = RwLock::new(());

/// The children that somebody here waits for.
static OWN: Mutex<BTreeSet<u32>> = Mutex::new(BTreeSet::new());

/// Whether orphans become our children.
pub(crate) fn are_orphans_ours() -> bool {
    std::process::id() == 1
}

/// Starts `command`. Who has waited for the end of the child says so with [`forget`].
pub(crate) fn start(command: &mut Command) -> io::Result<Child> {
    if !are_orphans_ours() {
        return command.spawn();
    }
    let _starting = STARTING.read().unpoisoned();
    let child = command.spawn()?;
    OWN.lock().unpoisoned().insert(child.id());
    Ok(child)
}

/// The child with this number was waited for.
pub(crate) fn forget(child: u32) {
    OWN.lock().unpoisoned().remove(&child);
}

/// Reaps the processes that became ours and have ended.
pub(crate) fn reap_orphans() {
    let _nobody_starts = STARTING.write().unpoisoned();
    let own = OWN.lock().unpoisoned();
    let processes = fs::read_dir("/proc").into_iter().flatten().flatten();
    for pid in processes.filter_map(|entry| entry.file_name().to_str()?.parse().ok()) {
        let is_orphan = u32::try_from(pid).is_ok_and(|pid| !own.contains(&pid)) && is_ended_child(pid);
        if let Some(pid) = Pid::from_raw(pid).filter(|_| is_orphan) {
            // Only a number that is gone already fails.
            let _ = waitpid(Some(pid), WaitOptions::NOHANG);
        }
    }
}

/// Whether `pid` is a zombie, and our child.
fn is_ended_child(pid: i32) -> bool {
    let stat = fs::read_to_string(format!("/proc/{pid}/stat")).unwrap_or_default();
    // The name of the program is in parentheses, and may hold anything.
    let mut fields = stat.rsplit(") ").next().unwrap_or_default().split(' ');
    let (state, parent) = (fields.next(), fields.next());
    state == Some("Z") && parent == Some(std::process::id().to_string().as_str())
}

/// As whom a child runs.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Identity {
    pub(crate) user: Uid,
    pub(crate) group: Gid,
    /// All its groups.
    pub(crate) groups: Vec<Gid>,
}

/// What is left to do between fork and exec besides the session of its own, with everything looked up already.
#[derive(Debug, Default)]
pub(crate) struct Steps {
    /// What its files are closed to.
    pub(crate) umask: Option<Mode>,
    pub(crate) nice: Option<i32>,
    pub(crate) limits: Vec<(Resource, Rlimit)>,
    pub(crate) identity: Option<Identity>,
}

impl Steps {
    pub(crate) fn are_none(&self) -> bool {
        let Steps { umask, nice, limits, identity } = self;
        umask.is_none() && nice.is_none() && limits.is_empty() && identity.is_none()
    }

    fn take(&self) -> io::Result<()> {
        rustix::process::setsid()?;
        if let Some(umask) = self.umask {
            rustix::process::umask(umask);
        }
        if let Some(nice) = self.nice {
            rustix::process::setpriority_process(None, nice)?;
        }
        for (resource, limit) in &self.limits {
            rustix::process::setrlimit(*resource, *limit)?;
        }
        if let Some(Identity { user, group, groups }) = &self.identity {
            // The user last: after that nothing else may be changed.
            rustix::thread::set_thread_groups(groups)?;
            rustix::thread::set_thread_res_gid(*group, *group, *group)?;
            rustix::thread::set_thread_res_uid(*user, *user, *user)?;
        }
        Ok(())
    }
}

/// The child of `command` leads a session of its own, and takes the steps before it becomes another program.
#[allow(unsafe_code)]
pub(crate) fn before_exec(command: &mut Command, steps: Steps) {
    // SAFETY: the closure makes system calls and nothing else. It takes no lock and allocates nothing: whatever it
    // needs was looked up before the fork.
    unsafe {
        command.pre_exec(move || steps.take());
    }
}
