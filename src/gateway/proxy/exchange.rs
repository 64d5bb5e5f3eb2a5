//! One request on its way to an upstream, and the answer on its way back.

use std::fmt;
use std::io::Write;
use std::net::IpAddr;
use std::sync::Arc;
use std::time::{Duration, Instant};

use super::HELD;
use super::balance;
use super::connect::{Upstream, Upstreams, keep_alive};
use super::forward::{self, Back, Coding, From};
use super::site::{Fallback, Site};
use super::stale::{self, Good, MOST_BODY};
use super::target::Flight;
use crate::gateway::client::World;
use crate::gateway::response::{Body, Response};
use crate::gateway::slots::Handle;
use crate::gateway::stream::Wire;
use crate::gateway::wire::{End, Framing, Length, RequestHead, ResponseHead, find_end};

/// What the connection knows of a request, besides its head.
pub(in crate::gateway) struct Begun {
    pub(in crate::gateway) peer: Option<IpAddr>,
    pub(in crate::gateway) is_trusted: bool,
    pub(in crate::gateway) request_id: Box<str>,
    /// Whether `Authorization` was for us, and the user that it stands for.
    pub(in crate::gateway) was_for_us: bool,
    pub(in crate::gateway) user: Option<String>,
    pub(in crate::gateway) keeps_alive: bool,
}

/// What follows on a look at an exchange.
pub(in crate::gateway) enum Progress {
    /// There is more to do at once.
    Again,
    /// Nothing until one of its sockets says more, or this time has come.
    Wait(Option<Instant>),
    /// The answer is in the output of the client. Tells whether another request may follow.
    Done { status: u16, keeps_alive: bool },
    /// Nothing has been sent to the client; this is its answer.
    Answer(Response),
    /// A function answers instead.
    Function(String),
    /// The client got a part, and can only be cut off.
    Broken,
}

/// A request that is proxied.
pub(in crate::gateway) struct Exchange {
    site: Arc<Site>,
    /// The head as the client sent it: each target gets one of its own.
    head: Vec<u8>,
    from: Begun,
    is_to_head: bool,
    is_old: bool,
    /// Whether the same request may be sent twice (RFC 9110, 9.2.2).
    is_repeatable: bool,
    wants_upgrade: bool,
    /// The client waits for `100 Continue`.
    is_asked: bool,
    /// What is still to come of the body; `None` once all was sent on.
    request: Option<Framing>,
    sends_chunks: bool,
    sent: u64,
    flight: Option<Flight>,
    upstream: Option<Handle>,
    is_reused: bool,
    is_written: bool,
    answer: Answer,
    attempts: u32,
    tried: Vec<u64>,
    started: Instant,
    /// When something last moved.
    since: Instant,
    status: u16,
    /// The answer as it may be given again.
    copy: Option<(String, Option<Box<str>>, Vec<u8>)>,
}

enum Answer {
    /// Its head comes; so many bytes of it have been looked at.
    Head { seen: usize },
    /// Its body comes.
    Body { framing: Framing, coding: Coding, keeps_upstream: bool, keeps_alive: bool },
    /// There is none: bytes go both ways.
    Tunnel { is_shut: [bool; 2] },
    /// All of it is in the output.
    Done { keeps_upstream: bool, keeps_alive: bool },
}

/// What was wrong with a target.
enum Fault {
    Connect(String),
    Closed,
    Malformed(&'static str),
    Late(&'static str),
}

impl Fault {
    fn status(&self) -> u16 {
        if matches!(self, Fault::Late(_)) { 504 } else { 502 }
    }
}

impl fmt::Display for Fault {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Fault::Connect(why) => write!(f, "cannot be reached: {why}"),
            Fault::Closed => f.write_str("closed the connection before its answer was complete"),
            Fault::Malformed(why) => write!(f, "gave an answer that cannot be read: {why}"),
            Fault::Late(what) => write!(f, "{what} did not come in time"),
        }
    }
}

