//! Whom a unique key keeps away, and whom a request may have cancelled: with Redis and without.

use std::fs;
use std::path::PathBuf;
use std::time::Duration;

use cerbas::broker::ScratchRedis;
use cerbas::config::RedisServer;
use cerbas::functions::Rate;
use cerbas::protocol::{OnDuplicate, RequestId};
use cerbas::{Call, Config, Running, Server, Terms};
use crossbeam_channel::{Receiver, RecvTimeoutError, Sender};
use serde_json::{Value, json};

use super::world::{Foreign, PATIENCE, config, eventually, new_id, scratch};

/// A daemon whose functions tell when they start, and wait until they are cancelled or the test lets one go.
struct House {
    running: Running,
    redis: Option<ScratchRedis>,
    started: Receiver<String>,
    go: Sender<()>,
    folder: PathBuf,
}

impl House {
    /// One with Redis and one without, which serve `functions` and have this crontab.
    fn both(crontab: &str, functions: &[(&str, Terms)]) -> [House; 2] {
        [Some(scratch()), None].map(|redis| House::open(redis, crontab, functions))
    }

    fn open(redis: Option<ScratchRedis>, crontab: &str, functions: &[(&str, Terms)]) -> Self {
        let folder = std::env::temp_dir().join(format!("cerbas-unique-{}", new_id()));
        fs::create_dir(&folder).expect("a new folder can be made");
        let mut config = config(&redis.as_ref().map(ScratchRedis::url).unwrap_or_default());
        if redis.is_none() {
            config.redis.server = RedisServer::None;
        }
        config.server.workers = 16;
        config.server.state_dir = folder.join("state");
        if !crontab.is_empty() {
            fs::write(folder.join("CRONTAB"), crontab).expect("a file can be written");
            let text = format!("[cron]\nfile = \"{}/CRONTAB\"\n", folder.display());
            let nothing: [(&str, &str); 0] = [];
            config.cron = Config::from_text(&text, "cerbas.toml", nothing).expect("it is a configuration").cron;
        }
        let (tell, started) = crossbeam_channel::unbounded();
        let (go, may_go) = crossbeam_channel::unbounded::<()>();
        let add = |server: Server, (name, terms): &(&str, Terms)| {
            let (tell, go, may_go) = (tell.clone(), go.clone(), may_go.clone());
            let body = move |call: &Call, _: Value| {
                let _nobody_looks = tell.send(call.id.to_string());
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
                Ok(())
            };
            server.function_with(*name, Terms { timeout: PATIENCE * 2, ..terms.clone() }, body)
        };
        let running = functions.iter().fold(Server::new(config), add).start().expect("the daemon starts");
        House { running, redis, started, go, folder }
    }

    fn send(&self, id: &str, mut request: Value) {
        request["id"] = json!(id);
        match &self.redis {
            Some(redis) => Foreign::connect(&redis.url()).push(request.to_string()),
            None => self.running.memory().expect("it has no Redis").push(0, request.to_string()),
        }
    }

    /// Sends one that starts.
    #[track_caller]
    fn start(&self, id: &str, request: Value) {
        self.send(id, request);
        self.has_started(id);
    }

    #[track_caller]
    fn has_started(&self, id: &str) {
        assert_eq!(self.started.recv_timeout(PATIENCE).as_deref(), Ok(id));
    }

    #[track_caller]
    fn answer(&self, id: &str) -> Value {
        match &self.redis {
            Some(redis) => Foreign::connect(&redis.url()).answer(id),
            None => {
                let id = RequestId::from_text(id).expect("it is an id");
                let answer = self.running.memory().expect("it has no Redis").answer(&id, PATIENCE);
                serde_json::from_slice(&answer.expect("it is there").json).expect("an answer is JSON")
            }
        }
    }

    #[track_caller]
    fn check(&self, id: &str, request: Value, expected: &str) {
        self.send(id, request.clone());
        assert_eq!(self.answer(id)["data"], expected, "{request}");
    }

    /// That the call `id` still runs, and ends well when it may.
    #[track_caller]
    fn still_runs(&self, id: &str) {
        self.go.send(()).expect("it waits for that");
        assert_eq!(self.answer(id)["status"], "ok");
    }
}

impl Drop for House {
    fn drop(&mut self) {
        let _nobody_minds = fs::remove_dir_all(&self.folder);
    }
}

fn terms() -> Terms {
    Terms::default()
}

#[test]
fn the_key_of_a_client_keeps_away_calls_of_its_function_and_of_no_other() {
    for house in House::both("", &[("one", terms()), ("other", terms())]) {
        house.start("holder", json!({"func": "one", "unique": "k"}));
        house.check("second", json!({"func": "one", "unique": "k"}), "duplicate");
        house.start("elsewhere", json!({"func": "other", "unique": "k"}));
        house.start("replacing", json!({"func": "other", "unique": "k", "on_duplicate": "replace"}));
        assert_eq!(house.answer("elsewhere")["data"], "cancelled");
        house.go.send(()).expect("they wait");
        house.go.send(()).expect("they wait");
        for id in ["holder", "replacing"] {
            assert_eq!(house.answer(id)["status"], "ok", "{id}");
        }
    }
}

