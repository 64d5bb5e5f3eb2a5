//! A function behind a URL.

use std::collections::BTreeMap;
use std::io::Read;
use std::sync::Mutex;
use std::time::Duration;

use ureq::http::{HeaderName, HeaderValue, Response, StatusCode, Uri};
use ureq::{Agent, Body as Answer, Error};

use super::output::{excerpt, plain, size, value_of};
use super::{Body, Call};
use crate::lock::Unpoisoned;
use crate::protocol::{Arguments, CallError, Outcome};

/// What makes an [`Http`].
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct HttpOptions {
    /// Where requests are sent to: `http://` or `https://`.
    pub url: String,
    /// Sent with each request. They may replace our own `Content-Type` and `User-Agent`.
    pub headers: BTreeMap<String, String>,
    /// How many bytes an answer may have.
    pub max_output: usize,
}

impl HttpOptions {
    /// What would keep every request from being sent, a line each.
    pub fn check(&self) -> Vec<String> {
        let mut faults = Vec::new();
        match self.url.parse::<Uri>() {
            Ok(uri) if uri.host().is_some() && matches!(uri.scheme_str(), Some("http" | "https")) => {}
            Ok(_) => faults.push(format!("url {:?}: must begin with http:// or https:// and a host", self.url)),
            Err(error) => faults.push(format!("url {:?}: {error}", self.url)),
        }
        for (name, value) in &self.headers {
            if name.parse::<HeaderName>().is_err() || HeaderValue::from_str(value).is_err() {
                faults.push(format!("header {name:?}: is not one that HTTP allows"));
            }
        }
        faults
    }
}

/// Sends each call to a URL, in a POST, and takes the answer for the value.
///
/// Connections are kept and used again. Redirects are not followed: a request must not be sent twice, nor to somebody
/// else. Proxies that the environment names are not used.
pub struct Http {
    options: HttpOptions,
    /// The URL without what may be secret, for error texts.
    shown: String,
    /// Each serves one call at a time, so that a call can be cut off without harm to another.
    idle: Mutex<Vec<Agent>>,
}

/// How long a connection is kept. Many servers close theirs after five seconds; a request that is sent at just that
/// moment is lost, and must not be sent again, because nobody can know whether it was read.
const LONGEST_IDLE: Duration = Duration::from_secs(4);

/// How many connections are kept.
const MOST_IDLE: usize = 64;

/// How many characters of an error's body are shown.
const EXCERPT: usize = 200;

impl Http {
    /// The body that sends calls to `options.url`.
    pub fn new(options: HttpOptions) -> Self {
        let shown = without_secrets(&options.url);
        Http { options, shown, idle: Mutex::default() }
    }

    fn agent(&self) -> Agent {
        let idle = self.idle.lock().unpoisoned().pop();
        idle.unwrap_or_else(|| {
            Agent::config_builder()
                .http_status_as_error(false)
                .max_redirects(0)
                .max_redirects_will_error(false)
                .proxy(None)
                .user_agent(concat!("cerbas/", env!("CARGO_PKG_VERSION")))
                .max_idle_age(LONGEST_IDLE)
                .max_idle_connections(1)
                .build()
                .into()
        })
    }

    fn exchange(&self, agent: &Agent, call: &Call, line: &[u8]) -> Outcome {
        let mut request = agent.post(&self.options.url).config().timeout_global(Some(call.remaining())).build();
        if !self.options.headers.keys().any(|name| name.eq_ignore_ascii_case("content-type")) {
            request = request.header("Content-Type", "application/json");
        }
        for (name, value) in &self.options.headers {
            request = request.header(name, value);
        }
        let answer = request.send(line).map_err(|error| self.failed(error))?;
        match answer.status() {
            status if status.is_success() => self.value(answer),
            status => Err(refused(status, answer)),
        }
    }

    fn value(&self, mut answer: Response<Answer>) -> Outcome {
        let limit = self.options.max_output;
        let mut bytes = Vec::new();
        let read = answer.body_mut().as_reader().take(limit as u64 + 1).read_to_end(&mut bytes);
        read.map_err(|error| self.failed(error.into()))?;
        if bytes.len() > limit {
            return Err(CallError::Failed(format!("{}: the answer is larger than {}", self.shown, size(limit))));
        }
        value_of(&bytes).map_err(|reason| CallError::Failed(format!("{}: {reason}", self.shown)))
    }

