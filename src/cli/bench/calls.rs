//! Clients that call and wait, each in a closed loop.

use std::thread;
use std::time::Instant;

use serde_json::json;

use super::failed;
use crate::broker::ScratchRedis;
use crate::cli::exit::Failure;
use crate::client::{Client, ClientError};

/// What one run came to; times in milliseconds.
#[derive(Debug, Clone, Copy, PartialEq)]
pub(super) struct Latencies {
    pub(super) median: f64,
    pub(super) p99: f64,
    pub(super) per_second: f64,
}

/// Lets `clients` make `calls` calls of `echo` in all.
pub(super) fn measure(scratch: &ScratchRedis, clients: u64, calls: u64) -> Result<Latencies, Failure> {
    let each = calls.div_ceil(clients);
    let url = scratch.url();
    // One call each that is not counted: connections open, caches fill.
    let connected = (0..clients).map(|_| {
        let mut client = Client::connect(&url)?.source("bench");
        client.call("echo", json!({"message": "hello"}))?;
        Ok(client)
    });
    let connected =
        connected.collect::<Result<Vec<Client>, ClientError>>().map_err(|error| failed("calling", error))?;
    let start = Instant::now();
    let times = thread::scope(|scope| {
        let loops: Vec<_> = connected.into_iter().map(|client| scope.spawn(move || call(client, each))).collect();
        let times = loops.into_iter().map(|times| times.join().expect("a calling loop does not panic"));
        times.collect::<Result<Vec<Vec<f64>>, ClientError>>()
    });
    let whole = start.elapsed();
    let mut times = times.map_err(|error| failed("calling", error))?.concat();
    times.sort_by(f64::total_cmp);
    let at = |part: f64| times[((times.len() - 1) as f64 * part) as usize];
    Ok(Latencies { median: at(0.5), p99: at(0.99), per_second: times.len() as f64 / whole.as_secs_f64() })
}

/// The times of `count` calls, in milliseconds.
fn call(mut client: Client, count: u64) -> Result<Vec<f64>, ClientError> {
    let args = json!({"message": "hello"});
    let timed = (0..count).map(|_| {
        let start = Instant::now();
        client.call("echo", &args)?;
        Ok(start.elapsed().as_secs_f64() * 1000.0)
    });
    timed.collect()
}
