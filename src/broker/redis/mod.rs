//! The real broker.
//!
//! Each verb has a connection of its own, so that claims and settlements overlap. A batch is settled in one transaction;
//! if that ends without a word, the number that it writes down tells whether it was done. An element leaves the in-flight list
//! in the step that answers it.

mod arrange;
mod cancel;
mod cause;
mod claim;
mod due;
mod effects;
mod forgotten;
mod health;
mod held;
mod lease;
mod link;
mod listen;
mod members;
mod naming;
mod operator;
mod post;
mod publish;
mod rights;
mod rough;
mod schema;
mod settle;
mod sources;
mod store;
mod subscription;
mod suspects;
mod target;
mod unserved;
mod vouched;

use std::sync::{Arc, Mutex, MutexGuard};
use std::time::Duration;

use redis::InfoDict;

pub use operator::Operator;
pub use post::RedisPost;
pub use rough::RoughClient;
pub use target::{Target, TargetOptions};

use self::due::Due;
use self::health::{Health, Role};
use self::held::Held;
use self::lease::{Fenced, Identity};
use self::link::Link;
use self::sources::Sources;
use self::suspects::Suspects;
use super::{
    Arranged, Arrangement, Beginning, Begun, BrokerError, Cause, Claim, Claimed, Fields, Message, Outgoing, Presence,
    QueueTerms, Result, Source, Store, Whereabouts, Work,
};
use crate::clock;
use crate::effects::{FieldValue, Put, StoreKey};
use crate::lock::Unpoisoned;
use crate::protocol::keys::Keys;
use crate::protocol::{NodeStatus, RequestId};

/// The first Redis that has LMOVE and BLMOVE.
const OLDEST: (u32, u32) = (6, 2);

/// What a [`RedisBroker`] needs to know.
#[derive(Debug, Clone)]
pub struct RedisOptions {
    /// Where Redis is.
    pub target: Target,
    /// The names of keys and channels.
    pub keys: Keys,
    /// The name of this daemon, which no other has or has had.
    pub node: String,
    /// How long answers can be read after they were published.
    pub result_ttl: Duration,
    /// How long after its last heartbeat a daemon is taken for dead.
    pub lease: Duration,
    /// How often an element may be in flight when its daemon dies.
    pub max_deliveries: u32,
    /// The queues that are served: the usual one, which has an old name as well, and the further ones.
    pub queues: Vec<QueueTerms>,
    /// Whether a queue is served only while those of higher priority are empty.
    pub is_strict: bool,
    /// Of elements and bodies that are longer than this, in bytes, not all is fetched: they are refused anyway.
    pub longest: usize,
}

/// Requests and answers in Redis. It connects when it is first used.
pub struct RedisBroker {
    options: RedisOptions,
    /// Who this daemon is; another after it was fenced.
    identity: Mutex<Arc<Identity>>,
    health: Health,
    sources: Sources,
    held: Vec<Held>,
    /// Of what is held, that which must not run again.
    held_once: Held,
    /// What was claimed of a Redis that has forgotten it since: whatever becomes of it concerns nobody.
    void: Held,
    due: Due,
    claiming: Vec<Mutex<ClaimLink>>,
    settling: Mutex<SettleLink>,
    publishing: Mutex<Link>,
    beating: Mutex<Link>,
    arranging: Mutex<Link>,
    asking: Mutex<Link>,
    storing: Mutex<Link>,
    listening: Mutex<Link>,
    /// The connection that waits for messages, for [`Work::interrupt`](crate::broker::Work::interrupt).
    listener: Mutex<Option<i64>>,
    /// What must not run and ends; the next claims give it out.
    ended: Mutex<Vec<Claimed>>,
    /// What Redis does not let us do, as rules.
    missing_rights: Mutex<Vec<String>>,
    /// Where the next page of keys begins that are looked at for queues that nobody serves.
    unserved: Mutex<u64>,
    fenced: Fenced,
    suspects: Suspects,
    /// When this broker was made, in milliseconds since 1970.
    started: u64,
    /// What the daemon last said of itself.
    told: Mutex<NodeStatus>,
    /// The connections that may be blocked in a claim, for [`Work::interrupt`](crate::broker::Work::interrupt).
    blocked: Mutex<Vec<Option<i64>>>,
}

