//! A connection of a client, from its first byte to its last.
//!
//! Requests on one connection are answered one after the other, in their order; what a client sends ahead waits in the socket.

mod proxied;
mod respond;

use std::time::{Duration, Instant};

use self::respond::{Current, too_large};
use super::api::{Admitted, Api, Later, Plan, Served};
use super::response::Response;
use crate::net::{
    Broken, End, Framing, Handle, KeptHead, Length, MAX_HEAD, Poller, Ready, RequestHead, Seat, Stream, Wire, find_end,
};
use crate::protocol::CallError;
use crate::protocol::codec::encode_outcome;
use crate::proxy::{Begun, Exchange, Surroundings, Upstreams};

/// While so many bytes of answers wait to be taken, no more requests are read.
const MOST_OUTPUT: usize = 64 * 1024;

/// So many bytes are read ahead at once.
const MOST_INPUT: usize = 64 * 1024;

/// So many steps one connection may go before the others have their turn.
const MOST_STEPS: usize = 64;

/// So many empty lines may stand before a request (RFC 9112, 2.2).
const MOST_EMPTY_LINES: u8 = 4;

/// So long who has no seat may take to say that it only asks how the daemon is.
const STANDING: Duration = Duration::from_millis(500);

/// How long what a client still sends is read and dropped after our last word, so that it can read that (RFC 9112, 9.6).
const LINGER: Duration = Duration::from_secs(2);

/// What does not change while connections are looked at.
pub(super) struct World<'a> {
    pub(super) api: &'a Api,
    pub(super) upstreams: &'a mut Upstreams,
    pub(super) poller: &'a Poller,
    pub(super) now: Instant,
    /// Now, as HTTP writes it.
    pub(super) date: &'a str,
    /// The gateway closes: each answer is the last one on its connection.
    pub(super) is_closing: bool,
}

impl World<'_> {
    /// What a request that is proxied needs of it.
    fn surroundings(&mut self) -> Surroundings<'_> {
        let limits = &self.api.settings().limits;
        Surroundings {
            upstreams: self.upstreams,
            poller: self.poller,
            now: self.now,
            date: self.date,
            is_closing: self.is_closing,
            body_timeout: limits.body_timeout,
            write_timeout: limits.write_timeout,
        }
    }
}

/// What follows on a look at a connection.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Next {
    /// Nothing, until its socket or its deadline says more.
    Wait,
    /// It has more to do, after the others.
    Again,
    /// It is over.
    Gone,
}

/// A connection of a client.
pub(super) struct Client {
    wire: Wire,
    handle: Handle,
    seat: Seat,
    phase: Phase,
    /// So many bytes of the head that comes have been looked at.
    seen: usize,
    empty_lines: u8,
    /// Which request this is on the connection.
    serial: u32,
    /// When the phase began, or something last went out.
    since: Instant,
    /// When it has to be looked at, whatever happens.
    deadline: Option<Instant>,
    timer: Option<Instant>,
    current: Current,
    /// Why there is no seat for it, but to ask how the daemon is.
    refusal: Option<&'static str>,
}

enum Phase {
    /// A request may come; what has come of its head waits.
    Head,
    /// The head is there, its body comes.
    Body(Box<Incoming>),
    /// Somebody else has to answer.
    Waiting(Later),
    /// An upstream answers.
    Proxying(Box<Exchange>),
    /// The last answer goes out.
    Closing,
    /// It is out; what still comes is dropped.
    Lingering,
}

/// A request whose body comes.
struct Incoming {
    head: KeptHead,
    admitted: Admitted,
    framing: Framing,
    data: Vec<u8>,
}

/// How one step ended.
enum Step {
    Again,
    Wait,
    Gone,
}

impl Client {
    pub(super) fn new(stream: Stream, handle: Handle, seat: Seat, now: Instant) -> Self {
        Client {
            wire: Wire::new(stream),
            handle,
            seat,
            phase: Phase::Head,
            seen: 0,
            empty_lines: 0,
            serial: 0,
            since: now,
            deadline: None,
            timer: None,
            current: Current::default(),
            refusal: None,
        }
    }

    /// There is no seat for it, but to ask how the daemon is.
    pub(super) fn refused(self, refusal: &'static str) -> Self {
        Client { refusal: Some(refusal), ..self }
    }

    pub(super) fn stream(&self) -> &Stream {
        self.wire.stream()
    }

    pub(super) fn deadline(&self) -> Option<Instant> {
        self.deadline
    }

    /// When it stands among the timers.
    pub(super) fn timer(&self) -> Option<Instant> {
        self.timer
    }

    pub(super) fn set_timer(&mut self, at: Option<Instant>) {
        self.timer = at;
    }

    pub(super) fn note(&mut self, ready: Ready) {
        self.wire.note(ready);
    }

    /// Says why there is no seat for it, and closes.
    fn turn_down(&mut self, world: &mut World<'_>) {
        self.current.keeps_alive = false;
        let reason = self.refusal.unwrap_or("too many connections");
        self.respond(&Response::error(503, reason).with("Retry-After", "5"), world);
    }

