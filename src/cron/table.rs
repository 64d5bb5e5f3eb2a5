//! The file: crontab lines as cronie reads them (`crontab(5)`), and lines with a request.
//!
//! ```text
//! # a comment
//! MAILTO = ops@example.org
//! #: name=backup overlap=skip timeout=2h tz=Europe/Rome
//! 30 2 * * *   /usr/local/bin/backup --full
//! */5 * * * *  | {"func": "refresh", "args": {"all": true}}
//! ```

use std::collections::{BTreeMap, HashMap};
use std::path::Path;
use std::sync::Arc;

use jiff::SignedDuration;
use jiff::tz::TimeZone;

use super::lines::{self, assignment, cut, percent, request, words_of_schedule};
use super::policies::{self, Policies, Zone};
use super::schedule::Schedule;
use crate::protocol::Object;

/// What one file says.
#[derive(Debug, Clone, Default, PartialEq)]
pub struct Table {
    /// Its entries, in their order.
    pub entries: Vec<Entry>,
    /// What is wrong with it. A line with a fault costs itself only; one with policies, also the entry below it.
    pub faults: Vec<TableFault>,
}

/// One line of the file that makes something happen.
#[derive(Debug, Clone, PartialEq)]
pub struct Entry {
    /// What it is called: its policy `name`, or a name made from what it does, which stays the same while that does.
    pub name: String,
    /// The file.
    pub file: Arc<Path>,
    /// The line of the file, from 1.
    pub line: usize,
    /// When, as it stands in the file.
    pub text: String,
    /// When.
    pub schedule: Schedule,
    /// What happens.
    pub action: Action,
    /// What holds for it, also by default.
    pub policies: Policies,
    /// The zone of its times.
    pub zone: Zone,
    /// How much later than at its times it starts: by chance, but always the same on one host.
    pub delay: SignedDuration,
}

impl Entry {
    /// The rules of its zone.
    pub fn zone(&self) -> &TimeZone {
        &self.zone.rules
    }
}

/// What an entry does.
#[derive(Debug, Clone, PartialEq)]
pub enum Action {
    /// `expr | {...}`: a request like any other.
    Request(Object),
    /// A plain line: the shell runs it.
    Command(Command),
}

/// A command line, and what cron sets for it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Command {
    /// What the shell is given: everything up to the first `%`.
    pub line: String,
    /// What it reads from its standard input: what follows that, each further `%` a line break.
    pub stdin: String,
    /// As whom it runs, where the file has a column for that.
    pub user: Option<String>,
    /// The variables that the lines above set: `SHELL`, `PATH`, `MAILTO` and any other.
    pub environment: BTreeMap<String, String>,
}

/// Something that is wrong with the file.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct TableFault {
    /// The line, from 1.
    pub line: usize,
    /// The character of the line, from 1.
    pub column: usize,
    /// What is wrong.
    pub reason: String,
}

/// How a file is to be read.
#[derive(Debug, Clone)]
pub struct Reading<'a> {
    /// The file that is read.
    pub file: Arc<Path>,
    /// Whether lines have the user behind the schedule, as in `/etc/crontab` and `/etc/cron.d`.
    pub has_users: bool,
    /// Decides, with the entry, on random ranges and jitter: the name of the host.
    pub host: &'a str,
    /// What holds for entries that say nothing else.
    pub defaults: Policies,
}

impl Default for Reading<'_> {
    fn default() -> Self {
        Reading { file: Arc::from(Path::new("CRONTAB")), has_users: false, host: "", defaults: Policies::default() }
    }
}

impl Table {
    /// Reads the text of a file.
    pub fn read(text: impl AsRef<[u8]>, reading: &Reading<'_>) -> Self {
        let text = text.as_ref();
        let mut state = State { reading: reading.clone(), ..State::default() };
        // Some editors put a byte order mark in front.
        for (number, line) in
            text.strip_prefix(b"\xef\xbb\xbf").unwrap_or(text).split(|byte| *byte == b'\n').enumerate()
        {
            state.bytes(number + 1, line.strip_suffix(b"\r").unwrap_or(line));
        }
        if let Some(Above { line, is_broken: false, .. }) = state.above {
            state.fault(line, 0, "", "policies stand above an entry, and there is none below these".to_owned());
        }
        state.name_all();
        state.delay_all();
        state.faults.sort_by_key(|fault| (fault.line, fault.column));
        Table { entries: state.entries, faults: state.faults }
    }
}

