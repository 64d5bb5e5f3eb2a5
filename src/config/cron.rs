//! Reads `[cron]`.

use std::path::PathBuf;

use super::section::Section;
use super::value::Value;
use super::{CronConfig, Fault, Place, Position};
use crate::cron::{Crontabs, FileFault};

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
    section.set("history", &mut config.history, |value| value.number(1..=10_000));
    section.set("sendmail", &mut config.sendmail, Value::path);
    *host = rustix::system::uname().nodename().to_string_lossy().into_owned();
    config
}

/// A fault of a crontab among those of the configuration.
pub(super) fn fault(found: FileFault) -> Fault {
    let FileFault { path, fault } = found;
    let position = (fault.line > 0).then_some(Position { line: fault.line, column: fault.column });
    Fault { place: Place::File(path), position, message: fault.reason }
}
