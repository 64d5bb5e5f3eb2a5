//! What this process has claimed and not settled, to tell it from what only Redis knows of.
//!
//! When a connection breaks between a claim and its answer, elements are in the in-flight list that nobody works on. They
//! are found by comparing the list with this.
//!
//! Two requests can be equal to the last byte. So a claim is known by the place in memory where its element lies, which all copies of
//! the claim share and no other claim has; bytes are only compared with what Redis says.

use std::collections::{HashMap, HashSet};
use std::hash::{Hash, Hasher};
use std::sync::{Arc, Mutex, MutexGuard};

use crate::lock::Unpoisoned;

/// The elements of claims.
#[derive(Debug, Default)]
pub(super) struct Held(Mutex<HashSet<ByPlace>>);

/// An element that is equal to none but itself.
#[derive(Debug, Clone)]
struct ByPlace(Arc<[u8]>);

impl PartialEq for ByPlace {
    fn eq(&self, other: &Self) -> bool {
        Arc::ptr_eq(&self.0, &other.0)
    }
}

impl Eq for ByPlace {}

impl Hash for ByPlace {
    fn hash<H: Hasher>(&self, state: &mut H) {
        self.0.as_ptr().hash(state);
    }
}

impl Held {
    pub(super) fn add<'a>(&self, elements: impl Iterator<Item = &'a Arc<[u8]>>) {
        self.held().extend(elements.map(|element| ByPlace(Arc::clone(element))));
    }

    pub(super) fn remove<'a>(&self, elements: impl Iterator<Item = &'a Arc<[u8]>>) {
        let mut held = self.held();
        if held.is_empty() {
            return;
        }
        for element in elements {
            held.remove(&ByPlace(Arc::clone(element)));
        }
    }

    /// Whether just this claim of `element` is here.
    pub(super) fn has(&self, element: &Arc<[u8]>) -> bool {
        let held = self.held();
        !held.is_empty() && held.contains(&ByPlace(Arc::clone(element)))
    }

    /// Whether a claim of something equal to `element` is here.
    pub(super) fn holds(&self, element: &[u8]) -> bool {
        self.held().iter().any(|held| *held.0 == *element)
    }

    /// All that is here.
    pub(super) fn all(&self) -> Vec<Arc<[u8]>> {
        self.held().iter().map(|held| Arc::clone(&held.0)).collect()
    }

    /// Forgets all.
    pub(super) fn clear(&self) {
        self.held().clear();
    }

    fn held(&self) -> MutexGuard<'_, HashSet<ByPlace>> {
        self.0.lock().unpoisoned()
    }
}

/// Those of `listed` that are not among `held`, however often each is listed.
pub(super) fn unknown(held: &[Arc<[u8]>], listed: Vec<Vec<u8>>) -> Vec<Vec<u8>> {
    let mut counts = count(held.iter().map(|element| &**element));
    listed.into_iter().filter(|element| !take(&mut counts, element)).collect()
}

/// Those of `held` that are not among `listed`, however often each is held.
pub(super) fn missing<'a>(held: Vec<Arc<[u8]>>, listed: impl Iterator<Item = &'a Vec<u8>>) -> Vec<Arc<[u8]>> {
    let mut counts = count(listed.map(Vec::as_slice));
    held.into_iter().filter(|element| !take(&mut counts, element)).collect()
}

fn count<'a>(elements: impl Iterator<Item = &'a [u8]>) -> HashMap<&'a [u8], u32> {
    let mut counts = HashMap::new();
    elements.for_each(|element| *counts.entry(element).or_default() += 1);
    counts
}

/// Takes one away; tells whether there was one.
fn take(counts: &mut HashMap<&[u8], u32>, element: &[u8]) -> bool {
    match counts.get_mut(element) {
        Some(count) if *count > 0 => {
            *count -= 1;
            true
        }
        _ => false,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn element(text: &str) -> Arc<[u8]> {
        Arc::from(text.as_bytes())
    }

    fn texts(elements: &[&str]) -> Vec<Vec<u8>> {
        elements.iter().map(|text| text.as_bytes().to_vec()).collect()
    }

    #[test]
    fn claims_of_equal_elements_are_told_apart() {
        let (held, one, another) = (Held::default(), element("1"), element("1"));
        held.add([&one, &another].into_iter());
        held.remove([&one].into_iter());
        assert_eq!((held.has(&one), held.has(&another)), (false, true));
        // Once more is not one of the others.
        held.remove([&one].into_iter());
        assert!(held.has(&another) && held.holds(b"1"));
        held.clear();
        assert!(!held.holds(b"1"));
    }

    #[test]
    fn only_what_is_not_held_is_unknown_however_often_it_is_listed() {
        let held = [element("1"), element("2")];
        assert_eq!(unknown(&held, texts(&["1", "2", "2", "3"])), texts(&["2", "3"]));
    }

    #[test]
    fn only_what_is_not_listed_is_missing_however_often_it_is_held() {
        let held = vec![element("1"), element("2"), element("2"), element("3")];
        let missing = missing(held, texts(&["2", "1", "4"]).iter());
        assert_eq!(missing, [element("2"), element("3")]);
    }
}
