//! `cerbas cron`: what a crontab means, and when. It looks at files only; nothing is run.

mod explain;
mod next;
mod simulate;
mod times;

use std::path::PathBuf;

use super::columns::{Columns, Tone, cell, plain};
use super::exit::{Exit, Failure};
use super::output;
use crate::cron::{Action, Entry, Reading, Table};

#[derive(clap::Args)]
pub(super) struct Cron {
    #[command(subcommand)]
    command: Command,
}

#[derive(clap::Subcommand)]
enum Command {
    /// List the entries of a crontab
    List(List),
    /// Tell when entries are due, or an expression
    Next(next::Next),
    /// Say an expression in words
    Explain(explain::Explain),
    /// Show every firing of a crontab in a span of time, and the nights in which the clock is set
    Simulate(simulate::Simulate),
}

impl Cron {
    pub(super) fn run(self) -> Result<Exit, Failure> {
        match self.command {
            Command::List(list) => list.run(),
            Command::Next(next) => next.run(),
            Command::Explain(explain) => explain.run(),
            Command::Simulate(simulate) => simulate.run(),
        }
    }
}

/// Which crontab.
#[derive(clap::Args)]
struct File {
    /// The crontab
    #[arg(long, value_name = "FILE", default_value = "CRONTAB")]
    file: PathBuf,
    /// Its lines have the user behind the schedule, as in /etc/crontab and /etc/cron.d
    #[arg(long)]
    system: bool,
}

impl File {
    /// Its entries; all its faults at once if it has any.
    fn read(&self) -> Result<Vec<Entry>, Failure> {
        let name = self.file.display();
        let bytes = std::fs::read(&self.file).map_err(|error| {
            Failure::new(Exit::CannotStart, format!("{name}: {}; name one with --file", plain_error(&error)))
        })?;
        let text = String::from_utf8(bytes)
            .map_err(|error| Failure::new(Exit::CannotStart, format!("{name}: {}", error.utf8_error())))?;
        let host = rustix::system::uname();
        let reading = Reading { has_users: self.system, host: &host.nodename().to_string_lossy() };
        let table = Table::read(&text, &reading).map_err(|faults| {
            let lines = faults.iter().map(|fault| format!("{name}:{}:{}: {}", fault.line, fault.column, fault.reason));
            Failure::new(Exit::Failed, lines.collect::<Vec<_>>().join("\n"))
        })?;
        Ok(table.entries)
    }
}

/// An error of the operating system without its number.
fn plain_error(error: &std::io::Error) -> String {
    let text = error.to_string();
    text.split(" (os error").next().unwrap_or_default().to_lowercase()
}

#[derive(clap::Args)]
struct List {
    #[command(flatten)]
    file: File,
    /// Print a JSON array
    #[arg(long)]
    json: bool,
}

impl List {
    fn run(self) -> Result<Exit, Failure> {
        let entries = self.file.read()?;
        if self.json {
            let entries: Vec<_> = entries.iter().map(facts).collect();
            return output::print(&serde_json::Value::from(entries).to_string());
        }
        if entries.is_empty() {
            return output::print("no entries");
        }
        let mut table = Columns::new(&[">line", "name", "schedule", "zone", "what"]);
        for entry in &entries {
            let tone = if entry.policies.is_disabled { Tone::Faint } else { Tone::Plain };
            let disabled = if entry.policies.is_disabled { " (disabled)" } else { "" };
            let zone = entry.policies.zone.as_ref().map_or("local", |zone| zone.name.as_str());
            table.row([
                plain(entry.line),
                cell(format!("{}{disabled}", entry.name), tone),
                cell(&entry.text, tone),
                cell(zone, tone),
                cell(what(entry), tone),
            ]);
        }
        output::print_lines(&table.lines())
    }
}

/// What an entry does, in a line.
fn what(entry: &Entry) -> String {
    match &entry.action {
        Action::Request(request) => format!("| {}", serde_json::to_string(request).unwrap_or_default()),
        Action::Command(command) => match &command.user {
            Some(user) => format!("{user}: {}", command.line),
            None => command.line.clone(),
        },
    }
}

fn facts(entry: &Entry) -> serde_json::Value {
    let mut facts = serde_json::json!({
        "name": entry.name,
        "line": entry.line,
        "schedule": entry.text,
        "description": entry.schedule.describe(),
        "zone": entry.policies.zone.as_ref().map(|zone| zone.name.clone()),
        "disabled": entry.policies.is_disabled,
    });
    match &entry.action {
        Action::Request(request) => facts["request"] = serde_json::Value::Object(request.clone()),
        Action::Command(command) => {
            facts["command"] = command.line.clone().into();
            facts["stdin"] = command.stdin.clone().into();
            facts["user"] = command.user.clone().into();
            facts["environment"] = serde_json::to_value(&command.environment).unwrap_or_default();
        }
    }
    facts
}
