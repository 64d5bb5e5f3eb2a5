//! What rooms keep in a broker besides their requests: fields with values, under keys of their own.

/// A key of a room, as it stands behind the prefix of all keys: `CRON-RUNS-backup`. Its name is the room's business.
#[derive(Debug, Clone, PartialEq, Eq, Hash, PartialOrd, Ord)]
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

/// Fields that are set or taken away under one key, all or none of them.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Put {
    /// Under which key.
    pub key: StoreKey,
    /// Which fields.
    pub fields: Vec<Field>,
    /// Otherwise nothing is done.
    pub only_if: OnlyIf,
}

/// What a field becomes.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Field {
    /// The field.
    pub name: Box<str>,
    /// Its value; `None`: it is taken away.
    pub value: Option<Box<[u8]>>,
}

/// When a [`Put`] is done.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum OnlyIf {
    /// Always.
    Always,
    /// This field is there.
    Exists(Box<str>),
    /// This field has this value; `None`: it is not there.
    Is(Box<str>, Option<Box<[u8]>>),
}