impl Exchange {
    /// Begins with the request `head`, which was sent as `bytes`.
    pub(in crate::gateway) fn new(
        site: Arc<Site>,
        head: &RequestHead<'_>,
        bytes: &[u8],
        from: Begun,
        now: Instant,
    ) -> Self {
        let keeps_stale = matches!(site.terms.fallback, Fallback::Stale(_));
        Exchange {
            head: bytes.to_vec(),
            from,
            is_to_head: head.method == "HEAD",
            is_old: head.is_old,
            is_repeatable: matches!(head.method, "GET" | "HEAD" | "OPTIONS" | "TRACE" | "PUT" | "DELETE"),
            wants_upgrade: forward::upgrade(head).is_some(),
            is_asked: head.expects_continue,
            request: (head.length != Length::Known(0)).then(|| Framing::new(head.length)),
            sends_chunks: head.length == Length::Chunked,
            sent: 0,
            flight: None,
            upstream: None,
            is_reused: false,
            is_written: false,
            answer: Answer::Head { seen: 0 },
            attempts: 0,
            tried: Vec::new(),
            started: now,
            since: now,
            status: 0,
            copy: stale::key(head).filter(|_| keeps_stale).map(|key| (key, None, Vec::new())),
            site,
        }
    }

    /// Whether all that the client sends has been read.
    pub(in crate::gateway) fn is_read(&self) -> bool {
        self.request.is_none()
    }

    /// The head as the client sent it.
    pub(in crate::gateway) fn head(&self) -> &[u8] {
        &self.head
    }

    /// The connection to the upstream goes, if there is one.
    pub(in crate::gateway) fn cancel(&mut self, upstreams: &mut Upstreams) {
        self.flight = None;
        if let Some(handle) = self.upstream.take() {
            upstreams.close(handle);
        }
    }

    /// Goes on as far as it can, between `client` and the upstream.
    pub(in crate::gateway) fn drive(&mut self, client: &mut Wire, owner: Handle, world: &mut World<'_>) -> Progress {
        let handle = match self.upstream {
            Some(handle) => handle,
            None => match self.connect(owner, world) {
                Ok(handle) => handle,
                Err(progress) => return progress,
            },
        };
        let Some(upstream) = world.upstreams.get_mut(handle) else {
            self.upstream = None;
            return self.fail(&Fault::Closed, world);
        };
        if !upstream.wire.is_connected() {
            return self.wait(client, self.since + self.site.terms.connect_timeout, world.now);
        }
        if !self.is_written {
            if let Some(error) = upstream.wire.broken() {
                let why = error.to_string();
                return self.fail(&Fault::Connect(why), world);
            }
            self.write_head(upstream, client);
            self.since = world.now;
        }
        match self.move_both(client, handle, world) {
            Ok(true) => {
                self.since = world.now;
                Progress::Again
            }
            Ok(false) => self.rest(client, handle, world),
            Err(Stop::Fault(fault)) => self.fail(&fault, world),
            Err(Stop::Client(response)) => {
                self.cancel(world.upstreams);
                if self.has_answered() { Progress::Broken } else { Progress::Answer(response) }
            }
        }
    }

    /// The time of [`Progress::Wait`] has come.
    pub(in crate::gateway) fn expire(&mut self, client: &Wire, world: &mut World<'_>) -> Progress {
        if !client.output.is_empty() {
            self.cancel(world.upstreams);
            return Progress::Broken;
        }
        let upstream = self.upstream.and_then(|handle| world.upstreams.get_mut(handle));
        let is_connected = upstream.as_ref().is_some_and(|upstream| upstream.wire.is_connected());
        let waits_for_client =
            self.request.is_some() && upstream.is_some_and(|upstream| upstream.wire.output.is_empty());
        if waits_for_client && is_connected {
            self.cancel(world.upstreams);
            let late = Response::error(408, "the request did not come in time");
            return if self.has_answered() { Progress::Broken } else { Progress::Answer(late) };
        }
        let what = match self.answer {
            _ if !is_connected => "a connection",
            Answer::Head { .. } => "its answer",
            _ => "the rest of its answer",
        };
        self.fail(&Fault::Late(what), world)
    }

