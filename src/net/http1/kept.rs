//! The head of a request, kept beside its bytes for as long as the request takes: it is read once.

use std::borrow::Cow;
use std::ops::Range;

use super::{Length, Path, RequestHead};

/// Where a part of a head stands in its bytes, of which there are less than 64 KiB ([`super::MAX_HEAD`]).
type Span = Range<u16>;

/// A head and what was read in it.
pub(crate) struct KeptHead {
    bytes: Box<[u8]>,
    method: Span,
    path: KeptPath,
    has_encoded_slash: bool,
    doubt: Option<&'static str>,
    search: Span,
    host: Option<Span>,
    headers: Box<[(Span, Span)]>,
    length: Length,
    is_old: bool,
    keeps_alive: bool,
    expects_continue: bool,
    wants_upgrade: bool,
}

enum KeptPath {
    /// It was sent in its one form.
    Sent(Span),
    Made(Box<str>),
}

impl KeptHead {
    /// Keeps `head`, which was read in `bytes`.
    pub(crate) fn of(head: &RequestHead<'_>, bytes: &[u8]) -> Self {
        let span = |part: &[u8]| span(bytes, part).unwrap_or_default();
        let path = match &head.path.text {
            Cow::Borrowed(text) => self::span(bytes, text.as_bytes()).map(KeptPath::Sent),
            Cow::Owned(_) => None,
        };
        KeptHead {
            method: span(head.method.as_bytes()),
            path: path.unwrap_or_else(|| KeptPath::Made(head.path().into())),
            has_encoded_slash: head.path.has_encoded_slash,
            doubt: head.path.doubt,
            search: span(head.search().as_bytes()),
            host: head.host.map(|host| span(host.as_bytes())),
            headers: head.headers.iter().map(|(name, value)| (span(name.as_bytes()), span(value))).collect(),
            length: head.length,
            is_old: head.is_old,
            keeps_alive: head.keeps_alive,
            expects_continue: head.expects_continue,
            wants_upgrade: head.wants_upgrade,
            bytes: bytes.into(),
        }
    }

    /// The head, as it was read.
    pub(crate) fn head(&self) -> RequestHead<'_> {
        let path = match &self.path {
            KeptPath::Sent(span) => self.text(span),
            KeptPath::Made(text) => text,
        };
        RequestHead {
            method: self.text(&self.method),
            path: Path { text: path.into(), has_encoded_slash: self.has_encoded_slash, doubt: self.doubt },
            search: self.text(&self.search),
            host: self.host.as_ref().map(|host| self.text(host)),
            headers: self.headers.iter().map(|(name, value)| (self.text(name), self.part(value))).collect(),
            length: self.length,
            is_old: self.is_old,
            keeps_alive: self.keeps_alive,
            expects_continue: self.expects_continue,
            wants_upgrade: self.wants_upgrade,
        }
    }

    fn part(&self, span: &Span) -> &[u8] {
        &self.bytes[usize::from(span.start)..usize::from(span.end)]
    }

    fn text(&self, span: &Span) -> &str {
        std::str::from_utf8(self.part(span)).expect("it was text when it was read")
    }
}

/// Where `part` stands in `bytes`, if it is a part of them.
fn span(bytes: &[u8], part: &[u8]) -> Option<Span> {
    let start = (part.as_ptr() as usize).checked_sub(bytes.as_ptr() as usize)?;
    let end = start + part.len();
    let is_inside = end <= bytes.len();
    is_inside.then_some(u16::try_from(start).ok()?..u16::try_from(end).ok()?)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_head_that_is_kept_is_the_one_that_was_read() {
        for text in [
            "GET / HTTP/1.0\r\n\r\n",
            "GET /a/b?c=d HTTP/1.1\r\nHost: localhost:80\r\nAccept: a\r\naccept:  \r\nX-Raw: \u{e4}\r\n\r\n",
            "POST /%61//b HTTP/1.1\r\nHost: x\r\nContent-Length: 7\r\nExpect: 100-continue\r\nConnection: close\r\n\r\n",
            "PUT /a%2Fb%00?%20 HTTP/1.1\r\nHost: x\r\nTransfer-Encoding: chunked\r\n\r\n",
            "GET http://elsewhere HTTP/1.1\r\nHost: x\r\n\r\n",
            "GET http://elsewhere/?x HTTP/1.1\r\nHost: x\r\nConnection: upgrade\r\nUpgrade: websocket\r\n\r\n",
            "OPTIONS * HTTP/1.1\r\nHost: \r\n\r\n",
        ] {
            let head = RequestHead::read(text.as_bytes()).expect(text);
            assert_eq!(KeptHead::of(&head, text.as_bytes()).head(), head, "{text}");
        }
    }
}
