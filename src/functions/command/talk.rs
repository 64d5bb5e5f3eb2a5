//! What goes into a program and comes out of it, until it has ended.

use std::io::{self, Read, Write};
use std::process::{ChildStderr, ChildStdin, ChildStdout, ExitStatus};
use std::time::{Duration, Instant};

use rustix::event::{PollFd, PollFlags};

use crate::functions::Call;
use crate::functions::onward::Lent;
use crate::functions::output::{JobLog, Tail, ending, value_of, without_line_break};
use crate::functions::process::{Interrupt, Pipes, Process, wait_ready};
use crate::protocol::{CallError, Outcome};

/// With this exit status a program says that to try again is pointless, as programs of the qmail tradition do.
const NOT_AGAIN: i32 = 100;

/// How long a program that has exited may hold its output open, through one that it started. What it wrote itself is
/// read in any case.
const LINGER: Duration = Duration::from_millis(100);

/// A job that takes longer than this may take very long, and does not keep a worker from others.
const LONG: Duration = Duration::from_secs(1);

/// How much is read at once: all that fits into a pipe, so that one read after the exit finds all that was written.
const CHUNK: usize = 64 << 10;

/// Why a [`Talk`] ended.
pub(super) enum End {
    Exited,
    TooLarge,
    Over(CallError),
}

/// What a program has written.
pub(super) enum Output {
    /// The value of the call, and how long it may be.
    Value { bytes: Vec<u8>, most: usize },
    /// A log.
    Log(JobLog),
}

impl Output {
    fn is_log(&self) -> bool {
        matches!(self, Output::Log(_))
    }

    fn add(&mut self, read: &[u8]) {
        match self {
            Output::Value { bytes, .. } => bytes.extend_from_slice(read),
            Output::Log(log) => log.push(read),
        }
    }

    fn is_too_large(&self) -> bool {
        matches!(self, Output::Value { bytes, most } if bytes.len() > *most)
    }
}

/// What goes into a program and comes out of it.
pub(super) struct Talk<'a> {
    call: &'a Call,
    /// When it is one that takes long, and then the worker that takes our place.
    is_long_at: Option<Instant>,
    lent: Option<Lent>,
    line: Vec<u8>,
    written: usize,
    stdin: Option<ChildStdin>,
    stdout: Option<ChildStdout>,
    stderr: Option<ChildStderr>,
    output: Output,
    complaints: Tail,
}

impl<'a> Talk<'a> {
    /// A talk for `call`, over `pipes`: `line` goes in.
    pub(super) fn new(call: &'a Call, pipes: Pipes, line: Vec<u8>, output: Output) -> Self {
        let Pipes { stdin, stdout, stderr } = pipes;
        let is_long_at = output.is_log().then(|| Instant::now() + LONG);
        Talk {
            call,
            is_long_at,
            lent: None,
            line,
            written: 0,
            stdin: Some(stdin),
            stdout: Some(stdout),
            stderr,
            output,
            complaints: Tail::default(),
        }
    }

    /// Writes and reads until the program has exited and all it wrote was read.
    pub(super) fn until_end(&mut self, process: &Process, interrupt: &Interrupt<'_>) -> io::Result<End> {
        let mut give_up = None;
        loop {
            if let Some(reason) = interrupt.reason() {
                return Ok(End::Over(reason));
            }
            if self.is_long_at.is_some_and(|at| Instant::now() >= at) {
                self.is_long_at = None;
                self.lent = self.call.stand_aside();
            }
            self.write();
            self.read();
            if self.output.is_too_large() {
                return Ok(End::TooLarge);
            }
            match give_up {
                Some(give_up) if self.is_silent() || Instant::now() >= give_up => return Ok(End::Exited),
                None if self.output.is_log() && self.is_silent() && process.has_ended() => return Ok(End::Exited),
                None if self.output.is_log() => self.wait(process, interrupt, None)?,
                // There is one more read after this: it wrote its last before it exited.
                None if process.has_ended() => give_up = Some(Instant::now() + LINGER),
                _ => self.wait(process, interrupt, give_up)?,
            }
        }
    }

    /// Whether its output is a log, and it may leave something behind.
    pub(super) fn is_of_job(&self) -> bool {
        self.output.is_log()
    }

    fn is_silent(&self) -> bool {
        self.stdout.is_none() && self.stderr.is_none()
    }

