//! Tables for people: columns as wide as what is in them, colours where there is a terminal.

use std::fmt::Write;

pub(super) use crate::inspect::sentences::span;

/// Between two columns.
const GAP: &str = "  ";

/// How a text stands out.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub(super) enum Tone {
    /// As it is.
    #[default]
    Plain,
    /// A heading.
    Strong,
    /// Of less weight.
    Faint,
    /// All is well.
    Good,
    /// Needs a look.
    Odd,
    /// Trouble.
    Bad,
}

impl Tone {
    fn code(self) -> &'static str {
        match self {
            Tone::Plain => "",
            Tone::Strong => "\x1b[1m",
            Tone::Faint => "\x1b[2m",
            Tone::Good => "\x1b[32m",
            Tone::Odd => "\x1b[33m",
            Tone::Bad => "\x1b[1;31m",
        }
    }
}

/// A line of texts, each in its tone.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub(super) struct Line(Vec<(String, Tone)>);

impl Line {
    pub(super) fn of(text: impl Into<String>, tone: Tone) -> Self {
        Line::default().and(text, tone)
    }

    /// The same with `text` behind it. What could steer a terminal is replaced: it may come from anybody.
    pub(super) fn and(mut self, text: impl Into<String>, tone: Tone) -> Self {
        let text: String = text.into();
        let is_harmless = !text.chars().any(char::is_control);
        let text = if is_harmless { text } else { text.replace(char::is_control, "\u{fffd}") };
        self.0.push((text, tone));
        self
    }

    /// As text, cut off behind `width` characters, with colours if `is_coloured`.
    pub(super) fn text(&self, width: Option<usize>, is_coloured: bool) -> String {
        let mut text = String::new();
        let mut left = width.unwrap_or(usize::MAX);
        for (part, tone) in &self.0 {
            let part: String = part.chars().take(left).collect();
            left -= part.chars().count();
            match tone.code() {
                code if is_coloured && !code.is_empty() => write!(text, "{code}{part}\x1b[0m"),
                _ => write!(text, "{part}"),
            }
            .expect("a text can be written to");
        }
        text.truncate(text.trim_end().len());
        text
    }
}

/// One place in a table.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Cell {
    text: String,
    tone: Tone,
}

/// A cell with `text` in `tone`.
pub(super) fn cell(text: impl ToString, tone: Tone) -> Cell {
    Cell { text: text.to_string(), tone }
}

/// A cell with `text`.
pub(super) fn plain(text: impl ToString) -> Cell {
    cell(text, Tone::Plain)
}

/// Rows under headings. A heading that begins with `>` is one of numbers, which are set to the right. Blanks in a heading
/// keep its column as wide, so that a table which is shown again and again stands still.
pub(super) struct Columns {
    headings: Vec<(&'static str, bool)>,
    rows: Vec<Vec<Cell>>,
}

impl Columns {
    pub(super) fn new(headings: &[&'static str]) -> Self {
        let headings = headings.iter().map(|heading| match heading.strip_prefix('>') {
            Some(heading) => (heading, true),
            None => (*heading, false),
        });
        Columns { headings: headings.collect(), rows: Vec::new() }
    }

    pub(super) fn row(&mut self, cells: impl Into<Vec<Cell>>) {
        self.rows.push(cells.into());
    }

    pub(super) fn is_empty(&self) -> bool {
        self.rows.is_empty()
    }

    /// The headings, then the rows.
    pub(super) fn lines(&self) -> Vec<Line> {
        let widths: Vec<usize> =
            self.headings.iter().enumerate().map(|(at, (heading, _))| self.width(at, heading)).collect();
        let head = self.headings.iter().map(|(heading, _)| cell(heading, Tone::Strong)).collect();
        let rows = std::iter::once(&head).chain(&self.rows).map(|row: &Vec<Cell>| {
            let mut line = Line::default();
            for ((cell, width), (_, is_number)) in row.iter().zip(&widths).zip(&self.headings) {
                let pad = " ".repeat(width.saturating_sub(cell.text.chars().count()));
                let (before, behind) = if *is_number { (&*pad, "") } else { ("", &*pad) };
                line =
                    line.and(before, Tone::Plain).and(&cell.text, cell.tone).and(format!("{behind}{GAP}"), Tone::Plain);
            }
            line
        });
        rows.collect()
    }

    fn width(&self, at: usize, heading: &str) -> usize {
        let cells = self.rows.iter().filter_map(|row| row.get(at)).map(|cell| cell.text.chars().count());
        cells.chain([heading.len()]).max().unwrap_or(0)
    }
}

/// An amount of memory, in the largest unit that it fills.
pub(super) fn size(bytes: u64) -> String {
    const UNITS: [&str; 4] = ["KiB", "MiB", "GiB", "TiB"];
    if bytes < 1024 {
        return format!("{bytes} B");
    }
    let mut value = bytes as f64 / 1024.0;
    let mut units = UNITS.iter();
    let mut unit = units.next().expect("there is one");
    for larger in units {
        // What would be shown as 1024.0 of one is 1.0 of the next.
        if value < 1023.95 {
            break;
        }
        (value, unit) = (value / 1024.0, larger);
    }
    format!("{value:.1} {unit}")
}

/// `-` for what is not known.
pub(super) fn span_or_dash(milliseconds: Option<u64>) -> String {
    milliseconds.map_or_else(|| "-".to_owned(), span)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_size_is_shown_in_the_largest_unit_that_it_fills() {
        let shown = [0, 1023, 1024, 1536, 1048524, 1048525, 8 << 20, 3 << 30, u64::MAX].map(size);
        let expected =
            ["0 B", "1023 B", "1.0 KiB", "1.5 KiB", "1023.9 KiB", "1.0 MiB", "8.0 MiB", "3.0 GiB", "16777216.0 TiB"];
        assert_eq!(shown, expected);
    }

    #[test]
    fn columns_are_as_wide_as_what_is_in_them() {
        let mut columns = Columns::new(&["name", ">n", "note"]);
        columns.row([plain("a"), plain(1000), cell("x", Tone::Bad)]);
        columns.row([plain("größer"), plain(5), plain("")]);
        let lines: Vec<String> = columns.lines().iter().map(|line| line.text(None, false)).collect();
        assert_eq!(lines, ["name       n  note", "a       1000  x", "größer     5"]);
        assert_eq!(columns.lines()[1].text(None, true), "a       1000  \x1b[1;31mx\x1b[0m");
        assert_eq!(columns.lines()[2].text(Some(3), true), "grö");
    }

    #[test]
    fn a_text_from_elsewhere_cannot_steer_the_terminal() {
        assert_eq!(Line::of("a\x1b[2Jb\n", Tone::Plain).text(None, false), "a\u{fffd}[2Jb\u{fffd}");
    }
}
