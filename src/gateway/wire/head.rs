//! The head of a message: its first line and its headers.

use httparse::{EMPTY_HEADER, Header, ParserConfig, Status};

use super::framing::{Length, Lengths, Unclear};
use super::{MAX_HEAD, MAX_HEADERS, MAX_LINE};

/// Why a message is refused: the status of the answer, and what is wrong.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(in crate::gateway) struct Broken {
    /// The status.
    pub(in crate::gateway) status: u16,
    /// What is wrong.
    pub(in crate::gateway) reason: &'static str,
}

impl Broken {
    const fn new(status: u16, reason: &'static str) -> Self {
        Broken { status, reason }
    }

    const fn bad(reason: &'static str) -> Self {
        Broken::new(400, reason)
    }
}

impl From<Unclear> for Broken {
    fn from(unclear: Unclear) -> Self {
        match unclear {
            Unclear::Malformed(reason) => Broken::bad(reason),
            Unclear::Coding => Broken::new(501, "no transfer coding but chunked is known here"),
        }
    }
}

/// Where a head ends.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(in crate::gateway) enum End {
    /// Behind so many bytes.
    At(usize),
    /// Not in what is there; so many bytes need not be looked at again.
    Later(usize),
}

/// Looks for the end of a head in `bytes`, of which the first `seen` were looked at before.
///
/// Every line must end in CR LF: one that ends in LF alone is the end of a line to some programs and not to others.
pub(in crate::gateway) fn find_end(bytes: &[u8], seen: usize) -> Result<End, Broken> {
    if bytes.len() > MAX_LINE && !bytes[..MAX_LINE].contains(&b'\n') {
        return Err(Broken::new(414, "the first line is too long"));
    }
    let mut from = seen;
    while let Some(found) = bytes[from..].iter().position(|byte| *byte == b'\n') {
        let at = from + found;
        if at == 0 || bytes[at - 1] != b'\r' {
            return Err(Broken::bad("a line ends without a carriage return"));
        }
        if at >= 3 && bytes[at - 2] == b'\n' {
            return if at < MAX_HEAD { Ok(End::At(at + 1)) } else { Err(TOO_LARGE) };
        }
        from = at + 1;
    }
    if bytes.len() > MAX_HEAD {
        return Err(TOO_LARGE);
    }
    // Nothing behind the last line break was one, and the next piece may begin with one.
    Ok(End::Later(from.max(bytes.len())))
}

const TOO_LARGE: Broken = Broken::new(431, "the head is too large");

/// What is said of a connection and of a body, the same in requests and answers.
#[derive(Debug, Default)]
struct Facts {
    lengths: Lengths,
    is_close: bool,
    is_keep_alive: bool,
    is_upgrade: bool,
}

/// The head of a request.
#[derive(Debug)]
pub(in crate::gateway) struct RequestHead<'a> {
    /// The method.
    pub(in crate::gateway) method: &'a str,
    /// Path and query as they were sent, or `*`.
    pub(in crate::gateway) target: &'a str,
    /// The host that the client means.
    pub(in crate::gateway) host: Option<&'a str>,
    /// Whether it is HTTP/1.0.
    pub(in crate::gateway) is_old: bool,
    /// All headers, in their order.
    pub(in crate::gateway) headers: Vec<(&'a str, &'a [u8])>,
    /// How long its body is.
    pub(in crate::gateway) length: Length,
    /// Whether the client may send another request on this connection.
    pub(in crate::gateway) keeps_alive: bool,
    /// Whether it waits for `100 Continue` before it sends the body.
    pub(in crate::gateway) expects_continue: bool,
    /// Whether it wants to go on in another protocol.
    pub(in crate::gateway) wants_upgrade: bool,
}

