//! One request on its way to an upstream, and the answer on its way back.

mod carry;
mod fault;
mod tunnel;

use std::net::IpAddr;
use std::sync::Arc;
use std::time::{Duration, Instant};

use self::carry::Stop;
use self::fault::Fault;
pub(crate) use self::fault::Refusal;
use super::HELD;
use super::Surroundings;
use super::balance;
use super::connect::{Upstream, Upstreams};
use super::forward::{self, Coding, Sender};
use super::site::{Fallback, Site};
use super::stale::{self, Good};
use super::target::Flight;
use crate::net::{Framing, Handle, KeptHead, Length, RequestHead, Wire};

/// What the connection knows of a request, besides its head.
pub(crate) struct Begun {
    pub(crate) peer: Option<IpAddr>,
    pub(crate) is_trusted: bool,
    pub(crate) request_id: Box<str>,
    /// Whether `Authorization` was for us, and the user that it stands for.
    pub(crate) was_for_us: bool,
    pub(crate) user: Option<String>,
    pub(crate) keeps_alive: bool,
}

/// What follows on a look at an exchange.
pub(crate) enum Progress {
    /// There is more to do at once.
    Again,
    /// Nothing until one of its sockets says more, or this time has come.
    Wait(Option<Instant>),
    /// The answer is in the output of the client. Tells whether another request may follow.
    Done { status: u16, keeps_alive: bool },
    /// Nothing has been sent to the client, and it is refused.
    Refuse(Refusal),
    /// Nothing has been sent to the client; this answer of before is good enough.
    Stale { good: Arc<Good>, age: Duration },
    /// A function answers instead.
    Function(String),
    /// The client got a part, and can only be cut off.
    Broken,
}

