//! The plan of the house as a test: who may name whom, and what stays out altogether.

use std::collections::{BTreeMap, BTreeSet};
use std::fs;
use std::path::{Path, PathBuf};

/// Which top-level module may name which others, as `crate::other`. A row names only rows above it, so there is no
/// circle; rooms and doors (`intake`) name each other nowhere. A new name in a row is a decision about the architecture:
/// say why in the commit.
const MAY_NAME: &[(&str, &[&str])] = &[
    // Leaves.
    ("lock", &[]),
    ("children", &["lock"]),
    ("clock", &[]),
    ("private", &[]),
    ("accounts", &["children", "lock"]),
    ("protocol", &[]),
    // What the end of a request does besides: data.
    ("effects", &["protocol"]),
    ("thread", &["lock"]),
    ("signals", &["children", "lock", "thread"]),
    ("trust", &[]),
    ("outage", &["thread"]),
    ("said", &[]),
    ("refusals", &["lock", "said"]),
    // The road, from its end to its beginning.
    ("ledger", &["clock", "lock", "protocol"]),
    ("functions", &["accounts", "children", "effects", "lock", "protocol", "thread"]),
    ("dispatch", &["clock", "effects", "functions", "ledger", "lock", "protocol", "said", "thread"]),
    (
        "broker",
        &["accounts", "children", "clock", "effects", "lock", "outage", "private", "protocol", "said", "thread"],
    ),
    // What a room tells of its requests; the road asks it.
    ("errand", &["broker", "effects", "protocol"]),
    ("outbox", &["broker", "outage", "protocol", "refusals", "thread"]),
    ("heartbeat", &["broker", "outage", "protocol", "thread"]),
    ("control", &["broker", "dispatch", "outage", "thread"]),
    (
        "intake",
        &[
            "broker",
            "clock",
            "dispatch",
            "effects",
            "errand",
            "functions",
            "lock",
            "outage",
            "outbox",
            "protocol",
            "thread",
        ],
    ),
    // What they show over HTTP: words.
    ("pages", &["protocol"]),
    // Rooms beside it.
    ("cron", &["lock", "protocol", "trust"]),
    (
        "scheduler",
        &[
            "broker",
            "clock",
            "cron",
            "effects",
            "errand",
            "functions",
            "lock",
            "outage",
            "private",
            "protocol",
            "said",
            "thread",
        ],
    ),
    ("inspect", &["broker", "effects", "lock", "pages", "private", "protocol", "thread"]),
    // HTTP, one above the other: sockets, what goes to upstreams, what goes to functions.
    ("net", &["lock"]),
    ("proxy", &["lock", "net", "thread"]),
    (
        "gateway",
        &[
            "broker", "clock", "dispatch", "effects", "ledger", "lock", "net", "outage", "pages", "protocol", "proxy",
            "thread",
        ],
    ),
    // The house.
    ("client", &["broker", "clock", "protocol"]),
    ("config", &["cron", "functions", "gateway", "net", "pages", "protocol", "proxy", "trust"]),
    ("error", &["broker", "config"]),
    (
        "server",
        &[
            "broker",
            "client",
            "clock",
            "config",
            "control",
            "cron",
            "dispatch",
            "errand",
            "error",
            "functions",
            "gateway",
            "heartbeat",
            "inspect",
            "intake",
            "ledger",
            "lock",
            "outbox",
            "pages",
            "private",
            "protocol",
            "scheduler",
            "signals",
            "thread",
        ],
    ),
    ("cli", CLI),
    // For fuzzers only.
    ("fuzzing", &["cron", "net", "protocol", "proxy"]),
];

const CLI: &[&str] = &[
    "accounts",
    "broker",
    "client",
    "clock",
    "config",
    "cron",
    "error",
    "functions",
    "gateway",
    "inspect",
    "lock",
    "protocol",
    "scheduler",
    "server",
    "signals",
];

/// Crates that only some modules may name: what they are used for is decided there.
const CRATES: &[(&str, &[&str])] = &[
    ("redis", &["broker"]),
    ("clap", &["cli"]),
    ("signal_hook", &["signals"]),
    ("toml", &["config"]),
    ("ureq", &["config", "functions"]),
    ("rmp", &["protocol"]),
    ("rmp_serde", &["protocol"]),
    ("httparse", &["net"]),
    ("prometheus_client", &["gateway"]),
    ("ring", &["gateway"]),
];

/// The road: it serves rooms, and knows none.
const ROAD: [&str; 6] = ["broker", "intake", "dispatch", "outbox", "ledger", "control"];

