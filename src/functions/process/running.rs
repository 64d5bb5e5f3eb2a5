//! A running process and everything it started.

use std::io;
use std::os::fd::OwnedFd;
use std::process::{Child, ChildStderr, ChildStdin, ChildStdout, Command, ExitStatus, Stdio};
use std::sync::Arc;
use std::thread;
use std::time::{Duration, Instant};

use rustix::event::{EventfdFlags, PollFd, PollFlags, Timespec, eventfd, poll};
use rustix::io::{Errno, ioctl_fionbio, write};
use rustix::pipe::{PipeFlags, pipe_with};
use rustix::process::{Pid, PidfdFlags, Signal, kill_process_group, pidfd_open};

use super::tree::{Descendant, descendants};
use crate::children;
use crate::functions::call::{Call, HookGuard};
use crate::protocol::CallError;

/// How long a process that was asked to end may take before it is killed.
const GRACE: Duration = Duration::from_millis(500);

/// How long to wait for a process that was killed. Only one that we may not signal (it became root), or that hangs in
/// the kernel, needs longer.
const REAP_PATIENCE: Duration = Duration::from_secs(2);

/// How often to look again for processes that were started while we looked.
const ROUNDS: usize = 16;

/// A child process that leads a process group.
///
/// However it ends, what is left of its group is killed and it is reaped, at the latest when this is dropped.
pub(crate) struct Process {
    /// `None` once it is reaped.
    child: Option<Child>,
    pid: Pid,
    exit: OwnedFd,
}

/// Our ends of the pipes of a [`Process`]. None of them blocks.
pub(crate) struct Pipes {
    pub(crate) stdin: ChildStdin,
    pub(crate) stdout: ChildStdout,
    /// `None` where it writes to the other one.
    pub(crate) stderr: Option<ChildStderr>,
}

impl Process {
    /// Starts `command`, which must have a process group or a session of its own; its two outputs are one if it `has_one_output`, so that
    /// what it writes to either stays in order.
    pub(super) fn spawn(command: &mut Command, has_one_output: bool) -> io::Result<(Process, Pipes)> {
        command.stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(Stdio::piped());
        let output = has_one_output.then(|| pipe_with(PipeFlags::CLOEXEC)).transpose()?;
        let output = match output {
            Some((ours, theirs)) => {
                command.stdout(theirs.try_clone()?).stderr(theirs);
                Some(ChildStdout::from(ours))
            }
            None => None,
        };
        let mut child = children::start(command)?;
        let pid = Pid::from_child(&child);
        let exit = match pidfd_open(pid, PidfdFlags::empty()) {
            Ok(exit) => exit,
            Err(error) => {
                let _ = kill_process_group(pid, Signal::KILL);
                wait(&mut child)?;
                return Err(error.into());
            }
        };
        // Their ends: as long as we hold them its output does not end.
        command.stdout(Stdio::null()).stderr(Stdio::null());
        let (stdin, stdout, stderr) = (child.stdin.take(), child.stdout.take().or(output), child.stderr.take());
        let process = Process { child: Some(child), pid, exit };
        let (stdin, stdout) = stdin.zip(stdout).expect("both are pipes");
        ioctl_fionbio(&stdin, true)?;
        ioctl_fionbio(&stdout, true)?;
        stderr.as_ref().map_or(Ok(()), |stderr| ioctl_fionbio(stderr, true))?;
        Ok((process, Pipes { stdin, stdout, stderr }))
    }

    /// Readable when the process has ended.
    pub(crate) fn exit(&self) -> &OwnedFd {
        &self.exit
    }

    /// Whether it has ended.
    pub(crate) fn has_ended(&self) -> bool {
        self.wait(Instant::now())
    }

    /// Waits for its end, until then at most; tells whether it came.
    pub(crate) fn wait(&self, until: Instant) -> bool {
        is_readable(&self.exit, until)
    }

    /// Kills at once what is left of it, and reaps it. Gives the exit status, once; `None` for a process that cannot be
    /// killed.
    pub(crate) fn kill(&mut self) -> Option<ExitStatus> {
        self.kill_with(Vec::new())
    }

    /// Reaps it after its end, and leaves alone what it has started. Gives the exit status, once.
    pub(crate) fn reap(&mut self) -> Option<ExitStatus> {
        wait(&mut self.child.take()?).ok()
    }

