//! What the tests share: a scratch Redis with a daemon on it, and a foreign client.

use std::collections::HashMap;
use std::io::{ErrorKind, Read, Write};
use std::net::{Shutdown, TcpListener, TcpStream};
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::thread::{self, JoinHandle};
use std::time::{Duration, Instant};

use cerbas::broker::ScratchRedis;
use cerbas::config::RedisServer;
use cerbas::{Config, Running, Server};
use redis::{Connection, FromRedisValue, RedisResult, Value as Reply, cmd};
use serde_json::{Value, json};

/// How long anything may take that is expected to happen; far more than it takes.
pub(super) const PATIENCE: Duration = Duration::from_secs(20);

/// How soon after the return of Redis requests are answered again, on a machine that has other things to do.
pub(super) const RETURN: Duration = PATIENCE;

const FUNCTIONS: &str = r#"
    [functions.hello]
    builtin = "hello"
    [functions.echo]
    builtin = "echo"
    [functions.sum]
    builtin = "sum"
    [functions.witherror]
    builtin = "witherror"
    [functions.asyncfunc]
    builtin = "asyncfunc"
"#;

/// A configuration for the Redis at `url`, with a few built-in functions.
pub(super) fn config(url: &str) -> Config {
    let nothing: [(&str, &str); 0] = [];
    let mut config = Config::from_text(FUNCTIONS, "cerbas.toml", nothing).expect("the functions are well configured");
    config.redis.url = url.to_owned();
    config.redis.server = RedisServer::External;
    config.server.workers = 4;
    config.server.shutdown_timeout = Duration::from_secs(10);
    config
}

/// A Redis with a daemon on it. The daemon goes first.
pub(super) struct World {
    pub(super) running: Running,
    pub(super) redis: ScratchRedis,
}

impl World {
    /// Both, with nothing special.
    pub(super) fn open() -> Self {
        Self::with(scratch(), |_| {})
    }

    /// A daemon on `redis`, configured by `change`.
    pub(super) fn with(redis: ScratchRedis, change: impl FnOnce(&mut Config)) -> Self {
        Self::serving(redis, change, |server| server)
    }

    /// A daemon on `redis`, configured by `change`, with the functions that `add` adds.
    pub(super) fn serving(
        redis: ScratchRedis,
        change: impl FnOnce(&mut Config),
        add: impl FnOnce(Server) -> Server,
    ) -> Self {
        let mut config = config(&redis.url());
        change(&mut config);
        let running = add(Server::new(config)).start().expect("the daemon starts");
        World { running, redis }
    }

    /// Starts Redis again after it was killed, and waits until it has read its data.
    #[track_caller]
    pub(super) fn revive(&mut self) {
        self.redis.revive().expect("redis-server starts");
        eventually("it has read its data", || {
            let pong = connect(&self.redis.url()).and_then(|mut connection| cmd("PING").query::<()>(&mut connection));
            pong.is_ok()
        });
    }

    /// A client that knows nothing of cerbas but its protocol.
    pub(super) fn foreign(&self) -> Foreign {
        Foreign::connect(&self.redis.url())
    }

    /// That all that was accepted has its verdict, in the daemon's account and in Redis.
    #[track_caller]
    pub(super) fn check_all_settled(&self) {
        let mut foreign = self.foreign();
        eventually("nothing waits", || foreign.waiting() == 0);
        eventually("nothing is in flight in Redis", || foreign.in_flight().is_empty());
        eventually("nothing is in flight in the daemon", || self.running.balance().in_flight == 0);
        assert!(self.running.balance().holds(), "{:?}", self.running.balance());
        assert_eq!(foreign.waiting(), 0);
    }
}

/// A Redis that keeps nothing on disk.
pub(super) fn scratch() -> ScratchRedis {
    ScratchRedis::start().expect("redis-server starts")
}

