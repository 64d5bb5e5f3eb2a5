//! Pages that are shown over HTTP besides calls of functions. Whoever has some gives them to the gateway, which serves them and knows
//! nothing of what they are about.
//!
//! ```
//! use cerbas::pages::{Answer, Asked, Method, Page, Pages, Reply, Right};
//!
//! struct Weather;
//!
//! impl Pages for Weather {
//!     fn pages(&self) -> &[Page] {
//!         &[Page { path: "/api/weather/{town}", methods: &[(Method::Get, Some(Right::Look))] }]
//!     }
//!
//!     fn ask(&self, _page: usize, asked: &Asked<'_>) -> Reply {
//!         Reply::Now(Answer::value(200, format!("it rains in {}", asked.parameters[0])))
//!     }
//! }
//! ```

use std::borrow::Cow;
use std::fmt;
use std::time::Duration;

use crate::protocol::{Arguments, Json, Request};

/// What a token lets one do.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Right {
    /// Calls functions, and asks what became of that.
    Call,
    /// Sees what the daemon does.
    Look,
    /// Changes what the daemon does.
    Change,
}

impl Right {
    /// All of them, as they are written.
    pub const ALL: [(&str, Right); 3] = [("call", Right::Call), ("look", Right::Look), ("change", Right::Change)];
}

impl fmt::Display for Right {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let (name, _) = Right::ALL[*self as usize];
        f.write_str(name)
    }
}

/// Some rights. Each request over HTTP has its own, so they are no more than a number.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Rights(u8);

impl Rights {
    /// All that there are.
    pub fn all() -> Self {
        Right::ALL.into_iter().map(|(_, right)| right).collect()
    }

    /// Whether `right` is one of them.
    pub fn has(&self, right: Right) -> bool {
        self.0 & bit(right) != 0
    }
}

/// To call functions.
impl Default for Rights {
    fn default() -> Self {
        Rights::from_iter([Right::Call])
    }
}

impl FromIterator<Right> for Rights {
    fn from_iter<T: IntoIterator<Item = Right>>(rights: T) -> Self {
        Rights(rights.into_iter().fold(0, |bits, right| bits | bit(right)))
    }
}

fn bit(right: Right) -> u8 {
    1 << right as u8
}

/// A method of HTTP.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Method {
    /// Reads.
    Get,
    /// The same, without the body. Where there is `Get` this is answered from it.
    Head,
    /// Does something.
    Post,
    /// Sets what is there.
    Put,
    /// Takes away what is there.
    Delete,
    /// Asks what there is. The gateway answers it.
    Options,
}

impl Method {
    /// The method called `name`, if it is one of these.
    pub fn of(name: &str) -> Option<Self> {
        let all = [Method::Get, Method::Head, Method::Post, Method::Put, Method::Delete, Method::Options];
        all.into_iter().find(|method| method.name() == name)
    }

    /// What it is called.
    pub fn name(self) -> &'static str {
        match self {
            Method::Get => "GET",
            Method::Head => "HEAD",
            Method::Post => "POST",
            Method::Put => "PUT",
            Method::Delete => "DELETE",
            Method::Options => "OPTIONS",
        }
    }
}

/// One path, or many of one form, and what can be done there.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Page {
    /// `/api/actor/{type}/{name}`: a part in braces stands for any part, and is told decoded. `{name*}` at the end stands for all that
    /// follows, which may be nothing, and is told as it was written.
    pub path: &'static str,
    /// What can be done, and the right that it takes; `None`: any token will do.
    pub methods: &'static [(Method, Option<Right>)],
}

/// Whoever has pages.
pub trait Pages: Send + Sync {
    /// All of them; the same at each call. Two paths of which one request could mean either are refused at the start, and so are a path that
    /// is the gateway's own and methods that it answers itself.
    fn pages(&self) -> &[Page];

