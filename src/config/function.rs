//! Reads `[functions.NAME]`: the terms, and one body with the keys that belong to it.

use std::collections::BTreeMap;
use std::ops::RangeInclusive;
use std::path::{Path, PathBuf};
use std::time::Duration;

use ureq::http::{HeaderName, HeaderValue, Uri};

use super::defaults::WORKER_PROCESSES;
use super::faults::Position;
use super::ranges::{INSTANT, MESSAGE_SIZE, PLACES, SECOND};
use super::section::Section;
use super::value::{Fit, Value};
use crate::functions::{BuiltinFunction, Delivery, Retries, Terms};
use crate::gateway::RESERVED;
use crate::protocol::OnDuplicate;

/// `[functions.NAME]`: what can be called. Two are equal if they do the same, wherever they stand.
#[derive(Debug, Clone)]
pub struct FunctionConfig {
    /// Where its name is in the file. Default: not in a file.
    pub position: Option<Position>,
    /// What holds for it, whatever its body. Defaults: those of [`Terms`], or of the builtin.
    ///
    /// The keys are `params`, `timeout`, `cache`, `safe`, `async`, `concurrency`, `rate`, `delivery`,
    /// `cluster_concurrency`, `unique`, `unique_for`, `retries`, `backoff`,
    /// `max_backoff`, `retry_for`, `sources` and `users`.
    pub terms: Terms,
    /// How it does its work.
    pub body: BodyConfig,
}

/// A line more above a function is no reason to build it anew at a reload.
impl PartialEq for FunctionConfig {
    fn eq(&self, other: &Self) -> bool {
        self.terms == other.terms && self.body == other.body
    }
}

impl Eq for FunctionConfig {}

/// How a function does its work: exactly one of `builtin`, `command`, `worker` and `http`.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum BodyConfig {
    /// `builtin = "hello"`: a function that is part of cerbas.
    Builtin(BuiltinFunction),
    /// `command = ["date", "-u"]`: a process for each call.
    Command(CommandConfig),
    /// `worker = ["python3", "resize.py"]`: processes that stay.
    Worker(WorkerConfig),
    /// `http = "http://127.0.0.1:5000/resize"`: a POST for each call.
    Http(HttpConfig),
}

/// What a function needs that starts a process for each call.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct CommandConfig {
    /// The program and its arguments; a program with a `/` in it starts from `cwd`.
    pub argv: Vec<String>,
    /// In what surroundings it runs.
    pub process: ProcessConfig,
    /// The most that it may print, in bytes. Default: `max_output` of `[server]`.
    pub max_output: usize,
}

/// What a function needs whose processes stay.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct WorkerConfig {
    /// The program and its arguments; a program with a `/` in it starts from `cwd`.
    pub argv: Vec<String>,
    /// How many of them run, each with one call at a time, 1 to 256. Default: `1`.
    pub processes: usize,
    /// In what surroundings they run.
    pub process: ProcessConfig,
    /// The longest answer in bytes. Default: `max_output` of `[server]`.
    pub max_output: usize,
}

/// What a function needs that asks another server.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct HttpConfig {
    /// Where to send the request, `http://` or `https://`.
    pub url: String,
    /// Headers to send with it. Default: none.
    pub headers: BTreeMap<String, String>,
    /// The longest answer in bytes. Default: `max_output` of `[server]`.
    pub max_output: usize,
}

/// In what surroundings a process runs.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ProcessConfig {
    /// The folder that it runs in. Default: the folder of the configuration file.
    pub cwd: PathBuf,
    /// The user that it runs as. Default: the one that cerbas runs as.
    pub user: Option<String>,
    /// How far it steps back behind other processes, -20 (not at all) to 19. Default: as cerbas itself.
    pub nice: Option<i32>,
    /// Variables that it gets besides the usual ones. Default: none.
    pub env: BTreeMap<String, String>,
    /// What it may use. Default: what cerbas itself may.
    pub limits: LimitsConfig,
}

/// What one process may use. Default of each: what cerbas itself may.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct LimitsConfig {
    /// Its address space, in bytes.
    pub memory: Option<u64>,
    /// The time that it may compute, in whole seconds.
    pub cpu: Option<Duration>,
    /// How many files it may have open.
    pub open_files: Option<u64>,
    /// How many processes its user may have.
    pub processes: Option<u64>,
    /// The longest file that it may write, in bytes; 0: none.
    pub file_size: Option<u64>,
}

const BODIES: [&str; 4] = ["builtin", "command", "worker", "http"];

/// The keys that belong to some bodies only, and to which.
const BELONGS: [(&str, &[&str]); 8] = [
    ("cwd", &["command", "worker"]),
    ("user", &["command", "worker"]),
    ("nice", &["command", "worker"]),
    ("env", &["command", "worker"]),
    ("limits", &["command", "worker"]),
    ("max_output", &["command", "worker", "http"]),
    ("processes", &["worker"]),
    ("headers", &["http"]),
];