/// What would tell that it knows one.
const ROOMS: [&str; 4] = ["cron", "workflow", "actor", "mail"];

/// Where the one `unsafe` block is.
const UNSAFE: &str = "children.rs";

/// Makes what nobody else may read.
const PRIVATE: &str = "private.rs";

/// What is done with a lock under which somebody has panicked.
const LOCK: &str = "lock.rs";

/// Opens files to read them.
const TRUST: &str = "trust.rs";

/// The only file that writes to the terminal.
const PRINTING: &str = "cli/output.rs";

/// Async runtimes and what they are made of.
const RUNTIMES: [&str; 11] = [
    "tokio",
    "async-std",
    "smol",
    "async-executor",
    "async-global-executor",
    "async-io",
    "futures-executor",
    "glommio",
    "monoio",
    "actix-rt",
    "embassy-executor",
];

/// One source file.
struct Source {
    /// From `src`, with `/`.
    path: String,
    /// The module that it is: `["broker", "redis", "claim"]`.
    module: Vec<String>,
    /// Its text without comments, and without what is in quotes.
    code: String,
}

impl Source {
    fn room(&self) -> &str {
        &self.module[0]
    }
}

#[test]
fn modules_name_only_those_they_may() {
    let mut faults = Vec::new();
    for (source, name) in names() {
        let may_name = row(source.room());
        if name != source.room() && !may_name.contains(&name.as_str()) {
            faults.push(format!("src/{}: {} must not name {name}", source.path, source.room()));
        }
    }
    assert!(faults.is_empty(), "{}", faults.join("\n"));
}

#[test]
fn no_permission_is_left_over() {
    let mut named: BTreeMap<String, BTreeSet<String>> = BTreeMap::new();
    for (source, name) in names() {
        named.entry(source.room().to_owned()).or_default().insert(name);
    }
    for (room, may_name) in MAY_NAME {
        for name in *may_name {
            let is_used = named.get(*room).is_some_and(|names| names.contains(*name));
            assert!(is_used, "{room} does not name {name} any more: take it out of the table");
        }
    }
}

#[test]
fn the_plan_has_no_circle() {
    let mut above = BTreeSet::new();
    for (room, may_name) in MAY_NAME {
        for name in *may_name {
            assert!(above.contains(name), "{room} names {name}, whose row is not above");
        }
        above.insert(room);
    }
}

#[test]
fn nobody_reaches_the_others_by_another_way() {
    for source in sources() {
        let (code, tests) = source.code.split_once("#[cfg(test)]\nmod tests {").unwrap_or((&source.code, ""));
        for (part, depth) in [(code, source.module.len()), (tests, source.module.len() + 1)] {
            let top = "super::".repeat(depth);
            assert!(!part.contains(&top), "src/{}: {top} is the crate; say crate:: instead", source.path);
        }
        assert!(words(&source.code, "cerbas").is_empty(), "src/{}: say crate:: instead of cerbas::", source.path);
    }
}

#[test]
fn crates_are_named_only_where_their_work_is_done() {
    for source in sources() {
        for (name, rooms) in CRATES {
            let is_named = words(&source.code, name).iter().any(|&at| {
                let (before, after) = (source.code[..at].trim_end(), &source.code[at + name.len()..]);
                !before.ends_with("::") && (after.starts_with("::") || before.ends_with("use"))
            });
            assert!(!is_named || rooms.contains(&source.room()), "src/{}: names the crate {name}", source.path);
        }
    }
}

#[test]
fn only_the_output_of_the_command_line_prints() {
    let ways = ["print!", "println!", "eprint!", "eprintln!", "dbg!", "stdout()", "stderr()"];
    for source in sources().iter().filter(|source| source.path != PRINTING) {
        for way in ways {
            // `.stdout()` is somebody else's: that of a child.
            let prints = words(&source.code, way).iter().any(|&at| !source.code[..at].ends_with('.'));
            assert!(!prints, "src/{}: {way} belongs in src/{PRINTING}", source.path);
        }
    }
}

