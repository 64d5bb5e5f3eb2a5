//! The terminal while something is shown live in it. However that ends, it is as it was before.

use std::io::{self, IsTerminal};
use std::panic;
use std::sync::Mutex;

use rustix::termios::{LocalModes, OptionalActions, Termios, tcgetattr, tcsetattr};

use super::super::columns::Line;
use super::super::exit::Failure;
use super::super::output;

use crate::lock::Unpoisoned;

/// Another page, without a cursor; and back.
const ENTER: &str = "\x1b[?1049h\x1b[?25l";
const LEAVE: &str = "\x1b[?25h\x1b[?1049l";

/// How the terminal was before, while it is changed. A panic on any thread needs it, too.
static BEFORE: Mutex<Option<Before>> = Mutex::new(None);

/// The modes of standard input, where it is a terminal.
struct Before(Option<Termios>);

/// The terminal, ours until this is dropped.
pub(super) struct Screen(());

impl Screen {
    pub(super) fn open() -> Self {
        let stdin = io::stdin();
        let modes = stdin.is_terminal().then(|| tcgetattr(&stdin).ok()).flatten();
        if let Some(modes) = &modes {
            // Keys come as they are typed, and are not shown. Ctrl-C is a key as well, so that it, too, ends in order; and
            // Ctrl-Z none, as it would leave the terminal as it is now.
            let mut live = modes.clone();
            live.local_modes -= LocalModes::ICANON | LocalModes::ECHO | LocalModes::ISIG;
            let _still_usable = tcsetattr(&stdin, OptionalActions::Now, &live);
        }
        *BEFORE.lock().unpoisoned() = Some(Before(modes));
        let usual = panic::take_hook();
        panic::set_hook(Box::new(move |panic| {
            // First, so that what is said of the panic stays.
            restore();
            usual(panic);
        }));
        let _shown_or_gone = output::print_bytes(ENTER.as_bytes());
        Screen(())
    }

    /// Shows the lines that `lines` gives for this number of rows.
    pub(super) fn draw(&self, lines: impl FnOnce(usize) -> Vec<Line>) -> Result<(), Failure> {
        let (columns, rows) = output::size().unwrap_or((80, 24));
        let is_coloured = output::is_coloured();
        let lines = lines(rows);
        let lines: Vec<String> = lines.iter().take(rows).map(|line| line.text(Some(columns), is_coloured)).collect();
        // In one write, and each line is cleared before it: so nothing flickers, and a full line keeps its last character.
        let text = format!("\x1b[H\x1b[2K{}\x1b[J", lines.join("\r\n\x1b[2K"));
        output::print_bytes(text.as_bytes()).map(drop)
    }
}

impl Drop for Screen {
    fn drop(&mut self) {
        restore();
    }
}

fn restore() {
    // Poisoned only by a panic, which is where this is needed.
    let before = BEFORE.lock().unpoisoned().take();
    let Some(Before(modes)) = before else { return };
    let _shown_or_gone = output::print_bytes(LEAVE.as_bytes());
    if let Some(modes) = modes {
        let _gone = tcsetattr(io::stdin(), OptionalActions::Flush, &modes);
    }
}
