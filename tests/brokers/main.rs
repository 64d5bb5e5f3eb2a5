//! What every broker promises, whatever it is: each promise is asked of the one in memory and of a real Redis.

mod effects;
mod locks;
#[path = "../with_redis/options.rs"]
mod options;
mod settling;
mod store;
mod watching;

use std::time::{Duration, Instant};

use cerbas::broker::{
    Arranged, Arrangement, Broker, Claim, End, IfHeld, Locks, Memory, Outgoing, Post, Presence, RedisBroker,
    RedisOptions, RedisPost, ScratchRedis, Settlement, Source,
};
use cerbas::protocol::{RequestId, Verdict};

use self::options::options;

/// Nothing here takes so long.
const PATIENCE: Duration = Duration::from_secs(20);

/// A daemon's side of a broker, and a client's.
struct Both {
    broker: Box<dyn Broker>,
    post: Box<dyn Post>,
    // After those who are connected to it.
    _redis: Option<ScratchRedis>,
}

/// Asks each broker to keep `promise`.
fn each(promise: impl Fn(&mut Both)) {
    let memory = Memory::new(Duration::from_secs(60));
    promise(&mut Both { broker: Box::new(memory.clone()), post: Box::new(memory), _redis: None });

    let redis = ScratchRedis::start().expect("redis-server starts");
    let broker = RedisBroker::new(options(&redis.url(), "n.1", Duration::from_secs(60)));
    broker.heartbeat().expect("Redis is there");
    let RedisOptions { target, keys, .. } = options(&redis.url(), "client", PATIENCE);
    let post = RedisPost::connect(&target, keys).expect("Redis is there");
    promise(&mut Both { broker: Box::new(broker), post: Box::new(post), _redis: Some(redis) });
}

impl Both {
    /// Puts a request called `id` into the queue.
    fn send(&mut self, id: &str) {
        self.post.send(None, element(id).as_bytes(), None).expect("it is there");
    }

    /// The next one of `source`.
    #[track_caller]
    fn claim(&self, source: Source) -> Claim {
        let mut claimed = self.broker.claim(source, 1, PATIENCE).expect("it is there");
        assert_eq!(claimed.len(), 1, "{}: nothing came", self.broker.address());
        claimed.remove(0).claim
    }

    /// Whether `source` has nothing.
    fn has_nothing(&self, source: Source) -> bool {
        self.broker.claim(source, 1, Duration::ZERO).expect("it is there").is_empty()
    }

    fn settle(&self, settlement: Settlement) {
        self.broker.settle(&[Outgoing::Settlement(settlement)]).expect("it is there");
    }

    /// It is done, and nobody waits for its answer.
    fn end(&self, claim: Claim) {
        let end = ended(&id_of(&claim));
        self.settle(Settlement::plain(claim, end));
    }

    /// Arranges `needs` for a claimed request.
    fn arrange(&self, claim: Claim, if_held: IfHeld, needs: impl FnOnce(&mut Locks)) -> Arranged {
        let mut locks = Locks { id: id(&id_of(&claim)), unique: None, slot: None };
        needs(&mut locks);
        let arrangement = Arrangement { claim, locks, if_held, is_once: false };
        self.broker.arrange(&[arrangement]).expect("it is there").remove(0)
    }
}

fn id(text: &str) -> RequestId {
    RequestId::from_text(text).expect("it is an id")
}

fn element(id: &str) -> String {
    format!("{{\"id\":\"{id}\",\"func\":\"f\",\"reply\":false}}")
}

/// The id of what was claimed.
fn id_of(claim: &Claim) -> String {
    let request: serde_json::Value = serde_json::from_slice(&claim.element).expect("it is JSON");
    request["id"].as_str().expect("it has an id").to_owned()
}

fn ended(text: &str) -> End {
    End::Answered { id: id(text), verdict: Verdict::Ok, answer: None, is_tracked: false }
}

#[track_caller]
fn ready(arranged: Arranged) -> Claim {
    match arranged {
        Arranged::Ready { claim, .. } => claim,
        other => panic!("it has not what it needs: {other:?}"),
    }
}

/// Waits until `is_so`, while the daemon's heart beats.
#[track_caller]
fn eventually(both: &Both, what: &str, mut is_so: impl FnMut() -> bool) {
    let until = Instant::now() + PATIENCE;
    while !is_so() {
        assert!(Instant::now() < until, "{}: not within {PATIENCE:?}: {what}", both.broker.address());
        both.broker.heartbeat().expect("it is there");
    }
}
