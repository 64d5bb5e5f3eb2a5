//! A daemon with a gateway for one test, clients that say exactly what they are told, and upstreams that do the same.

use std::io::{ErrorKind, Read, Write};
use std::net::{Shutdown, SocketAddr, TcpListener, TcpStream};
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex};
use std::thread::{self, JoinHandle};
use std::time::{Duration, Instant};

use cerbas::config::RedisServer;
use cerbas::{Config, Running, Server};
use serde_json::Value;

/// How long anything may take that is expected to happen.
pub(crate) const PATIENCE: Duration = Duration::from_secs(20);

pub(crate) const FUNCTIONS: &str = "
[functions.hello]
builtin = \"hello\"
[functions.echo]
builtin = \"echo\"
[functions.sum]
builtin = \"sum\"
[functions.witherror]
builtin = \"witherror\"
[functions.asyncfunc]
builtin = \"asyncfunc\"
[functions.permutation]
builtin = \"permutation\"
";

/// A server without Redis whose configuration says this besides the usual functions; `[http]` comes first.
pub(crate) fn server(http: &str) -> Server {
    let text = format!("{FUNCTIONS}\n[http]\nlisten = [\"127.0.0.1:0\"]\naccess_log = \"off\"\n{http}\n");
    let nothing = std::iter::empty::<(&str, &str)>();
    let mut config = Config::from_text(&text, "cerbas.toml", nothing).expect("the test's configuration is one");
    config.redis.server = RedisServer::None;
    config.server.workers = 4;
    Server::new(config)
}

/// The same, running.
pub(crate) fn serve(http: &str) -> Running {
    server(http).start().expect("it starts")
}

/// Where it listens.
pub(crate) fn address(running: &Running) -> SocketAddr {
    running.http_addresses()[0]
}

/// A connection of a client.
pub(crate) struct Connection(pub(crate) TcpStream);

impl Connection {
    pub(crate) fn open(address: SocketAddr) -> Self {
        let stream = TcpStream::connect(address).expect("somebody listens");
        stream.set_read_timeout(Some(PATIENCE)).expect("a socket has time limits");
        stream.set_nodelay(true).expect("a socket can be told so");
        Connection(stream)
    }

    pub(crate) fn send(&mut self, bytes: impl AsRef<[u8]>) -> &mut Self {
        // Who is refused in the middle of what it says may find nobody there.
        let _refused_already = self.0.write_all(bytes.as_ref());
        self
    }

    /// Nothing more comes from here.
    pub(crate) fn finish(&mut self) -> &mut Self {
        let _gone_already = self.0.shutdown(Shutdown::Write);
        self
    }

    /// One answer.
    #[track_caller]
    pub(crate) fn answer(&mut self) -> Answer {
        self.answer_to("GET").expect("the connection ended before the answer")
    }

    /// One answer to a request with this method; `None` if the connection ends first.
    #[track_caller]
    pub(crate) fn answer_to(&mut self, method: &str) -> Option<Answer> {
        let mut head = Vec::new();
        while !head.ends_with(b"\r\n\r\n") {
            head.push(self.byte()?);
        }
        let head = String::from_utf8(head).expect("a head is text");
        let mut answer = Answer::of(head);
        if (100..200).contains(&answer.status) || method == "HEAD" || matches!(answer.status, 204 | 304) {
            return Some(answer);
        }
        if answer.header("transfer-encoding").is_some() {
            loop {
                let line = self.line()?;
                let size = usize::from_str_radix(line.trim(), 16).expect("a chunk has a size");
                let mut chunk = self.bytes(size + 2)?;
                chunk.truncate(size);
                answer.body.extend(chunk);
                if size == 0 {
                    break;
                }
            }
        } else if let Some(length) = answer.header("content-length") {
            answer.body = self.bytes(length.parse().expect("a length is a number"))?;
        } else {
            answer.body = self.rest();
        }
        Some(answer)
    }

    /// All that comes until the end.
    pub(crate) fn rest(&mut self) -> Vec<u8> {
        let mut bytes = Vec::new();
        match self.0.read_to_end(&mut bytes) {
            Ok(_) => bytes,
            Err(error) if error.kind() == ErrorKind::ConnectionReset => bytes,
            Err(error) => panic!("the connection does not end: {error}; so far {:?}", String::from_utf8_lossy(&bytes)),
        }
    }

    /// All answers until the connection ends.
    pub(crate) fn answers(&mut self) -> Vec<Answer> {
        std::iter::from_fn(|| self.answer_to("GET")).filter(|answer| answer.status != 100).collect()
    }

    fn byte(&mut self) -> Option<u8> {
        let mut byte = [0];
        match self.0.read(&mut byte) {
            Ok(0) => None,
            Ok(_) => Some(byte[0]),
            Err(error) if error.kind() == ErrorKind::ConnectionReset => None,
            Err(error) => panic!("nothing comes: {error}"),
        }
    }

    fn line(&mut self) -> Option<String> {
        let mut line = Vec::new();
        while !line.ends_with(b"\r\n") {
            line.push(self.byte()?);
        }
        String::from_utf8(line).ok()
    }

    fn bytes(&mut self, count: usize) -> Option<Vec<u8>> {
        let mut bytes = vec![0; count];
        self.0.read_exact(&mut bytes).ok().map(|()| bytes)
    }
}

/// An answer as it came.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Answer {
    pub(crate) status: u16,
    pub(crate) headers: Vec<(String, String)>,
    pub(crate) body: Vec<u8>,
}

