//! cerbas answers requests that programs put into Redis, with functions that run on a fixed pool of threads.
//!
//! A request walks one road:
//!
//! ```text
//! broker ──► intake ──► dispatch ──► pool ──► function
//!    ▲                     │ watch              │
//!    │                     ▼                    ▼
//!    └──── outbox ◄───── reply ◄── watchdog, or its value ──► ledger
//! ```
//!
//! From its acceptance to its end each call stands in the register of dispatch, where it can be seen and ended.
//!
//! Every other feature is a room beside that road: it sends requests down it, and says in an [`errand`] what they are for: what each needs before
//! it runs, and what its end does besides the answer. The road knows no room, and no room knows another.
//! Cron is such a room: the scheduler puts a request into the inbox of its daemon, in the step that puts the instant on record.
//! The gateway is another: a call over HTTP goes straight to dispatch, with a door that leads back to its connection.
//! What several daemons must agree on, a unique key or a place among the running calls, intake arranges with the broker before a
//! request goes on; what they tell each other comes in by the broker, too.
//!
//! Programs use [`Server`] to serve functions of their own, and [`Client`] to call functions.

// The words.
pub mod protocol;
// The road, in the order in which a request walks it.
pub mod broker;
pub mod errand;
pub mod intake;
pub mod dispatch;
pub mod functions;
pub mod outbox;
pub mod ledger;
// Rooms beside it.
pub mod cron;
pub mod scheduler;
pub mod net;
pub mod proxy;
pub mod gateway;
mod control;
mod heartbeat;
mod inspect;
pub mod pages;
// The house.
pub mod cli;
pub mod client;
pub mod config;
pub mod server;
mod accounts;
mod children;
mod clock;
pub mod effects;
mod error;
#[cfg(fuzzing)]
pub mod fuzzing;
mod lock;
mod outage;
mod refusals;
mod private;
mod said;
mod signals;
mod trust;
pub mod thread;

pub use client::{Client, ClientError};
pub use config::Config;
pub use error::StartError;
pub use functions::{Call, CallFailed, NativeError, Terms};
pub use protocol::Json;
pub use server::{Ended, Running, Server};

/// The blocks of the README compile.
#[cfg(doctest)]
#[doc = include_str!("../README.md")]
struct Readme;

/// What starting a daemon gives.
pub type Result<T> = std::result::Result<T, StartError>;
