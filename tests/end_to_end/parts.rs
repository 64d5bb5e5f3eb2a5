//! A daemon put together from its parts, over a broker that writes down what it is told. For what cannot be seen from outside: how
//! often a request was answered, and the account at the end.

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant};

use cerbas::broker::{
    Arranged, Arrangement, Beginning, Begun, Broker, Claim, Claimed, End, Fields, Memory, Message, Notice, Outgoing,
    Post, Presence, Result, Source, Store, Whereabouts, Work,
};
use cerbas::dispatch::{Dispatcher, PoolSize, Rules};
use cerbas::effects::{FieldValue, Put, StoreKey};
use cerbas::errand::Rooms;
use cerbas::functions::Functions;
use cerbas::intake::{Intake, Shares};
use cerbas::ledger::Balance;
use cerbas::outbox::Outbox;
use cerbas::protocol::{CallError, NodeStatus, RequestId, Verdict};
use cerbas::thread::{Joined, Pulses, Stop, Threads};

use crate::support::PATIENCE;

/// What became of one request.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub(crate) struct Fate {
    /// Each of its answers: how it ended, where that was told.
    pub(crate) answers: Vec<Option<Verdict>>,
    /// How often its caller was told something.
    pub(crate) told: usize,
    /// How often it is in the queue, or waits until it is due.
    pub(crate) waiting: i64,
}

/// A request with this in it is claimed as one whose daemon has died too often.
const UNLUCKY: &[u8] = b"unlucky";

/// The broker in memory, and what became of each request by its id.
#[derive(Clone)]
pub(crate) struct Recorder {
    pub(crate) memory: Memory,
    fates: Arc<Mutex<BTreeMap<String, Fate>>>,
}

impl Recorder {
    fn new() -> Self {
        Recorder { memory: Memory::new(Duration::from_secs(3600)), fates: Arc::default() }
    }

    /// Puts `request`, which has an id, into the queue.
    pub(crate) fn push(&self, id: &str, request: &str) {
        self.note(id, |fate| fate.waiting += 1);
        let id = RequestId::from_text(id).expect("the test's id is one");
        self.memory.clone().send(None, request.as_bytes(), Some(&id)).expect("the broker is there");
    }

    pub(crate) fn fates(&self) -> BTreeMap<String, Fate> {
        self.fates.lock().expect("nothing panics under this lock").clone()
    }

    fn note(&self, id: &str, change: impl FnOnce(&mut Fate)) {
        change(self.fates.lock().expect("nothing panics under this lock").entry(id.to_owned()).or_default());
    }

    fn note_outgoing(&self, outgoing: &Outgoing) {
        let settlement = match outgoing {
            Outgoing::Settlement(settlement) => settlement,
            Outgoing::Notice(Notice::AnsweredEarly { id, .. }) => {
                return self.note(&id.to_string(), |fate| fate.told += 1);
            }
            Outgoing::Notice(Notice::Started { .. }) => return,
        };
        self.note(&id_of(&settlement.claim.element), |fate| match &settlement.end {
            End::Answered { answer, .. } => {
                fate.answers.push(answer.as_ref().map(|answer| answer.verdict));
                fate.told += usize::from(answer.is_some());
            }
            End::Deferred { .. } | End::Forwarded { .. } | End::HandedBack => fate.waiting += 1,
        });
    }
}

/// The id of a request, which may be cut off behind it.
fn id_of(element: &[u8]) -> String {
    let text = String::from_utf8_lossy(element);
    let id = text.split("\"id\":\"").nth(1).and_then(|rest| rest.split('"').next());
    id.unwrap_or_else(|| panic!("the test's requests have ids: {text}")).to_owned()
}

impl Work for Recorder {
    fn sources(&self) -> Vec<Source> {
        self.memory.sources()
    }

    fn claim(&self, source: Source, limit: usize, patience: Duration) -> Result<Vec<Claimed>> {
        let mut claimed = self.memory.claim(source, limit, patience)?;
        for one in &mut claimed {
            let is_unlucky = one.claim.element.windows(UNLUCKY.len()).any(|part| part == UNLUCKY);
            one.end = is_unlucky.then_some(CallError::Lost);
            self.note(&id_of(&one.claim.element), |fate| fate.waiting -= 1);
        }
        Ok(claimed)
    }

    fn claim_excess(&self, source: Source, longest: usize, limit: usize) -> Result<Vec<Claimed>> {
        self.memory.claim_excess(source, longest, limit)
    }

    fn name(&self, named: &[(Claim, Arc<[u8]>)]) -> Result<Vec<Option<Claim>>> {
        self.memory.name(named)
    }

    fn arrange(&self, arrangements: &[Arrangement]) -> Result<Vec<Arranged>> {
        self.memory.arrange(arrangements)
    }

