//! What a request is for besides its function, where a room of the daemon has sent it.
//!
//! A room that sends requests of its own has a name. Its requests say so in a field of that name, in ids that begin with it (`cron:`), or
//! in functions that do (`cron/`). A text can say anything: what is said counts only where the broker has it on record.

use super::{Json, Request, RequestId};

/// What cron is called among the rooms.
pub const CRON: &str = "cron";

/// The rooms that send requests of their own.
pub const ROOMS: [&str; 1] = [CRON];

/// The ticket of a room: what it wants to know again when its request ends.
#[derive(Debug, Clone, PartialEq)]
pub struct Ticket {
    /// The room.
    pub room: &'static str,
    /// Only the room reads it.
    pub value: Json,
}

/// The room whose functions are called like `func`.
pub fn room_of_function(func: &str) -> Option<&'static str> {
    room_of(func, '/')
}

fn room_of(text: &str, end: char) -> Option<&'static str> {
    ROOMS.into_iter().find(|room| text.strip_prefix(room).is_some_and(|rest| rest.starts_with(end)))
}

impl RequestId {
    /// The room that calls its requests so.
    pub fn room(&self) -> Option<&'static str> {
        match self {
            RequestId::Text(id) => room_of(id, ':'),
            RequestId::Number(_) => None,
        }
    }
}

impl Request {
    /// The room that has sent it, as it says: by what it is for, by its id or by its function.
    pub fn claims_room(&self) -> Option<&'static str> {
        let ticket = self.ticket.as_ref().map(|ticket| ticket.room);
        ticket.or_else(|| self.id.room()).or_else(|| room_of_function(&self.func))
    }
}
