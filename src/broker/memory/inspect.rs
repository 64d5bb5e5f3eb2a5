//! An operator's side of the broker in memory.

use std::collections::VecDeque;
use std::sync::Arc;
use std::time::{Duration, Instant};

use super::state::State;
use super::{Memory, id_of};
use crate::broker::{
    Beginning, Content, DeadEntry, Facts, Fate, Found, Inspect, Job, Member, Overview, Post, Presence, QueueLook,
    QueueTerms, Result, Stand, Work, parse_number,
};
use crate::clock;
use crate::protocol::{Answer, Node, OpenCall, RequestId};

impl Memory {
    /// A look at what waits and runs.
    fn look(&self) -> Result<Look> {
        let state = self.present()?;
        let seen = |element: &Arc<[u8]>, stand: Stand| {
            let body = match state.content(element) {
                Content::Body(_, body) => Some(body),
                Content::Inline | Content::NoBody(_) => None,
            };
            Seen { element: Arc::clone(element), body, stand }
        };
        let mut lists: Vec<Vec<Seen>> = Vec::new();
        for (number, queue) in state.queues.iter().enumerate() {
            let name = queue_name(&state, number);
            let stand = |before| Stand::Queue { queue: name.clone(), before, is_served: true };
            lists.push((0..).zip(queue).map(|(before, element)| seen(element, stand(before))).collect());
        }
        let delayed = state.delayed.iter().map(|(due, element)| seen(element, Stand::Delayed { due }));
        lists.push(delayed.collect());
        lists.extend(state.parked.values().map(|list| list.iter().map(|one| seen(one, Stand::Parked)).collect()));
        lists.extend(state.waiting.values().map(|list| list.iter().map(|one| seen(one, Stand::Behind)).collect()));
        let node = self.node();
        lists.push(state.inbox.iter().map(|one| seen(one, Stand::Inbox { node: node.to_owned() })).collect());
        let taken = || Stand::Taken { node: node.to_owned(), is_alive: true, since: None };
        lists.push(state.in_flight.iter().map(|one| seen(one, taken())).collect());
        let running = state.told.as_ref().map(|(_, status)| status.running.clone()).unwrap_or_default();
        Ok(Look { lists, running })
    }

    fn entries(&self) -> Result<Vec<DeadEntry>> {
        let state = self.present()?;
        let read = |list: &VecDeque<Box<str>>, is_refused| {
            list.iter().filter_map(|member| DeadEntry::read(member.to_string(), is_refused)).collect::<Vec<_>>()
        };
        let mut entries = read(&state.dead, false);
        entries.extend(read(&state.refused, true));
        entries.sort_by_key(|entry| entry.letter.at);
        Ok(entries)
    }

    fn member(&self) -> Result<Option<Member>> {
        let record = Post::nodes(&mut self.clone())?.pop();
        let state = self.present()?;
        let member = |record: Node| Member {
            node: record.node.clone(),
            silent: clock::now().saturating_sub(record.at),
            claimed: state.in_flight.len() as u64,
            inbox: state.inbox.len() as u64,
            record: Some(record),
        };
        Ok(record.map(member))
    }
}

/// What a queue is called; the second one is the usual one under its old name.
fn queue_name(state: &State, number: usize) -> String {
    number.checked_sub(2).map_or_else(|| QueueTerms::DEFAULT.to_owned(), |further| state.names[further].clone())
}

/// What stood in each list at one moment. It is read when the lock is free again.
struct Look {
    lists: Vec<Vec<Seen>>,
    running: Vec<OpenCall>,
}

/// An element, with its body where it is a number that has one.
struct Seen {
    element: Arc<[u8]>,
    body: Option<Vec<u8>>,
    stand: Stand,
}

impl Look {
    fn jobs(self, most: usize) -> impl Iterator<Item = Job> {
        let now = clock::now();
        let Look { lists, running } = self;
        let some = lists.into_iter().flat_map(move |list| list.into_iter().take(most));
        some.map(move |seen| seen.read(&running, now))
    }
}

impl Seen {
    fn read(self, running: &[OpenCall], now: u64) -> Job {
        let number = parse_number(&self.element);
        let json = match number {
            Some(_) => self.body.as_deref().unwrap_or_default(),
            None => &self.element,
        };
        Job::read(number, json, self.stand, running, now)
    }
}

impl Inspect for Memory {
    fn address(&self) -> String {
        Presence::address(self)
    }

    fn overview(&mut self) -> Result<Overview> {
        let members = self.members()?;
        let now = clock::now();
        let heads = self.look()?.lists.into_iter().map(|list| list.into_iter().next());
        let sent = heads.map(|head| head.and_then(|head| head.read(&[], now).sent_at));
        let oldest: Vec<Option<u64>> = sent.map(|sent| sent.map(|sent| now.saturating_sub(sent))).collect();
        let state = self.present()?;
        let queue = |(number, queue): (usize, &VecDeque<Arc<[u8]>>)| QueueLook {
            name: queue_name(&state, number),
            // There is none; what tells the old name of the usual queue from the new one.
            key: if number == 1 { "old name".to_owned() } else { queue_name(&state, number) },
            length: queue.len() as u64,
            oldest: oldest.get(number).copied().flatten(),
            is_served: true,
        };
        Ok(Overview {
            now,
            queues: state.queues.iter().enumerate().map(queue).collect(),
            delayed: state.delayed.len() as u64,
            next_due: state.next_due(),
            dead: state.dead.len() as u64,
            // The daemon itself counts all that ends, also what came by another door.
            verdicts: state.told.as_ref().map(|(_, status)| status.verdicts.clone()),
            members,
        })
    }