#[test]
fn what_is_kept_is_made_for_its_owner_alone() {
    let ways = ["File::create", "OpenOptions", "fs::write", "create_dir", "create_dir_all", "DirBuilder"];
    // Scratch folders of the bench and of torture have nothing in them that anybody wants to hide.
    let is_scratch = |path: &str| path.starts_with("cli/bench/") || path.starts_with("cli/torture/");
    for source in sources().iter().filter(|source| ![PRIVATE, TRUST].contains(&&*source.path)) {
        let code = source.code.split("#[cfg(test)]").next().unwrap_or_default();
        let is_test = source.path.contains("tests") || source.path.ends_with("testing.rs");
        let found = ways.iter().find(|way| !words(code, way).is_empty());
        let may = is_test || is_scratch(&source.path);
        assert!(found.is_none() || may, "src/{}: {found:?}: say private::create, append or make_folder", source.path);
    }
}

#[test]
fn locks_are_taken_in_one_way() {
    let lock = |code: &str| {
        code.contains("PoisonError") || code.contains(".lock().expect(") || code.contains(".lock().unwrap(")
    };
    for source in sources().iter().filter(|source| source.path != LOCK) {
        let code = source.code.split("#[cfg(test)]").next().unwrap_or_default();
        let is_test = source.path.contains("tests") || source.path.ends_with("testing.rs");
        assert!(is_test || !lock(code), "src/{}: say .unpoisoned(), for the reason in src/{LOCK}", source.path);
    }
}

#[test]
fn there_is_one_unsafe_block() {
    for source in sources() {
        let most = usize::from(source.path == UNSAFE);
        let count = words(&source.code, "unsafe").len();
        assert!(count <= most, "src/{}: {count} times unsafe, {most} allowed", source.path);
    }
}

#[test]
fn there_is_no_async_runtime() {
    let lock = read(&root().join("Cargo.lock"));
    let packages: Vec<&str> =
        lock.lines().filter_map(|line| line.strip_prefix("name = \"")?.strip_suffix('"')).collect();
    assert!(packages.contains(&"cerbas"), "Cargo.lock is read as it should be");
    for runtime in RUNTIMES {
        assert!(!packages.contains(&runtime), "Cargo.lock: {runtime} is an async runtime");
    }
    for source in sources() {
        for word in ["async", "await"] {
            let is_used = words(&source.code, word).iter().any(|&at| !source.code[..at].ends_with("r#"));
            assert!(!is_used, "src/{}: {word}", source.path);
        }
    }
}

#[test]
fn no_word_of_a_room_stands_on_the_road() {
    for source in sources().iter().filter(|source| ROAD.contains(&source.room())) {
        // Comments and texts, too.
        for (number, line) in read(&root().join("src").join(&source.path)).lines().enumerate() {
            let mut words = line.split(|c: char| !c.is_ascii_alphanumeric()).map(str::to_ascii_lowercase);
            let known = words.find(|word| ROOMS.contains(&&**word));
            assert_eq!(known, None, "{}:{}: {line}", source.path, number + 1);
        }
    }
}

#[test]
fn this_test_reads_the_sources_as_it_should() {
    let code = strip("a // crate::b\nlet c = \"crate::d \\\" e\"; /* crate::f */ g('\"') r#\"crate::h\"# 'i \"j\"");
    assert_eq!(code, "a \nlet c = \"\";  g('') r#\"\"# 'i \"\"");
    assert_eq!(
        crate_names("use crate::a::{b, c}; crate::d::e() use crate::{f::g, h::{i, j}, k}; mycrate::l"),
        ["a", "d", "f", "h", "k"]
    );
    assert_eq!(words("unsafe_code unsafe {} in_unsafe", "unsafe"), [12]);
}

/// Every `crate::name` of every module, with the file that it is in.
fn names() -> Vec<(Source, String)> {
    let named = sources().into_iter().flat_map(|source| {
        let names = crate_names(&source.code);
        names.into_iter().map(move |name| {
            (Source { path: source.path.clone(), module: source.module.clone(), code: String::new() }, name)
        })
    });
    named.collect()
}

fn row(room: &str) -> &'static [&'static str] {
    let row = MAY_NAME.iter().find(|(name, _)| *name == room);
    row.unwrap_or_else(|| panic!("src/{room} is new: give it a row in tests/architecture.rs")).1
}

fn root() -> PathBuf {
    PathBuf::from(env!("CARGO_MANIFEST_DIR"))
}

fn read(path: &Path) -> String {
    fs::read_to_string(path).unwrap_or_else(|error| panic!("{}: {error}", path.display()))
}

