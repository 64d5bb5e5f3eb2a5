//! The gateway of daemons that share a Redis.

use std::io::Write;
use std::net::TcpStream;
use std::sync::{Arc, Condvar, Mutex};
use std::time::Duration;

use cerbas::broker::ScratchRedis;
use cerbas::gateway::Settings;
use cerbas::{Call, Config, Running};
use redis::cmd;
use serde_json::{Map, Value, json};

use super::world::{PATIENCE, World, config, connect, eventually, scratch};

/// Holds functions up until it is opened.
#[derive(Clone, Default)]
pub(super) struct Gate(Arc<(Mutex<bool>, Condvar)>);

impl Gate {
    fn pass(&self) {
        let is_open = self.0.0.lock().expect("it is whole");
        drop(self.0.1.wait_timeout_while(is_open, PATIENCE, |is_open| !*is_open));
    }

    pub(super) fn open(&self) {
        *self.0.0.lock().expect("it is whole") = true;
        self.0.1.notify_all();
    }
}

/// A daemon on `redis` with a gateway, whose function `held` waits at `gate`.
pub(super) fn daemon(redis: &ScratchRedis, gate: &Gate, change: impl FnOnce(&mut Config)) -> Running {
    let mut config = config(&redis.url());
    with_gateway(&mut config);
    change(&mut config);
    let gate = gate.clone();
    let held = move |_: &Call, args: Map<String, Value>| {
        gate.pass();
        Ok(args)
    };
    let terms = cerbas::Terms { timeout: PATIENCE, ..cerbas::Terms::default() };
    cerbas::Server::new(config).function_with("held", terms, held).start().expect("the daemon starts")
}

fn with_gateway(config: &mut Config) {
    let text = "[http]\nlisten = [\"127.0.0.1:0\"]\n";
    let nothing: [(&str, &str); 0] = [];
    config.http = Config::from_text(text, "cerbas.toml", nothing).expect("it is a configuration").http;
}

/// Status, location and body of an answer.
pub(super) struct Answer(pub(super) u16, pub(super) Option<String>, String);

impl Answer {
    pub(super) fn json(&self) -> Value {
        serde_json::from_str(&self.2).unwrap_or_else(|error| panic!("{error}: {}", self.2))
    }
}

pub(super) fn ask(running: &Running, target: &str, body: Option<Value>) -> Answer {
    let url = format!("http://{}{target}", running.http_addresses()[0]);
    let agent: ureq::Agent = ureq::Agent::config_builder().http_status_as_error(false).build().into();
    let answer = match body {
        Some(body) => agent.post(&url).header("Content-Type", "application/json").send(body.to_string()),
        None => agent.get(&url).call(),
    };
    let mut answer = answer.unwrap_or_else(|error| panic!("{url}: {error}"));
    let location = answer.headers().get("location").and_then(|value| value.to_str().ok()).map(str::to_owned);
    Answer(answer.status().as_u16(), location, answer.body_mut().read_to_string().expect("it is text"))
}

#[test]
fn work_is_done_by_whichever_daemon_is_free_and_its_state_is_known_at_each_gateway() {
    let (redis, gate) = (scratch(), Gate::default());
    let daemons = [daemon(&redis, &gate, |_| {}), daemon(&redis, &gate, |_| {})];
    let accepted = ask(&daemons[0], "/api/work", Some(json!({"func": "held", "args": {"x": 1}})));
    assert_eq!(accepted.0, 202);
    let location = accepted.1.expect("it says where its state is");
    for daemon in &daemons {
        eventually("it runs", || ask(daemon, &location, None).json() == json!({"status": "pending"}));
    }
    let mut connection = connect(&redis.url()).expect("Redis is there");
    let id = location.rsplit('/').next().expect("it has an id").to_owned();
    let ttl: i64 = cmd("TTL").arg(format!("CERBAS-STAGE-{id}")).query(&mut connection).expect("it answers");
    assert!((1..=24 * 60 * 60).contains(&ttl), "{ttl}");
    gate.open();
    for daemon in &daemons {
        let done = ask(daemon, &format!("{location}?wait=20s"), None);
        assert_eq!(done.json(), json!({"status": "done", "value": {"x": 1}}));
    }
    let left: bool = cmd("EXISTS").arg(format!("CERBAS-STAGE-{id}")).query(&mut connection).expect("it answers");
    assert!(!left);
    assert_eq!(daemons.iter().map(|daemon| daemon.balance().accepted).sum::<u64>(), 1);
}

