//! `cerbas cron`: what a crontab means, and when; and what became of it.

mod explain;
mod history;
mod import;
mod next;
mod pause;
mod records;
mod run;
mod simulate;
mod spool;
mod times;
mod why;

use std::path::PathBuf;
use std::sync::Arc;

use self::records::Records;
use super::columns::{Columns, Tone, cell, plain};
use super::exit::{Exit, Failure};
use super::{ConfigPath, Place, output};
use crate::config::Config;
use crate::cron::{Action, Crontabs, Entry, FileFault, Loaded};
use crate::protocol::Object;

pub(super) use self::why::why;

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
    /// Tell what became of the last runs
    History(history::History),
    /// Run an entry now
    Run(run::Run),
    /// Let an entry not run until it is resumed
    Pause(pause::Pause),
    /// Let a paused entry run again
    Resume(pause::Pause),
    /// Tell what crontabs of another cron would do here, line by line
    Import(import::Import),
}

impl Cron {
    pub(super) fn run(self) -> Result<Exit, Failure> {
        match self.command {
            Command::List(list) => list.run(),
            Command::Next(next) => next.run(),
            Command::Explain(explain) => explain.run(),
            Command::Simulate(simulate) => simulate.run(),
            Command::History(history) => history.run(),
            Command::Run(run) => run.run(),
            Command::Pause(pause) => pause.run(true),
            Command::Resume(pause) => pause.run(false),
            Command::Import(import) => import.run(),
        }
    }
}

/// Which crontab: that of the configuration, or the one that is named.
#[derive(clap::Args)]
struct File {
    /// A crontab, instead of those in [cron] of the configuration; without both it is CRONTAB
    #[arg(long, value_name = "FILE")]
    file: Option<PathBuf>,
    /// Its lines have the user behind the schedule, as in /etc/crontab and /etc/cron.d
    #[arg(long, requires = "file")]
    system: bool,
    #[command(flatten)]
    config: ConfigPath,
}

impl File {
    /// Those of the configuration that `place` names.
    fn of(place: &Place) -> Self {
        File { file: None, system: false, config: place.config() }
    }

    /// Where its runs are on record.
    fn place(&self) -> Place {
        Place::of(self.config.clone())
    }

    /// What it says; a failure with all its faults if there is no entry to be shown. `zone` holds for those that have none of their own.
    fn read(&self, zone: Option<&str>) -> Result<Loaded, Failure> {
        let mut crontabs = self.crontabs()?;
        if let Some(zone) = zone {
            crontabs.defaults.set("tz", zone).map_err(|reason| Failure::new(Exit::Usage, format!("--tz: {reason}")))?;
        }
        let loaded = crontabs.read();
        if !loaded.entries.is_empty() || loaded.is_whole() {
            return Ok(loaded);
        }
        let faults = faults(&loaded);
        let is_whole_file = loaded.faults.iter().all(|fault| fault.fault.line == 0);
        Err(match is_whole_file && self.file.is_none() {
            true => Failure::new(Exit::CannotStart, format!("{faults}; name one with --file")),
            false if is_whole_file => Failure::new(Exit::CannotStart, faults),
            false => Failure::new(Exit::Failed, faults),
        })
    }

    fn crontabs(&self) -> Result<Crontabs, Failure> {
        let host = rustix::system::uname().nodename().to_string_lossy().into_owned();
        let Some(file) = &self.file else { return self.configured(host) };
        let (files, system_files) =
            if self.system { (vec![], vec![file.clone()]) } else { (vec![file.clone()], vec![]) };
        Ok(Crontabs { files, system_files, host, ..Crontabs::default() })
    }

    fn configured(&self, host: String) -> Result<Crontabs, Failure> {
        let path = &self.config.config;
        let cron = if path.exists() { Config::load(path, std::env::vars_os())?.cron } else { None };
        let usual = || Crontabs { files: vec![PathBuf::from("CRONTAB")], host, ..Crontabs::default() };
        Ok(cron.map_or_else(usual, |cron| cron.crontabs))
    }
}

/// All that is wrong with crontabs, a line each.
fn faults(loaded: &Loaded) -> String {
    let missing = loaded.missing.iter().map(|path| format!("{}: is not there", path.display()));
    missing.chain(loaded.faults.iter().map(FileFault::to_string)).collect::<Vec<_>>().join("\n")
}

/// Says what could not be shown, beside what was.
fn tell(loaded: &Loaded) -> Exit {
    output::complain(&faults(loaded));
    if loaded.is_whole() { Exit::Done } else { Exit::Failed }
}

/// The entry `name`; a failure that says what else stands in the crontabs if it is not there.
fn find<'a>(loaded: &'a Loaded, name: &str) -> Result<&'a Arc<Entry>, Failure> {
    loaded.entries.iter().find(|entry| entry.name == name).ok_or_else(|| {
        let broken = if loaded.is_whole() { String::new() } else { format!("\n{}", faults(loaded)) };
        Failure::new(Exit::Failed, format!("no entry is called {name:?}; cerbas cron list shows all{broken}"))
    })
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
        let loaded = self.file.read(None)?;
        let entries = &loaded.entries;
        // Whether one is paused is said where that can be known.
        let records = if self.file.file.is_none() { Records::open(&self.file.place()).ok() } else { None };
        let paused = records.and_then(|records| records.paused().ok()).unwrap_or_default();
        let is_paused = |entry: &Entry| paused.contains(&entry.name);
        if self.json {
            let entries: Vec<_> = entries.iter().map(|entry| with_paused(facts(entry), is_paused(entry))).collect();
            output::print(&serde_json::to_string(&entries).expect("entries are JSON"))?;
            return Ok(tell(&loaded));
        }
        if entries.is_empty() {
            return output::print("no entries");
        }
        let mut table = Columns::new(&[">line", "name", "schedule", "zone", "what"]);
        for entry in entries {
            let (tone, disabled) = match (entry.policies.is_disabled, is_paused(entry)) {
                (true, _) => (Tone::Faint, " (disabled)"),
                (_, true) => (Tone::Faint, " (paused)"),
                _ => (Tone::Plain, ""),
            };
            table.row([
                plain(entry.line),
                cell(format!("{}{disabled}", entry.name), tone),
                cell(&entry.text, tone),
                cell(&entry.zone.name, tone),
                cell(what(entry), tone),
            ]);
        }
        output::print_lines(&table.lines())?;
        Ok(tell(&loaded))
    }
}

fn with_paused(mut facts: Object, is_paused: bool) -> Object {
    facts.insert("paused", is_paused);
    facts
}

/// What an entry does, in a line.
fn what(entry: &Entry) -> String {
    match &entry.action {
        Action::Request(request) => format!("| {}", request.to_json()),
        Action::Command(command) => match &command.user {
            Some(user) => format!("{user}: {}", command.line),
            None => command.line.clone(),
        },
    }
}

fn facts(entry: &Entry) -> Object {
    let mut facts = Object::new();
    facts.insert("name", &*entry.name);
    facts.insert("line", entry.line);
    facts.insert("schedule", &*entry.text);
    facts.insert("description", entry.schedule.describe());
    facts.insert("zone", &*entry.zone.name);
    facts.insert("disabled", entry.policies.is_disabled);
    match &entry.action {
        Action::Request(request) => facts.insert("request", request.clone()),
        Action::Command(command) => {
            facts.insert("command", &*command.line);
            facts.insert("stdin", &*command.stdin);
            facts.insert("user", command.user.clone());
            facts.insert("environment", serde_json::to_value(&command.environment).unwrap_or_default());
        }
    }
    facts
}
