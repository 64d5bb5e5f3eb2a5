//! The front door: takes requests from the broker and sends them down the road. One thread for each [`Source`].
//!
//! Invariants:
//! * A request is claimed only when a worker can start it soon, so work waits in the broker, where it can be seen and
//!   where others can take it, and not in our memory.
//! * Nothing here ends the loop but [`Stop`]: what cannot be read is answered and put on the dead list, an outage is
//!   waited out.

mod door;
mod needs;
mod shares;
mod vouched;

use std::sync::Arc;
use std::time::Duration;

use self::door::{BrokerDoor, Refused};
use self::needs::Needs;
pub use self::shares::Shares;
use crate::broker::{
    self, Arranged, Arrangement, Broker, Cause, Claim, Claimed, Content, IfHeld, Locks, Source, Whereabouts,
};
use crate::clock;
use crate::dispatch::{Dispatcher, Door, Rules};
use crate::errand::Rooms;
use crate::outage::Retry;
use crate::outbox::Mailing;
use crate::protocol::codec::{Unreadable, decode_request, who_waits_for_large, with_id};
use crate::protocol::glimpse::length_before_cut;
use crate::protocol::{CallError, DeadLetter, EVERYWHERE, Request, RequestId};
use crate::thread::{Pulse, Stop};

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
    /// The rooms that send requests of their own.
    pub rooms: Rooms,
    /// Beats when the loop goes round.
    pub pulse: Pulse,
}

