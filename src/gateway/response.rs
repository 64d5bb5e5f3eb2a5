//! What a client is sent. Pure.

use std::borrow::Cow;
use std::sync::Arc;

use serde_json::json;

use crate::net::Buffer;
use crate::pages::{Answer, Content};
use crate::protocol::Json;
use crate::protocol::codec::Encoded;
use crate::protocol::json::to_msgpack;

/// An answer to one request, without what belongs to its connection.
#[derive(Debug, Clone)]
pub(super) struct Response {
    pub(super) status: u16,
    pub(super) body: Body,
    /// Headers besides those of body and connection.
    pub(super) headers: Vec<(&'static str, Box<str>)>,
}

/// What it says.
#[derive(Debug, Clone)]
pub(super) enum Body {
    Empty,
    /// JSON, with a line break for people with curl, or the same as MessagePack where the client wants that.
    Value(Json),
    /// What a function gave back.
    Answer(Arc<Encoded>),
    /// Any other kind.
    Bytes(&'static str, Cow<'static, [u8]>),
    /// An answer that was kept, of the kind that it had.
    Kept(String, Arc<[u8]>),
}

/// In which form values are given.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub(super) enum Format {
    #[default]
    Json,
    MessagePack,
}

/// What goes with a response that does not depend on it.
#[derive(Debug, Clone, Copy)]
pub(super) struct Envelope<'a> {
    pub(super) format: Format,
    /// Whether the request had the method HEAD: then the body is only described.
    pub(super) is_to_head: bool,
    /// Whether the client may send another request.
    pub(super) keeps_alive: bool,
    /// Whether the client is one of HTTP/1.0, which has to be told that it may.
    pub(super) is_old: bool,
    /// The origin whose pages may read it.
    pub(super) allow_origin: Option<&'a str>,
    /// By which the request can be found.
    pub(super) request_id: Option<&'a str>,
    /// Now, as HTTP writes it.
    pub(super) date: &'a str,
}

impl Response {
    pub(super) fn new(status: u16, body: Body) -> Self {
        Response { status, body, headers: Vec::new() }
    }

    pub(super) fn text(status: u16, text: &'static str) -> Self {
        Self::new(status, Body::Bytes("text/plain; charset=utf-8", Cow::Borrowed(text.as_bytes())))
    }

    pub(super) fn value(status: u16, value: impl Into<Json>) -> Self {
        Self::new(status, Body::Value(value.into()))
    }

    /// One that says what is wrong, in the form of any other answer.
    pub(super) fn error(status: u16, reason: impl Into<String>) -> Self {
        Self::value(status, json!({"status": "error", "data": reason.into()}))
    }

    /// The answer of a function.
    pub(super) fn answer(answer: Arc<Encoded>) -> Self {
        let response = Self::new(answer.status, Body::Answer(answer));
        if matches!(response.status, 429 | 503) { response.with("Retry-After", "1") } else { response }
    }

    /// With one header more. `value` must not have line breaks.
    pub(super) fn with(mut self, name: &'static str, value: impl Into<Box<str>>) -> Self {
        self.headers.push((name, value.into()));
        self
    }

    /// Writes it behind what is in `output`.
    pub(super) fn write(&self, envelope: &Envelope<'_>, output: &mut Buffer) {
        let is_packed = envelope.format == Format::MessagePack;
        let made;
        let (kind, body): (&str, &[u8]) = match &self.body {
            Body::Empty => ("", &[]),
            Body::Answer(answer) if is_packed => (MESSAGE_PACK, &answer.msgpack),
            Body::Answer(answer) => (JSON, &answer.json),
            Body::Value(value) => {
                made = if is_packed { packed(value) } else { format!("{value}\n").into_bytes() };
                (if is_packed { MESSAGE_PACK } else { JSON }, &made)
            }
            Body::Bytes(kind, bytes) => (*kind, bytes),
            Body::Kept(kind, bytes) => (kind, bytes),
        };
        let mut head = Head(output);
        head.line(&["HTTP/1.1 ", &self.status.to_string(), " ", reason(self.status)]);
        head.line(&["Date: ", envelope.date]);
        if !kind.is_empty() {
            head.line(&["Content-Type: ", kind]);
        }
        // RFC 9110, 8.6: not with 204.
        if self.status != 204 {
            head.line(&["Content-Length: ", &body.len().to_string()]);
        }
        if let Some(origin) = envelope.allow_origin {
            head.line(&["Access-Control-Allow-Origin: ", origin]);
            head.line(&["Vary: Origin"]);
        }
        if let Some(id) = envelope.request_id {
            head.line(&["X-Request-Id: ", id]);
        }
        for (name, value) in &self.headers {
            head.line(&[name, ": ", value]);
        }
        if !envelope.keeps_alive {
            head.line(&["Connection: close"]);
        } else if envelope.is_old {
            head.line(&["Connection: keep-alive"]);
        }
        head.line(&[]);
        if !envelope.is_to_head {
            output.push(body);
        }
    }
}

impl From<Answer> for Response {
    fn from(Answer { status, content, headers }: Answer) -> Self {
        let body = match content {
            Content::Empty => Body::Empty,
            Content::Value(value) => Body::Value(value),
            Content::Bytes(kind, bytes) => Body::Bytes(kind, bytes),
        };
        Response { status, body, headers }
    }
}

const JSON: &str = "application/json";

pub(super) const MESSAGE_PACK: &str = "application/msgpack";

/// Lines of a head.
struct Head<'a>(&'a mut Buffer);

impl Head<'_> {
    fn line(&mut self, parts: &[&str]) {
        parts.iter().for_each(|part| self.0.push(part.as_bytes()));
        self.0.push(b"\r\n");
    }
}

fn packed(value: &Json) -> Vec<u8> {
    let mut bytes = Vec::new();
    to_msgpack(value, &mut bytes);
    bytes
}

/// What stands behind the status in the first line (RFC 9110, 15).
pub(super) fn reason(status: u16) -> &'static str {
    match status {
        200 => "OK",
        201 => "Created",
        202 => "Accepted",
        204 => "No Content",
        304 => "Not Modified",
        400 => "Bad Request",
        401 => "Unauthorized",
        403 => "Forbidden",
        404 => "Not Found",
        405 => "Method Not Allowed",
        406 => "Not Acceptable",
        408 => "Request Timeout",
        409 => "Conflict",
        411 => "Length Required",
        413 => "Content Too Large",
        414 => "URI Too Long",
        415 => "Unsupported Media Type",
        417 => "Expectation Failed",
        421 => "Misdirected Request",
        422 => "Unprocessable Content",
        429 => "Too Many Requests",
        431 => "Request Header Fields Too Large",
        500 => "Internal Server Error",
        501 => "Not Implemented",
        502 => "Bad Gateway",
        503 => "Service Unavailable",
        504 => "Gateway Timeout",
        505 => "HTTP Version Not Supported",
        508 => "Loop Detected",
        _ => "",
    }
}
