//! The whole daemon over the broker in memory: no Redis, no network, milliseconds. A new test goes into the module of its
//! feature; what needs a real Redis goes into `tests/with_redis`, what only reads or writes the protocol into
//! `tests/protocol.rs`.
//!
//! No test sleeps: functions wait at a [`support::Gate`] that the test opens, and a test waits for what it expects with
//! [`support::eventually`].

mod parts;
mod support;

// What a caller gets.
mod answers;
mod broken;
mod cache;
mod limits;
mod nodes;
mod time;
// What goes wrong.
mod made;
mod malformed;
mod outage;
mod panics;
mod watchdog;
// The life of a daemon.
mod one_worker;
mod reload;
mod stop;
// All of it at once.
mod ledger;
mod open;
