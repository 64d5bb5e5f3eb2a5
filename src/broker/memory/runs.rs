//! Runs of cron entries in memory, and in a file where there is one to outlive the process.

use std::collections::{BTreeMap, HashMap};
use std::fs::{self, File};
use std::io::{self, BufRead, BufReader, Write};
use std::path::{Path, PathBuf};

use rustix::fs::{FlockOperation, flock};
use rustix::io::Errno;
use serde::{Deserialize, Serialize};

use crate::broker::{Begun, EntryMark, NewRun};
use crate::clock;
use crate::private;
use crate::protocol::{Occurrence, Run, RunOutcome, Verdict};

/// What is known of cron entries and their runs.
#[derive(Default)]
pub(super) struct Runs {
    /// By entry and instant.
    runs: HashMap<Box<str>, BTreeMap<Box<str>, Box<str>>>,
    marks: HashMap<String, EntryMark>,
    journal: Option<Journal>,
}

/// The file: one line for each change, the last one for an instant counts.
struct Journal {
    file: File,
    path: PathBuf,
    /// Names the entries that are paused, one in a line.
    paused: PathBuf,
    /// How many lines the file has.
    lines: usize,
    /// Held as long as we write there.
    _lock: File,
}

/// A line of the file.
#[derive(Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
enum Line {
    Run(Run),
    Mark { name: String, mark: EntryMark },
    Gone { name: String },
}

/// So many lines more than what they say needs, and the file is written anew.
const SPARE_LINES: usize = 10_000;

/// What the `node` of a run begins with that another program has run.
pub const BY_HAND: &str = "hand.";

/// The file with all runs, in the folder for what outlives a restart.
pub const JOURNAL: &str = "cron.jsonl";

/// Who holds a lock on this file writes the other one.
const LOCK: &str = "cron.lock";

const IS_TAKEN: &str = "another daemon has its records there; give each a state_dir of its own";

/// The file with the names of paused entries.
pub(super) const PAUSED: &str = "cron.paused";

impl Runs {
    /// From now on all is written to a file in `folder`, too; what is there is read first. What a daemon had begun that ended
    /// without a word is lost.
    pub(super) fn open(&mut self, folder: &Path) -> io::Result<()> {
        private::make_folder(folder)?;
        let lock = private::create(&folder.join(LOCK))?;
        flock(&lock, FlockOperation::NonBlockingLockExclusive).map_err(|errno| match errno {
            Errno::WOULDBLOCK => io::Error::new(io::ErrorKind::AlreadyExists, IS_TAKEN),
            errno => errno.into(),
        })?;
        let path = folder.join(JOURNAL);
        read_lines(&path, |line| self.take(line))?;
        let waiting = self.runs.values_mut().flat_map(BTreeMap::values_mut);
        for record in waiting {
            if let Ok(mut run) = serde_json::from_str::<Run>(record)
                && run.outcome == RunOutcome::Waiting
            {
                (run.outcome, run.verdict) = (RunOutcome::Ran, Some(Verdict::Lost));
                run.output = "the daemon ended before it had".to_owned();
                *record = run.to_json();
            }
        }
        let file = private::append(&path)?;
        self.journal = Some(Journal { file, path, paused: folder.join(PAUSED), lines: 0, _lock: lock });
        self.rewrite()
    }

    fn take(&mut self, line: Line) {
        match line {
            Line::Run(run) => {
                let (name, instant): (&str, &str) = (&run.occurrence.name, &run.occurrence.instant);
                self.runs.entry(name.into()).or_default().insert(instant.into(), run.to_json());
                if let Some(mark) = self.marks.get_mut(name) {
                    mark.last = mark.last.max(run.occurrence.at);
                }
            }
            Line::Mark { name, mark } => {
                let last = self.marks.get(&name).map_or(0, |mark| mark.last);
                self.marks.insert(name, EntryMark { last, ..mark });
            }
            Line::Gone { name } => self.forget(&name),
        }
    }

    fn forget(&mut self, name: &str) {
        self.marks.remove(name);
        self.runs.remove(name);
    }

