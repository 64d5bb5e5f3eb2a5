//! Claiming: from the queues, from the delayed requests, and what a broken connection left behind.

use std::sync::{Arc, LazyLock};
use std::time::{Duration, Instant};

use redis::{Connection, RedisResult, Script, cmd};

use super::lease::Identity;
use super::link::Link;
use super::{ClaimLink, RedisBroker, held, lock};
use crate::broker::{Claim, Claimed, Content, Result, Source, parse_number};
use crate::clock;
use crate::protocol::glimpse::CUT_ENDS;

static CLAIM: LazyLock<Script> = LazyLock::new(|| Script::new(include_str!("scripts/claim.lua")));
static BODIES: LazyLock<Script> = LazyLock::new(|| Script::new(include_str!("scripts/bodies.lua")));
static CLAIM_EXCESS: LazyLock<Script> = LazyLock::new(|| Script::new(include_str!("scripts/claim_excess.lua")));
static CLAIM_DUE: LazyLock<Script> = LazyLock::new(|| Script::new(include_str!("scripts/claim_due.lua")));

/// The pause between two looks whether the suspect before has ended.
const SUSPECT_PAUSE: Duration = Duration::from_millis(10);

/// How long a queue waits for those that go first.
const YIELD: Duration = Duration::from_millis(5);

impl RedisBroker {
    pub(super) fn claim_from(&self, source: Source, limit: usize, patience: Duration) -> Result<Vec<Claimed>> {
        // Held until the end: only this claim changes what its source has in flight and nobody holds yet.
        let mut guard = lock(&self.claiming[self.sources.place(source)]);
        let ClaimLink { link, orphans } = &mut *guard;
        if !link.is_open() {
            *orphans = self.find_orphans(link, source)?;
        }
        if source == Source::Queue(0) {
            orphans.append(&mut lock(&self.ended));
        }
        if !orphans.is_empty() {
            return Ok(orphans.split_off(orphans.len().saturating_sub(limit)));
        }
        let mut claimed = match source {
            Source::Queue(_) | Source::Inbox => {
                link.with(|connection| self.claim_queue(connection, source, limit, patience))?
            }
            Source::Delayed => link.with(|connection| self.claim_due(connection, limit))?,
        };
        if source == Source::Delayed && claimed.is_empty() {
            let patience = if self.suspects.are_waiting() { patience.min(SUSPECT_PAUSE) } else { patience };
            if self.due.wait(patience) {
                claimed = link.with(|connection| self.claim_due(connection, limit))?;
            }
        }
        self.hold(source, &claimed);
        Ok(claimed)
    }

    /// Claims what stands at the end of a queue behind too many others.
    pub(super) fn claim_newest(&self, source: Source, longest: usize, limit: usize) -> Result<Vec<Claimed>> {
        let place = self.sources.place(source);
        let mut guard = lock(&self.claiming[place]);
        let Source::Queue(number) = source else { return Ok(Vec::new()) };
        // One that is not open has to look for orphans first; the next claim does.
        if !guard.link.is_open() {
            return Ok(Vec::new());
        }
        let claimed = guard.link.with(|connection| {
            let identity = self.identity();
            let mut script = CLAIM_EXCESS.key(self.sources.key(number));
            script.key(&identity.in_flight[place]).arg(longest).arg(limit).arg(self.options.longest).arg(CUT_ENDS);
            let elements = script.invoke(connection)?;
            self.read(connection, &identity, source, elements)
        })?;
        self.hold(source, &claimed);
        Ok(claimed)
    }

    /// Opens the connection, and looks for what was claimed when it broke: it is in flight, but nobody holds it.
    fn find_orphans(&self, link: &mut Link, source: Source) -> Result<Vec<Claimed>> {
        let place = self.sources.place(source);
        // Nothing is settled meanwhile, as that is neither forgotten nor unknown.
        let settling = lock(&self.settling);
        let (id, identity, listed) = link.with(|connection| {
            // Before the first claim, so that what is claimed can be taken back if we die.
            self.renew_lease(connection)?;
            let identity = self.identity();
            let id: i64 = cmd("CLIENT").arg("ID").query(connection)?;
            let in_flight = self.find_forgotten(connection, &identity, std::iter::once(place))?;
            let listed = in_flight.lists.into_iter().next().unwrap_or_default();
            Ok((id, identity, listed))
        })?;
        lock(&self.blocked)[place] = Some(id);
        let unknown = held::unknown(&self.held[place].all(), listed);
        drop(settling);
        if unknown.is_empty() {
            return Ok(Vec::new());
        }
        log::warn!("found {} requests that were claimed when a connection broke", unknown.len());
        let orphans = link.with(|connection| self.read(connection, &identity, source, unknown))?;
        self.hold(source, &orphans);
        Ok(orphans)
    }

