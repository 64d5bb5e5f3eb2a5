//! What is different after crontabs were read again. Pure.

use std::collections::HashMap;
use std::sync::Arc;

use crate::cron::Entry;

/// So many names are in one line of the log.
const MOST_NAMED: usize = 20;

/// What is different, in words.
pub(super) fn changes<'a>(old: &'a [Arc<Entry>], new: &'a [Arc<Entry>]) -> Vec<String> {
    let by_name = |entries: &'a [Arc<Entry>]| -> HashMap<&'a str, &'a Arc<Entry>> {
        entries.iter().map(|entry| (entry.name.as_str(), entry)).collect()
    };
    let (before, after) = (by_name(old), by_name(new));
    let is_same = |a: &Entry, b: &Entry| Entry { file: Arc::clone(&b.file), line: b.line, ..a.clone() } == *b;
    let is_changed = |entry: &&Arc<Entry>| before.get(&*entry.name).is_some_and(|old| !is_same(old, entry));
    let names = |entries: Vec<&Arc<Entry>>| {
        let some = entries.iter().take(MOST_NAMED).map(|entry| entry.name.as_str()).collect::<Vec<_>>().join(", ");
        match entries.len().saturating_sub(MOST_NAMED) {
            0 => some,
            more => format!("{some} and {more} more"),
        }
    };
    let added = new.iter().filter(|entry| !before.contains_key(&*entry.name)).collect();
    let removed = old.iter().filter(|entry| !after.contains_key(&*entry.name)).collect();
    let changed = new.iter().filter(is_changed).collect();
    let parts = [("added", names(added)), ("removed", names(removed)), ("changed", names(changed))];
    parts.into_iter().filter(|(_, names)| !names.is_empty()).map(|(what, names)| format!("{what} {names}")).collect()
}

pub(super) fn same_order(old: &[Arc<Entry>], new: &[Arc<Entry>]) -> bool {
    old.len() == new.len() && old.iter().zip(new).all(|(old, new)| old.name == new.name)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::cron::{Reading, Table};

    #[test]
    fn a_reload_says_what_is_different() {
        let read = |text: &str| -> Vec<Arc<Entry>> {
            let table = Table::read(text, &Reading { host: "web-1", ..Reading::default() });
            table.entries.into_iter().map(Arc::new).collect()
        };
        let old = read("#: name=a\n* * * * * a\n#: name=b\n* * * * * b\n#: name=c\n* * * * * c\n");
        let new = read("# moved\n#: name=a\n* * * * * a\n#: name=b\n1 * * * * b\n#: name=d\n* * * * * d\n");
        assert_eq!(changes(&old, &new), ["added d", "removed c", "changed b"]);
        assert!(changes(&old, &old).is_empty());
    }
}
