//! `cerbas run`.

use std::io::{self, Write};
use std::time::Duration;

use crossbeam_channel::{after, select};
use env_logger::Env;
use env_logger::fmt::Formatter;
use log::Record;
use log::kv::{Error, Key, Value as Field, VisitSource};
use serde_json::{Map, Value};

use super::exit::{Exit, Failure};
use super::{ConfigPath, output};
use crate::server::{Ended, Server};
use crate::signals::{self, Signalled};

#[derive(clap::Args)]
pub(super) struct Run {
    #[command(flatten)]
    config: ConfigPath,
    /// How the log is written: text for people, json for programs, one object a line
    #[arg(long, value_enum, default_value_t, env = "CERBAS_LOG_FORMAT")]
    log_format: LogFormat,
}

#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, clap::ValueEnum)]
enum LogFormat {
    #[default]
    Text,
    Json,
}

impl Run {
    pub(super) fn run(self) -> Result<Exit, Failure> {
        let mut logger = env_logger::Builder::from_env(Env::default().default_filter_or("info"));
        match self.log_format {
            LogFormat::Text => logger.format_target(false).init(),
            LogFormat::Json => logger.format(write_json).init(),
        }
        let path = &self.config.config;
        if !path.exists() {
            let hint = format!("{}: there is no such file; name one with --config FILE", path.display());
            return Err(Failure::new(Exit::CannotStart, hint));
        }
        serve(Server::from_file(path)?)
    }
}

/// A daemon with a broken thread that has not ended after this time does not end by itself any more.
const LONGEST_END: Duration = Duration::from_secs(30);

/// Runs `server` as this process: until a signal, `halt` or a broken thread ends it. A second signal ends the process at once.
pub(super) fn serve(server: Server) -> Result<Exit, Failure> {
    let cannot_listen = |error| Failure::new(Exit::CannotStart, format!("cannot listen to signals: {error}"));
    let signals = signals::listen().map_err(cannot_listen)?;
    let running = server.reap_orphans().let_be_asked().start()?;
    running.until_told(signals.received());
    running.handle().stop();
    loop {
        let is_broken = running.broken().is_some();
        let patience = if is_broken { after(LONGEST_END) } else { after(SECOND_LOOK) };
        select! {
            recv(running.end_of_it()) -> _ => return Ok(exit_of(&running.stop())),
            recv(signals.received()) -> signal => if let Ok(Signalled::Stop(_)) = signal {
                log::error!("a second signal: ending at once");
                std::process::exit(Exit::Failed as i32);
            },
            recv(patience) -> _ => if is_broken {
                log::error!("the broken daemon has not ended within {LONGEST_END:?}: ending at once");
                std::process::exit(Exit::Broken as i32);
            },
        }
    }
}

/// How often a daemon that ends is asked whether a thread of it has broken meanwhile.
const SECOND_LOOK: Duration = Duration::from_secs(1);

fn exit_of(ended: &Ended) -> Exit {
    if let Some(broken) = &ended.broken {
        output::complain(&format!("{broken}; what was in flight is taken over by other daemons"));
        return Exit::Broken;
    }
    if !ended.is_clean() {
        output::complain("something had to be abandoned, see the log above");
        return Exit::Failed;
    }
    Exit::Done
}

/// One line of the log as a JSON object: `at`, `level`, `message`, and the fields that the line has, such as `request_id`.
fn write_json(formatter: &mut Formatter, record: &Record<'_>) -> io::Result<()> {
    let mut object = Map::new();
    object.insert("at".to_owned(), jiff::Timestamp::now().to_string().into());
    object.insert("level".to_owned(), record.level().as_str().to_ascii_lowercase().into());
    // A field that cannot be shown is left out, not the line.
    let _as_far_as_it_goes = record.key_values().visit(&mut Fields(&mut object));
    object.insert("message".to_owned(), record.args().to_string().into());
    serde_json::to_writer(&mut *formatter, &object)?;
    formatter.write_all(b"\n")
}

struct Fields<'a>(&'a mut Map<String, Value>);

impl<'kvs> VisitSource<'kvs> for Fields<'_> {
    fn visit_pair(&mut self, key: Key<'kvs>, field: Field<'kvs>) -> Result<(), Error> {
        let value = match (field.to_u64(), field.to_f64()) {
            (Some(number), _) => Value::from(number),
            (None, Some(number)) => Value::from(number),
            (None, None) => Value::from(field.to_string()),
        };
        self.0.insert(key.to_string(), value);
        Ok(())
    }
}
