//! A client's side of the broker in memory.

use std::sync::{Arc, MutexGuard};
use std::time::{Duration, Instant};

use super::Memory;
use super::state::State;
use super::subscription::MemorySubscription;
use crate::broker::{BrokerError, Cause, Found, Post, Presence, Result, Stage, Subscription};
use crate::protocol::{Node, RequestId};

impl Memory {
    /// Nobody would ever take what is put there.
    fn no_queue(&self, name: Option<&str>) -> BrokerError {
        let reason = format!("no daemon serves the queue {:?}", name.unwrap_or_default());
        BrokerError { address: self.address(), reason, cause: Cause::NoSuchQueue }
    }

    /// What a client can send to.
    fn open(&self) -> Result<MutexGuard<'_, State>> {
        let state = self.present()?;
        if !state.is_closed {
            return Ok(state);
        }
        Err(BrokerError {
            address: "memory".to_owned(),
            reason: "the daemon has ended".to_owned(),
            cause: Cause::NoDaemon,
        })
    }
}

impl Post for Memory {
    fn send(&mut self, queue: Option<&str>, element: &[u8], id: Option<&RequestId>) -> Result<()> {
        let mut state = self.open()?;
        let number = state.number(queue).ok_or_else(|| self.no_queue(queue))?;
        state.listeners.extend(id.cloned());
        state.queues[number].push_back(Arc::from(element));
        drop(state);
        self.0.changed.notify_all();
        Ok(())
    }

    fn submit(&mut self, queue: Option<&str>, element: &[u8], id: &RequestId, _: Duration) -> Result<bool> {
        let mut state = self.open()?;
        let number = state.number(queue).ok_or_else(|| self.no_queue(queue))?;
        let is_new = !state.stages.contains_key(id) && !state.results.contains_key(id);
        if is_new {
            state.stages.insert(id.clone(), Stage::Accepted);
            state.queues[number].push_back(Arc::from(element));
        }
        drop(state);
        self.0.changed.notify_all();
        Ok(is_new)
    }

    fn stages(&mut self, ids: &[RequestId]) -> Result<Vec<Stage>> {
        let state = self.present()?;
        let now = Instant::now();
        let stage = |id: &RequestId| match state.results.get(id).filter(|stored| stored.until > now) {
            Some(stored) => Stage::Done(stored.answer.json.to_vec()),
            None => state.stages.get(id).cloned().unwrap_or(Stage::Unknown),
        };
        Ok(ids.iter().map(stage).collect())
    }

    fn subscribe(&self) -> Result<Box<dyn Subscription>> {
        drop(self.present()?);
        Ok(Box::new(MemorySubscription::open(self.clone())))
    }

    fn ring(&mut self, bell: &RequestId) -> Result<()> {
        self.present()?.watched.tell(bell, || Stage::Unknown);
        Ok(())
    }

    fn receive(&mut self, id: &RequestId, patience: Duration) -> Result<Option<Vec<u8>>> {
        let answer = self.answer(id, patience);
        if answer.is_some() {
            self.state().listeners.remove(id);
        }
        Ok(answer.map(|answer| answer.json.to_vec()))
    }

    fn withdraw(&mut self, queue: Option<&str>, element: &[u8], id: &RequestId) -> Result<bool> {
        let mut state = self.present()?;
        state.listeners.remove(id);
        let number = state.number(queue).ok_or_else(|| self.no_queue(queue))?;
        let queue = &mut state.queues[number];
        let place = queue.iter().position(|waiting| **waiting == *element);
        Ok(place.and_then(|place| queue.remove(place)).is_some())
    }

    fn cancel(&mut self, id: &RequestId) -> Result<Found> {
        self.find_and_cancel(id)
    }

    fn nodes(&mut self) -> Result<Vec<Node>> {
        let told = self.present()?.told.clone();
        let node = told.map(|(at, status)| Node {
            node: self.address(),
            host: rustix::system::uname().nodename().to_string_lossy().into_owned(),
            pid: std::process::id(),
            version: env!("CARGO_PKG_VERSION").to_owned(),
            started: self.0.started,
            at,
            fenced: 0,
            status,
        });
        Ok(node.into_iter().collect())
    }
}
