//! What a daemon knows of itself, for its metrics.

use crate::protocol::NodeStatus;

/// What a daemon knows of itself besides what its gateway sees.
#[derive(Debug, Clone, Default)]
pub struct Vitals {
    /// What the daemon says of itself.
    pub status: NodeStatus,
    /// Whether the broker can be reached.
    pub is_broker_up: bool,
    /// The queues: name, length, and how long the first one waits in milliseconds, as far as that can be told.
    pub queues: Vec<(String, u64, Option<u64>)>,
    /// How many requests wait in queues that no daemon serves.
    pub unserved: Option<u64>,
    /// How many requests wait for their time.
    pub delayed: Option<u64>,
    /// How many entries the dead list has.
    pub dead: Option<u64>,
    /// What the system knows of the process.
    pub process: Process,
}

/// What the system knows of the process.
#[derive(Debug, Clone, Default)]
pub struct Process {
    /// Seconds of processor time.
    pub cpu: f64,
    /// Bytes of memory that are resident.
    pub memory: u64,
    /// Open descriptors, and how many there may be.
    pub descriptors: (u64, u64),
    /// Threads.
    pub threads: u64,
    /// Seconds since 1970 at which it started.
    pub started: f64,
}