    /// Whether the client has got a part of the answer.
    fn has_answered(&self) -> bool {
        !matches!(self.answer, Answer::Head { .. })
    }

    fn connect(&mut self, owner: Handle, world: &mut World<'_>) -> Result<Handle, Progress> {
        let target = match balance::choose(&self.site, &self.tried, world.now) {
            Ok(target) => target,
            Err(wait) => return Err(self.fall_back(wait, world)),
        };
        let first = self.attempts == 0;
        self.attempts += 1;
        self.flight = Some(Flight::new(Arc::clone(&target)));
        (self.is_written, self.since) = (false, world.now);
        let idle = if first { world.upstreams.take_idle(&target, owner) } else { None };
        self.is_reused = idle.is_some();
        let opened = match idle {
            Some(handle) => Ok(handle),
            None => world.upstreams.open(&target, self.attempts as usize - 1, owner, world.poller, world.now),
        };
        match opened {
            Ok(handle) => {
                self.upstream = Some(handle);
                Ok(handle)
            }
            Err(error) => Err(self.fail(&Fault::Connect(error.to_string()), world)),
        }
    }

    fn write_head(&mut self, upstream: &mut Upstream, client: &mut Wire) {
        let Some(flight) = &self.flight else { return };
        // It was read once before.
        let Ok(head) = RequestHead::read(&self.head) else { return };
        let from = From {
            peer: self.from.peer,
            is_trusted: self.from.is_trusted,
            request_id: &self.from.request_id,
            was_for_us: self.from.was_for_us,
            user: self.from.user.as_deref(),
        };
        upstream.wire.output.push(&forward::request(&head, &self.site.terms, &flight.target.authority, &from));
        self.is_written = true;
        if std::mem::take(&mut self.is_asked) && client.input.is_empty() {
            client.output.push(b"HTTP/1.1 100 Continue\r\n\r\n");
        }
    }

    /// Moves what can be moved; tells whether anything did.
    fn move_both(&mut self, client: &mut Wire, handle: Handle, world: &mut World<'_>) -> Result<bool, Stop> {
        let Some(upstream) = world.upstreams.get_mut(handle) else { return Err(Stop::Fault(Fault::Closed)) };
        let wire = &mut upstream.wire;
        if let Answer::Tunnel { is_shut } = &mut self.answer {
            return Ok(move_tunnel(client, wire, is_shut));
        }
        let mut has_moved = self.send(client, wire)?;
        has_moved |= wire.flush();
        has_moved |= self.receive(client, wire, world.date, world.now)?;
        has_moved |= client.flush();
        Ok(has_moved)
    }

    /// Sends on what the client sends.
    fn send(&mut self, client: &mut Wire, wire: &mut Wire) -> Result<bool, Stop> {
        let Some(framing) = &mut self.request else { return Ok(false) };
        if wire.output.len() >= HELD || wire.broken().is_some() {
            return Ok(false);
        }
        let has_come = client.fill(HELD);
        let step = framing.step(client.input.data()).map_err(|reason| Stop::Client(Response::error(400, reason)))?;
        let data = &client.input.data()[step.framing..step.framing + step.data];
        self.sent += data.len() as u64;
        if self.site.terms.max_request.is_some_and(|most| self.sent > most) {
            return Err(Stop::Client(Response::error(413, "the body is too large")));
        }
        write_body(wire, data, self.sends_chunks);
        client.input.consume(step.framing + step.data);
        if step.is_last {
            if self.sends_chunks {
                wire.output.push(b"0\r\n\r\n");
            }
            self.request = None;
        } else if client.has_ended() && client.input.is_empty() {
            return Err(Stop::Client(Response::error(400, "the body ends too early")));
        }
        Ok(has_come || step.framing + step.data > 0)
    }

