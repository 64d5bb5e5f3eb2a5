//! `cerbas cron import`: what crontabs of another cron would do here.

use std::path::{Path, PathBuf};

use serde_json::json;

use super::spool::{self, UserFile};
use super::what;
use crate::accounts;
use crate::cli::columns::{Line, Tone};
use crate::cli::exit::{Exit, Failure};
use crate::cli::output;
use crate::cron::{Action, Crontabs, Entry};
use crate::protocol::{Json, Object};

#[derive(clap::Args)]
pub(super) struct Import {
    /// Crontabs, and folders with crontabs; those in /etc have the user behind the schedule
    #[arg(required = true)]
    paths: Vec<PathBuf>,
    /// All of them have the user behind the schedule
    #[arg(long)]
    system: bool,
    /// Print a JSON array
    #[arg(long)]
    json: bool,
}

/// What is different here for every entry.
const FOR_ALL: [&str; 6] = [
    "an entry does not start while its last run goes on; cron lets both run: overlap=parallel does so here",
    "a command that runs for 24 hours is ended, with all it started; cron lets it run: timeout=30d is longer",
    "what a command prints is kept, its last 2 KiB in the history and 64 KiB in mail; mail goes only where MAILTO is set",
    "what a sleep or a clock set forward leaves out runs as with cron, if that is less than three hours (catchup=cron), one after the other; catchup=once or \
     all makes up for more, also for a machine that was off",
    "a restart of cerbas ends commands that run longer than shutdown_timeout; those of cron outlive it: their units have KillMode=process",
    "PAM and /etc/security/limits.conf are not asked",
];

impl Import {
    pub(super) fn run(self) -> Result<Exit, Failure> {
        let (mut faults, mut missing) = (Vec::new(), Vec::new());
        let (mut found, mut of_users) = (Vec::new(), Vec::new());
        for path in &self.paths {
            let has_users = self.has_users(path);
            for file in files(path) {
                let mut loaded = match UserFile::of(&file).filter(|_| !has_users) {
                    Some(of_user) => {
                        let mut loaded = crontabs(&file, false).look();
                        of_user.name_user(&mut loaded.entries);
                        of_users.push(of_user);
                        loaded
                    }
                    None => crontabs(&file, has_users).read(),
                };
                found.append(&mut loaded.entries);
                faults.append(&mut loaded.faults);
                missing.append(&mut loaded.missing);
            }
        }
        let passed_over: Vec<PathBuf> = self.paths.iter().flat_map(|path| passed_over(path)).collect();
        if self.json {
            let entries = found.iter().map(|entry| facts(entry).into());
            let broken = faults
                .iter()
                .map(|fault| json!({"file": fault.path, "line": fault.fault.line, "fault": fault.fault.reason}).into());
            let missing = missing.iter().map(|path| json!({"file": path, "line": 0, "fault": "is not there"}).into());
            let all: Vec<Json> = entries.chain(broken).chain(missing).collect();
            output::print(&serde_json::to_string(&all).expect("entries are JSON"))?;
        } else {
            let mut lines = Vec::new();
            for entry in &found {
                let line = format!("{}:{}: {}  {}", entry.file.display(), entry.line, entry.text, what(entry));
                lines.push(Line::of(line, Tone::Plain));
                let different = differences(entry).into_iter();
                lines.extend(different.map(|different| Line::of(format!("    {different}"), Tone::Odd)));
            }
            lines.extend(faults.iter().map(|fault| Line::of(format!("{fault}; this would not run"), Tone::Bad)));
            lines.extend(missing.iter().map(|path| Line::of(format!("{}: is not there", path.display()), Tone::Bad)));
            lines.extend(passed_over.iter().map(|path| {
                let why = "is passed over for its name, in which only letters, digits, _ and - may be";
                Line::of(format!("{}: {why}", path.display()), Tone::Odd)
            }));
            if !found.is_empty() {
                lines.extend(self.advice(&of_users).into_iter().map(|line| Line::of(line, Tone::Plain)));
            }
            output::print_lines(&lines)?;
        }
        Ok(if faults.is_empty() && missing.is_empty() { Exit::Done } else { Exit::Failed })
    }

    fn has_users(&self, path: &Path) -> bool {
        self.system || path.starts_with("/etc")
    }

    /// What holds for all of them, and how to run them.
    fn advice(&self, of_users: &[UserFile]) -> Vec<String> {
        let indented = |text: &str| format!("    {text}");
        let mut lines = vec![String::new(), "For all entries:".to_owned()];
        lines.extend(FOR_ALL.map(indented));
        let how = "To run them, put this into the configuration, and stop the other cron:";
        lines.extend([String::new(), how.to_owned(), String::new()]);
        lines.extend(self.section(of_users).iter().map(|line| indented(line)));
        if !of_users.is_empty() {
            lines.push(String::new());
            lines.extend(spool::ADVICE.map(str::to_owned));
            lines.extend(of_users.iter().flat_map(UserFile::lines));
        }
        lines
    }

