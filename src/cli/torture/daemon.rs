//! The daemon that is tortured, and the worker process that it starts: hidden commands of this program.

use std::fs::{File, OpenOptions};
use std::io::{self, BufRead, Read, Write};
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread;
use std::time::Duration;

use env_logger::Env;
use serde::Deserialize;
use serde_json::{Value, json};

use super::settings::{LONG, SHORT};
use crate::cli::exit::{Exit, Failure};
use crate::cli::{output, run};
use crate::functions::{Body, Call, Delivery, NativeError, Retries, Terms};
use crate::protocol::{Arguments, Json, Outcome};
use crate::server::Server;

/// One of the daemons that are tortured.
#[derive(clap::Args)]
pub(in crate::cli) struct Daemon {
    /// Its configuration
    config: PathBuf,
    /// The file that gets a line with the id of each run
    runs: PathBuf,
}

/// How long a function goes on that never ends. Its thread is lost for so long.
const STUCK: Duration = Duration::from_millis(1500);

/// How many of a hundred runs of the flaky function fail.
const FLAKINESS: u8 = 60;

impl Daemon {
    pub(in crate::cli) fn run(self) -> Result<Exit, Failure> {
        env_logger::Builder::from_env(Env::default().default_filter_or("info")).format_target(false).init();
        end_with_parent()?;
        let record = Record::open(&self.runs).map_err(|error| failed("the record of runs", error))?;
        run::serve(with_functions(Server::from_file(&self.config)?, &Arc::new(record)))
    }
}

/// Ends this process when the one that started it is gone: that holds the other end of standard input.
fn end_with_parent() -> Result<(), Failure> {
    let watch = || {
        let _end = io::stdin().lock().read_to_end(&mut Vec::new());
        std::process::exit(1);
    };
    thread::Builder::new().name("parent".to_owned()).spawn(watch).map_err(|error| failed("a thread", error))?;
    Ok(())
}

fn failed(what: &str, why: impl std::fmt::Display) -> Failure {
    Failure::new(Exit::CannotStart, format!("torture: {what}: {why}"))
}

/// A file with one line for each run. A line is written in one piece, so it outlives the death of its daemon.
struct Record(File);

impl Record {
    fn open(path: &Path) -> io::Result<Self> {
        OpenOptions::new().create(true).append(true).open(path).map(Record)
    }

    fn add(&self, id: &str) -> io::Result<()> {
        (&self.0).write_all(format!("{id}\n").as_bytes())
    }
}

#[derive(Deserialize)]
struct Args {
    #[serde(default)]
    ms: u64,
}

/// Registers the native functions. Each writes its run down before it does anything.
fn with_functions(server: Server, record: &Arc<Record>) -> Server {
    type Work = fn(&Call, Args) -> Result<Value, NativeError>;
    let long = Terms { timeout: LONG, ..Terms::default() };
    let retries = Retries {
        count: 20,
        backoff: Duration::from_millis(20),
        max_backoff: Duration::from_millis(200),
        ..Retries::default()
    };
    let functions: [(&str, Terms, Work); 9] = [
        ("quick", long.clone(), echo),
        ("slow", long.clone(), rest),
        ("fails", long.clone(), |_, _| Err("as it should".into())),
        ("panics", long.clone(), |_, _| panic!("as it should")),
        ("hangs", Terms { timeout: SHORT, ..long.clone() }, |call, _| {
            thread::sleep(STUCK);
            Ok(json!(call.id.to_string()))
        }),
        ("flaky", Terms { retries, ..long.clone() }, |call, _| {
            let chance = uuid::Uuid::new_v4().as_bytes()[0];
            if chance % 100 < FLAKINESS { Err("this time".into()) } else { Ok(json!(call.id.to_string())) }
        }),
        ("once", Terms { delivery: Delivery::AtMostOnce, ..long.clone() }, rest),
        ("limited", Terms { cluster_concurrency: Some(2), ..long.clone() }, rest),
        ("deadly", long, |_, _| std::process::abort()),
    ];
    let server = server.body("breaks", Terms::default(), Breaks::default());
    functions.into_iter().fold(server, |server, (name, terms, work)| {
        let record = Arc::clone(record);
        server.function_with(name, terms, move |call: &Call, args: Args| {
            record.add(&call.id.to_string())?;
            work(call, args)
        })
    })
}

/// A function that breaks the worker that has run it: the thread panics when it asks how many more calls may run.
#[derive(Default)]
struct Breaks {
    has_run: AtomicBool,
}

impl Body for Breaks {
    fn run(&self, _: &Call, _: Arguments) -> Outcome {
        self.has_run.store(true, Ordering::Release);
        Ok(Json::from("it breaks"))
    }

    fn kind(&self) -> &'static str {
        "native"
    }

    fn capacity(&self) -> Option<usize> {
        assert!(!self.has_run.load(Ordering::Acquire), "as it should");
        Some(1)
    }
}

fn echo(call: &Call, _: Args) -> Result<Value, NativeError> {
    Ok(json!(call.id.to_string()))
}

fn rest(call: &Call, args: Args) -> Result<Value, NativeError> {
    call.cancel.wait(Duration::from_millis(args.ms));
    Ok(json!(call.id.to_string()))
}

/// The worker process: it answers each call with its id, or ends.
#[derive(clap::Args)]
pub(in crate::cli) struct Worker {
    /// The file that gets a line with the id of each run
    runs: PathBuf,
}

#[derive(Deserialize)]
struct Line {
    id: String,
    func: String,
}

impl Worker {
    pub(in crate::cli) fn run(self) -> Result<Exit, Failure> {
        let record = Record::open(&self.runs).map_err(|error| failed("the record of runs", error))?;
        for line in io::stdin().lock().lines() {
            let line = line.map_err(|error| failed("standard input", error))?;
            let call: Line = serde_json::from_str(&line).map_err(|error| failed("a call", error))?;
            record.add(&call.id).map_err(|error| failed("the record of runs", error))?;
            if call.func == "worker-dies" {
                return Ok(Exit::Failed);
            }
            output::print(&json!({"id": call.id, "status": "ok", "data": call.id}).to_string())?;
        }
        Ok(Exit::Done)
    }
}
