//! What holds for an entry, beside when and what: the words of a line `#:` above it.

use std::time::Duration;

use jiff::tz::TimeZone;

use crate::protocol::Object;

/// What holds for one entry. `None`: what `[cron]` says.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Policies {
    /// What it is called.
    pub name: Option<String>,
    /// In which time zone its times are.
    pub zone: Option<Zone>,
    /// What happens when it is due while its last run goes on.
    pub overlap: Option<Overlap>,
    /// How long a run may take.
    pub timeout: Option<Duration>,
    /// What happens to times that nobody was there for.
    pub catchup: Option<Catchup>,
    /// It starts up to so much later; how much is always the same for one entry on one host.
    pub jitter: Option<Duration>,
    /// How often a run that fails is tried again.
    pub retries: Option<u32>,
    /// What is done when it fails.
    pub on_failure: Option<OnFailure>,
    /// It does not start later than so long after its time.
    pub expires: Option<Duration>,
    /// Whether it does not run at all.
    pub is_disabled: bool,
    /// The daemons that run it, by their names. `None`: any.
    pub nodes: Option<Vec<String>>,
}

impl Policies {
    /// These, and where they say nothing, `defaults`.
    pub(super) fn over(self, defaults: &Policies) -> Self {
        let defaults = defaults.clone();
        Policies {
            name: self.name,
            zone: self.zone.or(defaults.zone),
            overlap: self.overlap.or(defaults.overlap),
            timeout: self.timeout.or(defaults.timeout),
            catchup: self.catchup.or(defaults.catchup),
            jitter: self.jitter.or(defaults.jitter),
            retries: self.retries.or(defaults.retries),
            on_failure: self.on_failure.or(defaults.on_failure),
            expires: self.expires.or(defaults.expires),
            is_disabled: self.is_disabled,
            nodes: self.nodes.or(defaults.nodes),
        }
    }

    /// Sets the policy `key` to what `text` says; or why that cannot be.
    pub fn set(&mut self, key: &str, text: &str) -> Result<(), String> {
        set(self, key, Some(text))
    }
}

/// A time zone with its name.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Zone {
    /// As it was given, or as the system calls it.
    pub name: String,
    /// Its rules.
    pub rules: TimeZone,
}

impl Zone {
    /// That of the machine.
    pub fn local() -> Self {
        let rules = TimeZone::system();
        let name = rules.iana_name().unwrap_or("local").to_owned();
        Zone { name, rules }
    }
}

/// What happens when an entry is due while its last run goes on.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub enum Overlap {
    /// It does not run this time.
    #[default]
    Skip,
    /// It runs as soon as that has ended; no more than one waits.
    Queue,
    /// It runs beside it.
    Parallel,
    /// That one is cancelled.
    Replace,
}

/// What happens to times at which nobody was there.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub enum Catchup {
    /// What Debian's cron and cronie do: after a leap of the clock or a sleep of less than three hours, those that go by the time of the
    /// day run, each of them, and of less than five minutes all do; everything else is recorded as missed.
    #[default]
    Cron,
    /// Nothing; they are recorded as missed.
    Skip,
    /// It runs once for all of them.
    Once,
    /// It runs for each.
    All,
    /// It runs once, if the last of them is not longer ago than this.
    Within(Duration),
}

/// What is done when an entry fails.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum OnFailure {
    /// A request.
    Request(Object),
    /// A command line.
    Command(String),
}

const KEYS: [&str; 11] =
    ["name", "tz", "overlap", "timeout", "catchup", "jitter", "retries", "on_failure", "expires", "disabled", "nodes"];

/// So near to each other, as [`strsim::jaro`] sees it, are words of which one may be meant as the other.
const NEAR: f64 = 0.7;

const MAX_NAME_LENGTH: usize = 64;

/// The time zone called `name`; `local`: that of the machine.
pub(super) fn zone(name: &str) -> Result<Zone, String> {
    if name == "local" {
        return Ok(Zone::local());
    }
    let rules = TimeZone::get(name)
        .map_err(|_| format!("no time zone is called {name:?}; expected one such as Europe/Rome"))?;
    Ok(Zone { name: name.to_owned(), rules })
}

/// Reads the words `key=value` of one line into `policies`; a value with blanks stands in quotes. Gives back the faults with
/// their places.
pub(super) fn read(text: &str, policies: &mut Policies) -> Vec<(usize, String)> {
    let mut faults = Vec::new();
    for word in split(text) {
        let done = word.and_then(|(at, key, value)| {
            set(policies, key, value.as_deref()).map_err(|reason| (at, format!("{key}: {reason}")))
        });
        faults.extend(done.err());
    }
    faults
}

/// Whether there is a word in `text` that can be meant as a policy, well or badly written.
pub(super) fn are_some(text: &str) -> bool {
    let is_key =
        |key: &str| !key.is_empty() && key.bytes().all(|byte| byte.is_ascii_alphanumeric() || b"_-".contains(&byte));
    split(text).iter().any(|word| match word {
        Ok((_, key, Some(_))) => is_key(key),
        // A word of a remark is more often like another by chance.
        Ok((_, key, None)) => strsim::jaro(key, "disabled") > 0.85,
        Err(_) => true,
    })
}

type Word<'a> = (usize, &'a str, Option<String>);

