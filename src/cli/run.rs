//! `cerbas run`.

use std::io::{self, Write};

use env_logger::Env;
use env_logger::fmt::Formatter;
use log::Record;
use log::kv::{Error, Key, Value as Field, VisitSource};
use serde_json::{Map, Value};

use super::exit::{Exit, Failure};
use super::{ConfigPath, output};
use crate::server::Server;

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
        let ended = Server::from_file(path)?.run()?;
        if !ended.is_clean() {
            output::complain("something had to be abandoned, see the log above");
            return Ok(Exit::Failed);
        }
        Ok(Exit::Done)
    }
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
