//! What comes back from outside the process: bytes to values, and to texts for people.

use std::borrow::Cow;
use std::collections::VecDeque;
use std::io;
use std::process::ExitStatus;
use std::sync::{Arc, Mutex, MutexGuard};

use serde_json::value::RawValue;

use crate::lock::Unpoisoned;
use crate::protocol::Json;

/// The value that `bytes` stand for: JSON where they are JSON, else text; nothing at all is `null`. An error says what is
/// wrong with what was plainly meant to be JSON, but cannot be passed on as such.
pub(super) fn value_of(bytes: &[u8]) -> Result<Json, String> {
    // The mark that some editors put at the start of a file is no part of the value (RFC 8259, 8.1).
    let bytes = bytes.strip_prefix(b"\xef\xbb\xbf").unwrap_or(bytes);
    if bytes.is_empty() {
        return Ok(Json::default());
    }
    let text = String::from_utf8_lossy(bytes);
    match serde_json::from_str::<&RawValue>(&text) {
        Ok(_) if matches!(text, Cow::Owned(_)) => Err("it is JSON, but not UTF-8".to_owned()),
        Ok(raw) => Json::from_raw(raw).map_err(|flaw| flaw.to_string()),
        Err(_) => match unknown_number(&text) {
            Some(word) => Err(format!("{word} is no number that JSON has")),
            None => Ok(text.into()),
        },
    }
}

/// The first number that JSON does not have, where `text` is JSON but for such.
fn unknown_number(text: &str) -> Option<&'static str> {
    if !text.trim_start().starts_with(['{', '[']) {
        return None;
    }
    // What many languages write of their own accord.
    let words = ["-Infinity", "Infinity", "NaN"];
    let found = words.into_iter().find(|word| text.contains(word))?;
    let without = words.iter().fold(text.to_owned(), |text, word| text.replace(word, "0"));
    serde_json::from_str::<&RawValue>(&without).ok().map(|_| found)
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
    pub(super) fn text(&mut self) -> String {
        let text = String::from_utf8_lossy(self.bytes.make_contiguous());
        let text = text.trim();
        let whole_lines = text.split_once('\n').filter(|_| self.is_cut).map(|(_, rest)| rest);
        whole_lines.unwrap_or(text).to_owned()
    }
}

/// What a job prints, for itself and for whoever ends it from outside.
#[derive(Debug, Clone)]
pub(crate) struct JobLog(Arc<Mutex<Tail>>);

impl JobLog {
    /// One that keeps `most` bytes.
    pub(super) fn of(most: usize) -> Self {
        JobLog(Arc::new(Mutex::new(Tail::of(most))))
    }

    pub(super) fn push(&self, bytes: &[u8]) {
        self.tail().push(bytes);
    }

    /// What it has printed so far.
    pub(super) fn text(&self) -> String {
        self.tail().text()
    }

    fn tail(&self) -> MutexGuard<'_, Tail> {
        self.0.lock().unpoisoned()
    }
}

#[cfg(test)]
mod tests {
    use super::super::testing::json;
    use super::*;

    #[test]
    fn json_is_a_value_and_all_else_is_text() {
        assert_eq!(value_of(b" {\"a\": [1]} "), Ok(json!({"a": [1]})));
        assert_eq!(value_of(b"3"), Ok(json!(3)));
        assert_eq!(value_of(b"3 apples"), Ok(json!("3 apples")));
        assert_eq!(value_of(b"caf\xe9"), Ok(json!("caf\u{fffd}")));
        assert_eq!(value_of(b""), Ok(json!(null)));
        assert_eq!(value_of("[".repeat(100_000).as_bytes()), Ok(json!("[".repeat(100_000))));
    }

    #[test]
    fn what_was_meant_to_be_json_but_cannot_be_passed_on_is_told() {
        let reason = |bytes: &[u8]| value_of(bytes).expect_err("it is no value");
        assert_eq!(reason(br#"{"a": [NaN, -Infinity]}"#), "-Infinity is no number that JSON has");
        assert_eq!(reason(br#"[NaN]"#), "NaN is no number that JSON has");
        assert_eq!(reason(br#"{"name": "\ud83d"}"#), "\\ud83d is half a character, without its other half");
        assert_eq!(reason(b"{\"name\": \"caf\xe9\"}"), "it is JSON, but not UTF-8");
        let deep = "[".repeat(128) + &"]".repeat(128);
        assert_eq!(reason(deep.as_bytes()), "too deep: it has more than 127 levels");
        assert_eq!(value_of(b"[INFO] NaN values: 3"), Ok(json!("[INFO] NaN values: 3")));
        assert_eq!(value_of(b"NaN"), Ok(json!("NaN")));
    }

    #[test]
    fn digits_and_the_order_of_names_stay_and_a_byte_order_mark_does_not_count() {
        let text = r#"{"b":1e400,"a":[12345678901234567890123,117.63331139400017,1.0,-0]}"#;
        assert_eq!(value_of(text.as_bytes()).expect("it is a value").as_json(), text);
        let marked = [b"\xef\xbb\xbf", text.as_bytes()].concat();
        assert_eq!(value_of(&marked).expect("it is a value").as_json(), text);
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
