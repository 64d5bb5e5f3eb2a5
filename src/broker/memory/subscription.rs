//! What becomes of requests that somebody watches, told in this process.

use std::collections::HashMap;
use std::time::Duration;

use crossbeam_channel::{Receiver, Sender, unbounded};

use super::Memory;
use crate::broker::{Result, Stage, Subscription};
use crate::protocol::RequestId;

/// A request, and how far it has come.
type News = (RequestId, Stage);

/// Who is told what.
#[derive(Default)]
pub(super) struct Watched(HashMap<RequestId, Vec<(u64, Sender<News>)>>);

impl Watched {
    /// Tells whoever watches `id`.
    pub(super) fn tell(&self, id: &RequestId, stage: impl Fn() -> Stage) {
        for (_, told) in self.0.get(id).into_iter().flatten() {
            // Who is gone needs not be told.
            let _is_told = told.send((id.clone(), stage()));
        }
    }

    fn add(&mut self, id: &RequestId, number: u64, told: &Sender<News>) {
        self.0.entry(id.clone()).or_default().push((number, told.clone()));
    }

    fn remove(&mut self, id: &RequestId, number: u64) {
        if let Some(watchers) = self.0.get_mut(id) {
            watchers.retain(|(of, _)| *of != number);
            if watchers.is_empty() {
                self.0.remove(id);
            }
        }
    }

    fn remove_all(&mut self, number: u64) {
        self.0.retain(|_, watchers| {
            watchers.retain(|(of, _)| *of != number);
            !watchers.is_empty()
        });
    }
}

/// One who watches.
pub(super) struct MemorySubscription {
    memory: Memory,
    number: u64,
    bell: RequestId,
    told: Sender<News>,
    news: Receiver<News>,
}

impl MemorySubscription {
    pub(super) fn open(memory: Memory) -> Self {
        let (told, news) = unbounded();
        let bell = RequestId::random();
        let number = {
            let mut state = memory.state();
            state.subscriptions += 1;
            let number = state.subscriptions;
            state.watched.add(&bell, number, &told);
            number
        };
        MemorySubscription { memory, number, bell, told, news }
    }
}

impl Subscription for MemorySubscription {
    fn watch(&mut self, new: &[RequestId], old: &[RequestId]) -> Result<()> {
        let mut state = self.memory.present()?;
        old.iter().for_each(|id| state.watched.remove(id, self.number));
        new.iter().for_each(|id| state.watched.add(id, self.number, &self.told));
        Ok(())
    }

    fn next(&mut self, patience: Duration) -> Result<Vec<(RequestId, Stage)>> {
        drop(self.memory.present()?);
        // Whoever waits in vain is none who has failed.
        let first = self.news.recv_timeout(patience).ok();
        let all = first.into_iter().chain(self.news.try_iter());
        Ok(all.filter(|(id, _)| *id != self.bell).collect())
    }

    fn bell(&self) -> &RequestId {
        &self.bell
    }
}

impl Drop for MemorySubscription {
    fn drop(&mut self) {
        self.memory.state().watched.remove_all(self.number);
    }
}