/// A Redis that has written down what it acknowledged, so that `kill -9` costs it nothing.
pub(super) fn scratch_with_log() -> ScratchRedis {
    // Without fsync of its own each command is written before its reply. A process that is killed loses nothing of that.
    ScratchRedis::start_with(&["save \"\"", "appendonly yes", "appendfsync no"]).expect("redis-server starts")
}

/// Waits until `condition` holds; fails the test if that takes unreasonably long.
#[track_caller]
pub(super) fn eventually(what: &str, condition: impl FnMut() -> bool) {
    within(PATIENCE, what, condition);
}

/// Waits until `condition` holds; fails the test if it does not within `patience`.
#[track_caller]
pub(super) fn within(patience: Duration, what: &str, mut condition: impl FnMut() -> bool) {
    let until = Instant::now() + patience;
    while !condition() {
        assert!(Instant::now() < until, "not within {patience:?}: {what}");
        thread::sleep(Duration::from_millis(5));
    }
}

/// A connection to database 1 of a Redis that answers at once.
pub(super) fn connect(url: &str) -> RedisResult<Connection> {
    let connection = redis::Client::open(url)?.get_connection_with_timeout(Duration::from_secs(5))?;
    connection.set_read_timeout(Some(PATIENCE))?;
    connection.set_write_timeout(Some(PATIENCE))?;
    Ok(connection)
}

/// A client in any language: it sends commands to Redis.
pub(super) struct Foreign {
    pub(super) connection: Connection,
    url: String,
}

impl Foreign {
    #[track_caller]
    pub(super) fn connect(url: &str) -> Self {
        Foreign { connection: connect(url).expect("Redis is there"), url: url.to_owned() }
    }

    /// Does one command, of which the words are given.
    #[track_caller]
    pub(super) fn ask<T: FromRedisValue>(&mut self, words: &[&str]) -> T {
        self.try_ask(words).unwrap_or_else(|error| panic!("{words:?}: {error}"))
    }

    pub(super) fn try_ask<T: FromRedisValue>(&mut self, words: &[&str]) -> RedisResult<T> {
        let (name, arguments) = words.split_first().expect("a command has a name");
        cmd(name).arg(arguments).query(&mut self.connection)
    }

    /// Puts an element at the end of the queue.
    #[track_caller]
    pub(super) fn push(&mut self, element: impl AsRef<[u8]>) {
        let pushed: RedisResult<i64> =
            cmd("RPUSH").arg("CERBAS-QUEUE").arg(element.as_ref()).query(&mut self.connection);
        pushed.expect("Redis takes it");
    }

    /// Sends `request` in the inline form under `id`.
    #[track_caller]
    pub(super) fn send(&mut self, id: &str, mut request: Value) {
        request["id"] = json!(id);
        self.push(request.to_string());
    }

    /// Sends `request` in the numbered form; gives back the id of its answer.
    pub(super) fn try_send_numbered(&mut self, request: &Value) -> RedisResult<String> {
        let number: u64 = self.try_ask(&["INCR", "CERBAS-COUNTER"])?;
        let id = format!("{number:010}");
        let () = redis::pipe()
            .cmd("SET")
            .arg(format!("CERBAS-REQ-{id}"))
            .arg(request.to_string())
            .ignore()
            .cmd("RPUSH")
            .arg("CERBAS-QUEUE")
            .arg(number)
            .ignore()
            .query(&mut self.connection)?;
        Ok(id)
    }

    /// The stored answer under `id`, if there is one.
    pub(super) fn stored(&mut self, id: &str) -> Option<Value> {
        let text: Option<String> = self.ask(&["GET", &format!("CERBAS-RESULT-{id}")]);
        text.map(|text| serde_json::from_str(&text).expect("an answer is JSON"))
    }

    /// The answer under `id`, as soon as it is stored.
    #[track_caller]
    pub(super) fn answer(&mut self, id: &str) -> Value {
        let mut answer = None;
        eventually(&format!("the answer to {id} is stored"), || {
            answer = self.stored(id);
            answer.is_some()
        });
        answer.expect("it is there")
    }