    fn cancel(&self, id: &RequestId) -> Result<()> {
        Work::cancel(&self.memory, id)
    }

    fn settle(&self, batch: &[Outgoing]) -> Result<Vec<RequestId>> {
        let unheard = self.memory.settle(batch)?;
        batch.iter().for_each(|outgoing| self.note_outgoing(outgoing));
        Ok(unheard)
    }

    fn publish_again(&self, ids: &[RequestId]) -> Result<Vec<RequestId>> {
        self.memory.publish_again(ids)
    }

    fn begin(&self, beginnings: &[Beginning]) -> Result<Vec<Begun>> {
        self.memory.begin(beginnings)
    }

    fn take_vouched(&self, room: &'static str, elements: &[(&RequestId, &[u8])]) -> Result<Vec<bool>> {
        self.memory.take_vouched(room, elements)
    }

    fn interrupt(&self) {
        self.memory.interrupt();
    }
}

impl Presence for Recorder {
    fn node(&self) -> &str {
        self.memory.node()
    }

    fn address(&self) -> String {
        self.memory.address()
    }

    fn tell(&self, about: NodeStatus) {
        self.memory.tell(about);
    }

    fn heartbeat(&self) -> Result<()> {
        self.memory.heartbeat()
    }

    fn leave(&self) -> Result<()> {
        self.memory.leave()
    }

    fn listen(&self, patience: Duration) -> Result<Vec<Message>> {
        self.memory.listen(patience)
    }

    fn find_node(&self, name: &str) -> Result<Whereabouts> {
        self.memory.find_node(name)
    }

    fn is_away(&self) -> bool {
        self.memory.is_away()
    }

    fn trouble(&self) -> Option<String> {
        self.memory.trouble()
    }
}

impl Store for Recorder {
    fn read(&self, keys: &[StoreKey]) -> Result<Vec<Fields>> {
        self.memory.read(keys)
    }

    fn get(&self, key: &StoreKey, field: &str) -> Result<Option<FieldValue>> {
        self.memory.get(key, field)
    }

    fn put(&self, puts: &[Put]) -> Result<Vec<bool>> {
        self.memory.put(puts)
    }

    fn forget(&self, keys: &[StoreKey]) -> Result<()> {
        self.memory.forget(keys)
    }
}

/// A daemon over a [`Recorder`].
pub(crate) struct Parts {
    intakes: Vec<Joined>,
    stop: Stop,
    pub(crate) dispatcher: Arc<Dispatcher>,
    outbox: Option<Outbox>,
    pub(crate) recorder: Recorder,
}

impl Parts {
    pub(crate) fn start(functions: Functions, size: PoolSize) -> Self {
        let recorder = Recorder::new();
        let broker: Arc<dyn Broker> = Arc::new(recorder.clone());
        let rules = Rules { functions, ..Rules::default() };
        let dispatcher = Dispatcher::start(rules, size, &Threads::default()).expect("there are threads");
        let outbox = Outbox::start(broker.clone(), &Threads::default()).expect("there are threads");
        let mut parts = Parts { intakes: Vec::new(), stop: Stop::new(), dispatcher, outbox: Some(outbox), recorder };
        for source in broker.sources() {
            let intake = Intake {
                source,
                node: Arc::from(broker.node()),
                shares: Arc::new(Shares::new([1, 1])),
                max_length: None,
                broker: Arc::clone(&broker),
                dispatcher: Arc::clone(&parts.dispatcher),
                mailing: parts.outbox.as_ref().expect("it is open").mailing(),
                max_request: 1 << 20,
                rooms: Rooms::default(),
                pulse: Pulses::default().of("intake"),
            };
            let stop = parts.stop.clone();
            let thread = Joined::spawn("intake", move || intake.run(&stop)).expect("there are threads");
            parts.intakes.push(thread);
        }
        parts
    }

    pub(crate) fn balance(&self) -> Balance {
        self.dispatcher.balance()
    }

    /// Takes nothing more, gives running calls `grace`, and sends all answers. Gives back how many calls were given up
    /// and how many answers the broker did not take.
    pub(crate) fn close(&mut self, grace: Duration) -> (usize, usize) {
        let deadline = Instant::now() + grace;
        self.stop.ask();
        self.recorder.interrupt();
        self.intakes.clear();
        let given_up = self.dispatcher.close(deadline);
        let unsettled = self.outbox.take().map_or(0, |outbox| outbox.close(Instant::now() + PATIENCE));
        (given_up, unsettled)
    }
}

impl Drop for Parts {
    fn drop(&mut self) {
        self.recorder.memory.set_away(false);
        self.close(Duration::ZERO);
    }
}
