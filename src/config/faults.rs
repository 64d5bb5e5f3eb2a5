//! What can be wrong with a configuration, in words for an operator: one line for each fault, all of them at once.

use std::fmt;
use std::path::PathBuf;

/// One thing that is wrong, as `file:line:column: key: what, why`.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
pub struct Fault {
    /// The file or the variable that has it.
    pub place: Place,
    /// Where in the file, if it is at one place.
    pub position: Option<Position>,
    /// The key and what is wrong with it.
    pub message: String,
}

/// Where a setting can come from.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
pub enum Place {
    /// A configuration file.
    File(PathBuf),
    /// A variable of the environment.
    Variable(String),
}

/// A place in a text.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub struct Position {
    /// Counted from 1.
    pub line: usize,
    /// Counted from 1, in characters.
    pub column: usize,
}

impl Position {
    /// The position of the byte at `offset` in `text`; an offset behind the end is the end.
    pub(super) fn of(offset: usize, text: &str) -> Self {
        let before = &text[..text.floor_char_boundary(offset)];
        let line_start = before.rfind('\n').map_or(0, |newline| newline + 1);
        Position { line: 1 + before.matches('\n').count(), column: 1 + before[line_start..].chars().count() }
    }
}

impl fmt::Display for Position {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}:{}", self.line, self.column)
    }
}

impl fmt::Display for Place {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Place::File(path) => write!(f, "{}", path.display()),
            Place::Variable(name) => f.write_str(name),
        }
    }
}

impl fmt::Display for Fault {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}", self.place)?;
        if let Some(position) = self.position {
            write!(f, ":{position}")?;
        }
        write!(f, ": {}", self.message)
    }
}

/// All that is wrong with a configuration; never empty.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Faults(Vec<Fault>);

impl Faults {
    /// `faults` in the order of the file, if there are any.
    pub(super) fn unless_empty(mut faults: Vec<Fault>) -> Result<(), Self> {
        faults.sort();
        if faults.is_empty() { Ok(()) } else { Err(Faults(faults)) }
    }

    /// Each of them, in the order of the file.
    pub fn iter(&self) -> std::slice::Iter<'_, Fault> {
        self.0.iter()
    }
}

impl From<Fault> for Faults {
    fn from(fault: Fault) -> Self {
        Faults(vec![fault])
    }
}

impl IntoIterator for Faults {
    type Item = Fault;
    type IntoIter = std::vec::IntoIter<Fault>;

    fn into_iter(self) -> Self::IntoIter {
        self.0.into_iter()
    }
}

impl<'a> IntoIterator for &'a Faults {
    type Item = &'a Fault;
    type IntoIter = std::slice::Iter<'a, Fault>;

    fn into_iter(self) -> Self::IntoIter {
        self.iter()
    }
}

/// One line for each, without a line break at the end.
impl fmt::Display for Faults {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for (index, fault) in self.0.iter().enumerate() {
            let line_break = if index == 0 { "" } else { "\n" };
            write!(f, "{line_break}{fault}")?;
        }
        Ok(())
    }
}

impl std::error::Error for Faults {}

#[cfg(test)]
mod tests {
    use super::*;

    #[track_caller]
    fn check(text: &str, marked: &str, line: usize, column: usize) {
        let offset = text.find(marked).expect("the mark is in the text");
        assert_eq!(Position::of(offset, text), Position { line, column });
    }

    #[test]
    fn positions_count_from_one_and_columns_in_characters() {
        check("a", "a", 1, 1);
        check("a\nb = c", "c", 2, 5);
        check("a\r\nb = c", "c", 2, 5);
        check("\n\n\"grüße\" = c", "c", 3, 11);
    }

    #[test]
    fn an_offset_at_or_behind_the_end_is_the_end() {
        assert_eq!(Position::of(2, "a\n"), Position { line: 2, column: 1 });
        assert_eq!(Position::of(99, "abc"), Position { line: 1, column: 4 });
        assert_eq!(Position::of(0, ""), Position { line: 1, column: 1 });
    }

    #[test]
    fn a_fault_is_one_line_that_names_the_place() {
        let position = Some(Position { line: 3, column: 1 });
        let in_file = Fault { place: Place::File("cerbas.toml".into()), position, message: "a: b".to_owned() };
        let in_variable =
            Fault { place: Place::Variable("CERBAS_REDIS_URL".to_owned()), position: None, message: "c".to_owned() };
        let faults = Faults::unless_empty(vec![in_variable, in_file]).expect_err("there are two");
        assert_eq!(faults.to_string(), "cerbas.toml:3:1: a: b\nCERBAS_REDIS_URL: c");
    }
}
