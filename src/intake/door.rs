//! The doors of requests that came from the broker: what is told goes back there, in one step with all that belongs to it.

use std::sync::Arc;

use crate::broker::{Claim, End, Notice, QUEUE_DOOR, Settlement};
use crate::clock;
use crate::dispatch::{Again, Door};
use crate::effects::Effects;
use crate::errand::{Ending, Errand};
use crate::outbox::Mailing;
use crate::protocol::codec::{Encoded, Rerun, encode_rerun, func_of, with_id};
use crate::protocol::{DeadLetter, RequestId, Verdict};

/// How much of an error waits with a request that is tried again, in characters.
const ERROR_LENGTH: usize = 1024;

/// The door of a request that could be read.
pub(super) struct BrokerDoor {
    pub(super) mailing: Mailing,
    /// The name of this daemon.
    pub(super) node: Arc<str>,
    pub(super) claim: Claim,
    /// The request, where it is not the element itself.
    pub(super) body: Option<Vec<u8>>,
    pub(super) id: RequestId,
    /// Whether somebody waits for the answer.
    pub(super) is_told: bool,
    /// Whether they were answered before it ran.
    pub(super) was_told: bool,
    /// How often it ran before.
    pub(super) attempt: u32,
    /// When it was taken for its first run, if there was one.
    pub(super) first_at: Option<u64>,
    /// What it is for besides, where a room has sent it.
    pub(super) errand: Option<Box<dyn Errand>>,
    /// When it started, where that is kept.
    pub(super) started: Option<u64>,
    /// Whether somebody asks for its stage.
    pub(super) is_tracked: bool,
}

impl BrokerDoor {
    /// Lets it wait until `due`.
    pub(super) fn defer(self, due: u64) {
        let is_inline = matches!(self.id, RequestId::Text(_));
        let named = is_inline.then(|| with_id(&self.claim.element, &self.id)).flatten();
        let waiting = named.map_or_else(|| Arc::clone(&self.claim.element), Arc::from);
        self.mailing.send(Settlement::plain(self.claim, End::Deferred { due, waiting }));
    }

    /// Lets another node run it.
    pub(super) fn forward(self, node: &str) {
        self.mailing.send(Settlement::plain(self.claim, End::Forwarded { node: node.into() }));
    }

    fn request(&self) -> &[u8] {
        self.body.as_deref().unwrap_or(&self.claim.element)
    }

    fn waits(&self) -> bool {
        self.is_told && !self.was_told
    }

    /// What its end does besides, where a room has sent it.
    fn ended(&self, errand: &dyn Errand, answer: &Encoded) -> Effects {
        errand.ended(&Ending {
            verdict: answer.verdict,
            message: &answer.message(),
            node: &self.node,
            started: self.started,
            ended: clock::now(),
            attempts: self.attempt.saturating_add(u32::from(self.started.is_some())),
            request: self.request(),
        })
    }

    /// The entry of the dead list, for what failed and nobody would hear of otherwise: nobody waits for it, it was tried
    /// several times, or it ended its daemons.
    fn dead_letter(&self, answer: &Encoded) -> Option<Box<str>> {
        if self.errand.as_ref().is_some_and(|errand| !errand.is_buried(answer.verdict)) {
            return None;
        }
        if answer.verdict == Verdict::Rejected {
            return self.refused(answer);
        }
        let has_failed = matches!(answer.verdict, Verdict::Error | Verdict::Timeout | Verdict::Expired);
        let is_lost = answer.verdict == Verdict::Lost;
        if !is_lost && !(has_failed && (self.attempt > 0 || !self.waits())) {
            return None;
        }
        let ran = u32::from(!matches!(answer.verdict, Verdict::Expired));
        Some(self.letter(answer.verdict, answer.message(), ran).to_json())
    }

