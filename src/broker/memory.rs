//! The broker in memory: for tests, for embedding, and for `server = "none"`.
//!
//! It keeps the promises of the real one within one process, and can be told to be away.

mod delayed;
mod in_flight;
mod inspect;
mod journal;
mod kept;
mod post;
mod settle;
mod state;
mod subscription;

use std::collections::VecDeque;
use std::io;
use std::path::Path;
use std::sync::{Arc, Condvar, Mutex, MutexGuard};
use std::time::{Duration, Instant};

pub use self::journal::JOURNAL;
use self::kept::Kept;
use self::state::{State, id_of};
use super::{
    Arranged, Arrangement, Beginning, Begun, BrokerError, Cause, Claim, Claimed, Fields, Found, Message, Notice,
    Outgoing, Presence, Result, Source, Stage, Store, Whereabouts, Work,
};
use crate::clock;
use crate::effects::{FieldValue, Put, StoreKey};
use crate::lock::Unpoisoned;
use crate::protocol::codec::{Encoded, encode_outcome};
use crate::protocol::{CallError, NodeStatus, RequestId, Verdict};

/// Requests and answers in this process. Clones share them.
#[derive(Clone)]
pub struct Memory(Arc<Shared>);

struct Shared {
    result_ttl: Duration,
    started: u64,
    state: Mutex<State>,
    changed: Condvar,
}

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

    /// From now on what rooms keep is also written to a file in `folder`, which may have that of an earlier process.
    pub fn keep_in(&self, folder: &Path) -> io::Result<()> {
        self.state().kept.open(folder)
    }

    /// The same, but nothing is made in `folder` before there is something to keep.
    pub fn keep_later_in(&self, folder: &Path) -> io::Result<()> {
        self.state().kept.open_later(folder)
    }

    /// One that has what rooms have kept in `folder`, to be looked at: nothing is written there.
    pub fn read_from(folder: &Path) -> io::Result<Self> {
        let memory = Self::new(Duration::ZERO);
        memory.state().kept = Kept::read(folder)?;
        Ok(memory)
    }

    /// The keys of rooms that begin with `beginning`.
    pub fn keys(&self, beginning: &str) -> Vec<StoreKey> {
        self.state().kept.keys(beginning)
    }

    /// Whether nothing is claimed, and nothing waits to be.
    pub fn is_idle(&self) -> bool {
        let state = self.state();
        state.in_flight.is_empty() && state.inbox.is_empty() && state.queues.iter().all(VecDeque::is_empty)
    }

    /// The daemon has ended, and nobody comes after it: whoever waits for an answer is told that it is lost, and nothing more is sent.
    pub(crate) fn close(&self) {
        let mut state = self.state();
        state.is_closed = true;
        let until = Instant::now() + self.0.result_ttl;
        let unanswered: Vec<RequestId> =
            state.listeners.iter().filter(|id| !state.results.contains_key(*id)).cloned().collect();
        let lost = encode_outcome(Err(CallError::Lost));
        unanswered.iter().for_each(|id| state.answer(id, &lost, until));
        drop(state);
        self.0.changed.notify_all();
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
                state.forget_vouched(id);
                state.give_back(id, Instant::now());
                state.verdicts[Verdict::Cancelled as usize] += 1;
                let answer = encode_outcome(Err(CallError::Cancelled));
                state.answer(id, &answer, Instant::now() + self.0.result_ttl);
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

    /// What was refused and nobody waits for, the oldest first.
    pub fn refused(&self) -> Vec<String> {
        self.state().refused.iter().map(|entry| entry.to_string()).collect()
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
        let state = waited.unpoisoned().0;
        state.results.get(id).map(|stored| Arc::clone(&stored.answer))
    }

    fn state(&self) -> MutexGuard<'_, State> {
        self.0.state.lock().unpoisoned()
    }

    fn present(&self) -> Result<MutexGuard<'_, State>> {
        let state = self.state();
        if state.is_away { Err(self.away()) } else { Ok(state) }
    }

    fn away(&self) -> BrokerError {
        BrokerError { address: self.address(), reason: "is told to be away".to_owned(), cause: Cause::Away }
    }
}

