//! What people and programs are shown of daemons and requests, whichever way they ask: the JSON ([`shapes`]), the sentences of `why`
//! ([`sentences`]), how many requests end and how fast ([`rates`]). Pure.
//!
//! Tables, colours and the words around them are the business of whoever shows it.

pub(crate) mod rates;
pub(crate) mod sentences;
pub(crate) mod shapes;
