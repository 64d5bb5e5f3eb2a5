//! The front door: takes requests from the broker and sends them down the road. One thread for each [`Source`].
//!
//! Invariants:
//! * A request is claimed only when a worker can start it soon, so work waits in the broker, where it can be seen and
//!   where others can take it, and not in our memory.
//! * Nothing here ends the loop but [`Stop`]: what cannot be read is answered and put on the dead list, an outage is
//!   waited out.

use std::sync::Arc;
use std::time::Duration;

use serde_json::json;

use crate::broker::{Broker, Claim, Claimed, Content, Settlement, Source};
use crate::clock;
use crate::dispatch::{Dispatcher, Door};
use crate::outage::Retry;
use crate::outbox::Mailing;
use crate::protocol::codec::{Encoded, Unreadable, decode_request, with_id};
use crate::protocol::{CallError, Request, RequestId};
use crate::thread::Stop;

/// How long one claim may wait, and so how late a dead connection may be noticed.
pub const PATIENCE: Duration = Duration::from_secs(1);

/// How long one wait for a free worker may take, and so how late a stop may be noticed while all are busy.
const ROOM_PATIENCE: Duration = Duration::from_millis(100);

/// How many requests are claimed in one round trip.
const BATCH: usize = 128;

/// How much of an unreadable element is kept on the dead list.
const DEAD_BYTES: usize = 4096;

/// Takes requests from one source.
pub struct Intake {
    /// The source.
    pub source: Source,
    /// Where it is.
    pub broker: Arc<dyn Broker>,
    /// Where requests go.
    pub dispatcher: Arc<Dispatcher>,
    /// Where answers go.
    pub mailing: Mailing,
    /// Requests with more bytes are refused.
    pub max_request: usize,
}

impl Intake {
    /// The loop; it ends when `stop` is asked for.
    pub fn run(&self, stop: &Stop) {
        let mut retry = Retry::default();
        while !stop.is_asked() {
            if !self.mailing.has_room() {
                stop.wait(Duration::from_millis(10));
                continue;
            }
            let room = self.dispatcher.wait_for_room(ROOM_PATIENCE);
            if room == 0 || stop.is_asked() {
                continue;
            }
            match self.broker.claim(self.source, room.min(BATCH), PATIENCE) {
                Ok(claimed) => {
                    retry.succeeded();
                    let now = clock::now();
                    claimed.into_iter().for_each(|claimed| self.receive(claimed, now));
                }
                // The broker has said why, once.
                Err(_) => drop(retry.pause(stop)),
            }
        }
    }

    fn receive(&self, Claimed { claim, content, is_lost }: Claimed, now: u64) {
        match self.read(&claim, &content, now) {
            Ok(request) if is_lost => {
                let reason = "it was running each time its daemon died".to_owned();
                let id = request.reply.then_some(request.id);
                self.refuse(claim, Unreadable { error: CallError::Lost, reason, id }, now);
            }
            Ok(request) => self.send_on(claim, request),
            Err(unreadable) => self.refuse(claim, unreadable, now),
        }
    }

    fn read(&self, claim: &Claim, content: &Content, now: u64) -> Result<Request, Unreadable> {
        let (json, number) = match content {
            Content::Inline => (&*claim.element, None),
            Content::Body(number, body) => (body.as_slice(), Some(*number)),
            Content::NoBody(number) => return Err(unreadable("there is no body for this number", Some(*number))),
        };
        if json.len() > self.max_request {
            let reason = format!("{} bytes are more than max_request = {}", json.len(), self.max_request);
            return Err(unreadable(reason, number));
        }
        decode_request(json, number, now)
    }

    fn send_on(&self, claim: Claim, request: Request) {
        let door = |claim, request: &Request| {
            Box::new(BrokerDoor {
                mailing: self.mailing.clone(),
                claim,
                id: request.reply.then(|| request.id.clone()),
                was_told: false,
                dead: None,
            })
        };
        match request.not_before {
            Some(due) if self.source != Source::Delayed => match self.dispatcher.admit(&request) {
                // Accepted when it is due.
                Ok(_) => {
                    let is_inline = matches!(request.id, RequestId::Text(_));
                    let named = is_inline.then(|| with_id(&claim.element, &request.id)).flatten();
                    let waiting = named.map_or_else(|| Arc::clone(&claim.element), Arc::from);
                    self.mailing.send(Settlement::Deferred { claim, due, waiting });
                }
                Err(refusal) => self.dispatcher.refuse(request.id.clone(), refusal, door(claim, &request)),
            },
            _ => {
                let door = door(claim, &request);
                self.dispatcher.dispatch(request, door);
            }
        }
    }

    fn refuse(&self, claim: Claim, unreadable: Unreadable, now: u64) {
        log::debug!("refused an element: {}", unreadable.reason);
        let shown = &claim.element[..claim.element.len().min(DEAD_BYTES)];
        let dead = json!({
            "at": now,
            "id": unreadable.id.as_ref().map(RequestId::to_string),
            "element": String::from_utf8_lossy(shown),
            "bytes": claim.element.len(),
            "verdict": unreadable.error.verdict(),
            "reason": unreadable.reason,
        });
        let door = BrokerDoor {
            mailing: self.mailing.clone(),
            claim,
            id: unreadable.id.clone(),
            was_told: false,
            dead: Some(dead.to_string().into()),
        };
        let id = unreadable.id.unwrap_or_else(RequestId::random);
        self.dispatcher.refuse(id, unreadable.error, Box::new(door));
    }
}

fn unreadable(reason: impl Into<String>, number: Option<u64>) -> Unreadable {
    Unreadable { error: CallError::BadCall, reason: reason.into(), id: number.map(RequestId::Number) }
}

/// Answers through the broker.
struct BrokerDoor {
    mailing: Mailing,
    claim: Claim,
    /// Whom to tell; `None` where nobody waits.
    id: Option<RequestId>,
    was_told: bool,
    dead: Option<Box<str>>,
}

impl Door for BrokerDoor {
    fn answer(self: Box<Self>, answer: Arc<Encoded>) {
        let answer = self.id.filter(|_| !self.was_told).map(|id| (id, answer));
        self.mailing.send(Settlement::Answered { claim: self.claim, answer, dead: self.dead });
    }

    fn answer_early(&mut self, answer: Arc<Encoded>) {
        if let Some(id) = &self.id {
            self.was_told = true;
            self.mailing.send(Settlement::AnsweredEarly { id: id.clone(), answer });
        }
    }

    fn hand_back(self: Box<Self>) {
        self.mailing.send(Settlement::HandedBack { claim: self.claim });
    }
}
