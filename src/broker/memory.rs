//! The broker in memory: for tests, for embedding, and for `server = "none"`.
//!
//! It keeps the promises of the real one within one process, and can be told to be away.

use std::collections::{HashMap, HashSet, VecDeque};
use std::sync::{Arc, Condvar, Mutex, MutexGuard};
use std::time::{Duration, Instant};

use super::{
    Arranged, Arrangement, Broker, BrokerError, Claim, Claimed, Content, Found, Message, Post, QueueTerms, Result,
    Settlement, Source, Whereabouts,
};
use crate::clock;
use crate::protocol::codec::{Encoded, decode_request, encode_outcome};
use crate::protocol::{CallError, Node, NodeStatus, RequestId, Verdict};

/// Requests and answers in this process. Clones share them.
#[derive(Clone)]
pub struct Memory(Arc<Shared>);

struct Shared {
    result_ttl: Duration,
    started: u64,
    state: Mutex<State>,
    changed: Condvar,
}

#[derive(Default)]
struct State {
    queues: Vec<VecDeque<Arc<[u8]>>>,
    inbox: VecDeque<Arc<[u8]>>,
    /// What the further queues are called.
    names: Vec<String>,
    bodies: HashMap<u64, Vec<u8>>,
    delayed: Vec<(u64, Arc<[u8]>)>,
    in_flight: Vec<Arc<[u8]>>,
    results: HashMap<RequestId, Stored>,
    listeners: HashSet<RequestId>,
    dead: VecDeque<Box<str>>,
    verdicts: [u64; Verdict::ALL.len()],
    messages: Vec<Message>,
    interruptions: u64,
    is_away: bool,
    /// Who holds which unique key.
    unique: HashMap<Box<str>, RequestId>,
    /// Which calls of limited functions run.
    slots: HashMap<Box<str>, HashSet<RequestId>>,
    /// Which wait for a place among those.
    parked: HashMap<Box<str>, VecDeque<Arc<[u8]>>>,
    /// What the daemon last said of itself, and when.
    told: Option<(u64, NodeStatus)>,
}

struct Stored {
    answer: Arc<Encoded>,
    until: Instant,
}

/// The dead list holds no more than this.
const MOST_DEAD: usize = 1000;

impl Memory {
    /// An empty broker that keeps answers for `result_ttl`.
    pub fn new(result_ttl: Duration) -> Self {
        Self::with_queues(result_ttl, &[])
    }

    /// One that has `further` queues besides the usual one.
    pub fn with_queues(result_ttl: Duration, further: &[String]) -> Self {
        let names = further.to_vec();
        let state = State { queues: vec![VecDeque::new(); 2 + names.len()], names, ..State::default() };
        let (started, state) = (clock::now(), Mutex::new(state));
        Memory(Arc::new(Shared { result_ttl, started, state, changed: Condvar::new() }))
    }

    /// From now on every verb fails, until it is told otherwise.
    pub fn set_away(&self, is_away: bool) {
        self.state().is_away = is_away;
        self.0.changed.notify_all();
    }

    /// Puts an element to the end of a queue, as `RPUSH` does.
    pub fn push(&self, queue: usize, element: impl Into<Vec<u8>>) {
        self.state().queues[queue].push_back(Arc::from(element.into()));
        self.0.changed.notify_all();
    }

    /// Sets the body of a numbered request.
    pub fn set_body(&self, number: u64, body: impl Into<Vec<u8>>) {
        self.state().bodies.insert(number, body.into());
    }

    /// The elements that wait in a queue, the next one first.
    pub fn queue(&self, queue: usize) -> Vec<Vec<u8>> {
        self.state().queues[queue].iter().map(|element| element.to_vec()).collect()
    }

    fn find_and_cancel(&self, id: &RequestId) -> Result<Found> {
        let mut state = self.present()?;
        let found = match state.withdraw(id) {
            Some(_) => {
                let answer = encode_outcome(Err(CallError::Cancelled));
                let until = Instant::now() + self.0.result_ttl;
                state.verdicts[Verdict::Cancelled as usize] += 1;
                state.results.insert(id.clone(), Stored { answer, until });
                Found::Waiting
            }
            None if state.in_flight.iter().any(|element| id_of(element).as_ref() == Some(id)) => {
                state.messages.push(Message::Cancel(id.clone()));
                Found::InFlight("memory".to_owned())
            }
            None if state.results.contains_key(id) => Found::Ended,
            None => Found::Nowhere,
        };
        drop(state);
        self.0.changed.notify_all();
        Ok(found)
    }