struct ClaimLink {
    link: Link,
    /// Found when the connection opened, and given out with the next claims.
    orphans: Vec<Claimed>,
}

struct SettleLink {
    link: Link,
    /// The number of the last batch.
    number: u64,
    /// It ended without a word.
    is_unsure: bool,
    /// Whose fence this connection watches.
    watched: Option<Arc<Identity>>,
    /// It was opened since it was looked what Redis still knows of what is held.
    is_new: bool,
}

impl RedisBroker {
    /// A broker that is not connected yet.
    pub fn new(options: RedisOptions) -> Self {
        let target = options.target.owning(options.keys.schema());
        let options = RedisOptions { target, ..options };
        let link = |role: &str| Link::new(options.target.clone(), format!("cerbas-{}-{role}", options.node));
        let sources = Sources::new(&options);
        let claim_link =
            |suffix: &str| Mutex::new(ClaimLink { link: link(&format!("claim{suffix}")), orphans: Vec::new() });
        RedisBroker {
            identity: Mutex::new(Arc::new(Identity::new(&options.keys, &sources, &options.node, 0))),
            health: Health::default(),
            held_once: Held::default(),
            void: Held::default(),
            suspects: Suspects::default(),
            held: sources.suffixes().map(|_| Held::default()).collect(),
            due: Due::default(),
            claiming: sources.suffixes().map(claim_link).collect(),
            settling: Mutex::new(SettleLink {
                link: link("settle"),
                number: 0,
                is_unsure: false,
                watched: None,
                is_new: false,
            }),
            publishing: Mutex::new(link("publish")),
            beating: Mutex::new(link("heartbeat")),
            arranging: Mutex::new(link("arrange")),
            asking: Mutex::new(link("ask")),
            storing: Mutex::new(link("store")),
            listening: Mutex::new(link("control")),
            listener: Mutex::default(),
            ended: Mutex::default(),
            missing_rights: Mutex::default(),
            unserved: Mutex::default(),
            fenced: Fenced::default(),
            started: clock::now(),
            told: Mutex::default(),
            blocked: Mutex::new(vec![None; sources.len()]),
            sources,
            options,
        }
    }

    /// Asks Redis whether it is there and new enough, and whether we may use what is in it.
    pub fn ping(&self) -> Result<()> {
        let mut link = lock(&self.settling);
        let info = link.link.with(|connection| redis::cmd("INFO").query::<InfoDict>(connection))?;
        let refuse = |reason: String| Err(BrokerError { address: self.address(), reason, cause: Cause::Permanent });
        let version = info.get::<String>("redis_version").unwrap_or_default();
        if !is_new_enough(&version) {
            return refuse(format!("redis {version} is too old: {}.{} or later is needed", OLDEST.0, OLDEST.1));
        }
        if info.get::<u8>("cluster_enabled") == Some(1) && !self.options.keys.is_of_one_slot() {
            return refuse("prefix must be in braces, as {CERBAS}, on a Redis Cluster".to_owned());
        }
        link.link.with(|connection| schema::check(connection, &self.options.keys))
    }

    fn noted<T>(&self, role: Role, result: Result<T>) -> Result<T> {
        self.health.note(role, result.as_ref().err());
        result
    }
}

impl Work for RedisBroker {
    fn sources(&self) -> Vec<Source> {
        self.sources.all()
    }

    fn claim(&self, source: Source, limit: usize, patience: Duration) -> Result<Vec<Claimed>> {
        self.noted(Role::Claim(self.sources.place(source)), self.claim_from(source, limit, patience))
    }

    fn claim_excess(&self, source: Source, longest: usize, limit: usize) -> Result<Vec<Claimed>> {
        self.noted(Role::Claim(self.sources.place(source)), self.claim_newest(source, longest, limit))
    }

    fn name(&self, named: &[(Claim, Arc<[u8]>)]) -> Result<Vec<Option<Claim>>> {
        if named.is_empty() {
            return Ok(Vec::new());
        }
        self.noted(Role::Arrange, self.name_all(named))
    }

    fn arrange(&self, arrangements: &[Arrangement]) -> Result<Vec<Arranged>> {
        if arrangements.is_empty() {
            return Ok(Vec::new());
        }
        self.noted(Role::Arrange, self.arrange_all(arrangements))
    }