impl<'a> RequestHead<'a> {
    /// Reads a head that [`find_end`] has found.
    pub(in crate::gateway) fn read(bytes: &'a [u8]) -> Result<Self, Broken> {
        let mut storage = [EMPTY_HEADER; MAX_HEADERS];
        let mut request = httparse::Request::new(&mut storage);
        match ParserConfig::default().parse_request(&mut request, bytes) {
            Ok(Status::Complete(length)) if length == bytes.len() => {}
            Ok(_) => return Err(Broken::bad("the head has an empty line in it")),
            Err(error) => return Err(unreadable(error)),
        }
        let (method, target) = (request.method.unwrap_or_default(), request.path.unwrap_or_default());
        let is_old = request.version == Some(0);
        let mut facts = Facts::default();
        let mut host = None;
        let mut expects_continue = false;
        for header in request.headers.iter() {
            facts.take(header, bytes)?;
            if header.name.eq_ignore_ascii_case("host") {
                if host.is_some() {
                    return Err(Broken::bad("there are two Host headers"));
                }
                host = Some(host_of(header.value)?);
            } else if header.name.eq_ignore_ascii_case("expect") {
                if !header.value.eq_ignore_ascii_case(b"100-continue") {
                    return Err(Broken::new(417, "only 100-continue can be expected"));
                }
                // An old client does not know it (RFC 9110, 10.1.1).
                expects_continue = !is_old;
            }
        }
        if host.is_none() && !is_old {
            return Err(Broken::bad("there is no Host header"));
        }
        let length = facts.lengths.length()?;
        if is_old && length == Some(Length::Chunked) {
            return Err(Broken::bad("HTTP/1.0 has no transfer codings"));
        }
        let (target, authority) = target_of(method, target)?;
        Ok(RequestHead {
            method,
            target,
            host: authority.or(host),
            is_old,
            length: length.unwrap_or(Length::Known(0)),
            keeps_alive: if is_old { facts.is_keep_alive && !facts.is_close } else { !facts.is_close },
            expects_continue,
            wants_upgrade: facts.is_upgrade && !is_old,
            headers: request.headers.iter().map(|header| (header.name, header.value)).collect(),
        })
    }

    /// The path, without the query.
    pub(in crate::gateway) fn path(&self) -> &'a str {
        self.target.split('?').next().unwrap_or_default()
    }

    /// What stands behind the first question mark.
    pub(in crate::gateway) fn query(&self) -> &'a str {
        self.target.split_once('?').map_or("", |(_, query)| query)
    }

    /// The value of the header `name`, the first one, if it is text.
    pub(in crate::gateway) fn header(&self, name: &str) -> Option<&'a str> {
        let mut found = self.headers.iter().filter(|(known, _)| known.eq_ignore_ascii_case(name));
        found.next().and_then(|(_, value)| std::str::from_utf8(value).ok())
    }
}

/// The head of an upstream's answer.
#[derive(Debug)]
pub(in crate::gateway) struct ResponseHead<'a> {
    /// The status.
    pub(in crate::gateway) status: u16,
    /// What stands behind it.
    pub(in crate::gateway) reason: &'a str,
    /// All headers, in their order.
    pub(in crate::gateway) headers: Vec<(&'a str, &'a [u8])>,
    /// How long its body is, if it has one: see [`ResponseHead::read`].
    pub(in crate::gateway) length: Length,
    /// Whether the connection may be used again.
    pub(in crate::gateway) keeps_alive: bool,
}