    pub(super) fn begin(&mut self, run: &NewRun, keep: usize) -> Begun {
        let is_paused = run.request.is_some() && self.is_paused(&run.name);
        let record = if is_paused { &run.if_paused } else { &run.record };
        let runs = self.runs.entry(run.name.clone()).or_default();
        if runs.contains_key(&run.instant) {
            return Begun::Taken;
        }
        while runs.len() >= keep.max(1) {
            runs.pop_first();
        }
        runs.insert(run.instant.clone(), record.clone());
        if let Some(mark) = self.marks.get_mut(&*run.name).filter(|_| run.at != 0) {
            mark.last = run.at;
        }
        let line = format!("{{\"run\":{record}}}\n");
        self.write(&line);
        if is_paused { Begun::Paused } else { Begun::Sent }
    }

    pub(super) fn end(&mut self, name: &str, instant: &str, record: &str) {
        let Some(known) = self.runs.get_mut(name).and_then(|runs| runs.get_mut(instant)) else { return };
        *known = record.into();
        self.write(&format!("{{\"run\":{record}}}\n"));
    }

    pub(super) fn marks(&self) -> HashMap<String, EntryMark> {
        self.marks.clone()
    }

    pub(super) fn mark(&mut self, marks: &[(&str, EntryMark)], gone: &[&str]) {
        let mut text = String::new();
        for (name, mark) in marks {
            let last = self.marks.get(*name).map_or(0, |mark| mark.last);
            let line = Line::Mark { name: (*name).to_owned(), mark: mark.clone() };
            text += &(serde_json::to_string(&line).expect("a line is JSON") + "\n");
            self.marks.insert((*name).to_owned(), EntryMark { last, ..mark.clone() });
        }
        for name in gone {
            let line = Line::Gone { name: (*name).to_owned() };
            text += &(serde_json::to_string(&line).expect("a line is JSON") + "\n");
            self.forget(name);
        }
        self.write(&text);
    }

    /// The runs of `name` by their instants, the oldest first.
    pub(super) fn of(&self, name: &str) -> Vec<Box<str>> {
        self.runs.get(name).map(|runs| runs.values().cloned().collect()).unwrap_or_default()
    }

    /// The entries of which runs are on record.
    pub(super) fn names(&self) -> Vec<Box<str>> {
        self.runs.keys().cloned().collect()
    }

    /// The folder in which all is on record, where it is.
    pub(super) fn folder(&self) -> Option<PathBuf> {
        self.journal.as_ref()?.path.parent().map(Path::to_owned)
    }

    pub(super) fn are_some(&self) -> bool {
        self.runs.values().any(|runs| !runs.is_empty())
    }

    /// Takes out all runs that have their verdict.
    pub(super) fn take_ended(&mut self) -> Vec<Run> {
        let mut ended = Vec::new();
        for runs in self.runs.values_mut() {
            runs.retain(|_, record| match serde_json::from_str::<Run>(record) {
                Ok(run) if run.outcome != RunOutcome::Waiting => {
                    ended.push(run);
                    false
                }
                _ => true,
            });
        }
        self.runs.retain(|_, runs| !runs.is_empty());
        ended
    }

    pub(super) fn put_back(&mut self, runs: Vec<Run>) {
        for run in runs {
            let (name, instant): (&str, &str) = (&run.occurrence.name, &run.occurrence.instant);
            self.runs.entry(name.into()).or_default().insert(instant.into(), run.to_json());
        }
    }

    /// Writes down what is left after [`Runs::take_ended`], when what was taken is safe elsewhere.
    pub(super) fn forget_taken(&mut self) {
        let Some(journal) = &mut self.journal else { return };
        // Empty first: what is there would be read again.
        if let Err(error) = journal.file.set_len(0) {
            return log::error!("{}: {error}", journal.path.display());
        }
        if let Err(error) = self.rewrite() {
            log::error!("{error}");
        }
    }

    fn is_paused(&self, name: &str) -> bool {
        let Some(journal) = &self.journal else { return false };
        // Operators change it with another program.
        fs::read_to_string(&journal.paused).is_ok_and(|names| names.lines().any(|paused| paused == name))
    }

