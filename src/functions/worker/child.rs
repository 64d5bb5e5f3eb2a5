//! One child process of a worker, and the conversation with it.

use std::fmt;
use std::io::{self, Read, Write};
use std::mem;
use std::os::fd::OwnedFd;
use std::process::{ChildStderr, ChildStdin, ChildStdout, ExitStatus};
use std::time::{Duration, Instant};

use rustix::event::{PollFd, PollFlags};
use rustix::io::ioctl_fionread;
use serde::Deserialize;

use crate::functions::output::{ending, excerpt, plain, size};
use crate::functions::process::{self, Interrupt, Pipes, Process, ProcessOptions, wait_ready};
use crate::protocol::{CallError, Json, Outcome, Status};
use crate::thread::Joined;

/// A child that serves one call at a time. Dropping it kills it.
pub(super) struct Child {
    // First: the thread of `_log` ends when the process has.
    process: Process,
    /// The name of the function, for the log.
    name: String,
    stdin: Option<ChildStdin>,
    stdout: ChildStdout,
    _log: Joined,
    has_answered: bool,
    /// Whether it has read the whole last call and written nothing but its answer.
    is_in_step: bool,
    /// How much of the last call was sent to it.
    sent: usize,
}

/// Why a child gave no answer.
pub(super) enum Fault {
    /// The call was over first.
    Over(CallError),
    /// It ended without having read anything of the call, which so has had no part in that.
    Unheard(String),
    /// It did something else than answer.
    Broken(String),
}

impl fmt::Display for Fault {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Fault::Over(reason) => reason.fmt(f),
            Fault::Unheard(reason) | Fault::Broken(reason) => f.write_str(reason),
        }
    }
}

/// An answer as it stands on the line.
#[derive(Deserialize)]
struct Answer {
    id: String,
    status: Status,
    #[serde(default)]
    data: Json,
    /// False: to try again is pointless.
    retry: Option<bool>,
}

/// How much is read at once.
const CHUNK: usize = 64 << 10;

/// How long a child that closed its output has to exit, so that its exit status can be told.
const LAST_WORDS: Duration = Duration::from_millis(100);

/// How much of something that is not an answer is shown.
const EXCERPT: usize = 80;

/// What is no answer to a call may be left over from the one before. The answer still counts when it comes so soon after that.
const STRAY: Duration = Duration::from_secs(1);

impl Child {
    /// Starts `argv`. What it writes to standard error goes to the log, as `name`.
    pub(super) fn start(name: &str, argv: &[String], options: &ProcessOptions) -> Result<Self, String> {
        let (process, Pipes { stdin, stdout, stderr }) = process::start(argv, options, [])?;
        let cannot_watch = |error: io::Error| format!("worker: {}", plain(&error));
        let exit = process.exit().try_clone().map_err(cannot_watch)?;
        let mut log = LineLog::new(name);
        let stderr = stderr.ok_or("it has no standard error")?;
        let log = Joined::spawn("worker-log", move || log.follow(stderr, &exit)).map_err(cannot_watch)?;
        let stdin = Some(stdin);
        Ok(Child {
            process,
            name: name.to_owned(),
            stdin,
            stdout,
            _log: log,
            has_answered: false,
            is_in_step: true,
            sent: 0,
        })
    }

    /// Whether it runs and is silent, as it should between calls.
    pub(super) fn is_waiting(&self) -> bool {
        let handles = &mut [PollFd::new(self.process.exit(), PollFlags::IN), PollFd::new(&self.stdout, PollFlags::IN)];
        matches!(wait_ready(handles, Some(Instant::now())), Ok(false))
    }

    /// Whether it can be given another call.
    pub(super) fn is_in_step(&self) -> bool {
        self.is_in_step
    }

    /// Asks it to end, and kills it if it does not.
    pub(super) fn terminate(mut self) {
        self.process.terminate();
    }

    /// Closes its input, which tells it to end.
    pub(super) fn say_goodbye(&mut self) {
        self.stdin = None;
    }

    /// Waits for its end, until then at most.
    pub(super) fn wait(&self, until: Instant) {
        self.process.wait(until);
    }

