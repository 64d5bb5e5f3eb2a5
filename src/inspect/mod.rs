//! What people and programs are shown of daemons and requests, whichever way they ask: the JSON ([`shapes`]), the sentences of `why`
//! ([`sentences`]), how many requests end and how fast ([`rates`]). These are pure.
//!
//! And the way to ask a running daemon itself, where there is no Redis in which all could be seen: a question and its answer
//! ([`answer`]), over the socket in its `state_dir`, between a [`Listener`] and a [`Remote`].
//!
//! Tables, colours and the words around them are the business of whoever shows it.

mod calls;
mod inspector;
mod listener;
mod pages;
mod question;
pub(crate) mod rates;
mod remote;
pub(crate) mod sentences;
pub(crate) mod shapes;
mod socket;

pub(crate) use calls::Calls;
pub(crate) use inspector::{Inspector, OpenInspect};
pub(crate) use listener::Listener;
pub(crate) use pages::InspectPages;
pub(crate) use question::answer;
pub(crate) use remote::Remote;