    fn write(&mut self, lines: &str) {
        let Some(journal) = &mut self.journal else { return };
        journal.lines += lines.lines().count();
        if let Err(error) = journal.file.write_all(lines.as_bytes()) {
            log::error!("{}: {error}; runs of cron are not on record until this is mended", journal.path.display());
        }
        let needed = self.marks.len() + self.runs.values().map(BTreeMap::len).sum::<usize>();
        if journal.lines > needed + SPARE_LINES
            && let Err(error) = self.rewrite()
        {
            log::error!("{error}; the file grows until this is mended");
        }
    }

    /// Writes what is known to a new file, which takes the place of the old one.
    fn rewrite(&mut self) -> io::Result<()> {
        let Some(path) = self.journal.as_ref().map(|journal| journal.path.clone()) else { return Ok(()) };
        // Somebody else may have put runs on record that were started by hand.
        read_lines(&path, |line| match line {
            Line::Run(run) if run.node.starts_with(BY_HAND) => self.take(Line::Run(run)),
            _ => {}
        })?;
        let Some(journal) = &mut self.journal else { return Ok(()) };
        let fresh = journal.path.with_extension("new");
        let mut text = String::new();
        for (name, mark) in &self.marks {
            let line = Line::Mark { name: name.clone(), mark: mark.clone() };
            text += &(serde_json::to_string(&line).expect("a line is JSON") + "\n");
        }
        for record in self.runs.values().flat_map(BTreeMap::values) {
            text += &format!("{{\"run\":{record}}}\n");
        }
        let mut file = private::create(&fresh)?;
        file.write_all(text.as_bytes())?;
        file.sync_all()?;
        fs::rename(&fresh, &journal.path)?;
        journal.file = private::append(&journal.path)?;
        journal.lines = text.lines().count();
        Ok(())
    }
}

/// Reads the lines of a file that may not be there. One that cannot be read, as a crash may leave at the end, is passed over.
fn read_lines(path: &Path, mut take: impl FnMut(Line)) -> io::Result<()> {
    let file = match File::open(path) {
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(()),
        file => file?,
    };
    for line in BufReader::new(file).split(b'\n') {
        if let Ok(line) = serde_json::from_slice(&line?) {
            take(line);
        }
    }
    Ok(())
}

/// The runs that are on record in `folder`, by entry, the oldest first.
pub fn read_runs(folder: &Path) -> io::Result<BTreeMap<String, Vec<Run>>> {
    let mut all: BTreeMap<String, BTreeMap<String, Run>> = BTreeMap::new();
    read_lines(&folder.join(JOURNAL), |line| match line {
        Line::Run(run) => {
            let Occurrence { name, instant, .. } = run.occurrence.clone();
            all.entry(name).or_default().insert(instant, run);
        }
        Line::Gone { name } => drop(all.remove(&name)),
        Line::Mark { .. } => {}
    })?;
    Ok(all.into_iter().map(|(name, runs)| (name, runs.into_values().collect())).collect())
}

/// Puts `run`, which was not a daemon's, on record in `folder`.
pub fn append_run(folder: &Path, run: &Run) -> io::Result<()> {
    private::make_folder(folder)?;
    let mut file = private::append(&folder.join(JOURNAL))?;
    file.write_all(format!("{{\"run\":{}}}\n", run.to_json()).as_bytes())
}

/// The names of the entries that are paused in `folder`.
pub fn read_paused(folder: &Path) -> io::Result<Vec<String>> {
    match fs::read_to_string(folder.join(PAUSED)) {
        Ok(names) => Ok(names.lines().map(str::to_owned).collect()),
        Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(Vec::new()),
        Err(error) => Err(error),
    }
}

/// Sets which entries are paused in `folder`, in one step.
pub fn write_paused(folder: &Path, names: &[String]) -> io::Result<()> {
    private::make_folder(folder)?;
    let fresh = folder.join(format!("{PAUSED}.new.{}", clock::now()));
    let text: String = names.iter().map(|name| format!("{name}\n")).collect();
    private::create(&fresh)?.write_all(text.as_bytes())?;
    fs::rename(&fresh, folder.join(PAUSED))
}