    /// Writes `line` and reads the answer to the call `id`.
    pub(super) fn answer(
        &mut self,
        line: &[u8],
        id: &str,
        interrupt: &Interrupt<'_>,
        longest: usize,
    ) -> Result<Outcome, Fault> {
        let mut answer = Vec::new();
        let mut chunk = [0; CHUNK];
        (self.is_in_step, self.sent) = (false, 0);
        let mut stray: Option<(Instant, String)> = None;
        loop {
            if let Some(reason) = interrupt.reason() {
                return Err(Fault::Over(reason));
            }
            if let Some((_, reason)) = stray.take_if(|(until, _)| Instant::now() >= *until) {
                return Err(Fault::Broken(reason));
            }
            self.write(line)?;
            let mut read = self.read(&mut chunk)?;
            if read.is_empty() {
                let until = stray.as_ref().map_or(interrupt.deadline(), |(until, _)| interrupt.deadline().min(*until));
                self.wait_for_more(self.sent < line.len(), interrupt, until)?;
                continue;
            }
            while let Some(end) = read.iter().position(|&byte| byte == b'\n') {
                answer.extend_from_slice(&read[..end]);
                read = &read[end + 1..];
                within(&answer, longest).map_err(Fault::Broken)?;
                match understand(&answer, id) {
                    Ok(outcome) => {
                        self.is_in_step = self.sent == line.len() && read.is_empty() && stray.is_none();
                        self.has_answered = true;
                        return Ok(outcome);
                    }
                    Err(wrong) => {
                        let reason = self.blame(&answer, id, &wrong)?;
                        stray.get_or_insert((Instant::now() + STRAY, reason));
                    }
                }
                answer.clear();
            }
            answer.extend_from_slice(read);
            within(&answer, longest).map_err(Fault::Broken)?;
        }
    }

    /// Whose `line` it is, which is no answer to the call `id`. The first call of a child is to blame for it, and one that is named in
    /// it; that is an error. Else it may be of the call before: then nobody is shown what is in it.
    fn blame(&self, line: &[u8], id: &str, wrong: &Wrong) -> Result<String, Fault> {
        let told = format!("{}: {}{}", wrong.what, excerpt(line, EXCERPT), wrong.why());
        if !self.has_answered {
            return Err(Fault::Broken(told));
        }
        log::warn!(target: "worker", "{}: {told}", self.name);
        let named = format!("\"{id}\"");
        let is_named = line.windows(named.len()).any(|part| part == named.as_bytes());
        if is_named { Err(Fault::Broken(wrong.in_general())) } else { Ok(wrong.in_general()) }
    }

    fn wait_for_more(&mut self, has_more_to_say: bool, interrupt: &Interrupt<'_>, until: Instant) -> Result<(), Fault> {
        let mut handles = vec![
            PollFd::new(self.process.exit(), PollFlags::IN),
            PollFd::new(&self.stdout, PollFlags::IN),
            PollFd::new(interrupt.event(), PollFlags::IN),
        ];
        handles.extend(self.stdin.iter().filter(|_| has_more_to_say).map(|stdin| PollFd::new(stdin, PollFlags::OUT)));
        let ready = wait_ready(&mut handles, Some(until));
        ready.map_err(|error| Fault::Broken(format!("worker: {}", plain(&error))))?;
        let is_readable = !handles[1].revents().is_empty();
        // Only then: what it wrote before it exited counts.
        if !handles[0].revents().is_empty() && !is_readable { Err(self.broken_off()) } else { Ok(()) }
    }

    /// Writes what fits of what is left of `line`.
    fn write(&mut self, line: &[u8]) -> Result<(), Fault> {
        let left = &line[self.sent..];
        let Some(stdin) = self.stdin.as_mut().filter(|_| !left.is_empty()) else { return Ok(()) };
        match stdin.write(left) {
            Ok(written) => self.sent += written,
            Err(error) if is_later(&error) => {}
            Err(_) => return Err(self.broken_off()),
        }
        Ok(())
    }

