//! What a daemon tells its broker of the requests that it has claimed.

use std::sync::Arc;

use super::Claim;
use crate::effects::Effects;
use crate::protocol::codec::Encoded;
use crate::protocol::{RequestId, Verdict};

/// Takes a claimed element out of the in-flight list, in one step with all that belongs to it.
#[derive(Debug, Clone)]
pub struct Settlement {
    /// The element.
    pub claim: Claim,
    /// What becomes of it.
    pub end: End,
    /// What its end does besides.
    pub effects: Effects,
}

/// What becomes of a claimed element.
#[derive(Debug, Clone)]
pub enum End {
    /// It has its verdict: the body goes, the answer is stored and published.
    Answered {
        /// The request.
        id: RequestId,
        /// How it ended.
        verdict: Verdict,
        /// What is told; `None` where nobody waits.
        answer: Option<Arc<Encoded>>,
        /// Whether somebody asks for its stage.
        is_tracked: bool,
    },
    /// It waits until `due`, in milliseconds since 1970.
    Deferred {
        /// When it can be claimed from [`Source::Delayed`](super::Source::Delayed).
        due: u64,
        /// What waits: the element, with an id where it had none, as two that are equal would be one. Or the request as it
        /// runs again, and then its body goes.
        waiting: Arc<[u8]>,
    },
    /// It is for another node, and goes into its inbox.
    Forwarded {
        /// The id of the node.
        node: Box<str>,
    },
    /// It was not started and goes back to the head of where it came from.
    HandedBack,
}

/// What is told of a request that stays in flight.
#[derive(Debug, Clone)]
pub enum Notice {
    /// It starts, and somebody asks for its stage.
    Started {
        /// The request.
        id: RequestId,
    },
    /// The caller gets its answer: the function has yet to run.
    AnsweredEarly {
        /// Whom to tell.
        id: RequestId,
        /// What to tell.
        answer: Arc<Encoded>,
    },
}

/// One thing that a daemon tells its broker.
#[derive(Debug, Clone)]
pub enum Outgoing {
    /// Of a request that leaves.
    Settlement(Settlement),
    /// Of one that stays.
    Notice(Notice),
}

impl Settlement {
    /// One whose end does nothing besides.
    pub fn plain(claim: Claim, end: End) -> Self {
        Settlement { claim, end, effects: Effects::default() }
    }

    /// The key of the body that goes with it.
    pub(crate) fn body(&self) -> Option<&str> {
        match &self.end {
            End::Answered { .. } => self.claim.body_key.as_deref(),
            End::Deferred { waiting, .. } if *waiting != self.claim.element => self.claim.body_key.as_deref(),
            _ => None,
        }
    }

    /// The request whose stage goes with its verdict: from now on it is known by its answer, if there is one.
    pub(crate) fn untracked(&self) -> Option<&RequestId> {
        match &self.end {
            End::Answered { id, is_tracked: true, .. } => Some(id),
            _ => None,
        }
    }
}

impl Outgoing {
    /// The settlement that it is, if it is one.
    pub(crate) fn settlement(&self) -> Option<&Settlement> {
        match self {
            Outgoing::Settlement(settlement) => Some(settlement),
            Outgoing::Notice(_) => None,
        }
    }

    /// The element that it takes out of the in-flight list.
    pub(crate) fn claim(&self) -> Option<&Claim> {
        self.settlement().map(|settlement| &settlement.claim)
    }

    /// The answer that is published with it.
    pub(crate) fn answer(&self) -> Option<(&RequestId, &Arc<Encoded>)> {
        match self {
            Outgoing::Settlement(Settlement { end: End::Answered { id, answer, .. }, .. }) => {
                answer.as_ref().map(|answer| (id, answer))
            }
            Outgoing::Notice(Notice::AnsweredEarly { id, answer }) => Some((id, answer)),
            Outgoing::Settlement(_) | Outgoing::Notice(Notice::Started { .. }) => None,
        }
    }
}

impl From<Settlement> for Outgoing {
    fn from(settlement: Settlement) -> Self {
        Outgoing::Settlement(settlement)
    }
}

impl From<Notice> for Outgoing {
    fn from(notice: Notice) -> Self {
        Outgoing::Notice(notice)
    }
}
