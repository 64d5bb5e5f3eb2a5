//! What Redis, or the daemon, refuses of one request costs that request, and never what stands behind it.

use std::time::Duration;

use cerbas::broker::{Broker, Memory, RedisBroker, Source};
use cerbas::config::Config;
use serde_json::{Value, json};

use super::options::options;
use super::world::{PATIENCE, World, eventually, scratch};

/// Functions for which something is arranged with other daemons, each for another reason.
const ARRANGED: &str = r#"
    [functions.unique]
    builtin = "echo"
    params = ["message"]
    sources = ["ops"]
    unique = "reject"
    [functions.limited]
    builtin = "echo"
    params = ["message"]
    sources = ["ops"]
    cluster_concurrency = 2
    [functions.once]
    builtin = "echo"
    params = ["message"]
    sources = ["ops"]
    delivery = "at-most-once"
    [functions.plain]
    builtin = "echo"
    params = ["message"]
    sources = ["ops"]
"#;

fn arranged(config: &mut Config) {
    let nothing: [(&str, &str); 0] = [];
    let further = Config::from_text(ARRANGED, "cerbas.toml", nothing).expect("the functions are well configured");
    config.functions.extend(further.functions);
}

#[test]
fn a_request_that_is_refused_before_anything_is_arranged_for_it_stops_nothing() {
    let world = World::with(scratch(), arranged);
    let mut foreign = world.foreign();
    let good = json!({"message": 1});
    let mut number = 0;
    for func in ["unique", "limited", "once", "plain", "nothing"] {
        for (source, args) in [("ops", json!({})), ("evil", good.clone()), ("ops", json!([])), ("ops", Value::Null)] {
            for more in
                [json!({}), json!({"unique": "k"}), json!({"unique": "k", "on_duplicate": "replace", "delay": 1})]
            {
                number += 1;
                let id = format!("refused-{number}");
                let mut request = json!({"func": func, "source": source, "args": args});
                request.as_object_mut().expect("it is one").extend(more.as_object().expect("it is one").clone());
                foreign.send(&id, request.clone());
                // Alone in its batch, as its answer is waited for.
                assert_eq!(foreign.answer(&id)["verdict"], "rejected", "{request}");
            }
        }
    }
    foreign.check_served(PATIENCE);
    world.check_all_settled();
}

#[test]
fn a_key_of_another_type_costs_the_request_that_needs_it() {
    let world = World::with(scratch(), arranged);
    let mut foreign = world.foreign();
    let request = |func: &str| json!({"func": func, "source": "ops", "args": {"message": 1}, "unique": "k"});
    for (func, key) in [("limited", "CERBAS-SLOTS-limited"), ("limited", "CERBAS-LIMITED")] {
        let _: () = foreign.ask(&["DEL", key]);
        let _: () = foreign.ask(&["SET", key, "something else"]);
        for round in 0..3 {
            let id = format!("{key}-{round}");
            foreign.send(&id, request(func));
            let answer = foreign.answer(&id);
            assert_eq!(answer["status"], "error", "{answer}");
            assert!(answer["data"].as_str().is_some_and(|data| data.contains("WRONGTYPE")), "{answer}");
            foreign.check_served(PATIENCE);
        }
        let _: () = foreign.ask(&["DEL", key]);
        foreign.send(&format!("{key}-mended"), request(func));
        assert_eq!(foreign.answer(&format!("{key}-mended"))["status"], "ok");
    }
    world.check_all_settled();
    let left = foreign.keys("CERBAS-UNIQUE-*");
    assert_eq!(left, [""; 0], "what one held that was refused halfway is given back");
}

#[test]
fn a_lock_of_another_type_costs_who_asks_for_it() {
    let world = World::with(scratch(), arranged);
    let mut foreign = world.foreign();
    let request = json!({"func": "unique", "source": "ops", "args": {"message": 1}, "delay": 60_000});
    foreign.send("holder", request.clone());
    eventually("it holds its lock", || !foreign.keys("CERBAS-UNIQUE-*").is_empty());
    let lock = foreign.keys("CERBAS-UNIQUE-*").remove(0);
    let _: () = foreign.ask(&["DEL", &lock]);
    let _: u64 = foreign.ask(&["RPUSH", &lock, "x"]);
    foreign.send("second", request);
    let answer = foreign.answer("second");
    assert!(answer["data"].as_str().is_some_and(|data| data.contains("WRONGTYPE")), "{answer}");
    foreign.check_served(PATIENCE);
}

#[test]
fn a_batch_of_nothing_is_done_at_once_by_every_verb_of_both_brokers() {
    let redis = scratch();
    let options = options(&redis.url(), "n.1", Duration::from_secs(10));
    let brokers: [Box<dyn Broker>; 2] =
        [Box::new(RedisBroker::new(options)), Box::new(Memory::new(Duration::from_secs(60)))];
    for broker in brokers {
        let at = broker.address();
        for _ in 0..2 {
            assert_eq!(broker.arrange(&[]), Ok(Vec::new()), "{at}");
            assert_eq!(broker.settle(&[]), Ok(Vec::new()), "{at}");
            assert_eq!(broker.publish_again(&[]), Ok(Vec::new()), "{at}");
            assert_eq!(broker.begin(&[]), Ok(Vec::new()), "{at}");
            assert_eq!(broker.take_vouched("cron", &[]), Ok(Vec::new()), "{at}");
            assert_eq!(broker.read(&[]), Ok(Vec::new()), "{at}");
            assert_eq!(broker.put(&[]), Ok(Vec::new()), "{at}");
            assert_eq!(broker.forget(&[]), Ok(()), "{at}");
            assert_eq!(broker.heartbeat(), Ok(()), "{at}");
            assert_eq!(broker.listen(Duration::from_millis(1)), Ok(Vec::new()), "{at}");
            for source in broker.sources() {
                assert_eq!(broker.claim(source, 1, Duration::ZERO), Ok(Vec::new()), "{at}");
                assert_eq!(broker.claim_excess(Source::Queue(0), 0, 1), Ok(Vec::new()), "{at}");
            }
            assert_eq!(broker.trouble(), None, "{at}");
        }
        assert_eq!(broker.leave(), Ok(()), "{at}");
    }
}
