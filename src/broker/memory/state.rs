//! What is in memory, and what becomes of it. Pure but for the answers' ends: `now` is an argument.

use std::collections::{HashMap, HashSet, VecDeque};
use std::sync::Arc;
use std::time::{Duration, Instant};

use super::delayed::Delayed;
use super::in_flight::InFlight;
use super::kept::Kept;
use super::subscription::Watched;
use crate::broker::{
    Arranged, Arrangement, Beginning, Begun, Claim, Claimed, Content, End, Following, IfHeld, Message, QueueTerms,
    Settlement, Source, Stage, parse_number,
};
use crate::protocol::codec::{Encoded, decode_request};
use crate::protocol::{NodeStatus, RequestId, Verdict};

/// All that there is.
#[derive(Default)]
pub(super) struct State {
    pub(super) queues: Vec<VecDeque<Arc<[u8]>>>,
    pub(super) inbox: VecDeque<Arc<[u8]>>,
    /// What the further queues are called.
    pub(super) names: Vec<String>,
    pub(super) bodies: HashMap<u64, Vec<u8>>,
    pub(super) delayed: Delayed,
    pub(super) in_flight: InFlight,
    pub(super) results: HashMap<RequestId, Stored>,
    pub(super) listeners: HashSet<RequestId>,
    /// How far requests have come that were submitted and have no result yet.
    pub(super) stages: HashMap<RequestId, Stage>,
    pub(super) dead: VecDeque<Box<str>>,
    /// What was refused and nobody waits for.
    pub(super) refused: VecDeque<Box<str>>,
    pub(super) verdicts: [u64; Verdict::ALL.len()],
    pub(super) messages: Vec<Message>,
    pub(super) interruptions: u64,
    pub(super) is_away: bool,
    /// The daemon has ended, and none comes after it.
    pub(super) is_closed: bool,
    /// Who holds which unique key.
    pub(super) unique: HashMap<Box<str>, Hold>,
    /// Which calls of limited functions run.
    pub(super) slots: HashMap<Box<str>, HashSet<RequestId>>,
    /// Which wait for a place among those.
    pub(super) parked: HashMap<Box<str>, VecDeque<Arc<[u8]>>>,
    /// Which wait for a unique key.
    pub(super) waiting: HashMap<Box<str>, VecDeque<Arc<[u8]>>>,
    /// What rooms have sent and has not ended: no two of them give the same id.
    pub(super) vouched: HashMap<RequestId, Arc<[u8]>>,
    /// Which of it has been taken.
    pub(super) taken: HashSet<RequestId>,
    /// Who watches which requests.
    pub(super) watched: Watched,
    /// How many have begun to watch any.
    pub(super) subscriptions: u64,
    /// What rooms keep.
    pub(super) kept: Kept,
    /// What the daemon last said of itself, and when.
    pub(super) told: Option<(u64, NodeStatus)>,
}

pub(super) struct Stored {
    pub(super) answer: Arc<Encoded>,
    pub(super) until: Instant,
}

/// Who holds a unique key, and until when at the most.
pub(super) struct Hold {
    id: RequestId,
    until: Instant,
    /// So long at the most, from each time at which somebody gets it.
    longest: Duration,
}

/// The dead list holds no more than this.
const MOST_DEAD: usize = 1000;

impl State {
    pub(super) fn arrange(&mut self, one: &Arrangement, now: Instant) -> Arranged {
        let Arrangement { claim, locks, if_held, is_once } = one;
        let mut replaced = None;
        if let Some((key, longest)) = &locks.unique {
            let other = self.unique.get(key).filter(|hold| hold.until > now && hold.id != locks.id);
            let waiting = self.waiting.get(key).map_or(0, VecDeque::len);
            match (other, if_held) {
                (None, _) => {}
                (Some(hold), IfHeld::Replaces) => replaced = Some(hold.id.clone()),
                (Some(_), IfHeld::Waits { most }) if waiting < *most => {
                    self.waiting.entry(key.clone()).or_default().push_back(Arc::clone(&claim.element));
                    self.leave(claim);
                    return Arranged::Parked;
                }
                (Some(_), IfHeld::Waits { .. } | IfHeld::Rejected) => return Arranged::Duplicate,
            }
            self.unique.retain(|_, hold| hold.until > now);
            let hold = Hold { id: locks.id.clone(), until: now + *longest, longest: *longest };
            self.unique.insert(key.clone(), hold);
        }
        if let Some((func, most)) = &locks.slot {
            let slots = self.slots.entry(func.clone()).or_default();
            if slots.len() >= *most && !slots.contains(&locks.id) {
                self.parked.entry(func.clone()).or_default().push_back(Arc::clone(&claim.element));
                self.leave(claim);
                return Arranged::Parked;
            }
            slots.insert(locks.id.clone());
        }
        let claim = Claim { is_once: *is_once, locks: Some(Arc::new(locks.clone())), ..claim.clone() };
        Arranged::Ready { claim, replaced }
    }