    /// Tells the daemon something.
    pub fn send_message(&self, message: Message) {
        self.state().messages.push(message);
        self.0.changed.notify_all();
    }

    /// How many elements are claimed and not settled.
    pub fn in_flight(&self) -> usize {
        self.state().in_flight.len()
    }

    /// The entries of the dead list, the oldest first.
    pub fn dead(&self) -> Vec<String> {
        self.state().dead.iter().map(|entry| entry.to_string()).collect()
    }

    /// How many requests ended with `verdict` so far.
    pub fn count(&self, verdict: Verdict) -> u64 {
        self.state().verdicts[verdict as usize]
    }

    /// The stored answer to `id`, waiting at most `patience` for it.
    pub fn answer(&self, id: &RequestId, patience: Duration) -> Option<Arc<Encoded>> {
        let waited = self.0.changed.wait_timeout_while(self.state(), patience, |state| !state.results.contains_key(id));
        let state = waited.expect("nothing panics under this lock").0;
        state.results.get(id).map(|stored| Arc::clone(&stored.answer))
    }

    fn state(&self) -> MutexGuard<'_, State> {
        self.0.state.lock().expect("nothing panics under this lock")
    }

    fn present(&self) -> Result<MutexGuard<'_, State>> {
        let state = self.state();
        if state.is_away { Err(self.away()) } else { Ok(state) }
    }

    /// Nobody would ever take what is put there.
    fn no_queue(&self, name: Option<&str>) -> BrokerError {
        let reason = format!("has no queue {:?}", name.unwrap_or_default());
        BrokerError { address: self.address(), reason, is_permanent: true }
    }

    fn away(&self) -> BrokerError {
        BrokerError { address: self.address(), reason: "is told to be away".to_owned(), is_permanent: false }
    }
}

impl Broker for Memory {
    fn sources(&self) -> Vec<Source> {
        let queues = self.state().queues.len();
        (0..queues).map(Source::Queue).chain([Source::Delayed, Source::Inbox]).collect()
    }

    fn claim_excess(&self, source: Source, longest: usize, limit: usize) -> Result<Vec<Claimed>> {
        let mut state = self.present()?;
        let Source::Queue(number) = source else { return Ok(Vec::new()) };
        let queue = &mut state.queues[number];
        let excess = queue.len().saturating_sub(longest).min(limit);
        let elements = queue.split_off(queue.len() - excess);
        Ok(state.take(source, elements.into()))
    }

    fn claim(&self, source: Source, limit: usize, patience: Duration) -> Result<Vec<Claimed>> {
        let deadline = Instant::now() + patience;
        let mut state = self.present()?;
        let interruptions = state.interruptions;
        loop {
            if state.is_away {
                return Err(self.away());
            }
            let claimed = state.claim(source, limit, clock::now());
            let left = deadline.saturating_duration_since(Instant::now());
            if !claimed.is_empty() || left.is_zero() || state.interruptions != interruptions {
                return Ok(claimed);
            }
            let pause = match (source, state.next_due()) {
                (Source::Delayed, Some(due)) => {
                    left.min(Duration::from_millis(due.saturating_sub(clock::now()).max(1)))
                }
                _ => left,
            };
            state = self.0.changed.wait_timeout(state, pause).expect("nothing panics under this lock").0;
        }
    }

