//! What rooms keep: fields under keys of their own, and what they begin with one of them.

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};

use super::Result;
use crate::effects::{FieldValue, Put, StoreKey};
use crate::protocol::RequestId;

/// What is kept under a key.
pub type Fields = BTreeMap<Box<str>, FieldValue>;

/// What rooms keep. The end of a request puts the same, in its own step ([`Effects`](crate::effects::Effects)).
pub trait Store {
    /// All that is kept under each of `keys`, in their order.
    fn read(&self, keys: &[StoreKey]) -> Result<Vec<Fields>>;

    /// One field.
    fn get(&self, key: &StoreKey, field: &str) -> Result<Option<FieldValue>>;

    /// Does all of `puts`, one after the other in one step, and tells of each whether its condition held.
    fn put(&self, puts: &[Put]) -> Result<Vec<bool>>;

    /// Takes away all that is kept under `keys`.
    fn forget(&self, keys: &[StoreKey]) -> Result<()>;
}

/// What a room begins once over all daemons: a field that was not there is set, and a request is sent in the same step.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Beginning {
    /// The room.
    pub room: Box<str>,
    /// The key of the field.
    pub key: StoreKey,
    /// The field.
    pub field: Box<str>,
    /// Its value.
    pub value: FieldValue,
    /// The request that is sent; `None`: the field only has to be there.
    pub request: Option<Following>,
    /// What keeps the request from being sent.
    pub unless: Option<Unless>,
    /// A field under another key that is set with it, whatever is there.
    pub note: Option<(StoreKey, Box<str>, FieldValue)>,
    /// How many such fields are kept, and how long.
    pub bound: Bound,
}

/// A request that follows on a [`Beginning`].
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Following {
    /// Its id, which stands in the element as well.
    pub id: RequestId,
    /// The request, as it stands in a queue.
    pub element: Box<str>,
}

/// A field that keeps a request from being sent as long as it is there.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Unless {
    /// The key of that field.
    pub key: StoreKey,
    /// The field.
    pub field: Box<str>,
    /// The value of what is begun, then.
    pub value: FieldValue,
}

/// What is kept of the fields under one key.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Bound {
    /// So many, or a quarter more: those whose names come first go, but before them those whose names come after `last`.
    pub most: usize,
    /// No name that is right comes after it.
    pub last: Box<str>,
    /// All of them go so long after the last was begun, in seconds. What ends with its process keeps them.
    pub seconds: u64,
}

impl Bound {
    /// Those of `fields` that go when `newest` comes to them, which stays.
    pub(super) fn excess(&self, fields: &Fields, newest: &str) -> Vec<Box<str>> {
        let count = fields.len() + 1;
        if count <= self.most + self.most / 4 {
            return Vec::new();
        }
        let mut names: Vec<&str> = fields.keys().map(|name| &**name).chain([newest]).collect();
        // Those that come too late first.
        names.sort_unstable_by_key(|name| (**name <= *self.last, *name));
        let first = names.into_iter().take(count - self.most);
        first.filter(|name| *name != newest).map(Box::from).collect()
    }
}

/// What became of a [`Beginning`].
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Begun {
    /// The field is set, and the request was sent.
    Sent,
    /// The field was there: another daemon has begun it.
    Taken,
    /// The field is set, and the request was not sent, as [`Unless`] says.
    Withheld,
    /// The broker refuses to set it, and has said why; so nothing is sent. The others are not concerned.
    Refused,
}
