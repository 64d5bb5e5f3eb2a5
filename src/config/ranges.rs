//! What settings can be: for those that are read from a file (`rooms.rs`, `function.rs`, `http.rs`, `cron.rs`), and for those that a program
//! makes in code (`made.rs`).

use std::ops::RangeInclusive;
use std::time::Duration;

use super::defaults::MAX_WORKERS;

/// What can be answered or asked, in bytes: no text in Redis can be longer.
pub(super) const MESSAGE_SIZE: RangeInclusive<u64> = 1..=512 * 1024 * 1024;

pub(super) const WORKERS: RangeInclusive<i64> = 1..=MAX_WORKERS as i64;
pub(super) const DELIVERIES: RangeInclusive<i64> = 1..=100;
pub(super) const STUCK: RangeInclusive<i64> = 1..=4096;
pub(super) const PRIORITY: RangeInclusive<i64> = 1..=1000;
pub(super) const QUEUE_LENGTH: RangeInclusive<i64> = 1..=u32::MAX as i64;
pub(super) const PLACES: RangeInclusive<i64> = 1..=65536;
pub(super) const HISTORY: RangeInclusive<i64> = 1..=10_000;
pub(super) const THREADS: RangeInclusive<i64> = 1..=64;

/// A file can hold a million; nobody has so many descriptors.
pub(super) const CONNECTIONS: RangeInclusive<i64> = 1..=1_000_000;

/// The shortest time that is any.
pub(super) const INSTANT: Duration = Duration::from_millis(1);

/// The shortest time that daemons and Redis keep something for each other.
pub(super) const SECOND: Duration = Duration::from_secs(1);
