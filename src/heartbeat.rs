//! The thread that keeps this daemon's lease, and takes back what dead daemons have left.
//!
//! It does nothing else, so that neither long calls nor a full pool ever make a living daemon look dead.

use std::time::Duration;

use crate::broker::Presence;
use crate::outage::Retry;
use crate::protocol::NodeStatus;
use crate::thread::{Pulse, Stop};

/// A lease is renewed this often while it lasts: one heartbeat may fail.
const BEATS: u32 = 3;

/// The loop; it ends when `stop` is asked for. `about` tells what the daemon does, for its record.
pub(crate) fn run(broker: &dyn Presence, lease: Duration, about: impl Fn() -> NodeStatus, pulse: &Pulse, stop: &Stop) {
    let mut retry = Retry::default();
    loop {
        pulse.beat();
        broker.tell(about());
        match broker.heartbeat() {
            Ok(()) => {
                retry.succeeded();
                if stop.wait(lease / BEATS) {
                    return;
                }
            }
            // The broker has said why, once.
            Err(_) if retry.pause(stop) => {}
            Err(_) => return,
        }
    }
}
