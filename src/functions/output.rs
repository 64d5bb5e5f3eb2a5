//! What comes back from outside the process: bytes to values, and to texts for people.

use std::collections::VecDeque;
use std::io;
use std::process::ExitStatus;

use serde_json::Value;

/// The value that `bytes` stand for: JSON where they are JSON, else text; nothing at all is `null`.
pub(super) fn value_of(bytes: &[u8]) -> Value {
    if bytes.is_empty() {
        return Value::Null;
    }
    serde_json::from_slice(bytes).unwrap_or_else(|_| Value::String(String::from_utf8_lossy(bytes).into_owned()))
}

/// `bytes` without one line break at their end.
pub(super) fn without_line_break(bytes: &[u8]) -> &[u8] {
    let line = bytes.strip_suffix(b"\n").unwrap_or(bytes);
    if line.len() < bytes.len() { line.strip_suffix(b"\r").unwrap_or(line) } else { line }
}

/// The first `characters` of `bytes` on one line, for an error text.
pub(super) fn excerpt(bytes: &[u8], characters: usize) -> String {
    // A character has four bytes at most. Nothing behind them is looked at: an answer can be long.
    let start = String::from_utf8_lossy(&bytes[..bytes.len().min(4 * characters)]);
    let line = start.split(|c: char| c.is_whitespace() || c.is_control()).filter(|word| !word.is_empty());
    line.collect::<Vec<_>>().join(" ").chars().take(characters).collect()
}

/// A number of bytes as people say it.
pub(crate) fn size(bytes: usize) -> String {
    const MIB: usize = 1 << 20;
    const KIB: usize = 1 << 10;
    match bytes {
        _ if bytes >= MIB && bytes.is_multiple_of(MIB) => format!("{} MiB", bytes / MIB),
        _ if bytes >= KIB && bytes.is_multiple_of(KIB) => format!("{} KiB", bytes / KIB),
        1 => "1 byte".to_owned(),
        _ => format!("{bytes} bytes"),
    }
}

/// An error of the operating system without its number.
pub(super) fn plain(error: &io::Error) -> String {
    let text = error.to_string();
    text.split(" (os error").next().unwrap_or_default().to_owned()
}

/// How a process ended: `exit status 3`, `signal 9 (SIGKILL)`.
pub(super) fn ending(status: ExitStatus) -> String {
    status.to_string().replacen(": ", " ", 1)
}

/// Keeps the end of a text that may be long.
#[derive(Debug)]
pub(super) struct Tail {
    bytes: VecDeque<u8>,
    most: usize,
    is_cut: bool,
}

impl Default for Tail {
    fn default() -> Self {
        Tail::of(Self::LENGTH)
    }
}

impl Tail {
    /// How much of the end is kept where nothing else is said.
    const LENGTH: usize = 2048;

    /// One that keeps `most` bytes.
    pub(super) fn of(most: usize) -> Self {
        Tail { bytes: VecDeque::new(), most, is_cut: false }
    }

    /// Adds `bytes` at the end.
    pub(super) fn push(&mut self, bytes: &[u8]) {
        let excess = (self.bytes.len() + bytes.len()).saturating_sub(self.most);
        self.is_cut |= excess > 0;
        self.bytes.drain(..excess.min(self.bytes.len()));
        self.bytes.extend(&bytes[bytes.len().saturating_sub(self.most)..]);
    }

    /// The text without white space around it; from the start of a line, where it had to be cut and has more than one.
    pub(super) fn text(mut self) -> String {
        let text = String::from_utf8_lossy(self.bytes.make_contiguous());
        let text = text.trim();
        let whole_lines = text.split_once('\n').filter(|_| self.is_cut).map(|(_, rest)| rest);
        whole_lines.unwrap_or(text).to_owned()
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn json_is_a_value_and_all_else_is_text() {
        assert_eq!(value_of(b" {\"a\": [1]} "), json!({"a": [1]}));
        assert_eq!(value_of(b"3"), json!(3));
        assert_eq!(value_of(b"3 apples"), json!("3 apples"));
        assert_eq!(value_of(b"caf\xe9"), json!("caf\u{fffd}"));
        assert_eq!(value_of(b""), Value::Null);
        assert_eq!(value_of("[".repeat(100_000).as_bytes()), json!("[".repeat(100_000)));
    }

    #[test]
    fn only_the_last_line_break_is_taken_away() {
        assert_eq!(without_line_break(b"a\n\n"), b"a\n");
        assert_eq!(without_line_break(b"a\r\n"), b"a");
        assert_eq!(without_line_break(b"a\r"), b"a\r");
    }

    #[test]
    fn an_excerpt_is_short_and_on_one_line() {
        assert_eq!(excerpt(b"  a\n\tb\x1b[31m ", 80), "a b [31m");
        assert_eq!(excerpt("ä".repeat(500).as_bytes(), 80), "ä".repeat(80));
    }

    #[test]
    fn sizes_are_said_in_the_largest_unit_that_fits() {
        assert_eq!(size(1 << 20), "1 MiB");
        assert_eq!(size(1536), "1536 bytes");
        assert_eq!(size(64 << 10), "64 KiB");
        assert_eq!(size(0), "0 bytes");
    }

    #[test]
    fn a_tail_keeps_whole_lines_of_the_end() {
        let mut tail = Tail::default();
        for number in 0..1000 {
            tail.push(format!("line {number}\n").as_bytes());
        }
        let text = tail.text();
        assert!(text.ends_with("\nline 999"));
        assert!(text.starts_with("line ") && text.len() <= Tail::LENGTH, "{text}");
    }
}