    /// Asks the process and all below it to end, and kills those that have not within half a second.
    pub(crate) fn terminate(&mut self) {
        if self.child.is_none() {
            return;
        }
        let below = descendants(&[self.pid]);
        let outside = below.iter().filter(|descendant| descendant.group != self.pid.as_raw_pid());
        self.signal(Signal::TERM);
        outside.for_each(|descendant| descendant.signal(Signal::TERM));
        let until = Instant::now() + GRACE;
        self.wait(until);
        below.iter().for_each(|descendant| _ = is_readable(&descendant.handle, until));
        self.kill_with(below);
    }

    /// Kills the group, `below`, and whatever else is below either.
    fn kill_with(&mut self, mut below: Vec<Descendant>) -> Option<ExitStatus> {
        let mut child = self.child.take()?;
        if !below.is_empty() || !self.has_ended() {
            self.hold_still(&mut below);
        }
        below.iter().for_each(|descendant| descendant.signal(Signal::KILL));
        // Before it is reaped: until then nobody else can get the number of the group.
        self.signal(Signal::KILL);
        if self.wait(Instant::now() + REAP_PATIENCE) {
            return wait(&mut child).ok();
        }
        log::warn!("process {} cannot be killed; it is left behind", self.pid);
        let reaper = thread::Builder::new().name("reaper".to_owned());
        let _ = reaper.spawn(move || wait(&mut child));
        None
    }

    /// Stops the group and all below it, until a look finds nobody new: what is stopped cannot fork away from us.
    fn hold_still(&self, below: &mut Vec<Descendant>) {
        self.signal(Signal::STOP);
        below.iter().for_each(|descendant| descendant.signal(Signal::STOP));
        for _ in 0..ROUNDS {
            let known: Vec<Pid> = below.iter().filter(|known| known.is_alive()).map(|known| known.pid).collect();
            let roots: Vec<Pid> = [self.pid].into_iter().chain(known.iter().copied()).collect();
            let mut found = descendants(&roots);
            found.retain(|descendant| !known.contains(&descendant.pid));
            if found.is_empty() {
                return;
            }
            found.iter().for_each(|descendant| descendant.signal(Signal::STOP));
            below.append(&mut found);
        }
    }

    fn signal(&self, signal: Signal) {
        let _ = kill_process_group(self.pid, signal);
    }
}

impl Drop for Process {
    fn drop(&mut self) {
        self.kill();
    }
}

/// Wakes a poll when a call is over before its work is.
pub(crate) struct Interrupt<'a> {
    call: &'a Call,
    event: Arc<OwnedFd>,
    _hook: HookGuard,
}

impl<'a> Interrupt<'a> {
    /// Watches `call`, and runs `also` too when it is cancelled.
    pub(crate) fn of(call: &'a Call, also: impl FnOnce() + Send + 'static) -> io::Result<Self> {
        let event = Arc::new(eventfd(0, EventfdFlags::CLOEXEC | EventfdFlags::NONBLOCK)?);
        let waker = Arc::clone(&event);
        let hook = call.cancel.on_cancel(move || {
            let _ = write(&*waker, &1_u64.to_ne_bytes());
            also();
        });
        Ok(Interrupt { call, event, _hook: hook })
    }

    /// Readable when the call was cancelled.
    pub(crate) fn event(&self) -> &OwnedFd {
        &self.event
    }

    /// When the call is over at the latest.
    pub(crate) fn deadline(&self) -> Instant {
        self.call.deadline
    }

    /// Why the call is over, if it is.
    pub(crate) fn reason(&self) -> Option<CallError> {
        match self.call.remaining() {
            Duration::ZERO => Some(CallError::TimedOut),
            _ => self.call.is_cancelled().then_some(CallError::Cancelled),
        }
    }
}

fn wait(child: &mut Child) -> io::Result<ExitStatus> {
    let status = child.wait();
    children::forget(child.id());
    status
}

fn is_readable(handle: &OwnedFd, until: Instant) -> bool {
    wait_ready(&mut [PollFd::new(handle, PollFlags::IN)], Some(until)).unwrap_or(false)
}

/// Waits until one of `handles` is ready; tells whether one is, or `until` came first.
pub(crate) fn wait_ready(handles: &mut [PollFd<'_>], until: Option<Instant>) -> io::Result<bool> {
    loop {
        let pause = until.map(|until| until.saturating_duration_since(Instant::now()));
        let pause = pause.and_then(|pause| Timespec::try_from(pause).ok());
        match poll(handles, pause.as_ref()) {
            Err(Errno::INTR) => {}
            result => return Ok(result? > 0),
        }
    }
}