impl Work for Memory {
    fn sources(&self) -> Vec<Source> {
        let queues = self.state().queues.len();
        (0..queues).map(Source::Queue).chain([Source::Delayed, Source::Inbox]).collect()
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
            state = self.0.changed.wait_timeout(state, pause).unpoisoned().0;
        }
    }

    fn claim_excess(&self, source: Source, longest: usize, limit: usize) -> Result<Vec<Claimed>> {
        let mut state = self.present()?;
        let Source::Queue(number) = source else { return Ok(Vec::new()) };
        let queue = &mut state.queues[number];
        let excess = queue.len().saturating_sub(longest).min(limit);
        let elements = queue.split_off(queue.len() - excess);
        Ok(state.take(source, elements.into()))
    }

    fn name(&self, named: &[(Claim, Arc<[u8]>)]) -> Result<Vec<Option<Claim>>> {
        let mut state = self.present()?;
        Ok(named.iter().map(|(claim, element)| state.name(claim, element)).collect())
    }

    fn arrange(&self, arrangements: &[Arrangement]) -> Result<Vec<Arranged>> {
        let mut state = self.present()?;
        let now = Instant::now();
        Ok(arrangements.iter().map(|one| state.arrange(one, now)).collect())
    }

    fn cancel(&self, id: &RequestId) -> Result<()> {
        self.find_and_cancel(id).map(drop)
    }

    fn settle(&self, batch: &[Outgoing]) -> Result<Vec<RequestId>> {
        let mut state = self.present()?;
        let now = Instant::now();
        state.forget_old(now);
        let mut unheard = Vec::new();
        for outgoing in batch {
            match outgoing {
                Outgoing::Settlement(settlement) => state.settle(settlement, now),
                Outgoing::Notice(Notice::Started { id }) => {
                    if let Some(stage) = state.stages.get_mut(id) {
                        *stage = Stage::Pending;
                        state.watched.tell(id, || Stage::Pending);
                    }
                }
                Outgoing::Notice(Notice::AnsweredEarly { .. }) => {}
            }
            if let Some((id, answer)) = outgoing.answer() {
                state.answer(id, answer, now + self.0.result_ttl);
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

    fn begin(&self, beginnings: &[Beginning]) -> Result<Vec<Begun>> {
        let mut state = self.present()?;
        let begun = beginnings.iter().map(|beginning| state.begin(beginning)).collect();
        drop(state);
        self.0.changed.notify_all();
        Ok(begun)
    }

    fn take_vouched(&self, _: &'static str, elements: &[(&RequestId, &[u8])]) -> Result<Vec<bool>> {
        let mut state = self.present()?;
        Ok(elements.iter().map(|(id, element)| state.take_vouched(id, element)).collect())
    }

    fn interrupt(&self) {
        self.state().interruptions += 1;
        self.0.changed.notify_all();
    }
}

impl Presence for Memory {
    fn node(&self) -> &str {
        "memory"
    }

    fn address(&self) -> String {
        "memory".to_owned()
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
        let mut state = waited.unpoisoned().0;
        Ok(state.messages.drain(..).collect())
    }

    fn find_node(&self, name: &str) -> Result<Whereabouts> {
        let state = self.present()?;
        let is_ours = name == self.node() || state.told.as_ref().is_some_and(|(_, status)| status.name == name);
        Ok(if is_ours { Whereabouts::Here } else { Whereabouts::Nowhere })
    }

    fn is_away(&self) -> bool {
        self.state().is_away
    }

    fn trouble(&self) -> Option<String> {
        self.present().err().map(|error| error.to_string())
    }
}

impl Store for Memory {
    fn read(&self, keys: &[StoreKey]) -> Result<Vec<Fields>> {
        let state = self.present()?;
        Ok(keys.iter().map(|key| state.kept.of(key)).collect())
    }

    fn get(&self, key: &StoreKey, field: &str) -> Result<Option<FieldValue>> {
        Ok(self.present()?.kept.get(key, field).cloned())
    }

    fn put(&self, puts: &[Put]) -> Result<Vec<bool>> {
        Ok(self.present()?.kept.put(puts))
    }

    fn forget(&self, keys: &[StoreKey]) -> Result<()> {
        self.present()?.kept.forget(keys);
        Ok(())
    }
}
