//! What the end of a request does besides its answer: what rooms put, requests that follow. All of it is done in the step that settles the
//! request, or nothing is.

use std::ops::Deref;

use serde::{Deserialize, Serialize};

use crate::protocol::{Json, RequestId};

/// What one settlement does besides. Of several puts and sends, each is done after the one before it.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Effects {
    /// An entry for the dead list, as JSON.
    pub dead: Option<Box<str>>,
    /// What rooms keep.
    pub put: Vec<Put>,
    /// The requests that follow.
    pub send: Vec<Sending>,
}

impl Effects {
    /// One settlement has no more sends than this; a room that has more goes on with them in the request that it sends last.
    pub const MOST_SENDS: usize = 256;

    /// One settlement puts no more bytes than this.
    pub const MOST_BYTES: usize = 1 << 20;

    /// Whether there are none.
    pub fn is_empty(&self) -> bool {
        self.dead.is_none() && self.put.is_empty() && self.send.is_empty()
    }

    /// How many bytes they have.
    pub(crate) fn size(&self) -> usize {
        let of_field = |field: &Field| field.name.len() + field.value.as_deref().map_or(0, <[u8]>::len);
        let put: usize = self.put.iter().flat_map(|put| &put.fields).map(of_field).sum();
        put + self.send.iter().map(|sending| sending.element.len()).sum::<usize>()
    }

    /// Why they are too many for one settlement, if they are.
    pub fn excess(&self) -> Option<String> {
        let (sends, bytes) = (self.send.len(), self.size());
        if sends > Self::MOST_SENDS {
            return Some(format!("{sends} requests follow on one call, at most {} may", Self::MOST_SENDS));
        }
        (bytes > Self::MOST_BYTES).then(|| format!("one call keeps {bytes} bytes, at most {} may be", Self::MOST_BYTES))
    }

    /// Adds those of `more`; a letter for the dead list that is there stays.
    pub fn add(&mut self, more: Effects) {
        self.dead = self.dead.take().or(more.dead);
        self.put.extend(more.put);
        self.send.extend(more.send);
    }
}

/// A request that is sent.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Sending {
    /// Its id, which stands in the element as well.
    pub id: RequestId,
    /// The request, as it stands in a queue.
    pub element: Box<[u8]>,
    /// Where it goes.
    pub to: To,
    /// The room that has sent it, where that is put on record: whoever claims it can ask for that.
    pub room: Option<&'static str>,
}

/// Where a request goes that is sent.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum To {
    /// To this daemon.
    Here,
    /// Into the further queue of this name, or into the usual one.
    Queue(Option<Box<str>>),
    /// It waits until it is due.
    Due {
        /// When, in milliseconds since 1970.
        at: u64,
        /// What it replaces if that still waits, and what replaces it; `None`: nothing does.
        name: Option<Box<str>>,
    },
}

/// A key of a room, as it stands behind the prefix of all keys: `CRON-RUNS-backup`. Its name is the room's business.
#[derive(Debug, Clone, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(transparent)]
pub struct StoreKey(Box<str>);

impl StoreKey {
    /// The key called `name`.
    pub fn new(name: impl Into<Box<str>>) -> Self {
        StoreKey(name.into())
    }

    /// Its name, without the prefix.
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

/// What stands in a field: any bytes. As JSON it is the text that they are, or `{"hex": "..."}`.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(into = "Written", try_from = "Written")]
pub struct FieldValue(Box<[u8]>);

impl FieldValue {
    /// The text that it is; `None` if it is none.
    pub fn as_text(&self) -> Option<&str> {
        std::str::from_utf8(&self.0).ok()
    }
}

impl Deref for FieldValue {
    type Target = [u8];

