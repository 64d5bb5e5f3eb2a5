//! What this process has claimed and not settled, to tell it from what only Redis knows of.
//!
//! When a connection breaks between a claim and its answer, elements are in the in-flight list that nobody works on. They
//! are found by comparing the list with this.

use std::collections::HashMap;
use std::sync::{Arc, Mutex, MutexGuard};

/// Elements, and how often each is held: the same number may stand in the queue twice.
#[derive(Debug, Default)]
pub(super) struct Held(Mutex<HashMap<Arc<[u8]>, u32>>);

impl Clone for Held {
    fn clone(&self) -> Self {
        Held(Mutex::new(self.held().clone()))
    }
}

impl Held {
    pub(super) fn add<'a>(&self, elements: impl Iterator<Item = &'a Arc<[u8]>>) {
        let mut held = self.held();
        for element in elements {
            *held.entry(Arc::clone(element)).or_default() += 1;
        }
    }

    pub(super) fn remove<'a>(&self, elements: impl Iterator<Item = &'a Arc<[u8]>>) {
        let mut held = self.held();
        for element in elements {
            match held.get_mut(element) {
                Some(count) if *count > 1 => *count -= 1,
                Some(_) => drop(held.remove(element)),
                None => {}
            }
        }
    }

    /// Whether `element` is held.
    pub(super) fn holds(&self, element: &[u8]) -> bool {
        self.held().contains_key(element)
    }

    /// Forgets all.
    pub(super) fn clear(&self) {
        self.held().clear();
    }

    /// Those of `listed` that are not held.
    pub(super) fn unknown(&self, listed: Vec<Vec<u8>>) -> Vec<Vec<u8>> {
        let mut held = self.held().clone();
        let mut is_unknown = |element: &Vec<u8>| match held.get_mut(element.as_slice()) {
            Some(count) if *count > 0 => {
                *count -= 1;
                false
            }
            _ => true,
        };
        listed.into_iter().filter(|element| is_unknown(element)).collect()
    }

    fn held(&self) -> MutexGuard<'_, HashMap<Arc<[u8]>, u32>> {
        self.0.lock().expect("nothing panics under this lock")
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_what_is_not_held_is_unknown_however_often_it_is_listed() {
        let held = Held::default();
        let element = |text: &str| Arc::<[u8]>::from(text.as_bytes());
        let (one, two) = (element("1"), element("2"));
        held.add([&one, &two, &two].into_iter());
        held.remove([&two].into_iter());

        let listed = ["1", "2", "2", "3"].map(|text| text.as_bytes().to_vec()).to_vec();
        assert_eq!(held.unknown(listed), [b"2".to_vec(), b"3".to_vec()]);
    }
}
