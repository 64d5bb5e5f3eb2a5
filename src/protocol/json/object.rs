//! An object whose names stay in their order.

use std::borrow::Cow;
use std::fmt;

use serde::de::{DeserializeOwned, Error, IgnoredAny, MapAccess, SeqAccess, Visitor};
use serde::{Deserialize, Deserializer, Serialize, Serializer};
use serde_json::{Map, Value};

use super::{Json, MAX_DEPTH, Within, valid};

/// A JSON object, its names in the order in which they were written. Of a name that stood there twice, the last counts.
#[derive(Clone, Default)]
pub struct Object(Vec<(Box<str>, Json)>);

impl Object {
    /// One without anything.
    pub const fn new() -> Self {
        Object(Vec::new())
    }

    /// Whether there is nothing in it.
    pub fn is_empty(&self) -> bool {
        self.0.is_empty()
    }

    /// What stands there under `name`.
    pub fn get(&self, name: &str) -> Option<&Json> {
        self.0.iter().find(|(own, _)| **own == *name).map(|(_, value)| value)
    }

    /// The text that stands there under `name`, if it is one.
    pub fn text(&self, name: &str) -> Option<String> {
        self.get(name)?.as_text()
    }

    /// Whether there is something under `name`, be it `null`.
    pub fn contains(&self, name: &str) -> bool {
        self.get(name).is_some()
    }

    /// Puts `value` under `name`: in the place of what stood there, or at the end.
    pub fn insert(&mut self, name: &str, value: impl Into<Json>) {
        let value = value.into();
        match self.0.iter_mut().find(|(own, _)| **own == *name) {
            Some((_, old)) => *old = value,
            None => self.0.push((name.into(), value)),
        }
    }

    /// Takes out what stands under `name`.
    pub fn remove(&mut self, name: &str) -> Option<Json> {
        let place = self.0.iter().position(|(own, _)| **own == *name)?;
        Some(self.0.remove(place).1)
    }

    /// Keeps what `is_kept` says.
    pub fn retain(&mut self, mut is_kept: impl FnMut(&str, &Json) -> bool) {
        self.0.retain(|(name, value)| is_kept(name, value));
    }

    /// What is in it, in its order.
    pub fn iter(&self) -> impl Iterator<Item = (&str, &Json)> {
        self.0.iter().map(|(name, value)| (&**name, value))
    }

    /// It as a `T`.
    pub fn to<T: DeserializeOwned>(&self) -> serde_json::Result<T> {
        // By way of the text: serde_json knows what enums, options and its own types are in JSON.
        serde_json::from_str(&self.to_json())
    }

    /// It as JSON.
    pub fn to_json(&self) -> String {
        serde_json::to_string(self).expect("an object is JSON")
    }

    /// The same text for all that are the same object; see [`Json::canonical`].
    pub fn canonical(&self) -> String {
        let mut members: Vec<(&str, Cow<'_, str>)> =
            self.0.iter().map(|(name, value)| (&**name, value.canonical())).collect();
        members.sort_unstable_by_key(|(name, _)| *name);
        let mut text = String::from("{");
        for (name, value) in members {
            if text.len() > 1 {
                text.push(',');
            }
            text.push_str(&serde_json::to_string(name).expect("a text is JSON"));
            text.push(':');
            text.push_str(&value);
        }
        text.push('}');
        text
    }

    /// Of each name the last value.
    fn without_repeated_names(mut self) -> Self {
        let members = &self.0;
        // Nearly always there are few, and none stands there twice.
        if members.len() <= 8 {
            let is_repeated = |place: usize| members[..place].iter().any(|(name, _)| *name == members[place].0);
            if !(1..members.len()).any(is_repeated) {
                return self;
            }
        }
        let mut order: Vec<usize> = (0..members.len()).collect();
        order.sort_by_key(|&place| &members[place].0);
        let mut is_kept = vec![true; members.len()];
        for pair in order.windows(2) {
            is_kept[pair[0]] = members[pair[0]].0 != members[pair[1]].0;
        }
        let mut is_kept = is_kept.into_iter();
        self.0.retain(|_| is_kept.next().unwrap_or(true));
        self
    }
}

impl PartialEq for Object {
    fn eq(&self, other: &Self) -> bool {
        self.0.len() == other.0.len() && self.iter().all(|(name, value)| other.get(name) == Some(value))
    }
}

impl Eq for Object {}

impl fmt::Debug for Object {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.to_json())
    }
}