    /// Sends back what the upstream answers.
    fn receive(&mut self, client: &mut Wire, wire: &mut Wire, date: &str, now: Instant) -> Result<bool, Stop> {
        if client.output.len() >= HELD {
            return Ok(false);
        }
        let mut has_come = wire.fill(HELD);
        if let Answer::Head { seen } = &mut self.answer {
            let end = find_end(wire.input.data(), *seen).map_err(|broken| Fault::Malformed(broken.reason))?;
            match end {
                // What is there of the body goes with it, in one write.
                End::At(length) => self.read_answer(length, client, wire, date, now)?,
                End::Later(looked) => {
                    *seen = looked;
                    return if wire.has_ended() { Err(Stop::Fault(Fault::Closed)) } else { Ok(has_come) };
                }
            }
            has_come = true;
        }
        let Answer::Body { framing, coding, keeps_upstream, keeps_alive } = &mut self.answer else {
            return Ok(has_come);
        };
        let step = framing.step(wire.input.data()).map_err(Fault::Malformed)?;
        let data = &wire.input.data()[step.framing..step.framing + step.data];
        write_body(client, data, *coding == Coding::Chunked);
        if let Some((_, _, copy)) = &mut self.copy {
            if copy.len() + data.len() <= MOST_BODY { copy.extend_from_slice(data) } else { self.copy = None }
        }
        wire.input.consume(step.framing + step.data);
        let is_at_end = *framing == Framing::ToTheEnd && wire.has_ended() && wire.input.is_empty();
        if step.is_last || (is_at_end && wire.broken().is_none()) {
            if *coding == Coding::Chunked {
                client.output.push(b"0\r\n\r\n");
            }
            self.answer = Answer::Done { keeps_upstream: *keeps_upstream, keeps_alive: *keeps_alive };
        } else if wire.has_ended() && wire.input.is_empty() {
            return Err(Stop::Fault(Fault::Closed));
        }
        Ok(has_come || step.framing + step.data > 0 || matches!(self.answer, Answer::Done { .. }))
    }

    /// The head of the answer is there.
    fn read_answer(
        &mut self,
        length: usize,
        client: &mut Wire,
        wire: &mut Wire,
        date: &str,
        now: Instant,
    ) -> Result<(), Stop> {
        let head = ResponseHead::read(&wire.input.data()[..length], self.is_to_head).map_err(Fault::Malformed)?;
        let is_upgraded = head.status == 101 && self.wants_upgrade;
        if head.status < 200 && !is_upgraded {
            // What is said in between is for us (RFC 9110, 15.2).
            if head.status == 101 {
                return Err(Stop::Fault(Fault::Malformed("it goes on in a protocol that nobody has asked for")));
            }
            wire.input.consume(length);
            self.answer = Answer::Head { seen: 0 };
            return Ok(());
        }
        self.status = head.status;
        if let Some(flight) = &mut self.flight {
            flight.ended(self.site.terms.failure_statuses.contains(&head.status), now);
        }
        let back = Back {
            request_id: &self.from.request_id,
            date,
            is_to_head: self.is_to_head,
            is_old: self.is_old,
            // Who still sends would have to be read to the end first.
            keeps_alive: self.from.keeps_alive && self.request.is_none(),
            is_upgraded,
        };
        let (bytes, coding, keeps_alive) = forward::response(&head, &back);
        match &mut self.copy {
            Some((_, kind, _)) if stale::is_for_all(&head) => {
                let found = head.headers.iter().find(|(name, _)| name.eq_ignore_ascii_case("content-type"));
                *kind = found.and_then(|(_, value)| std::str::from_utf8(value).ok()).map(Into::into);
            }
            copy => *copy = None,
        }
        let (framing, keeps_upstream) = (Framing::new(head.length), head.keeps_alive);
        let has_body = head.length != Length::Known(0);
        client.output.push(&bytes);
        wire.input.consume(length);
        self.answer = match (is_upgraded, has_body) {
            (true, _) => {
                keep_alive(client.stream());
                keep_alive(wire.stream());
                Answer::Tunnel { is_shut: [false; 2] }
            }
            (false, true) => Answer::Body { framing, coding, keeps_upstream, keeps_alive },
            (false, false) => Answer::Done { keeps_upstream, keeps_alive },
        };
        Ok(())
    }

