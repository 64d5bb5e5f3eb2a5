//! One text for all ways to write the same value, for keys that are made of values.

use std::borrow::Cow;
use std::ops::Range;

use super::text::end_of_scalar;

/// `json`, which has no white space, with the names of each object in order, and texts without needless escapes.
pub(super) fn canonical(json: &str) -> Cow<'_, str> {
    if !json.contains(['{', '\\']) {
        return Cow::Borrowed(json);
    }
    let mut writer = Writer { json, at: 0, out: String::with_capacity(json.len()) };
    writer.value();
    Cow::Owned(writer.out)
}

struct Writer<'a> {
    json: &'a str,
    at: usize,
    out: String,
}

impl Writer<'_> {
    fn value(&mut self) {
        match self.peek() {
            Some(b'{') => self.object(),
            Some(b'[') => self.array(),
            _ => self.scalar(),
        }
    }

    fn scalar(&mut self) {
        let end = end_of_scalar(self.json, self.at);
        let scalar = &self.json[self.at..end];
        if !scalar.contains('\\') {
            return self.copy(end);
        }
        // One client escapes what another does not.
        let text: String = serde_json::from_str(scalar).unwrap_or_default();
        self.out.push_str(&serde_json::to_string(&text).expect("a text is JSON"));
        self.at = end;
    }

    fn array(&mut self) {
        self.copy(self.at + 1);
        while !matches!(self.peek(), Some(b']') | None) {
            self.value();
            if self.peek() == Some(b',') {
                self.copy(self.at + 1);
            }
        }
        self.copy(self.at + 1);
    }

    fn object(&mut self) {
        self.copy(self.at + 1);
        let start = self.out.len();
        // Where the name of each member is, and where its value ends.
        let mut members: Vec<(Range<usize>, usize)> = Vec::new();
        while self.peek() == Some(b'"') {
            let name = self.out.len();
            self.scalar();
            let name = name..self.out.len();
            self.copy(self.at + 1);
            self.value();
            members.push((name, self.out.len()));
            if self.peek() == Some(b',') {
                self.copy(self.at + 1);
            }
        }
        let name = |(name, _): &(Range<usize>, usize)| &self.out[name.clone()];
        if !members.is_sorted_by_key(name) {
            // A stable sort: which of two with the same name stands last can make a difference to who reads them.
            members.sort_by_key(name);
            let sorted: Vec<&str> = members.iter().map(|(name, end)| &self.out[name.start..*end]).collect();
            let sorted = sorted.join(",");
            self.out.truncate(start);
            self.out.push_str(&sorted);
        }
        self.copy(self.at + 1);
    }

    fn peek(&self) -> Option<u8> {
        self.json.as_bytes().get(self.at).copied()
    }

    fn copy(&mut self, end: usize) {
        let end = end.min(self.json.len());
        self.out.push_str(&self.json[self.at..end]);
        self.at = end;
    }
}
