//! What a daemon claims, arranges and settles.

use std::sync::Arc;
use std::time::Duration;

use super::{Arranged, Arrangement, Beginning, Begun, Claim, Claimed, Outgoing, Result, Source};
use crate::protocol::RequestId;

/// The part of a [`Broker`](super::Broker) that requests go through.
pub trait Work: Send + Sync {
    /// All that can be claimed from; each has its own intake.
    fn sources(&self) -> Vec<Source>;

    /// Claims up to `limit` requests from `source`, at least one of them within `patience` if any come. Where queues are
    /// served in strict order, it claims nothing while one that goes first has requests.
    fn claim(&self, source: Source, limit: usize, patience: Duration) -> Result<Vec<Claimed>>;

    /// Claims up to `limit` of the newest requests of `source`, which stand behind `longest` others.
    fn claim_excess(&self, source: Source, longest: usize, limit: usize) -> Result<Vec<Claimed>>;

    /// Puts each element, which is claimed, in the place of the claim before it: the same request with an id, as it had none and two that
    /// are equal are not to be taken for one. Gives back what names each from now on, in their order; `None` where others have
    /// taken it over. After an error the same can be asked again.
    fn name(&self, named: &[(Claim, Arc<[u8]>)]) -> Result<Vec<Option<Claim>>>;

    /// Arranges each of `arrangements` in one step, and gives back what became of it, in their order. After an error the
    /// same can be asked again: what had been arranged already is found so.
    fn arrange(&self, arrangements: &[Arrangement]) -> Result<Vec<Arranged>>;

    /// Cancels the request `id`, wherever it waits or runs.
    fn cancel(&self, id: &RequestId) -> Result<()>;

    /// Settles all, in order, each in one step. Gives back the ids of the answers that nobody received. After an error
    /// the same batch must be offered again, unchanged: what had been settled already is not settled twice.
    fn settle(&self, batch: &[Outgoing]) -> Result<Vec<RequestId>>;

    /// Publishes stored answers again to those who have subscribed since. Gives back the ids that still nobody received.
    fn publish_again(&self, ids: &[RequestId]) -> Result<Vec<RequestId>>;

    /// Begins each of `beginnings` in one step, with its request for this daemon, and gives back what became of it, in their order. After an
    /// error the same can be begun again: what had been begun by it is found so.
    fn begin(&self, beginnings: &[Beginning]) -> Result<Vec<Begun>>;

    /// Whether each of `elements`, which this daemon has in flight, is what `room` has sent under its id, and has not ended: begun
    /// with [`Work::begin`], following on another ([`Sending::room`](crate::effects::Sending::room)), or waiting to run again. Clients can
    /// copy all texts that they see, but none can make this true of another, and of two copies it is true of one only. After an error the
    /// same can be asked again.
    fn take_vouched(&self, room: &'static str, elements: &[(&RequestId, &[u8])]) -> Result<Vec<bool>>;

    /// Wakes all claims that wait. Claims that start later wait as usual.
    fn interrupt(&self);
}