    fn failed(&self, error: Error) -> CallError {
        let reason = match error {
            Error::Timeout(_) => return CallError::TimedOut,
            Error::Io(error) => plain(&error),
            error => error.to_string(),
        };
        CallError::Failed(format!("{}: {reason}", self.shown))
    }
}

impl Body for Http {
    fn run(&self, call: &Call, args: Arguments) -> Outcome {
        let agent = self.agent();
        let cut_off = agent.clone();
        let hook = call.cancel.on_cancel(move || cut_off.shutdown());
        let outcome = self.exchange(&agent, call, &call.to_json(&args));
        drop(hook);
        if call.is_cancelled() {
            // The agent was shut down, and can be used no more.
            return Err(if call.remaining().is_zero() { CallError::TimedOut } else { CallError::Cancelled });
        }
        let mut idle = self.idle.lock().unpoisoned();
        if idle.len() < MOST_IDLE {
            idle.push(agent);
        }
        outcome
    }

    fn kind(&self) -> &'static str {
        "http"
    }
}

fn refused(status: StatusCode, mut answer: Response<Answer>) -> CallError {
    let number = status.as_u16();
    let location = answer.headers().get("location").map(|location| excerpt(location.as_bytes(), EXCERPT));
    if let Some(location) = location.filter(|_| status.is_redirection()) {
        return CallError::FailedForGood(format!("http {number}: redirects to {location}, which is not followed"));
    }
    let mut bytes = Vec::new();
    // The status says enough where the body breaks off.
    let _ = answer.body_mut().as_reader().take(4096).read_to_end(&mut bytes);
    let text = match excerpt(&bytes, EXCERPT) {
        empty if empty.is_empty() => status.canonical_reason().unwrap_or("no reason given").to_owned(),
        text => text,
    };
    let message = format!("http {number}: {text}");
    if is_pointless(status) { CallError::FailedForGood(message) } else { CallError::Failed(message) }
}

/// Whether the same request will be refused again: the client's errors (RFC 9110, 15.5), without those that speak of a time.
fn is_pointless(status: StatusCode) -> bool {
    let may_pass = [StatusCode::REQUEST_TIMEOUT, StatusCode::TOO_EARLY, StatusCode::TOO_MANY_REQUESTS];
    status.is_client_error() && !may_pass.contains(&status)
}

/// `url` without user, password and query.
fn without_secrets(url: &str) -> String {
    let url = url.split(['?', '#']).next().unwrap_or_default();
    match url.split_once("://") {
        Some((scheme, rest)) => {
            let (authority, path) = rest.split_at(rest.find('/').unwrap_or(rest.len()));
            let host = authority.rsplit('@').next().unwrap_or_default();
            format!("{scheme}://{host}{path}")
        }
        None => url.to_owned(),
    }
}

#[cfg(test)]
mod tests {
    use std::io::{BufRead, BufReader, Write};
    use std::net::{TcpListener, TcpStream};
    use std::sync::mpsc::{Receiver, channel};
    use std::thread;

    use super::super::testing::{arguments, call, call_within, json, nothing};
    use super::*;

    /// A server that takes connections until it is dropped, and gives each to `serve` on a thread of its own.
    fn server(serve: impl Fn(TcpStream) + Clone + Send + 'static) -> String {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let url = format!("http://{}/work", listener.local_addr().unwrap());
        thread::spawn(move || {
            for stream in listener.incoming().flatten() {
                let serve = serve.clone();
                thread::spawn(move || serve(stream));
            }
        });
        url
    }

    /// Reads one request: its head in small letters, and its body. `None` at the end.
    fn read_request(stream: &mut BufReader<TcpStream>) -> Option<(String, Vec<u8>)> {
        let mut head = String::new();
        while !head.ends_with("\r\n\r\n") {
            if stream.read_line(&mut head).ok()? == 0 {
                return None;
            }
        }
        let head = head.to_lowercase();
        let length = head.lines().find_map(|line| line.strip_prefix("content-length: "))?.parse().ok()?;
        let mut body = vec![0; length];
        stream.read_exact(&mut body).ok()?;
        Some((head, body))
    }