    fn deref(&self) -> &[u8] {
        &self.0
    }
}

impl From<Vec<u8>> for FieldValue {
    fn from(bytes: Vec<u8>) -> Self {
        FieldValue(bytes.into())
    }
}

impl From<String> for FieldValue {
    fn from(text: String) -> Self {
        FieldValue(text.into_bytes().into())
    }
}

impl From<&str> for FieldValue {
    fn from(text: &str) -> Self {
        FieldValue(text.as_bytes().into())
    }
}

/// How a value is written as JSON.
#[derive(Serialize, Deserialize)]
#[serde(untagged)]
enum Written {
    Text(String),
    Bytes { hex: String },
}

impl From<FieldValue> for Written {
    fn from(FieldValue(bytes): FieldValue) -> Self {
        String::from_utf8(bytes.into()).map_or_else(
            |error| Written::Bytes { hex: error.as_bytes().iter().map(|byte| format!("{byte:02x}")).collect() },
            Written::Text,
        )
    }
}

impl TryFrom<Written> for FieldValue {
    type Error = &'static str;

    fn try_from(written: Written) -> Result<Self, Self::Error> {
        let hex = match written {
            Written::Text(text) => return Ok(text.into()),
            Written::Bytes { hex } => hex,
        };
        let byte = |pair: &[u8]| {
            let digits =
                std::str::from_utf8(pair).ok().filter(|pair| pair.bytes().all(|digit| digit.is_ascii_hexdigit()))?;
            u8::from_str_radix(digits, 16).ok()
        };
        let bytes = hex.as_bytes().chunks(2).map(|pair| byte(pair).filter(|_| pair.len() == 2));
        bytes.collect::<Option<Vec<u8>>>().map(FieldValue::from).ok_or("hex is two digits for each byte")
    }
}

/// Fields that are set or taken away under one key, all or none of them.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Put {
    /// Under which key.
    pub key: StoreKey,
    /// Which fields.
    pub fields: Vec<Field>,
    /// Otherwise nothing is done.
    pub only_if: OnlyIf,
}

impl Put {
    /// Sets one field, whatever is there.
    pub fn one(key: StoreKey, field: impl Into<Box<str>>, value: impl Into<FieldValue>) -> Self {
        let field = Field { name: field.into(), value: Some(value.into()) };
        Put { key, fields: vec![field], only_if: OnlyIf::Always }
    }

    /// Takes one field away.
    pub fn none(key: StoreKey, field: impl Into<Box<str>>) -> Self {
        Put { key, fields: vec![Field { name: field.into(), value: None }], only_if: OnlyIf::Always }
    }

    /// The same, where `only_if` holds.
    pub fn only_if(self, only_if: OnlyIf) -> Self {
        Put { only_if, ..self }
    }
}

/// What a field becomes.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Field {
    /// The field.
    pub name: Box<str>,
    /// Its value; `None`: it is taken away.
    pub value: Option<FieldValue>,
}

/// When a [`Put`] is done.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub enum OnlyIf {
    /// Always.
    Always,
    /// This field is there.
    Exists(Box<str>),
    /// This field has this value; `None`: it is not there.
    Is(Box<str>, Option<FieldValue>),
}

/// What a function gives that has not failed.
#[derive(Debug, Clone, PartialEq)]
pub struct Output {
    /// Its value.
    pub value: Json,
    /// What is done besides, in the step that puts its verdict on record.
    pub effects: Effects,
}

impl From<Json> for Output {
    fn from(value: Json) -> Self {
        Output { value, effects: Effects::default() }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_value_is_written_as_the_text_that_it_is_or_byte_by_byte_and_read_as_it_was() {
        let written = [(&b"a \"b\""[..], r#""a \"b\"""#), (&[0xff, 0x00, 0x1e], r#"{"hex":"ff001e"}"#), (b"", r#""""#)];
        for (bytes, json) in written {
            let value = FieldValue::from(bytes.to_vec());
            assert_eq!(serde_json::to_string(&value).expect("it is JSON"), json);
            assert_eq!(serde_json::from_str::<FieldValue>(json).expect("it is a value"), value);
        }
        for wrong in ["f", "+1", "0g", "é"] {
            let json = format!(r#"{{"hex":"{wrong}"}}"#);
            assert!(serde_json::from_str::<FieldValue>(&json).is_err(), "{json}");
        }
    }
}
