//! `cerbas top`: what `status` shows, live in the terminal.

mod frame;
mod screen;

use std::collections::BTreeMap;
use std::io::{self, IsTerminal, Read};
use std::thread;
use std::time::Duration;

use crossbeam_channel::{Receiver, bounded, never, select, unbounded};

use self::screen::Screen;
use super::columns::Line;
use super::exit::{Exit, Failure};
use super::{Place, output};
use crate::broker::{BrokerError, Inspect, Overview};
use crate::inspect::rates::rates;
use crate::protocol::Verdict;
use crate::signals;

/// Redis is not asked more often.
const LEAST: Duration = Duration::from_millis(100);

#[derive(clap::Args)]
pub(super) struct Top {
    /// Show so many frames, then end; without a terminal they are plain text
    #[arg(short = 'n', value_name = "COUNT")]
    count: Option<u64>,
    /// The time between two frames
    #[arg(long, value_name = "TIME", value_parser = humantime::parse_duration, default_value = "1s")]
    every: Duration,
    #[command(flatten)]
    place: Place,
}

impl Top {
    pub(super) fn run(self) -> Result<Exit, Failure> {
        let is_live = output::size().is_some();
        if !is_live && self.count.is_none() {
            let hint = "top needs a terminal; try `cerbas status`, or -n COUNT for plain frames";
            return Err(Failure::new(Exit::Usage, hint));
        }
        let operator = self.place.operator()?;
        let mut view = View { address: operator.address(), ..View::default() };
        let every = self.every.max(LEAST);
        let looks = look_again_and_again(operator, every);
        if is_live { watch(&mut view, &looks, self.count, every) } else { print(&mut view, &looks, self.count) }
    }
}

/// What is shown.
#[derive(Default)]
struct View {
    address: String,
    overview: Option<Overview>,
    per_second: Option<BTreeMap<Verdict, f64>>,
    /// Why what is shown is not new.
    trouble: Option<String>,
}

type Look = Result<Overview, BrokerError>;

impl View {
    fn take(&mut self, look: Look) {
        match look {
            Ok(overview) => {
                self.per_second = self.overview.as_ref().and_then(|before| rates(before, &overview));
                self.overview = Some(overview);
                self.trouble = None;
            }
            Err(error) => self.trouble = Some(error.to_string()),
        }
    }

    fn lines(&self, rows: Option<usize>) -> Vec<Line> {
        frame::lines(self, rows)
    }
}

/// Looks on a thread of its own, so that a Redis that hangs holds up no key. It ends when nobody wants the looks any more.
fn look_again_and_again(mut operator: Box<dyn Inspect>, every: Duration) -> Receiver<Look> {
    let (sender, looks) = bounded(0);
    thread::spawn(move || {
        while sender.send(operator.overview()).is_ok() {
            thread::sleep(every);
        }
    });
    looks
}

/// Plain frames, one below the other. The first look is only there to be compared with.
fn print(view: &mut View, looks: &Receiver<Look>, count: Option<u64>) -> Result<Exit, Failure> {
    view.take(Ok(looks.recv().expect("looks do not end")?));
    for number in 0..count.unwrap_or(u64::MAX) {
        view.take(Ok(looks.recv().expect("looks do not end")?));
        if number > 0 {
            output::print("")?;
        }
        output::print_lines(&view.lines(None))?;
    }
    Ok(Exit::Done)
}

/// Live, until somebody quits.
fn watch(view: &mut View, looks: &Receiver<Look>, count: Option<u64>, every: Duration) -> Result<Exit, Failure> {
    let quit =
        signals::listen().map_err(|error| Failure::new(Exit::Failed, format!("cannot listen to signals: {error}")))?;
    let screen = Screen::open();
    let mut keys = keys();
    let mut left = count.unwrap_or(u64::MAX);
    while left > 0 {
        select! {
            recv(quit.received()) -> _ => break,
            recv(keys) -> key => match key {
                Ok(key) if is_to_quit(key) => break,
                Ok(_) => {}
                Err(_) => keys = never(),
            },
            recv(looks) -> look => {
                view.take(look.expect("looks do not end"));
                left -= 1;
            }
            // The terminal may have another size now.
            default(every) => {}
        }
        if view.overview.is_some() || view.trouble.is_some() {
            screen.draw(|rows| view.lines(Some(rows)))?;
        }
    }
    Ok(Exit::Done)
}

/// What is typed; nothing where standard input is no terminal.
fn keys() -> Receiver<u8> {
    if !io::stdin().is_terminal() {
        return never();
    }
    let (sender, keys) = unbounded();
    // Not joined: it waits for a key until the process ends.
    thread::spawn(move || {
        for key in io::stdin().lock().bytes().map_while(Result::ok) {
            if sender.send(key).is_err() {
                return;
            }
        }
    });
    keys
}

/// `q`, and what ends programs elsewhere: Ctrl-C and Ctrl-D.
fn is_to_quit(key: u8) -> bool {
    matches!(key, b'q' | b'Q' | 3 | 4)
}
