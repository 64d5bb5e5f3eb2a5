//! What can be seen of a request that cannot be read: who waits for its answer. Pure.
//!
//! A request that is cut off, has `NaN` in it or is too large still says plainly which one it is, most often. Only what stands at its top
//! level counts: an `id` among the arguments is another one.

use super::RequestId;

/// What was seen.
#[derive(Debug, Default, PartialEq, Eq)]
pub(crate) struct Glimpse {
    /// The id, where it is one, and there is no other beside it.
    pub(crate) id: Option<RequestId>,
    /// Whether it says that nobody waits.
    pub(crate) is_quiet: bool,
}

/// Looks through `text`, which should be a JSON object and need not be one.
pub(crate) fn glimpse(text: &[u8]) -> Glimpse {
    let text = text.strip_prefix(b"\xef\xbb\xbf").unwrap_or(text).trim_ascii_start();
    let Some(rest) = text.strip_prefix(b"{") else { return Glimpse::default() };
    let (mut ids, mut is_quiet) = (Vec::new(), false);
    for (name, value) in Members(rest) {
        match name {
            b"id" => ids.push(value),
            b"reply" => is_quiet = value == b"false",
            _ => {}
        }
    }
    ids.dedup();
    let [id] = ids.as_slice() else { return Glimpse { id: None, is_quiet } };
    Glimpse { id: id_of(id), is_quiet }
}

/// What is kept of a text that was too long to be fetched: its two ends, with a mark between them that no JSON has, and how long it was.
struct Cut<'a> {
    start: &'a [u8],
    length: usize,
    end: &'a [u8],
}

/// How many bytes of each end are kept.
pub(crate) const CUT_ENDS: usize = 64 << 10;

impl<'a> Cut<'a> {
    fn read(text: &'a [u8]) -> Option<Self> {
        const MARK: &[u8] = b"\0cut ";
        let rest = text.get(CUT_ENDS..)?.strip_prefix(MARK)?;
        let digits = rest.iter().position(|byte| *byte == 0)?;
        let length = std::str::from_utf8(&rest[..digits]).ok()?.parse().ok()?;
        let end = &rest[digits + 1..];
        (end.len() == CUT_ENDS).then_some(Cut { start: &text[..CUT_ENDS], length, end })
    }
}

/// How long the text was of which `text` is what was kept, if it was too long to be fetched.
pub(crate) fn length_before_cut(text: &[u8]) -> Option<usize> {
    Cut::read(text).map(|cut| cut.length)
}

/// What is kept of `text`, as the scripts that claim cut it.
#[cfg(any(test, fuzzing))]
pub(crate) fn cut(text: &[u8]) -> Vec<u8> {
    let mark = format!("\0cut {}\0", text.len());
    [&text[..CUT_ENDS], mark.as_bytes(), &text[text.len() - CUT_ENDS..]].concat()
}

/// The same as [`glimpse`] for what may be the ends of a longer text.
pub(crate) fn glimpse_of_large(text: &[u8]) -> Glimpse {
    let Some(Cut { start, end, .. }) = Cut::read(text) else { return glimpse(text) };
    let (first, last) = (glimpse(start), glimpse_of_end(end));
    let id = match (first.id, last.id) {
        // Two of them, as anywhere.
        (Some(one), Some(other)) if one != other => None,
        (one, other) => one.or(other),
    };
    Glimpse { id, is_quiet: first.is_quiet || last.is_quiet }
}

/// What the end of an object shows: its members from the first one on behind which it can be read to its last brace.
fn glimpse_of_end(text: &[u8]) -> Glimpse {
    let starts = text.iter().enumerate().filter(|(_, byte)| **byte == b'"').map(|(at, _)| &text[at..]);
    let mut candidates =
        starts.filter(|rest| [b"\"id\"".as_slice(), b"\"reply\""].iter().any(|name| rest.starts_with(name)));
    let seen = candidates.find(|rest| {
        let mut members = Members(rest);
        members.by_ref().for_each(drop);
        members.0.trim_ascii() == b"}"
    });
    seen.map_or_else(Glimpse::default, |rest| glimpse(&[b"{", rest].concat()))
}

/// The id that `value` is: a text, or a number that somebody took for one. What has ten digits may be the number of another request.
fn id_of(value: &[u8]) -> Option<RequestId> {
    let is_number = value.len() < 10 && value.iter().all(u8::is_ascii_digit);
    let text = match value.strip_prefix(b"\"").and_then(|text| text.strip_suffix(b"\"")) {
        Some(text) => text,
        None if is_number => value,
        None => return None,
    };
    RequestId::from_text(std::str::from_utf8(text).ok()?)
}

/// The members of an object whose brace is behind us, as far as they can be told apart.
struct Members<'a>(&'a [u8]);

impl<'a> Iterator for Members<'a> {
    type Item = (&'a [u8], &'a [u8]);

    fn next(&mut self) -> Option<Self::Item> {
        let start = self.0.iter().position(|byte| !byte.is_ascii_whitespace() && *byte != b',')?;
        self.0 = &self.0[start..];
        let quoted = self.take(string(self.0)?)?;
        let name = &quoted[1..quoted.len() - 1];
        self.0 = self.0.trim_ascii_start().strip_prefix(b":")?.trim_ascii_start();
        let value = self.take(value(self.0)?)?;
        Some((name, value.trim_ascii_end()))
    }
}

impl<'a> Members<'a> {
    fn take(&mut self, length: usize) -> Option<&'a [u8]> {
        let (taken, rest) = self.0.split_at_checked(length)?;
        self.0 = rest;
        Some(taken)
    }
}

