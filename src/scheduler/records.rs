//! What is on record of the entries of crontabs and of their runs: in the store of a broker, or in the file that one has left.

use std::collections::{BTreeMap, BTreeSet, HashMap};
use std::io;
use std::path::Path;
use std::time::Duration;

use serde::{Deserialize, Serialize};

use crate::broker::{Beginning, Bound, Fields, Following, Inspect, Memory, Result, Store, Unless};
use crate::clock;
use crate::effects::{Field, FieldValue, OnlyIf, Put, StoreKey};
use crate::protocol::{CRON, Occurrence, RequestId, Run, RunOutcome, Verdict};

/// What the keys begin with under which runs are kept.
const RUNS: &str = "CRON-RUNS-";

/// The runs of an entry that does not fire any more are kept so long, in seconds.
const RUNS_TTL: u64 = 400 * 24 * 60 * 60;

/// How far a clock may be ahead of ours and still be right.
const TOMORROW: Duration = Duration::from_hours(24);

/// Where the runs of the entry `name` are kept, by their instants.
pub(super) fn runs_key(name: &str) -> StoreKey {
    StoreKey::new(format!("{RUNS}{name}"))
}

/// What is known of entries, by their names.
fn entries_key() -> StoreKey {
    StoreKey::new("CRON-ENTRIES")
}

/// The last moment of each entry that is on record.
fn last_key() -> StoreKey {
    StoreKey::new("CRON-LAST")
}

/// The entries that are paused, and since when.
fn paused_key() -> StoreKey {
    StoreKey::new("CRON-PAUSED")
}

/// One instant of an entry that is to be begun, once over all daemons.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct NewRun {
    /// The entry.
    pub name: Box<str>,
    /// The instant, which no other of the entry is called.
    pub instant: Box<str>,
    /// Its moment, in milliseconds since 1970; 0 where the entry has none, or it was started by hand.
    pub at: u64,
    /// What is kept of it, as JSON.
    pub record: Box<str>,
    /// What is kept instead if the entry is paused.
    pub if_paused: Box<str>,
    /// Its request; `None`: it only has to be on record.
    pub request: Option<Box<str>>,
}

impl NewRun {
    /// The id of its request.
    pub fn id(&self) -> RequestId {
        Occurrence::id_of(&self.name, &self.instant)
    }

    /// How it is begun, so that about `keep` runs of its entry are kept. One of a paused entry is only put on record.
    pub(super) fn beginning(&self, keep: usize) -> Beginning {
        let if_paused = Unless { key: paused_key(), field: self.name.clone(), value: self.if_paused[..].into() };
        Beginning { unless: Some(if_paused), ..self.by_hand(keep) }
    }

    /// The same where somebody wants it to run now, paused or not.
    fn by_hand(&self, keep: usize) -> Beginning {
        let request = self.request.as_ref().map(|element| Following { id: self.id(), element: element.clone() });
        let last = Occurrence::instant_of(clock::now() + TOMORROW.as_millis() as u64);
        let at = Some(self.at).filter(|at| *at != 0);
        Beginning {
            room: CRON.into(),
            key: runs_key(&self.name),
            field: self.instant.clone(),
            value: self.record[..].into(),
            request,
            unless: None,
            note: at.map(|at| (last_key(), self.name.clone(), at.to_string().into())),
            bound: Bound { most: keep.max(1), last: last.into(), seconds: RUNS_TTL },
        }
    }

    /// Begins it now, paused or not, on the daemon with the id `node`.
    pub fn begin_at(&self, inspect: &mut dyn Inspect, node: &str) -> Result<()> {
        inspect.begin_at(node, &self.by_hand(usize::MAX / 2))
    }
}

/// What is known of an entry besides its runs.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default)]
pub(super) struct EntryMark {
    /// When it fires, and in which zone; with another, it counts as new.
    pub(super) schedule: String,
    /// Since when, in milliseconds since 1970.
    pub(super) since: u64,
    /// When a daemon last read it in a file, in milliseconds since 1970.
    pub(super) seen: u64,
    /// The last moment of it that is on record, in milliseconds since 1970; 0: none.
    #[serde(skip)]
    pub(super) last: u64,
}

/// What is known of entries, by their names. What cannot be read counts as new.
pub(super) fn marks(store: &dyn Store) -> Result<HashMap<String, EntryMark>> {
    let found = store.read(&[entries_key(), last_key()])?;
    let [entries, last] = &found[..] else { return Ok(HashMap::new()) };
    let last_of = |name: &str| last.get(name).and_then(FieldValue::as_text).and_then(|at| at.parse().ok()).unwrap_or(0);
    let mut marks = HashMap::new();
    for (name, mark) in entries {
        if let Ok(mark) = serde_json::from_slice::<EntryMark>(mark) {
            marks.insert(name.to_string(), EntryMark { last: last_of(name), ..mark });
        }
    }
    Ok(marks)
}