#[test]
fn work_that_waits_is_accepted_and_can_be_cancelled_and_is_forgotten_after_its_time() {
    let (redis, gate) = (scratch(), Gate::default());
    let running = daemon(&redis, &gate, |config| config.server.result_ttl = Duration::from_secs(1));
    let accepted = ask(&running, "/api/work", Some(json!({"func": "held", "delay": 3_600_000})));
    let location = accepted.1.expect("it says where its state is");
    assert_eq!(ask(&running, &location, None).json(), json!({"status": "accepted"}));
    let id = location.rsplit('/').next().and_then(cerbas::protocol::RequestId::from_text).expect("it has an id");
    let mut connection = connect(&redis.url()).expect("Redis is there");
    eventually("it waits for its time", || {
        cmd("ZCARD").arg("CERBAS-DELAYED").query::<u64>(&mut connection).expect("it answers") == 1
    });
    eventually("it can be found", || running.client().expect("Redis is there").cancel(&id).expect("it answers"));
    assert_eq!(ask(&running, &location, None).json(), json!({"status": "cancelled", "data": "cancelled"}));
    let done = ask(&running, "/api/work", Some(json!({"func": "hello"}))).1.expect("it was accepted");
    eventually("it is forgotten", || ask(&running, &done, None).0 == 404);
    gate.open();
}

#[test]
fn no_stage_is_left_of_work_that_was_answered_early_or_asked_for_no_answer() {
    let (redis, gate) = (scratch(), Gate::default());
    let running = daemon(&redis, &gate, |config| config.server.result_ttl = Duration::from_secs(1));
    let early = ask(&running, "/api/work", Some(json!({"func": "asyncfunc"}))).1.expect("it was accepted");
    let quiet = json!({"func": "echo", "args": {"message": 1}, "reply": false});
    let quiet = ask(&running, "/api/work", Some(quiet)).1.expect("it was accepted");
    // Each answer is the next change.
    eventually("it is done", || ask(&running, &format!("{quiet}?wait=20s"), None).json()["status"] == "done");
    for location in [early, quiet] {
        eventually("it is forgotten", || ask(&running, &location, None).0 == 404);
    }
    let mut connection = connect(&redis.url()).expect("Redis is there");
    let element = json!({"id": "raw", "func": "hello", "track": true, "reply": false}).to_string();
    cmd("SET").arg("CERBAS-STAGE-raw").arg("accepted").exec(&mut connection).expect("it answers");
    cmd("RPUSH").arg("CERBAS-QUEUE").arg(element).exec(&mut connection).expect("it answers");
    eventually("its stage goes with its verdict", || {
        let left: bool = cmd("EXISTS").arg("CERBAS-STAGE-raw").query(&mut connection).expect("it answers");
        !left
    });
    gate.open();
}

#[test]
fn a_call_over_the_queue_is_answered_also_where_its_request_wants_no_reply() {
    let (redis, gate) = (scratch(), Gate::default());
    let running = daemon(&redis, &gate, |_| {});
    let request = json!({"request": {"func": "hello", "unique": "one", "reply": false}});
    assert_eq!(ask(&running, "/api/general", Some(request)).0, 200);
    gate.open();
}

/// A daemon with one worker, which a call has that waits at the gate.
fn busy(redis: &ScratchRedis, gate: &Gate) -> Running {
    let running = daemon(redis, gate, |config| {
        config.server.workers = 1;
        let http = config.http.as_mut().expect("it has a gateway");
        http.settings.limits.queue_timeout = Duration::from_millis(300);
    });
    ask(&running, "/api/work", Some(json!({"func": "held", "args": {}})));
    eventually("the worker is busy", || running.balance().in_flight == 1 && running.pool().idle == 0);
    running
}

/// How many requests ended with `verdict`, as Redis has it.
fn count(redis: &ScratchRedis, verdict: &str) -> u64 {
    let mut connection = connect(&redis.url()).expect("Redis is there");
    let count: Option<u64> =
        cmd("HGET").arg("CERBAS-VERDICTS").arg(verdict).query(&mut connection).expect("it answers");
    count.unwrap_or(0)
}

#[test]
fn a_call_over_the_queue_that_cannot_start_in_its_time_is_told_so_then_and_never_runs() {
    let (redis, gate) = (scratch(), Gate::default());
    let running = busy(&redis, &gate);
    let request = json!({"request": {"func": "hello", "unique": "k"}});
    let answer = ask(&running, "/api/general", Some(request));
    assert_eq!((answer.0, answer.json()["verdict"].clone()), (504, json!("expired")));
    eventually("it has its verdict", || count(&redis, "cancelled") + count(&redis, "expired") == 1);
    gate.open();
    eventually("nothing is left", || running.balance().in_flight == 0 && count(&redis, "ok") == 1);
}

#[test]
fn a_client_that_goes_while_its_call_waits_in_the_queue_frees_its_place_and_cancels_it() {
    let (redis, gate) = (scratch(), Gate::default());
    let running = daemon(&redis, &gate, |_| {});
    let body = json!({"request": {"func": "hello", "delay": 20_000}}).to_string();
    let length = body.len();
    let head = format!(
        "POST /api/general HTTP/1.1\r\nHost: localhost\r\nContent-Type: application/json\r\nContent-Length: {length}"
    );
    let mut connection = connect(&redis.url()).expect("Redis is there");
    let mut waiting = || cmd("ZCARD").arg("CERBAS-DELAYED").query::<u64>(&mut connection).expect("it answers");
    for round in 1..=3 {
        let mut stream = TcpStream::connect(running.http_addresses()[0]).expect("somebody listens");
        stream.write_all(format!("{head}\r\n\r\n{body}").as_bytes()).expect("it is open");
        eventually("it waits for its time", || waiting() == 1);
        drop(stream);
        eventually("it is cancelled", || waiting() == 0 && count(&redis, "cancelled") == round);
    }
    gate.open();
}

