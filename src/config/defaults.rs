//! Every default that is not nothing, and nowhere else one. What holds for a function of its own accord is in
//! [`Terms`](crate::functions::Terms) and [`BuiltinFunction::terms`](crate::functions::BuiltinFunction::terms).

use std::path::PathBuf;
use std::thread;
use std::time::Duration;

use super::{QueueConfig, QueueOrder, RedisConfig, RedisServer, ServerConfig};

/// The most workers there can be; the default stays below it on the largest machine.
pub(super) const MAX_WORKERS: usize = 4096;

/// How many processes of a worker run at once.
pub(super) const WORKER_PROCESSES: usize = 1;

const WORKERS_PER_PROCESSOR: usize = 4;
const MEBIBYTE: usize = 1024 * 1024;

impl Default for RedisConfig {
    fn default() -> Self {
        RedisConfig {
            url: "redis://127.0.0.1:6379/1".to_owned(),
            username: None,
            password: None,
            ca_file: None,
            cert_file: None,
            key_file: None,
            sentinels: Vec::new(),
            master_name: "mymaster".to_owned(),
            sentinel_password: None,
            cluster: Vec::new(),
            server: RedisServer::Managed,
            open: false,
            prefix: "CERBAS".to_owned(),
            extra_channels: Vec::new(),
        }
    }
}

impl Default for ServerConfig {
    fn default() -> Self {
        let processors = thread::available_parallelism().map_or(1, usize::from);
        ServerConfig {
            name: None,
            workers: (WORKERS_PER_PROCESSOR * processors).min(MAX_WORKERS),
            state_dir: PathBuf::from("state"),
            shutdown_timeout: Duration::from_secs(25),
            max_request: MEBIBYTE,
            max_output: MEBIBYTE,
            result_ttl: Duration::from_secs(60),
            lease: Duration::from_secs(10),
            max_deliveries: 3,
            max_stuck: 256,
            queue_order: QueueOrder::Weighted,
        }
    }
}

impl Default for QueueConfig {
    fn default() -> Self {
        QueueConfig { priority: 1, max_length: None }
    }
}
