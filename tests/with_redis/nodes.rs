//! Daemons register themselves, and what waits can be seen.

use std::time::{Duration, SystemTime, UNIX_EPOCH};

use cerbas::broker::{Inspect, Operator, QueueLook, ScratchRedis, Target};
use cerbas::protocol::keys::Keys;
use cerbas::protocol::{Node, Verdict};
use cerbas::{Config, Running, Server};
use serde_json::json;

use super::world::{Foreign, Gate, PATIENCE, config, eventually, scratch};

/// A configuration for a daemon called `name` that beats often.
fn named(redis: &ScratchRedis, name: &str) -> Config {
    let mut config = config(&redis.url());
    config.server.name = Some(name.to_owned());
    config.server.lease = Duration::from_secs(1);
    config
}

fn operator(redis: &ScratchRedis) -> Operator {
    let target = Target::new(&redis.url(), None, None).expect("it is a URL");
    Operator::connect(&target, Keys::new("CERBAS", 1)).expect("Redis is there")
}

fn names(running: &Running) -> Vec<String> {
    running.nodes().expect("Redis is there").into_iter().map(|node| node.status.name).collect()
}

fn now() -> u64 {
    SystemTime::now().duration_since(UNIX_EPOCH).expect("it is after 1970").as_millis() as u64
}

#[test]
fn daemons_see_each_other_and_no_more_when_one_has_stopped() {
    let redis = scratch();
    let start = |name: &str| Server::new(named(&redis, name)).start().expect("the daemon starts");
    let (one, two) = (start("one"), start("two"));
    eventually("both are seen", || names(&one) == ["one", "two"] && names(&two) == ["one", "two"]);

    let nodes = one.nodes().expect("Redis is there");
    for node in &nodes {
        assert_eq!((node.pid, &*node.version), (std::process::id(), env!("CARGO_PKG_VERSION")));
        assert_eq!(node.status.functions, ["asyncfunc", "echo", "hello", "sum", "witherror"]);
        assert_eq!((node.status.workers, node.status.stuck, &*node.status.queues), (4, 0, &["default".to_owned()][..]));
        assert!(node.status.memory > 1_000_000 && node.started <= node.at && node.at <= now(), "{node:?}");
    }
    assert_ne!(nodes[0].node, nodes[1].node);

    two.stop();
    assert_eq!(names(&one), ["one"]);
    assert_eq!(operator(&redis).members().expect("Redis is there").len(), 1);
}

#[test]
fn a_record_is_whole_from_the_first_moment() {
    let redis = scratch();
    let mut foreign = Foreign::connect(&redis.url());
    for _ in 0..10 {
        let running = Server::new(named(&redis, "early")).start().expect("the daemon starts");
        let mut record = None;
        eventually("there is a record", || {
            record = foreign.keys("CERBAS-NODE-*").first().map(|key| foreign.ask::<Option<String>>(&["GET", key]));
            record.as_ref().is_some_and(Option::is_some)
        });
        let record: Node = serde_json::from_str(&record.flatten().expect("it is there")).expect("it is a record");
        assert_eq!((&*record.status.name, record.status.functions.len()), ("early", 5));
        running.stop();
    }
}

#[test]
fn a_record_tells_what_runs_and_what_has_ended() {
    let redis = scratch();
    let (server, gate) = Gate::add(Server::new(named(&redis, "busy")), "gate", PATIENCE);
    let running = server.start().expect("the daemon starts");
    let mut foreign = Foreign::connect(&redis.url());
    let before = now();
    foreign.send("waits", json!({"func": "gate"}));
    foreign.send("fails", json!({"func": "witherror"}));
    foreign.answer("fails");
    let record = || running.nodes().expect("Redis is there").pop().expect("it lives").status;
    eventually("both are told", || record().accepted == 2 && record().verdicts[&Verdict::Error] == 1);

    let busy = record();
    assert!(busy.holds() && busy.in_flight == 1 && busy.busy == 1, "{busy:?}");
    let [call] = &busy.running[..] else { panic!("one call runs: {busy:?}") };
    assert_eq!((&*call.id, &*call.func), ("waits", "gate"));
    // Two clocks are compared to the millisecond.
    assert!((before.saturating_sub(5)..=now()).contains(&call.since), "{call:?} since {before}");
    let member = operator(&redis).members().expect("Redis is there").pop().expect("it lives");
    assert_eq!((member.claimed, member.inbox), (1, 0));

    gate.go.send(()).expect("it waits");
    eventually("nothing runs any more", || record().running.is_empty() && record().in_flight == 0);
    assert!(record().holds() && record().verdicts[&Verdict::Ok] == 1, "{:?}", record());
}

#[test]
fn a_call_past_its_time_limit_still_runs_and_its_worker_is_stuck() {
    let redis = scratch();
    let (server, gate) = Gate::add(Server::new(named(&redis, "stuck")), "gate", Duration::from_millis(50));
    let running = server.start().expect("the daemon starts");
    let mut foreign = Foreign::connect(&redis.url());
    foreign.send("late", json!({"func": "gate"}));
    foreign.answer("late");
    let record = || running.nodes().expect("Redis is there").pop().expect("it lives").status;
    eventually("it is told", || record().stuck == 1 && record().running.len() == 1);
    assert_eq!((record().workers, record().in_flight), (4, 0));
    drop(gate);
    eventually("it is over", || record().stuck == 0 && record().running.is_empty());
}