    /// The answer to the request `serial`, if it still waits for one.
    pub(super) fn answer(&mut self, serial: u32, response: &Response, world: &mut World<'_>) {
        if serial == self.serial && matches!(self.phase, Phase::Waiting(_)) {
            self.respond(response, world);
        }
    }

    /// Goes on as far as it can.
    pub(super) fn drive(&mut self, world: &mut World<'_>) -> Next {
        for _ in 0..MOST_STEPS {
            if self.wire.flush() {
                self.since = world.now;
            }
            if self.wire.broken().is_some() {
                return Next::Gone;
            }
            let step = match self.phase {
                Phase::Head => self.read_head(world),
                Phase::Body(_) => self.read_body(world),
                Phase::Waiting(_) => self.wait_for_answer(world),
                Phase::Proxying(_) => self.proxy(world),
                Phase::Closing => self.close(world),
                Phase::Lingering => self.linger(),
            };
            match step {
                Step::Again => {}
                Step::Wait => {
                    self.wire.release();
                    return Next::Wait;
                }
                Step::Gone => return Next::Gone,
            }
        }
        Next::Again
    }

    /// The deadline has passed.
    pub(super) fn expire(&mut self, world: &mut World<'_>) -> Next {
        if let Phase::Proxying(exchange) = &mut self.phase {
            let progress = exchange.expire(&self.wire, &mut world.surroundings());
            return match self.follow(progress, world) {
                Step::Gone => Next::Gone,
                Step::Again | Step::Wait => self.drive(world),
            };
        }
        if !self.wire.output.is_empty() && world.now >= self.since + world.api.settings().limits.write_timeout {
            // It takes nothing.
            return Next::Gone;
        }
        match self.phase {
            Phase::Head if self.refusal.is_some() => {
                self.turn_down(world);
                self.drive(world)
            }
            Phase::Head if self.wire.input.is_empty() => Next::Gone,
            Phase::Head | Phase::Body(_) => {
                self.refuse(Broken { status: 408, reason: "the request did not come in time" }, world);
                self.drive(world)
            }
            Phase::Waiting(ref mut later) => {
                let is_late = later.start_by.take_if(|at| *at <= world.now).is_some();
                if is_late && later.place.give_up() {
                    self.respond(&Response::answer(encode_outcome(Err(CallError::Expired))), world);
                }
                self.drive(world)
            }
            Phase::Proxying(_) => unreachable!("is looked at before"),
            Phase::Closing | Phase::Lingering => Next::Gone,
        }
    }

    fn read_head(&mut self, world: &mut World<'_>) -> Step {
        let limits = &world.api.settings().limits;
        if self.wire.output.len() > MOST_OUTPUT {
            self.deadline = Some(self.since + limits.write_timeout);
            return Step::Wait;
        }
        while self.seen == 0 && self.wire.input.data().starts_with(b"\r\n") {
            self.empty_lines += 1;
            if self.empty_lines > MOST_EMPTY_LINES {
                return self
                    .refuse(Broken { status: 400, reason: "there are empty lines instead of a request" }, world);
            }
            self.wire.input.consume(2);
        }
        let was_empty = self.wire.input.is_empty();
        match find_end(self.wire.input.data(), self.seen) {
            Err(broken) => self.refuse(broken, world),
            Ok(End::At(length)) => self.begin(length, world),
            Ok(End::Later(seen)) => {
                // A lone CR may be the first half of an empty line.
                self.seen = if self.wire.input.data() == b"\r" { 0 } else { seen };
                if self.wire.fill(MAX_HEAD + 1) {
                    if was_empty {
                        self.since = world.now;
                    }
                    return Step::Again;
                }
                if self.wire.has_ended() {
                    return if self.wire.output.is_empty() { Step::Gone } else { self.be_last() };
                }
                if was_empty && world.is_closing && self.wire.output.is_empty() {
                    return Step::Gone;
                }
                let patience = match (self.wire.output.is_empty(), was_empty) {
                    (false, _) => limits.write_timeout,
                    (true, _) if self.refusal.is_some() => limits.head_timeout.min(STANDING),
                    (true, true) => limits.idle_timeout,
                    (true, false) => limits.head_timeout,
                };
                self.deadline = Some(self.since + patience);
                Step::Wait
            }
        }
    }