/// Notes `marks`, by their names, and forgets those in `gone`.
pub(super) fn mark(store: &dyn Store, marks: &[(String, EntryMark)], gone: &[String]) -> Result<()> {
    let text = |mark: &EntryMark| FieldValue::from(serde_json::to_string(mark).expect("a mark is JSON"));
    let set = marks.iter().map(|(name, mark)| Field { name: name.as_str().into(), value: Some(text(mark)) });
    let none = || gone.iter().map(|name| Field { name: name.as_str().into(), value: None });
    let put = |key: StoreKey, fields: Vec<Field>| Put { key, fields, only_if: OnlyIf::Always };
    let puts = [
        put(entries_key(), set.chain(none()).collect()),
        put(last_key(), none().collect()),
        put(paused_key(), none().collect()),
    ];
    store.put(&puts)?;
    store.forget(&gone.iter().map(|name| runs_key(name)).collect::<Vec<_>>())
}

/// The runs of the entry `name`, the oldest first.
pub fn runs(store: &dyn Store, name: &str) -> Result<Vec<Run>> {
    Ok(store.read(&[runs_key(name)])?.iter().flat_map(read).collect())
}

/// The same of all entries that daemons know, by their names.
pub fn all_runs(store: &dyn Store) -> Result<BTreeMap<String, Vec<Run>>> {
    let entries = store.read(&[entries_key()])?;
    let names: Vec<String> = entries.iter().flat_map(Fields::keys).map(ToString::to_string).collect();
    let keys: Vec<StoreKey> = names.iter().map(|name| runs_key(name)).collect();
    Ok(names.into_iter().zip(store.read(&keys)?.iter().map(read)).collect())
}

/// One run.
pub fn run(store: &dyn Store, name: &str, instant: &str) -> Result<Option<Run>> {
    let record = store.get(&runs_key(name), instant)?;
    Ok(record.and_then(|record| serde_json::from_slice(&record).ok()))
}

/// Since when the entry `name` is known, in milliseconds since 1970.
pub fn known_since(store: &dyn Store, name: &str) -> Result<Option<u64>> {
    let mark = store.get(&entries_key(), name)?;
    Ok(mark.and_then(|mark| serde_json::from_slice::<EntryMark>(&mark).ok()).map(|mark| mark.since))
}

/// The entries that are paused.
pub fn paused(store: &dyn Store) -> Result<BTreeSet<String>> {
    Ok(store.read(&[paused_key()])?.iter().flat_map(Fields::keys).map(ToString::to_string).collect())
}

/// Pauses the entry `name`, or lets it go on; tells whether that changed anything.
pub fn pause(store: &dyn Store, name: &str, is_paused: bool) -> Result<bool> {
    let put = if is_paused {
        Put::one(paused_key(), name, clock::now().to_string()).only_if(OnlyIf::Is(name.into(), None))
    } else {
        Put::none(paused_key(), name).only_if(OnlyIf::Exists(name.into()))
    };
    Ok(store.put(&[put])?.contains(&true))
}

/// Puts `run` on record, which was no daemon's, and its entry where no daemon knows it.
pub fn keep(store: &dyn Store, run: &Run) -> Result<()> {
    let Occurrence { name, instant, .. } = &run.occurrence;
    let now = clock::now();
    let mark = EntryMark { since: now, seen: now, ..EntryMark::default() };
    let mark = serde_json::to_string(&mark).expect("a mark is JSON");
    let is_new = OnlyIf::Is(name.as_str().into(), None);
    let record = String::from(run.to_json());
    store.put(&[
        Put::one(runs_key(name), instant.as_str(), record),
        Put::one(entries_key(), name.as_str(), mark).only_if(is_new),
    ])?;
    Ok(())
}

/// `run` as it is kept, if it still is.
pub(super) fn update(run: &Run) -> Put {
    let Occurrence { name, instant, .. } = &run.occurrence;
    let record = String::from(run.to_json());
    Put::one(runs_key(name), instant.as_str(), record).only_if(OnlyIf::Exists(instant.as_str().into()))
}

/// Records as runs, the oldest first. What cannot be read is left out.
fn read(records: &Fields) -> Vec<Run> {
    let mut runs: Vec<Run> = records.values().filter_map(|record| serde_json::from_slice(record).ok()).collect();
    runs.sort_by(|a, b| (a.occurrence.at, &a.occurrence.instant).cmp(&(b.occurrence.at, &b.occurrence.instant)));
    runs
}

