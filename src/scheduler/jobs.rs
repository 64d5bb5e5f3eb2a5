//! The functions that crontab entries call.

use std::path::Path;
use std::time::Duration;

use super::FAILURE;
use crate::cron::{Action, Command as CronCommand, Entry, OnFailure};
use crate::functions::{Command, CommandOptions, CommandStyle, Function, ProcessOptions, Retries, SendMail, Terms};
use crate::protocol::{CRON, CRON_FUNCTION, MAIL_FUNCTION};

/// How long a command may run where nothing is said: cron knows no limit, but what hangs must not hang for ever.
const TIMEOUT: Duration = Duration::from_hours(24);

/// The same for what runs from the start of the machine on, as daemons do: a century.
const NO_TIMEOUT: Duration = Duration::from_hours(100 * 366 * 24);

/// How long what follows on a failure may take.
const ON_FAILURE_TIMEOUT: Duration = Duration::from_mins(1);

/// How much of what a command prints is kept for its mail and its record, in bytes.
const MOST_OUTPUT: usize = 64 << 10;

/// What the environment of a crontab sets for cron, not for the command; and what it must not set.
const NOT_PASSED_ON: [&str; 4] = ["CRON_TZ", "LOGNAME", "USER", "MAILFROM"];

/// The functions of `entry`: one for its command, and one for the command that follows on a failure. Without a queue that outlives the
/// daemon, what still runs at its end is lost.
pub fn functions_of(entry: &Entry, has_queue: bool) -> Vec<Function> {
    let command = match &entry.action {
        Action::Command(command) => Some(command),
        Action::Request(_) => None,
    };
    let own = command.map(|command| {
        let usual = if entry.schedule.is_reboot() { NO_TIMEOUT } else { TIMEOUT };
        let timeout = entry.policies.timeout.unwrap_or(usual);
        let retries = Retries { count: entry.policies.retries.unwrap_or(0), ..Retries::default() };
        let style = CommandStyle::Job(command.stdin.clone());
        let terms = Terms { timeout, retries, ends_with_daemon: !has_queue, room: Some(CRON), ..Terms::default() };
        function(format!("{CRON_FUNCTION}{}", entry.name), terms, shell(&command.line, Some(command), style))
    });
    let on_failure = match &entry.policies.on_failure {
        Some(OnFailure::Command(line)) => {
            let terms = Terms { timeout: ON_FAILURE_TIMEOUT, room: Some(CRON), ..Terms::default() };
            let options = shell(line, command, CommandStyle::Call);
            Some(function(format!("{CRON_FUNCTION}{}{FAILURE}", entry.name), terms, options))
        }
        Some(OnFailure::Request(_)) | None => None,
    };
    own.into_iter().chain(on_failure).collect()
}

/// The function that sends mail.
pub fn mail(sendmail: &Path) -> Function {
    let terms = Terms { timeout: ON_FAILURE_TIMEOUT, room: Some(CRON), ..Terms::default() };
    Function { name: MAIL_FUNCTION.to_owned(), terms, body: Box::new(SendMail { program: sendmail.to_owned() }) }
}

fn function(name: String, terms: Terms, options: CommandOptions) -> Function {
    Function { name, terms, body: Box::new(Command::new(options)) }
}

/// `line` as the shell of `command` runs it, with the environment and as the user of that.
fn shell(line: &str, command: Option<&CronCommand>, style: CommandStyle) -> CommandOptions {
    let mut environment = command.map(|command| command.environment.clone()).unwrap_or_default();
    environment.retain(|name, _| !NOT_PASSED_ON.contains(&name.as_str()));
    let shell = environment.get("SHELL").filter(|shell| !shell.is_empty());
    let shell = shell.cloned().unwrap_or_else(|| "/bin/sh".to_owned());
    let user = command.and_then(|command| command.user.clone());
    let process = ProcessOptions { env: environment, user, is_job: true, ..ProcessOptions::default() };
    CommandOptions { argv: vec![shell, "-c".to_owned(), line.to_owned()], process, max_output: MOST_OUTPUT, style }
}
