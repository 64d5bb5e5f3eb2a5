//! A request of this connection that an upstream answers.

use std::sync::Arc;

use super::{Client, Phase, Step, World};
use crate::gateway::response::{Body, Response};
use crate::proxy::{Progress, Refusal};

impl Client {
    pub(super) fn proxy(&mut self, world: &mut World<'_>) -> Step {
        let Phase::Proxying(exchange) = &mut self.phase else { return Step::Again };
        let progress = exchange.drive(&mut self.wire, self.handle, &mut world.surroundings());
        self.follow(progress, world)
    }

    pub(super) fn follow(&mut self, progress: Progress, world: &mut World<'_>) -> Step {
        let Phase::Proxying(exchange) = &mut self.phase else { return Step::Again };
        match progress {
            Progress::Again => Step::Again,
            Progress::Wait(until) => {
                self.deadline = until;
                Step::Wait
            }
            Progress::Done { status, keeps_alive } => {
                self.log(status, None, world);
                self.since = world.now;
                if keeps_alive && !world.is_closing {
                    (self.phase, self.seen) = (Phase::Head, 0);
                    Step::Again
                } else {
                    self.be_last()
                }
            }
            Progress::Refuse(refusal) => self.instead(&refused(refusal), world),
            Progress::Stale { good, age } => {
                let kind = good.kind.as_deref().unwrap_or("application/octet-stream").to_owned();
                let body = Body::Kept(kind, Arc::clone(&good.body));
                let response = Response::new(200, body).with("Age", age.as_secs().to_string());
                // RFC 7234, 5.5.1; newer texts leave it out, and readers still know it.
                self.instead(&response.with("Warning", "110 cerbas \"Response is Stale\""), world)
            }
            Progress::Function(name) => {
                let from = self.current.from(self.handle, self.serial);
                let served = world.api.stand_in(&name, &exchange.head(), from);
                self.settle(served, world)
            }
            Progress::Broken => {
                // As much as there is, before it breaks off.
                self.wire.flush();
                self.log(0, None, world);
                Step::Gone
            }
        }
    }

    /// We answer where no upstream does.
    fn instead(&mut self, response: &Response, world: &mut World<'_>) -> Step {
        if let Phase::Proxying(exchange) = &self.phase {
            // What is left of its body is not read.
            self.current.keeps_alive &= exchange.is_read();
        }
        self.respond(response, world);
        Step::Again
    }
}

fn refused(refusal: Refusal) -> Response {
    let response = Response::error(refusal.status, refusal.reason);
    match refusal.retry_after {
        Some(seconds) => response.with("Retry-After", seconds.to_string()),
        None => response,
    }
}
