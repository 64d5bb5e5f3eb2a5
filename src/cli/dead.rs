//! `cerbas dead`: the requests that failed for good.

use std::io::IsTerminal;

use clap::Subcommand;
use serde_json::{Value, json};

use super::columns::{Columns, Line, Tone, cell, plain, span};
use super::exit::{Exit, Failure};
use super::{Place, output};
use crate::broker::{DeadEntry, Inspect};
use crate::clock;
use crate::inspect::shapes;
use crate::protocol::{Json, RequestId};

#[derive(clap::Args)]
pub(super) struct Dead {
    #[command(subcommand)]
    command: Command,
}

#[derive(Subcommand)]
enum Command {
    /// List them, the latest first
    List(List),
    /// Show all that is kept of some
    Show(Show),
    /// Send their requests again
    Retry(Change),
    /// Take them out of the list
    Delete(Change),
}

impl Dead {
    pub(super) fn run(self) -> Result<Exit, Failure> {
        match self.command {
            Command::List(list) => list.run(),
            Command::Show(show) => show.run(),
            Command::Retry(change) => change.run("retry", "sent again", retry),
            Command::Delete(change) => change.run("delete", "deleted", |operator, entry| {
                Ok(operator.delete_dead(entry)?.then_some(()).ok_or_else(|| GONE.to_owned()))
            }),
        }
    }
}

const GONE: &str = "somebody else has taken it out meanwhile";

fn retry(operator: &mut dyn Inspect, entry: &DeadEntry) -> Result<Result<(), String>, Failure> {
    if entry.letter.request.is_none() {
        return Ok(Err("cannot be sent again, as it could not be read".to_owned()));
    }
    Ok(operator.retry_dead(entry)?.then_some(()).ok_or_else(|| GONE.to_owned()))
}

#[derive(clap::Args)]
struct List {
    /// Only those of this function
    #[arg(long)]
    func: Option<String>,
    /// Only those that ended so
    #[arg(long)]
    verdict: Option<String>,
    /// At most so many
    #[arg(short, long, default_value_t = 50)]
    number: usize,
    /// Print a JSON array
    #[arg(long)]
    json: bool,
    #[command(flatten)]
    place: Place,
}

impl List {
    fn run(self) -> Result<Exit, Failure> {
        let entries = self.place.operator()?.dead()?;
        let all = entries.len();
        let fits = |entry: &&DeadEntry| {
            (self.func.is_none() || entry.letter.func == self.func)
                && self.verdict.as_ref().is_none_or(|verdict| entry.letter.verdict.as_str() == verdict)
        };
        let shown: Vec<&DeadEntry> = entries.iter().rev().filter(fits).take(self.number).collect();
        if self.json {
            return output::print(&shapes::dead(&shown));
        }
        if shown.is_empty() {
            return output::print(if all == 0 { "the dead list is empty" } else { "none of the dead list fits" });
        }
        let now = clock::now();
        let mut columns = Columns::new(&["id", "function", "verdict", ">runs", ">died", "message"]);
        for entry in shown {
            let letter = &entry.letter;
            columns.row([
                plain(entry.name()),
                plain(letter.func.as_deref().unwrap_or("-")),
                cell(letter.verdict, Tone::Bad),
                plain(letter.attempts),
                plain(format!("{} ago", span(now.saturating_sub(letter.at)))),
                plain(letter.message.lines().last().unwrap_or_default().chars().take(80).collect::<String>()),
            ]);
        }
        output::print_lines(&columns.lines())
    }
}

#[derive(clap::Args)]
struct Show {
    /// The ids, as the list shows them
    #[arg(required = true)]
    ids: Vec<String>,
    /// Print a JSON array
    #[arg(long)]
    json: bool,
    #[command(flatten)]
    place: Place,
}

impl Show {
    fn run(self) -> Result<Exit, Failure> {
        let entries = self.place.operator()?.dead()?;
        let chosen = choose(&entries, &self.ids)?;
        if self.json {
            return output::print(&shapes::dead(&chosen));
        }
        let now = clock::now();
        for entry in chosen {
            let lines: Vec<Line> = text(entry, now).lines().map(|line| Line::of(line, Tone::Plain)).collect();
            output::print_lines(&lines)?;
        }
        Ok(Exit::Done)
    }
}

