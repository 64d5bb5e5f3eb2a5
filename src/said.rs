//! What comes again and again is said once, and then now and then with its count. Pure: `now` is an argument.

use std::time::{Duration, Instant};

/// What was said is said again after so long.
const AGAIN: Duration = Duration::from_secs(60);

/// Things that were said, at most `MOST` of them: some hold what strangers have written.
#[derive(Debug, Default)]
pub(crate) struct Said<const MOST: usize>(Vec<Thing>);

#[derive(Debug)]
struct Thing {
    text: String,
    at: Instant,
    /// How often it came since.
    since: u64,
}

impl<const MOST: usize> Said<MOST> {
    /// `text` has come at `now`. When it is to be said: how often it came since it was said last.
    pub(crate) fn note(&mut self, text: &str, now: Instant) -> Option<u64> {
        if let Some(thing) = self.0.iter_mut().find(|thing| thing.text == text) {
            if now.saturating_duration_since(thing.at) < AGAIN {
                thing.since += 1;
                return None;
            }
            thing.at = now;
            return Some(std::mem::take(&mut thing.since));
        }
        if self.0.len() == MOST {
            self.0.retain(|thing| now.saturating_duration_since(thing.at) < AGAIN);
        }
        if self.0.len() == MOST {
            return None;
        }
        self.0.push(Thing { text: text.to_owned(), at: now, since: 0 });
        Some(0)
    }
}

/// `text` as it can stand in the log, whoever has written it: at most `longest` characters, and nothing that could steer a terminal.
pub(crate) fn tidy(text: &str, longest: usize) -> String {
    text.chars().take(longest).map(|c| if c.is_control() { '\u{fffd}' } else { c }).collect()
}

/// What is said of a thing that came `before` times since it was said last.
pub(crate) fn times(before: u64) -> String {
    if before == 0 { String::new() } else { format!(", and {before} times more since it was said") }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_thing_is_said_once_and_again_after_a_while_with_its_count() {
        let (mut said, now) = (Said::<16>::default(), Instant::now());
        assert_eq!(said.note("a", now), Some(0));
        assert_eq!((said.note("a", now), said.note("a", now)), (None, None));
        assert_eq!(said.note("b", now), Some(0));
        assert_eq!(said.note("a", now + AGAIN), Some(2));
        assert_eq!((times(0), times(2)), (String::new(), ", and 2 times more since it was said".to_owned()));
    }

    #[test]
    fn however_many_things_there_are_few_are_kept() {
        let (mut said, now) = (Said::<16>::default(), Instant::now());
        let count = (0..1000).filter(|number| said.note(&format!("thing {number}"), now).is_some()).count();
        assert_eq!((count, said.0.len()), (16, 16));
        assert_eq!(said.note("later", now + AGAIN), Some(0));
    }
}
