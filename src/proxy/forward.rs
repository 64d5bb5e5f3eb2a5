//! What becomes of heads on their way to an upstream and back (RFC 9110, 7.6). Pure.

use std::borrow::Cow;
use std::net::IpAddr;

use super::SiteTerms;
use crate::net::{Length, RequestHead, ResponseHead, options};

/// What of a request does not stand in its head.
pub(super) struct Sender<'a> {
    pub(super) peer: Option<IpAddr>,
    /// Whether what the peer says of others can be believed.
    pub(super) is_trusted: bool,
    pub(super) request_id: &'a str,
    /// Whether `Authorization` was for us.
    pub(super) was_for_us: bool,
    /// The user that it stands for.
    pub(super) user: Option<&'a str>,
}

/// Headers that are of one connection only.
const HOP_BY_HOP: [&str; 10] = [
    "connection",
    "http2-settings",
    "keep-alive",
    "proxy-connection",
    "proxy-authenticate",
    "proxy-authorization",
    "te",
    "trailer",
    "transfer-encoding",
    "upgrade",
];

/// Headers of requests that are written anew. Some programs read `_` as `-`, so that counts as well.
const OURS: [&str; 9] = [
    "content-length",
    "expect",
    "host",
    "forwarded",
    "x-forwarded-for",
    "x-forwarded-host",
    "x-forwarded-proto",
    "x-forwarded-user",
    "x-request-id",
];

/// The path of `head` as the upstream is asked for it.
fn path<'a>(site: &SiteTerms, head: &'a RequestHead<'_>) -> Cow<'a, str> {
    let path = head.path();
    if !site.strips {
        return path.into();
    }
    let rest = path.strip_prefix(site.path.trim_end_matches('/')).unwrap_or(path);
    if rest.starts_with('/') || rest == "*" { rest.into() } else { format!("/{rest}").into() }
}

/// The head that goes to the upstream `authority`.
pub(super) fn request(head: &RequestHead<'_>, site: &SiteTerms, authority: &str, from: &Sender<'_>) -> Vec<u8> {
    let mut lines = Lines::default();
    lines.line(&[head.method, " ", &path(site, head), head.search(), " HTTP/1.1"]);
    let host = head.host.unwrap_or_default();
    lines.line(&["Host: ", if site.keeps_host && !host.is_empty() { host } else { authority }]);
    let named = named(&head.headers);
    for (name, value) in &head.headers {
        let dashed = name.to_ascii_lowercase().replace('_', "-");
        let is_dropped = HOP_BY_HOP.contains(&&*dashed)
            || OURS.contains(&&*dashed)
            // What the operator says the client cannot say first.
            || site.headers.iter().any(|(ours, _)| ours.replace('_', "-").eq_ignore_ascii_case(&dashed))
            || named.iter().any(|option| option.eq_ignore_ascii_case(name.as_bytes()))
            || (from.was_for_us && dashed == "authorization");
        if !is_dropped {
            lines.header(name, value);
        }
    }
    let peer = from.peer.map_or_else(|| "unknown".to_owned(), |peer| peer.to_string());
    let before = |name| said_before(head, name, from.is_trusted);
    // All lines, in their order, are one list (RFC 9110, 5.3): what a proxy appends may stand in a line of its own.
    let list = |name| Some(before(name).join(", ")).filter(|list| !list.is_empty());
    // Of what is no list the nearest proxy has the last word.
    let last = |name| before(name).pop();
    match list("x-forwarded-for") {
        Some(before) => lines.line(&["X-Forwarded-For: ", &before, ", ", &peer]),
        None => lines.line(&["X-Forwarded-For: ", &peer]),
    }
    lines.line(&["X-Forwarded-Host: ", last("x-forwarded-host").unwrap_or(host)]);
    lines.line(&["X-Forwarded-Proto: ", last("x-forwarded-proto").unwrap_or("http")]);
    let node = match from.peer {
        Some(IpAddr::V6(peer)) => format!("\"[{peer}]\""),
        _ => peer,
    };
    let own = format!("for={node};host=\"{}\";proto=http", host.replace(['"', '\\'], ""));
    match list("forwarded") {
        Some(before) => lines.line(&["Forwarded: ", &before, ", ", &own]),
        None => lines.line(&["Forwarded: ", &own]),
    }
    // No Via of ours, though RFC 9110, 7.6.3 asks for it: nginx and others do not compress answers to requests that have one.
    lines.line(&["X-Request-Id: ", from.request_id]);
    if let Some(user) = from.user {
        lines.line(&["X-Forwarded-User: ", user]);
    }
    for (name, value) in &site.headers {
        lines.line(&[name, ": ", value]);
    }
    match head.length {
        Length::Known(0) if !matches!(head.method, "POST" | "PUT" | "PATCH") => {}
        Length::Known(length) => lines.line(&["Content-Length: ", &length.to_string()]),
        Length::Chunked | Length::ToTheEnd => lines.line(&["Transfer-Encoding: chunked"]),
    }
    if let Some(protocols) = upgrade(head, site) {
        lines.line(&["Connection: upgrade"]);
        lines.line(&["Upgrade: ", &protocols]);
    }
    lines.end()
}

/// What the client wants to go on with, as far as the site takes it, and where no body is in between. What is HTTP itself never is: in
/// the tunnel requests would go past all rules.
pub(super) fn upgrade(head: &RequestHead<'_>, site: &SiteTerms) -> Option<String> {
    if !head.wants_upgrade || head.length != Length::Known(0) {
        return None;
    }
    let offered = head.all("upgrade").flat_map(|value| value.split(',')).map(str::trim);
    let allowed: Vec<&str> = offered.filter(|protocol| allows(site, protocol)).collect();
    (!allowed.is_empty()).then(|| allowed.join(", "))
}