    /// A server that answers each request with `answer`, and tells the client's address, the head and the body.
    fn answering(answer: impl Into<Vec<u8>>) -> (String, Receiver<(String, Vec<u8>)>) {
        let answer = answer.into();
        let (sender, requests) = channel();
        let url = server(move |stream| {
            let mut reader = BufReader::new(stream.try_clone().unwrap());
            while let Some((head, body)) = read_request(&mut reader) {
                let _ = sender.send((format!("{}\n{head}", stream.peer_addr().unwrap()), body));
                let _ = { &stream }.write_all(&answer);
            }
        });
        (url, requests)
    }

    fn with_body(status: &str, body: &str) -> Vec<u8> {
        format!("HTTP/1.1 {status}\r\nContent-Length: {}\r\n\r\n{body}", body.len()).into_bytes()
    }

    fn http(url: &str) -> Http {
        Http::new(HttpOptions { url: url.to_owned(), headers: BTreeMap::new(), max_output: 1 << 20 })
    }

    fn outcome_of(answer: impl Into<Vec<u8>>) -> Outcome {
        http(&answering(answer).0).run(&call(), nothing())
    }

    fn error_of(answer: impl Into<Vec<u8>>) -> String {
        outcome_of(answer).unwrap_err().to_string()
    }

    #[test]
    fn the_request_is_posted_as_json() {
        let (url, requests) = answering(with_body("200 OK", "3"));
        let headers = [("Authorization".to_owned(), "Bearer secret".to_owned())].into();
        let http = Http::new(HttpOptions { url, headers, max_output: 100 });
        assert_eq!(http.run(&call(), arguments(json!({"a": 1}))), Ok(json!(3)));
        let (head, body) = requests.recv().unwrap();
        assert!(head.contains("post /work http/1.1\r\n"), "{head}");
        assert!(head.contains("\r\ncontent-type: application/json\r\n"), "{head}");
        assert!(head.contains(&format!("\r\nuser-agent: cerbas/{}\r\n", env!("CARGO_PKG_VERSION"))), "{head}");
        assert!(head.contains("\r\nauthorization: bearer secret\r\n"), "{head}");
        let body: crate::protocol::Object = serde_json::from_slice(&body).unwrap();
        assert_eq!((body.get("id"), body.get("args")), (Some(&json!("test-1")), Some(&json!({"a": 1}))));
    }

    #[test]
    fn headers_of_the_options_replace_our_own() {
        let (url, requests) = answering(with_body("200 OK", ""));
        let headers = [("content-type".to_owned(), "text/json".to_owned()), ("user-agent".to_owned(), "me".to_owned())];
        Http::new(HttpOptions { url, headers: headers.into(), max_output: 100 }).run(&call(), nothing()).unwrap();
        let (head, _) = requests.recv().unwrap();
        assert_eq!(head.matches("content-type: ").count(), 1);
        assert!(head.contains("\r\ncontent-type: text/json\r\n") && head.contains("\r\nuser-agent: me\r\n"), "{head}");
    }

    #[test]
    fn the_body_of_a_2xx_answer_is_the_value() {
        assert_eq!(outcome_of(with_body("200 OK", "{\"height\": 60}")), Ok(json!({"height": 60})));
        assert_eq!(outcome_of(with_body("201 Created", "made\n")), Ok(json!("made\n")));
        assert_eq!(outcome_of(with_body("200 OK", "")), Ok(json!(null)));
        assert_eq!(outcome_of("HTTP/1.1 204 No Content\r\n\r\n"), Ok(json!(null)));
        let chunked = "HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n2\r\n[1\r\n2\r\n,2\r\n1\r\n]\r\n0\r\n\r\n";
        assert_eq!(outcome_of(chunked), Ok(json!([1, 2])));
    }

    #[test]
    fn another_status_is_an_error_with_the_start_of_the_body() {
        assert_eq!(error_of(with_body("503 Service Unavailable", "come\nback later")), "http 503: come back later");
        assert_eq!(error_of(with_body("404 Not Found", "")), "http 404: Not Found");
        assert_eq!(error_of(with_body("500 Oops", &"x".repeat(100_000))), format!("http 500: {}", "x".repeat(200)));
    }

    #[test]
    fn a_redirect_is_not_followed() {
        for status in [301, 302, 303, 307, 308] {
            let answer = format!("HTTP/1.1 {status} Away\r\nLocation: /elsewhere\r\nContent-Length: 0\r\n\r\n");
            assert_eq!(error_of(answer), format!("http {status}: redirects to /elsewhere, which is not followed"));
        }
    }

