//! What daemons arrange with each other before a request runs: unique keys, places among those that run, and that it runs
//! at most once.

use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;

use cerbas::broker::ScratchRedis;
use cerbas::functions::{Delivery, Retries};
use cerbas::protocol::{OnDuplicate, Verdict};
use cerbas::{Call, Running, Server, Terms};
use crossbeam_channel::{Receiver, RecvTimeoutError, Sender};
use serde_json::{Value, json};

use super::world::{Foreign, PATIENCE, config, eventually, scratch};

/// Daemons on one Redis that serve `job`, which says when it starts and waits until it is let go or cancelled.
struct Cluster {
    daemons: Vec<Running>,
    redis: ScratchRedis,
    started: Receiver<Value>,
    go: Sender<()>,
    most_at_once: Arc<AtomicUsize>,
}

impl Cluster {
    fn of(count: usize, terms: Terms) -> Self {
        let (tell, started) = crossbeam_channel::unbounded();
        let (go, may_go) = crossbeam_channel::unbounded::<()>();
        let (running, most_at_once) = (Arc::new(AtomicUsize::new(0)), Arc::new(AtomicUsize::new(0)));
        let redis = scratch();
        let daemon = |_| {
            let mut config = config(&redis.url());
            config.server.lease = Duration::from_secs(1);
            let (tell, go, may_go) = (tell.clone(), go.clone(), may_go.clone());
            let (running, most) = (Arc::clone(&running), Arc::clone(&most_at_once));
            let terms = Terms { timeout: PATIENCE, ..terms.clone() };
            let job = move |call: &Call, args: Value| {
                let now = running.fetch_add(1, Ordering::SeqCst) + 1;
                most.fetch_max(now, Ordering::SeqCst);
                let _nobody_looks = tell.send(args.clone());
                let is_held = || may_go.recv_timeout(Duration::from_millis(5)) == Err(RecvTimeoutError::Timeout);
                while !call.is_cancelled() {
                    if !is_held() {
                        // Cancelled in this moment: another one was meant.
                        if call.is_cancelled() {
                            let _nobody_waits = go.send(());
                        }
                        break;
                    }
                }
                running.fetch_sub(1, Ordering::SeqCst);
                if args["fail"] == true { Err("it failed".into()) } else { Ok(args) }
            };
            Server::new(config).function_with("job", terms, job).start().expect("the daemon starts")
        };
        let daemons = (0..count).map(daemon).collect();
        Cluster { daemons, redis, started, go, most_at_once }
    }

    fn foreign(&self) -> Foreign {
        Foreign::connect(&self.redis.url())
    }

    fn next(&self) -> Value {
        self.started.recv_timeout(PATIENCE).expect("a call starts")
    }

    fn let_go(&self, count: usize) {
        (0..count).for_each(|_| self.go.send(()).expect("the daemons live"));
    }

    fn count(&self, verdict: Verdict) -> u64 {
        self.daemons.iter().map(|daemon| daemon.balance().count(verdict)).sum()
    }
}

fn duplicate() -> Value {
    json!({"status": "error", "data": "duplicate", "verdict": "rejected"})
}

fn cancelled() -> Value {
    json!({"status": "error", "data": "cancelled", "verdict": "cancelled"})
}

#[test]
fn while_a_unique_request_runs_another_with_its_key_is_rejected_on_every_daemon() {
    let cluster = Cluster::of(2, Terms::default());
    let mut foreign = cluster.foreign();
    foreign.send("one", json!({"func": "job", "unique": "report"}));
    cluster.next();
    for number in 0..4 {
        let id = format!("two-{number}");
        foreign.send(&id, json!({"func": "job", "unique": "report"}));
        assert_eq!(foreign.answer(&id), duplicate());
    }
    let ttl: i64 = foreign.ask(&["TTL", "CERBAS-UNIQUE-request:job:report"]);
    assert!((3500..=3600).contains(&ttl), "the lock always has an end: {ttl}");
    cluster.let_go(1);
    assert_eq!(foreign.answer("one")["status"], "ok");
    foreign.send("three", json!({"func": "job", "unique": "report"}));
    cluster.next();
    cluster.let_go(1);
    assert_eq!(foreign.answer("three")["status"], "ok");
    assert_eq!(foreign.keys("CERBAS-UNIQUE-*"), [""; 0]);
    assert_eq!(foreign.keys("CERBAS-HOLDS-*"), [""; 0]);
}