/// A request that is proxied.
pub(crate) struct Exchange {
    site: Arc<Site>,
    /// The head as the client sent it: each target gets one of its own.
    head: KeptHead,
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

/// What ends a body in chunks.
const LAST_CHUNK: &[u8] = b"0\r\n\r\n";

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

impl Exchange {
    /// Begins with the request `head`, which was sent as `bytes`.
    pub(crate) fn new(site: Arc<Site>, head: &RequestHead<'_>, bytes: &[u8], from: Begun, now: Instant) -> Self {
        let keeps_stale = matches!(site.terms.fallback, Fallback::Stale(_));
        Exchange {
            head: KeptHead::of(head, bytes),
            from,
            is_to_head: head.method == "HEAD",
            is_old: head.is_old,
            is_repeatable: matches!(head.method, "GET" | "HEAD" | "OPTIONS" | "TRACE" | "PUT" | "DELETE"),
            wants_upgrade: forward::upgrade(head, &site.terms).is_some(),
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
    pub(crate) fn is_read(&self) -> bool {
        self.request.is_none()
    }

    /// The head as the client sent it.
    pub(crate) fn head(&self) -> RequestHead<'_> {
        self.head.head()
    }

    /// The connection to the upstream goes, if there is one.
    pub(crate) fn cancel(&mut self, upstreams: &mut Upstreams) {
        self.flight = None;
        if let Some(handle) = self.upstream.take() {
            upstreams.close(handle);
        }
    }

    /// Goes on as far as it can, between `client` and the upstream.
    pub(crate) fn drive(&mut self, client: &mut Wire, owner: Handle, around: &mut Surroundings<'_>) -> Progress {
        let handle = match self.upstream {
            Some(handle) => handle,
            None => match self.connect(owner, around) {
                Ok(handle) => handle,
                Err(progress) => return progress,
            },
        };
        let Some(upstream) = around.upstreams.get_mut(handle) else {
            self.upstream = None;
            return self.fail(&Fault::Closed, around);
        };
        if !upstream.wire.is_connected() {
            return self.wait(client, self.since + self.site.terms.connect_timeout);
        }
        if !self.is_written {
            if let Some(error) = upstream.wire.broken() {
                let why = error.to_string();
                return self.fail(&Fault::Connect(why), around);
            }
            self.write_head(upstream, client);
            self.since = around.now;
        }
        match self.move_both(client, handle, around) {
            Ok(true) => {
                self.since = around.now;
                Progress::Again
            }
            Ok(false) => self.rest(client, handle, around),
            Err(Stop::Fault(fault)) => self.fail(&fault, around),
            Err(Stop::Client(refusal)) => {
                self.cancel(around.upstreams);
                if self.has_answered() { Progress::Broken } else { Progress::Refuse(refusal) }
            }
        }
    }

    /// The time of [`Progress::Wait`] has come.
    pub(crate) fn expire(&mut self, client: &Wire, around: &mut Surroundings<'_>) -> Progress {
        if !client.output.is_empty() {
            self.cancel(around.upstreams);
            return Progress::Broken;
        }
        let upstream = self.upstream.and_then(|handle| around.upstreams.get_mut(handle));
        let is_connected = upstream.as_ref().is_some_and(|upstream| upstream.wire.is_connected());
        let waits_for_client =
            self.request.is_some() && upstream.is_some_and(|upstream| upstream.wire.output.is_empty());
        if waits_for_client && is_connected {
            self.cancel(around.upstreams);
            let late = Refusal::new(408, "the request did not come in time");
            return if self.has_answered() { Progress::Broken } else { Progress::Refuse(late) };
        }
        let what = match self.answer {
            _ if !is_connected => "a connection",
            Answer::Head { .. } => "its answer",
            _ => "the rest of its answer",
        };
        self.fail(&Fault::Late(what), around)
    }

    /// Whether the client has got a part of the answer.
    fn has_answered(&self) -> bool {
        !matches!(self.answer, Answer::Head { .. })
    }

    fn connect(&mut self, owner: Handle, around: &mut Surroundings<'_>) -> Result<Handle, Progress> {
        let target = match balance::choose(&self.site, &self.tried, around.now) {
            Ok(target) => target,
            Err(wait) => return Err(self.fall_back(wait, around)),
        };
        let first = self.attempts == 0;
        self.attempts += 1;
        self.flight = Some(Flight::new(Arc::clone(&target)));
        (self.is_written, self.since) = (false, around.now);
        let idle = if first { around.upstreams.take_idle(&target, owner, !self.is_repeatable) } else { None };
        self.is_reused = idle.is_some();
        let opened = match idle {
            Some(handle) => Ok(handle),
            None => around.upstreams.open(&target, self.attempts as usize - 1, owner, around.poller, around.now),
        };
        match opened {
            Ok(handle) => {
                self.upstream = Some(handle);
                Ok(handle)
            }
            Err(error) => Err(self.fail(&Fault::Connect(error.to_string()), around)),
        }
    }

    fn write_head(&mut self, upstream: &mut Upstream, client: &mut Wire) {
        let Some(flight) = &self.flight else { return };
        let from = Sender {
            peer: self.from.peer,
            is_trusted: self.from.is_trusted,
            request_id: &self.from.request_id,
            was_for_us: self.from.was_for_us,
            user: self.from.user.as_deref(),
        };
        upstream.wire.output.push(&forward::request(
            &self.head.head(),
            &self.site.terms,
            &flight.target.authority,
            &from,
        ));
        self.is_written = true;
        if self.sends_chunks && self.request.is_none() {
            // All of a body without data was read for another target.
            upstream.wire.output.push(LAST_CHUNK);
        }
        if std::mem::take(&mut self.is_asked) && client.input.is_empty() {
            client.output.push(b"HTTP/1.1 100 Continue\r\n\r\n");
        }
    }

    /// Nothing moves: it is over, or it waits for somebody.
    fn rest(&mut self, client: &mut Wire, handle: Handle, around: &mut Surroundings<'_>) -> Progress {
        let terms = &self.site.terms;
        match &self.answer {
            Answer::Done { keeps_upstream, keeps_alive } => {
                let (keeps_upstream, keeps_alive) = (*keeps_upstream, *keeps_alive && self.request.is_none());
                let (status, is_whole) = (self.status, self.request.is_none());
                self.flight = None;
                self.upstream = None;
                if keeps_upstream && is_whole {
                    around.upstreams.give_back(handle, around.now);
                } else {
                    around.upstreams.close(handle);
                }
                if let Some((key, kind, body)) = self.copy.take() {
                    self.site.stale.keep(key, Good { kind, body: body.into(), at: around.now });
                }
                return Progress::Done { status, keeps_alive };
            }
            Answer::Tunnel { is_shut: [true, true] } => {
                self.cancel(around.upstreams);
                return Progress::Broken;
            }
            // One that is never silent would hold up every end of the daemon for as long as that may take.
            Answer::Tunnel { .. } if client.broken().is_some() || around.is_closing => {
                self.cancel(around.upstreams);
                return Progress::Broken;
            }
            Answer::Tunnel { .. } => return Progress::Wait(None),
            Answer::Head { .. } | Answer::Body { .. } => {}
        }
        if self.is_left_by(client) {
            // Nobody wants the answer any more.
            self.cancel(around.upstreams);
            return Progress::Broken;
        }
        let upstream = around.upstreams.get_mut(handle);
        let is_sent = upstream.is_none_or(|upstream| upstream.wire.output.is_empty());
        let patience = match &self.answer {
            _ if !client.output.is_empty() => around.write_timeout,
            _ if self.request.is_some() && is_sent => around.body_timeout,
            Answer::Head { .. } => terms.first_byte_timeout,
            _ => terms.idle_timeout,
        };
        self.wait(client, self.since + patience)
    }

    /// Whether the client has gone while it waits.
    fn is_left_by(&self, client: &mut Wire) -> bool {
        if self.request.is_none() && client.is_ending() {
            client.fill(HELD);
        }
        client.broken().is_some() || (self.request.is_none() && client.has_ended() && client.input.is_empty())
    }

    fn wait(&self, client: &mut Wire, until: Instant) -> Progress {
        client.release();
        let total = self.site.terms.total_timeout.map(|total| self.started + total);
        Progress::Wait([Some(until), total].into_iter().flatten().min())
    }
}