    fn settle(&self, batch: &[Settlement]) -> Result<Vec<RequestId>> {
        let mut state = self.present()?;
        let now = Instant::now();
        state.results.retain(|_, stored| stored.until > now);
        let mut unheard = Vec::new();
        for settlement in batch {
            if let Some(claim) = settlement.claim() {
                state.leave(claim);
            }
            if settlement.body().is_some()
                && let Some(claim) = settlement.claim()
                && let Content::Body(number, _) = state.content(&claim.element)
            {
                state.bodies.remove(&number);
            }
            state.release(settlement);
            match settlement {
                Settlement::Forwarded { claim, .. } => state.inbox.push_back(Arc::clone(&claim.element)),
                Settlement::Answered { dead, verdict, .. } => {
                    state.verdicts[*verdict as usize] += 1;
                    state.dead.extend(dead.clone());
                    let excess = state.dead.len().saturating_sub(MOST_DEAD);
                    state.dead.drain(..excess);
                }
                Settlement::AnsweredEarly { .. } => {}
                Settlement::Deferred { due, waiting, .. } => state.delayed.push((*due, Arc::clone(waiting))),
                Settlement::HandedBack { claim } => match claim.source {
                    Source::Queue(number) => state.queues[number].push_front(Arc::clone(&claim.element)),
                    Source::Delayed => state.delayed.push((0, Arc::clone(&claim.element))),
                    Source::Inbox => state.inbox.push_front(Arc::clone(&claim.element)),
                },
            }
            if let Some((id, answer)) = settlement.answer() {
                let until = now + self.0.result_ttl;
                state.results.insert(id.clone(), Stored { answer: Arc::clone(answer), until });
                if !state.listeners.contains(id) {
                    unheard.push(id.clone());
                }
            }
        }
        drop(state);
        self.0.changed.notify_all();
        Ok(unheard)
    }

    fn publish_again(&self, _: &[RequestId]) -> Result<Vec<RequestId>> {
        // Whoever comes late reads what is stored: nothing needs to be said twice, and nobody is left to tell.
        self.present().map(|_| Vec::new())
    }

    fn tell(&self, about: NodeStatus) {
        self.state().told = Some((clock::now(), about));
    }

    fn heartbeat(&self) -> Result<()> {
        self.present().map(drop)
    }

    fn leave(&self) -> Result<()> {
        self.present().map(|mut state| state.told = None)
    }

    fn listen(&self, patience: Duration) -> Result<Vec<Message>> {
        let state = self.present()?;
        let interruptions = state.interruptions;
        let nothing = |state: &mut State| state.messages.is_empty() && state.interruptions == interruptions;
        let waited = self.0.changed.wait_timeout_while(state, patience, nothing);
        let mut state = waited.expect("nothing panics under this lock").0;
        Ok(state.messages.drain(..).collect())
    }

    fn arrange(&self, arrangements: &[Arrangement]) -> Result<Vec<Arranged>> {
        let mut state = self.present()?;
        Ok(arrangements.iter().map(|one| state.arrange(one)).collect())
    }

    fn cancel(&self, id: &RequestId) -> Result<()> {
        self.find_and_cancel(id).map(drop)
    }

    fn interrupt(&self) {
        self.state().interruptions += 1;
        self.0.changed.notify_all();
    }

    fn find_node(&self, name: &str) -> Result<Whereabouts> {
        let state = self.present()?;
        let is_ours = name == self.node() || state.told.as_ref().is_some_and(|(_, status)| status.name == name);
        Ok(if is_ours { Whereabouts::Here } else { Whereabouts::Nowhere })
    }

    fn node(&self) -> &str {
        "memory"
    }

    fn address(&self) -> String {
        "memory".to_owned()
    }
}

