//! What becomes of heads on their way to an upstream and back (RFC 9110, 7.6). Pure.

use std::net::IpAddr;

use super::SiteTerms;
use crate::gateway::wire::{Length, RequestHead, ResponseHead, options};

/// What of a request does not stand in its head.
pub(super) struct From<'a> {
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
const HOP_BY_HOP: [&str; 9] = [
    "connection",
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

/// The target of `head` as the upstream is asked for it.
pub(super) fn target<'a>(site: &SiteTerms, target: &'a str) -> std::borrow::Cow<'a, str> {
    if !site.strips {
        return target.into();
    }
    let rest = target.strip_prefix(site.path.trim_end_matches('/')).unwrap_or(target);
    if rest.starts_with('/') { rest.into() } else { format!("/{rest}").into() }
}

/// Whether a path could lead out of its prefix on a server that takes dots away after it has decoded them.
pub(in crate::gateway) fn has_dots(path: &str) -> bool {
    let is_dots = |segment: &str| {
        let plain = segment.split(';').next().unwrap_or_default().to_ascii_lowercase().replace("%2e", ".");
        plain == "." || plain == ".."
    };
    let lower = path.to_ascii_lowercase();
    path.split('/').any(is_dots)
        || lower.contains("%2f..")
        || lower.contains("..%2f")
        || path.contains('\\')
        || lower.contains("%5c")
}

/// The head that goes to the upstream `authority`.
pub(super) fn request(head: &RequestHead<'_>, site: &SiteTerms, authority: &str, from: &From<'_>) -> Vec<u8> {
    let mut lines = Lines::default();
    lines.line(&[head.method, " ", &target(site, head.target), " HTTP/1.1"]);
    let host = head.host.unwrap_or_default();
    lines.line(&["Host: ", if site.keeps_host && !host.is_empty() { host } else { authority }]);
    let named = named(&head.headers);
    for (name, value) in &head.headers {
        let dashed = name.to_ascii_lowercase().replace('_', "-");
        let is_dropped = HOP_BY_HOP.contains(&&*dashed)
            || OURS.contains(&&*dashed)
            || named.iter().any(|option| option.eq_ignore_ascii_case(name.as_bytes()))
            || (from.was_for_us && dashed == "authorization");
        if !is_dropped {
            lines.header(name, value);
        }
    }
    let peer = from.peer.map_or_else(|| "unknown".to_owned(), |peer| peer.to_string());
    let before = |name: &str| head.header(name).filter(|_| from.is_trusted && !from_underscore(head, name));
    match before("x-forwarded-for") {
        Some(before) => lines.line(&["X-Forwarded-For: ", before, ", ", &peer]),
        None => lines.line(&["X-Forwarded-For: ", &peer]),
    }
    lines.line(&["X-Forwarded-Host: ", before("x-forwarded-host").unwrap_or(host)]);
    lines.line(&["X-Forwarded-Proto: ", before("x-forwarded-proto").unwrap_or("http")]);
    let node = match from.peer {
        Some(IpAddr::V6(peer)) => format!("\"[{peer}]\""),
        _ => peer,
    };
    let own = format!("for={node};host=\"{}\";proto=http", host.replace(['"', '\\'], ""));
    match before("forwarded") {
        Some(before) => lines.line(&["Forwarded: ", before, ", ", &own]),
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
    if let Some(protocol) = upgrade(head) {
        lines.line(&["Connection: upgrade"]);
        lines.header("Upgrade", protocol);
    }
    lines.end()
}

/// The protocol that the client wants to go on with, where no body is in between.
pub(super) fn upgrade<'a>(head: &RequestHead<'a>) -> Option<&'a [u8]> {
    let is_plain = head.wants_upgrade && head.length == Length::Known(0);
    let mut found = head.headers.iter().filter(|(name, _)| is_plain && name.eq_ignore_ascii_case("upgrade"));
    found.next().map(|(_, value)| *value)
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

/// `head` as it goes to an upstream.
#[cfg(fuzzing)]
pub(in crate::gateway) fn forwarded(head: &RequestHead<'_>, terms: &SiteTerms) -> Vec<u8> {
    let from = From { peer: None, is_trusted: false, request_id: "fuzz", was_for_us: false, user: None };
    request(head, terms, "upstream", &from)
}
