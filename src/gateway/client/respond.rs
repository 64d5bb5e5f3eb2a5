//! How a request is answered on its connection.

use std::net::IpAddr;

use super::{Client, Phase, Step, World};
use crate::gateway::api::From;
use crate::gateway::log::Logged;
use crate::gateway::response::{Envelope, Format, Response};
use crate::net::{Broken, Handle, RequestHead};

/// What has to be known of a request when it is answered.
#[derive(Default)]
pub(super) struct Current {
    pub(super) format: Format,
    pub(super) is_to_head: bool,
    pub(super) keeps_alive: bool,
    pub(super) is_old: bool,
    pub(super) request_id: Option<Box<str>>,
    pub(super) allow_origin: Option<Box<str>>,
    pub(super) logged: Option<Box<Logged>>,
}

impl Current {
    pub(super) fn of(head: &RequestHead<'_>, peer: Option<IpAddr>, world: &World<'_>) -> Self {
        let accept = head.header("accept").unwrap_or_default();
        let is_packed = ["application/msgpack", "application/x-msgpack", "application/vnd.msgpack"]
            .into_iter()
            .any(|kind| accept.contains(kind));
        Current {
            format: if is_packed { Format::MessagePack } else { Format::Json },
            is_to_head: head.method == "HEAD",
            keeps_alive: head.keeps_alive,
            is_old: head.is_old,
            request_id: Some(world.api.request_id(head)),
            allow_origin: world.api.allowed_origin(head).map(Into::into),
            logged: Logged::of(head, peer, world.api.settings().access_log, world.now),
        }
    }
}

impl Current {
    pub(super) fn from(&self, to: Handle, serial: u32) -> From<'_> {
        From { to, serial, id: self.request_id.as_deref().unwrap_or_default() }
    }
}

impl Client {
    pub(super) fn log(&mut self, status: u16, bytes: Option<usize>, world: &World<'_>) {
        world.api.services().traffic.count(status);
        if let Some(logged) = self.current.logged.take() {
            let which = world.api.settings().access_log;
            logged.write(status, bytes, self.current.request_id.as_deref(), which, world.now);
        }
    }

    /// Refuses what cannot be read, and closes: where the next request begins is not known.
    pub(super) fn refuse(&mut self, broken: Broken, world: &mut World<'_>) -> Step {
        if matches!(self.phase, Phase::Head) {
            self.serial = self.serial.wrapping_add(1);
            let logged = Logged::unreadable(self.seat.peer(), world.api.settings().access_log, world.now);
            self.current = Current { logged, ..Current::default() };
        }
        self.current.keeps_alive = false;
        self.respond(&Response::error(broken.status, broken.reason), world);
        Step::Again
    }

    pub(super) fn respond(&mut self, response: &Response, world: &mut World<'_>) {
        let Current { format, is_to_head, keeps_alive, is_old, ref request_id, ref allow_origin, .. } = self.current;
        let keeps_alive = keeps_alive && !world.is_closing;
        let (request_id, allow_origin) = (request_id.as_deref(), allow_origin.as_deref());
        let envelope = Envelope { format, is_to_head, keeps_alive, is_old, allow_origin, request_id, date: world.date };
        if self.wire.output.is_empty() {
            self.since = world.now;
        }
        let before = self.wire.output.len();
        response.write(&envelope, &mut self.wire.output);
        let bytes = self.wire.output.len() - before;
        self.log(response.status, Some(bytes), world);
        if keeps_alive {
            (self.phase, self.seen) = (Phase::Head, 0);
        } else {
            self.be_last();
        }
    }
}

pub(super) fn too_large(limit: usize) -> Response {
    Response::error(413, format!("the body has more than {limit} bytes"))
}
