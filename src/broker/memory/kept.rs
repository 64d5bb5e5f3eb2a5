//! What rooms keep in memory, and in a file where it is to outlive the process.

use std::collections::HashMap;
use std::io;
use std::path::{Path, PathBuf};

use super::journal::{Change, JOURNAL, Journal};
use crate::broker::{Beginning, Begun, Fields};
use crate::effects::{Field, FieldValue, OnlyIf, Put, StoreKey};

/// All of it.
#[derive(Default)]
pub(super) struct Kept {
    keys: HashMap<StoreKey, Fields>,
    journal: Option<Journal>,
    /// Where that is opened when it is first needed.
    later: Option<PathBuf>,
}

impl Kept {
    /// What is kept in `folder`, to be looked at.
    pub(super) fn read(folder: &Path) -> io::Result<Self> {
        let mut kept = Kept::default();
        Journal::read(folder, |change| kept.apply(change))?;
        Ok(kept)
    }

    /// From now on all is written to a file in `folder`, too; what is there is read first.
    pub(super) fn open(&mut self, folder: &Path) -> io::Result<()> {
        self.journal = Some(Journal::open(folder, |change| self.apply(change))?);
        self.shorten();
        Ok(())
    }

    /// The same, but nothing is made in `folder` before there is something to keep.
    pub(super) fn open_later(&mut self, folder: &Path) -> io::Result<()> {
        if folder.join(JOURNAL).exists() {
            return self.open(folder);
        }
        self.later = Some(folder.to_owned());
        Ok(())
    }

    fn open_now(&mut self) {
        if let Some(folder) = self.later.take()
            && let Err(error) = self.open(&folder)
        {
            log::error!("{}: {error}; what is kept ends with this process", folder.display());
        }
    }

    /// All that is kept under `key`.
    pub(super) fn of(&self, key: &StoreKey) -> Fields {
        self.keys.get(key).cloned().unwrap_or_default()
    }

    /// The keys that begin with `beginning`.
    pub(super) fn keys(&self, beginning: &str) -> Vec<StoreKey> {
        let mut keys: Vec<StoreKey> =
            self.keys.keys().filter(|key| key.as_str().starts_with(beginning)).cloned().collect();
        keys.sort();
        keys
    }

    /// Does `puts`, and tells of each whether its condition held.
    pub(super) fn put(&mut self, puts: &[Put]) -> Vec<bool> {
        if puts.is_empty() {
            return Vec::new();
        }
        self.open_now();
        let mut changes = Vec::new();
        let held = puts.iter().map(|put| {
            let holds = self.holds(put);
            if holds {
                let change = Change::put(put);
                self.apply(change.clone());
                changes.push(change);
            }
            holds
        });
        let held = held.collect();
        self.write(&changes);
        held
    }

    /// Takes away all that is kept under `keys`.
    pub(super) fn forget(&mut self, keys: &[StoreKey]) {
        let changes: Vec<Change> = keys.iter().filter(|key| self.keys.contains_key(key)).map(Change::forget).collect();
        changes.iter().for_each(|change| self.apply(change.clone()));
        self.write(&changes);
    }

    /// What became of `beginning`, where it was begun before.
    pub(super) fn begun(&self, Beginning { key, field, value, .. }: &Beginning) -> Option<Begun> {
        let found = self.get(key, field)?;
        Some(if found == value { Begun::Sent } else { Begun::Taken })
    }

    /// Sets what `beginning` says, which was not begun before. Whether its request is sent is the caller's business.
    pub(super) fn begin(&mut self, beginning: &Beginning) -> Begun {
        let Beginning { key, field, value, request, unless, note, bound, .. } = beginning;
        let unless =
            unless.as_ref().filter(|unless| request.is_some() && self.get(&unless.key, &unless.field).is_some());
        let value = unless.map_or(value, |unless| &unless.value);
        let mut puts = vec![Put::one(key.clone(), field.clone(), value.clone())];
        puts.extend(note.as_ref().map(|(key, field, value)| Put::one(key.clone(), field.clone(), value.clone())));
        let old = self.keys.get(key).map_or_else(Vec::new, |fields| bound.excess(fields, field));
        if !old.is_empty() {
            let gone = old.into_iter().map(|name| Field { name, value: None });
            puts.push(Put { key: key.clone(), fields: gone.collect(), only_if: OnlyIf::Always });
        }
        let begun = if unless.is_some() { Begun::Withheld } else { Begun::Sent };
        self.put(&puts);
        begun
    }

    /// One field.
    pub(super) fn get(&self, key: &StoreKey, field: &str) -> Option<&FieldValue> {
        self.keys.get(key)?.get(field)
    }

    fn holds(&self, put: &Put) -> bool {
        match &put.only_if {
            OnlyIf::Always => true,
            OnlyIf::Exists(field) => self.get(&put.key, field).is_some(),
            OnlyIf::Is(field, value) => self.get(&put.key, field) == value.as_ref(),
        }
    }

    fn apply(&mut self, Change { key, set, is_forgotten }: Change) {
        if is_forgotten {
            self.keys.remove(&key);
        }
        if set.is_empty() {
            return;
        }
        let fields = self.keys.entry(key.clone()).or_default();
        for (name, value) in set {
            match value {
                Some(value) => drop(fields.insert(name, value)),
                None => drop(fields.remove(&name)),
            }
        }
        if fields.is_empty() {
            self.keys.remove(&key);
        }
    }

