//! Requests that say that a room has sent them. A text can say anything, so the broker is asked.

use super::{Hindrance, Incoming, Intake, refused};
use crate::broker::Vouched;
use crate::dispatch::Door;
use crate::protocol::{CallError, ROOMS};
use crate::thread::Stop;

impl Intake {
    /// Those of `incoming`, which all say that a room has sent them, of which that is true. The others are refused, and nothing that
    /// they say of it counts.
    pub(super) fn only_vouched(&self, incoming: Vec<Incoming>, stop: &Stop) -> Vec<Incoming> {
        let (mut left, mut vouched) = (incoming, Vec::new());
        for room in ROOMS {
            let of_room = |one: &mut Incoming| one.request.claims_room() == Some(room);
            let asked: Vec<Incoming> = left.extract_if(.., of_room).collect();
            if !asked.is_empty() {
                vouched.extend(self.vouched_by(room, asked, stop));
            }
        }
        vouched
    }

    fn vouched_by(&self, room: &'static str, incoming: Vec<Incoming>, stop: &Stop) -> Vec<Incoming> {
        let elements: Vec<_> = incoming.iter().map(|one| (&one.request.id, &*one.door.claim.element)).collect();
        let sent = match self.patiently(stop, || self.broker.take_vouched(room, &elements)) {
            Ok(sent) => sent,
            Err(Hindrance::Stopped) => {
                // The last one first: each goes to the head of its queue.
                incoming.into_iter().rev().for_each(|one| one.door.hand_back());
                return Vec::new();
            }
            // What nobody can tell is not believed.
            Err(Hindrance::Refused(reason)) => {
                for one in incoming {
                    self.dispatcher.refuse(one.request.id, refused(&reason), one.door);
                }
                return Vec::new();
            }
        };
        let mut vouched = Vec::new();
        for (mut one, is_sent) in incoming.into_iter().zip(sent) {
            if !is_sent {
                log::debug!(
                    "{}: says that {room} has sent it, which is not so, or it is a copy: refused",
                    one.request.id
                );
                self.dispatcher.refuse(one.request.id, CallError::NotByRoom(room), one.door);
                continue;
            }
            one.request.vouched_by = Some(room);
            one.door.claim.vouched = Some(Vouched { room, id: one.request.id.clone() });
            one.door.errand = self.rooms.errand(room, &one.request);
            one.request.account = one.door.errand.as_ref().and_then(|errand| errand.account());
            vouched.push(one);
        }
        vouched
    }
}
