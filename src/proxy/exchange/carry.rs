//! Carries a request to its upstream and the answer back, as far as each side takes it.

use std::io::Write;
use std::time::Instant;

use super::fault::{Fault, Refusal};
use super::tunnel::move_tunnel;
use super::{Answer, Exchange, LAST_CHUNK};
use crate::net::{End, Framing, Handle, Length, ResponseHead, Wire, find_end, options};
use crate::proxy::Surroundings;
use crate::proxy::connect::keep_alive;
use crate::proxy::forward::{self, Back, Coding};
use crate::proxy::stale::{self, MOST_BODY};
use crate::proxy::{HELD, SiteTerms};

/// Why an exchange cannot go on.
pub(super) enum Stop {
    /// The target is to blame.
    Fault(Fault),
    /// The client is; this is what it is told.
    Client(Refusal),
}

impl From<Fault> for Stop {
    fn from(fault: Fault) -> Self {
        Stop::Fault(fault)
    }
}

impl Exchange {
    /// Moves what can be moved; tells whether anything did.
    pub(super) fn move_both(
        &mut self,
        client: &mut Wire,
        handle: Handle,
        around: &mut Surroundings<'_>,
    ) -> Result<bool, Stop> {
        let Some(upstream) = around.upstreams.get_mut(handle) else { return Err(Stop::Fault(Fault::Closed)) };
        let wire = &mut upstream.wire;
        if let Answer::Tunnel { is_shut } = &mut self.answer {
            return Ok(move_tunnel(client, wire, is_shut));
        }
        let mut has_moved = self.send(client, wire)?;
        has_moved |= wire.flush();
        has_moved |= self.receive(client, wire, around.date, around.now)?;
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
        let step = framing.step(client.input.data()).map_err(|reason| Stop::Client(Refusal::new(400, reason)))?;
        let data = &client.input.data()[step.framing..step.framing + step.data];
        self.sent += data.len() as u64;
        if self.site.terms.max_request.is_some_and(|most| self.sent > most) {
            return Err(Stop::Client(Refusal::new(413, "the body is too large")));
        }
        write_body(wire, data, self.sends_chunks);
        client.input.consume(step.framing + step.data);
        if step.is_last {
            if self.sends_chunks {
                wire.output.push(LAST_CHUNK);
            }
            self.request = None;
        } else if client.has_ended() && client.input.is_empty() {
            return Err(Stop::Client(Refusal::new(400, "the body ends too early")));
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
                client.output.push(LAST_CHUNK);
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
        let is_upgraded = head.status == 101 && self.wants_upgrade && becomes_what_is_allowed(&head, &self.site.terms);
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
}

/// Whether an upstream that goes on in another protocol goes on in one that may be.
fn becomes_what_is_allowed(head: &ResponseHead<'_>, terms: &SiteTerms) -> bool {
    let named = head.headers.iter().filter(|(name, _)| name.eq_ignore_ascii_case("upgrade"));
    named
        .flat_map(|(_, value)| options(value))
        .all(|protocol| forward::allows(terms, &String::from_utf8_lossy(protocol)))
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
