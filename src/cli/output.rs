//! What the program prints. The only place that writes to the terminal.

use std::io::{self, IsTerminal, Write};
use std::sync::mpsc::{RecvTimeoutError, Sender, channel};
use std::sync::{Arc, Mutex};
use std::thread::{self, JoinHandle};
use std::time::{Duration, Instant};

use super::columns::Line;
use super::exit::{Exit, Failure};

use crate::lock::Unpoisoned;

/// Prints a line to standard output.
pub(super) fn print(line: &str) -> Result<Exit, Failure> {
    print_bytes(format!("{line}\n").as_bytes())
}

/// Prints bytes to standard output. A reader that has gone, as `head` does, is no failure.
pub(super) fn print_bytes(bytes: &[u8]) -> Result<Exit, Failure> {
    let mut out = io::stdout().lock();
    match out.write_all(bytes).and_then(|()| out.flush()) {
        Err(error) if error.kind() != io::ErrorKind::BrokenPipe => {
            Err(Failure::new(Exit::Failed, format!("cannot write the output: {error}")))
        }
        _ => Ok(Exit::Done),
    }
}

/// Prints lines to standard output, with colours if it is a terminal.
pub(super) fn print_lines(lines: &[Line]) -> Result<Exit, Failure> {
    let is_coloured = is_coloured();
    let text: String = lines.iter().map(|line| line.text(None, is_coloured) + "\n").collect();
    print_bytes(text.as_bytes())
}

/// Whether standard output is a terminal that may have colours.
pub(super) fn is_coloured() -> bool {
    io::stdout().is_terminal() && std::env::var_os("NO_COLOR").is_none_or(|no| no.is_empty())
}

/// The columns and rows of the terminal that standard output is; `None` if it is none.
pub(super) fn size() -> Option<(usize, usize)> {
    if !io::stdout().is_terminal() {
        return None;
    }
    let size = rustix::termios::tcgetwinsize(io::stdout()).ok();
    let size = size.map(|size| (usize::from(size.ws_col), usize::from(size.ws_row)));
    // One that does not know its size says 0.
    Some(size.filter(|(columns, rows)| *columns > 0 && *rows > 0).unwrap_or((80, 24)))
}

/// Asks on the terminal, and tells whether the answer was yes.
pub(super) fn ask(question: &str) -> Result<bool, Failure> {
    let mut err = io::stderr().lock();
    let asked = write!(err, "{question}").and_then(|()| err.flush());
    drop(err);
    let mut answer = String::new();
    let read = asked.and_then(|()| io::stdin().read_line(&mut answer));
    read.map_err(|error| Failure::new(Exit::Failed, format!("cannot ask: {error}")))?;
    Ok(["y", "yes"].contains(&answer.trim().to_lowercase().as_str()))
}

/// Prints what went wrong to standard error, a line each.
pub(super) fn complain(message: &str) {
    let mut err = io::stderr().lock();
    let (red, plain) = if io::stderr().is_terminal() { ("\x1b[31m", "\x1b[0m") } else { ("", "") };
    for line in message.lines() {
        // Nowhere to say that this failed.
        let _ = writeln!(err, "{red}cerbas:{plain} {line}");
    }
}

/// Shows on a terminal that something is waited for, until it is dropped. Where standard error is no terminal, nothing.
pub(super) struct Waiting(Option<Shown>);

struct Shown {
    what: Arc<Mutex<String>>,
    end: Sender<()>,
    thread: JoinHandle<()>,
}

/// Whoever waits less need not be told.
const QUIET: Duration = Duration::from_millis(300);

impl Waiting {
    /// Says that `what` is waited for.
    pub(super) fn show(what: String) -> Self {
        if !io::stderr().is_terminal() {
            return Waiting(None);
        }
        let (end, ended) = channel();
        let start = Instant::now();
        let what = Arc::new(Mutex::new(what));
        let told = Arc::clone(&what);
        let thread = thread::spawn(move || {
            let mut pause = QUIET;
            let mut was_shown = false;
            while ended.recv_timeout(pause) == Err(RecvTimeoutError::Timeout) {
                let what = told.lock().unpoisoned().clone();
                let mut err = io::stderr().lock();
                let _ = write!(err, "\r\x1b[2K\x1b[2m{what} ({:.0} s)\x1b[0m", start.elapsed().as_secs_f64());
                let _ = err.flush();
                (pause, was_shown) = (Duration::from_secs(1), true);
            }
            if was_shown {
                let _ = write!(io::stderr().lock(), "\r\x1b[2K");
            }
        });
        Waiting(Some(Shown { what, end, thread }))
    }

    /// Says something else from now on.
    pub(super) fn update(&self, what: String) {
        if let Some(shown) = &self.0 {
            *shown.what.lock().unpoisoned() = what;
        }
    }
}

impl Drop for Waiting {
    fn drop(&mut self) {
        if let Some(Shown { end, thread, .. }) = self.0.take() {
            drop(end);
            let _ended = thread.join();
        }
    }
}