    /// A head is there, `length` bytes long.
    fn begin(&mut self, length: usize, world: &mut World<'_>) -> Step {
        (self.seen, self.empty_lines) = (0, 0);
        self.serial = self.serial.wrapping_add(1);
        let head = match RequestHead::read(&self.wire.input.data()[..length]) {
            Ok(head) => head,
            Err(broken) => return self.refuse(broken, world),
        };
        self.current = Current::of(&head, self.seat.peer(), world);
        if self.refusal.is_some() {
            self.current.keeps_alive = false;
            if !world.api.has_own_seats(&head) {
                self.wire.input.consume(length);
                self.turn_down(world);
                return Step::Again;
            }
        }
        let from = self.current.from(self.handle, self.serial);
        let served = match world.api.plan(&head, self.seat.peer()) {
            Plan::Answer(response) => {
                // Who is refused may go on sending; nobody would read it.
                self.current.keeps_alive &= head.length == Length::Known(0);
                Served::Now(response)
            }
            Plan::Proxy(proxied) => {
                let begun = Begun {
                    peer: self.seat.peer(),
                    is_trusted: proxied.is_trusted,
                    request_id: self.current.request_id.clone().unwrap_or_default(),
                    was_for_us: proxied.was_for_us,
                    user: proxied.user,
                    keeps_alive: self.current.keeps_alive && !world.is_closing,
                };
                let bytes = &self.wire.input.data()[..length];
                let exchange = Exchange::new(proxied.site, &head, bytes, begun, world.now);
                self.wire.input.consume(length);
                self.since = world.now;
                self.phase = Phase::Proxying(Box::new(exchange));
                return Step::Again;
            }
            Plan::Collect(admitted) => match head.length {
                Length::Known(0) => world.api.serve(admitted, &head, &[], from),
                Length::Known(size) if size > admitted.limit as u64 => {
                    self.current.keeps_alive = false;
                    Served::Now(too_large(admitted.limit))
                }
                size => {
                    let is_asked = head.expects_continue && self.wire.input.len() == length;
                    let head = KeptHead::of(&head, &self.wire.input.data()[..length]);
                    let framing = Framing::new(size);
                    self.phase = Phase::Body(Box::new(Incoming { head, admitted, framing, data: Vec::new() }));
                    self.wire.input.consume(length);
                    self.since = world.now;
                    if is_asked {
                        self.wire.output.push(b"HTTP/1.1 100 Continue\r\n\r\n");
                    }
                    return Step::Again;
                }
            },
        };
        self.wire.input.consume(length);
        self.settle(served, world)
    }

    fn read_body(&mut self, world: &mut World<'_>) -> Step {
        let Phase::Body(incoming) = &mut self.phase else { return Step::Again };
        loop {
            let step = match incoming.framing.step(self.wire.input.data()) {
                Ok(step) => step,
                Err(reason) => return self.refuse(Broken { status: 400, reason }, world),
            };
            let Some(data) = self.wire.input.data().get(step.framing..step.framing + step.data) else { break };
            if incoming.data.len() + data.len() > incoming.admitted.limit {
                let response = too_large(incoming.admitted.limit);
                self.current.keeps_alive = false;
                return self.settle(Served::Now(response), world);
            }
            incoming.data.extend_from_slice(data);
            self.wire.input.consume(step.framing + step.data);
            if step.is_last {
                let Phase::Body(incoming) = std::mem::replace(&mut self.phase, Phase::Head) else { return Step::Again };
                let Incoming { head, admitted, data, .. } = *incoming;
                let from = self.current.from(self.handle, self.serial);
                let served = world.api.serve(admitted, &head.head(), &data, from);
                return self.settle(served, world);
            }
            if self.wire.input.is_empty() {
                break;
            }
        }
        if self.wire.fill(MOST_INPUT) {
            return Step::Again;
        }
        if self.wire.has_ended() {
            return Step::Gone;
        }
        self.deadline = Some(self.since + world.api.settings().limits.body_timeout);
        Step::Wait
    }

    fn settle(&mut self, served: Served, world: &mut World<'_>) -> Step {
        match served {
            Served::Now(response) => {
                self.respond(&response, world);
                Step::Again
            }
            Served::Later(later) => {
                self.phase = Phase::Waiting(later);
                Step::Again
            }
        }
    }

    /// It is over: what it holds elsewhere is given up.
    pub(super) fn leave(&mut self, upstreams: &mut Upstreams) {
        match &mut self.phase {
            Phase::Proxying(exchange) => exchange.cancel(upstreams),
            Phase::Waiting(later) => later.place.leave(),
            _ => {}
        }
    }

    fn wait_for_answer(&mut self, world: &mut World<'_>) -> Step {
        // The end of the client's side is seen only by reading on; what it sends ahead waits.
        self.wire.fill(MOST_INPUT);
        if self.wire.has_ended() {
            return Step::Gone;
        }
        let Phase::Waiting(later) = &self.phase else { return Step::Again };
        let is_taken = self.wire.output.is_empty();
        let write_by = (!is_taken).then(|| self.since + world.api.settings().limits.write_timeout);
        self.deadline = [later.start_by, write_by].into_iter().flatten().min();
        Step::Wait
    }

    fn be_last(&mut self) -> Step {
        self.phase = Phase::Closing;
        Step::Again
    }

    fn close(&mut self, world: &mut World<'_>) -> Step {
        if !self.wire.output.is_empty() {
            self.deadline = Some(self.since + world.api.settings().limits.write_timeout);
            return Step::Wait;
        }
        self.wire.finish();
        self.deadline = Some(world.now + LINGER);
        self.phase = Phase::Lingering;
        Step::Again
    }

    fn linger(&mut self) -> Step {
        self.wire.input.consume(self.wire.input.len());
        if self.wire.fill(MOST_INPUT) {
            Step::Again
        } else if self.wire.has_ended() {
            Step::Gone
        } else {
            Step::Wait
        }
    }
}
