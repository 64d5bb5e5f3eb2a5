//! What Redis has forgotten: one that lost its last moments does not know what was claimed of it in them.
//!
//! Its counter has gone back with the rest, so clients draw the same numbers again, and the element of a new request can be equal to that
//! of an old one. Whoever asks must not get the answer to what somebody else has asked. So after each break of a connection, and before
//! anything is claimed or settled on the new one, it is looked which claims Redis still has in flight; other numbers are void. An id that
//! a client has made is nobody else's: its answer is still for who waits for it.

use redis::{Connection, RedisResult, pipe};

use super::lease::Identity;
use super::link::exchange;
use super::{RedisBroker, held};
use crate::broker::parse_number;

/// What is in flight, as Redis has it.
pub(super) struct InFlight {
    /// The in-flight lists of the sources that were asked for, in their order.
    pub(super) lists: Vec<Vec<Vec<u8>>>,
    /// The list of what must not run again, of all sources.
    once: Vec<Vec<u8>>,
}

impl RedisBroker {
    /// Reads what is in flight of the sources at `places`, and makes void what is held and forgotten. Nothing may be settled meanwhile: what
    /// leaves a list by that is not forgotten.
    pub(super) fn find_forgotten(
        &self,
        connection: &mut Connection,
        identity: &Identity,
        places: impl Iterator<Item = usize> + Clone,
    ) -> RedisResult<InFlight> {
        // Before the lists: what is claimed in between is in these, and not in that.
        let held: Vec<_> = places.clone().map(|place| self.held[place].all()).collect();
        let in_flight = read_in_flight(connection, identity, places.clone())?;
        let mut forgotten = 0;
        for ((place, held), list) in places.zip(held).zip(&in_flight.lists) {
            let mut missing = held::missing(held, list.iter().chain(&in_flight.once));
            missing.retain(|element| parse_number(element).is_some());
            forgotten += missing.len();
            self.void.add(missing.iter());
            self.held[place].remove(missing.iter());
            self.held_once.remove(missing.iter());
        }
        if forgotten > 0 {
            log::warn!("redis has forgotten {forgotten} requests that were claimed: nobody gets their answers");
        }
        Ok(in_flight)
    }
}

fn read_in_flight(
    connection: &mut Connection,
    identity: &Identity,
    places: impl Iterator<Item = usize>,
) -> RedisResult<InFlight> {
    let mut look = pipe();
    for place in places {
        look.cmd("LRANGE").arg(&identity.in_flight[place]).arg(0).arg(-1);
    }
    // Last: what must not run again moves from those to this, and must not be missed in both.
    look.cmd("LRANGE").arg(&identity.once).arg(0).arg(-1);
    let lists = exchange(connection, &look)?.into_iter().map(redis::from_redis_value);
    let mut lists = lists.collect::<Result<Vec<Vec<Vec<u8>>>, _>>()?;
    let once = lists.pop().unwrap_or_default();
    Ok(InFlight { lists, once })
}