/// Whether `site` takes connections that become `protocol`.
pub(super) fn allows(site: &SiteTerms, protocol: &str) -> bool {
    !is_http(protocol) && site.upgrades.iter().any(|allowed| allowed.eq_ignore_ascii_case(protocol))
}

/// Whether a connection that becomes `protocol` speaks HTTP, be it within TLS.
pub(crate) fn is_http(protocol: &str) -> bool {
    let name = protocol.split('/').next().unwrap_or_default().trim().to_ascii_lowercase();
    matches!(&*name, "h2c" | "h2" | "h3" | "http" | "https" | "tls" | "ssl") || name.starts_with("h2c-")
}

/// How a client gets the body of an answer.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Coding {
    /// As it is: its length is known, or the connection ends with it.
    Plain,
    /// In chunks of ours.
    Chunked,
}

/// What goes with an answer besides what the upstream says.
pub(super) struct Back<'a> {
    pub(super) request_id: &'a str,
    pub(super) date: &'a str,
    pub(super) is_to_head: bool,
    /// Whether the client is one of HTTP/1.0.
    pub(super) is_old: bool,
    /// Whether the client may send another request.
    pub(super) keeps_alive: bool,
    /// Whether the connection becomes a tunnel.
    pub(super) is_upgraded: bool,
}

/// The head that goes to the client, how its body follows, and whether the connection goes on.
pub(super) fn response(head: &ResponseHead<'_>, back: &Back<'_>) -> (Vec<u8>, Coding, bool) {
    let mut lines = Lines::default();
    lines.line(&["HTTP/1.1 ", &head.status.to_string(), " ", head.reason]);
    let named = named(&head.headers);
    let (mut has_date, mut has_id) = (false, false);
    let mut length = None;
    for (name, value) in &head.headers {
        let lower = name.to_ascii_lowercase();
        match &*lower {
            "content-length" => {
                length = Some(*value);
                continue;
            }
            "upgrade" if back.is_upgraded => {}
            name if HOP_BY_HOP.contains(&name) => continue,
            "date" => has_date = true,
            "x-request-id" => has_id = true,
            _ => {}
        }
        if named.iter().any(|option| option.eq_ignore_ascii_case(name.as_bytes()) && !back.is_upgraded) {
            continue;
        }
        lines.header(name, value);
    }
    if !has_date {
        lines.line(&["Date: ", back.date]);
    }
    if !has_id {
        lines.line(&["X-Request-Id: ", back.request_id]);
    }
    if back.is_upgraded {
        lines.line(&["Connection: upgrade"]);
        return (lines.end(), Coding::Plain, false);
    }
    let has_no_body = back.is_to_head || matches!(head.status, 204 | 304);
    let (coding, keeps_alive) = match head.length {
        // What a body would have, where there is none (RFC 9110, 8.6).
        _ if has_no_body => {
            if let Some(length) = length.filter(|_| head.status != 204) {
                lines.header("Content-Length", length);
            }
            (Coding::Plain, back.keeps_alive)
        }
        Length::Known(length) => {
            lines.line(&["Content-Length: ", &length.to_string()]);
            (Coding::Plain, back.keeps_alive)
        }
        // Who does not know chunks gets all there is until the end.
        Length::Chunked | Length::ToTheEnd if back.is_old => (Coding::Plain, false),
        Length::Chunked | Length::ToTheEnd => {
            lines.line(&["Transfer-Encoding: chunked"]);
            (Coding::Chunked, back.keeps_alive)
        }
    };
    if !keeps_alive {
        lines.line(&["Connection: close"]);
    } else if back.is_old {
        lines.line(&["Connection: keep-alive"]);
    }
    (lines.end(), coding, keeps_alive)
}

/// The headers that `Connection` names.
fn named<'a>(headers: &[(&str, &'a [u8])]) -> Vec<&'a [u8]> {
    let connections = headers.iter().filter(|(name, _)| name.eq_ignore_ascii_case("connection"));
    connections.flat_map(|(_, value)| options(value)).collect()
}

/// What the proxies before us say in `name`, where they can be believed and nobody has sent it with an underscore besides.
fn said_before<'a>(head: &RequestHead<'a>, name: &str, is_trusted: bool) -> Vec<&'a str> {
    if !is_trusted || from_underscore(head, name) { Vec::new() } else { head.all(name).collect() }
}

/// Whether somebody has sent `name` with an underscore, too.
fn from_underscore(head: &RequestHead<'_>, name: &str) -> bool {
    head.headers.iter().any(|(known, _)| known.contains('_') && known.replace('_', "-").eq_ignore_ascii_case(name))
}

/// Lines of a head.
#[derive(Default)]
struct Lines(Vec<u8>);

impl Lines {
    fn line(&mut self, parts: &[&str]) {
        parts.iter().for_each(|part| self.0.extend_from_slice(part.as_bytes()));
        self.0.extend_from_slice(b"\r\n");
    }

    fn header(&mut self, name: &str, value: &[u8]) {
        self.0.extend_from_slice(name.as_bytes());
        self.0.extend_from_slice(b": ");
        self.0.extend_from_slice(value);
        self.0.extend_from_slice(b"\r\n");
    }

    fn end(mut self) -> Vec<u8> {
        self.0.extend_from_slice(b"\r\n");
        self.0
    }
}