    pub(super) fn hold(&self, source: Source, claimed: &[Claimed]) {
        self.held[self.sources.place(source)].add(claimed.iter().map(|claimed| &claimed.claim.element));
    }

    /// Many at once while there are many, else one as soon as it comes.
    fn claim_queue(
        &self,
        connection: &mut Connection,
        source: Source,
        limit: usize,
        patience: Duration,
    ) -> RedisResult<Vec<Claimed>> {
        let identity = self.identity();
        let (queue, above) = match source {
            Source::Queue(number) => (self.sources.key(number), self.sources.above(number)),
            Source::Inbox | Source::Delayed => (identity.inbox.as_str(), [].as_slice()),
        };
        let in_flight = &identity.in_flight[self.sources.place(source)];
        let mut script = CLAIM.key(queue);
        let claimed: Option<Vec<Vec<u8>>> =
            script.key(in_flight).key(above).arg(limit).arg(self.options.longest).arg(CUT_ENDS).invoke(connection)?;
        let Some(mut elements) = claimed else {
            // Those that go first are claimed as soon as there is room; a moment later there may be some for this one.
            std::thread::sleep(patience.min(YIELD));
            return Ok(Vec::new());
        };
        if elements.is_empty() && !patience.is_zero() {
            let mut blocking = cmd("BLMOVE");
            blocking.arg(queue).arg(in_flight).arg("LEFT").arg("RIGHT").arg(patience.as_secs_f64());
            elements = blocking.query::<Option<Vec<u8>>>(connection)?.into_iter().collect();
        }
        self.read(connection, &identity, source, elements)
    }

    fn claim_due(&self, connection: &mut Connection, limit: usize) -> RedisResult<Vec<Claimed>> {
        let keys = &self.options.keys;
        let identity = self.identity();
        let place = self.sources.place(Source::Delayed);
        let may_take = self.suspects.may_claim(Instant::now(), |last| self.held[place].holds(last));
        let mut invocation = CLAIM_DUE.key(keys.delayed());
        self.due.ask();
        type Due = (Vec<Vec<u8>>, Option<f64>, Option<Vec<u8>>, u64);
        let (mut elements, next, suspect, waiting): Due = invocation
            .key(&identity.in_flight[place])
            .key(keys.suspects())
            .arg(clock::now())
            .arg(limit)
            .arg(u8::from(may_take))
            .invoke(connection)?;
        self.due.know(next.map(|milliseconds| milliseconds as u64));
        self.suspects.note(suspect.as_deref(), waiting, Instant::now());
        elements.extend(suspect);
        self.read(connection, &identity, Source::Delayed, elements)
    }

    /// Fetches the bodies of those elements that are numbers.
    pub(super) fn read(
        &self,
        connection: &mut Connection,
        identity: &Identity,
        source: Source,
        elements: Vec<Vec<u8>>,
    ) -> RedisResult<Vec<Claimed>> {
        let numbers: Vec<Option<u64>> = elements.iter().map(|element| parse_number(element)).collect();
        let keys = numbers.iter().flatten().map(|number| self.options.keys.bodies(*number));
        let mut keys: Vec<[String; 2]> = keys.collect();
        let bodies: Vec<Option<Vec<u8>>> = match keys.is_empty() {
            true => Vec::new(),
            false => BODIES.key(keys.as_flattened()).arg(self.options.longest).invoke(connection)?,
        };
        let mut bodies = bodies.into_iter();
        let mut keys = keys.drain(..);
        let claimed = elements.into_iter().zip(numbers).map(|(element, number)| {
            let (content, body_key) = match number {
                None => (Content::Inline, None),
                Some(number) => {
                    let both = [bodies.next().flatten(), bodies.next().flatten()];
                    let found = both.into_iter().zip(keys.next().unwrap_or_default());
                    match found.into_iter().find_map(|(body, key)| Some((body?, key))) {
                        Some((body, key)) => (Content::Body(number, body), Some(key.into())),
                        None => (Content::NoBody(number), None),
                    }
                }
            };
            let claim = Claim {
                source,
                element: Arc::from(element),
                body_key,
                epoch: identity.epoch,
                is_once: false,
                locks: None,
                vouched: None,
            };
            Claimed { claim, content, end: None }
        });
        Ok(claimed.collect())
    }

    /// Ends the claims that wait in Redis, and the wait for messages.
    pub(super) fn unblock_claims(&self) {
        let blocked = lock(&self.blocked).clone();
        let listener = *lock(&self.listener);
        let Ok(mut connection) = self.options.target.connect("cerbas-interrupt") else { return };
        for id in blocked.into_iter().flatten().chain(listener) {
            // One that does not wait is not woken, which is as well.
            let _: RedisResult<i64> = cmd("CLIENT").arg("UNBLOCK").arg(id).query(&mut connection);
        }
    }
}