/// How long the text in quotes is that `text` begins with, quotes included; `None` if it has no end.
fn string(text: &[u8]) -> Option<usize> {
    let mut at = usize::from(text.first() == Some(&b'"'));
    if at == 0 {
        return None;
    }
    loop {
        match text.get(at)? {
            b'"' => return Some(at + 1),
            b'\\' => at += 2,
            _ => at += 1,
        }
    }
}

/// How long the value is that `text` begins with; `None` if it has no end.
fn value(text: &[u8]) -> Option<usize> {
    let (mut at, mut depth) = (0, 0usize);
    loop {
        match text.get(at)? {
            b'"' => at += string(&text[at..])?,
            b'{' | b'[' => {
                depth += 1;
                at += 1;
            }
            b'}' | b']' if depth > 0 => {
                depth -= 1;
                at += 1;
            }
            b',' | b'}' if depth == 0 => return Some(at),
            _ => at += 1,
        }
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn seen(text: &str) -> (Option<String>, bool) {
        let Glimpse { id, is_quiet } = glimpse(text.as_bytes());
        (id.map(|id| id.to_string()), is_quiet)
    }

    #[test]
    fn an_id_that_stands_plainly_in_a_broken_request_is_seen() {
        for text in [
            r#"{"id": "a-1", "func": "echo", "args": {"message": NaN}}"#,
            r#"{"func": "echo", "args": {"message": -Infinity, "id": "other"}, "id" : "a-1" }"#,
            r#"{"id":"a-1","func":"echo","args":{"message":"cut off"#,
            r#"{"args":{"id":"other","x":[{"id":"other"}]},"id":"a-1","func":"e"#,
            r#"{"id":"a-1","func":"echo",}"#,
            "{\"id\":\"a-1\",\"args\":{\"message\":\"a\tb\"}}",
            "\u{feff}{\"id\":\"a-1\",\"func\":\"echo\"}",
            r#"  {"args":"\"id\":\"other\"\\","id":"a-1"}"#,
            r#"{"id":"a-1","x":1,"id":"a-1"}"#,
        ] {
            assert_eq!(seen(text), (Some("a-1".to_owned()), false), "{text}");
        }
        assert_eq!(seen(r#"{"id": 12345, "func": NaN}"#).0.as_deref(), Some("12345"));
        assert_eq!(seen(r#"{"id":"a-1","reply":false,"x":NaN}"#), (Some("a-1".to_owned()), true));
    }

    #[test]
    fn the_id_of_a_text_that_was_cut_is_seen_in_its_ends() {
        let cut = |text: &str| super::cut(text.as_bytes());
        let pad = "x".repeat(200_000);
        let seen = |text: &str| {
            let text = cut(text);
            let Glimpse { id, is_quiet } = glimpse_of_large(&text);
            (id.map(|id| id.to_string()), is_quiet)
        };
        let a = Some("a".to_owned());
        assert_eq!(seen(&format!(r#"{{"id":"a","func":"f","args":{{"pad":"{pad}"}}}}"#)), (a.clone(), false));
        assert_eq!(
            seen(&format!(r#"{{"args":{{"id":"z","pad":"{pad}","id":"y"}},"func":"f","id":"a"}}"#)),
            (a.clone(), false)
        );
        assert_eq!(seen(&format!(r#"{{"args":{{"pad":"{pad}"}},"reply":false,"id":"a"}}"#)), (a.clone(), true));
        assert_eq!(seen(&format!(r#"{{"id":"a","args":{{"pad":"{pad}"}},"reply":false}} "#)), (a, true));
        assert_eq!(seen(&format!(r#"{{"args":{{"pad":"{pad}","id":"y"}},"func":"f"}}"#)), (None, false));
        assert_eq!(seen(&format!(r#"{{"args":["{pad}",{{"id":"y"}}]}}"#)), (None, false));
        assert_eq!(seen(&format!(r#"{{"id":"a","args":{{"pad":"{pad}"}},"id":"b"}}"#)), (None, false));
        assert_eq!(length_before_cut(cut(&pad).as_slice()), Some(200_000));
        assert_eq!(length_before_cut(pad.as_bytes()), None);
        assert_eq!(length_before_cut(b"\0cut 7\0"), None);
    }

    #[test]
    fn nothing_else_is_taken_for_it() {
        for text in [
            "",
            "id",
            r#"["id","a-1"]"#,
            r#"{"args":{"id":"a-1"}}"#,
            r#"{"args":{"id":"a-1"},"func":NaN"#,
            r#"{"x":"\"id\":\"a-1\""}"#,
            r#"{"id":"a-1","id":"a-2"}"#,
            r#"{"id":"a 1"}"#,
            r#"{"id":0000000001,"x":1}"#,
            r#"{"id":{"id":"a-1"}}"#,
            r#"{"id":"a-1"#,
            r#"{id:"a-1"}"#,
        ] {
            assert_eq!(seen(text).0, None, "{text}");
        }
    }

    proptest! {
        #[test]
        fn whatever_comes_is_looked_through_and_what_is_json_says_the_same(text in r#"[{}\[\]",:\\ a-z0-9"id]{0,60}"#) {
            let found = glimpse(text.as_bytes()).id;
            if let Ok(serde_json::Value::Object(object)) = serde_json::from_str(&text)
                && let Some(serde_json::Value::String(id)) = object.get("id")
                && let Some(found) = found
            {
                prop_assert_eq!(found.to_string(), id.as_str());
            }
        }
    }
}
