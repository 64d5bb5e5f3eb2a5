//! `cerbas call`, `send` and `halt`.

use std::time::Duration;

use serde_json::json;

use super::Place;
use super::exit::{Exit, Failure};
use super::output::{self, Waiting};
use crate::client::{Client, DEFAULT_PATIENCE};
use crate::protocol::codec::answer_to_msgpack;
use crate::protocol::{Answer, Json, Object, Status, Verdict};

/// What a request says of itself.
#[derive(clap::Args)]
struct Asker {
    /// Who asks
    #[arg(long)]
    user: Option<String>,
    /// The program that asks
    #[arg(long, default_value = "cli")]
    source: String,
    /// Let the function start only after this time, as "500ms" or "1h"
    #[arg(long, value_name = "TIME", value_parser = humantime::parse_duration)]
    delay: Option<Duration>,
    /// Send into this queue, as [queues.NAME] calls it
    #[arg(long, value_name = "NAME")]
    queue: Option<String>,
    /// Run it on the daemon with this name or id; "*": on all of them
    #[arg(long, value_name = "NAME")]
    node: Option<String>,
    /// Retry a failed call up to COUNT times [default: as its function says]
    #[arg(long, value_name = "COUNT")]
    retries: Option<u32>,
    /// Reject this call while another call of the function with the same key waits or runs
    #[arg(long, value_name = "KEY")]
    unique: Option<String>,
    /// Cancel the other call instead, and run this one
    #[arg(long, requires = "unique")]
    replace: bool,
}

/// What is called.
#[derive(clap::Args)]
struct Target {
    /// The function
    function: String,
    /// Its arguments, as a JSON object
    #[arg(value_name = "JSON", default_value = "{}")]
    args: String,
}

impl Target {
    fn args(&self) -> Result<Object, Failure> {
        let hint = "expected a JSON object such as '{\"a\": 1}'";
        match Json::read(&self.args) {
            Ok(args) if args.is_object() => Ok(args.to().expect("it is an object")),
            Ok(_) => Err(Failure::new(Exit::Usage, format!("arguments: {hint}, found {}", self.args))),
            Err(error) => Err(Failure::new(Exit::Usage, format!("arguments: {hint}: {error}"))),
        }
    }
}

impl Asker {
    fn client(self, place: &Place) -> Result<Client, Failure> {
        let mut client = place.connect()?.source(self.source);
        if let Some(user) = self.user {
            client = client.user(user);
        }
        if let Some(delay) = self.delay {
            client = client.delay(delay);
        }
        if let Some(queue) = self.queue {
            client = client.queue(queue);
        }
        if let Some(node) = self.node {
            client = client.node(node);
        }
        if let Some(count) = self.retries {
            client = client.retries(count);
        }
        if let Some(key) = self.unique {
            client = client.unique(key, self.replace);
        }
        Ok(client)
    }
}

#[derive(clap::Args)]
pub(super) struct Call {
    #[command(flatten)]
    target: Target,
    #[command(flatten)]
    asker: Asker,
    /// How long the function may run, and how long to wait for it [default: the function's own limit, and 10s]
    #[arg(long, value_name = "TIME", value_parser = humantime::parse_duration)]
    timeout: Option<Duration>,
    /// Print the whole answer as JSON, not only its data
    #[arg(long)]
    json: bool,
    /// Print the whole answer as MessagePack, as cerbas publishes it
    #[arg(long, conflicts_with = "json")]
    msgpack: bool,
    #[command(flatten)]
    place: Place,
}

/// So much longer than the function may run is its answer waited for.
const GRACE: Duration = Duration::from_secs(1);

impl Call {
    pub(super) fn run(self) -> Result<Exit, Failure> {
        let args = self.target.args()?;
        let function = self.target.function;
        let mut client = self.asker.client(&self.place)?;
        client = match self.timeout {
            Some(timeout) => client.time_limit(timeout).patience(timeout + GRACE),
            None => client.patience(DEFAULT_PATIENCE),
        };
        let waiting = Waiting::show(format!("waiting for {function}"));
        let answer = client.ask(&function, args);
        drop(waiting);
        let answer = answer?;
        let exit = Exit::of(answer.verdict());
        if self.msgpack {
            output::print_bytes(&answer_to_msgpack(&answer))?;
            return Ok(exit);
        }
        if self.json {
            output::print(&serde_json::to_string(&answer).expect("an answer is JSON"))?;
            return Ok(exit);
        }
        print_data(&function, &answer, exit)
    }
}

/// The value to standard output, or the error to standard error.
fn print_data(function: &str, answer: &Answer, exit: Exit) -> Result<Exit, Failure> {
    let text = answer.message();
    match answer.status {
        Status::Ok => output::print(&text),
        Status::Error => Err(Failure::new(exit, format!("{function}: {text}"))),
    }
}

#[derive(clap::Args)]
pub(super) struct Send {
    #[command(flatten)]
    target: Target,
    #[command(flatten)]
    asker: Asker,
    /// Print a JSON object with the id, not only the id
    #[arg(long)]
    json: bool,
    #[command(flatten)]
    place: Place,
}

impl Send {
    pub(super) fn run(self) -> Result<Exit, Failure> {
        let args = self.target.args()?;
        let id = self.asker.client(&self.place)?.send(&self.target.function, args)?.to_string();
        output::print(&if self.json { json!({ "id": id }).to_string() } else { id })
    }
}

#[derive(clap::Args)]
pub(super) struct Halt {
    /// Stop only after this time
    #[arg(long, value_name = "TIME", value_parser = humantime::parse_duration)]
    delay: Option<Duration>,
    /// Who asks
    #[arg(long)]
    user: Option<String>,
    /// The program that asks
    #[arg(long, default_value = "cli")]
    source: String,
    /// Print the whole answer as JSON
    #[arg(long)]
    json: bool,
    #[command(flatten)]
    place: Place,
}

impl Halt {
    pub(super) fn run(self) -> Result<Exit, Failure> {
        let mut client = self.place.connect()?.source(self.source);
        if let Some(user) = self.user {
            client = client.user(user);
        }
        let waiting = Waiting::show("waiting for the daemon".to_owned());
        let args = self.delay.map_or(json!({}), |delay| json!({"delay": delay.as_millis() as u64}));
        let answer = client.ask("halt", args);
        drop(waiting);
        let answer = answer?;
        let exit = Exit::of(answer.verdict());
        if self.json {
            output::print(&serde_json::to_string(&answer).expect("an answer is JSON"))?;
            return Ok(exit);
        }
        if answer.verdict() == Verdict::Ok {
            output::print("halting")?;
            return Ok(exit);
        }
        print_data("halt", &answer, exit)
    }
}