impl State {
    fn arrange(&mut self, one: &Arrangement) -> Arranged {
        let Arrangement { claim, locks, replaces, is_once, .. } = one;
        let mut replaced = None;
        if let Some((key, _)) = &locks.unique {
            match self.unique.get(key) {
                Some(holder) if *holder != locks.id && !replaces => return Arranged::Duplicate,
                Some(holder) if *holder != locks.id => replaced = Some(holder.clone()),
                _ => {}
            }
            self.unique.insert(key.clone(), locks.id.clone());
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

    /// Frees what an element holds that leaves.
    fn release(&mut self, settlement: &Settlement) {
        let Some(locks) = settlement.claim().and_then(|claim| claim.locks.as_deref()) else { return };
        if let Some((key, _)) = &locks.unique
            && matches!(settlement, Settlement::Answered { .. })
            && self.unique.get(key) == Some(&locks.id)
        {
            self.unique.remove(key);
        }
        if let Some((func, _)) = &locks.slot {
            if let Some(slots) = self.slots.get_mut(func) {
                slots.remove(&locks.id);
            }
            let next = self.parked.get_mut(func).and_then(VecDeque::pop_front);
            self.delayed.extend(next.map(|next| (0, next)));
        }
    }

    /// Takes out what waits as `id`.
    fn withdraw(&mut self, id: &RequestId) -> Option<Arc<[u8]>> {
        let is_it = |element: &Arc<[u8]>| id_of(element).as_ref() == Some(id);
        let lists = self.queues.iter_mut().chain([&mut self.inbox]).chain(self.parked.values_mut());
        for list in lists {
            if let Some(place) = list.iter().position(is_it) {
                return list.remove(place);
            }
        }
        let place = self.delayed.iter().position(|(_, element)| is_it(element))?;
        Some(self.delayed.remove(place).1)
    }

    /// The number of the further queue called `name`, or of the usual one.
    fn number(&self, name: Option<&str>) -> Option<usize> {
        match name {
            Some(name) if name != QueueTerms::DEFAULT => Some(2 + self.names.iter().position(|other| other == name)?),
            _ => Some(0),
        }
    }

    fn claim(&mut self, source: Source, limit: usize, now: u64) -> Vec<Claimed> {
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
            Source::Delayed => {
                let due = self.delayed.extract_if(.., |(due, _)| *due <= now).take(limit);
                due.map(|(_, element)| element).collect()
            }
        };
        self.take(source, elements)
    }

    fn take(&mut self, source: Source, elements: Vec<Arc<[u8]>>) -> Vec<Claimed> {
        self.in_flight.extend(elements.iter().cloned());
        let claimed = elements.into_iter().map(|element| {
            let content = self.content(&element);
            let body_key = matches!(content, Content::Body(..)).then(|| "body".into());
            Claimed {
                claim: Claim { source, element, body_key, epoch: 0, is_once: false, locks: None },
                content,
                is_lost: false,
            }
        });
        claimed.collect()
    }

    fn content(&self, element: &[u8]) -> Content {
        let number = std::str::from_utf8(element).ok().filter(|text| text.bytes().all(|byte| byte.is_ascii_digit()));
        match number.and_then(|text| text.parse().ok()) {
            None => Content::Inline,
            Some(number) => match self.bodies.get(&number) {
                Some(body) => Content::Body(number, body.clone()),
                None => Content::NoBody(number),
            },
        }
    }

    fn leave(&mut self, claim: &Claim) {
        if let Some(place) = self.in_flight.iter().position(|element| *element == claim.element) {
            self.in_flight.swap_remove(place);
        }
    }

    fn next_due(&self) -> Option<u64> {
        self.delayed.iter().map(|(due, _)| *due).min()
    }
}

/// The id that an element goes by.
fn id_of(element: &[u8]) -> Option<RequestId> {
    let text = std::str::from_utf8(element).ok()?;
    match text.parse() {
        Ok(number) => Some(RequestId::Number(number)),
        Err(_) => decode_request(element, None, 0).ok().map(|request| request.id),
    }
}

impl Post for Memory {
    fn send(&mut self, queue: Option<&str>, element: &[u8], id: Option<&RequestId>) -> Result<()> {
        let mut state = self.present()?;
        let number = state.number(queue).ok_or_else(|| self.no_queue(queue))?;
        state.listeners.extend(id.cloned());
        state.queues[number].push_back(Arc::from(element));
        drop(state);
        self.0.changed.notify_all();
        Ok(())
    }

    fn receive(&mut self, id: &RequestId, patience: Duration) -> Result<Option<Vec<u8>>> {
        let answer = self.answer(id, patience);
        if answer.is_some() {
            self.state().listeners.remove(id);
        }
        Ok(answer.map(|answer| answer.json.to_vec()))
    }

    fn withdraw(&mut self, queue: Option<&str>, element: &[u8], id: &RequestId) -> Result<bool> {
        let mut state = self.present()?;
        state.listeners.remove(id);
        let number = state.number(queue).ok_or_else(|| self.no_queue(queue))?;
        let queue = &mut state.queues[number];
        let place = queue.iter().position(|waiting| **waiting == *element);
        Ok(place.and_then(|place| queue.remove(place)).is_some())
    }

    fn nodes(&mut self) -> Result<Vec<Node>> {
        let told = self.present()?.told.clone();
        let node = told.map(|(at, status)| Node {
            node: self.address(),
            host: rustix::system::uname().nodename().to_string_lossy().into_owned(),
            pid: std::process::id(),
            version: env!("CARGO_PKG_VERSION").to_owned(),
            started: self.0.started,
            at,
            fenced: 0,
            status,
        });
        Ok(node.into_iter().collect())
    }
}
