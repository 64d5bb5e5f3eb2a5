//! Settling in memory: all of it under one lock.

use std::sync::Arc;
use std::time::Instant;

use super::state::State;
use crate::broker::{Content, End, Settlement, Source, Stage};
use crate::effects::{Effects, Sending, To};
use crate::protocol::Verdict;

impl State {
    /// Takes one element out of flight, with all that belongs to it but its answer.
    pub(super) fn settle(&mut self, settlement: &Settlement, now: Instant) {
        let Settlement { claim, end, effects } = settlement;
        self.leave(claim);
        if settlement.body().is_some()
            && let Content::Body(number, _) = self.content(&claim.element)
        {
            self.bodies.remove(&number);
        }
        self.release(settlement, now);
        self.note_vouched(settlement);
        let verdict = match end {
            End::Answered { verdict, .. } => {
                self.verdicts[*verdict as usize] += 1;
                Some(*verdict)
            }
            End::Deferred { due, waiting } => {
                self.delayed.push(*due, Arc::clone(waiting));
                None
            }
            End::Forwarded { .. } => {
                self.inbox.push_back(Arc::clone(&claim.element));
                None
            }
            End::HandedBack => {
                match claim.source {
                    Source::Queue(number) => self.queues[number].push_front(Arc::clone(&claim.element)),
                    Source::Delayed => self.delayed.push(0, Arc::clone(&claim.element)),
                    Source::Inbox => self.inbox.push_front(Arc::clone(&claim.element)),
                }
                None
            }
        };
        if let Some(id) = settlement.untracked() {
            self.stages.remove(id);
            if let End::Answered { answer: None, .. } = end {
                self.watched.tell(id, || Stage::Unknown);
            }
        }
        self.take_effect(verdict, effects);
    }

    fn take_effect(&mut self, verdict: Option<Verdict>, effects: &Effects) {
        self.kept.put(&effects.put);
        for sending in &effects.send {
            self.send(sending);
        }
        if let Some(dead) = &effects.dead {
            self.bury(verdict == Some(Verdict::Rejected), dead.clone());
        }
    }

    fn send(&mut self, sending: &Sending) {
        let element: Arc<[u8]> = Arc::from(&*sending.element);
        if sending.room.is_some() {
            self.vouch(sending.id.clone(), &element);
        }
        match &sending.to {
            To::Here => self.inbox.push_back(element),
            // Which queues there are, a room knows from the configuration.
            To::Queue(name) => {
                let number = self.number(name.as_deref()).unwrap_or(0);
                self.queues[number].push_back(element);
            }
            To::Due { at, name: None } => self.delayed.push(*at, element),
            To::Due { at, name: Some(name) } => self.delayed.replace(name, *at, element),
        }
    }
}