/// Names that the paths of the HTTP interface begin with.
const DELIVERIES: [(&str, Delivery); 2] =
    [("at-least-once", Delivery::AtLeastOnce), ("at-most-once", Delivery::AtMostOnce)];

const DUPLICATES: [(&str, OnDuplicate); 2] = [("reject", OnDuplicate::Reject), ("replace", OnDuplicate::Replace)];

const MAX_NAME_LENGTH: usize = 128;

/// The function `name`, unless something is wrong with it; `max_output` is what it may give back if it says nothing.
pub(super) fn read(name: &str, section: &mut Section<'_>, max_output: usize) -> Option<FunctionConfig> {
    if let Some(why) = wrong_name(name) {
        section.fault(&why);
    }
    let body = kind(section).and_then(|kind| match kind {
        "builtin" => builtin(section).map(BodyConfig::Builtin),
        "command" => command(section, max_output).map(BodyConfig::Command),
        "worker" => worker(section, max_output).map(BodyConfig::Worker),
        _ => http(section, max_output).map(BodyConfig::Http),
    });
    let mut terms = match &body {
        Some(BodyConfig::Builtin(function)) => function.terms(),
        _ => Terms::default(),
    };
    read_terms(section, &mut terms);
    Some(FunctionConfig { position: Some(section.position()), terms, body: body? })
}

pub(super) fn wrong_name(name: &str) -> Option<String> {
    if RESERVED.contains(&name) {
        return Some(format!("cannot be the name of a function, as {} are taken", RESERVED.join(", ")));
    }
    let fits = !name.is_empty()
        && name.chars().count() <= MAX_NAME_LENGTH
        && !name.chars().any(|character| character.is_control() || character == '/');
    (!fits).then(|| {
        format!(
            "cannot be the name of a function: expected 1 to {MAX_NAME_LENGTH} characters, no / or control characters"
        )
    })
}