#[test]
fn a_unique_request_that_waits_for_its_time_keeps_others_away() {
    let cluster = Cluster::of(1, Terms::default());
    let mut foreign = cluster.foreign();
    foreign.send("later", json!({"func": "job", "unique": "report", "delay": 3_600_000}));
    eventually("it waits", || foreign.ask::<u64>(&["ZCARD", "CERBAS-DELAYED"]) == 1);
    foreign.send("second", json!({"func": "job", "unique": "report"}));
    assert_eq!(foreign.answer("second"), duplicate());
    let ttl: i64 = foreign.ask(&["TTL", "CERBAS-UNIQUE-request:job:report"]);
    assert!((3500..=3600).contains(&ttl), "it is held for an hour at the most, however long it waits: {ttl}");
}

#[test]
fn one_that_replaces_takes_the_place_of_the_one_that_waits_or_runs() {
    let cluster = Cluster::of(2, Terms::default());
    let mut foreign = cluster.foreign();
    let request = |delay: u64| json!({"func": "job", "unique": "report", "on_duplicate": "replace", "delay": delay});
    foreign.send("waiting", request(3_600_000));
    eventually("it waits", || foreign.ask::<u64>(&["ZCARD", "CERBAS-DELAYED"]) == 1);
    foreign.send("running", request(0));
    assert_eq!(foreign.answer("waiting"), cancelled());
    cluster.next();
    foreign.send("last", request(0));
    assert_eq!(foreign.answer("running"), cancelled());
    cluster.next();
    assert_eq!(foreign.ask::<String>(&["GET", "CERBAS-UNIQUE-request:job:report"]), "last");
    cluster.let_go(1);
    assert_eq!(foreign.answer("last"), json!({"status": "ok", "data": {}}));
}

#[test]
fn a_function_can_be_unique_for_each_set_of_arguments() {
    let cluster = Cluster::of(2, Terms { unique: Some(OnDuplicate::Reject), ..Terms::default() });
    let mut foreign = cluster.foreign();
    foreign.send("a", json!({"func": "job", "args": {"x": 1, "y": 2}}));
    cluster.next();
    foreign.send("same", json!({"func": "job", "args": {"y": 2, "x": 1}}));
    assert_eq!(foreign.answer("same"), duplicate());
    foreign.send("other", json!({"func": "job", "args": {"x": 2}}));
    cluster.next();
    cluster.let_go(2);
    assert_eq!(
        (foreign.answer("a")["status"].clone(), foreign.answer("other")["status"].clone()),
        (json!("ok"), json!("ok"))
    );
}

#[test]
fn a_unique_request_that_is_tried_again_keeps_its_key_meanwhile() {
    let retries = Retries { count: 1, backoff: Duration::from_secs(3600), ..Retries::default() };
    let cluster = Cluster::of(1, Terms { retries, ..Terms::default() });
    let mut foreign = cluster.foreign();
    foreign.send("flaky", json!({"func": "job", "args": {"fail": true}, "unique": "report"}));
    cluster.next();
    cluster.let_go(1);
    eventually("it waits for its next run", || foreign.ask::<u64>(&["ZCARD", "CERBAS-DELAYED"]) == 1);
    foreign.send("second", json!({"func": "job", "unique": "report"}));
    assert_eq!(foreign.answer("second"), duplicate());
}

#[test]
fn no_more_calls_run_at_once_over_all_daemons_than_may_and_all_of_them_run() {
    let cluster = Cluster::of(3, Terms { cluster_concurrency: Some(2), ..Terms::default() });
    let mut foreign = cluster.foreign();
    let ids: Vec<String> = (0..20).map(|number| format!("call-{number}")).collect();
    for id in &ids {
        foreign.send(id, json!({"func": "job"}));
    }
    cluster.next();
    cluster.next();
    eventually("the others wait for a place", || foreign.ask::<u64>(&["LLEN", "CERBAS-PARKED-job"]) == 18);
    assert_eq!(cluster.started.len(), 0);
    cluster.let_go(ids.len());
    for id in &ids {
        assert_eq!(foreign.answer(id)["status"], "ok", "{id}");
    }
    assert_eq!(cluster.most_at_once.load(Ordering::SeqCst), 2);
    eventually("nothing is left of it", || foreign.keys("CERBAS-[SPL][LAI]*").is_empty());
}