    /// Asks for `value` to be echoed and waits for it.
    #[track_caller]
    pub(super) fn check_served(&mut self, patience: Duration) {
        let id = new_id();
        self.send(&id, json!({"func": "echo", "args": {"message": id}}));
        let mut answer = None;
        within(patience, "a request is answered", || {
            answer = self.stored(&id);
            answer.is_some()
        });
        assert_eq!(answer, Some(json!({"status": "ok", "data": id})));
    }

    /// The keys that match `pattern`.
    pub(super) fn keys(&mut self, pattern: &str) -> Vec<String> {
        let mut keys: Vec<String> = self.ask(&["KEYS", pattern]);
        keys.sort();
        keys
    }

    /// All keys but those of the daemon's lease and the counts of verdicts.
    pub(super) fn keys_of_requests(&mut self) -> Vec<String> {
        let is_of_lease = |key: &String| {
            let parts = ["-NODES", "-NODE-", "-FENCE-", "-SETTLED-", "-VERDICTS", "-QUEUES", "-SCHEMA"];
            parts.iter().any(|part| key.contains(part))
        };
        self.keys("*").into_iter().filter(|key| !is_of_lease(key)).collect()
    }

    /// What daemons have taken and not answered.
    pub(super) fn in_flight(&mut self) -> Vec<String> {
        let lists = self.keys("CERBAS-INFLIGHT-*");
        lists.iter().flat_map(|list| self.ask::<Vec<String>>(&["LRANGE", list, "0", "-1"])).collect()
    }

    /// How many elements wait in both queues.
    pub(super) fn waiting(&mut self) -> u64 {
        self.ask::<u64>(&["LLEN", "CERBAS-QUEUE"]) + self.ask::<u64>(&["LLEN", "CERBAS_QUEUE"])
    }

    /// The elements of the queue, its head first.
    pub(super) fn queue(&mut self) -> Vec<String> {
        self.ask(&["LRANGE", "CERBAS-QUEUE", "0", "-1"])
    }

    /// Sends request `number` of a mixed load: two functions, both forms. Gives back what it asked for, if Redis
    /// acknowledged it.
    pub(super) fn try_send_mixed(&mut self, number: u64) -> RedisResult<Asked> {
        let (request, data) = match number % 2 {
            0 => (json!({"func": "sum", "args": {"a": number, "b": 1}}), json!(number + 1)),
            _ => (json!({"func": "echo", "args": {"message": format!("m{number}")}}), json!(format!("m{number}"))),
        };
        let id = if number.is_multiple_of(3) {
            self.try_send_numbered(&request)?
        } else {
            let id = new_id();
            let mut request = request;
            request["id"] = json!(id);
            let _: i64 = self.try_ask(&["RPUSH", "CERBAS-QUEUE", &request.to_string()])?;
            id
        };
        Ok(Asked { id, answer: json!({"status": "ok", "data": data}) })
    }

    /// [`Foreign::try_send_mixed`] for each of `numbers`. One that fails, because Redis is away or refuses, is left out.
    pub(super) fn send_mixed(&mut self, numbers: impl IntoIterator<Item = u64>) -> Vec<Asked> {
        let mut asked = Vec::new();
        for number in numbers {
            match self.try_send_mixed(number) {
                Ok(one) => asked.push(one),
                Err(_) => self.reconnect(),
            }
        }
        asked
    }

    /// Connects anew, as soon as Redis is there.
    #[track_caller]
    pub(super) fn reconnect(&mut self) {
        let mut connection = None;
        eventually("Redis is there", || {
            connection = connect(&self.url).ok();
            connection.as_mut().is_some_and(|connection| cmd("PING").query::<()>(connection).is_ok())
        });
        self.connection = connection.expect("it is there");
    }