    fn members(&mut self) -> Result<Vec<Member>> {
        Ok(self.member()?.into_iter().collect())
    }

    fn jobs(&mut self, most: usize) -> Result<Vec<Job>> {
        Ok(self.look()?.jobs(most).collect())
    }

    fn fate(&mut self, id: &RequestId) -> Result<Fate> {
        let text = id.to_string();
        if let Some(job) = self.look()?.jobs(usize::MAX).find(|job| job.id.as_deref() == Some(&text)) {
            return Ok(Fate::Open(job));
        }
        if let Some((answer, left)) = Inspect::answer(self, id)? {
            return Ok(Fate::Answered(answer, left));
        }
        let entry = self.entries()?.into_iter().rev().find(|entry| entry.letter.id.as_deref() == Some(&text));
        if let Some(entry) = entry {
            return Ok(Fate::Dead(Box::new(entry.letter)));
        }
        let has_body = matches!(id, RequestId::Number(number) if self.present()?.bodies.contains_key(number));
        Ok(if has_body { Fate::Unsent } else { Fate::Unknown })
    }

    fn answer(&mut self, id: &RequestId) -> Result<Option<(Answer, u64)>> {
        let state = self.present()?;
        let now = Instant::now();
        let stored = state.results.get(id).filter(|stored| stored.until > now);
        Ok(stored.and_then(|stored| {
            let answer = serde_json::from_slice(&stored.answer.json).ok()?;
            Some((answer, stored.until.duration_since(now).as_millis() as u64))
        }))
    }

    fn cancel(&mut self, id: &RequestId, _: Duration) -> Result<Found> {
        self.find_and_cancel(id)
    }

    fn dead(&mut self) -> Result<Vec<DeadEntry>> {
        self.entries()
    }

    fn retry_dead(&mut self, entry: &DeadEntry) -> Result<bool> {
        let Some(request) = entry.request_anew() else { return Ok(false) };
        if !self.delete_dead(entry)? {
            return Ok(false);
        }
        let element: Arc<[u8]> = Arc::from(request.into_bytes());
        let mut state = self.present()?;
        if entry.room().is_some()
            && let Some(id) = id_of(&element)
        {
            state.vouch(id, &element);
        }
        state.queues[0].push_back(element);
        drop(state);
        self.0.changed.notify_all();
        Ok(true)
    }

    fn delete_dead(&mut self, entry: &DeadEntry) -> Result<bool> {
        let mut state = self.present()?;
        let list = if entry.is_refused { &mut state.refused } else { &mut state.dead };
        let place = list.iter().position(|member| **member == *entry.member);
        Ok(place.and_then(|place| list.remove(place)).is_some())
    }

    fn begin_at(&mut self, _: &str, beginning: &Beginning) -> Result<()> {
        self.begin(std::slice::from_ref(beginning)).map(drop)
    }

    fn facts(&mut self) -> Result<Option<Facts>> {
        Ok(None)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::broker::Source;

    fn memory() -> Memory {
        Memory::new(Duration::from_secs(60))
    }

    fn id(text: &str) -> RequestId {
        RequestId::from_text(text).expect("it is an id")
    }

    #[test]
    fn what_waits_and_what_is_claimed_is_listed_and_found_by_its_id() {
        let mut memory = memory();
        memory.push(0, r#"{"id": "a", "func": "f"}"#);
        memory.push(0, r#"{"id": "b", "func": "g"}"#);
        assert_eq!(memory.claim(Source::Queue(0), 1, Duration::ZERO).expect("it is there").len(), 1);
        let jobs = Inspect::jobs(&mut memory, 9).expect("it is there");
        let seen: Vec<_> = jobs.iter().map(|job| (job.id.as_deref(), job.func.as_deref())).collect();
        assert_eq!(seen, [(Some("b"), Some("g")), (Some("a"), Some("f"))]);
        let Fate::Open(job) = memory.fate(&id("a")).expect("it is there") else { panic!("a has no verdict yet") };
        assert_eq!(job.stand, Stand::Taken { node: "memory".to_owned(), is_alive: true, since: None });
        assert_eq!(memory.fate(&id("c")), Ok(Fate::Unknown));
    }

    #[test]
    fn what_is_cancelled_while_it_waits_has_its_verdict() {
        let mut memory = memory();
        memory.push(0, r#"{"id": "a", "func": "f"}"#);
        assert_eq!(Inspect::cancel(&mut memory, &id("a"), Duration::ZERO), Ok(Found::Waiting));
        let Fate::Answered(answer, _) = memory.fate(&id("a")).expect("it is there") else { panic!("it is answered") };
        assert_eq!(answer.verdict().as_str(), "cancelled");
    }

    #[test]
    fn an_entry_of_the_dead_list_is_sent_again_without_its_past_and_once() {
        let mut memory = memory();
        let letter = r#"{"at": 1, "id": "a", "verdict": "error", "message": "m",
            "request": {"func": "f", "attempt": 3, "last_error": "m", "args": {"n": 1.50}}}"#;
        memory.state().bury(false, letter.into());
        let entry = Inspect::dead(&mut memory).expect("it is there").pop().expect("one is there");
        assert_eq!(memory.retry_dead(&entry), Ok(true));
        assert_eq!(memory.retry_dead(&entry), Ok(false));
        let sent = String::from_utf8(memory.queue(0).pop().expect("it waits")).expect("it is text");
        assert_eq!(sent, r#"{"func":"f","args":{"n":1.50},"id":"a"}"#);
    }
}