#[test]
fn no_key_that_a_client_can_give_is_the_one_that_a_function_makes() {
    let own = Terms { unique: Some(OnDuplicate::Reject), ..terms() };
    for house in House::both("", &[("own", own), ("other", terms())]) {
        let keys = ["own:{}", "function:own:{}", "request:own:{}", "{}"];
        for (number, key) in keys.iter().enumerate() {
            for func in ["own", "other"] {
                // Held until they are cancelled.
                house.send(&format!("{func}-{number}"), json!({"func": func, "unique": key, "delay": 3_600_000}));
            }
        }
        house.start("first", json!({"func": "own"}));
        for key in keys {
            for func in ["own", "other"] {
                let id = new_id();
                house.start(&id, json!({"func": func, "unique": key, "on_duplicate": "replace"}));
                house.send(
                    &new_id(),
                    json!({"func": func, "unique": key, "on_duplicate": "replace", "delay": 3_600_000}),
                );
                assert_eq!(house.answer(&id)["data"], "cancelled");
            }
        }
        // Nor can a client have cancelled what the function protects.
        house.check("second", json!({"func": "own", "on_duplicate": "replace"}), "duplicate");
        house.still_runs("first");
    }
}

#[test]
fn no_client_keeps_runs_of_cron_away_or_has_them_cancelled() {
    let crontab = "#: name=long\n@every 1s | {\"func\": \"job\"}\n";
    for house in House::both(crontab, &[("job", terms()), ("other", terms())]) {
        let id = house.started.recv_timeout(PATIENCE).expect("cron starts it");
        assert!(id.starts_with("cron:long:"), "{id}");
        for (number, key) in ["cron:long", "long", "cron/long", &id].iter().enumerate() {
            for func in ["job", "other"] {
                let id = format!("{func}-{number}");
                house.start(&id, json!({"func": func, "unique": key, "on_duplicate": "replace"}));
                house.send(
                    &new_id(),
                    json!({"func": func, "unique": key, "on_duplicate": "replace", "delay": 3_600_000}),
                );
                assert_eq!(house.answer(&id)["data"], "cancelled");
            }
        }
        // Only when it has ended does the next one start, though all these keys are held.
        house.go.send(()).expect("it waits for that");
        let next = house.started.recv_timeout(PATIENCE).expect("cron starts the next one");
        assert!(next.starts_with("cron:long:") && next > id, "{next} after {id}");
        house.go.send(()).expect("it waits for that");
    }
}

#[test]
fn nobody_is_cancelled_for_the_sake_of_a_request_that_is_refused() {
    let limited = Terms {
        params: vec!["x".to_owned()],
        sources: Some(["web".to_owned()].into()),
        rate: Some("1/h".parse::<Rate>().expect("it is a rate")),
        ..terms()
    };
    for house in House::both("", &[("job", limited)]) {
        let request = |changed: Value| {
            let mut request = json!({"func": "job", "source": "web", "args": {"x": 1}, "unique": "k"});
            request["on_duplicate"] = json!("replace");
            for (name, value) in changed.as_object().into_iter().flatten() {
                request[name] = value.clone();
            }
            request
        };
        house.start("first", request(json!({})));
        let refusals = [
            ("cerbas authorization - invalid source", json!({"source": "eve"})),
            ("invalid arguments", json!({"args": {}})),
            ("expired", json!({"sent_at": 1, "expires": 1})),
            ("no such node", json!({"node": "ghost"})),
            ("cycle: job -> job", json!({"chain": ["job"]})),
            ("overload", json!({})),
        ];
        for (number, (expected, changed)) in refusals.into_iter().enumerate() {
            house.check(&format!("refused-{number}"), request(changed), expected);
        }
        house.still_runs("first");
    }
}

#[test]
fn a_key_is_held_no_longer_than_its_function_allows_however_long_its_holder_waits() {
    let short = Terms { unique_for: Duration::from_secs(2), ..terms() };
    for house in House::both("", &[("job", short)]) {
        house.send("later", json!({"func": "job", "unique": "k", "delay": 31_000_000_000_u64}));
        house.check("second", json!({"func": "job", "unique": "k"}), "duplicate");
        eventually("the key is free", || {
            house.send(&new_id(), json!({"func": "job", "unique": "k"}));
            house.started.recv_timeout(Duration::from_millis(50)).is_ok()
        });
        house.go.send(()).expect("it waits for that");
    }
}