    /// That each of `asked` has its answer stored, sooner or later.
    #[track_caller]
    pub(super) fn check_answered(&mut self, asked: &[Asked]) {
        let mut open: Vec<&Asked> = asked.iter().collect();
        let until = Instant::now() + PATIENCE * 2;
        while !open.is_empty() {
            let mut get = cmd("MGET");
            for one in &open {
                get.arg(format!("CERBAS-RESULT-{}", one.id));
            }
            let stored: Vec<Option<String>> = get.query(&mut self.connection).expect("Redis is there");
            let mut wrong = Vec::new();
            let still_open = open.iter().zip(stored).filter_map(|(&one, text)| match text {
                None => Some(one),
                Some(text) => {
                    let answer: Value = serde_json::from_str(&text).expect("an answer is JSON");
                    if answer != one.answer {
                        wrong.push((one, answer));
                    }
                    None
                }
            });
            open = still_open.collect();
            assert!(wrong.is_empty(), "{} wrong answers, the first: {:?}", wrong.len(), wrong[0]);
            assert!(
                Instant::now() < until,
                "{} of {} have no answer, the first is {:?}; {} wait, in flight: {:?}",
                open.len(),
                asked.len(),
                open[0],
                self.waiting(),
                self.in_flight(),
            );
            thread::sleep(Duration::from_millis(20));
        }
    }
}

/// A request whose sending was acknowledged, and the answer that it must get.
#[derive(Debug, Clone, PartialEq)]
pub(super) struct Asked {
    pub(super) id: String,
    pub(super) answer: Value,
}

/// An id that nobody else has.
pub(super) fn new_id() -> String {
    uuid::Uuid::new_v4().to_string()
}

/// A subscription to one channel or more.
pub(super) struct Subscription(Connection);

impl Subscription {
    /// Listens to `channels` from now on.
    pub(super) fn to(url: &str, channels: &[&str]) -> Self {
        Self::open(url, "SUBSCRIBE", channels)
    }

    /// Listens to all channels that match `patterns` from now on.
    pub(super) fn to_all(url: &str, patterns: &[&str]) -> Self {
        Self::open(url, "PSUBSCRIBE", patterns)
    }

    fn open(url: &str, command: &str, channels: &[&str]) -> Self {
        let mut connection = connect(url).expect("Redis is there");
        connection.send_packed_command(&cmd(command).arg(channels).get_packed_command()).expect("Redis is there");
        for _ in channels {
            connection.recv_response().expect("Redis confirms");
        }
        Subscription(connection)
    }

    /// The next message and its channel.
    #[track_caller]
    pub(super) fn next(&mut self) -> (String, Vec<u8>) {
        let Reply::Array(parts) = self.0.recv_response().expect("a message comes") else {
            panic!("this is no message")
        };
        let mut parts = parts.into_iter().rev().map(|part| Vec::<u8>::from_redis_value(part).expect("it is bytes"));
        let message = parts.next().expect("there is a message");
        let channel = parts.next().expect("there is a channel");
        (String::from_utf8(channel).expect("a channel is text"), message)
    }

    /// The next message, which must be JSON.
    #[track_caller]
    pub(super) fn next_json(&mut self) -> Value {
        serde_json::from_slice(&self.next().1).expect("it is JSON")
    }
}

/// Counts all answers that are published on the usual channels in JSON.
pub(super) struct Tally {
    url: String,
    thread: JoinHandle<HashMap<String, Vec<Value>>>,
}

/// Ends a [`Tally`].
const END: &str = "CERBAS-RESPONSE-END";

impl Tally {
    /// Counts from now on.
    pub(super) fn start(url: &str) -> Self {
        let mut subscription = Subscription::to_all(url, &["CERBAS-RESPONSE-*"]);
        let thread = thread::spawn(move || {
            let mut answers: HashMap<String, Vec<Value>> = HashMap::new();
            loop {
                let (channel, message) = subscription.next();
                if channel == END {
                    return answers;
                }
                let id = channel.strip_prefix("CERBAS-RESPONSE-1-").expect("it is of database 1").to_owned();
                answers.entry(id).or_default().push(serde_json::from_slice(&message).expect("it is JSON"));
            }
        });
        Tally { url: url.to_owned(), thread }
    }