    /// Answers a request for one of them, by its number among [`Pages::pages`]. This is done by a thread that serves many connections: what
    /// may take longer than a look into memory is for [`Reply::Later`]. Who asked is told 500 if it panics.
    fn ask(&self, page: usize, asked: &Asked<'_>) -> Reply;
}

/// A request for a page.
pub struct Asked<'a> {
    /// Its method; `Get` also where only the head is wanted.
    pub method: Method,
    /// What stands for the parts in braces, in their order.
    pub parameters: Vec<String>,
    /// What stands behind `?`.
    pub query: &'a str,
    /// Its body.
    pub body: &'a [u8],
    /// By which it can be found; also the id of a request that follows.
    pub id: &'a str,
    /// What the token may do, where there are tokens.
    pub may: Rights,
    pub(crate) header: &'a dyn Fn(&str) -> Option<&'a str>,
    pub(crate) arguments: &'a dyn Fn() -> Result<Arguments, (u16, String)>,
}

impl<'a> Asked<'a> {
    /// The header called `name`, in small letters.
    pub fn header(&self, name: &str) -> Option<&'a str> {
        (self.header)(name)
    }

    /// What the query says, and the body over it, in any of the forms that calls can have. The error is the answer.
    pub fn arguments(&self) -> Result<Arguments, Answer> {
        (self.arguments)().map_err(|(status, reason)| Answer::error(status, reason))
    }
}

/// What becomes of it.
pub enum Reply {
    /// This is the answer.
    Now(Answer),
    /// This makes it, on a thread where it may take its time. There are two of those, which also put requests into the queue: what takes
    /// longer than a few milliseconds is for a function.
    Later(Box<dyn FnOnce() -> Answer + Send>),
    /// A function answers, as if it was called over HTTP. Who asks is said by the token.
    Call(Box<Request>),
    /// The request is put into the queue, where its state is known for so long, and then this is the answer. Nothing happens if its id is
    /// known already.
    Submit {
        /// The request, with an id.
        request: Box<Request>,
        /// How long its state is known at the most.
        keep: Duration,
        /// What is said then.
        answer: Answer,
    },
}

/// What a client is told. One that could be read otherwise than it is meant is not sent, and the client is told 500: a status that is not
/// from 200 to 599, content with 204 or 304, line breaks or other control characters in a header, a header by which the end of an answer is found.
#[derive(Debug, Clone)]
pub struct Answer {
    /// Its status.
    pub status: u16,
    /// What it says.
    pub content: Content,
    /// Headers besides those of the content and the connection.
    pub headers: Vec<(&'static str, Box<str>)>,
}

/// What an answer says.
#[derive(Debug, Clone)]
pub enum Content {
    /// Nothing.
    Empty,
    /// A value, as JSON, or as MessagePack where the client wants that.
    Value(Json),
    /// Bytes of this kind: `text/html; charset=utf-8`.
    Bytes(&'static str, Cow<'static, [u8]>),
}

impl Answer {
    /// A value.
    pub fn value(status: u16, value: impl Into<Json>) -> Self {
        Answer { status, content: Content::Value(value.into()), headers: Vec::new() }
    }

    /// Why there is no other answer, in the form of any other one.
    pub fn error(status: u16, reason: impl Into<String>) -> Self {
        Self::value(status, serde_json::json!({"status": "error", "data": reason.into()}))
    }

    /// With one header more.
    pub fn with(mut self, name: &'static str, value: impl Into<Box<str>>) -> Self {
        self.headers.push((name, value.into()));
        self
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn who_has_one_right_has_no_other() {
        for (name, right) in Right::ALL {
            assert_eq!(right.to_string(), name);
            let rights = Rights::from_iter([right]);
            assert!(Right::ALL.iter().all(|(_, other)| rights.has(*other) == (*other == right)), "{name}");
            assert!(Rights::all().has(right) && !Rights::from_iter([]).has(right));
        }
        assert_eq!(Rights::default(), Rights::from_iter([Right::Call]));
    }
}