/// Which body the section has; keys that do not belong to it are refused.
fn kind(section: &mut Section<'_>) -> Option<&'static str> {
    let given: Vec<&str> = BODIES.into_iter().filter(|&body| section.level(body).is_some()).collect();
    let &[kind] = given.as_slice() else {
        section.fault(&match given.as_slice() {
            [] => format!("has nothing to run, give one of {}", BODIES.join(", ")),
            several => format!("has {}, give only one", several.join(" and ")),
        });
        section.ignore(BELONGS.iter().map(|(key, _)| *key));
        return None;
    };
    for (key, bodies) in BELONGS {
        if !bodies.contains(&kind) {
            section.refuse(key, &format!("belongs to {}, not to {kind}", bodies.join(" or ")));
        }
    }
    Some(kind)
}

fn read_terms(section: &mut Section<'_>, terms: &mut Terms) {
    section.set("params", &mut terms.params, Value::list);
    section.set("timeout", &mut terms.timeout, |value| value.duration(INSTANT));
    section.set_some("cache", &mut terms.cache, |value| value.duration(INSTANT));
    section.set_some("safe", &mut terms.safe, Value::switch);
    section.set("async", &mut terms.is_async, Value::switch);
    section.set_some("concurrency", &mut terms.concurrency, |value| value.number(PLACES));
    section.set_some("rate", &mut terms.rate, Value::rate);
    section.set("delivery", &mut terms.delivery, |value| value.choice(&DELIVERIES));
    section.set_some("cluster_concurrency", &mut terms.cluster_concurrency, |value| value.number(PLACES));
    section.set_some("unique", &mut terms.unique, |value| value.choice(&DUPLICATES));
    section.set("unique_for", &mut terms.unique_for, |value| value.duration(SECOND));
    section.set("retries", &mut terms.retries.count, |value| value.number(0..=i64::from(Retries::MOST)));
    section.set("backoff", &mut terms.retries.backoff, |value| value.duration(INSTANT));
    section.set("max_backoff", &mut terms.retries.max_backoff, |value| value.duration(INSTANT));
    section.set("retry_for", &mut terms.retries.retry_for, |value| value.duration(INSTANT));
    section.set_some("sources", &mut terms.sources, Value::set);
    section.set_some("users", &mut terms.users, Value::set);
    if terms.delivery == Delivery::AtMostOnce && terms.retries.count > 0 {
        section.key_fault("retries", "contradicts delivery = \"at-most-once\", which never runs a call again");
    }
}

fn builtin(section: &mut Section<'_>) -> Option<BuiltinFunction> {
    let names = BuiltinFunction::ALL.map(|function| (format!("{function:?}").to_lowercase(), function));
    section.get("builtin", |value| value.choice(&names))
}

fn command(section: &mut Section<'_>, max_output: usize) -> Option<CommandConfig> {
    let process = process(section);
    let max_output = read_max_output(section, max_output);
    let argv = section.get("command", |value| argv(value, &process.cwd))?;
    Some(CommandConfig { argv, process, max_output })
}

fn worker(section: &mut Section<'_>, max_output: usize) -> Option<WorkerConfig> {
    let process = process(section);
    let max_output = read_max_output(section, max_output);
    let mut processes = WORKER_PROCESSES;
    section.set("processes", &mut processes, |value| value.number(1..=256));
    let argv = section.get("worker", |value| argv(value, &process.cwd))?;
    Some(WorkerConfig { argv, processes, process, max_output })
}

fn http(section: &mut Section<'_>, max_output: usize) -> Option<HttpConfig> {
    let mut headers = BTreeMap::new();
    section.set("headers", &mut headers, |value| http_headers(value.texts()?));
    let max_output = read_max_output(section, max_output);
    let url = section.get("http", |value| http_url(value.text()?))?;
    Some(HttpConfig { url, headers, max_output })
}

fn read_max_output(section: &mut Section<'_>, default: usize) -> usize {
    section.get("max_output", |value| value.size(MESSAGE_SIZE)).unwrap_or(default)
}

fn process(section: &mut Section<'_>) -> ProcessConfig {
    let mut process = ProcessConfig {
        cwd: section.folder().to_owned(),
        user: None,
        nice: None,
        env: BTreeMap::new(),
        limits: LimitsConfig::default(),
    };
    section.set("cwd", &mut process.cwd, Value::path);
    section.set_some("user", &mut process.user, Value::text);
    section.set_some("nice", &mut process.nice, |value| value.number(-20..=19));
    section.set("env", &mut process.env, |value| variables(value.texts()?));
    section.table("limits", |section| limits(section, &mut process.limits));
    process
}

fn limits(section: &mut Section<'_>, limits: &mut LimitsConfig) {
    const SOME: RangeInclusive<u64> = 1..=i64::MAX as u64;
    section.set_some("memory", &mut limits.memory, |value| value.size(SOME));
    section.set_some("cpu", &mut limits.cpu, |value| whole_seconds(value.duration(Duration::from_secs(1))?));
    section.set_some("open_files", &mut limits.open_files, |value| value.number(1..=i64::MAX));
    section.set_some("processes", &mut limits.processes, |value| value.number(1..=i64::MAX));
    section.set_some("file_size", &mut limits.file_size, |value| value.size(0..=i64::MAX as u64));
}

fn whole_seconds(duration: Duration) -> Fit<Duration> {
    if duration.subsec_nanos() == 0 {
        return Ok(duration);
    }
    Err(format!("expected whole seconds, found {}", humantime::format_duration(duration)).into())
}

/// A program and its arguments. A program with a `/` in it starts from `cwd`, where the process will be.
fn argv(value: &Value<'_>, cwd: &Path) -> Fit<Vec<String>> {
    let expected = "expected a program and its arguments, as in [\"date\", \"-u\"]";
    let mut argv = value.arguments(expected)?;
    let program = argv.first_mut().filter(|program| !program.is_empty()).ok_or_else(|| expected.to_owned())?;
    if program.contains('/') {
        // Both are UTF-8 unless the folder is not; such a one stays as it is.
        if let Some(path) =
            std::path::absolute(cwd.join(&*program)).ok().and_then(|path| path.into_os_string().into_string().ok())
        {
            *program = path;
        }
    }
    Ok(argv)
}

fn variables(variables: BTreeMap<String, String>) -> Fit<BTreeMap<String, String>> {
    match variables.keys().find(|name| name.is_empty() || name.contains(['=', '\0'])) {
        Some(name) => Err(format!("{name:?} cannot be the name of a variable").into()),
        None => Ok(variables),
    }
}

/// The values are not repeated in the message: they may be secrets.
pub(super) fn http_headers(headers: BTreeMap<String, String>) -> Fit<BTreeMap<String, String>> {
    for (name, value) in &headers {
        if HeaderName::from_bytes(name.as_bytes()).is_err() {
            return Err(format!("{name:?} cannot be the name of a header").into());
        }
        if HeaderValue::from_str(value).is_err() {
            return Err(format!("the value of {name} cannot be sent in a header").into());
        }
    }
    Ok(headers)
}

/// The text is not repeated in the message: it may have a password in it.
fn http_url(url: String) -> Fit<String> {
    let is_http = |uri: &Uri| matches!(uri.scheme_str(), Some("http" | "https")) && uri.host().is_some();
    if url.parse::<Uri>().is_ok_and(|uri| is_http(&uri)) {
        return Ok(url);
    }
    Err("expected a URL such as http://127.0.0.1:5000/path".to_owned().into())
}