    fn cancel(&self, id: &RequestId) -> Result<()> {
        self.noted(Role::Ask, self.cancel_one(id))
    }

    fn settle(&self, batch: &[Outgoing]) -> Result<Vec<RequestId>> {
        if batch.is_empty() {
            return Ok(Vec::new());
        }
        self.noted(Role::Settle, self.settle_all(batch))
    }

    fn publish_again(&self, ids: &[RequestId]) -> Result<Vec<RequestId>> {
        if ids.is_empty() {
            return Ok(Vec::new());
        }
        self.noted(Role::Publish, self.publish_stored(ids))
    }

    fn begin(&self, beginnings: &[Beginning]) -> Result<Vec<Begun>> {
        if beginnings.is_empty() {
            return Ok(Vec::new());
        }
        // A connection may have been closed while nobody used it; what was begun by it is found so.
        self.noted(Role::Store, self.begin_all(beginnings).or_else(|_| self.begin_all(beginnings)))
    }

    fn take_vouched(&self, room: &'static str, elements: &[(&RequestId, &[u8])]) -> Result<Vec<bool>> {
        if elements.is_empty() {
            return Ok(Vec::new());
        }
        self.noted(Role::Ask, self.take_all_vouched(room, elements))
    }

    fn interrupt(&self) {
        self.due.interrupt();
        self.unblock_claims();
    }
}

impl Presence for RedisBroker {
    fn node(&self) -> &str {
        &self.options.node
    }

    fn address(&self) -> String {
        self.options.target.address().to_owned()
    }

    fn tell(&self, about: NodeStatus) {
        *lock(&self.told) = about;
    }

    fn heartbeat(&self) -> Result<()> {
        let mut link = lock(&self.beating);
        let was_open = link.is_open();
        let beat = link.with(|connection| {
            self.renew_lease(connection)?;
            if !was_open {
                self.find_lost(connection)?;
            }
            self.take_back(connection)?;
            self.look_for_unserved(connection)?;
            self.sweep(connection)
        });
        drop(link);
        // Only where Redis speaks to us: nobody waits a second time for one that hangs.
        let is_there = beat.as_ref().map_or_else(BrokerError::is_refusal, |()| true);
        if is_there && (!was_open || self.missing_rights().is_some()) {
            self.try_rights();
        }
        self.noted(Role::Beat, beat)
    }

    fn leave(&self) -> Result<()> {
        self.end_lease()
    }

    fn listen(&self, patience: Duration) -> Result<Vec<Message>> {
        self.noted(Role::Listen, self.listen_for(patience))
    }

    fn reply(&self, asker: &str, answer: &[u8]) -> Result<()> {
        self.noted(Role::Ask, self.reply_to(asker, answer))
    }

    fn find_node(&self, name: &str) -> Result<Whereabouts> {
        self.noted(Role::Ask, self.find(name))
    }

    fn is_away(&self) -> bool {
        self.health.is_away_for_others(Role::Store)
    }

    fn trouble(&self) -> Option<String> {
        self.missing_rights().or_else(|| self.health.trouble())
    }
}

impl Store for RedisBroker {
    fn read(&self, keys: &[StoreKey]) -> Result<Vec<Fields>> {
        if keys.is_empty() {
            return Ok(Vec::new());
        }
        self.noted(Role::Store, self.store(|connection, names| store::read(connection, names, keys)))
    }

    fn get(&self, key: &StoreKey, field: &str) -> Result<Option<FieldValue>> {
        self.noted(Role::Store, self.store(|connection, names| store::get(connection, names, key, field)))
    }

    fn put(&self, puts: &[Put]) -> Result<Vec<bool>> {
        if puts.is_empty() {
            return Ok(Vec::new());
        }
        self.noted(Role::Store, self.store(|connection, names| store::put(connection, names, puts)))
    }

    fn forget(&self, keys: &[StoreKey]) -> Result<()> {
        if keys.is_empty() {
            return Ok(());
        }
        self.noted(Role::Store, self.store(|connection, names| store::forget(connection, names, keys)))
    }
}

fn is_new_enough(version: &str) -> bool {
    let mut numbers = version.split('.').map_while(|part| part.parse::<u32>().ok());
    (numbers.next(), numbers.next()) >= (Some(OLDEST.0), Some(OLDEST.1))
}

fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unpoisoned()
}
