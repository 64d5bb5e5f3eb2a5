//! A table of the file that is read key by key, together with the variables that override it.
//!
//! Every fault is collected and reading goes on, so that one look shows all of them. A key that nobody asked for is a
//! fault, too: that is why a section learns the names of its keys from those who read them and needs no list.

use std::cell::RefCell;
use std::path::Path;

use toml::Spanned;
use toml::de::{DeTable, DeValue};

use super::environment::Environment;
use super::faults::{Fault, Place, Position};
use super::value::{Fit, Mismatch, Source, Value};
use crate::trust::Trust;

/// Everything a configuration is read from, and what was found wrong with it.
pub(super) struct Origin<'a> {
    pub(super) file: &'a Path,
    pub(super) text: &'a str,
    /// What relative paths in the file start from.
    pub(super) folder: &'a Path,
    /// Whose files are read, where the file names more of them.
    pub(super) trust: Trust,
    pub(super) environment: &'a Environment,
    pub(super) faults: RefCell<Vec<Fault>>,
}

impl Origin<'_> {
    /// Notes a fault of the file, at the byte `offset`.
    pub(super) fn fault(&self, offset: usize, message: String) {
        let position = Some(Position::of(offset, self.text));
        self.faults.borrow_mut().push(Fault { place: Place::File(self.file.to_owned()), position, message });
    }

    /// Notes what is no TOML, unless the line is known to be broken: one slip brings more errors after it.
    pub(super) fn syntax_fault(&self, offset: usize, message: &str) {
        let line = Position::of(offset, self.text).line;
        let is_known = self.faults.borrow().iter().any(|fault| fault.position.is_some_and(|known| known.line == line));
        if !is_known {
            self.fault(offset, message.replace('\n', " "));
        }
    }

    fn variable_fault(&self, variable: String, message: String) {
        self.faults.borrow_mut().push(Fault { place: Place::Variable(variable), position: None, message });
    }
}

/// One table, or what is left of it where it is missing.
pub(super) struct Section<'a> {
    origin: &'a Origin<'a>,
    /// Its key with all keys above it; empty for the whole file.
    path: String,
    /// Where its key is in the file, in bytes.
    offset: usize,
    table: Option<&'a DeTable<'a>>,
    /// Whether variables override it.
    overridable: bool,
    known: Vec<&'static str>,
    /// Keys that are known but have no place here; no typing error is taken for one.
    refused: Vec<&'static str>,
}

/// Where a key has its value from. The greater one wins.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub(super) enum Level {
    File,
    Variable,
}

impl<'a> Section<'a> {
    /// The whole file.
    pub(super) fn root(origin: &'a Origin<'a>, table: &'a DeTable<'a>) -> Self {
        Section::new(origin, String::new(), 0, Some(table))
    }

    fn new(origin: &'a Origin<'a>, path: String, offset: usize, table: Option<&'a DeTable<'a>>) -> Self {
        Section { origin, path, offset, table, overridable: false, known: Vec::new(), refused: Vec::new() }
    }

