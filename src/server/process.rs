//! What the system knows of this process.

use std::fs;

use rustix::param::{clock_ticks_per_second, page_size};
use rustix::process::{Resource, getrlimit};

use crate::gateway::Process;

/// One look at it; what the system does not tell is 0 (proc(5)).
pub(super) fn look() -> Process {
    let stat = fs::read_to_string("/proc/self/stat").unwrap_or_default();
    // The name of the program stands in brackets, and may have anything in it.
    let fields: Vec<&str> = stat.rsplit(')').next().unwrap_or_default().split_whitespace().collect();
    let number = |at: usize| fields.get(at - 3).and_then(|field| field.parse::<u64>().ok()).unwrap_or(0);
    let ticks = clock_ticks_per_second() as f64;
    let open = fs::read_dir("/proc/self/fd").map_or(0, |found| found.count() as u64);
    let most = getrlimit(Resource::Nofile).current.unwrap_or(u64::MAX);
    Process {
        cpu: (number(14) + number(15)) as f64 / ticks,
        memory: number(24) * page_size() as u64,
        descriptors: (open, most),
        threads: number(20),
        started: boot_time() + number(22) as f64 / ticks,
    }
}

/// When the machine started, in seconds since 1970.
fn boot_time() -> f64 {
    let stat = fs::read_to_string("/proc/stat").unwrap_or_default();
    let line = stat.lines().find_map(|line| line.strip_prefix("btime "));
    line.and_then(|time| time.trim().parse().ok()).unwrap_or(0.0)
}
