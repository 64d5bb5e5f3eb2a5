//! What the end of a request does besides its answer: what rooms put, requests that follow. All of it is done in the step that settles the
//! request, or nothing is.

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
