//! The front door: takes requests from the broker and sends them down the road. One thread for each [`Source`].
//!
//! Invariants:
//! * A request is claimed only when a worker can start it soon, so work waits in the broker, where it can be seen and
//!   where others can take it, and not in our memory.
//! * Nothing here ends the loop but [`Stop`]: what cannot be read is answered and put on the dead list, an outage is
//!   waited out.

mod door;
mod shares;

use std::sync::Arc;
use std::time::Duration;

use self::door::{BrokerDoor, Refused};
pub use self::shares::Shares;
use crate::broker::{self, Broker, Claim, Claimed, Content, Source};
use crate::clock;
use crate::dispatch::Dispatcher;
use crate::outage::Retry;
use crate::outbox::Mailing;
use crate::protocol::codec::{Unreadable, decode_request};
use crate::protocol::{CallError, DeadLetter, Request, RequestId};
use crate::thread::Stop;

/// How long one claim may wait, and so how late a dead connection may be noticed.
pub const PATIENCE: Duration = Duration::from_secs(1);

/// How long one wait for a free worker may take, and so how late a stop may be noticed while all are busy.
const ROOM_PATIENCE: Duration = Duration::from_millis(100);

/// How long a queue waits that has had its share, until others had theirs.
const TURN: Duration = Duration::from_millis(1);

/// How many requests are claimed in one round trip.
const BATCH: usize = 128;

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
    /// The name of this daemon.
    pub node: Arc<str>,
    /// How the queues of this daemon share what it can do.
    pub shares: Arc<Shares>,
    /// The newest requests that stand behind so many others are refused.
    pub max_length: Option<usize>,
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
            // Also while there is no room: those who are refused should know at once.
            let refused = self.refuse_excess();
            let room = self.dispatcher.wait_for_room(ROOM_PATIENCE);
            if room == 0 || stop.is_asked() {
                continue;
            }
            let claimed = refused.and_then(|()| self.claim(room.min(BATCH), stop));
            match claimed {
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

    /// Claims what is this queue's share of `room`.
    fn claim(&self, room: usize, stop: &Stop) -> broker::Result<Vec<Claimed>> {
        let Source::Queue(number) = self.source else { return self.broker.claim(self.source, room, PATIENCE) };
        let share = self.shares.allow(number, room);
        if share == 0 {
            stop.wait(TURN);
            return Ok(Vec::new());
        }
        // A queue that had more is asked for it without waiting, so that it does not keep others back when it has no more.
        let patience = if self.shares.is_busy(number) { Duration::ZERO } else { PATIENCE };
        let claimed = self.broker.claim(self.source, share, patience)?;
        self.shares.note(number, share, claimed.len());
        Ok(claimed)
    }

    /// Refuses what stands behind too many others, the newest of this queue.
    fn refuse_excess(&self) -> broker::Result<()> {
        let Some(longest) = self.max_length else { return Ok(()) };
        loop {
            let excess = self.broker.claim_excess(self.source, longest, BATCH)?;
            let (found, now) = (excess.len(), clock::now());
            for Claimed { claim, content, .. } in excess {
                match self.read(&claim, &content, now) {
                    Ok(request) => {
                        let door = self.door(claim, body_of(content), &request);
                        self.dispatcher.refuse(request.id, CallError::Overload, door);
                    }
                    Err(unreadable) => self.refuse(claim, unreadable, now),
                }
            }
            if found < BATCH || !self.mailing.has_room() {
                return Ok(());
            }
        }
    }

    fn receive(&self, Claimed { claim, content, is_lost }: Claimed, now: u64) {
        let read = self.read(&claim, &content, now);
        let body = body_of(content);
        match read {
            Ok(request) => {
                let door = self.door(claim, body, &request);
                if is_lost { self.give_up(request, door) } else { self.send_on(request, door) }
            }
            Err(unreadable) => self.refuse(claim, unreadable, now),
        }
    }

    fn read(&self, claim: &Claim, content: &Content, now: u64) -> Result<Request, Unreadable> {
        let (json, number) = match content {
            Content::Inline => (&*claim.element, None),
            Content::Body(number, body) => (body.as_slice(), Some(*number)),
            Content::NoBody(number) => return Err(unreadable("there is no body for this number", Some(*number))),
        };
        // What we have put there ourselves was short enough when it came, and has grown a little.
        if json.len() > self.max_request && self.source != Source::Delayed {
            let reason = format!("{} bytes are more than max_request = {}", json.len(), self.max_request);
            return Err(unreadable(reason, number));
        }
        decode_request(json, number, now)
    }

    fn door(&self, claim: Claim, body: Option<Vec<u8>>, request: &Request) -> Box<BrokerDoor> {
        Box::new(BrokerDoor {
            mailing: self.mailing.clone(),
            node: Arc::clone(&self.node),
            claim,
            body,
            id: request.id.clone(),
            is_told: request.reply,
            was_told: false,
            attempt: request.attempt,
            first_at: request.first_at,
        })
    }

    fn send_on(&self, request: Request, door: Box<BrokerDoor>) {
        match request.not_before {
            Some(due) if self.source != Source::Delayed => match self.dispatcher.admit(&request) {
                // Accepted when it is due.
                Ok(_) => door.defer(due),
                Err(refusal) => self.dispatcher.refuse(request.id, refusal, door),
            },
            _ => self.dispatcher.dispatch(request, door),
        }
    }

    /// It was in flight each time its daemon died.
    fn give_up(&self, request: Request, door: Box<BrokerDoor>) {
        self.dispatcher.refuse(request.id, CallError::Lost, door);
    }

    fn refuse(&self, claim: Claim, unreadable: Unreadable, now: u64) {
        log::debug!("refused an element: {}", unreadable.reason);
        let dead = DeadLetter {
            at: now,
            id: unreadable.id.as_ref().map(RequestId::to_string),
            verdict: unreadable.error.verdict(),
            message: unreadable.reason,
            func: None,
            attempts: 0,
            node: self.node.to_string(),
            first_at: None,
            request: None,
            element: None,
            bytes: None,
        };
        let dead = dead.with_element(&claim.element).to_json();
        let door = Refused { mailing: self.mailing.clone(), claim, id: unreadable.id.clone(), dead };
        let id = unreadable.id.unwrap_or_else(RequestId::random);
        self.dispatcher.refuse(id, unreadable.error, Box::new(door));
    }
}

fn body_of(content: Content) -> Option<Vec<u8>> {
    match content {
        Content::Body(_, body) => Some(body),
        Content::Inline | Content::NoBody(_) => None,
    }
}

fn unreadable(reason: impl Into<String>, number: Option<u64>) -> Unreadable {
    Unreadable { error: CallError::BadCall, reason: reason.into(), id: number.map(RequestId::Number) }
}
