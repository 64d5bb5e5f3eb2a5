//! That a daemon is there, and what others tell it.

use std::time::Duration;

use super::{Message, Result, Whereabouts};
use crate::protocol::NodeStatus;

/// The part of a [`Broker`](super::Broker) by which daemons know of each other.
pub trait Presence: Send + Sync {
    /// The name of this daemon, which no other has or has had.
    fn node(&self) -> &str;

    /// Where the broker is, for people; without secrets.
    fn address(&self) -> String;

    /// What this daemon says of itself from now on, whenever its lease is renewed.
    fn tell(&self, about: NodeStatus);

    /// Renews this daemon's lease, and takes back what dead daemons have left in flight.
    fn heartbeat(&self) -> Result<()>;

    /// This daemon ends: gives its lease up.
    fn leave(&self) -> Result<()>;

    /// The next messages to this daemon, waiting at most `patience` for them.
    fn listen(&self, patience: Duration) -> Result<Vec<Message>>;

    /// Tells whoever has sent [`Message::Ask`] what there is, as JSON. One that is within a single process has no such messages.
    fn reply(&self, _asker: &str, _answer: &[u8]) -> Result<()> {
        Ok(())
    }

    /// Where the daemon is that has `name` as its id or is called so.
    fn find_node(&self, name: &str) -> Result<Whereabouts>;

    /// Whether it is known that the broker cannot be reached at this moment, by other verbs than those of rooms: [`Store`](super::Store) and
    /// [`Work::begin`](super::Work::begin).
    fn is_away(&self) -> bool;

    /// Why it does not do all that it is asked at this moment, for people; `None`: it does.
    fn trouble(&self) -> Option<String>;
}