/// Lets `memory` have what earlier daemons have put on record in `folder`. What one had begun that ended without a word is lost.
pub fn keep_in(memory: &Memory, folder: &Path) -> io::Result<()> {
    memory.keep_in(folder)?;
    let lost: Vec<Put> = of_memory(memory).filter(|run| run.outcome == RunOutcome::Waiting).map(lost).collect();
    memory.put(&lost).map(drop).map_err(|error| io::Error::other(error.to_string()))
}

fn lost(run: Run) -> Put {
    let output = "the daemon ended before it had".to_owned();
    update(&Run { outcome: RunOutcome::Ran, verdict: Some(Verdict::Lost), output, ..run })
}

/// Whether any run is on record in `memory`.
pub(super) fn are_some(memory: &Memory) -> bool {
    !memory.keys(RUNS).is_empty()
}

/// Those of them that have their verdict.
pub(super) fn ended(memory: &Memory) -> Vec<Run> {
    of_memory(memory).filter(|run| run.outcome != RunOutcome::Waiting).collect()
}

/// Takes `runs` out, as they are on record elsewhere.
pub(super) fn forget(memory: &Memory, runs: &[Run]) -> Result<()> {
    let gone = |run: &Run| Put::none(runs_key(&run.occurrence.name), run.occurrence.instant.as_str());
    memory.put(&runs.iter().map(gone).collect::<Vec<_>>()).map(drop)
}

fn of_memory(memory: &Memory) -> impl Iterator<Item = Run> {
    let all = memory.read(&memory.keys(RUNS)).unwrap_or_default();
    all.into_iter().flat_map(|records| read(&records))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::broker::{Begun, Work};

    fn memory() -> Memory {
        Memory::new(Duration::from_secs(60))
    }

    fn new_run(instant: &str, at: u64) -> NewRun {
        let occurrence = Occurrence { name: "a".to_owned(), instant: instant.to_owned(), at, ..Occurrence::default() };
        let record = |outcome| Run::without(occurrence.clone(), "n", outcome).to_json();
        NewRun {
            name: "a".into(),
            instant: instant.into(),
            at,
            record: record(RunOutcome::Waiting),
            if_paused: record(RunOutcome::Disabled),
            request: Some("{}".into()),
        }
    }

    fn outcomes(memory: &Memory) -> Vec<RunOutcome> {
        runs(memory, "a").expect("it is there").into_iter().map(|run| run.outcome).collect()
    }

    #[test]
    fn an_entry_that_is_paused_is_put_on_record_and_not_sent() {
        let memory = memory();
        assert_eq!(pause(&memory, "a", true), Ok(true));
        assert_eq!(pause(&memory, "a", true), Ok(false));
        assert_eq!(memory.begin(&[new_run("1", 1).beginning(9)]), Ok(vec![Begun::Withheld]));
        assert_eq!(pause(&memory, "a", false), Ok(true));
        assert_eq!(memory.begin(&[new_run("2", 2).beginning(9)]), Ok(vec![Begun::Sent]));
        assert_eq!(outcomes(&memory), [RunOutcome::Disabled, RunOutcome::Waiting]);
        assert_eq!(paused(&memory), Ok(BTreeSet::new()));
    }

    #[test]
    fn the_last_moment_of_an_entry_is_known_with_its_mark_until_it_is_gone() {
        let memory = memory();
        let known = EntryMark { schedule: "* * * * * UTC".to_owned(), since: 5, seen: 6, last: 0 };
        mark(&memory, &[("a".to_owned(), known.clone())], &[]).expect("it is there");
        memory.begin(&[new_run("1", 7).beginning(9)]).expect("it is there");
        assert_eq!(marks(&memory).expect("it is there")["a"], EntryMark { last: 7, ..known });
        assert_eq!(known_since(&memory, "a"), Ok(Some(5)));
        mark(&memory, &[], &["a".to_owned()]).expect("it is there");
        assert_eq!((marks(&memory), runs(&memory, "a")), (Ok(HashMap::new()), Ok(Vec::new())));
    }

    #[test]
    fn what_ended_elsewhere_is_forgotten_when_it_is_brought_in_and_what_waits_is_kept() {
        let memory = memory();
        memory.begin(&[new_run("1", 1).beginning(9), new_run("2", 2).beginning(9)]).expect("it is there");
        let first = run(&memory, "a", "1").expect("it is there").expect("it is kept");
        let ran = Run { outcome: RunOutcome::Ran, ..first };
        memory.put(&[update(&ran)]).expect("it is there");
        assert_eq!(ended(&memory), std::slice::from_ref(&ran));
        forget(&memory, &[ran]).expect("it is there");
        assert!(ended(&memory).is_empty() && are_some(&memory));
    }
}
