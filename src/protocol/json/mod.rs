//! JSON values that come out as they went in: digit for digit, and in the order of their names.
//!
//! A value is kept as its text, which serde_json has found to be JSON, and which is read only where somebody has to look
//! inside. Reading it into a tree would lose the digits of numbers that no `f64` and no 64 bits can hold.

mod canonical;
mod object;
mod pack;
mod text;

use std::borrow::Cow;
use std::fmt;

use serde::de::{DeserializeOwned, DeserializeSeed, Error};
use serde::{Deserialize, Deserializer, Serialize};
use serde_json::Value;
use serde_json::value::RawValue;

pub use object::Object;
pub(super) use object::{Given, deserialize_given};
pub use pack::{NUMBER_EXTENSION, from_msgpack, to_msgpack};
pub use text::Flaw;

/// So many levels deep a value may be: what reads it, here and elsewhere, goes down level by level.
pub const MAX_DEPTH: usize = 127;

/// One JSON value, as it was written but for the white space between its parts.
///
/// It compares as JSON does: the order of names makes no difference. Two numbers are the same if they are written the same.
#[derive(Clone)]
pub struct Json(Box<RawValue>);

impl Json {
    /// What `value` is in JSON.
    pub fn of<T: Serialize + ?Sized>(value: &T) -> serde_json::Result<Self> {
        Self::within(serde_json::value::to_raw_value(value)?, MAX_DEPTH).map_err(Error::custom)
    }

    /// The value that `text` is.
    pub fn read(text: &str) -> serde_json::Result<Self> {
        serde_json::from_str(text)
    }

    /// The value that `raw` is.
    pub fn from_raw(raw: &RawValue) -> Result<Self, Flaw> {
        Self::within(raw.to_owned(), MAX_DEPTH)
    }

    /// `raw` without white space; an error where it is deeper than `depth` levels, or has half a character in it.
    fn within(raw: Box<RawValue>, depth: usize) -> Result<Self, Flaw> {
        match text::tidy(raw.get(), depth)? {
            Cow::Borrowed(_) => Ok(Json(raw)),
            Cow::Owned(text) => Ok(Json(valid(text))),
        }
    }

    /// It as JSON.
    pub fn as_json(&self) -> &str {
        self.0.get()
    }

    /// What it is as a `T`.
    pub fn to<T: DeserializeOwned>(&self) -> serde_json::Result<T> {
        serde_json::from_str(self.as_json())
    }

    /// The text that it is, if it is one.
    pub fn as_text(&self) -> Option<String> {
        if self.as_json().starts_with('"') { self.to().ok() } else { None }
    }

    /// For people, and for programs that know no JSON: a text as it is, anything else as JSON.
    pub fn to_text(&self) -> String {
        self.as_text().unwrap_or_else(|| self.to_string())
    }

    /// Whether it is `null`.
    pub fn is_null(&self) -> bool {
        self.as_json() == "null"
    }

    /// Whether it is an object.
    pub fn is_object(&self) -> bool {
        self.as_json().starts_with('{')
    }

    /// The same text for all that are the same value: names stand in order. What differs in a digit differs here.
    pub fn canonical(&self) -> Cow<'_, str> {
        canonical::canonical(self.as_json())
    }

    /// It on several lines, for people.
    pub fn to_pretty(&self) -> String {
        text::pretty(self.as_json())
    }
}

/// `text`, which is JSON, as it was made here out of what is.
fn valid(text: String) -> Box<RawValue> {
    RawValue::from_string(text).expect("what is made of JSON is JSON")
}

impl Default for Json {
    /// `null`.
    fn default() -> Self {
        Json(Box::default())
    }
}

impl<T: Into<Value>> From<T> for Json {
    fn from(value: T) -> Self {
        Json(valid(value.into().to_string()))
    }
}

impl PartialEq for Json {
    fn eq(&self, other: &Self) -> bool {
        self.as_json() == other.as_json() || self.canonical() == other.canonical()
    }
}

impl Eq for Json {}

impl<T: Clone + Into<Value>> PartialEq<T> for Json {
    fn eq(&self, other: &T) -> bool {
        let other = Json::from(other.clone());
        *self == other
    }
}

impl fmt::Display for Json {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.as_json())
    }
}

impl fmt::Debug for Json {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.as_json())
    }
}

impl Serialize for Json {
    fn serialize<S: serde::Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        self.0.serialize(serializer)
    }
}

impl<'de> Deserialize<'de> for Json {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        Within(MAX_DEPTH).deserialize(deserializer)
    }
}

/// Reads a [`Json`] that may be so many levels deep.
#[derive(Clone, Copy)]
struct Within(usize);

impl<'de> DeserializeSeed<'de> for Within {
    type Value = Json;

    fn deserialize<D: Deserializer<'de>>(self, deserializer: D) -> Result<Json, D::Error> {
        Json::within(Box::deserialize(deserializer)?, self.0).map_err(D::Error::custom)
    }
}

#[cfg(test)]
pub(in crate::protocol) mod tests;