    /// Sets `field` to the value of `key` if there is one that fits; else it keeps its default.
    pub(super) fn set<T>(&mut self, key: &'static str, field: &mut T, read: impl FnOnce(&Value<'a>) -> Fit<T>) {
        if let Some(value) = self.get(key, read) {
            *field = value;
        }
    }

    /// [`Section::set`] for a field that can be without a value.
    pub(super) fn set_some<T>(
        &mut self,
        key: &'static str,
        field: &mut Option<T>,
        read: impl FnOnce(&Value<'a>) -> Fit<T>,
    ) {
        if let Some(value) = self.get(key, read) {
            *field = Some(value);
        }
    }

    /// The value of `key` if there is one that fits.
    pub(super) fn get<T>(&mut self, key: &'static str, read: impl FnOnce(&Value<'a>) -> Fit<T>) -> Option<T> {
        match self.level(key)? {
            Level::Variable => self.get_variable(key, read),
            Level::File => self.get_written(key, read),
        }
    }

    /// Where `key` has its value from, if it has one.
    pub(super) fn level(&mut self, key: &'static str) -> Option<Level> {
        self.know(key);
        if self.overridable && self.origin.environment.get(&self.path, key).is_some() {
            return Some(Level::Variable);
        }
        self.table?.contains_key(key).then_some(Level::File)
    }

    fn know(&mut self, key: &'static str) {
        if !self.known.contains(&key) {
            self.known.push(key);
        }
    }

    fn get_variable<T>(&self, key: &str, read: impl FnOnce(&Value<'a>) -> Fit<T>) -> Option<T> {
        let text = self.origin.environment.get(&self.path, key)?;
        let value = match text.to_str() {
            Some(text) => {
                read(&Value { source: Source::Variable(text), folder: self.origin.folder, trust: self.origin.trust })
            }
            None => Err(Mismatch::from("expected text in UTF-8".to_owned())),
        };
        let noted = |mismatch: Mismatch| {
            self.origin.variable_fault(Environment::name(&self.path, key), mismatch.message);
        };
        value.map_err(noted).ok()
    }

    fn get_written<T>(&self, key: &str, read: impl FnOnce(&Value<'a>) -> Fit<T>) -> Option<T> {
        let written = self.table?.get(key)?;
        let value = read(&Value {
            source: Source::Written(written.get_ref()),
            folder: self.origin.folder,
            trust: self.origin.trust,
        });
        let noted = |mismatch: Mismatch| {
            let offset = mismatch.offset.unwrap_or(written.span().start);
            self.origin.fault(offset, format!("{}: {}", self.path_of(key), mismatch.message));
        };
        value.map_err(noted).ok()
    }

    /// Reads the table under `key`; a missing one is an empty one.
    pub(super) fn table<T>(&mut self, key: &'static str, read: impl FnOnce(&mut Section<'a>) -> T) -> T {
        self.know(key);
        let mut section = match self.table.and_then(|table| table.get_key_value(key)) {
            Some((name, value)) => self.inside(name.get_ref(), name.span().start, value),
            None => Section::new(self.origin, self.path_of(key), self.offset, None),
        };
        section.read(read)
    }

    /// Reads the table under `key`, which variables override.
    pub(super) fn overridable_table(&mut self, key: &'static str, read: impl FnOnce(&mut Section<'a>)) {
        self.table(key, |section| {
            section.overridable = true;
            read(section);
        });
    }

    /// Reads each of the tables in this one, whatever its name is.
    pub(super) fn each_table(&mut self, mut read: impl FnMut(&str, &mut Section<'a>)) {
        for (name, value) in self.table.take().into_iter().flatten() {
            let mut section = self.inside(name.get_ref(), name.span().start, value);
            if section.table.is_some() {
                section.read(|section| read(name.get_ref(), section));
            }
        }
    }

    fn inside(&self, key: &str, offset: usize, value: &'a Spanned<DeValue<'a>>) -> Section<'a> {
        let path = self.path_of(key);
        let table = value.get_ref().as_table();
        if table.is_none() {
            self.origin.fault(value.span().start, format!("{path}: expected a table, as in [{path}]"));
        }
        Section::new(self.origin, path, offset, table)
    }

    fn read<T>(&mut self, read: impl FnOnce(&mut Section<'a>) -> T) -> T {
        let value = read(self);
        self.finish();
        value
    }

    /// Makes a fault of `key`, which exists but has no place here, if it is there.
    pub(super) fn refuse(&mut self, key: &'static str, why: &str) {
        self.refused.push(key);
        if let Some((name, _)) = self.table.and_then(|table| table.get_key_value(key)) {
            self.origin.fault(name.span().start, format!("{}: {why}", self.path_of(key)));
        }
    }

    /// Takes `keys` as they are: they are known, but nobody can say whether they fit.
    pub(super) fn ignore(&mut self, keys: impl IntoIterator<Item = &'static str>) {
        self.known.extend(keys);
    }

    /// Notes a fault of the table as a whole.
    pub(super) fn fault(&self, message: &str) {
        self.origin.fault(self.offset, format!("{}: {message}", self.path));
    }

    /// Notes a fault of `key`, where its value is from.
    pub(super) fn key_fault(&mut self, key: &'static str, message: &str) {
        let key_path = self.path_of(key);
        match self.level(key) {
            Some(Level::Variable) => {
                self.origin.variable_fault(Environment::name(&self.path, key), message.to_owned());
            }
            _ => {
                let entry = self.table.and_then(|table| table.get_key_value(key));
                let offset = entry.map_or(self.offset, |(name, _)| name.span().start);
                self.origin.fault(offset, format!("{key_path}: {message}"));
            }
        }
    }

    /// Where the key of the table is in the file.
    pub(super) fn position(&self) -> Position {
        Position::of(self.offset, self.origin.text)
    }

    /// What relative paths in the file start from.
    pub(super) fn folder(&self) -> &'a Path {
        self.origin.folder
    }

    /// Makes faults of all keys that nobody asked for.
    pub(super) fn finish(&self) {
        for (name, value) in self.table.into_iter().flatten() {
            let (key, known) = (name.get_ref().as_ref(), self.known.iter().chain(&self.refused));
            if !known.copied().any(|known| known == key) {
                let is_section = self.path.is_empty() && value.get_ref().is_table();
                let message = self.unknown(if is_section { "section" } else { "key" }, key);
                self.origin.fault(name.span().start, format!("{}: {message}", self.path_of(key)));
            }
        }
        if self.overridable {
            for (variable, key) in self.origin.environment.keys(&self.path) {
                if !self.known.contains(&key.as_str()) {
                    self.origin.variable_fault(variable.to_owned(), self.unknown("variable", &key));
                }
            }
        }
    }

    fn unknown(&self, what: &str, key: &str) -> String {
        let shown = |known: &str| match what {
            "variable" => Environment::name(&self.path, known),
            _ => known.to_owned(),
        };
        match nearest(key, &self.known) {
            Some(known) => format!("unknown {what}, did you mean {}?", shown(known)),
            None => {
                let known: Vec<String> = self.known.iter().map(|known| shown(known)).collect();
                format!("unknown {what}, known are {}", known.join(", "))
            }
        }
    }

    fn path_of(&self, key: &str) -> String {
        let key = quoted(key);
        if self.path.is_empty() { key } else { format!("{}.{key}", self.path) }
    }
}

/// `key` as it would stand in a file, on one line whatever is in it.
pub(super) fn quoted(key: &str) -> String {
    let is_bare = !key.is_empty() && key.bytes().all(|byte| byte.is_ascii_alphanumeric() || b"_-".contains(&byte));
    if is_bare { key.to_owned() } else { format!("{key:?}") }
}

/// The name that `typed` was probably meant to be: at most a third of it is wrong.
pub(super) fn nearest<'n>(typed: &str, names: &[&'n str]) -> Option<&'n str> {
    let typed = typed.to_lowercase();
    let distances = names.iter().map(|&name| (strsim::damerau_levenshtein(&typed, name), name));
    let (distance, name) = distances.min_by_key(|(distance, _)| *distance)?;
    (distance <= typed.chars().count().max(3) / 3).then_some(name)
}
