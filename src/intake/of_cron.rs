//! Requests that say that cron has sent them. A text can say anything, so the broker is asked.

use super::{Hindrance, Incoming, Intake, refused};
use crate::dispatch::Door;
use crate::protocol::CallError;
use crate::thread::Stop;

impl Intake {
    /// Those of `incoming`, which all say that cron has sent them, of which that is true. The others are refused, and nothing that
    /// they say of cron counts.
    pub(super) fn only_by_cron(&self, incoming: Vec<Incoming>, stop: &Stop) -> Vec<Incoming> {
        if incoming.is_empty() {
            return incoming;
        }
        let elements: Vec<_> = incoming.iter().map(|one| (&one.request.id, &*one.door.claim.element)).collect();
        let sent = match self.patiently(stop, || self.broker.take_sent_by_cron(&elements)) {
            Ok(sent) => sent,
            Err(Hindrance::Stopped) => {
                // The last one first: each goes to the head of its queue.
                incoming.into_iter().rev().for_each(|one| one.door.hand_back());
                return Vec::new();
            }
            Err(Hindrance::Refused(reason)) => {
                for mut one in incoming {
                    // What nobody can tell is not believed.
                    one.door.cron = None;
                    self.dispatcher.refuse(one.request.id, refused(&reason), one.door);
                }
                return Vec::new();
            }
        };
        let mut by_cron = Vec::new();
        for (mut one, is_sent) in incoming.into_iter().zip(sent) {
            if is_sent {
                one.request.is_sent_by_cron = true;
                one.door.claim.sent_by_cron = Some(one.request.id.clone());
                by_cron.push(one);
            } else {
                log::debug!(
                    "{}: says that cron has sent it, which is not so, or it is a copy: refused",
                    one.request.id
                );
                one.door.cron = None;
                self.dispatcher.refuse(one.request.id, CallError::NotByCron, one.door);
            }
        }
        by_cron
    }
}