#[derive(Default)]
struct State<'a> {
    reading: Reading<'a>,
    environment: BTreeMap<String, String>,
    above: Option<Above>,
    entries: Vec<Entry>,
    faults: Vec<TableFault>,
}

/// The policies of the entry that comes.
#[derive(Default)]
struct Above {
    /// Where they began.
    line: usize,
    policies: Policies,
    /// They have a fault. The entry does not run without them: they may say that it must not.
    is_broken: bool,
}

impl State<'_> {
    fn fault(&mut self, line: usize, offset: usize, text: &str, reason: String) {
        let column = text.get(..offset).map_or(offset, |before| before.chars().count()) + 1;
        self.faults.push(TableFault { line, column, reason });
    }

    fn bytes(&mut self, number: usize, line: &[u8]) {
        match std::str::from_utf8(line) {
            Ok(line) => self.line(number, line),
            // What nobody runs may have any bytes.
            Err(_) if lines::is_remark(&String::from_utf8_lossy(line)) => {}
            Err(error) => {
                let (text, offset) = (String::from_utf8_lossy(line), error.valid_up_to());
                self.fault(number, offset, &text, "expected text in UTF-8".to_owned());
                let is_of_policies = text.trim_start_matches([' ', '\t']).starts_with("#:");
                self.above = is_of_policies.then(|| Above { line: number, is_broken: true, ..Above::default() });
            }
        }
    }

    fn line(&mut self, number: usize, line: &str) {
        let trimmed = line.trim_start_matches([' ', '\t']);
        let offset = line.len() - trimmed.len();
        if trimmed.is_empty() || lines::is_remark(trimmed) {
        } else if let Some(policies) = trimmed.strip_prefix("#:") {
            self.policies(number, line, offset + 2, policies);
        } else if let Some((name, value)) = assignment(trimmed) {
            if self.above.as_mut().is_some_and(|above| !std::mem::replace(&mut above.is_broken, true)) {
                self.fault(number, offset, line, "policies stand above an entry, not above a variable".to_owned());
            }
            self.environment.insert(name, value);
        } else {
            self.entry(number, line, offset);
        }
    }

    fn policies(&mut self, number: usize, line: &str, offset: usize, text: &str) {
        let mut above = self.above.take().unwrap_or_else(|| Above { line: number, ..Above::default() });
        for (at, reason) in policies::read(text, &mut above.policies) {
            self.fault(number, offset + at, line, reason);
            above.is_broken = true;
        }
        self.above = Some(above);
    }

    fn entry(&mut self, number: usize, line: &str, offset: usize) {
        let Above { mut policies, is_broken, .. } = self.above.take().unwrap_or_default();
        // With cronie and SUSE a line that begins so is not logged.
        let offset = offset + usize::from(line[offset..].starts_with('-'));
        let body = &line[offset..];
        let Some((text, rest)) = cut(body, words_of_schedule(body)) else {
            // Too short for a schedule: the schedule says what is missing.
            let fault = Schedule::read(body, 0).err();
            let (at, reason) =
                fault.map_or((0, "a command is missing".to_owned()), |fault| (fault.offset, fault.reason));
            return self.fault(number, offset + at, line, reason);
        };
        let chance = hash(&[self.reading.host, body]);
        let schedule = match Schedule::read(text, chance) {
            Ok(schedule) => schedule,
            Err(fault) => return self.fault(number, offset + fault.offset, line, fault.reason),
        };
        let rest_at = line.len() - rest.len();
        if rest.starts_with('*') {
            let reason =
                "bad command: there are five fields before it, none of them for seconds, and it cannot begin with *";
            return self.fault(number, rest_at, line, reason.to_owned());
        }
        let action = match rest.strip_prefix('|') {
            Some(json) => request(json).map(Action::Request).map_err(|(at, reason)| (rest_at + 1 + at, reason)),
            None => self.command(rest).map(Action::Command).map_err(|(at, reason)| (rest_at + at, reason)),
        };
        let action = match action {
            Ok(action) => action,
            Err((at, reason)) => return self.fault(number, at, line, reason),
        };
        if policies.zone.is_none()
            && let Some(zone) = self.environment.get("CRON_TZ")
        {
            match policies::zone(zone) {
                Ok(zone) => policies.zone = Some(zone),
                Err(reason) => return self.fault(number, offset, line, format!("CRON_TZ: {reason}")),
            }
        }
        if is_broken {
            return;
        }
        let policies = policies.over(&self.reading.defaults);
        let zone = policies.zone.clone().unwrap_or_else(Zone::local);
        let (name, text, delay) = (policies.name.clone().unwrap_or_default(), text.to_owned(), SignedDuration::ZERO);
        let file = Arc::clone(&self.reading.file);
        self.entries.push(Entry { name, file, line: number, text, schedule, action, policies, zone, delay });
    }

    fn command(&self, rest: &str) -> Result<Command, (usize, String)> {
        let (user, line) = match self.reading.has_users {
            false => (None, rest),
            true => match cut(rest, 1) {
                Some((user, line)) => (Some(user.to_owned()), line),
                None => return Err((rest.len(), "expected a user and a command".to_owned())),
            },
        };
        let (line, stdin) = percent(line);
        if line.trim().is_empty() {
            return Err((0, "a command is missing".to_owned()));
        }
        Ok(Command { line, stdin, user, environment: self.environment.clone() })
    }

    fn delay_all(&mut self) {
        for entry in &mut self.entries {
            let Some(jitter) = entry.policies.jitter else { continue };
            let milliseconds = u64::try_from(jitter.as_millis()).unwrap_or(u64::MAX).max(1);
            let delay = hash(&[self.reading.host, &entry.name]) % milliseconds;
            entry.delay = SignedDuration::from_millis(i64::try_from(delay).unwrap_or(i64::MAX));
        }
    }

    /// Gives a name to those that have none. Of those that were given the same one, the first has it.
    fn name_all(&mut self) {
        let mut lines: HashMap<String, usize> = HashMap::new();
        for mut entry in std::mem::take(&mut self.entries) {
            if entry.policies.name.is_none() {
                entry.name = free_name(&made_name(&entry), |name| lines.contains_key(name));
            } else if let Some(first) = lines.get(&entry.name) {
                let reason = format!("the name {} is that of line {first}, too", entry.name);
                self.fault(entry.line, 0, "", reason);
                continue;
            }
            lines.insert(entry.name.clone(), entry.line);
            self.entries.push(entry);
        }
    }
}

