//! `cerbas check` and `cerbas functions`.

use serde_json::{Value, json};

use super::exit::{Exit, Failure};
use super::{ConfigPath, output};
use crate::config::{self, Config};
use crate::functions::Function;
use crate::functions::House;

#[derive(clap::Args)]
pub(super) struct Check {
    #[command(flatten)]
    config: ConfigPath,
    /// Print the faults as a JSON array
    #[arg(long)]
    json: bool,
}

impl Check {
    pub(super) fn run(self) -> Result<Exit, Failure> {
        let path = &self.config.config;
        let checked = Config::load(path, std::env::vars_os()).and_then(|config| {
            config.check()?;
            Ok(config)
        });
        match checked {
            Ok(_) if self.json => output::print("[]"),
            Ok(config) => {
                let entries = config.cron.as_ref().map(|cron| cron.crontabs.read().entries.len());
                let entries = entries.map_or_else(String::new, |entries| format!(", {entries} cron entries"));
                output::print(&format!("{}: good, {} functions{entries}", path.display(), config.functions.len()))
            }
            Err(faults) if self.json => {
                let lines: Vec<String> = faults.to_string().lines().map(str::to_owned).collect();
                output::print(&json!(lines).to_string())?;
                Ok(Exit::Failed)
            }
            Err(faults) => {
                output::print(&faults.to_string())?;
                Ok(Exit::Failed)
            }
        }
    }
}

#[derive(clap::Args)]
pub(super) struct List {
    #[command(flatten)]
    config: ConfigPath,
    /// Print a JSON array
    #[arg(long)]
    json: bool,
}

impl List {
    pub(super) fn run(self) -> Result<Exit, Failure> {
        let config = Config::look(&self.config.config, std::env::vars_os())?;
        let functions = config.functions.iter().map(|(name, function)| {
            // Nothing is started: a worker starts its processes with its first call.
            config::build(name, function, House::empty())
        });
        let functions: Vec<Function> = functions.collect();
        if self.json {
            let rows: Vec<Value> = functions.iter().map(describe).collect();
            return output::print(&json!(rows).to_string());
        }
        if functions.is_empty() {
            return output::print("no functions are configured");
        }
        let width = functions.iter().map(|function| function.name.len()).max().unwrap_or(0).max("function".len());
        let mut table = format!("{:width$}  {:8}  {:>8}  {:>8}  arguments\n", "function", "body", "timeout", "cache");
        for function in &functions {
            let terms = &function.terms;
            let cache = terms.cache.map_or_else(|| "-".to_owned(), short);
            let line = format!(
                "{:width$}  {:8}  {:>8}  {cache:>8}  {}",
                function.name,
                function.body.kind(),
                short(terms.timeout),
                terms.params.join(" ")
            );
            table.push_str(line.trim_end());
            table.push('\n');
        }
        output::print_bytes(table.as_bytes())
    }
}

fn short(duration: std::time::Duration) -> String {
    humantime::format_duration(duration).to_string()
}

fn describe(function: &Function) -> Value {
    let terms = &function.terms;
    json!({
        "name": function.name,
        "body": function.body.kind(),
        "params": terms.params,
        "timeout_ms": terms.timeout.as_millis() as u64,
        "cache_ms": terms.cache.map(|cache| cache.as_millis() as u64),
        "safe": terms.is_safe(),
        "async": terms.is_async,
        "concurrency": function.concurrency(),
        "rate": terms.rate.map(|rate| rate.to_string()),
        "sources": terms.sources,
        "users": terms.users,
    })
}
