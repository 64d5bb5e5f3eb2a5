//! `cerbas cron run`: runs an entry now.

use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

use jiff::Timestamp;

use super::history::say;
use super::records::Records;
use super::{File, find};
use crate::broker::Inspect;
use crate::cli::exit::{Exit, Failure};
use crate::cli::{Place, output};
use crate::config::Config;
use crate::cron::Entry;
use crate::inspect::sentences::became;
use crate::inspect::{Remote, shapes};
use crate::protocol::{Node, Run as Record, RunOutcome};
use crate::scheduler::by_hand;
use crate::scheduler::records::{self, NewRun};
use crate::server::Server;

#[derive(clap::Args)]
pub(super) struct Run {
    /// The entry
    name: String,
    /// The daemon that is to run it, by its name or id [default: any that has a crontab]
    #[arg(long)]
    node: Option<String>,
    /// Do not wait for its end
    #[arg(long)]
    no_wait: bool,
    /// Print a JSON object
    #[arg(long)]
    json: bool,
    #[command(flatten)]
    place: Place,
}

/// What the `node` of a run begins with that no daemon has run.
const BY_HAND: &str = "hand.";

/// How often it is looked whether it has ended.
const LOOK: Duration = Duration::from_millis(50);

impl Run {
    pub(super) fn run(self) -> Result<Exit, Failure> {
        let loaded = File::of(&self.place).read(None)?;
        let entry = find(&loaded, &self.name)?;
        let record = match self.place.state_dir()? {
            // A daemon that has the crontab is told to, so that it counts among its runs.
            Some(folder) if !has_crontab(&folder)? => run_here(entry, &self.place.load()?, &folder)?,
            _ => self.run_there(entry)?,
        };
        if self.json {
            output::print(&shapes::run(&record).to_string())?;
        } else if record.outcome == RunOutcome::Waiting {
            let id = record.occurrence.id();
            output::print(&format!(
                "{}: was sent to {}; cerbas why {id} tells what becomes of it",
                self.name, record.node
            ))?;
        } else {
            output::print_lines(&say(&self.name, &record))?;
        }
        Ok(match record.outcome {
            RunOutcome::Waiting => Exit::Done,
            RunOutcome::Ran => record.verdict.map_or(Exit::Failed, Exit::of),
            _ => Exit::Failed,
        })
    }

    /// At a daemon.
    fn run_there(&self, entry: &Entry) -> Result<Record, Failure> {
        let mut operator = self.place.operator()?;
        let node = self.find_node(&mut *operator)?;
        let new = new_run(entry, &node.node);
        new.begin_at(&mut *operator, &node.node)?;
        let waiting = output::Waiting::show(format!("{} runs at {}", entry.name, node.status.name));
        loop {
            let found = records::run(&*operator, &new.name, &new.instant)?;
            if let Some(record) = found.filter(|record| self.no_wait || record.outcome != RunOutcome::Waiting) {
                drop(waiting);
                return Ok(record);
            }
            std::thread::sleep(LOOK);
        }
    }

    fn find_node(&self, operator: &mut dyn Inspect) -> Result<Node, Failure> {
        let members = operator.members()?;
        let living = members.into_iter().filter_map(|member| member.record);
        let fits = |node: &Node| match &self.node {
            Some(wanted) => node.node == *wanted || node.status.name == *wanted,
            None => node.status.cron.is_some(),
        };
        living.filter(|node| fits(node)).max_by_key(|node| node.status.idle).ok_or_else(|| match &self.node {
            Some(wanted) => Failure::new(Exit::NoAnswer, format!("no daemon that lives is called {wanted:?}")),
            None => Failure::new(Exit::NoAnswer, "no daemon with a crontab lives; start one with cerbas run"),
        })
    }
}

/// Whether a daemon runs with the state folder `folder` and a crontab.
fn has_crontab(folder: &Path) -> Result<bool, Failure> {
    let Some(mut daemon) = Remote::find(folder)? else { return Ok(false) };
    let mut living = daemon.members()?.into_iter().filter_map(|member| member.record);
    Ok(living.any(|node| node.status.cron.is_some()))
}

/// In this process, as no daemon can be told to.
fn run_here(entry: &Arc<Entry>, config: &Config, folder: &Path) -> Result<Record, Failure> {
    let new = new_run(entry, &format!("{BY_HAND}{}", std::process::id()));
    let record = Server::new(config.clone()).run_once(entry, &new)?;
    let kept = Records::of_folder(folder.to_owned()).and_then(|records| records.keep(&record));
    kept.map_err(|failure| Failure { message: format!("{}; it was {}", failure.message, became(&record)), ..failure })?;
    Ok(record)
}

fn new_run(entry: &Entry, node: &str) -> NewRun {
    let host = rustix::system::uname();
    by_hand(entry, u64::from(std::process::id()), Timestamp::now(), node, &host.nodename().to_string_lossy())
}