    #[test]
    fn an_answer_of_just_the_limit_is_fine_and_a_larger_one_is_an_error() {
        let fits = "x".repeat(1 << 20);
        assert_eq!(outcome_of(with_body("200 OK", &fits)), Ok(json!(fits)));
        let error = error_of(with_body("200 OK", &format!("{fits}x")));
        assert!(error.ends_with("/work: the answer is larger than 1 MiB"), "{error}");
    }

    #[test]
    fn garbage_and_an_answer_that_breaks_off_are_errors_that_name_the_url() {
        for answer in ["garbage\r\n\r\n", "HTTP/1.1 200 OK\r\nContent-Length: 100\r\n\r\n{", ""] {
            let url = server(move |stream| {
                let mut reader = BufReader::new(stream.try_clone().unwrap());
                read_request(&mut reader);
                let _ = { &stream }.write_all(answer.as_bytes());
            });
            let error = http(&url).run(&call(), nothing()).unwrap_err().to_string();
            assert!(error.starts_with(&format!("{url}: ")) && !error.contains('\n'), "{error}");
        }
    }

    #[test]
    fn a_server_that_is_not_there_is_named_without_secrets() {
        let address = TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap();
        let error = http(&format!("http://me:secret@{address}/work?key=secret")).run(&call(), nothing()).unwrap_err();
        assert_eq!(error.to_string(), format!("http://{address}/work: Connection refused"));
    }

    #[test]
    fn a_slow_server_is_left_at_the_deadline() {
        let slow = "HTTP/1.1 200 OK\r\nContent-Length: 100\r\n\r\nslow";
        for answer in ["", slow] {
            let (url, _requests) = answering(answer);
            let outcome = http(&url).run(&call_within(Duration::from_millis(100)), nothing());
            assert_eq!(outcome, Err(CallError::TimedOut), "{answer}");
        }
    }

    #[test]
    fn a_cancelled_call_is_cut_off_and_the_next_one_is_served() {
        let (asked, was_asked) = channel();
        let silent = server(move |stream| {
            let mut reader = BufReader::new(stream);
            read_request(&mut reader);
            asked.send(()).unwrap();
            let _ = reader.read_to_end(&mut Vec::new());
            asked.send(()).unwrap();
        });
        let http = http(&silent);
        let call = call();
        thread::scope(|scope| {
            let run = scope.spawn(|| http.run(&call, nothing()));
            was_asked.recv().unwrap();
            call.cancel.cancel();
            assert_eq!(run.join().unwrap(), Err(CallError::Cancelled));
        });
        was_asked.recv().expect("the connection is closed");
        assert_eq!(http.run(&call_within(Duration::from_millis(50)), nothing()), Err(CallError::TimedOut));
    }

    #[test]
    fn a_connection_is_used_again() {
        let (url, requests) = answering(with_body("200 OK", "1"));
        let http = http(&url);
        let peers = [(); 3].map(|()| {
            http.run(&call(), nothing()).unwrap();
            requests.recv().unwrap().0.lines().next().unwrap().to_owned()
        });
        assert!(peers.iter().all(|peer| *peer == peers[0]), "{peers:?}");
    }

    #[test]
    fn a_connection_that_the_server_closed_while_it_was_idle_costs_no_call() {
        let (closed, was_closed) = channel();
        let url = server(move |stream| {
            let mut reader = BufReader::new(stream.try_clone().unwrap());
            read_request(&mut reader);
            { &stream }.write_all(&with_body("200 OK", "1")).unwrap();
            drop((reader, stream));
            closed.send(()).unwrap();
        });
        let http = http(&url);
        for _ in 0..5 {
            assert_eq!(http.run(&call(), nothing()), Ok(json!(1)));
            was_closed.recv().unwrap();
        }
    }

    #[test]
    fn options_that_cannot_work_are_found_before_the_first_call() {
        let faults = |url: &str, header: &str| {
            let headers = [(header.to_owned(), "x".to_owned())].into();
            HttpOptions { url: url.to_owned(), headers, max_output: 1 }.check()
        };
        assert!(faults("https://example.com/a", "X-Key").is_empty());
        let expected = "url \"ftp://example.com\": must begin with http:// or https:// and a host";
        assert_eq!(faults("ftp://example.com", "X"), [expected]);
        assert_eq!(faults("/work", "X").len(), 1);
        assert_eq!(faults("http://a b", "X").len(), 1);
        assert_eq!(faults("http://localhost", "X Y"), ["header \"X Y\": is not one that HTTP allows"]);
    }
}