/// All sources but `lib.rs` and `main.rs`, which put the modules together.
fn sources() -> Vec<Source> {
    let src = root().join("src");
    let mut folders = vec![src.clone()];
    let mut sources = Vec::new();
    while let Some(folder) = folders.pop() {
        let entries = fs::read_dir(&folder).unwrap_or_else(|error| panic!("{}: {error}", folder.display()));
        for entry in entries {
            let path = entry.expect("the folder can be read").path();
            if path.is_dir() {
                folders.push(path);
            } else if path.extension().is_some_and(|extension| extension == "rs") {
                let relative = path.strip_prefix(&src).expect("it is below src").with_extension("");
                let mut module: Vec<String> = relative.iter().map(|part| part.to_string_lossy().into_owned()).collect();
                module.pop_if(|last| last == "mod");
                let file = path.strip_prefix(&src).expect("it is below src").to_string_lossy().replace('\\', "/");
                if !["lib.rs", "main.rs"].contains(&file.as_str()) {
                    sources.push(Source { path: file, module, code: strip(&read(&path)) });
                }
            }
        }
    }
    assert!(sources.len() > 20, "the sources are where they should be");
    sources.sort_by(|a, b| a.path.cmp(&b.path));
    sources
}

/// `code` without comments, and with nothing between quotes.
fn strip(code: &str) -> String {
    let mut out = String::new();
    let mut rest = code;
    while let Some(first) = rest.chars().next() {
        if rest.starts_with("//") {
            rest = &rest[rest.find('\n').unwrap_or(rest.len())..];
        } else if rest.starts_with("/*") {
            rest = &rest[rest.find("*/").map_or(rest.len(), |at| at + 2)..];
        } else if let Some((quote, text)) = raw_quote(rest) {
            let closing = format!("\"{}", &quote[1..quote.len() - 1]);
            out.push_str(quote);
            out.push_str(&closing);
            rest = &text[text.find(&closing).map_or(text.len(), |at| at + closing.len())..];
        } else if first == '"' {
            out.push_str("\"\"");
            rest = after_quote(&rest[1..]);
        } else if let Some(length) = char_literal(rest) {
            out.push_str("''");
            rest = &rest[length..];
        } else {
            out.push(first);
            rest = &rest[first.len_utf8()..];
        }
    }
    out
}

/// The beginning of a raw text, `r#"`, and what follows.
fn raw_quote(code: &str) -> Option<(&str, &str)> {
    let hashes = code.strip_prefix('r')?;
    let text = hashes.trim_start_matches('#').strip_prefix('"')?;
    Some(code.split_at(code.len() - text.len()))
}

fn after_quote(text: &str) -> &str {
    let mut is_escaped = false;
    for (at, byte) in text.bytes().enumerate() {
        match byte {
            _ if is_escaped => is_escaped = false,
            b'\\' => is_escaped = true,
            b'"' => return &text[at + 1..],
            _ => {}
        }
    }
    ""
}

/// How long the character in quotes is that `code` begins with; a lifetime is none.
fn char_literal(code: &str) -> Option<usize> {
    let text = code.strip_prefix('\'')?;
    if let Some(escaped) = text.strip_prefix('\\') {
        return Some(3 + escaped[1..].find('\'')? + 1);
    }
    let character = text.chars().next()?;
    text[character.len_utf8()..].starts_with('\'').then_some(2 + character.len_utf8())
}

/// The top-level modules that `code` names: `crate::name` and those of `crate::{...}`.
fn crate_names(code: &str) -> Vec<String> {
    let mut names = Vec::new();
    for at in words(code, "crate") {
        let Some(rest) = code[at..].strip_prefix("crate::") else { continue };
        let Some(group) = rest.strip_prefix('{') else {
            names.push(first_word(rest));
            continue;
        };
        let mut depth = 0;
        let mut is_start = true;
        for (at, character) in group.char_indices() {
            match character {
                '}' if depth == 0 => break,
                '{' => depth += 1,
                '}' => depth -= 1,
                ',' if depth == 0 => is_start = true,
                _ if is_start && is_word(character) => {
                    names.push(first_word(&group[at..]));
                    is_start = false;
                }
                _ => {}
            }
        }
    }
    names
}

fn first_word(text: &str) -> String {
    text.chars().take_while(|&character| is_word(character)).collect()
}

fn is_word(character: char) -> bool {
    character.is_alphanumeric() || character == '_'
}

/// Where `word` stands in `code` as a whole word.
fn words(code: &str, word: &str) -> Vec<usize> {
    let is_whole = |at: usize| {
        let ends_inside = word.ends_with(is_word) && code[at + word.len()..].starts_with(is_word);
        !code[..at].ends_with(is_word) && !ends_inside
    };
    code.match_indices(word).map(|(at, _)| at).filter(|&at| is_whole(at)).collect()
}
