//! Reads `[cron]`.

use std::path::{Path, PathBuf};
use std::sync::Arc;

use super::section::Section;
use super::value::Value;
use super::{CronConfig, Fault, Place, Position};
use crate::cron::{Action, Crontabs, Entry, FileFault};
use crate::functions::{ProcessOptions, SendMail, check_program};

const FILE: &str = "CRONTAB";

const SENDMAIL: &str = "/usr/sbin/sendmail";

const HISTORY: usize = 100;

/// What holds for all entries: the keys, each with the policy that it sets.
const POLICIES: [(&str, &str); 7] = [
    ("timezone", "tz"),
    ("overlap", "overlap"),
    ("timeout", "timeout"),
    ("catchup", "catchup"),
    ("jitter", "jitter"),
    ("on_failure", "on_failure"),
    ("expires", "expires"),
];

pub(super) fn read(section: &mut Section<'_>) -> CronConfig {
    let mut config = CronConfig { crontabs: Crontabs::default(), history: HISTORY, sendmail: PathBuf::from(SENDMAIL) };
    let Crontabs { files, system_files, defaults, host } = &mut config.crontabs;
    section.set("files", files, Value::paths);
    section.set("system_files", system_files, Value::paths);
    match section.get("file", Value::path) {
        Some(file) => files.insert(0, file),
        None if files.is_empty() && system_files.is_empty() => files.push(section.folder().join(FILE)),
        None => {}
    }
    for (key, policy) in POLICIES {
        section.get(key, |value| Ok(defaults.set(policy, &value.text()?)?));
    }
    section.set_some("retries", &mut defaults.retries, |value| value.number(0..=1000));
    section.set("history", &mut config.history, |value| value.number(super::ranges::HISTORY));
    section.set("sendmail", &mut config.sendmail, Value::path);
    *host = rustix::system::uname().nodename().to_string_lossy().into_owned();
    config
}

/// What is wrong with the crontabs, and with what they need on this machine.
pub(super) fn check(config: &CronConfig) -> Vec<Fault> {
    let loaded = config.crontabs.read();
    let missing = |path| Fault { place: Place::File(path), position: None, message: "is not there".to_owned() };
    let mut found: Vec<Fault> = loaded.missing.into_iter().map(missing).collect();
    found.extend(loaded.faults.into_iter().map(fault));
    found.extend(loaded.entries.iter().flat_map(|entry| check_entry(entry)));
    found.extend(unmailed(&loaded.entries, &config.sendmail).map(|(entry, message)| Fault {
        place: Place::File(entry.file.to_path_buf()),
        position: Some(Position { line: entry.line, column: 1 }),
        message,
    }));
    found
}

/// The first entry that wants mail where none can be sent, and why.
pub(crate) fn unmailed<'a>(entries: &'a [Arc<Entry>], sendmail: &Path) -> Option<(&'a Entry, String)> {
    let mut wanting = entries.iter().filter(|entry| match &entry.action {
        Action::Command(command) => command.environment.get("MAILTO").is_some_and(|to| !to.is_empty()),
        Action::Request(_) => false,
    });
    let first = wanting.next()?;
    let fault = SendMail { program: sendmail.to_owned() }.fault()?;
    let count = 1 + wanting.count();
    Some((first, format!("MAILTO is set for {count} entries, and their mail cannot be sent: {fault}")))
}

fn check_entry(entry: &Entry) -> Vec<Fault> {
    let Action::Command(command) = &entry.action else { return Vec::new() };
    let shell = command.environment.get("SHELL").filter(|shell| !shell.is_empty());
    let argv = [shell.cloned().unwrap_or_else(|| "/bin/sh".to_owned())];
    let options = ProcessOptions { user: command.user.clone(), is_job: true, ..ProcessOptions::default() };
    let place = || Place::File(entry.file.to_path_buf());
    let position = Some(Position { line: entry.line, column: 1 });
    check_program(&argv, &options).into_iter().map(|message| Fault { place: place(), position, message }).collect()
}

/// A fault of a crontab among those of the configuration.
fn fault(found: FileFault) -> Fault {
    let FileFault { path, fault } = found;
    let position = (fault.line > 0).then_some(Position { line: fault.line, column: fault.column });
    Fault { place: Place::File(path), position, message: fault.reason }
}