impl Intake {
    /// The loop; it ends when `stop` is asked for.
    pub fn run(&self, stop: &Stop) {
        let mut retry = Retry::default();
        while !stop.is_asked() {
            self.pulse.beat();
            if !self.mailing.has_room() {
                stop.wait(Duration::from_millis(10));
                continue;
            }
            // Also while there is no room: those who are refused should know at once.
            let refused = self.refuse_excess(stop);
            let room = self.dispatcher.wait_for_room(ROOM_PATIENCE);
            if room == 0 || stop.is_asked() {
                continue;
            }
            let claimed = refused.and_then(|()| self.claim(room.min(BATCH), stop));
            match claimed {
                Ok(claimed) => {
                    retry.succeeded();
                    self.receive(claimed, stop);
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
    fn refuse_excess(&self, stop: &Stop) -> broker::Result<()> {
        let Some(longest) = self.max_length else { return Ok(()) };
        loop {
            let excess = self.broker.claim_excess(self.source, longest, BATCH)?;
            let (found, now) = (excess.len(), clock::now());
            let refuse = |Incoming { request, door, .. }: Incoming| {
                self.dispatcher.refuse(request.id, CallError::Overload, door);
            };
            let mut of_rooms = Vec::new();
            for Claimed { claim, content, .. } in excess {
                match self.read(&claim, &content, now) {
                    Ok(request) => {
                        let door = self.door(claim, body_of(content), &request);
                        let incoming = Incoming { request, door, end: None };
                        if incoming.request.claims_room().is_some() {
                            of_rooms.push(incoming)
                        } else {
                            refuse(incoming)
                        }
                    }
                    Err(unreadable) => self.refuse(claim, unreadable, now),
                }
            }
            self.only_vouched(of_rooms, stop).into_iter().for_each(refuse);
            if found < BATCH || !self.mailing.has_room() {
                return Ok(());
            }
        }
    }

    fn receive(&self, claimed: Vec<Claimed>, stop: &Stop) {
        let now = clock::now();
        let mut lot = Lot { rules: self.dispatcher.rules(), to_arrange: Vec::new(), of_rooms: Vec::new() };
        let mut unnamed = Vec::new();
        for Claimed { claim, content, end } in claimed {
            let read = self.read(&claim, &content, now);
            let body = body_of(content);
            let request = match read {
                Ok(request) => request,
                Err(unreadable) => {
                    self.refuse(claim, unreadable, now);
                    continue;
                }
            };
            let door = self.door(claim, body, &request);
            let incoming = Incoming { request, door, end };
            if incoming.request.is_named { self.sort(incoming, &mut lot, stop) } else { unnamed.push(incoming) }
        }
        for incoming in self.name(unnamed, stop) {
            self.sort(incoming, &mut lot, stop);
        }
        for incoming in self.only_vouched(std::mem::take(&mut lot.of_rooms), stop) {
            self.take_in(incoming, &mut lot, stop);
        }
        if !lot.to_arrange.is_empty() {
            self.arrange(lot.to_arrange, stop);
        }
    }

    /// Takes in one that has its id, unless it has to be asked first who has sent it.
    fn sort(&self, incoming: Incoming, lot: &mut Lot, stop: &Stop) {
        if incoming.request.claims_room().is_some() {
            lot.of_rooms.push(incoming);
        } else {
            self.take_in(incoming, lot, stop);
        }
    }

    fn take_in(&self, incoming: Incoming, lot: &mut Lot, stop: &Stop) {
        let Incoming { request, door, end } = incoming;
        if let Some(end) = end {
            self.dispatcher.refuse(request.id, end, door);
        } else if let Some(needs) = self.needs(&lot.rules, &request, &door) {
            lot.to_arrange.push((request, door, needs));
        } else {
            self.send_on(request, door, stop);
        }
    }

    /// Gives `incoming`, none of which has an id, one in the broker as well. Those that others have taken over are gone.
    fn name(&self, incoming: Vec<Incoming>, stop: &Stop) -> Vec<Incoming> {
        let (mut named, mut texts) = (Vec::new(), Vec::new());
        let mut as_they_are = Vec::new();
        for one in incoming {
            let text = with_id(&one.door.claim.element, &one.request.id);
            // One that would be too long with it, when it is read again, stays as it is.
            match text.filter(|text| text.len() <= self.max_request) {
                Some(text) => {
                    texts.push((one.door.claim.clone(), Arc::from(text)));
                    named.push(one);
                }
                None => as_they_are.push(one),
            }
        }
        if !texts.is_empty() {
            match self.patiently(stop, || self.broker.name(&texts)) {
                Ok(claims) => {
                    let is_ours = |(mut one, claim): (Incoming, Option<Claim>)| {
                        one.door.claim = claim?;
                        Some(one)
                    };
                    as_they_are.extend(named.into_iter().zip(claims).filter_map(is_ours));
                }
                Err(Hindrance::Refused(_)) => as_they_are.append(&mut named),
                // The last one first: each goes to the head of its queue.
                Err(Hindrance::Stopped) => named.into_iter().rev().for_each(|one| one.door.hand_back()),
            }
        }
        as_they_are
    }

    fn read(&self, claim: &Claim, content: &Content, now: u64) -> Result<Request, Unreadable> {
        let (json, number) = match content {
            Content::Inline => (&*claim.element, None),
            Content::Body(number, body) => (body.as_slice(), Some(*number)),
            Content::NoBody(number) => return Err(unreadable("there is no body for this number", Some(*number))),
        };
        // What we have put there ourselves was short enough when it came, and has grown a little.
        let before_cut = length_before_cut(json);
        if before_cut.is_some() || (json.len() > self.max_request && self.source != Source::Delayed) {
            let length = before_cut.unwrap_or(json.len());
            let reason = format!("{length} bytes are more than max_request = {}", self.max_request);
            let id = who_waits_for_large(json, number);
            return Err(Unreadable { error: CallError::BadCall, reason, id });
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
            errand: None,
            started: None,
            is_tracked: request.is_tracked,
        })
    }

    fn send_on(&self, request: Request, door: Box<BrokerDoor>, stop: &Stop) {
        if let Some(due) = self.due(&request) {
            return match self.dispatcher.admit(&request) {
                // Accepted when it is due.
                Ok(_) => door.defer(due),
                Err(refusal) => self.dispatcher.refuse(request.id, refusal, door),
            };
        }
        match self.node_of(&request).map(|node| self.patiently(stop, || self.broker.find_node(node))) {
            None | Some(Ok(Whereabouts::Here)) => self.dispatcher.dispatch(request, door),
            Some(Ok(Whereabouts::There(node))) => door.forward(&node),
            Some(Ok(Whereabouts::Nowhere)) => self.dispatcher.refuse(request.id, CallError::NoSuchNode, door),
            Some(Err(Hindrance::Stopped)) => door.hand_back(),
            Some(Err(Hindrance::Refused(reason))) => self.dispatcher.refuse(request.id, refused(&reason), door),
        }
    }

    /// The one daemon that is to run it. What is in our inbox is ours: whoever put it there knew where we are; but for
    /// rooms, whose requests all begin there.
    fn node_of<'a>(&self, request: &'a Request) -> Option<&'a str> {
        let is_ours = self.source == Source::Inbox && request.vouched_by.is_none();
        request.node.as_deref().filter(|node| *node != EVERYWHERE && !is_ours)
    }

    /// When it may start, if it has to wait until then.
    fn due(&self, request: &Request) -> Option<u64> {
        request.not_before.filter(|_| self.source != Source::Delayed)
    }

    /// What has to be arranged with other daemons before `request` goes on.
    fn needs(&self, rules: &Rules, request: &Request, door: &BrokerDoor) -> Option<Needs> {
        let errand = door.errand.as_deref();
        if request.unique.is_none() && errand.is_none() && !rules.functions.need_arrangement() {
            return None;
        }
        let terms = &rules.functions.get(&request.func)?.terms;
        let runs_here = self.due(request).is_none() && (request.node.is_none() || self.source == Source::Inbox);
        Needs::of(request, errand, terms, runs_here)
    }

    /// Arranges with other daemons what each needs, and sends on those that have it.
    fn arrange(&self, waiting: Vec<(Request, Box<BrokerDoor>, Needs)>, stop: &Stop) {
        let mut admitted = Vec::new();
        for (mut request, door, needs) in waiting {
            match self.admit(&mut request, &needs, stop) {
                Some(Ok(())) => admitted.push((request, door, needs)),
                Some(Err(refusal)) => self.dispatcher.refuse(request.id, refusal, door),
                None => door.hand_back(),
            }
        }
        if admitted.is_empty() {
            return;
        }
        let arrangements: Vec<Arrangement> = admitted
            .iter()
            .map(|(request, door, needs)| Arrangement {
                claim: door.claim.clone(),
                locks: Locks { id: request.id.clone(), unique: needs.unique.clone(), slot: needs.slot.clone() },
                if_held: needs.if_held,
                is_once: needs.is_once,
            })
            .collect();
        let arranged = match self.patiently(stop, || self.broker.arrange(&arrangements)) {
            Ok(arranged) => arranged,
            // The last one first: each goes to the head of its queue.
            Err(Hindrance::Stopped) => return admitted.into_iter().rev().for_each(|(_, door, _)| door.hand_back()),
            Err(Hindrance::Refused(reason)) => {
                for (request, door, _) in admitted {
                    self.dispatcher.refuse(request.id, refused(&reason), door);
                }
                return;
            }
        };
        for ((request, mut door, _), arranged) in admitted.into_iter().zip(arranged) {
            match arranged {
                Arranged::Ready { claim, replaced } => {
                    door.claim = claim;
                    if let Some(replaced) = replaced {
                        log::info!("{replaced}: {} takes its place", request.id);
                        // At the end it is given up; what Redis refuses it has said.
                        let _is_told = self.patiently(stop, || self.broker.cancel(&replaced));
                    }
                    self.send_on(request, door, stop);
                }
                Arranged::Duplicate => self.dispatcher.refuse(request.id, CallError::Duplicate, door),
                Arranged::Refused { claim, reason } => {
                    door.claim = claim;
                    self.dispatcher.refuse(request.id, refused(&reason), door);
                }
                // Not ours any more.
                Arranged::Parked | Arranged::Gone => {}
            }
        }
    }

    /// Refuses what would be refused further on: what is arranged for a request, others are denied or lose. `None` when `stop` was
    /// asked for before that can be told.
    fn admit(&self, request: &mut Request, needs: &Needs, stop: &Stop) -> Option<Result<(), CallError>> {
        let admitted = match needs.if_held == IfHeld::Replaces && needs.runs_here {
            true => self.dispatcher.admit_to_start(request),
            false => self.dispatcher.admit(request).map(drop),
        };
        if admitted.is_ok()
            && let Some(node) = self.node_of(request)
        {
            return match self.patiently(stop, || self.broker.find_node(node)) {
                Ok(Whereabouts::Nowhere) => Some(Err(CallError::NoSuchNode)),
                Ok(_) => Some(admitted),
                Err(Hindrance::Refused(reason)) => Some(Err(refused(&reason))),
                Err(Hindrance::Stopped) => None,
            };
        }
        Some(admitted)
    }

    /// Does `work` until it succeeds; the broker's absence is waited out, a refusal is not.
    fn patiently<T>(&self, stop: &Stop, work: impl Fn() -> broker::Result<T>) -> Result<T, Hindrance> {
        let mut retry = Retry::default();
        loop {
            match work() {
                Ok(done) => return Ok(done),
                Err(error) if error.cause != Cause::Away => return Err(Hindrance::Refused(error.reason)),
                Err(_) if retry.pause(stop) => self.pulse.beat(),
                Err(_) => return Err(Hindrance::Stopped),
            }
        }
    }

    fn refuse(&self, claim: Claim, unreadable: Unreadable, now: u64) {
        let Unreadable { error, reason, id } = unreadable;
        let dead = self.mailing.refused("-", &reason).then(|| {
            let letter = DeadLetter::new(now, id.as_ref(), error.verdict(), reason, &self.node);
            letter.with_element(&claim.element).to_json()
        });
        let is_told = id.is_some();
        let id = id.unwrap_or_else(RequestId::random);
        let door = Refused { mailing: self.mailing.clone(), claim, id: id.clone(), is_told, dead };
        self.dispatcher.refuse(id, error, Box::new(door));
    }
}

/// Why the broker has not done what a request needs.
enum Hindrance {
    /// The daemon ends; the request goes back.
    Stopped,
    /// The broker refuses it, for this reason; that costs this request.
    Refused(String),
}

fn refused(reason: &str) -> CallError {
    CallError::Failed(format!("redis refuses what this call needs: {reason}"))
}

/// A request that was claimed and read.
struct Incoming {
    request: Request,
    door: Box<BrokerDoor>,
    /// How it ends without running.
    end: Option<CallError>,
}

/// What was claimed together.
struct Lot {
    rules: Arc<Rules>,
    to_arrange: Vec<(Request, Box<BrokerDoor>, Needs)>,
    /// Those that say that a room has sent them.
    of_rooms: Vec<Incoming>,
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
