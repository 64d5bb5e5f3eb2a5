//! Values come out as they went in: every value of a nasty list down every road, over both brokers.

mod roads;
mod keys;

use std::collections::HashSet;
use std::sync::Mutex;
use std::sync::mpsc::{Receiver, Sender, channel};
use std::time::Duration;

use cerbas::broker::ScratchRedis;
use cerbas::config::RedisServer;
use cerbas::protocol::{Object, OnDuplicate};
use cerbas::{Client, Config, Json, NativeError, Running, Server, Terms};

/// How long anything may take that is expected to happen.
const PATIENCE: Duration = Duration::from_secs(30);

/// What other programs change: digits of numbers, the order of names, what looks like the end of something.
const VALUES: [&str; 12] = [
    "117.63331139400017",
    "[0.42451918914251396,4.686940810304589e-19,-970.1335576829955,1758989607.5601897]",
    "[0,-0,1.0,1E5,1e+5,1.7976931348623157e308,5e-324,0.1000]",
    "[1e400,-1e-400,1234567e89]",
    "[18446744073709551615,18446744073709551616,-9223372036854775808,-9223372036854775809]",
    "[340282366920938463463374607431768211456,123456789012345678901234567890.123456789012345678901234567890]",
    r#"{"z":1,"a":{"y":[{"x":0,"b":1}],"c":2},"m":{}}"#,
    r#"{"a":1,"a":2}"#,
    r#"{"$serde_json::private::Number":"1"}"#,
    r#"{"$serde_json::private::RawValue":"1"}"#,
    r#"["\u00e4\/\ud83d\ude00\u0000","ä😀\n","},\"user\":",""]"#,
    "[[[[[[[[null,true,false]]]]]]]]",
];

/// A daemon over one of both brokers. The daemon goes first.
struct House {
    running: Running,
    /// Tells of each call of `alone` that runs.
    inside: Mutex<Receiver<()>>,
    /// Each word here lets one of them go.
    free: Sender<()>,
    _redis: Option<ScratchRedis>,
}

/// The same for each broker.
fn over_both_brokers(functions: &str, test: impl Fn(&House)) {
    for redis in [None, Some(ScratchRedis::start().expect("redis-server starts"))] {
        test(&House::open(redis, functions));
    }
}

impl House {
    fn open(redis: Option<ScratchRedis>, functions: &str) -> Self {
        let text = format!("{functions}\n[http]\nlisten = [\"127.0.0.1:0\"]\naccess_log = \"off\"\n");
        let nothing = std::iter::empty::<(&str, &str)>();
        let mut config = Config::from_text(&text, "cerbas.toml", nothing).expect("the test's configuration is one");
        config.redis.server = RedisServer::None;
        if let Some(redis) = &redis {
            config.redis.server = RedisServer::External;
            config.redis.url = redis.url();
        }
        config.server.workers = 4;
        let mut second = Terms { timeout: PATIENCE, ..Terms::default() };
        second.retries.count = 1;
        second.retries.backoff = Duration::from_millis(10);
        let alone = Terms { timeout: PATIENCE, unique: Some(OnDuplicate::Reject), ..Terms::default() };
        let ((came, inside), (free, leave)) = (channel(), channel());
        let (came, leave) = (Mutex::new(came), Mutex::new(leave));
        let served = Server::new(config)
            .function("native", |_, args: Object| Ok(args))
            .function("onward", |call, args: Object| Ok(call.call("native", args)?))
            .function_with("second", second, {
                let seen = Mutex::new(HashSet::new());
                move |call, args: Object| {
                    let is_first = seen.lock().expect("nothing panics under this lock").insert(call.id.clone());
                    if is_first { Err(NativeError::from("not yet")) } else { Ok(args) }
                }
            });
        let served = served.function_with("alone", alone, move |_, _: Object| {
            came.lock().expect("nothing panics under this lock").send(())?;
            Ok(leave.lock().expect("nothing panics under this lock").recv_timeout(PATIENCE)?)
        });
        House { inside: Mutex::new(inside), free, running: served.start().expect("the daemon starts"), _redis: redis }
    }

    /// Waits until so many more calls of `alone` run.
    #[track_caller]
    fn holds(&self, count: usize) {
        let inside = self.inside.lock().expect("nothing panics under this lock");
        (0..count).for_each(|_| inside.recv_timeout(PATIENCE).expect("it runs"));
    }

    /// Lets so many of them go.
    fn let_go(&self, count: usize) {
        (0..count).for_each(|_| self.free.send(()).expect("they listen"));
    }

    fn client(&self) -> Client {
        self.running.client().expect("the broker is there").patience(PATIENCE)
    }

    /// What `func` says of the argument `v`.
    #[track_caller]
    fn call(&self, client: Client, func: &str, value: &str) -> String {
        let mut client = client;
        let data = client.call(func, arguments(value)).unwrap_or_else(|error| panic!("{func} of {value}: {error}"));
        data.as_json().to_owned()
    }

    /// What becomes of work. A question waits for the next change only, and that it starts is one.
    #[track_caller]
    fn done(&self, callback: &str) -> (u16, String) {
        loop {
            let state = self.ask(&format!("/api/status/{callback}?wait=20s"), None);
            if !["accepted", "pending"].iter().any(|stage| state.1 == format!("{{\"status\":\"{stage}\"}}")) {
                return state;
            }
        }
    }

    /// The body of an answer over HTTP.
    #[track_caller]
    fn ask(&self, target: &str, body: Option<String>) -> (u16, String) {
        let url = format!("http://{}{target}", self.running.http_addresses()[0]);
        let agent: ureq::Agent = ureq::Agent::config_builder().http_status_as_error(false).build().into();
        let answer = match body {
            Some(body) => agent.post(&url).header("Content-Type", "application/json").send(body),
            None => agent.get(&url).call(),
        };
        let mut answer = answer.unwrap_or_else(|error| panic!("{url}: {error}"));
        (answer.status().as_u16(), answer.body_mut().read_to_string().expect("it is text").trim_end().to_owned())
    }
}

fn arguments(value: &str) -> Json {
    Json::read(&format!("{{\"v\":{value}}}")).expect("the test's value is JSON")
}