    fn wait(&self, process: &Process, interrupt: &Interrupt<'_>, give_up: Option<Instant>) -> io::Result<()> {
        let mut handles = vec![PollFd::new(interrupt.event(), PollFlags::IN)];
        // A job is over when its output is; its exit is waited for after that.
        if give_up.is_none() && (!self.output.is_log() || self.is_silent()) {
            handles.push(PollFd::new(process.exit(), PollFlags::IN));
        }
        handles.extend(self.stdin.iter().map(|stdin| PollFd::new(stdin, PollFlags::OUT)));
        handles.extend(self.stdout.iter().map(|stdout| PollFd::new(stdout, PollFlags::IN)));
        handles.extend(self.stderr.iter().map(|stderr| PollFd::new(stderr, PollFlags::IN)));
        let until = [give_up, self.is_long_at].into_iter().flatten().chain([interrupt.deadline()]).min();
        wait_ready(&mut handles, until).map(drop)
    }

    /// Writes what fits. A program that does not care to read is fine.
    fn write(&mut self) {
        let Some(stdin) = &mut self.stdin else { return };
        match stdin.write(&self.line[self.written..]) {
            Ok(written) => self.written += written,
            Err(error) if is_later(&error) => return,
            Err(_) => self.written = self.line.len(),
        }
        if self.written == self.line.len() {
            self.stdin = None;
            self.line = Vec::new();
            self.written = 0;
        }
    }

    fn read(&mut self) {
        let mut chunk = [0; CHUNK];
        if let Some(read) = read_some(&mut self.stdout, &mut chunk) {
            self.output.add(read);
        }
        if let Some(read) = read_some(&mut self.stderr, &mut chunk) {
            self.complaints.push(read);
        }
    }

    /// What it came to.
    pub(super) fn outcome(mut self, status: Option<ExitStatus>) -> Outcome {
        match self.output {
            Output::Value { bytes, .. } => outcome(status, &bytes, self.complaints.text()),
            Output::Log(log) => outcome_of_job(status, log.text()),
        }
    }
}

/// What a job came to: its log, or on the first line how it ended and behind that its log.
fn outcome_of_job(status: Option<ExitStatus>, log: String) -> Outcome {
    let ended = match status {
        Some(status) if status.success() => return Ok(log.into()),
        Some(status) if status.code().is_some() => ending(status),
        Some(status) => format!("killed by {}", ending(status)),
        None => "how it ended is not known".to_owned(),
    };
    let is_final = status.is_some_and(|status| status.code() == Some(NOT_AGAIN));
    let message = if log.is_empty() { ended } else { format!("{ended}\n{log}") };
    Err(if is_final { CallError::FailedForGood(message) } else { CallError::Failed(message) })
}

fn outcome(status: Option<ExitStatus>, output: &[u8], complaints: String) -> Outcome {
    match status {
        Some(status) if status.success() => {
            if !complaints.is_empty() {
                log::debug!(target: "command", "{complaints}");
            }
            value_of(without_line_break(output)).map_err(|reason| CallError::Failed(format!("output: {reason}")))
        }
        // What it says itself is the best text there is.
        Some(status) if status.code().is_some() => {
            let message = if complaints.is_empty() { ending(status) } else { complaints };
            let is_final = status.code() == Some(NOT_AGAIN);
            Err(if is_final { CallError::FailedForGood(message) } else { CallError::Failed(message) })
        }
        Some(status) if complaints.is_empty() => Err(CallError::Failed(format!("killed by {}", ending(status)))),
        Some(status) => Err(CallError::Failed(format!("killed by {}: {complaints}", ending(status)))),
        None => Err(CallError::Failed("how it ended is not known".to_owned())),
    }
}

/// Reads what is there. Closes `pipe` at its end.
fn read_some<'a>(pipe: &mut Option<impl Read>, chunk: &'a mut [u8]) -> Option<&'a [u8]> {
    match pipe.as_mut()?.read(chunk) {
        Ok(0) => *pipe = None,
        Ok(read) => return Some(&chunk[..read]),
        Err(error) if is_later(&error) => {}
        Err(_) => *pipe = None,
    }
    None
}

fn is_later(error: &io::Error) -> bool {
    matches!(error.kind(), io::ErrorKind::WouldBlock | io::ErrorKind::Interrupted)
}