    /// Nothing moves: it is over, or it waits for somebody.
    fn rest(&mut self, client: &mut Wire, handle: Handle, world: &mut World<'_>) -> Progress {
        let terms = &self.site.terms;
        match &self.answer {
            Answer::Done { keeps_upstream, keeps_alive } => {
                let (keeps_upstream, keeps_alive) = (*keeps_upstream, *keeps_alive && self.request.is_none());
                let (status, is_whole) = (self.status, self.request.is_none());
                self.flight = None;
                self.upstream = None;
                if keeps_upstream && is_whole {
                    world.upstreams.give_back(handle, world.now);
                } else {
                    world.upstreams.close(handle);
                }
                if let Some((key, kind, body)) = self.copy.take() {
                    self.site.stale.keep(key, Good { kind, body: body.into(), at: world.now });
                }
                return Progress::Done { status, keeps_alive };
            }
            Answer::Tunnel { is_shut: [true, true] } => {
                self.cancel(world.upstreams);
                return Progress::Broken;
            }
            Answer::Tunnel { .. } if client.broken().is_some() => {
                self.cancel(world.upstreams);
                return Progress::Broken;
            }
            Answer::Tunnel { .. } => return Progress::Wait(None),
            Answer::Head { .. } | Answer::Body { .. } => {}
        }
        if self.is_left_by(client) {
            // Nobody wants the answer any more.
            self.cancel(world.upstreams);
            return Progress::Broken;
        }
        let limits = &world.api.settings().limits;
        let upstream = world.upstreams.get_mut(handle);
        let is_sent = upstream.is_none_or(|upstream| upstream.wire.output.is_empty());
        let patience = match &self.answer {
            _ if !client.output.is_empty() => limits.write_timeout,
            _ if self.request.is_some() && is_sent => limits.body_timeout,
            Answer::Head { .. } => terms.first_byte_timeout,
            _ => terms.idle_timeout,
        };
        self.wait(client, self.since + patience, world.now)
    }

    /// Whether the client has gone while it waits.
    fn is_left_by(&self, client: &mut Wire) -> bool {
        if self.request.is_none() && client.is_ending() {
            client.fill(HELD);
        }
        client.broken().is_some() || (self.request.is_none() && client.has_ended() && client.input.is_empty())
    }

    fn wait(&self, client: &mut Wire, until: Instant, _now: Instant) -> Progress {
        client.release();
        let total = self.site.terms.total_timeout.map(|total| self.started + total);
        Progress::Wait([Some(until), total].into_iter().flatten().min())
    }