    fn write(&mut self, changes: &[Change]) {
        let Some(journal) = &mut self.journal else { return };
        journal.write(changes);
        self.shorten();
    }

    /// Writes what there is to a new file, which takes the place of the old one, where that has grown too long.
    fn shorten(&mut self) {
        let Some(journal) = self.journal.as_mut().filter(|journal| journal.is_too_long(self.keys.len())) else {
            return;
        };
        if let Err(error) = journal.rewrite(self.keys.iter().map(|(key, fields)| Change::all(key, fields))) {
            log::error!("{error}; the file grows until this is mended");
        }
    }
}

#[cfg(test)]
mod tests {
    use std::fs;

    use super::*;

    struct Scratch(PathBuf);

    impl Scratch {
        fn new() -> Self {
            Scratch(std::env::temp_dir().join(format!("cerbas-kept-{}", uuid::Uuid::new_v4())))
        }

        fn open(&self) -> Kept {
            let mut kept = Kept::default();
            kept.open(&self.0).expect("the folder is ours");
            kept
        }

        fn lines(&self) -> Vec<String> {
            let text = fs::read_to_string(self.0.join(JOURNAL)).expect("it is there");
            text.lines().map(str::to_owned).collect()
        }
    }

    impl Drop for Scratch {
        fn drop(&mut self) {
            // One that was never made cannot be removed.
            let _is_removed = fs::remove_dir_all(&self.0);
        }
    }

    fn key() -> StoreKey {
        StoreKey::new("T")
    }

    fn put(kept: &mut Kept, field: &str, value: &str) {
        assert_eq!(kept.put(&[Put::one(key(), field, value)]), [true]);
    }

    #[test]
    fn what_is_kept_is_there_again_after_the_process_with_what_was_taken_away_gone() {
        let scratch = Scratch::new();
        let mut kept = scratch.open();
        put(&mut kept, "a", "1");
        kept.put(&[Put::one(key(), "b", vec![0xff]), Put::none(key(), "a")]);
        kept.put(&[Put::one(StoreKey::new("U"), "c", "2")]);
        kept.forget(&[StoreKey::new("U")]);
        let expected = kept.of(&key());
        drop(kept);
        let again = scratch.open();
        assert_eq!(again.of(&key()), expected);
        assert_eq!(again.keys(""), [key()]);
    }

    #[test]
    fn a_step_of_which_a_crash_has_left_a_part_was_not_done_and_the_next_one_is() {
        let scratch = Scratch::new();
        let mut kept = scratch.open();
        put(&mut kept, "a", "1");
        kept.put(&[Put::one(key(), "a", "2"), Put::one(key(), "b", "2")]);
        drop(kept);
        let path = scratch.0.join(JOURNAL);
        let whole = fs::read(&path).expect("it is there");
        fs::write(&path, &whole[..whole.len() - 5]).expect("it is ours");
        let mut kept = scratch.open();
        assert_eq!((kept.get(&key(), "a"), kept.get(&key(), "b")), (Some(&"1".into()), None));
        put(&mut kept, "c", "3");
        drop(kept);
        assert_eq!(scratch.open().get(&key(), "c"), Some(&"3".into()));
    }

    #[test]
    fn the_file_belongs_to_one_and_others_can_only_read_it() {
        let scratch = Scratch::new();
        let mut kept = scratch.open();
        put(&mut kept, "a", "1");
        let refused = Kept::default().open(&scratch.0).expect_err("it is taken");
        assert_eq!(refused.kind(), io::ErrorKind::AlreadyExists);
        let mut read = Kept::read(&scratch.0).expect("it can be read");
        put(&mut read, "a", "2");
        drop(kept);
        assert_eq!(scratch.open().get(&key(), "a"), Some(&"1".into()));
    }

    #[test]
    fn nothing_is_made_before_there_is_something_to_keep() {
        let scratch = Scratch::new();
        let mut kept = Kept::default();
        kept.open_later(&scratch.0).expect("nothing is done yet");
        assert_eq!(kept.put(&[]), [false; 0]);
        assert!(!scratch.0.exists());
        put(&mut kept, "a", "1");
        assert_eq!(scratch.lines(), [r#"[{"key":"T","set":{"a":"1"}}]"#]);
        drop(kept);
        let mut next = Kept::default();
        next.open_later(&scratch.0).expect("the folder is ours");
        assert_eq!(next.get(&key(), "a"), Some(&"1".into()), "what is there is read at once");
    }

    #[test]
    fn the_file_is_written_anew_when_it_says_far_more_than_there_is() {
        let scratch = Scratch::new();
        let mut kept = scratch.open();
        for number in 0..10_005 {
            put(&mut kept, "a", &number.to_string());
        }
        assert!(scratch.lines().len() < 10, "{} lines", scratch.lines().len());
        assert_eq!(Kept::read(&scratch.0).expect("it can be read").get(&key(), "a"), Some(&"10004".into()));
        kept.put(&[Put::none(key(), "a")]);
        assert_eq!(scratch.lines(), [""; 0], "nothing is left of it");
    }
}