impl Answer {
    fn of(head: String) -> Self {
        let mut lines = head.split("\r\n");
        let first = lines.next().unwrap_or_default();
        let status = first.split(' ').nth(1).and_then(|status| status.parse().ok());
        let headers = lines.filter_map(|line| line.split_once(": "));
        Answer {
            status: status.unwrap_or_else(|| panic!("{first:?} is no first line")),
            headers: headers.map(|(name, value)| (name.to_ascii_lowercase(), value.to_owned())).collect(),
            body: Vec::new(),
        }
    }

    pub(crate) fn header(&self, name: &str) -> Option<&str> {
        self.headers.iter().find(|(known, _)| known == name).map(|(_, value)| value.as_str())
    }

    #[track_caller]
    pub(crate) fn json(&self) -> Value {
        serde_json::from_slice(&self.body).unwrap_or_else(|error| panic!("{error}: {self:?}"))
    }

    pub(crate) fn text(&self) -> String {
        String::from_utf8_lossy(&self.body).into_owned()
    }
}

/// Asks once, on a connection of its own.
#[track_caller]
pub(crate) fn ask(address: SocketAddr, method: &str, target: &str, headers: &str, body: &str) -> Answer {
    let length = if body.is_empty() { String::new() } else { format!("Content-Length: {}\r\n", body.len()) };
    let request =
        format!("{method} {target} HTTP/1.1\r\nHost: localhost\r\n{headers}{length}Connection: close\r\n\r\n{body}");
    let mut connection = Connection::open(address);
    connection.send(request);
    connection.answer_to(method).expect("the connection ended before the answer")
}

#[track_caller]
pub(crate) fn get(address: SocketAddr, target: &str) -> Answer {
    ask(address, "GET", target, "", "")
}

/// A server of the test's own: each connection is given to `talk`, on a thread of its own. It ends when it is dropped.
pub(crate) struct Upstream {
    pub(crate) address: SocketAddr,
    is_over: Arc<AtomicBool>,
    thread: Option<JoinHandle<()>>,
}

impl Upstream {
    pub(crate) fn start(talk: impl Fn(TcpStream) + Send + Sync + 'static) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").expect("a port is free");
        Self::on(listener, talk)
    }

    pub(crate) fn on(listener: TcpListener, talk: impl Fn(TcpStream) + Send + Sync + 'static) -> Self {
        let address = listener.local_addr().expect("it is bound");
        let is_over = Arc::new(AtomicBool::new(false));
        let thread = thread::spawn({
            let (is_over, talk) = (Arc::clone(&is_over), Arc::new(talk));
            move || {
                for stream in listener.incoming() {
                    if is_over.load(Ordering::Acquire) {
                        return;
                    }
                    let Ok(stream) = stream else { continue };
                    let _ = stream.set_read_timeout(Some(PATIENCE));
                    let talk = Arc::clone(&talk);
                    thread::spawn(move || talk(stream));
                }
            }
        });
        Upstream { address, is_over, thread: Some(thread) }
    }

    /// One that keeps what it is sent, and answers each whole request with `answer`.
    pub(crate) fn recording(answer: &'static str) -> (Self, Arc<Mutex<Vec<Seen>>>) {
        let seen: Arc<Mutex<Vec<Seen>>> = Arc::default();
        let upstream = Self::start({
            let seen = Arc::clone(&seen);
            move |mut stream| {
                while let Some(request) = Seen::read(&mut stream) {
                    seen.lock().expect("no test panics here").push(request);
                    if stream.write_all(answer.as_bytes()).is_err() {
                        return;
                    }
                }
            }
        });
        (upstream, seen)
    }
}

impl Drop for Upstream {
    fn drop(&mut self) {
        self.is_over.store(true, Ordering::Release);
        let _woken = TcpStream::connect(self.address);
        if let Some(thread) = self.thread.take() {
            let _ = thread.join();
        }
    }
}

/// A request as an upstream sees it, read as plainly as can be.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Seen {
    pub(crate) head: String,
    pub(crate) body: Vec<u8>,
}

impl Seen {
    pub(crate) fn read(stream: &mut TcpStream) -> Option<Self> {
        let mut head = Vec::new();
        while !head.ends_with(b"\r\n\r\n") {
            let mut byte = [0];
            stream.read_exact(&mut byte).ok()?;
            head.push(byte[0]);
        }
        let mut seen = Seen { head: String::from_utf8_lossy(&head).into_owned(), body: Vec::new() };
        if seen.header("transfer-encoding").is_some() {
            loop {
                let mut line = Vec::new();
                while !line.ends_with(b"\r\n") {
                    let mut byte = [0];
                    stream.read_exact(&mut byte).ok()?;
                    line.push(byte[0]);
                }
                let size = usize::from_str_radix(String::from_utf8_lossy(&line).trim(), 16).ok()?;
                let mut chunk = vec![0; size + 2];
                stream.read_exact(&mut chunk).ok()?;
                chunk.truncate(size);
                seen.body.extend(chunk);
                if size == 0 {
                    break;
                }
            }
        } else if let Some(length) = seen.header("content-length") {
            seen.body = vec![0; length.parse().ok()?];
            stream.read_exact(&mut seen.body).ok()?;
        }
        Some(seen)
    }

    pub(crate) fn header(&self, name: &str) -> Option<&str> {
        let mut lines = self.head.split("\r\n").skip(1).filter_map(|line| line.split_once(": "));
        lines.find(|(known, _)| known.eq_ignore_ascii_case(name)).map(|(_, value)| value)
    }

    pub(crate) fn first_line(&self) -> &str {
        self.head.split("\r\n").next().unwrap_or_default()
    }
}

/// Waits until `is_so`.
#[track_caller]
pub(crate) fn eventually(what: &str, mut is_so: impl FnMut() -> bool) {
    let deadline = Instant::now() + PATIENCE;
    while !is_so() {
        assert!(Instant::now() < deadline, "this was waited for in vain: {what}");
        thread::sleep(Duration::from_millis(2));
    }
}
