//! Work by callback: a request goes into the queue, and its answer is asked for later, at whichever daemon.

use std::time::{Duration, Instant};

use serde_json::json;

use super::{Asking, Served};
use crate::broker::Stage;
use crate::clock;
use crate::gateway::access::TokenHash;
use crate::gateway::answers::{Wait, Wants};
use crate::gateway::desk::Asked;
use crate::gateway::response::Response;
use crate::protocol::codec::encode_request;
use crate::protocol::{Answer, Json, Object, Request, RequestId, Status, Verdict};

/// What the ids of work begin with. The answers to other requests are not for those who ask here: their ids can be guessed.
const PREFIX: &str = "w-";

/// How long it is known that work was accepted, at the most, after it may start.
const KEPT: Duration = Duration::from_secs(24 * 60 * 60);

/// A client waits no longer than this for a change.
const LONGEST_WAIT: Duration = Duration::from_secs(60);

impl Asking<'_> {
    /// `POST /api/work`: `data`, or `func` and `args`, in the query or the body.
    pub(super) fn work(self) -> Result<Served, Response> {
        let mut given = self.arguments()?;
        if given.is_empty() {
            return Err(Response::error(
                400,
                "the work is missing: send data=..., or a JSON object with func and args",
            ));
        }
        let request = if given.contains("func") {
            self.read(given)?
        } else {
            given.retain(|_, value| !value.is_null());
            Request::new(self.id(), self.api.settings().work.clone(), given)
        };
        let signed = self.signed(request)?;
        let id = self.work_id(&signed)?;
        // Whoever asks for a callback is going to ask for the answer.
        let request = Request { id: id.clone(), is_tracked: true, reply: true, ..signed };
        let element = encode_request(&request, clock::now());
        let waits = request.not_before.map_or(0, |not_before| not_before.saturating_sub(clock::now()));
        let keep = KEPT + Duration::from_millis(waits);
        self.ask(Box::new(move |post| {
            // Work that is known already is what the client asks for again.
            let _is_new = post?.submit(None, &element, &id, keep).map_err(|error| error.to_string())?;
            let response = Response::value(202, json!({"callback": id.to_string()}));
            Ok(Asked::Done(response.with("Location", format!("/api/status/{id}"))))
        }))
    }

    /// With an `Idempotency-Key` the same work has the same id, whichever daemon is asked.
    fn work_id(&self, request: &Request) -> Result<RequestId, Response> {
        let Some(key) = self.head.header("idempotency-key") else {
            return Ok(work_id(&RequestId::random().to_string()));
        };
        if key.is_empty() || key.len() > 255 {
            return Err(Response::error(400, "idempotency-key: must have 1 to 255 characters"));
        }
        let args = request.args.canonical();
        let all = json!([self.identity.token, request.user, request.source, request.func, args, key]).to_string();
        let hash = TokenHash::of(&all).to_string();
        Ok(work_id(&hash[hash.len() - 40..]))
    }

    /// `GET /api/status/ID`.
    pub(super) fn status(self, id: &str) -> Result<Served, Response> {
        let unknown = || Response::error(404, "no work has this id, or its time is over");
        let id = RequestId::from_text(id).filter(|_| id.starts_with(PREFIX)).ok_or_else(unknown)?;
        let wait = self.wait()?;
        self.ask(Box::new(move |post| {
            let stages = post?.stages(std::slice::from_ref(&id)).map_err(|error| error.to_string())?;
            let stage = stages.into_iter().next().unwrap_or(Stage::Unknown);
            if wait.is_zero() || matches!(stage, Stage::Done(_) | Stage::Unknown) {
                return Ok(Asked::Done(shown(&stage)));
            }
            let (until, wants) = (Instant::now() + wait, Wants::Change(stage));
            Ok(Asked::Wait(Wait { id, until, wants, answer: Box::new(shown) }))
        }))
    }

    /// The parameter `wait`: `20s`, or a number of seconds.
    fn wait(&self) -> Result<Duration, Response> {
        let given = form_urlencoded::parse(self.head.query().as_bytes()).find(|(name, _)| name == "wait");
        let Some((_, text)) = given else { return Ok(Duration::ZERO) };
        let seconds = text.parse().ok().map(Duration::from_secs);
        match seconds.or_else(|| humantime::parse_duration(&text).ok()) {
            Some(wait) => Ok(wait.min(LONGEST_WAIT)),
            None => Err(Response::error(400, format!("wait: expected a time such as 20s, found {text:?}"))),
        }
    }
}

fn work_id(text: &str) -> RequestId {
    RequestId::from_text(&format!("{PREFIX}{text}")).expect("letters, digits and - are an id")
}

/// What is known of work, as a client reads it.
fn shown(stage: &Stage) -> Response {
    let value = |fields: [(&str, Json); 2]| {
        let object: Object = fields.into_iter().map(|(name, value)| (name.into(), value)).collect();
        Response::value(200, object).with("Cache-Control", "no-store")
    };
    let known = |status: &str| Response::value(200, json!({"status": status})).with("Cache-Control", "no-store");
    match stage {
        Stage::Unknown => Response::error(404, "no work has this id, or its time is over"),
        Stage::Accepted => known("accepted").with("Retry-After", "1"),
        Stage::Pending => known("pending").with("Retry-After", "1"),
        Stage::Done(json) => match serde_json::from_slice::<Answer>(json) {
            Ok(Answer { status: Status::Ok, data, .. }) => value([("status", "done".into()), ("value", data)]),
            Ok(answer) => {
                let verdict: Verdict = answer.verdict();
                value([("status", verdict.as_str().into()), ("data", answer.data)])
            }
            Err(_) => Response::error(500, "the answer cannot be read"),
        },
    }
}