    /// That each of `asked` was answered once, and rightly.
    #[track_caller]
    pub(super) fn check_each_once(self, asked: &[Asked]) {
        let _: i64 = Foreign::connect(&self.url).ask(&["PUBLISH", END, ""]);
        let answers = self.thread.join().expect("the tally was taken");
        let wrong: Vec<_> =
            asked.iter().filter(|one| answers.get(&one.id) != Some(&vec![one.answer.clone()])).collect();
        assert!(
            wrong.is_empty(),
            "{} of {} were not answered exactly once, the first: {:?} with {:?}",
            wrong.len(),
            asked.len(),
            wrong[0],
            answers.get(&wrong[0].id),
        );
    }
}

/// A temporary folder that goes with the test.
pub(super) struct Folder(PathBuf);

impl Folder {
    pub(super) fn new() -> Self {
        let path = std::env::temp_dir().join(format!("cerbas-test-{}", uuid::Uuid::new_v4()));
        std::fs::create_dir(&path).expect("a new folder can be made");
        Folder(path)
    }

    pub(super) fn path(&self) -> &Path {
        &self.0
    }
}

impl Drop for Folder {
    fn drop(&mut self) {
        let _already_gone = std::fs::remove_dir_all(&self.0);
    }
}

/// A function that says when it starts and then waits: it is let go by a message, or when the gate is gone.
pub(super) struct Gate {
    pub(super) started: crossbeam_channel::Receiver<Value>,
    pub(super) go: crossbeam_channel::Sender<()>,
}

impl Gate {
    /// Adds it to `server` under `name`.
    pub(super) fn add(server: Server, name: &str, timeout: Duration) -> (Server, Gate) {
        let (tell, started) = crossbeam_channel::unbounded();
        let (go, may_go) = crossbeam_channel::unbounded();
        let terms = cerbas::Terms { timeout, ..cerbas::Terms::default() };
        let server = server.function_with(name, terms, move |_call, args: Value| {
            let _nobody_looks = tell.send(args.clone());
            let _gate_is_gone = may_go.recv();
            Ok(args)
        });
        (server, Gate { started, go })
    }

    /// The arguments of the next call that starts.
    #[track_caller]
    pub(super) fn next(&self) -> Value {
        self.started.recv_timeout(PATIENCE).expect("a call starts")
    }
}

/// A client that sends a mixed load on a thread of its own, until it is told to stop.
pub(super) struct Load {
    shared: Arc<LoadState>,
    thread: Option<JoinHandle<Vec<Asked>>>,
}

#[derive(Default)]
struct LoadState {
    is_over: AtomicBool,
    acknowledged: AtomicU64,
}

impl Load {
    /// Sends from now on, at most about four thousand a second, so that other tests go on beside it.
    pub(super) fn start(url: &str) -> Self {
        let shared = Arc::<LoadState>::default();
        let (mut foreign, state) = (Foreign::connect(url), Arc::clone(&shared));
        let thread = thread::spawn(move || {
            let mut asked = Vec::new();
            for number in 0.. {
                if state.is_over.load(Ordering::Relaxed) {
                    break;
                }
                match foreign.try_send_mixed(number) {
                    Ok(one) => {
                        asked.push(one);
                        state.acknowledged.fetch_add(1, Ordering::Relaxed);
                    }
                    Err(_) => {
                        thread::sleep(Duration::from_millis(5));
                        foreign.reconnect();
                    }
                }
                if number.is_multiple_of(20) {
                    thread::sleep(Duration::from_millis(5));
                }
            }
            asked
        });
        Load { shared, thread: Some(thread) }
    }

    /// How many requests Redis has acknowledged so far.
    pub(super) fn acknowledged(&self) -> u64 {
        self.shared.acknowledged.load(Ordering::Relaxed)
    }

