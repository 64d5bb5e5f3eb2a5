//! `cerbas why`: what became of a request, or what it waits for.

use super::columns::{Line, Tone};
use super::exit::{Exit, Failure};
use super::jobs::parse_id;
use super::{Place, output};
use crate::broker::Fate;
use crate::clock;
use crate::inspect::{sentences, shapes};
use crate::protocol::CRON_ID;

#[derive(clap::Args)]
pub(super) struct Why {
    /// The id of the request; or an entry of a crontab and one of its instants, as backup@2026-11-20T02:00
    id: String,
    /// Print a JSON object
    #[arg(long)]
    json: bool,
    #[command(flatten)]
    place: Place,
}

impl Why {
    pub(super) fn run(self) -> Result<Exit, Failure> {
        if let Some((name, instant)) = self.id.split_once('@') {
            return super::cron::why(name, instant, &self.place, self.json);
        }
        let id = parse_id(&self.id)?;
        let fate = self.place.operator()?.fate(&id)?;
        // What has ended of cron is on record with its entry.
        let of_cron = self.id.strip_prefix(CRON_ID).and_then(|rest| rest.split_once(':'));
        if let (Fate::Unknown, Some((name, instant))) = (&fate, of_cron) {
            return super::cron::why(name, instant, &self.place, self.json);
        }
        let sentence = format!("{id}: {}", sentences::fate(&fate, clock::now()));
        let is_known = !matches!(fate, Fate::Unknown);
        if self.json {
            let mut value = shapes::fate(&fate);
            value.insert("id", id.to_string());
            value.insert("message", sentence);
            output::print(&value.to_json())?;
        } else {
            output::print_lines(&[Line::of(sentence, Tone::Plain)])?;
        }
        Ok(if is_known { Exit::Done } else { Exit::Failed })
    }
}
