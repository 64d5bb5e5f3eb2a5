//! A connection that was upgraded: bytes go both ways, and so do ends.

use crate::net::Wire;
use crate::proxy::HELD;

/// Bytes go both ways, and so do ends.
pub(super) fn move_tunnel(client: &mut Wire, upstream: &mut Wire, is_shut: &mut [bool; 2]) -> bool {
    let to_upstream = move_one_way(client, upstream, &mut is_shut[0]);
    let to_client = move_one_way(upstream, client, &mut is_shut[1]);
    to_upstream || to_client
}

fn move_one_way(from: &mut Wire, to: &mut Wire, is_shut: &mut bool) -> bool {
    let mut has_moved = false;
    if to.output.len() < HELD {
        has_moved |= from.fill(HELD);
        has_moved |= !from.input.is_empty();
        to.send(from.input.data());
        from.input.consume(from.input.len());
    }
    has_moved |= to.flush();
    let is_over = from.has_ended() && from.input.is_empty() && to.output.is_empty();
    if (is_over || to.broken().is_some()) && !*is_shut {
        to.finish();
        *is_shut = true;
        has_moved = true;
    }
    has_moved
}
