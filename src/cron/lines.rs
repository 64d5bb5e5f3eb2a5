//! The parts of one line of the file.

use super::fields::words;
use super::policies;
use crate::protocol::Object;

/// The first `count` words of `text`, and what comes behind the blanks that follow; `None` if there is nothing.
pub(super) fn cut(text: &str, count: usize) -> Option<(&str, &str)> {
    let (at, last) = words(text).nth(count - 1)?;
    let end = at + last.len();
    let rest = text[end..].trim_start_matches([' ', '\t']);
    (!rest.is_empty()).then(|| (&text[..end], rest))
}

/// Whether `line` is a comment; one that begins with `#:` is none if it has something that looks like a policy.
pub(super) fn is_remark(line: &str) -> bool {
    let line = line.trim_start_matches([' ', '\t']);
    match line.strip_prefix("#:") {
        Some(text) => !policies::are_some(text),
        None => line.starts_with('#'),
    }
}

/// How many words the schedule has that `entry` begins with.
pub(super) fn words_of_schedule(entry: &str) -> usize {
    match entry.split([' ', '\t']).next() {
        Some(nickname) if nickname.eq_ignore_ascii_case("@every") => 2,
        Some(nickname) if nickname.starts_with('@') => 1,
        _ => 5,
    }
}

/// The lines of one user's crontab as they stand in a system crontab: with the user behind the schedule.
pub fn with_user(text: &str, user: &str) -> Vec<String> {
    let line = |line: &str| {
        let entry = line.trim_start_matches([' ', '\t']);
        if entry.is_empty() || entry.starts_with('#') || assignment(entry).is_some() {
            return line.to_owned();
        }
        // What it begins with says that the line is not logged.
        let entry = entry.strip_prefix('-').unwrap_or(entry);
        match cut(entry, words_of_schedule(entry)) {
            // One that begins with `*` is a fault, and stays one.
            Some((schedule, command)) if !command.starts_with(['|', '*']) => format!("{schedule} {user} {command}"),
            _ => line.to_owned(),
        }
    };
    text.lines().map(line).collect()
}

/// `NAME = value`, if it is that: with quotes taken off that belong together (cronie's `env.c`).
pub(super) fn assignment(line: &str) -> Option<(String, String)> {
    let (name, value) = line.split_once('=')?;
    let name = unquoted(name.trim_matches([' ', '\t']));
    let is_name = !name.is_empty()
        && !name.starts_with(|first: char| first.is_ascii_digit())
        && name.chars().all(|character| character.is_ascii_alphanumeric() || character == '_');
    is_name.then(|| (name.to_owned(), unquoted(value.trim_matches([' ', '\t'])).to_owned()))
}

fn unquoted(text: &str) -> &str {
    let inner = |quote: char| text.strip_prefix(quote).and_then(|rest| rest.strip_suffix(quote));
    inner('"').or_else(|| inner('\'')).unwrap_or(text)
}

/// The command and its standard input: the first `%` ends the one, each further one is a line break; `\%` is a percent sign.
pub(super) fn percent(text: &str) -> (String, String) {
    let mut parts = [String::new(), String::new()];
    let mut is_input = false;
    let mut characters = text.chars().peekable();
    while let Some(character) = characters.next() {
        match character {
            '\\' if characters.peek() == Some(&'%') => parts[usize::from(is_input)].extend(characters.next()),
            '%' if is_input => parts[1].push('\n'),
            '%' => is_input = true,
            other => parts[usize::from(is_input)].push(other),
        }
    }
    let [line, mut stdin] = parts;
    // As cron does, so that it is a line.
    if is_input && !stdin.ends_with('\n') {
        stdin.push('\n');
    }
    (line, stdin)
}

pub(super) fn request(json: &str) -> Result<Object, (usize, String)> {
    let request: Object = serde_json::from_str(json).map_err(|error| {
        let text = error.to_string();
        // Its own place is that within the request.
        let reason = text.split(" at line ").next().unwrap_or_default();
        (error.column().saturating_sub(1), format!("a request must be a JSON object: {reason}"))
    })?;
    let has_func = request.text("func").is_some_and(|func| !func.is_empty());
    if !has_func {
        return Err((0, "the request has no func".to_owned()));
    }
    // What cron decides itself.
    if let Some(field) = ["id", "delay", "sent_at", "reply"].into_iter().find(|field| request.contains(field)) {
        return Err((0, format!("{field}: a request of cron must not have this field")));
    }
    Ok(request)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn lines_of_a_user_get_the_user_behind_the_schedule() {
        let text = "# backup\nMAILTO=tom\n\n#: name=a\n  */5 1 * *\tmon-fri  echo a  b % c\n@daily x\n@every 90s y\n1 2 * * * | {}\n* * * * * * z\n1 2 3\n";
        let expected = [
            "# backup",
            "MAILTO=tom",
            "",
            "#: name=a",
            "*/5 1 * *\tmon-fri tom echo a  b % c",
            "@daily tom x",
            "@every 90s tom y",
            "1 2 * * * | {}",
            "* * * * * * z",
            "1 2 3",
        ];
        assert_eq!(with_user(text, "tom"), expected);
    }
}