    /// Waits until `count` more are acknowledged.
    #[track_caller]
    pub(super) fn go_on(&self, count: u64) {
        let before = self.acknowledged();
        eventually("the load goes on", || self.acknowledged() >= before + count);
    }

    /// Stops; gives back all that was acknowledged.
    pub(super) fn stop(mut self) -> Vec<Asked> {
        self.shared.is_over.store(true, Ordering::Relaxed);
        self.thread.take().expect("it was started").join().expect("the load was sent")
    }
}

impl Drop for Load {
    fn drop(&mut self) {
        // For a test that failed: the thread ends by itself.
        self.shared.is_over.store(true, Ordering::Relaxed);
    }
}

/// A way to Redis that can swallow everything, as a network does whose cable is pulled.
pub(super) struct Wire {
    port: u16,
    state: Arc<WireState>,
    thread: Option<JoinHandle<()>>,
}

#[derive(Default)]
struct WireState {
    /// Counts the cuts: what was connected before one stays dead for ever.
    cuts: AtomicU64,
    is_cut: AtomicBool,
    is_over: AtomicBool,
}

impl Wire {
    /// A way to the Redis at `url`.
    pub(super) fn to(url: &str) -> Self {
        let target = url.strip_prefix("redis://").and_then(|rest| rest.split('/').next()).expect("a URL").to_owned();
        let listener = TcpListener::bind(("127.0.0.1", 0)).expect("a free port");
        let port = listener.local_addr().expect("it has an address").port();
        let state = Arc::<WireState>::default();
        let shared = Arc::clone(&state);
        let thread = thread::spawn(move || {
            thread::scope(|scope| {
                for near in listener.incoming() {
                    if shared.is_over.load(Ordering::Acquire) {
                        return;
                    }
                    let (Ok(near), Ok(far)) = (near, TcpStream::connect(&target)) else { continue };
                    let number = shared.cuts.load(Ordering::Acquire);
                    let (near_too, far_too) = (near.try_clone().expect("a handle"), far.try_clone().expect("a handle"));
                    let shared = &shared;
                    scope.spawn(move || shared.carry(number, near, far));
                    scope.spawn(move || shared.carry(number, far_too, near_too));
                }
            });
        });
        Wire { port, state, thread: Some(thread) }
    }

    /// The URL of Redis over this way.
    pub(super) fn url(&self) -> String {
        format!("redis://127.0.0.1:{}/1", self.port)
    }

    /// From now on nothing arrives, and nobody is told.
    pub(super) fn cut(&self) {
        self.state.is_cut.store(true, Ordering::Release);
    }

    /// From now on new connections work.
    pub(super) fn mend(&self) {
        self.state.cuts.fetch_add(1, Ordering::AcqRel);
        self.state.is_cut.store(false, Ordering::Release);
    }
}

impl WireState {
    fn carry(&self, number: u64, mut from: TcpStream, mut to: TcpStream) {
        from.set_read_timeout(Some(Duration::from_millis(20))).expect("it is more than nothing");
        let mut buffer = [0; 16 << 10];
        while !self.is_over.load(Ordering::Acquire) {
            let count = match from.read(&mut buffer) {
                Ok(0) => break,
                Ok(count) => count,
                Err(error) if matches!(error.kind(), ErrorKind::WouldBlock | ErrorKind::TimedOut) => continue,
                Err(_) => break,
            };
            let is_dead = self.is_cut.load(Ordering::Acquire) || self.cuts.load(Ordering::Acquire) != number;
            if !is_dead && to.write_all(&buffer[..count]).is_err() {
                break;
            }
        }
        let _already_gone = to.shutdown(Shutdown::Both);
    }
}

impl Drop for Wire {
    fn drop(&mut self) {
        self.state.is_over.store(true, Ordering::Release);
        let _woken = TcpStream::connect(("127.0.0.1", self.port));
        if let Some(thread) = self.thread.take() {
            let _ended = thread.join();
        }
    }
}
