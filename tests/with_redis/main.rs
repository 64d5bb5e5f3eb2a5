//! The whole daemon over a real `redis-server`, spoken to as a foreign client would: with plain Redis commands.
//!
//! One binary, one module for each feature. Each test has a server of its own, on a free port in a temporary folder.
//! What needs no Redis belongs to `tests/end_to_end`, what needs the program as a user starts it to `tests/command_line`.

mod arrange;
mod bounded_keys;
mod cancel;
mod client;
mod cluster;
mod crash;
mod dead_list;
mod delay;
mod addressed;
mod effects;
mod forged;
mod forms;
mod handed_over;
mod identity;
mod gateway;
mod late_subscriber;
mod lost_connections;
mod managed;
mod nodes;
mod onward;
mod options;
mod outage;
mod pushed;
mod queues;
mod refusal;
mod refused;
mod retries;
mod schema;
mod secure;
mod rights;
mod sentinel;
mod servers;
mod stop;
mod unique;
mod unserved;
mod values;
mod world;
