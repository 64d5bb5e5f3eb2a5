//! Sends mail, by the program that every machine has for it.

use std::path::PathBuf;

use serde::Deserialize;

use super::{Body, Call, Command, CommandOptions, CommandStyle, ProcessOptions};
use crate::protocol::{Arguments, CallError, Outcome};

/// Gives its arguments `to`, `from`, `subject` and `text` to a `sendmail`.
pub struct SendMail {
    /// The program; it must understand `-i` and `-t`, as all that are called so do.
    pub program: PathBuf,
}

#[derive(Deserialize)]
struct Letter {
    to: String,
    from: Option<String>,
    subject: String,
    text: String,
}

/// How much of what the program says is kept, in bytes.
const MOST_OUTPUT: usize = 4096;

impl Body for SendMail {
    fn run(&self, call: &Call, args: Arguments) -> Outcome {
        let letter: Letter = args.to().map_err(|error| CallError::FailedForGood(format!("mail: {error}")))?;
        if let Some(fault) = self.fault() {
            return Err(CallError::FailedForGood(fault));
        }
        let program = Command::new(CommandOptions {
            argv: vec![self.program.to_string_lossy().into_owned(), "-i".to_owned(), "-t".to_owned()],
            process: ProcessOptions::default(),
            max_output: MOST_OUTPUT,
            style: CommandStyle::Job(letter.written()),
        });
        program.run(call, Arguments::new())
    }

    fn kind(&self) -> &'static str {
        "mail"
    }
}

impl SendMail {
    /// Why no mail can be sent at all, if the program is not there.
    pub fn fault(&self) -> Option<String> {
        let is_there = self.program.is_file();
        (!is_there).then(|| {
            format!(
                "{} is not there; install a mail server, or name it with sendmail in [cron]",
                self.program.display()
            )
        })
    }
}

impl Letter {
    /// As it is sent (RFC 5322).
    fn written(&self) -> String {
        // What is in a header must not begin another one.
        let line = |text: &str| -> String {
            let plain = text.chars().map(|character| if character.is_control() { ' ' } else { character });
            plain.take(900).collect()
        };
        let from = self.from.as_deref().map_or_else(String::new, |from| format!("From: {}\n", line(from)));
        format!(
            "{from}To: {}\nSubject: {}\nAuto-Submitted: auto-generated\nMIME-Version: 1.0\n\
             Content-Type: text/plain; charset=UTF-8\nContent-Transfer-Encoding: 8bit\n\n{}\n",
            line(&self.to),
            line(&self.subject),
            self.text
        )
    }
}

#[cfg(test)]
mod tests {
    use super::super::testing::{arguments, call, json};
    use super::*;

    #[test]
    fn a_letter_is_given_to_the_program_and_no_header_can_be_smuggled_in() {
        let folder = std::env::temp_dir().join(format!("cerbas-mail-{}", uuid::Uuid::new_v4()));
        std::fs::create_dir(&folder).unwrap();
        let program = folder.join("sendmail");
        std::fs::write(&program, "#!/bin/sh\necho \"$@\"; cat\n").unwrap();
        let executable = std::os::unix::fs::PermissionsExt::from_mode(0o755);
        std::fs::set_permissions(&program, executable).unwrap();
        let letter = json!({"to": "ops", "from": null, "subject": "Cron\nBcc: eve", "text": "one\ntwo"});
        let given = SendMail { program }.run(&call(), arguments(letter)).unwrap();
        std::fs::remove_dir_all(&folder).unwrap();
        let given = given.as_text().unwrap();
        assert!(given.starts_with("-i -t\nTo: ops\nSubject: Cron Bcc: eve\nAuto-Submitted"), "{given}");
        assert!(given.ends_with("\n\none\ntwo"), "{given}");
    }

    #[test]
    fn what_is_no_letter_is_not_tried_again() {
        let mail = SendMail { program: "/no/such".into() };
        assert!(matches!(mail.run(&call(), arguments(json!({"to": 1}))), Err(CallError::FailedForGood(_))));
        let letter = json!({"to": "a", "subject": "b", "text": "c"});
        let missing = mail.run(&call(), arguments(letter)).unwrap_err();
        let reason = "/no/such is not there; install a mail server, or name it with sendmail in [cron]";
        assert_eq!(missing, CallError::FailedForGood(reason.to_owned()));
    }
}
