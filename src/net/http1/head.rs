//! The head of a message: its first line and its headers.

use httparse::{EMPTY_HEADER, Header, ParserConfig, Status};

use super::framing::{Length, Lengths, Unclear};
use super::{MAX_HEAD, MAX_HEADERS, MAX_LINE, Path, canonical};

/// Why a message is refused: the status of the answer, and what is wrong.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Broken {
    /// The status.
    pub(crate) status: u16,
    /// What is wrong.
    pub(crate) reason: &'static str,
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
pub(crate) enum End {
    /// Behind so many bytes.
    At(usize),
    /// Not in what is there; so many bytes need not be looked at again.
    Later(usize),
}

/// Looks for the end of a head in `bytes`, of which the first `seen` were looked at before.
///
/// Every line must end in CR LF: one that ends in LF alone is the end of a line to some programs and not to others.
pub(crate) fn find_end(bytes: &[u8], seen: usize) -> Result<End, Broken> {
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
    Ok(End::Later(bytes.len()))
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
#[derive(Debug, PartialEq, Eq)]
pub(crate) struct RequestHead<'a> {
    /// The method.
    pub(crate) method: &'a str,
    /// The path in its one form, or `*`.
    pub(crate) path: Path<'a>,
    /// The query with its question mark; empty where there is none.
    pub(super) search: &'a str,
    /// The host that the client means.
    pub(crate) host: Option<&'a str>,
    /// Whether it is HTTP/1.0.
    pub(crate) is_old: bool,
    /// All headers, in their order.
    pub(crate) headers: Vec<(&'a str, &'a [u8])>,
    /// How long its body is.
    pub(crate) length: Length,
    /// Whether the client may send another request on this connection.
    pub(crate) keeps_alive: bool,
    /// Whether it waits for `100 Continue` before it sends the body.
    pub(crate) expects_continue: bool,
    /// Whether it wants to go on in another protocol.
    pub(crate) wants_upgrade: bool,
}

impl<'a> RequestHead<'a> {
    /// Reads a head that [`find_end`] has found.
    pub(crate) fn read(bytes: &'a [u8]) -> Result<Self, Broken> {
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
        let (path, search) = target.split_at(target.find('?').unwrap_or(target.len()));
        Ok(RequestHead {
            method,
            path: canonical(path).map_err(Broken::bad)?,
            search,
            host: authority.or(host),
            is_old,
            length: length.unwrap_or(Length::Known(0)),
            keeps_alive: if is_old { facts.is_keep_alive && !facts.is_close } else { !facts.is_close },
            expects_continue,
            wants_upgrade: facts.is_upgrade && !is_old,
            headers: request.headers.iter().map(|header| (header.name, header.value)).collect(),
        })
    }

    /// The path in its one form, without the query.
    pub(crate) fn path(&self) -> &str {
        &self.path.text
    }

    /// The query with its question mark; empty where there is none.
    pub(crate) fn search(&self) -> &'a str {
        self.search
    }

    /// What stands behind the first question mark.
    pub(crate) fn query(&self) -> &'a str {
        self.search.strip_prefix('?').unwrap_or_default()
    }

    /// The values of all headers `name` that are text, in their order.
    pub(crate) fn all<'b>(&'b self, name: &'b str) -> impl DoubleEndedIterator<Item = &'a str> + 'b {
        let found = self.headers.iter().filter(move |(known, _)| known.eq_ignore_ascii_case(name));
        found.filter_map(|(_, value)| std::str::from_utf8(value).ok())
    }

    /// The value of the header `name`, the first one, if it is text.
    pub(crate) fn header(&self, name: &str) -> Option<&'a str> {
        let mut found = self.headers.iter().filter(|(known, _)| known.eq_ignore_ascii_case(name));
        found.next().and_then(|(_, value)| std::str::from_utf8(value).ok())
    }
}

/// The head of an upstream's answer.
#[derive(Debug)]
pub(crate) struct ResponseHead<'a> {
    /// The status.
    pub(crate) status: u16,
    /// What stands behind it.
    pub(crate) reason: &'a str,
    /// All headers, in their order.
    pub(crate) headers: Vec<(&'a str, &'a [u8])>,
    /// How long its body is, if it has one: see [`ResponseHead::read`].
    pub(crate) length: Length,
    /// Whether the connection may be used again.
    pub(crate) keeps_alive: bool,
}

impl<'a> ResponseHead<'a> {
    /// Reads a head that [`find_end`] has found. Whether there is a body depends on the request, too (RFC 9112, 6.3): none follows
    /// on one with the method HEAD.
    pub(crate) fn read(bytes: &'a [u8], is_to_head: bool) -> Result<Self, &'static str> {
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
pub(crate) fn options(value: &[u8]) -> impl Iterator<Item = &[u8]> {
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
mod tests;