impl<'a> ResponseHead<'a> {
    /// Reads a head that [`find_end`] has found. Whether there is a body depends on the request, too (RFC 9112, 6.3): none follows
    /// on one with the method HEAD.
    pub(in crate::gateway) fn read(bytes: &'a [u8], is_to_head: bool) -> Result<Self, &'static str> {
        let mut storage = [EMPTY_HEADER; MAX_HEADERS];
        let mut response = httparse::Response::new(&mut storage);
        match ParserConfig::default().parse_response(&mut response, bytes) {
            Ok(Status::Complete(length)) if length == bytes.len() => {}
            Ok(_) => return Err("the head has an empty line in it"),
            Err(error) => return Err(unreadable(error).reason),
        }
        let status = response.code.unwrap_or_default();
        let is_old = response.version == Some(0);
        let mut facts = Facts::default();
        for header in response.headers.iter() {
            facts.take(header, bytes).map_err(|broken| broken.reason)?;
        }
        let length = facts.lengths.length().map_err(|unclear| Broken::from(unclear).reason)?;
        if is_old && length == Some(Length::Chunked) {
            return Err("HTTP/1.0 has no transfer codings");
        }
        let has_body = !is_to_head && status >= 200 && !matches!(status, 204 | 304);
        let length = if has_body { length.unwrap_or(Length::ToTheEnd) } else { Length::Known(0) };
        let is_kept = if is_old { facts.is_keep_alive && !facts.is_close } else { !facts.is_close };
        Ok(ResponseHead {
            status,
            reason: response.reason.unwrap_or_default(),
            headers: response.headers.iter().map(|header| (header.name, header.value)).collect(),
            length,
            keeps_alive: is_kept && length != Length::ToTheEnd,
        })
    }
}

impl Facts {
    fn take(&mut self, header: &Header<'_>, head: &[u8]) -> Result<(), Broken> {
        if header.name.eq_ignore_ascii_case("content-length") {
            self.lengths.content_length(header.value)?;
        } else if header.name.eq_ignore_ascii_case("transfer-encoding") {
            self.lengths.transfer_encoding(raw_value(header, head))?;
        } else if header.name.eq_ignore_ascii_case("connection") {
            for option in options(header.value) {
                self.is_close |= option.eq_ignore_ascii_case(b"close");
                self.is_keep_alive |= option.eq_ignore_ascii_case(b"keep-alive");
                self.is_upgrade |= option.eq_ignore_ascii_case(b"upgrade");
            }
        }
        Ok(())
    }
}

/// The parts of a list such as that of `Connection`.
pub(in crate::gateway) fn options(value: &[u8]) -> impl Iterator<Item = &[u8]> {
    value.split(|byte| *byte == b',').map(<[u8]>::trim_ascii).filter(|option| !option.is_empty())
}

/// All that stands between the colon of `header` and the end of its line, where the parser takes blanks away.
fn raw_value<'a>(header: &Header<'_>, head: &'a [u8]) -> &'a [u8] {
    let name_end = header.name.as_ptr() as usize + header.name.len() - head.as_ptr() as usize;
    let rest = head.get(name_end + 1..).unwrap_or_default();
    let end = rest.iter().position(|byte| *byte == b'\r').unwrap_or(rest.len());
    &rest[..end]
}

fn unreadable(error: httparse::Error) -> Broken {
    match error {
        httparse::Error::TooManyHeaders => Broken::new(431, "there are too many headers"),
        httparse::Error::Version => Broken::new(505, "only HTTP/1.0 and HTTP/1.1 are spoken here"),
        httparse::Error::HeaderName => Broken::bad("a header name is malformed"),
        httparse::Error::HeaderValue => Broken::bad("a header value is malformed"),
        httparse::Error::NewLine => Broken::bad("a line ends in the wrong way"),
        httparse::Error::Status => Broken::bad("the status is malformed"),
        httparse::Error::Token => Broken::bad("the first line is malformed"),
    }
}

/// A host with an optional port (RFC 9110, 7.2), not more of a check than keeps it from being two things.
fn host_of(value: &[u8]) -> Result<&str, Broken> {
    let is_part = |byte: &u8| byte.is_ascii_alphanumeric() || b"-._~:[]%!$&'()*+,;=".contains(byte);
    match std::str::from_utf8(value) {
        Ok(host) if value.iter().all(is_part) => Ok(host),
        _ => Err(Broken::bad("the Host header is malformed")),
    }
}

/// Path and query, and the host, where the target has one (RFC 9112, 3.2).
fn target_of<'a>(method: &str, target: &'a str) -> Result<(&'a str, Option<&'a str>), Broken> {
    if !target.bytes().all(|byte| byte.is_ascii_graphic() && byte != b'#') {
        return Err(Broken::bad("the target has characters that must be encoded"));
    }
    if target.starts_with('/') || (target == "*" && method == "OPTIONS") {
        return Ok((target, None));
    }
    if method == "CONNECT" {
        return Err(Broken::new(405, "there are no tunnels to other servers here"));
    }
    let lower = target.get(..8).unwrap_or(target).to_ascii_lowercase();
    let scheme = ["http://", "https://"].into_iter().find(|scheme| lower.starts_with(scheme));
    let Some(rest) = scheme.map(|scheme| &target[scheme.len()..]) else {
        return Err(Broken::bad("the target is no path"));
    };
    let end = rest.find(['/', '?']).unwrap_or(rest.len());
    let (authority, path) = rest.split_at(end);
    if authority.is_empty() || authority.contains('@') {
        return Err(Broken::bad("the target is no path"));
    }
    let host = host_of(authority.as_bytes())?;
    match path {
        "" => Ok(("/", Some(host))),
        path if path.starts_with('/') => Ok((path, Some(host))),
        _ => Err(Broken::bad("the target is no path")),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn end(text: &str) -> Result<End, (u16, &'static str)> {
        find_end(text.as_bytes(), 0).map_err(|broken| (broken.status, broken.reason))
    }

    /// What a request with this head is.
    fn read(text: &str) -> Result<RequestHead<'_>, (u16, &'static str)> {
        match end(text)? {
            End::At(length) => {
                RequestHead::read(&text.as_bytes()[..length]).map_err(|broken| (broken.status, broken.reason))
            }
            End::Later(_) => panic!("{text:?} has no end"),
        }
    }

    fn with(headers: &str) -> String {
        format!("GET / HTTP/1.1\r\nHost: a\r\n{headers}\r\n")
    }

    #[track_caller]
    fn refused(text: &str, status: u16, reason: &str) {
        assert_eq!(read(text).expect_err(text), (status, reason), "{text:?}");
    }

    #[test]
    fn a_head_is_read() {
        let head = read(concat!(
            "POST /api/sum?a=1&b=2 HTTP/1.1\r\nHost: localhost:4455\r\nContent-Length: 2\r\n",
            "Connection: keep-alive, Upgrade\r\nExpect: 100-Continue\r\nX-Empty:\r\nX-Blanks: \t a b \t\r\n\r\n{}",
        ))
        .expect("it is right");
        assert_eq!((head.method, head.path(), head.query()), ("POST", "/api/sum", "a=1&b=2"));
        assert_eq!((head.host, head.length, head.keeps_alive), (Some("localhost:4455"), Length::Known(2), true));
        assert!(head.expects_continue && head.wants_upgrade && !head.is_old);
        assert_eq!(
            (head.header("x-empty"), head.header("X-BLANKS"), head.header("none")),
            (Some(""), Some("a b"), None)
        );
    }

    #[test]
    fn who_says_nothing_of_the_connection_keeps_it_with_http_1_1_and_closes_it_with_1_0() {
        let keeps = |text: &str| read(text).expect("it is right").keeps_alive;
        assert!(keeps(&with("")) && !keeps(&with("Connection: close\r\n")));
        assert!(!keeps("GET / HTTP/1.0\r\n\r\n") && keeps("GET / HTTP/1.0\r\nConnection: Keep-Alive\r\n\r\n"));
        assert!(!keeps(&with("Connection: keep-alive\r\nConnection: x, close\r\n")));
    }

    #[test]
    fn a_target_may_have_a_host_that_wins() {
        let target = |text: &'static str| read(text).map(|head| (head.target, head.host));
        assert_eq!(target("GET http://b:80/x?y HTTP/1.1\r\nHost: a\r\n\r\n"), Ok(("/x?y", Some("b:80"))));
        assert_eq!(target("GET HTTP://b HTTP/1.1\r\nHost: a\r\n\r\n"), Ok(("/", Some("b"))));
        assert_eq!(target("OPTIONS * HTTP/1.1\r\nHost: a\r\n\r\n"), Ok(("*", Some("a"))));
        for text in [
            "GET * HTTP/1.1",
            "GET x HTTP/1.1",
            "GET ftp://b/ HTTP/1.1",
            "GET http:///x HTTP/1.1",
            "GET http://u@b/ HTTP/1.1",
        ] {
            refused(&format!("{text}\r\nHost: a\r\n\r\n"), 400, "the target is no path");
        }
        refused("CONNECT b:443 HTTP/1.1\r\nHost: b\r\n\r\n", 405, "there are no tunnels to other servers here");
    }

    #[test]
    fn a_length_that_can_be_read_in_two_ways_is_refused() {
        let length = |headers: &str| read(&with(headers)).map(|head| head.length);
        assert_eq!(length(""), Ok(Length::Known(0)));
        assert_eq!(length("Content-Length: 007\r\n"), Ok(Length::Known(7)));
        assert_eq!(length("transfer-encoding:  Chunked\r\n"), Ok(Length::Chunked));
        for (headers, reason) in [
            ("Content-Length: 1\r\nContent-Length: 1\r\n", "there are two lengths"),
            ("Content-Length: 1\r\nTransfer-Encoding: chunked\r\n", "there are two lengths"),
            ("Content-Length: 1, 1\r\n", "Content-Length is not a number"),
            ("Content-Length: +1\r\n", "Content-Length is not a number"),
            ("Content-Length: 0x1\r\n", "Content-Length is not a number"),
            ("Content-Length: -1\r\n", "Content-Length is not a number"),
            ("Content-Length:\r\n", "Content-Length is not a number"),
            ("Content-Length: 99999999999999999999\r\n", "Content-Length is not a number"),
            ("Transfer-Encoding: chunked\r\nTransfer-Encoding: chunked\r\n", "there are two transfer encodings"),
            ("Transfer-Encoding: chunked, chunked\r\n", "Transfer-Encoding is more than chunked"),
            ("Transfer-Encoding: gzip, chunked\r\n", "Transfer-Encoding is more than chunked"),
            ("Transfer-Encoding: chunked, identity\r\n", "Transfer-Encoding is more than chunked"),
            ("Transfer-Encoding:\tchunked\r\n", "Transfer-Encoding is more than chunked"),
            ("Transfer-Encoding: chunked\t\r\n", "Transfer-Encoding is more than chunked"),
            ("Transfer-Encoding: xchunked\r\n", "Transfer-Encoding is more than chunked"),
            ("Transfer-Encoding: \"chunked\"\r\n", "Transfer-Encoding is more than chunked"),
        ] {
            refused(&with(headers), 400, reason);
        }
        refused(&with("Transfer-Encoding: gzip\r\n"), 501, "no transfer coding but chunked is known here");
        refused(&with("Transfer-Encoding:\r\n"), 501, "no transfer coding but chunked is known here");
        refused("POST / HTTP/1.0\r\nTransfer-Encoding: chunked\r\n\r\n", 400, "HTTP/1.0 has no transfer codings");
    }

    #[test]
    fn a_head_that_some_would_read_otherwise_is_refused() {
        for (text, reason) in [
            ("GET / HTTP/1.1\nHost: a\n\n", "a line ends without a carriage return"),
            ("GET / HTTP/1.1\r\nHost: a\n\r\n", "a line ends without a carriage return"),
            ("\nGET / HTTP/1.1\r\nHost: a\r\n\r\n", "a line ends without a carriage return"),
            ("GET / HTTP/1.1\r\nHost: a\r\n b\r\n\r\n", "a header name is malformed"),
            ("GET / HTTP/1.1\r\nHost : a\r\n\r\n", "a header name is malformed"),
            ("GET / HTTP/1.1\r\n Host: a\r\n\r\n", "a header name is malformed"),
            ("GET / HTTP/1.1\r\nHost: a\r\nX\r\n\r\n", "a header name is malformed"),
            ("GET / HTTP/1.1\r\nHost: a\r\n: x\r\n\r\n", "a header name is malformed"),
            ("GET / HTTP/1.1\r\nHost: a\r\nX: \x01\r\n\r\n", "a header value is malformed"),
            ("GET / HTTP/1.1\r\nHost: a\r\nX: a\rb\r\n\r\n", "a header value is malformed"),
            ("GET / HTTP/1.1\r\nHost: a\r\nHost: a\r\n\r\n", "there are two Host headers"),
            ("GET / HTTP/1.1\r\n\r\n", "there is no Host header"),
            ("GET / HTTP/1.1\r\nHost: a b\r\n\r\n", "the Host header is malformed"),
            ("GET / HTTP/1.1\r\nHost: a/b\r\n\r\n", "the Host header is malformed"),
            ("GET  / HTTP/1.1\r\nHost: a\r\n\r\n", "the first line is malformed"),
            ("GET /a b HTTP/1.1\r\nHost: a\r\n\r\n", "only HTTP/1.0 and HTTP/1.1 are spoken here"),
            ("GET /\u{e9} HTTP/1.1\r\nHost: a\r\n\r\n", "the target has characters that must be encoded"),
            ("GET /# HTTP/1.1\r\nHost: a\r\n\r\n", "the target has characters that must be encoded"),
            ("G\u{e9}T / HTTP/1.1\r\nHost: a\r\n\r\n", "the first line is malformed"),
        ] {
            let status = if reason.starts_with("only") { 505 } else { 400 };
            refused(text, status, reason);
        }
        refused("GET / HTTP/2.0\r\nHost: a\r\n\r\n", 505, "only HTTP/1.0 and HTTP/1.1 are spoken here");
        refused(&with("Expect: rain\r\n"), 417, "only 100-continue can be expected");
    }

    #[test]
    fn a_head_has_a_limit_in_each_direction() {
        assert_eq!(end(&format!("GET /{} HTTP/1.1\r\nHost: a\r\n\r\n", "x".repeat(8000))).map(|_| ()), Ok(()));
        for rest in ["", " HTTP/1.1\r\n", " HTTP/1.1\r\nHost: a\r\n\r\n"] {
            let text = format!("GET /{}{rest}", "x".repeat(9000));
            assert_eq!(end(&text), Err((414, "the first line is too long")));
        }
        assert_eq!(end(&with(&format!("X: {}\r\n", "x".repeat(17000)))), Err((431, "the head is too large")));
        assert_eq!(end(&format!("GET / HTTP/1.1\r\nX: {}", "x".repeat(17000))), Err((431, "the head is too large")));
        let many: String = (0..101).map(|number| format!("X-{number}: 1\r\n")).collect();
        refused(&with(&many), 431, "there are too many headers");
    }

    #[test]
    fn the_end_is_found_in_whatever_pieces_a_head_comes() {
        let text = with("X: y\r\n") + "body";
        let mut seen = 0;
        for length in 1..=text.len() {
            match find_end(&text.as_bytes()[..length], seen).expect("it is right") {
                End::Later(looked) => {
                    assert!(length < text.len() - 4, "the end was not seen");
                    seen = looked;
                }
                End::At(at) => {
                    assert_eq!(at, text.len() - 4);
                    return;
                }
            }
        }
    }

    #[test]
    fn an_answer_has_the_body_that_its_request_and_its_status_allow() {
        let read = |text: &'static str, is_to_head| {
            ResponseHead::read(text.as_bytes(), is_to_head).map(|head| (head.status, head.length, head.keeps_alive))
        };
        assert_eq!(read("HTTP/1.1 200 OK\r\nContent-Length: 5\r\n\r\n", false), Ok((200, Length::Known(5), true)));
        assert_eq!(read("HTTP/1.1 200 OK\r\nContent-Length: 5\r\n\r\n", true), Ok((200, Length::Known(0), true)));
        assert_eq!(read("HTTP/1.1 304 \r\nContent-Length: 5\r\n\r\n", false), Ok((304, Length::Known(0), true)));
        assert_eq!(read("HTTP/1.1 204\r\n\r\n", false), Ok((204, Length::Known(0), true)));
        assert_eq!(read("HTTP/1.1 200 OK\r\n\r\n", false), Ok((200, Length::ToTheEnd, false)));
        assert_eq!(read("HTTP/1.0 200 OK\r\nContent-Length: 5\r\n\r\n", false), Ok((200, Length::Known(5), false)));
        assert_eq!(
            read("HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n", false),
            Ok((200, Length::Chunked, true))
        );
        assert_eq!(
            read("HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\nContent-Length: 5\r\n\r\n", false),
            Err("there are two lengths")
        );
        assert_eq!(read("HTTP/1.1 200 OK\r\nA: b\r\n c\r\n\r\n", false), Err("a header name is malformed"));
    }
}