impl Extend<(Box<str>, Json)> for Object {
    /// What comes takes the place of what stands there under the same name.
    fn extend<I: IntoIterator<Item = (Box<str>, Json)>>(&mut self, members: I) {
        self.0.extend(members);
        *self = std::mem::take(self).without_repeated_names();
    }
}

impl FromIterator<(Box<str>, Json)> for Object {
    fn from_iter<I: IntoIterator<Item = (Box<str>, Json)>>(members: I) -> Self {
        Object(Vec::from_iter(members)).without_repeated_names()
    }
}

impl IntoIterator for Object {
    type Item = (Box<str>, Json);
    type IntoIter = std::vec::IntoIter<(Box<str>, Json)>;

    fn into_iter(self) -> Self::IntoIter {
        self.0.into_iter()
    }
}

impl From<Map<String, Value>> for Object {
    fn from(map: Map<String, Value>) -> Self {
        Object(map.into_iter().map(|(name, value)| (name.into(), value.into())).collect())
    }
}

impl From<Object> for Json {
    fn from(object: Object) -> Self {
        Json(valid(object.to_json()))
    }
}

impl Serialize for Object {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.collect_map(self.iter())
    }
}

impl<'de> Deserialize<'de> for Object {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        match Given::deserialize(deserializer, Within(MAX_DEPTH - 1))? {
            Given::Object(object) => Ok(object),
            Given::Nothing | Given::Other => Err(D::Error::custom("must be an object")),
        }
    }
}

/// What stands where an object should.
pub(in crate::protocol) enum Given {
    /// An object.
    Object(Object),
    /// `null`.
    Nothing,
    /// Anything else.
    Other,
}

/// Reads what should be an object, whose values may be `depth` levels deep.
pub(in crate::protocol) fn deserialize_given<'de, D, const DEPTH: usize>(deserializer: D) -> Result<Given, D::Error>
where
    D: Deserializer<'de>,
{
    Given::deserialize(deserializer, Within(DEPTH))
}

impl Given {
    fn deserialize<'de, D: Deserializer<'de>>(deserializer: D, within: Within) -> Result<Self, D::Error> {
        struct Members(Within);

        impl<'de> Visitor<'de> for Members {
            type Value = Given;

            fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str("an object")
            }

            fn visit_map<A: MapAccess<'de>>(self, mut map: A) -> Result<Given, A::Error> {
                let mut members = Vec::new();
                while let Some(name) = map.next_key()? {
                    members.push((name, map.next_value_seed(self.0)?));
                }
                Ok(Given::Object(Object(members).without_repeated_names()))
            }

            fn visit_unit<E>(self) -> Result<Given, E> {
                Ok(Given::Nothing)
            }

            fn visit_seq<A: SeqAccess<'de>>(self, mut values: A) -> Result<Given, A::Error> {
                while values.next_element::<IgnoredAny>()?.is_some() {}
                Ok(Given::Other)
            }

            fn visit_bool<E>(self, _: bool) -> Result<Given, E> {
                Ok(Given::Other)
            }

            fn visit_u64<E>(self, _: u64) -> Result<Given, E> {
                Ok(Given::Other)
            }

            fn visit_i64<E>(self, _: i64) -> Result<Given, E> {
                Ok(Given::Other)
            }

            fn visit_f64<E>(self, _: f64) -> Result<Given, E> {
                Ok(Given::Other)
            }

            fn visit_str<E>(self, _: &str) -> Result<Given, E> {
                Ok(Given::Other)
            }
        }

        deserializer.deserialize_any(Members(within))
    }
}
