//! What the end of a call does besides its answer is done once, with its verdict or not at all: over both brokers, through every door,
//! among retries, time limits and cancellations.

use std::collections::HashMap;
use std::io::{Read, Write};
use std::net::{SocketAddr, TcpStream};
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex};
use std::thread;
use std::time::Duration;

use cerbas::broker::ScratchRedis;
use cerbas::config::RedisServer;
use cerbas::effects::{Effects, Field, OnlyIf, Output, Put, Sending, StoreKey, To};
use cerbas::functions::{Body, Retries};
use cerbas::protocol::{Arguments, CallError, Outcome, RequestId, Verdict};
use cerbas::{Call, Config, Running, Server, Terms};
use proptest::prelude::*;
use redis::cmd;
use serde_json::{Map, Value, json};

use super::world::{PATIENCE, config, connect, eventually, scratch};

/// How often something happened, by name.
#[derive(Clone, Default)]
struct Tally(Arc<Mutex<HashMap<String, usize>>>);

impl Tally {
    fn count(&self, name: &str) -> usize {
        let mut counts = self.0.lock().expect("nobody panics");
        let count = counts.entry(name.to_owned()).or_default();
        *count += 1;
        *count
    }

    fn of(&self, name: &str) -> usize {
        self.0.lock().expect("nobody panics").get(name).copied().unwrap_or(0)
    }
}

/// Does as its argument `how` says, and lets a request follow for each value that it gives.
struct Follows {
    runs: Tally,
}

impl Body for Follows {
    fn run(&self, call: &Call, args: Arguments) -> Outcome {
        self.run_for_output(call, args).map(|output| output.value)
    }

    fn run_for_output(&self, call: &Call, args: Arguments) -> Result<Output, CallError> {
        let name = args.text("name").unwrap_or_default();
        let how = args.text("how").unwrap_or_default();
        let run = self.runs.count(&name);
        match how.as_str() {
            "fails" => return Err(CallError::Failed("no".to_owned())),
            "fails once" if run == 1 => return Err(CallError::Failed("not yet".to_owned())),
            "is slow" => {
                call.cancel.wait(PATIENCE);
            }
            _ => {}
        }
        let to = match how.as_str() {
            "to the queue" => To::Queue(None),
            "later" => To::Due { at: 1, name: None },
            "under a name" => To::Due { at: 1, name: Some(format!("t:{name}").into()) },
            _ => To::Here,
        };
        let id = format!("{name}-follows");
        let request = json!({"id": id, "func": "follow", "args": {"name": name}, "reply": false});
        let sending = Sending {
            id: RequestId::from_text(&id).expect("it is an id"),
            element: request.to_string().into_bytes().into(),
            to,
            room: None,
        };
        let field = Field { name: name.as_str().into(), value: Some("done".into()) };
        // A second time this would not hold, and nothing would be said: that it is done once is told by what follows.
        let only_if = OnlyIf::Is(name.as_str().into(), None);
        let put = Put { key: StoreKey::new("TEST-DONE"), fields: vec![field], only_if };
        let effects = Effects { put: vec![put], send: vec![sending], dead: None };
        Ok(Output { value: name.into(), effects })
    }

    fn has_effects(&self) -> bool {
        true
    }

    fn kind(&self) -> &'static str {
        "native"
    }
}

/// A daemon with a gateway, over Redis or in memory.
struct Daemon {
    running: Running,
    followed: Tally,
    redis: Option<ScratchRedis>,
}

impl Daemon {
    fn start(with_redis: bool) -> Self {
        let redis = with_redis.then(scratch);
        let mut config = config(redis.as_ref().map_or("redis://127.0.0.1:1", |redis| redis.url().leak()));
        if !with_redis {
            config.redis.server = RedisServer::None;
        }
        let nothing: [(&str, &str); 0] = [];
        let text = "[http]\nlisten = [\"127.0.0.1:0\"]\n";
        config.http = Config::from_text(text, "cerbas.toml", nothing).expect("it is a configuration").http;
        let followed = Tally::default();
        let terms = Terms {
            timeout: Duration::from_millis(300),
            retries: Retries { count: 1, backoff: Duration::from_millis(1), ..Retries::default() },
            ..Terms::default()
        };
        let count = followed.clone();
        let running = Server::new(config)
            .body("follows", terms, Follows { runs: Tally::default() })
            .function("follow", move |_: &Call, args: Map<String, Value>| {
                count.count(args["name"].as_str().expect("it is named"));
                Ok(())
            })
            .start()
            .expect("it starts");
        Daemon { running, followed, redis }
    }

    /// What Redis keeps.
    fn kept(&self) -> Option<HashMap<String, String>> {
        let mut connection = connect(&self.redis.as_ref()?.url()).expect("Redis is there");
        Some(cmd("HGETALL").arg("CERBAS-TEST-DONE").query(&mut connection).expect("it is a hash"))
    }

    fn address(&self) -> SocketAddr {
        self.running.http_addresses()[0]
    }
}