#[test]
fn while_redis_is_away_calls_go_on_and_the_rest_says_why_not() {
    let mut world = World::with(scratch(), with_gateway);
    let at = |target: &str| ask(&world.running, target, None);
    assert_eq!((at("/readyz").0, at("/livez").0), (200, 200));
    world.redis.kill();
    let at = |target: &str| ask(&world.running, target, None);
    eventually("it is noticed", || at("/readyz").0 == 503);
    let reasons = at("/readyz").json()["reasons"][0].as_str().expect("there is a reason").to_owned();
    assert!(reasons.starts_with("redis is away or refuses: redis://"), "{reasons}");
    assert_eq!((at("/livez").0, at("/api/sum?a=1&b=2").json()["data"].as_i64()), (200, Some(3)));
    let refused = ask(&world.running, "/api/work", Some(json!({"func": "hello"})));
    assert_eq!((refused.0, refused.json()["status"].as_str()), (503, Some("error")));
    assert!(at("/metrics").2.contains("\ncerbas_broker_up 0\n"));
    world.revive();
    let at = |target: &str| ask(&world.running, target, None);
    eventually("it is back", || at("/readyz").0 == 200);
    eventually("work is taken again", || ask(&world.running, "/api/work", Some(json!({"func": "hello"}))).0 == 202);
}

#[test]
fn metrics_tell_of_queues_and_of_each_function_that_is_registered() {
    let (redis, gate) = (scratch(), Gate::default());
    let running = daemon(&redis, &gate, |_| {});
    ask(&running, "/api/sum?a=1&b=2", None);
    ask(&running, "/api/witherror", None);
    ask(&running, "/api/nobody-has-registered-this", None);
    let metrics = ask(&running, "/metrics", None).2;
    for line in [
        "cerbas_queue_length{queue=\"default\"} 0",
        "cerbas_dead 0",
        "cerbas_broker_up 1",
        "cerbas_function_verdicts_total{function=\"sum\",verdict=\"ok\"} 1",
        "cerbas_function_verdicts_total{function=\"witherror\",verdict=\"error\"} 1",
        "cerbas_function_seconds_bucket{le=\"+Inf\",function=\"sum\"} 1",
        "cerbas_verdicts_total{verdict=\"rejected\"} 1",
        "cerbas_http_responses_total{status=\"404\"} 1",
        "cerbas_workers{state=\"idle\"} 4",
    ] {
        assert!(metrics.lines().any(|found| found == line), "{line}: {metrics}");
    }
    assert!(metrics.ends_with("# EOF\n"));
    assert!(!metrics.contains("nobody-has-registered-this"));
    gate.open();
}

#[test]
fn a_unique_key_holds_over_http_and_over_all_daemons() {
    let (redis, gate) = (scratch(), Gate::default());
    let daemons = [daemon(&redis, &gate, |_| {}), daemon(&redis, &gate, |_| {})];
    let request = || json!({"request": {"func": "held", "args": {"x": 1}, "unique": "one"}});
    std::thread::scope(|scope| {
        let first = scope.spawn(|| ask(&daemons[0], "/api/general", Some(request())));
        eventually("the first one runs", || daemons.iter().any(|daemon| daemon.balance().in_flight == 1));
        let second = ask(&daemons[1], "/api/general", Some(request()));
        assert_eq!((second.0, &second.json()["data"]), (409, &json!("duplicate")));
        gate.open();
        let first = first.join().expect("it is answered");
        assert_eq!((first.0, &first.json()["data"]), (200, &json!({"x": 1})));
    });
}

#[test]
fn a_reload_changes_who_is_let_in() {
    let (redis, gate) = (scratch(), Gate::default());
    let running = daemon(&redis, &gate, |_| {});
    assert_eq!(ask(&running, "/api/hello", None).0, 200);
    let mut changed = config(&redis.url());
    with_gateway(&mut changed);
    let token = cerbas::gateway::Token {
        name: "web".to_owned(),
        hash: cerbas::gateway::TokenHash::of("secret-token-of-the-web"),
        user: None,
        source: None,
        may: cerbas::pages::Rights::default(),
    };
    let settings: &mut Settings = &mut changed.http.as_mut().expect("it was made").settings;
    settings.tokens.push(token);
    running.reconfigure(changed).expect("it is taken");
    eventually("a token is needed", || ask(&running, "/api/hello", None).0 == 401);
    gate.open();
}