fn text(entry: &DeadEntry, now: u64) -> String {
    let letter = &entry.letter;
    let ago = |at: u64| format!("{} ago", span(now.saturating_sub(at)));
    let mut lines = vec![
        format!("{}: {} {}", entry.name(), letter.verdict, ago(letter.at)),
        format!("  message   {}", letter.message.replace('\n', "\n            ")),
        format!("  runs      {}", letter.attempts),
    ];
    lines.extend(letter.first_at.map(|at| format!("  first run {}", ago(at))));
    if !letter.node.is_empty() {
        lines.push(format!("  daemon    {}", letter.node));
    }
    if let Some(request) = &letter.request {
        let request = Json::from(request.clone()).to_pretty();
        lines.push(format!("  request   {}", request.replace('\n', "\n            ")));
    }
    if let Some(element) = &letter.element {
        let bytes = letter.bytes.unwrap_or(element.len());
        lines.push(format!("  element   {bytes} bytes: {}", element.replace(char::is_control, "\u{fffd}")));
    }
    lines.join("\n")
}

#[derive(clap::Args)]
struct Change {
    /// The ids, as the list shows them
    #[arg(required_unless_present = "all")]
    ids: Vec<String>,
    /// All of them
    #[arg(long, conflicts_with = "ids")]
    all: bool,
    /// With --all: only those of this function
    #[arg(long, requires = "all")]
    func: Option<String>,
    /// With --all: do not ask
    #[arg(long, requires = "all")]
    yes: bool,
    /// Print a JSON array
    #[arg(long)]
    json: bool,
    #[command(flatten)]
    place: Place,
}

impl Change {
    /// Does `work` with each that is meant.
    fn run(
        self,
        verb: &str,
        done: &str,
        work: impl Fn(&mut dyn Inspect, &DeadEntry) -> Result<Result<(), String>, Failure>,
    ) -> Result<Exit, Failure> {
        let mut operator = self.place.operator()?;
        let entries = operator.dead()?;
        let chosen: Vec<&DeadEntry> = if self.all {
            entries.iter().filter(|entry| self.func.is_none() || entry.letter.func == self.func).collect()
        } else {
            choose(&entries, &self.ids)?
        };
        if self.all && !chosen.is_empty() && !self.yes && !is_sure(verb, chosen.len())? {
            return output::print("nothing was changed");
        }
        let (mut exit, mut described) = (Exit::Done, Vec::new());
        for entry in &chosen {
            let changed = work(&mut *operator, entry)?;
            if changed.is_err() {
                exit = Exit::Failed;
            }
            let name = entry.name();
            if self.json {
                described.push(json!({"id": name, "is_done": changed.is_ok(), "message": changed.err()}));
                continue;
            }
            match changed {
                Ok(()) => drop(output::print(&format!("{name}: {done}"))?),
                Err(why) => output::complain(&format!("{name}: {why}")),
            }
        }
        if self.json {
            output::print(&Value::from(described).to_string())?;
        } else if chosen.is_empty() {
            output::print("none of the dead list fits")?;
        }
        Ok(exit)
    }
}

/// Those of `entries` that `ids` name; several can have the same id, and all of them are meant.
fn choose<'a>(entries: &'a [DeadEntry], ids: &[String]) -> Result<Vec<&'a DeadEntry>, Failure> {
    let mut chosen = Vec::new();
    for id in ids {
        let full = id.parse().map_or_else(|_| id.clone(), |number| RequestId::Number(number).to_string());
        let before = chosen.len();
        chosen.extend(entries.iter().filter(|entry| entry.name() == *id || entry.name() == full));
        if chosen.len() == before {
            return Err(Failure::new(Exit::Failed, format!("{id}: is not on the dead list")));
        }
    }
    Ok(chosen)
}

/// Asks whoever sits at the terminal.
fn is_sure(verb: &str, count: usize) -> Result<bool, Failure> {
    if !std::io::stdin().is_terminal() {
        return Err(Failure::new(Exit::Usage, format!("{verb} --all: nobody can be asked here, say --yes")));
    }
    output::ask(&format!("{verb} {count} of the dead list? [y/N] "))
}