/// The words of a line.
fn split(text: &str) -> Vec<Result<Word<'_>, (usize, String)>> {
    let mut words = Vec::new();
    let mut at = 0;
    while let Some(start) = text[at..].find(|character: char| !character.is_whitespace()).map(|blanks| at + blanks) {
        let rest = &text[start..];
        let key =
            &rest[..rest.find(|character: char| character == '=' || character.is_whitespace()).unwrap_or(rest.len())];
        let behind = &rest[key.len()..];
        let (length, value) = match behind.strip_prefix('=') {
            None => (key.len(), Ok(None)),
            Some(value) => {
                let (length, value) = read_value(value);
                (key.len() + 1 + length, value)
            }
        };
        words.push(match value {
            Ok(value) => Ok((start, key, value)),
            Err(reason) => Err((start, format!("{key}: {reason}"))),
        });
        at = start + length;
    }
    words
}

/// A value at the beginning of `text`, and how long it is there.
fn read_value(text: &str) -> (usize, Result<Option<String>, String>) {
    match text.chars().next() {
        Some(quote @ ('"' | '\'')) => match text[1..].find(quote) {
            Some(length) => (length + 2, Ok(Some(text[1..=length].to_owned()))),
            None => (text.len(), Err(format!("the quote {quote} is not closed"))),
        },
        _ => {
            let length = text.find(char::is_whitespace).unwrap_or(text.len());
            (length, Ok(Some(text[..length].to_owned())))
        }
    }
}

fn set(policies: &mut Policies, key: &str, value: Option<&str>) -> Result<(), String> {
    if key == "disabled" && value.is_none() {
        policies.is_disabled = true;
        return Ok(());
    }
    if !KEYS.contains(&key) {
        let nearest = KEYS.iter().max_by(|a, b| strsim::jaro(key, a).total_cmp(&strsim::jaro(key, b)));
        let known = nearest.filter(|near| strsim::jaro(key, near) > NEAR);
        return Err(match known {
            Some(known) => format!("unknown policy, did you mean {known}?"),
            None => format!("unknown policy, expected one of {}", KEYS.join(", ")),
        });
    }
    let value = value.filter(|value| !value.is_empty()).ok_or("a value is missing")?;
    match key {
        "name" => policies.name = Some(name(value)?),
        "tz" => policies.zone = Some(zone(value)?),
        "overlap" => policies.overlap = Some(overlap(value)?),
        "timeout" => policies.timeout = Some(duration(value)?),
        "catchup" => policies.catchup = Some(catchup(value)?),
        "jitter" => policies.jitter = Some(duration(value)?),
        "retries" => {
            let retries = value.parse().ok().filter(|retries| *retries <= 1000);
            policies.retries =
                Some(retries.ok_or_else(|| format!("expected a number from 0 to 1000, found {value:?}"))?);
        }
        "on_failure" => policies.on_failure = Some(on_failure(value)?),
        "expires" => policies.expires = Some(duration(value)?),
        "disabled" => {
            policies.is_disabled = match value {
                "true" | "yes" => true,
                "false" | "no" => false,
                _ => return Err(format!("expected true or false, found {value:?}")),
            };
        }
        "nodes" => policies.nodes = Some(value.split(',').map(name).collect::<Result<_, _>>()?),
        _ => unreachable!("it is one of the keys"),
    }
    Ok(())
}

fn name(text: &str) -> Result<String, String> {
    let is_plain = |character: char| character.is_ascii_alphanumeric() || "_.-".contains(character);
    if text.is_empty() || text.len() > MAX_NAME_LENGTH || !text.chars().all(is_plain) {
        return Err(format!("expected 1 to {MAX_NAME_LENGTH} characters out of A-Z a-z 0-9 _ . -, found {text:?}"));
    }
    Ok(text.to_owned())
}

fn duration(text: &str) -> Result<Duration, String> {
    let found = humantime::parse_duration(text).ok().filter(|duration| !duration.is_zero());
    found.ok_or_else(|| format!("expected a time such as \"90s\" or \"1h 30m\", found {text:?}"))
}

fn overlap(text: &str) -> Result<Overlap, String> {
    match text {
        "skip" => Ok(Overlap::Skip),
        "queue" => Ok(Overlap::Queue),
        "parallel" => Ok(Overlap::Parallel),
        "replace" => Ok(Overlap::Replace),
        _ => Err(format!("expected skip, queue, parallel or replace, found {text:?}")),
    }
}

fn catchup(text: &str) -> Result<Catchup, String> {
    match text {
        "cron" => Ok(Catchup::Cron),
        "skip" => Ok(Catchup::Skip),
        "once" => Ok(Catchup::Once),
        "all" => Ok(Catchup::All),
        _ => match text.strip_prefix("within=") {
            Some(limit) => Ok(Catchup::Within(duration(limit)?)),
            None => Err(format!("expected cron, skip, once, all or within=1h, found {text:?}")),
        },
    }
}

fn on_failure(text: &str) -> Result<OnFailure, String> {
    if !text.trim_start().starts_with('{') {
        return Ok(OnFailure::Command(text.to_owned()));
    }
    let request = serde_json::from_str(text).map_err(|error| format!("a request must be a JSON object: {error}"))?;
    Ok(OnFailure::Request(request))
}