    /// The section of the configuration that would run them.
    fn section(&self, of_users: &[UserFile]) -> Vec<String> {
        let list = |has_users: bool| -> Vec<String> {
            let paths = self.paths.iter().filter(|path| {
                let is_of_users = of_users.iter().any(|file| file.path.starts_with(path));
                self.has_users(path) == has_users && !is_of_users
            });
            let whole = |path: &PathBuf| std::path::absolute(path).unwrap_or(path.clone()).display().to_string();
            let copies = (has_users && !of_users.is_empty()).then(|| spool::COPIES.to_owned());
            paths.map(whole).chain(copies).collect()
        };
        let mut lines = vec!["[cron]".to_owned()];
        for (key, paths) in [("files", list(false)), ("system_files", list(true))] {
            if !paths.is_empty() {
                lines.push(format!("{key} = {}", json!(paths)));
            }
        }
        lines
    }
}

fn crontabs(file: &Path, has_users: bool) -> Crontabs {
    let host = rustix::system::uname().nodename().to_string_lossy().into_owned();
    let paths = vec![file.to_owned()];
    let (files, system_files) = if has_users { (vec![], paths) } else { (paths, vec![]) };
    Crontabs { files, system_files, host, ..Crontabs::default() }
}

/// The files of a folder that cron reads.
fn files(path: &Path) -> Vec<PathBuf> {
    let Ok(folder) = std::fs::read_dir(path) else { return vec![path.to_owned()] };
    let mut files: Vec<PathBuf> = folder.flatten().map(|entry| entry.path()).filter(|path| path.is_file()).collect();
    files.retain(|path| has_plain_name(path) || spool::is_users(path));
    files.sort();
    files
}

/// The files of a folder that neither cron nor cerbas reads, for their names.
fn passed_over(path: &Path) -> Vec<PathBuf> {
    let Ok(folder) = std::fs::read_dir(path) else { return Vec::new() };
    let files = folder.flatten().map(|entry| entry.path()).filter(|path| path.is_file());
    let mut found: Vec<PathBuf> = files.filter(|path| !has_plain_name(path) && !spool::is_users(path)).collect();
    found.sort();
    found
}

fn has_plain_name(path: &Path) -> bool {
    let name = path.file_name().and_then(|name| name.to_str()).unwrap_or_default();
    name.bytes().all(|byte| byte.is_ascii_alphanumeric() || byte == b'_' || byte == b'-')
}

/// What this entry does otherwise than with Debian's cron.
fn differences(entry: &Entry) -> Vec<String> {
    let mut found = Vec::new();
    let Action::Command(command) = &entry.action else { return found };
    let set = |name: &str| command.environment.get(name).filter(|value| !value.is_empty());
    if let Some(zone) = set("CRON_TZ") {
        found.push(format!("fires by the clock of {zone} (CRON_TZ); Debian's cron ignores that, cronie does the same"));
    }
    if set("MAILTO").is_some() && !Path::new("/usr/sbin/sendmail").is_file() {
        found.push(
            "MAILTO is set, and /usr/sbin/sendmail is not there: mail will fail; sendmail in [cron] names another"
                .to_owned(),
        );
    }
    if set("RANDOM_DELAY").is_some() {
        found.push(
            "RANDOM_DELAY of cronie has no effect; jitter=5m above the entry does the same, and the same each day"
                .to_owned(),
        );
    }
    if entry.text.contains('~') {
        found.push(
            "~ is a random time of cronie, chosen anew at each start; here it stays the same for this host".to_owned(),
        );
    }
    if entry.schedule.is_reboot() {
        found.push(
            "runs once after each start of the machine, with no time limit; not when cerbas starts again, nor at its first start here"
                .to_owned(),
        );
    }
    let name = match &command.user {
        Some(user) => accounts::find(user).err().map(|why| format!("{why}: each run will fail")),
        None => None,
    };
    found.extend(name);
    let is_last = std::fs::read_to_string(&entry.file)
        .is_ok_and(|text| !text.ends_with('\n') && text.lines().count() == entry.line);
    if is_last {
        found.push("the last line has no line break: cron passes it over, here it counts".to_owned());
    }
    found
}

fn facts(entry: &Entry) -> Object {
    let mut facts = super::facts(entry);
    facts.insert("file", entry.file.display().to_string());
    facts.insert("differences", differences(entry));
    facts
}
