//! Where one daemon claims from, and under which names that stands in Redis.

use super::RedisOptions;
use crate::broker::Source;

/// All sources of one daemon. A source is found by its place.
#[derive(Debug)]
pub(super) struct Sources {
    queues: Vec<Queue>,
}

#[derive(Debug)]
struct Queue {
    key: String,
    suffix: String,
    /// The queues that go first, where the order is strict.
    above: Vec<String>,
}

impl Sources {
    pub(super) fn new(options: &RedisOptions) -> Self {
        let keys = &options.keys;
        let [usual, old] = keys.queues();
        let terms = |number: usize| &options.queues[number.saturating_sub(1)];
        let mut queues = vec![(usual, String::new()), (old, ".1".to_owned())];
        queues.extend(options.queues.iter().skip(1).map(|queue| {
            let name = &queue.name;
            (keys.named_queue(name), format!(".queue.{name}"))
        }));
        let above = |number: usize| {
            let goes_first = |other: &usize| options.is_strict && terms(*other).priority > terms(number).priority;
            (0..queues.len()).filter(goes_first).map(|other| queues[other].0.clone()).collect()
        };
        let above: Vec<Vec<String>> = (0..queues.len()).map(above).collect();
        let queues = queues.into_iter().zip(above).map(|((key, suffix), above)| Queue { key, suffix, above });
        Sources { queues: queues.collect() }
    }

    /// How many there are.
    pub(super) fn len(&self) -> usize {
        self.queues.len() + 2
    }

    pub(super) fn all(&self) -> Vec<Source> {
        (0..self.queues.len()).map(Source::Queue).chain([Source::Delayed, Source::Inbox]).collect()
    }

    pub(super) fn place(&self, source: Source) -> usize {
        match source {
            Source::Queue(number) => number,
            Source::Delayed => self.queues.len(),
            Source::Inbox => self.queues.len() + 1,
        }
    }

    /// What the in-flight lists end with, by place.
    pub(super) fn suffixes(&self) -> impl Iterator<Item = &str> {
        self.queues.iter().map(|queue| queue.suffix.as_str()).chain([".delayed", ".inbox"])
    }

    /// The key of a queue.
    pub(super) fn key(&self, number: usize) -> &str {
        &self.queues[number].key
    }

    /// The queues that must be empty before one is served.
    pub(super) fn above(&self, number: usize) -> &[String] {
        &self.queues[number].above
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::*;
    use crate::broker::{QueueTerms, Target};
    use crate::protocol::keys::Keys;

    fn sources(is_strict: bool) -> Sources {
        let queue = |name: &str, priority| QueueTerms { name: name.to_owned(), priority, max_length: None };
        Sources::new(&RedisOptions {
            target: Target::new("redis://127.0.0.1", None, None).expect("a URL"),
            keys: Keys::new("C", 0),
            node: "n".to_owned(),
            result_ttl: Duration::ZERO,
            lease: Duration::ZERO,
            max_deliveries: 1,
            queues: vec![queue("default", 2), queue("urgent", 3), queue("low", 1)],
            is_strict,
            longest: 1 << 20,
        })
    }

    #[test]
    fn in_strict_order_those_of_higher_priority_go_first_and_the_old_name_is_like_the_new_one() {
        let sources = sources(true);
        let above: Vec<&[String]> = (0..4).map(|number| sources.above(number)).collect();
        let usual = ["C-QUEUE-urgent"].as_slice();
        assert_eq!(above, [usual, usual, &[], &["C-QUEUE", "C_QUEUE", "C-QUEUE-urgent"]]);
    }

    #[test]
    fn without_strict_order_nobody_goes_first() {
        let sources = sources(false);
        assert!((0..4).all(|number| sources.above(number).is_empty()));
        let suffixes: Vec<&str> = sources.suffixes().collect();
        assert_eq!(suffixes, ["", ".1", ".queue.urgent", ".queue.low", ".delayed", ".inbox"]);
        assert_eq!(sources.all().len(), sources.len());
    }
}
