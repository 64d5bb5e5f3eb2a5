//! A request of this connection that an upstream answers.

use super::{Client, Phase, Step, World};
use crate::gateway::proxy::Progress;

impl Client {
    pub(super) fn proxy(&mut self, world: &mut World<'_>) -> Step {
        let Phase::Proxying(exchange) = &mut self.phase else { return Step::Again };
        let progress = exchange.drive(&mut self.wire, self.handle, world);
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
            Progress::Answer(response) => {
                self.current.keeps_alive &= exchange.is_read();
                self.respond(&response, world);
                Step::Again
            }
            Progress::Function(name) => {
                let from = self.current.from(self.handle, self.serial);
                let served = world.api.stand_in(&name, exchange.head(), from);
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
}
