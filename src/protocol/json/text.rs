//! Looks at the text of a value that serde_json has found to be JSON. It panics at no other text, but makes no sense of it.

use std::borrow::Cow;
use std::fmt;

/// Why what is JSON by its grammar is no value that can be passed on.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Flaw {
    /// It has more levels than this.
    TooDeep(usize),
    /// A text in it has this half of a surrogate pair without the other: that is no character.
    HalfCharacter(String),
}

impl fmt::Display for Flaw {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Flaw::TooDeep(most) => write!(f, "too deep: it has more than {most} levels"),
            Flaw::HalfCharacter(half) => write!(f, "{half} is half a character, without its other half"),
        }
    }
}

impl std::error::Error for Flaw {}

/// `text` without white space between its parts.
pub(super) fn tidy(text: &str, depth: usize) -> Result<Cow<'_, str>, Flaw> {
    let bytes = text.as_bytes();
    let (mut level, mut at, mut copied, mut tidied) = (0_usize, 0, 0, String::new());
    while let Some(&byte) = bytes.get(at) {
        match byte {
            b'"' => {
                at = checked_end(text, at)?;
                continue;
            }
            b'{' | b'[' if level == depth => return Err(Flaw::TooDeep(depth)),
            b'{' | b'[' => level += 1,
            b'}' | b']' => level = level.saturating_sub(1),
            b' ' | b'\n' | b'\r' | b'\t' => {
                if tidied.capacity() == 0 {
                    tidied.reserve(text.len());
                }
                tidied.push_str(&text[copied..at]);
                copied = at + 1;
            }
            _ => {}
        }
        at += 1;
    }
    if copied == 0 {
        return Ok(Cow::Borrowed(text));
    }
    tidied.push_str(&text[copied..]);
    Ok(Cow::Owned(tidied))
}

/// Where the text ends that begins with the quotation mark at `start`, behind the other mark.
pub(super) fn end_of_text(json: &str, start: usize) -> usize {
    let mut at = start + 1;
    while let Some((found, is_end)) = mark(json, at) {
        if is_end {
            return found + 1;
        }
        at = found + 2;
    }
    json.len()
}

/// The next quotation mark or backslash from `at` on, and whether it is the former.
fn mark(json: &str, at: usize) -> Option<(usize, bool)> {
    let rest = json.as_bytes().get(at..)?;
    let found = memchr::memchr2(b'"', b'\\', rest)?;
    Some((at + found, rest[found] == b'"'))
}

/// The same; an error where half a character stands in it.
fn checked_end(json: &str, start: usize) -> Result<usize, Flaw> {
    let mut at = start + 1;
    while let Some((found, is_end)) = mark(json, at) {
        if is_end {
            return Ok(found + 1);
        }
        at = found + length_of_escape(json, found)?;
    }
    Ok(json.len())
}

/// How long the escape at `at` is; both halves of a character are one.
fn length_of_escape(json: &str, at: usize) -> Result<usize, Flaw> {
    match unit(json, at) {
        None => Ok(2),
        Some(0xd800..=0xdbff) if matches!(unit(json, at + 6), Some(0xdc00..=0xdfff)) => Ok(12),
        Some(0xd800..=0xdfff) => Err(Flaw::HalfCharacter(json[at..at + 6].to_owned())),
        Some(_) => Ok(6),
    }
}

/// What the escape `\uXXXX` at `at` stands for, if there is one.
fn unit(json: &str, at: usize) -> Option<u16> {
    let digits = json.get(at..at + 6)?.strip_prefix("\\u")?;
    u16::from_str_radix(digits, 16).ok()
}

/// The end of the part of `json` that begins at `start`: of a text, a number or a word.
pub(super) fn end_of_scalar(json: &str, start: usize) -> usize {
    if json.as_bytes().get(start) == Some(&b'"') {
        return end_of_text(json, start);
    }
    let is_end = |byte: &u8| matches!(byte, b',' | b':' | b'}' | b']');
    json.as_bytes()[start..].iter().position(is_end).map_or(json.len(), |length| start + length)
}

/// `json`, which has no white space, on several lines.
pub(super) fn pretty(json: &str) -> String {
    let (mut at, mut level, mut out) = (0, 0_usize, String::with_capacity(json.len() * 2));
    let new_line = |out: &mut String, level: usize| {
        out.push('\n');
        out.extend(std::iter::repeat_n("  ", level));
    };
    while let Some(&byte) = json.as_bytes().get(at) {
        let end = if b"{}[],:".contains(&byte) { at + 1 } else { end_of_scalar(json, at) };
        let is_empty = matches!(json.as_bytes().get(at + 1), Some(b'}' | b']'));
        if matches!(byte, b'}' | b']') {
            level = level.saturating_sub(1);
            new_line(&mut out, level);
        }
        match byte {
            b'{' | b'[' if is_empty => {
                out.push_str(&json[at..at + 2]);
                at += 2;
                continue;
            }
            _ => out.push_str(&json[at..end]),
        }
        match byte {
            b'{' | b'[' => {
                level += 1;
                new_line(&mut out, level);
            }
            b',' => new_line(&mut out, level),
            b':' => out.push(' '),
            _ => {}
        }
        at = end;
    }
    out
}