    /// The entry of one that was refused, where nobody waits for it. It is in the log as well, many of a kind together.
    fn refused(&self, answer: &Encoded) -> Option<Box<str>> {
        let is_waited_for = self.waits();
        if is_waited_for && !log::log_enabled!(log::Level::Info) {
            return None;
        }
        let message = answer.message();
        let is_kept = self.mailing.refused(func_of(self.request()).as_deref().unwrap_or("-"), &message);
        (is_kept && !is_waited_for).then(|| self.letter(answer.verdict, message, 0).to_json())
    }

    fn letter(&self, verdict: Verdict, message: String, ran: u32) -> DeadLetter {
        let letter = DeadLetter::new(clock::now(), Some(&self.id), verdict, message, &self.node);
        let letter = DeadLetter { attempts: self.attempt.saturating_add(ran), first_at: self.first_at, ..letter };
        letter.with_request(self.request())
    }
}

impl Door for BrokerDoor {
    fn name(&self) -> &'static str {
        QUEUE_DOOR
    }

    fn starts(&mut self) -> bool {
        if self.errand.is_some() {
            self.started = Some(clock::now());
        }
        if self.is_tracked {
            self.mailing.send(Notice::Started { id: self.id.clone() });
        }
        true
    }

    fn takes_effects(&self) -> bool {
        true
    }

    fn answer(self: Box<Self>, answer: Arc<Encoded>, mut effects: Effects) {
        if let Some(errand) = self.errand.as_deref() {
            effects.add(self.ended(errand, &answer));
        }
        effects.dead = effects.dead.or_else(|| self.dead_letter(&answer));
        let verdict = answer.verdict;
        let answer = self.waits().then_some(answer);
        let is_tracked = self.is_tracked;
        let BrokerDoor { mailing, claim, id, .. } = *self;
        mailing.send(Settlement { claim, end: End::Answered { id, verdict, answer, is_tracked }, effects });
    }

    fn answer_early(&mut self, answer: Arc<Encoded>) {
        if self.is_told {
            self.was_told = true;
            self.mailing.send(Notice::AnsweredEarly { id: self.id.clone(), answer });
        }
    }

    fn run_again(self: Box<Self>, again: Again, failure: Arc<Encoded>) {
        let last_error: String = failure.message().chars().take(ERROR_LENGTH).collect();
        let rerun = Rerun {
            id: &self.id,
            reply: self.waits(),
            attempt: again.attempt,
            first_at: again.first_at,
            expires_at: again.expires_at,
            last_error: &last_error,
            now: clock::now(),
        };
        match encode_rerun(self.request(), &rerun) {
            Some(waiting) => {
                let waiting = Arc::from(waiting);
                self.mailing.send(Settlement::plain(self.claim, End::Deferred { due: again.due, waiting }));
            }
            // It was read once, so this does not happen; and if it did, its caller would be told.
            None => self.answer(failure, Effects::default()),
        }
    }

    fn hand_back(self: Box<Self>) {
        self.mailing.send(Settlement::plain(self.claim, End::HandedBack));
    }
}

/// The door of an element that could not be read.
pub(super) struct Refused {
    pub(super) mailing: Mailing,
    pub(super) claim: Claim,
    pub(super) id: RequestId,
    /// Whether somebody is to be told: that much of it could be read.
    pub(super) is_told: bool,
    /// What is put on record of it, if it is.
    pub(super) dead: Option<Box<str>>,
}

impl Door for Refused {
    fn name(&self) -> &'static str {
        QUEUE_DOOR
    }

    fn answer(self: Box<Self>, answer: Arc<Encoded>, _: Effects) {
        let verdict = answer.verdict;
        let answer = self.is_told.then_some(answer);
        let end = End::Answered { id: self.id, verdict, answer, is_tracked: false };
        let effects = Effects { dead: self.dead, ..Effects::default() };
        self.mailing.send(Settlement { claim: self.claim, end, effects });
    }

    fn answer_early(&mut self, _: Arc<Encoded>) {}

    fn run_again(self: Box<Self>, _: Again, failure: Arc<Encoded>) {
        self.answer(failure, Effects::default());
    }

    fn hand_back(self: Box<Self>) {
        self.mailing.send(Settlement::plain(self.claim, End::HandedBack));
    }
}