#[test]
fn a_place_that_a_dead_daemon_held_is_free_again() {
    let cluster = Cluster::of(1, Terms { cluster_concurrency: Some(1), ..Terms::default() });
    let mut foreign = cluster.foreign();
    let _: i64 = foreign.ask(&["ZADD", "CERBAS-SLOTS-job", "1", "dead|id"]);
    foreign.send("id", json!({"func": "job"}));
    assert_eq!(cluster.next(), json!({}));
    cluster.let_go(1);
    assert_eq!(foreign.answer("id")["status"], "ok");
}

fn at_most_once() -> Terms {
    Terms { delivery: Delivery::AtMostOnce, ..Terms::default() }
}

#[test]
fn what_must_not_run_twice_has_left_the_queues_before_it_runs_and_is_lost_when_its_daemon_dies() {
    let cluster = Cluster::of(1, at_most_once());
    let mut foreign = cluster.foreign();
    foreign.send("once", json!({"func": "job"}));
    cluster.next();
    let lists = foreign.keys("CERBAS-INFLIGHT-*");
    assert!(lists.len() == 1 && lists[0].ends_with(".once"), "{lists:?}");
    // As if its daemon had died: a new one finds the list of a node without a lease.
    let node = lists[0].trim_start_matches("CERBAS-INFLIGHT-").trim_end_matches(".once").to_owned();
    // It is fenced first, so that it does not renew its lease.
    let _: () = foreign.ask(&["SET", &format!("CERBAS-FENCE-{node}"), "gone"]);
    let _: i64 = foreign.ask(&["DEL", &format!("CERBAS-NODE-{node}")]);
    let mut config = config(&cluster.redis.url());
    config.server.lease = Duration::from_secs(60);
    let other = Server::new(config).start().expect("the daemon starts");
    let lost = json!({"status": "error", "data": "lost", "verdict": "lost"});
    assert_eq!(foreign.answer("once"), lost);
    assert_eq!(foreign.ask::<u64>(&["ZCARD", "CERBAS-DEAD"]), 1);
    assert_eq!(cluster.started.len(), 0, "it did not run again");
    other.stop();
}

#[test]
fn what_must_not_run_twice_is_answered_like_any_other_and_leaves_nothing() {
    let cluster = Cluster::of(2, at_most_once());
    let mut foreign = cluster.foreign();
    let number = foreign.try_send_numbered(&json!({"func": "job"})).expect("Redis is there");
    foreign.send("inline", json!({"func": "job"}));
    foreign.send("delayed", json!({"func": "job", "delay": 1}));
    foreign.send("failing", json!({"func": "job", "args": {"fail": true}, "retries": 3}));
    cluster.let_go(4);
    for id in [number.as_str(), "inline", "delayed"] {
        assert_eq!(foreign.answer(id)["status"], "ok", "{id}");
    }
    assert_eq!(foreign.answer("failing"), json!({"status": "error", "data": "it failed"}), "it is not tried again");
    assert_eq!(cluster.started.len(), 4);
    eventually("nothing is in flight", || foreign.in_flight().is_empty());
    assert_eq!((foreign.keys("CERBAS-REQ*"), cluster.count(Verdict::Ok)), (Vec::new(), 3));
}

#[test]
fn what_must_not_run_twice_and_has_not_started_at_the_end_goes_back() {
    let cluster = Cluster::of(1, Terms { concurrency: Some(1), ..at_most_once() });
    let mut foreign = cluster.foreign();
    foreign.send("runs", json!({"func": "job"}));
    cluster.next();
    foreign.send("waits", json!({"func": "job"}));
    eventually("it waits in the daemon", || cluster.daemons[0].pool().waiting == 1);
    let Cluster { mut daemons, redis, go, started, .. } = cluster;
    // The other may also start after all; then it has its answer.
    (0..2).for_each(|_| go.send(()).expect("the jobs listen"));
    let ended = daemons.remove(0).stop();
    assert!(ended.is_clean());
    let mut foreign = Foreign::connect(&redis.url());
    let was_answered = foreign.stored("waits").is_some();
    assert!(was_answered || foreign.queue().iter().any(|element| element.contains("waits")));
    assert_eq!(foreign.in_flight(), [""; 0]);
    drop(started);
}
