//! One value of the configuration, from the file or from a variable, read as what a key needs.

use std::collections::{BTreeMap, HashSet};
use std::fmt::Display;
use std::ops::RangeInclusive;
use std::path::{Path, PathBuf};
use std::time::Duration;

use bytesize::ByteSize;
use toml::Spanned;
use toml::de::DeValue;

use super::section::{nearest, quoted};
use crate::functions::{self, Rate};
use crate::protocol::MAX_DELAY;
use crate::trust::{Role, Trust, Unread};

/// A size that nothing here has; a range that ends there has no end.
const NO_LIMIT: u64 = 1 << 50;

/// Why a value does not fit its key.
#[derive(Debug)]
pub(super) struct Mismatch {
    /// The byte of the file where it is, if not the beginning of the value.
    pub(super) offset: Option<usize>,
    pub(super) message: String,
}

impl Mismatch {
    fn at(mut self, item: &Spanned<DeValue<'_>>) -> Self {
        self.offset = Some(item.span().start);
        self
    }
}

impl From<String> for Mismatch {
    fn from(message: String) -> Self {
        Mismatch { offset: None, message }
    }
}

pub(super) type Fit<T> = Result<T, Mismatch>;

/// A value that is not yet known to fit.
///
/// Its methods never put a text into a message that may be a secret: [`Value::text`] says only what kind of value it
/// found.
pub(super) struct Value<'a> {
    pub(super) source: Source<'a>,
    /// What relative paths start from.
    pub(super) folder: &'a Path,
    /// Whose files are read.
    pub(super) trust: Trust,
}

pub(super) enum Source<'a> {
    Written(&'a DeValue<'a>),
    Variable(&'a str),
}

