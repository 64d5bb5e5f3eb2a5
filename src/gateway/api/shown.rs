//! Pages that others show. What they do wrong costs the request that it is about, and nothing else: neither a thread that serves many
//! connections, nor the order of what stands on one connection.

use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::Arc;
use std::time::Duration;

use super::book::Found;
use super::{Asking, Served};
use crate::clock;
use crate::gateway::desk::Asked;
use crate::gateway::response::Response;
use crate::pages::{Answer, Asked as AskedForPage, Content, Method, Reply};
use crate::protocol::Request;
use crate::protocol::codec::encode_request;
use crate::thread::message_of;

/// What the gateway says of each answer itself, by which its end is found.
const OWN_HEADERS: [&str; 4] = ["connection", "content-length", "date", "transfer-encoding"];

impl Asking<'_> {
    /// A page that somebody else has.
    pub(super) fn page(self, found: Found) -> Result<Served, Response> {
        let services = Arc::clone(&self.api.services);
        let (pages, number) = services.book.pages(&found);
        let path = services.book.page(&found).path;
        let asked = AskedForPage {
            method: Method::of(self.head.method).filter(|method| *method != Method::Head).unwrap_or(Method::Get),
            parameters: found.parameters,
            query: self.head.query(),
            body: self.body,
            id: self.from.id,
            may: self.identity.may,
            header: &|name| self.head.header(name),
            arguments: &|| self.given(),
        };
        match survive(path, || pages.ask(number, &asked))? {
            Reply::Now(answer) => Ok(Served::Now(response(path, answer))),
            Reply::Later(make) => self.ask(Box::new(move |_| {
                let made = survive(path, make).map(|answer| response(path, answer));
                Ok(Asked::Done(made.unwrap_or_else(|fallen| fallen)))
            })),
            Reply::Call(request) => self.send(*request),
            Reply::Submit { request, keep, answer } => self.submit(*request, keep, response(path, answer)),
        }
    }

    fn submit(self, request: Request, keep: Duration, response: Response) -> Result<Served, Response> {
        let request = Request { is_tracked: true, ..self.signed(request)? };
        let (id, element) = (request.id.clone(), encode_request(&request, clock::now()));
        self.ask(Box::new(move |post| {
            let _is_new = post?.submit(None, &element, &id, keep).map_err(|error| error.to_string())?;
            Ok(Asked::Done(response))
        }))
    }
}

/// Does `work` of the page at `path`, which others have written. The error is the answer where it panics.
fn survive<T>(path: &str, work: impl FnOnce() -> T) -> Result<T, Response> {
    catch_unwind(AssertUnwindSafe(work)).map_err(|panic| {
        log::error!("http: the page {path} has panicked: {}", message_of(&*panic));
        // Dropping it could panic again.
        std::mem::forget(panic);
        Response::error(500, "the page has panicked")
    })
}

/// `answer` of the page at `path` as it is sent, if it can be.
fn response(path: &str, answer: Answer) -> Response {
    match fault(&answer) {
        None => answer.into(),
        Some(fault) => {
            log::error!("http: the page {path} gives an answer that cannot be sent: {fault}");
            Response::error(500, "the page gives an answer that cannot be sent")
        }
    }
}

/// Why a client would not read `answer` as it is meant.
fn fault(answer: &Answer) -> Option<String> {
    let status = answer.status;
    if !(200..=599).contains(&status) {
        return Some(format!("there is no last status {status}"));
    }
    // RFC 9110, 15.3.5 and 15.4.5.
    if matches!(status, 204 | 304) && !matches!(answer.content, Content::Empty) {
        return Some(format!("nothing can stand behind the status {status}"));
    }
    let kind = match &answer.content {
        Content::Bytes(kind, _) => Some(("Content-Type", *kind)),
        Content::Empty | Content::Value(_) => None,
    };
    let headers = answer.headers.iter().map(|(name, value)| (*name, &**value));
    headers.chain(kind).find_map(|(name, value)| {
        if OWN_HEADERS.iter().any(|own| name.eq_ignore_ascii_case(own)) {
            return Some(format!("the header {name} is the gateway's own"));
        }
        // RFC 9110, 5.1 and 5.5.
        let is_name =
            !name.is_empty() && name.bytes().all(|byte| byte.is_ascii_alphanumeric() || b"-_".contains(&byte));
        let is_value = !value.bytes().any(|byte| byte.is_ascii_control() && byte != b'\t');
        (!is_name || !is_value).then(|| format!("the header {name:?} has characters that end it"))
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_answer_that_would_be_read_otherwise_is_found() {
        let answer = |status, content| Answer { status, content, headers: Vec::new() };
        let well = || answer(200, Content::Value("well".into()));
        for good in [
            well().with("Location", "/a?b=c\tü"),
            answer(204, Content::Empty).with("ETag", "\"1\""),
            answer(304, Content::Empty),
            answer(599, Content::Bytes("text/plain", b"x".as_slice().into())),
        ] {
            assert_eq!(fault(&good), None, "{good:?}");
        }
        for bad in [
            well().with("Location", "a\r\nb"),
            well().with("Location", "a\nb"),
            well().with("Location", "\u{7f}"),
            well().with("", "a"),
            well().with("a: b", "c"),
            well().with("transfer-Encoding", "chunked"),
            answer(204, Content::Value("well".into())),
            answer(200, Content::Bytes("text/plain\r\nA: b", b"x".as_slice().into())),
            answer(199, Content::Empty),
            answer(600, Content::Empty),
        ] {
            assert!(fault(&bad).is_some(), "{bad:?}");
        }
    }
}