    /// The target has failed: the request goes to another, or it was in vain.
    fn fail(&mut self, fault: &Fault, world: &mut World<'_>) -> Progress {
        let Some(mut flight) = self.flight.take() else { return Progress::Broken };
        if let Some(handle) = self.upstream.take() {
            world.upstreams.close(handle);
        }
        // A connection that waited too long says nothing about the target.
        let was_stale = self.is_reused && matches!(fault, Fault::Closed) && !self.has_answered();
        if !was_stale {
            flight.ended(true, world.now);
            let id = &*self.from.request_id;
            log::warn!(request_id = id; "proxy {}: {} {fault} ({id})", self.site.terms.name, flight.target.address);
        }
        if self.has_answered() {
            return Progress::Broken;
        }
        let is_unseen = matches!(fault, Fault::Connect(_)) || !self.is_written;
        let has_time = self.site.terms.total_timeout.is_none_or(|total| world.now < self.started + total);
        let may_repeat = self.sent == 0 && (is_unseen || self.is_repeatable) && has_time;
        let most = self.site.terms.retries + u32::from(was_stale);
        if !was_stale {
            self.tried.push(flight.target.number);
        }
        // The same target is asked again only on a fresh connection.
        let has_another = was_stale || self.site.targets.len() > self.tried.len();
        if may_repeat && has_another && self.attempts <= most {
            self.answer = Answer::Head { seen: 0 };
            return Progress::Again;
        }
        if may_repeat && !matches!(self.site.terms.fallback, Fallback::Refuse) {
            return self.fall_back(Duration::ZERO, world);
        }
        let reason = format!("{}: the upstream {fault}", self.site.terms.name);
        Progress::Answer(Response::error(fault.status(), reason))
    }

    /// There is no target to ask; one may be in `wait`.
    fn fall_back(&mut self, wait: Duration, world: &mut World<'_>) -> Progress {
        let terms = &self.site.terms;
        match &terms.fallback {
            Fallback::Function(name) if self.request.is_none() => return Progress::Function(name.clone()),
            Fallback::Stale(longest) => {
                let key = self.copy.as_ref().map(|(key, ..)| key.as_str());
                if let Some(good) = key.and_then(|key| self.site.stale.find(key, *longest, world.now)) {
                    let age = world.now.saturating_duration_since(good.at).as_secs();
                    let kind = good.kind.as_deref().unwrap_or("application/octet-stream").to_owned();
                    let body = Body::Kept(kind, Arc::from(&*good.body));
                    let response = Response::new(200, body).with("Age", age.to_string());
                    // RFC 7234, 5.5.1; newer texts leave it out, and readers still know it.
                    return Progress::Answer(response.with("Warning", "110 cerbas \"Response is Stale\""));
                }
            }
            Fallback::Function(_) | Fallback::Refuse => {}
        }
        let seconds = wait.as_secs() + u64::from(wait.subsec_nanos() > 0);
        let response = Response::error(503, format!("{}: no upstream can be asked at this moment", terms.name));
        Progress::Answer(response.with("Retry-After", seconds.max(1).to_string()))
    }
}

/// Why an exchange cannot go on.
enum Stop {
    /// The target is to blame.
    Fault(Fault),
    /// The client is; this is its answer.
    Client(Response),
}

impl std::convert::From<Fault> for Stop {
    fn from(fault: Fault) -> Self {
        Stop::Fault(fault)
    }
}

fn write_body(to: &mut Wire, data: &[u8], in_chunks: bool) {
    if data.is_empty() {
        return;
    }
    if in_chunks {
        let _never_fails = write!(to.output, "{:x}\r\n", data.len());
        to.output.push(data);
        to.output.push(b"\r\n");
    } else {
        to.send(data);
    }
}

/// Bytes go both ways, and so do ends.
fn move_tunnel(client: &mut Wire, upstream: &mut Wire, is_shut: &mut [bool; 2]) -> bool {
    let to_upstream = move_one_way(client, upstream, &mut is_shut[0]);
    let to_client = move_one_way(upstream, client, &mut is_shut[1]);
    to_upstream || to_client
}

fn move_one_way(from: &mut Wire, to: &mut Wire, is_shut: &mut bool) -> bool {
    let mut has_moved = false;
    if to.output.len() < HELD {
        has_moved |= from.fill(HELD);
        has_moved |= !from.input.is_empty();
        to.send(from.input.data());
        from.input.consume(from.input.len());
    }
    has_moved |= to.flush();
    let is_over = from.has_ended() && from.input.is_empty() && to.output.is_empty();
    if (is_over || to.broken().is_some()) && !*is_shut {
        to.finish();
        *is_shut = true;
        has_moved = true;
    }
    has_moved
}