    /// Stores the answer to `id` until then, which those who watch it are told.
    pub(super) fn answer(&mut self, id: &RequestId, answer: &Arc<Encoded>, until: Instant) {
        self.watched.tell(id, || Stage::Done(answer.json.to_vec()));
        self.results.insert(id.clone(), Stored { answer: Arc::clone(answer), until });
        self.stages.remove(id);
    }

    /// Forgets answers whose time is over, and who has never asked for one.
    pub(super) fn forget_old(&mut self, now: Instant) {
        let listeners = &mut self.listeners;
        self.results.retain(|id, stored| {
            let is_kept = stored.until > now;
            if !is_kept {
                listeners.remove(id);
            }
            is_kept
        });
    }

    /// Puts an entry on the dead list, or among what was refused.
    pub(super) fn bury(&mut self, is_refused: bool, entry: Box<str>) {
        let list = if is_refused { &mut self.refused } else { &mut self.dead };
        list.push_back(entry);
        let excess = list.len().saturating_sub(MOST_DEAD);
        list.drain(..excess);
    }

    /// From now on what `claim` names is `element`.
    pub(super) fn name(&mut self, claim: &Claim, element: &Arc<[u8]>) -> Option<Claim> {
        if !self.in_flight.remove(&claim.element) {
            return None;
        }
        self.in_flight.add(Arc::clone(element));
        Some(Claim { element: Arc::clone(element), ..claim.clone() })
    }

    /// Frees what an element holds that leaves.
    pub(super) fn release(&mut self, settlement: &Settlement, now: Instant) {
        let Some(locks) = settlement.claim.locks.as_deref() else { return };
        if let Some((key, longest)) = &locks.unique
            && let Some(hold) = self.unique.get_mut(key).filter(|hold| hold.id == locks.id)
        {
            if let End::Answered { .. } = settlement.end {
                self.hand_over(key, now);
            } else {
                // While it waits for its next run it keeps others away as before.
                hold.until = now + *longest;
            }
        }
        if let Some((func, _)) = &locks.slot {
            if let Some(slots) = self.slots.get_mut(func) {
                slots.remove(&locks.id);
            }
            let next = self.parked.get_mut(func).and_then(VecDeque::pop_front);
            if let Some(next) = next {
                self.delayed.push(0, next);
            }
        }
    }

    /// Gives `key` to the first of those that wait for it, if there are any.
    fn hand_over(&mut self, key: &str, now: Instant) {
        let Some(hold) = self.unique.remove(key) else { return };
        let Some(waiting) = self.waiting.get_mut(key) else { return };
        let next = waiting.pop_front();
        if waiting.is_empty() {
            self.waiting.remove(key);
        }
        let Some(next) = next else { return };
        // It has the key at once, so that none who comes later is before it.
        if let Some(id) = id_of(&next) {
            self.unique.insert(key.into(), Hold { id, until: now + hold.longest, ..hold });
        }
        self.inbox.push_back(next);
    }

    /// The request `id`, which waited, has ended: what it held while it did goes to others.
    pub(super) fn give_back(&mut self, id: &RequestId, now: Instant) {
        let held = self.unique.iter().filter(|(_, hold)| hold.id == *id);
        let keys: Vec<Box<str>> = held.map(|(key, _)| key.clone()).collect();
        keys.iter().for_each(|key| self.hand_over(key, now));
    }

    /// Begins what a room begins, with its request into the inbox.
    pub(super) fn begin(&mut self, beginning: &Beginning) -> Begun {
        if let Some(begun) = self.kept.begun(beginning) {
            return begun;
        }
        let begun = self.kept.begin(beginning);
        if let (Begun::Sent, Some(Following { id, element })) = (begun, &beginning.request) {
            self.vouch(id.clone(), element.as_bytes());
            self.inbox.push_back(Arc::from(element.as_bytes()));
        }
        begun
    }