impl Value<'_> {
    /// Any text, even an empty one.
    pub(super) fn any_text(&self) -> Fit<String> {
        let text = match &self.source {
            Source::Variable(text) => text,
            Source::Written(DeValue::String(text)) => text.as_ref(),
            Source::Written(other) => return Err(format!("expected a text, found {}", kind(other)).into()),
        };
        // No program, path or key can carry it, so it is never meant.
        if text.contains('\0') {
            return Err("expected a text without zero bytes".to_owned().into());
        }
        Ok(text.to_owned())
    }

    /// A text with something in it.
    pub(super) fn text(&self) -> Fit<String> {
        let text = self.any_text()?;
        if text.is_empty() { Err("expected a text, found an empty one".to_owned().into()) } else { Ok(text) }
    }

    /// A whole number in `range`.
    pub(super) fn number<N: TryFrom<i64>>(&self, range: RangeInclusive<i64>) -> Fit<N> {
        let (number, found) = match &self.source {
            Source::Variable(text) => (text.trim().parse().ok(), format!("{text:?}")),
            Source::Written(DeValue::Integer(integer)) => {
                (i64::from_str_radix(integer.as_str(), integer.radix()).ok(), integer.to_string())
            }
            Source::Written(other) => (None, describe(other)),
        };
        let in_range = number.filter(|number| range.contains(number)).and_then(|number| N::try_from(number).ok());
        in_range.ok_or_else(|| {
            format!("expected a whole number from {} to {}, found {found}", range.start(), range.end()).into()
        })
    }

    /// `true` or `false`.
    pub(super) fn switch(&self) -> Fit<bool> {
        match &self.source {
            Source::Written(DeValue::Boolean(switch)) => Ok(*switch),
            Source::Written(other) => Err(format!("expected true or false, found {}", describe(other)).into()),
            Source::Variable(text) => {
                text.trim().parse().map_err(|_| format!("expected true or false, found {text:?}").into())
            }
        }
    }

    /// A duration such as `"1m 30s"`, from `least` to a year and a day.
    pub(super) fn duration(&self, least: Duration) -> Fit<Duration> {
        let text = self.written_or("a duration such as \"5s\"")?;
        let duration = humantime::parse_duration(&text)
            .map_err(|error| format!("expected a duration such as \"5s\", found {text:?}: {error}"))?;
        if !(least..=MAX_DELAY).contains(&duration) {
            let least = humantime::format_duration(least);
            return Err(format!("expected a duration from {least} to 366days, found {text:?}").into());
        }
        Ok(duration)
    }

    /// A number of calls in a time such as `"100/s"`.
    pub(super) fn rate(&self) -> Fit<Rate> {
        let text = self.written_or("a rate such as \"100/s\"")?;
        text.parse().map_err(|_| format!("expected a rate such as \"100/s\" or \"1/10s\", found {text:?}").into())
    }

    /// A number of bytes such as `"64KiB"`, `"10MB"` or `65536`.
    pub(super) fn size<N: TryFrom<u64>>(&self, range: RangeInclusive<u64>) -> Fit<N> {
        let (size, found) = match &self.source {
            Source::Written(DeValue::Integer(integer)) => {
                (u64::from_str_radix(integer.as_str(), integer.radix()).ok(), integer.to_string())
            }
            _ => {
                let text = self.written_or("a size such as \"1MiB\"")?;
                (text.trim().parse().ok().map(|size: ByteSize| size.as_u64()), format!("{text:?}"))
            }
        };
        let in_range = size.filter(|size| range.contains(size)).and_then(|size| N::try_from(size).ok());
        in_range.ok_or_else(|| {
            // Not what `bytesize` would show: its logarithm alone brings in libm, which every daemon would hold in memory.
            let (least, most) = (functions::size(*range.start() as usize), functions::size(*range.end() as usize));
            let allowed = match *range.end() {
                NO_LIMIT.. => format!("at least {least}"),
                _ => format!("from {least} to {most}"),
            };
            format!("expected a size such as \"1MiB\", {allowed}, found {found}").into()
        })
    }

    /// One of the `choices`, by its name.
    pub(super) fn choice<T: Copy>(&self, choices: &[(impl AsRef<str>, T)]) -> Fit<T> {
        let text = self.text()?;
        if let Some((_, choice)) = choices.iter().find(|(name, _)| name.as_ref() == text) {
            return Ok(*choice);
        }
        let names: Vec<&str> = choices.iter().map(|(name, _)| name.as_ref()).collect();
        Err(match nearest(&text, &names) {
            Some(name) => format!("unknown name {text:?}, did you mean {name}?"),
            None => format!("unknown name {text:?}, expected one of {}", names.join(", ")),
        }
        .into())
    }

    /// Some of `choices`, in a list. There are few, and who has one wrong may want others as well: all are told.
    pub(super) fn choices<T: Copy>(&self, choices: &[(&str, T)]) -> Fit<Vec<T>> {
        let chosen = |text: String| match choices.iter().find(|(name, _)| *name == text) {
            Some((_, choice)) => Ok(*choice),
            None => {
                let names: Vec<&str> = choices.iter().map(|(name, _)| *name).collect();
                Err(format!("unknown name {text:?}, expected some of {}", names.join(", ")).into())
            }
        };
        self.list()?.into_iter().map(chosen).collect()
    }

    /// A list of texts with something in them; in a variable separated by commas.
    pub(super) fn list(&self) -> Fit<Vec<String>> {
        match &self.source {
            Source::Variable(text) => {
                Ok(text.split(',').map(str::trim).filter(|item| !item.is_empty()).map(str::to_owned).collect())
            }
            Source::Written(DeValue::Array(items)) => {
                items.iter().map(|item| self.inside(item).text().map_err(|mismatch| mismatch.at(item))).collect()
            }
            Source::Written(other) => Err(format!("expected a list of texts, found {}", describe(other)).into()),
        }
    }

    /// [`Value::list`] without an order.
    pub(super) fn set(&self) -> Fit<HashSet<String>> {
        Ok(self.list()?.into_iter().collect())
    }

    /// A list of texts, which may be empty ones; `expected` says what it is for.
    pub(super) fn arguments(&self, expected: &str) -> Fit<Vec<String>> {
        match &self.source {
            Source::Written(DeValue::Array(items)) => {
                items.iter().map(|item| self.inside(item).any_text().map_err(|mismatch| mismatch.at(item))).collect()
            }
            Source::Written(other) => Err(format!("{expected}, found {}", describe(other)).into()),
            Source::Variable(text) => Err(format!("{expected}, found {text:?}").into()),
        }
    }

    /// A table of texts, which may be empty ones.
    pub(super) fn texts(&self) -> Fit<BTreeMap<String, String>> {
        let table = match &self.source {
            Source::Written(DeValue::Table(table)) => table,
            Source::Written(other) => {
                return Err(format!("expected a table of texts, found {}", describe(other)).into());
            }
            Source::Variable(_) => return Err("expected a table of texts".to_owned().into()),
        };
        let entries = table.iter().map(|(name, item)| {
            let name = name.get_ref().as_ref();
            let named = |mismatch: Mismatch| Mismatch::from(format!("{}: {}", quoted(name), mismatch.message)).at(item);
            Ok((name.to_owned(), self.inside(item).any_text().map_err(named)?))
        });
        entries.collect()
    }

    /// A path; a relative one starts from the folder of the file, or in a variable from the working directory.
    pub(super) fn path(&self) -> Fit<PathBuf> {
        let path = self.text()?;
        let path = match self.source {
            Source::Written(_) => self.folder.join(path),
            Source::Variable(_) => PathBuf::from(path),
        };
        std::path::absolute(&path).map_err(|error| format!("cannot use the path {}: {error}", path.display()).into())
    }

    /// The path of a file that is read later.
    pub(super) fn file(&self) -> Fit<PathBuf> {
        let path = self.path()?;
        match self.trust.check(&path, Role::File) {
            Err(Unread::Distrusted(distrust)) => Err(format!("cannot use {}: {distrust}", path.display()).into()),
            // What else is wrong is told by who reads it.
            Err(Unread::System(_)) | Ok(()) => Ok(path),
        }
    }

    /// A list of paths, likewise.
    pub(super) fn paths(&self) -> Fit<Vec<PathBuf>> {
        let full = |path: String| match self.source {
            Source::Written(_) => self.folder.join(path),
            Source::Variable(_) => PathBuf::from(path),
        };
        Ok(self.list()?.into_iter().map(full).collect())
    }

    /// What is in the file that the value names, without one line break at its end.
    pub(super) fn content(&self) -> Fit<String> {
        let path = self.path()?;
        let unread = |error: &dyn Display| format!("cannot read {}: {error}", path.display());
        let content = self.trust.read(&path, Role::File).map_err(|error| unread(&error))?;
        let content = String::from_utf8(content).map_err(|_| unread(&"stream did not contain valid UTF-8"))?;
        let content =
            content.strip_suffix('\n').map_or(content.as_str(), |line| line.strip_suffix('\r').unwrap_or(line));
        if content.is_empty() {
            return Err(format!("cannot use {}: the file is empty", path.display()).into());
        }
        Ok(content.to_owned())
    }

    fn inside<'b>(&'b self, item: &'b Spanned<DeValue<'b>>) -> Value<'b> {
        Value { source: Source::Written(item.get_ref()), folder: self.folder, trust: self.trust }
    }

    fn written_or(&self, expected: &str) -> Fit<String> {
        match &self.source {
            Source::Variable(text) => Ok((*text).to_owned()),
            Source::Written(DeValue::String(text)) => Ok(text.clone().into_owned()),
            Source::Written(other) => Err(format!("expected {expected}, found {}", describe(other)).into()),
        }
    }
}

/// What kind of value it is, without the value.
fn kind(value: &DeValue<'_>) -> &'static str {
    match value {
        DeValue::String(_) => "a text",
        DeValue::Integer(_) => "a whole number",
        DeValue::Float(_) => "a fraction",
        DeValue::Boolean(_) => "true or false",
        DeValue::Datetime(_) => "a date or time",
        DeValue::Array(_) => "a list",
        DeValue::Table(_) => "a table",
    }
}

/// The value itself where it is short, else what kind of value it is.
fn describe(value: &DeValue<'_>) -> String {
    match value {
        DeValue::String(text) => format!("{text:?}"),
        DeValue::Integer(integer) => integer.to_string(),
        DeValue::Float(float) => float.to_string(),
        DeValue::Boolean(switch) => switch.to_string(),
        other => kind(other).to_owned(),
    }
}