#[test]
fn a_daemon_without_a_lease_is_dead_and_what_it_left_is_counted_in_all_its_lists() {
    let redis = scratch();
    let mut foreign = Foreign::connect(&redis.url());
    let heard = (now() - 60_000).to_string();
    let _: u64 = foreign.ask(&["ZADD", "CERBAS-NODES", &heard, "gone.1"]);
    let _: u64 = foreign.ask(&["ZADD", "CERBAS-QUEUES", &heard, "urgent"]);
    for list in ["", ".1", ".delayed", ".inbox", ".once", ".queue.urgent"] {
        let _: u64 = foreign.ask(&["RPUSH", &format!("CERBAS-INFLIGHT-gone.1{list}"), "x"]);
    }
    let _: u64 = foreign.ask(&["RPUSH", "CERBAS-INBOX-gone.1", "x", "y"]);

    let members = operator(&redis).members().expect("Redis is there");
    let [dead] = &members[..] else { panic!("there is one: {members:?}") };
    assert_eq!((&*dead.node, dead.record.is_none(), dead.claimed, dead.inbox), ("gone.1", true, 6, 2));
    assert!((60_000..90_000).contains(&dead.silent), "{dead:?}");
    let running = Server::new(named(&redis, "living")).start().expect("the daemon starts");
    eventually("only the living is a node", || names(&running) == ["living"]);
}

/// The look at the queue that is called `name` and has `key`.
fn queue(redis: &ScratchRedis, key: &str) -> QueueLook {
    let overview = operator(redis).overview().expect("Redis is there");
    let queue = overview.queues.into_iter().find(|queue| queue.key == key);
    queue.unwrap_or_else(|| panic!("{key} is looked at"))
}

#[test]
fn the_head_of_a_queue_tells_how_long_it_has_waited() {
    let redis = scratch();
    let mut foreign = Foreign::connect(&redis.url());
    assert_eq!((queue(&redis, "CERBAS-QUEUE").length, queue(&redis, "CERBAS-QUEUE").oldest), (0, None));

    let _: u64 = foreign.ask(&["ZADD", "CERBAS-QUEUES", "1", "urgent"]);
    let sent_at = now() - 60_000;
    let element = json!({"id": "a", "sent_at": sent_at}).to_string();
    let _: u64 = foreign.ask(&["RPUSH", "CERBAS-QUEUE-urgent", &element, "and another one"]);
    let urgent = queue(&redis, "CERBAS-QUEUE-urgent");
    assert_eq!((&*urgent.name, urgent.length), ("urgent", 2));
    assert!((60_000..90_000).contains(&urgent.oldest.expect("it is known")), "{urgent:?}");

    // A UUID of version 7 made two minutes ago.
    let time = format!("{:012x}", now() - 120_000);
    let id = format!("{}-{}-7000-8000-000000000000", &time[..8], &time[8..]);
    let _: u64 = foreign.ask(&["RPUSH", "CERBAS_QUEUE", &json!({ "id": id }).to_string()]);
    let old = queue(&redis, "CERBAS_QUEUE");
    assert!(old.name == "default" && (120_000..150_000).contains(&old.oldest.expect("it is known")), "{old:?}");

    foreign.push("what is this");
    assert_eq!((queue(&redis, "CERBAS-QUEUE").length, queue(&redis, "CERBAS-QUEUE").oldest), (1, None));
}

#[test]
fn the_body_of_a_numbered_request_tells_how_long_it_has_waited() {
    let redis = scratch();
    let mut foreign = Foreign::connect(&redis.url());
    let _: () = foreign.ask(&["SET", "CERBAS-REQUEST-0000000007", "{}"]);
    foreign.push("7");
    eventually("it has waited for a second", || queue(&redis, "CERBAS-QUEUE").oldest.is_some_and(|age| age >= 1000));
    assert!(queue(&redis, "CERBAS-QUEUE").oldest < Some(30_000));
    // Where Redis does not know it, it is not known; that is no failure.
    let _: () = foreign.ask(&["CONFIG", "SET", "maxmemory-policy", "allkeys-lfu"]);
    assert_eq!((queue(&redis, "CERBAS-QUEUE").length, queue(&redis, "CERBAS-QUEUE").oldest), (1, None));
}

#[test]
fn all_that_waits_and_all_that_ended_is_counted() {
    let redis = scratch();
    let mut foreign = Foreign::connect(&redis.url());
    let overview = operator(&redis).overview().expect("Redis is there");
    assert_eq!((overview.delayed, overview.next_due, overview.dead, overview.verdicts), (0, None, 0, None));
    assert!(overview.now.abs_diff(now()) < 30_000, "{}", overview.now);

    let _: u64 = foreign.ask(&["ZADD", "CERBAS-DELAYED", "1900000000000", "later", "1800000000000", "sooner"]);
    let _: u64 = foreign.ask(&["ZADD", "CERBAS-DEAD", "1", "{}"]);
    let _: u64 = foreign.ask(&["HSET", "CERBAS-VERDICTS", "ok", "5", "lost", "1", "of a later version", "3"]);
    let overview = operator(&redis).overview().expect("Redis is there");
    assert_eq!((overview.delayed, overview.next_due, overview.dead), (2, Some(1_800_000_000_000), 1));
    let verdicts = overview.verdicts.expect("they are counted");
    assert_eq!((verdicts[&Verdict::Ok], verdicts[&Verdict::Lost], verdicts[&Verdict::Error]), (5, 1, 0));
    assert_eq!(verdicts.len(), Verdict::ALL.len());
}