/// How a call came in, and how it is to go.
#[derive(Debug, Clone)]
struct One {
    how: &'static str,
    over_http: bool,
    is_cancelled: bool,
}

fn any_call() -> impl Strategy<Value = One> {
    const HOWS: [&str; 7] = ["", "fails", "fails once", "is slow", "to the queue", "later", "under a name"];
    let how = proptest::sample::select(&HOWS[..]);
    (how, any::<bool>(), proptest::bool::weighted(0.2)).prop_map(|(how, over_http, is_cancelled)| One {
        how,
        over_http,
        is_cancelled,
    })
}

/// The status of the answer to a call over HTTP; 0 where there is none.
fn post(at: SocketAddr, name: &str, how: &str) -> u16 {
    let body = json!({"name": name, "how": how}).to_string();
    let mut stream = TcpStream::connect(at).expect("it listens");
    stream.set_read_timeout(Some(PATIENCE)).expect("a socket");
    let length = body.len();
    let head =
        "POST /api/follows HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\nContent-Type: application/json\r\n";
    write!(stream, "{head}Content-Length: {length}\r\n\r\n{body}").expect("it reads");
    let mut answer = String::new();
    stream.read_to_string(&mut answer).expect("it answers");
    answer.split(' ').nth(1).and_then(|status| status.parse().ok()).unwrap_or(0)
}

fn check(with_redis: bool, calls: &[One]) -> Result<(), TestCaseError> {
    let daemon = Daemon::start(with_redis);
    let (is_done, wrong) = (Arc::new(AtomicBool::new(false)), Arc::new(Mutex::new(None)));
    thread::scope(|scope| {
        scope.spawn(|| {
            while !is_done.load(Ordering::Acquire) {
                let balance = daemon.running.balance();
                if !balance.holds() {
                    *wrong.lock().expect("nobody panics") = Some(balance);
                }
                thread::yield_now();
            }
        });
        let ended: Vec<(String, thread::ScopedJoinHandle<'_, Option<bool>>)> = calls
            .iter()
            .enumerate()
            .map(|(number, one)| {
                let (name, daemon) = (format!("c{number}"), &daemon);
                let named = name.clone();
                let wait = scope.spawn(move || one.run(daemon, &name));
                (named, wait)
            })
            .collect();
        let ended: Vec<(String, Option<bool>)> =
            ended.into_iter().map(|(name, wait)| (name, wait.join().expect("it does not panic"))).collect();
        eventually("all have ended, and what follows", || {
            let expected = ended.iter().filter(|(_, is_ok)| *is_ok == Some(true)).count();
            let is_known = |(name, is_ok): &&(String, Option<bool>)| is_ok.is_some() && daemon.followed.of(name) > 0;
            let followed = ended.iter().filter(is_known).count();
            daemon.running.balance().in_flight == 0 && followed >= expected
        });
        is_done.store(true, Ordering::Release);
        let kept = daemon.kept();
        for ((name, is_ok), one) in ended.iter().zip(calls) {
            if let (Some(kept), Some(is_ok)) = (&kept, is_ok) {
                prop_assert_eq!(kept.contains_key(name), *is_ok, "{}: {:?}", name, one);
            }
            let followed = daemon.followed.of(name);
            match is_ok {
                Some(is_ok) => prop_assert_eq!(followed, usize::from(*is_ok), "{}: {:?}", name, one),
                None => prop_assert!(followed <= 1, "{}: {:?}", name, one),
            }
        }
        Ok(())
    })?;
    let wrong = wrong.lock().expect("nobody panics").take();
    prop_assert!(wrong.is_none(), "{:?}", wrong);
    let ended = daemon.running.stop();
    prop_assert!(ended.is_clean(), "{:?}", ended);
    Ok(())
}

impl One {
    /// Makes the call and waits for its end; tells whether it gave a value, where somebody hears of that.
    fn run(&self, daemon: &Daemon, name: &str) -> Option<bool> {
        if self.over_http {
            return Some(post(daemon.address(), name, self.how) == 200);
        }
        let mut client = daemon.running.client().expect("there is one").patience(PATIENCE);
        let args = json!({"name": name, "how": self.how});
        if !self.is_cancelled {
            return Some(client.ask("follows", args).expect("it is answered").verdict() == Verdict::Ok);
        }
        let id = client.send("follows", args).expect("it is sent");
        let mut other = daemon.running.client().expect("there is one");
        let _it_may_have_ended = other.cancel(&id).expect("it can be asked");
        None
    }
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 6, max_shrink_iters: 20, failure_persistence: None, ..ProptestConfig::default() })]

    #[test]
    fn each_effect_of_a_call_is_done_once_in_memory(calls in prop::collection::vec(any_call(), 1..16)) {
        check(false, &calls)?;
    }

    #[test]
    fn each_effect_of_a_call_is_done_once_overredis(calls in prop::collection::vec(any_call(), 1..16)) {
        check(true, &calls)?;
    }
}
