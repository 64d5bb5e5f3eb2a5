//! The real program, as a user starts it: what it prints, its exit statuses, its signals.
//!
//! One binary, one module for each family of commands. Whatever a test starts is gone when it ends, also when it fails.

mod alone;
mod broken;
mod calls;
mod checks;
mod closed;
mod cron;
mod crontab;
mod daemon;
mod desk;
mod gateway;
mod in_turn;
mod lease;
mod mail;
mod open_calls;
mod private_redis;
mod processes;
mod program;
mod terminal;
mod torture;
mod trust;
mod users;
mod values;
mod watching;
