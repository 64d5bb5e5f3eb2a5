//! Calls of functions.

use std::hash::{DefaultHasher, Hash, Hasher};
use std::sync::Arc;
use std::time::{Duration, Instant};

use super::{Asking, Later, Served, busy};
use crate::broker::Stage;
use crate::clock;
use crate::gateway::answers::{Wait, Wants};
use crate::gateway::args;
use crate::gateway::desk::Asked;
use crate::gateway::door::HttpDoor;
use crate::gateway::idempotency::{Found, Key, Promise};
use crate::gateway::response::Response;
use crate::protocol::codec::{Unreadable, decode_answer, decode_request, encode_request};
use crate::protocol::{Arguments, CallError, EVERYWHERE, Json, Object, Request, RequestId};

/// How long the answer of a call that went by the queue is waited for, besides the time that it may wait there.
const PATIENCE: Duration = Duration::from_secs(24 * 60 * 60);

impl Asking<'_> {
    /// `/api/FUNC`: the arguments are those of the query, and those of the body over them.
    pub(super) fn call(self, func: &str) -> Result<Served, Response> {
        let request = Request::new(self.id(), func, self.arguments()?);
        self.send(request)
    }

    /// `/api/general`: `{"request": {...}}` with a request as it would stand in the queue.
    pub(super) fn general(self) -> Result<Served, Response> {
        let mut body = self.object()?;
        let Some(request) = body.remove("request").and_then(|request| request.to().ok()) else {
            return Err(Response::error(400, "the body must be {\"request\": {\"func\": ..., \"args\": {...}}}"));
        };
        let request = self.read(request)?;
        let id = self.id();
        self.send(Request { id, ..request })
    }

    /// The function `name` answers instead of an upstream; it is told what was asked for.
    pub(super) fn stand_in(self, name: &str) -> Served {
        let mut args = Arguments::new();
        let asked = [("method", self.head.method), ("path", self.head.path()), ("query", self.head.query())];
        args.extend(asked.map(|(name, value)| (name.into(), value.into())));
        args.insert("host", self.head.host.map(Json::from).unwrap_or_default());
        let request = Request::new(self.id(), name, args);
        self.send(request).unwrap_or_else(Served::Now)
    }

    /// What the query says, and the body over it.
    pub(super) fn arguments(&self) -> Result<Arguments, Response> {
        self.given().map_err(|(status, reason)| Response::error(status, reason))
    }

    /// The same; the error is the status and the reason of an answer.
    pub(super) fn given(&self) -> Result<Arguments, (u16, String)> {
        let mut arguments = args::from_query(self.head.query());
        arguments.extend(args::from_body(self.head.header("content-type"), self.body)?);
        Ok(arguments)
    }

    /// The body, which must be an object.
    pub(super) fn object(&self) -> Result<Arguments, Response> {
        let kind = self.head.header("content-type");
        args::from_body(kind, self.body).map_err(|(status, reason)| Response::error(status, reason))
    }

    /// A request as it would stand in the queue.
    pub(super) fn read(&self, mut request: Object) -> Result<Request, Response> {
        // So that what counts from then is the same for whoever reads it later.
        if !request.contains("sent_at") {
            request.insert("sent_at", clock::now());
        }
        let json = request.to_json().into_bytes();
        let refuse = |unreadable: Unreadable| Response::error(unreadable.error.status(), unreadable.reason);
        let request = decode_request(&json, None, clock::now()).map_err(refuse)?;
        if request.ticket.is_some() || request.attempt > 0 {
            return Err(Response::error(400, "cron, attempt: are set by cerbas only"));
        }
        Ok(request)
    }

    pub(super) fn id(&self) -> RequestId {
        RequestId::Text(self.from.id.into())
    }

    /// `request` with what the connection says of it: who asks, and for how long.
    pub(super) fn signed(&self, mut request: Request) -> Result<Request, Response> {
        let agree = |sure: &Option<String>, said: Option<String>, error: CallError| match (sure, said) {
            (Some(sure), Some(said)) if *sure != said => Err(Response::error(error.status(), error.to_string())),
            (Some(sure), _) => Ok(Some(sure.clone())),
            (None, said) => Ok(said),
        };
        request.user = agree(&self.identity.user, request.user, CallError::InvalidUser)?;
        request.source = agree(&self.identity.source, request.source, CallError::InvalidSource)?
            .or_else(|| Some(self.api.settings().source.clone()));
        if let Some(timeout) = self.number("x-request-timeout")? {
            let timeout = Duration::from_millis(timeout);
            request.timeout = Some(request.timeout.map_or(timeout, |own| own.min(timeout)));
        }
        if let Some(deadline) = self.number("x-request-deadline")? {
            request.deadline = Some(request.deadline.map_or(deadline, |own| own.min(deadline)));
        }
        Ok(request)
    }

    /// The value of a header that counts milliseconds.
    fn number(&self, name: &str) -> Result<Option<u64>, Response> {
        let Some(text) = self.head.header(name) else { return Ok(None) };
        match text.parse() {
            Ok(number) if number > 0 => Ok(Some(number)),
            _ => Err(Response::error(400, format!("{name}: expected milliseconds, found {text:?}"))),
        }
    }

    pub(super) fn send(self, request: Request) -> Result<Served, Response> {
        let mut request = self.signed(request)?;
        let (now, queue_timeout) = (clock::now(), self.api.settings().limits.queue_timeout);
        let delay = request.not_before.map_or(0, |not_before| not_before.saturating_sub(now));
        if Duration::from_millis(delay) > queue_timeout {
            let longest = humantime::format_duration(queue_timeout);
            let reason = format!("delay: a call may wait {longest} (queue_timeout); POST it to /api/work instead");
            return Err(Response::error(400, reason));
        }
        let patience = Duration::from_millis(delay) + queue_timeout;
        let (latest, start_by) = (now + patience.as_millis() as u64, Instant::now() + patience);
        let expires_at = request.expires_at.into_iter().chain(request.deadline).chain([latest]).min();
        request.expires_at = expires_at;
        // Who may not call gets no answer of before; dispatching the call refuses it.
        let may_call = self.services().dispatcher.admit(&request).is_ok();
        let promise = if may_call { self.promise(&request)? } else { None };
        if self.needs_others(&request) {
            return self.send_by_queue(&request, start_by, promise);
        }
        let place = self.place()?;
        let services = self.services();
        let is_shared = {
            let rules = services.dispatcher.rules();
            rules.functions.get(&request.func).is_some_and(|function| function.terms.cache.is_some())
        };
        // A run that is shared may have started for somebody else.
        let start_by = Some(start_by).filter(|_| !is_shared);
        let door = HttpDoor {
            mailbox: Arc::clone(&services.mailbox),
            to: self.from.to,
            serial: self.from.serial,
            was_told: false,
            place: place.clone(),
            promise,
        };
        services.dispatcher.dispatch(request, Box::new(door));
        Ok(Served::Later(Later { place, start_by }))
    }

    /// The promise of a call that has an `Idempotency-Key`; the error is the answer to one that does not run, be it that of the first.
    fn promise(&self, request: &Request) -> Result<Option<Promise>, Response> {
        let Some(key) = self.head.header("idempotency-key").filter(|_| self.head.method == "POST") else {
            return Ok(None);
        };
        if key.is_empty() || key.len() > 255 {
            return Err(Response::error(400, "idempotency-key: must have 1 to 255 characters"));
        }
        let mut hasher = DefaultHasher::new();
        request.args.canonical().hash(&mut hasher);
        let key = Key {
            token: self.identity.token.clone(),
            user: request.user.clone(),
            source: request.source.clone(),
            func: request.func.clone(),
            key: key.to_owned(),
        };
        match self.services().kept.begin(key, hasher.finish(), Instant::now()) {
            Found::New(promise) => Ok(Some(promise)),
            Found::Answered(answer) => Err(Response::answer(answer).with("Idempotency-Replayed", "true")),
            Found::Running => Err(Response::error(409, "the first call under this idempotency-key still runs")),
            Found::Different => Err(Response::error(422, "this idempotency-key was used with other arguments")),
        }
    }

    /// Whether what `request` needs has to be agreed on with other daemons, who look into the queue only.
    fn needs_others(&self, request: &Request) -> bool {
        let is_elsewhere = request.node.as_deref().is_some_and(|node| node != EVERYWHERE);
        if is_elsewhere || request.unique.is_some() || request.not_before.is_some() {
            return true;
        }
        let rules = self.services().dispatcher.rules();
        rules.functions.need_arrangement()
            && rules.functions.get(&request.func).is_some_and(|function| function.needs_queue())
    }

    /// Lets it go the way of all requests, through the queue, and waits for its answer there.
    fn send_by_queue(
        &self,
        request: &Request,
        start_by: Instant,
        promise: Option<Promise>,
    ) -> Result<Served, Response> {
        // The client may give two requests the same id; in the queue each needs its own. Whoever asks here waits for the answer.
        let id = RequestId::random();
        let sent = Request { id: id.clone(), is_tracked: true, reply: true, ..request.clone() };
        let element = encode_request(&sent, clock::now());
        self.ask_from(
            self.place()?,
            Some(start_by),
            Box::new(move |post| {
                post?.submit(None, &element, &id, PATIENCE).map_err(|error| error.to_string())?;
                let answer = move |stage: &Stage| match stage {
                    Stage::Done(json) => {
                        let Some(answer) = decode_answer(json) else {
                            return Response::error(500, "the answer cannot be read");
                        };
                        if let Some(promise) = promise {
                            promise.keep(&answer, Instant::now());
                        }
                        Response::answer(answer)
                    }
                    Stage::Unknown => Response::error(500, CallError::Lost.to_string()),
                    Stage::Accepted | Stage::Pending => busy("the daemon stops before the answer is there"),
                };
                let until = start_by + PATIENCE;
                Ok(Asked::Wait(Wait { id, until, wants: Wants::Verdict, answer: Box::new(answer) }))
            }),
        )
    }
}