    /// Reads what is there, which may be nothing.
    fn read<'a>(&mut self, chunk: &'a mut [u8]) -> Result<&'a [u8], Fault> {
        match self.stdout.read(chunk) {
            Ok(0) => Err(self.broken_off()),
            Ok(read) => Ok(&chunk[..read]),
            Err(error) if is_later(&error) => Ok(&[]),
            Err(error) => Err(Fault::Broken(format!("worker: {}", plain(&error)))),
        }
    }

    /// What to say when it closed a pipe or exited.
    fn broken_off(&mut self) -> Fault {
        let status = if self.process.wait(Instant::now() + LAST_WORDS) { self.process.kill() } else { None };
        match status {
            // Whatever it wrote, it was no answer to this call.
            Some(status) if self.has_heard_nothing() => {
                Fault::Unheard(format!("worker {} before it read a call", ended(status)))
            }
            Some(status) => Fault::Broken(format!("worker {} in the middle of the call", ended(status))),
            None => Fault::Broken("worker closed its input or output in the middle of the call".to_owned()),
        }
    }

    /// Whether all that was sent is still in the pipe. Of a process that ended: one that runs may read it any moment.
    fn has_heard_nothing(&self) -> bool {
        let unread = self.stdin.as_ref().and_then(|stdin| ioctl_fionread(stdin).ok());
        unread == Some(self.sent as u64)
    }
}

fn ended(status: ExitStatus) -> String {
    let how = if status.code().is_some() { "ended with" } else { "was killed by" };
    format!("{how} {}", ending(status))
}

fn within(answer: &[u8], longest: usize) -> Result<(), String> {
    if answer.len() > longest {
        Err(format!("worker wrote a line that is larger than {}", size(longest)))
    } else {
        Ok(())
    }
}

/// What is wrong with a line.
struct Wrong {
    what: &'static str,
    error: Option<serde_json::Error>,
}

impl Wrong {
    /// Why it cannot be read, where that is it.
    fn why(&self) -> String {
        self.error.as_ref().map_or_else(String::new, |error| format!(": {error}"))
    }

    /// What it is without a word of what is in it: an error about what the JSON says repeats that.
    fn in_general(&self) -> String {
        let is_about_words = self.error.as_ref().is_some_and(serde_json::Error::is_data);
        if is_about_words { self.what.to_owned() } else { format!("{}{}", self.what, self.why()) }
    }
}

/// The outcome that `line` tells, which must be an answer to `id`.
fn understand(line: &[u8], id: &str) -> Result<Outcome, Wrong> {
    let answer: Answer = serde_json::from_slice(line)
        .map_err(|error| Wrong { what: "worker wrote something that is not an answer", error: Some(error) })?;
    if answer.id != id {
        return Err(Wrong { what: "worker answered another call", error: None });
    }
    if answer.status == Status::Ok {
        return Ok(Ok(answer.data));
    }
    let text = answer.data.to_text();
    let is_final = answer.retry == Some(false);
    Ok(Err(if is_final { CallError::FailedForGood(text) } else { CallError::Failed(text) }))
}

fn is_later(error: &io::Error) -> bool {
    matches!(error.kind(), io::ErrorKind::WouldBlock | io::ErrorKind::Interrupted)
}

/// Puts what a child writes to standard error into the log, line by line.
struct LineLog {
    name: String,
    line: Vec<u8>,
}

impl LineLog {
    /// Longer lines are logged in pieces.
    const LONGEST: usize = 2048;

    fn new(name: &str) -> Self {
        LineLog { name: name.to_owned(), line: Vec::new() }
    }

    /// Reads until the end, or until the process has exited: one that it started may hold the pipe open for ever.
    fn follow(&mut self, mut stderr: ChildStderr, exit: &OwnedFd) {
        let mut chunk = [0; CHUNK];
        loop {
            let handles = &mut [PollFd::new(exit, PollFlags::IN), PollFd::new(&stderr, PollFlags::IN)];
            let has_failed = wait_ready(handles, None).is_err();
            let is_last = has_failed || !handles[0].revents().is_empty();
            match stderr.read(&mut chunk) {
                Ok(0) => break,
                Ok(read) => chunk[..read].iter().for_each(|&byte| self.push(byte)),
                Err(error) if is_later(&error) => {}
                Err(_) => break,
            }
            if is_last {
                break;
            }
        }
        self.flush();
    }

    fn push(&mut self, byte: u8) {
        if byte != b'\n' {
            self.line.push(byte);
        }
        if byte == b'\n' || self.line.len() >= Self::LONGEST {
            self.flush();
        }
    }

    fn flush(&mut self) {
        let line = mem::take(&mut self.line);
        if !line.is_empty() {
            log::info!(target: "worker", "{}: {}", self.name, String::from_utf8_lossy(&line).trim_end());
        }
    }
}