/// `made`, or if that is taken, `made-2` and so on.
pub(super) fn free_name(made: &str, is_taken: impl Fn(&str) -> bool) -> String {
    let copies = (2..).map(|copy| format!("{made}-{copy}"));
    let mut names = std::iter::once(made.to_owned()).chain(copies);
    names.find(|name| !is_taken(name)).expect("there is always another one")
}

/// What it does, in a word, and a few digits that are the same as long as it does the same at the same times.
fn made_name(entry: &Entry) -> String {
    let (word, all) = match &entry.action {
        Action::Request(request) => (request.text("func").unwrap_or_default(), request.canonical()),
        Action::Command(command) => {
            let program = command.line.split_whitespace().next().unwrap_or_default();
            (program.rsplit('/').next().unwrap_or_default().to_owned(), command.line.clone())
        }
    };
    let is_plain = |character: &char| character.is_ascii_alphanumeric() || "_.-".contains(*character);
    let word: String = word.chars().filter(is_plain).take(40).collect();
    format!("{word}.{:04x}", hash(&[&entry.text, &all]) & 0xffff)
}

/// FNV-1a, which does not change from one version or machine to the next.
fn hash(parts: &[&str]) -> u64 {
    let bytes = parts.iter().flat_map(|part| part.bytes().chain([0]));
    bytes.fold(0xcbf2_9ce4_8422_2325, |hash, byte| (hash ^ u64::from(byte)).wrapping_mul(0x0000_0100_0000_01b3))
}

#[cfg(test)]
mod tests;
