//! `cerbas cron pause` and `resume`.

use serde_json::json;

use super::records::Records;
use super::{File, find};
use crate::cli::exit::{Exit, Failure};
use crate::cli::{Place, output};

#[derive(clap::Args)]
pub(super) struct Pause {
    /// The entry
    name: String,
    /// Print a JSON object
    #[arg(long)]
    json: bool,
    #[command(flatten)]
    place: Place,
}

impl Pause {
    /// Pauses the entry, or lets it go on.
    pub(super) fn run(self, is_paused: bool) -> Result<Exit, Failure> {
        let name = &self.name;
        // A name that is mistyped would be paused for ever. Where another daemon has the crontab it is known from there.
        let is_read = File::of(&self.place).read(None).is_ok_and(|loaded| find(&loaded, name).is_ok());
        let records = Records::open(&self.place)?;
        if is_paused && !is_read && records.known_since(name)?.is_none() && records.of(name)?.is_empty() {
            return Err(Failure::new(Exit::Failed, format!("no entry is called {name:?}; cerbas cron list shows all")));
        }
        let has_changed = records.pause(name, is_paused)?;
        if self.json {
            return output::print(
                &json!({"name": name, "is_paused": is_paused, "has_changed": has_changed}).to_string(),
            );
        }
        let state = if is_paused { "paused" } else { "not paused" };
        output::print(&match has_changed {
            true => format!("{name}: is {state} from now on"),
            false => format!("{name}: was {state} already"),
        })
    }
}