    /// Notes that a room has sent `request` under `id`.
    pub(super) fn vouch(&mut self, id: RequestId, request: &[u8]) {
        self.vouched.insert(id, Arc::from(request));
    }

    /// Whether `element` is what a room has sent under `id`, and no copy of it; then it is taken.
    pub(super) fn take_vouched(&mut self, id: &RequestId, element: &[u8]) -> bool {
        if self.vouched.get(id).is_none_or(|sent| **sent != *element) {
            return false;
        }
        let is_taken = !self.taken.insert(id.clone());
        !is_taken || self.in_flight.count(element) == 1
    }

    /// What a room has sent under `id` has ended.
    pub(super) fn forget_vouched(&mut self, id: &RequestId) {
        self.vouched.remove(id);
        self.taken.remove(id);
    }

    /// What a room has sent is known as that until it ends, also in the form in which it waits for its next run.
    pub(super) fn note_vouched(&mut self, settlement: &Settlement) {
        let Some(vouched) = &settlement.claim.vouched else { return };
        match &settlement.end {
            End::Answered { .. } => self.forget_vouched(&vouched.id),
            End::Deferred { waiting, .. } => drop(self.vouched.insert(vouched.id.clone(), Arc::clone(waiting))),
            _ => {}
        }
    }

    /// Takes out what waits as `id`.
    pub(super) fn withdraw(&mut self, id: &RequestId) -> Option<Arc<[u8]>> {
        let is_it = |element: &Arc<[u8]>| id_of(element).as_ref() == Some(id);
        let lists = self
            .queues
            .iter_mut()
            .chain([&mut self.inbox])
            .chain(self.parked.values_mut())
            .chain(self.waiting.values_mut());
        for list in lists {
            if let Some(place) = list.iter().position(is_it) {
                return list.remove(place);
            }
        }
        self.delayed.remove(is_it)
    }

    /// The number of the further queue called `name`, or of the usual one.
    pub(super) fn number(&self, name: Option<&str>) -> Option<usize> {
        match name {
            Some(name) if name != QueueTerms::DEFAULT => Some(2 + self.names.iter().position(|other| other == name)?),
            _ => Some(0),
        }
    }

    pub(super) fn claim(&mut self, source: Source, limit: usize, now: u64) -> Vec<Claimed> {
        let elements: Vec<Arc<[u8]>> = match source {
            Source::Queue(number) => {
                let queue = &mut self.queues[number];
                let count = limit.min(queue.len());
                queue.drain(..count).collect()
            }
            Source::Inbox => {
                let count = limit.min(self.inbox.len());
                self.inbox.drain(..count).collect()
            }
            Source::Delayed => self.delayed.take_due(now, limit),
        };
        self.take(source, elements)
    }

    pub(super) fn take(&mut self, source: Source, elements: Vec<Arc<[u8]>>) -> Vec<Claimed> {
        elements.iter().for_each(|element| self.in_flight.add(Arc::clone(element)));
        let claimed = elements.into_iter().map(|element| {
            let content = self.content(&element);
            let body_key = matches!(content, Content::Body(..)).then(|| "body".into());
            Claimed {
                claim: Claim { source, element, body_key, epoch: 0, is_once: false, locks: None, vouched: None },
                content,
                end: None,
            }
        });
        claimed.collect()
    }

    pub(super) fn content(&self, element: &[u8]) -> Content {
        match parse_number(element) {
            None => Content::Inline,
            Some(number) => match self.bodies.get(&number) {
                Some(body) => Content::Body(number, body.clone()),
                None => Content::NoBody(number),
            },
        }
    }

    pub(super) fn leave(&mut self, claim: &Claim) {
        self.in_flight.remove(&claim.element);
    }

    pub(super) fn next_due(&self) -> Option<u64> {
        self.delayed.next_due()
    }
}

/// The id that an element goes by.
pub(super) fn id_of(element: &[u8]) -> Option<RequestId> {
    let of_text = || decode_request(element, None, 0).ok().map(|request| request.id);
    parse_number(element).map(RequestId::Number).or_else(of_text)
}
