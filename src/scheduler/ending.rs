//! What is kept of the run of a cron entry, and what follows on it. Pure but for the log.

use std::time::Duration;

use serde::Deserialize;
use serde_json::json;

use super::records::update;
use crate::broker::IfHeld;
use crate::effects::{Effects, Sending, To};
use crate::errand::{Ending, Errand, Exclusion, Room};
use crate::protocol::{
    CRON, CRON_FUNCTION, CallError, MAIL_FUNCTION, Mail, Object, Occurrence, OnDuplicate, Request, RequestId, Run,
    RunOutcome, Scheduled, Verdict, tail,
};
use crate::said::tidy;

/// So much of why a mail was not sent is kept, in characters.
const LONGEST_REASON: usize = 300;

/// The room of cron: what its requests are for.
pub struct CronRoom;

impl Room for CronRoom {
    fn name(&self) -> &'static str {
        CRON
    }

    fn errand(&self, request: &Request) -> Option<Box<dyn Errand>> {
        if request.func == MAIL_FUNCTION {
            return Some(Box::new(MailOfRun));
        }
        let ticket = request.ticket.as_ref()?;
        match ticket.value.to::<Scheduled>() {
            Ok(scheduled) => Some(Box::new(scheduled)),
            Err(error) => {
                log::error!("cron: {}: its ticket cannot be read: {error}", request.id);
                None
            }
        }
    }
}

impl Errand for Scheduled {
    fn account(&self) -> Option<Box<str>> {
        Some(format!("{CRON_FUNCTION}{}", self.occurrence.name).into())
    }

    fn exclusion(&self) -> Option<Exclusion> {
        let its_turn = match self {
            Scheduled { in_turn: true, .. } => Some(IfHeld::Waits { most: usize::MAX }),
            Scheduled { waits: true, .. } => Some(IfHeld::Waits { most: 1 }),
            _ => None,
        };
        let alone = self.alone.map(|alone| match alone {
            OnDuplicate::Reject => IfHeld::Rejected,
            OnDuplicate::Replace => IfHeld::Replaces,
        });
        let if_held = its_turn.or(alone)?;
        Some(Exclusion { key: self.occurrence.name.as_str().into(), if_held, is_for_every_key: its_turn.is_some() })
    }

    fn is_buried(&self, verdict: Verdict) -> bool {
        // What became of it is kept with its entry.
        !matches!(verdict, Verdict::Error | Verdict::Timeout | Verdict::Expired)
    }

    fn ended(&self, ending: &Ending<'_>) -> Effects {
        ended(self, ending)
    }
}

/// The mail of a run.
struct MailOfRun;

impl Errand for MailOfRun {
    fn is_buried(&self, _: Verdict) -> bool {
        // That is kept with the run. Where no mail can be sent, it would push everything else off the list.
        false
    }

    fn ended(&self, ending: &Ending<'_>) -> Effects {
        let failed = (ending.verdict != Verdict::Ok)
            .then(|| not_mailed(ending.request, ending.verdict, ending.message))
            .flatten();
        failed.map(|run| Effects { put: vec![update(&run)], ..Effects::default() }).unwrap_or_default()
    }
}

fn ended(scheduled: &Scheduled, ending: &Ending<'_>) -> Effects {
    let occurrence = &scheduled.occurrence;
    let outcome = match ending.verdict {
        Verdict::Expired => RunOutcome::Expired,
        Verdict::Rejected if ending.message == CallError::Duplicate.to_string() => RunOutcome::SkippedOverlap,
        _ if occurrence.is_shifted => RunOutcome::DstShifted,
        _ => RunOutcome::Ran,
    };
    let has_failed = ending.verdict != Verdict::Ok;
    let record = Run {
        occurrence: occurrence.clone(),
        outcome,
        verdict: Some(ending.verdict),
        node: ending.node.to_owned(),
        started: ending.started,
        ended: Some(ending.ended),
        attempts: ending.attempts,
        output: tail(ending.message, has_failed),
        unmailed: None,
    };
    log_end(&record);
    let mut follow = Vec::new();
    let mut send = |suffix: &str, mut request: Object| {
        let id = format!("{}-{suffix}", occurrence.id());
        request.insert("id", &*id);
        request.insert("reply", false);
        let element = request.to_json().into_bytes().into();
        follow.push(Sending { id: RequestId::Text(id.into()), element, to: To::Here, room: Some(CRON) });
    };
    // That a run was skipped is what the operator has asked for.
    if outcome != RunOutcome::SkippedOverlap {
        if let Some(then) = scheduled.on_failure.as_ref().filter(|_| has_failed) {
            send("failure", on_failure(then, &record));
        }
        let is_said = has_failed || !ending.message.is_empty();
        if let Some(to) = scheduled.mail.as_ref().filter(|_| is_said) {
            send("mail", mail(to, &record, ending.message));
        }
    }
    Effects { put: vec![update(&record)], send: follow, dead: None }
}

/// One line for each run, as cron has it.
fn log_end(run: &Run) {
    let Run { occurrence, outcome, verdict, .. } = run;
    let (name, local) = (&occurrence.name, &occurrence.local);
    let took = run.ended.zip(run.started).map(|(ended, started)| Duration::from_millis(ended.saturating_sub(started)));
    let took = took.map_or_else(String::new, |took| format!(" after {}", humantime::format_duration(took)));
    match verdict {
        Some(Verdict::Ok) => log::info!("cron: {name}@{local}: ok{took}"),
        Some(verdict) if matches!(outcome, RunOutcome::Ran | RunOutcome::DstShifted) => {
            // How it ended, and the last that it said: most often that is why.
            let mut lines = run.output.lines().map(str::trim).filter(|line| !line.is_empty());
            // Of one that was cut off the first line is the verdict once more.
            let why = lines.next().filter(|why| *why != verdict.as_str());
            let said: String = why.into_iter().chain(lines.next_back()).map(|said| format!(": {said}")).collect();
            let said = said.replace(char::is_control, "\u{fffd}");
            log::warn!(
                entry = name.as_str(), verdict = verdict.as_str();
                "cron: {name}@{local}: {verdict}{took}{said}"
            );
        }
        _ => log::info!("cron: {name}@{local}: {outcome}"),
    }
}

/// The request `then`, told what has failed.
fn on_failure(then: &Object, run: &Run) -> Object {
    let mut request = then.clone();
    let mut args: Object = request.get("args").and_then(|args| args.to().ok()).unwrap_or_default();
    let failure = json!({
        "name": run.occurrence.name,
        "at": run.occurrence.local,
        "zone": run.occurrence.zone,
        "outcome": run.outcome,
        "verdict": run.verdict,
        "message": run.output,
    });
    args.insert("failure", failure);
    request.insert("args", args);
    request
}

fn mail(to: &Mail, run: &Run, message: &str) -> Object {
    let verdict = run.verdict.map_or("", Verdict::as_str);
    let subject = if verdict == Verdict::Ok.as_str() { String::new() } else { format!(" ({verdict})") };
    let mut request = Object::new();
    request.insert("func", MAIL_FUNCTION);
    request.insert("source", "cron");
    request.insert("retries", 3);
    let subject = format!("Cron {}{subject}", to.subject);
    let text = json!({"to": to.to, "from": to.from, "subject": subject, "text": message, "run": run});
    request.insert("args", text);
    request
}

/// The record of the run whose mail is in `request` and was not sent for `reason`. That is told here, once.
fn not_mailed(request: &[u8], verdict: Verdict, reason: &str) -> Option<Run> {
    #[derive(Deserialize)]
    struct MailRequest {
        func: String,
        args: Letter,
    }
    #[derive(Deserialize)]
    struct Letter {
        to: String,
        run: Run,
    }
    let MailRequest { func, args: Letter { to, mut run } } = serde_json::from_slice(request).ok()?;
    if func != MAIL_FUNCTION {
        return None;
    }
    let reason = if reason.is_empty() { verdict.as_str() } else { reason.trim() };
    // How it ended, and the last that the program said.
    let mut lines = reason.lines();
    let said: Vec<&str> = lines.next().into_iter().chain(lines.next_back()).collect();
    let reason = tidy(&said.join(": "), LONGEST_REASON);
    let Occurrence { name, local, .. } = &run.occurrence;
    log::warn!(entry = name.as_str(); "cron: {name}@{local}: its mail to {} was not sent: {reason}", tidy(&to, LONGEST_REASON));
    run.unmailed = Some(reason);
    Some(run)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn scheduled() -> Scheduled {
        let occurrence = Occurrence {
            name: "backup".to_owned(),
            instant: "20261120T010000Z".to_owned(),
            local: "2026-11-20T02:00".to_owned(),
            ..Occurrence::default()
        };
        let then = json!({"func": "notify", "args": {"to": "ops"}});
        let mail = Mail { to: "root".to_owned(), from: None, subject: "<root@web-1> backup".to_owned() };
        let on_failure = then.as_object().cloned().map(Object::from);
        Scheduled { occurrence, on_failure, mail: Some(mail), ..Scheduled::default() }
    }

    fn end(verdict: Verdict, message: &str) -> (Run, Vec<serde_json::Value>) {
        let (node, started) = ("web-1.7", Some(5));
        let ending = Ending { verdict, message, node, started, ended: 9, attempts: 1, request: b"{}" };
        let Effects { put, send, .. } = scheduled().ended(&ending);
        let follow = send.iter().map(|sending| serde_json::from_slice(&sending.element).expect("it is JSON")).collect();
        let record = put[0].fields[0].value.as_deref().expect("it is set");
        (serde_json::from_slice(record).expect("it is a run"), follow)
    }

    #[test]
    fn a_run_that_succeeds_and_says_nothing_is_only_kept() {
        let (run, follow) = end(Verdict::Ok, "");
        assert_eq!(
            (run.outcome, run.verdict, run.started, run.ended),
            (RunOutcome::Ran, Some(Verdict::Ok), Some(5), Some(9))
        );
        assert!(follow.is_empty());
    }

    #[test]
    fn what_a_run_prints_is_mailed() {
        let (_, follow) = end(Verdict::Ok, "12 files");
        assert_eq!(follow.len(), 1);
        assert_eq!((&follow[0]["func"], &follow[0]["args"]["text"]), (&json!("cron/.mail"), &json!("12 files")));
        assert_eq!(follow[0]["args"]["subject"], "Cron <root@web-1> backup");
    }

    #[test]
    fn a_failure_is_told_to_the_request_that_follows() {
        let (_, follow) = end(Verdict::Error, "exit status 3\nno space");
        assert_eq!(follow.len(), 2);
        let args = &follow[0]["args"];
        assert_eq!((&args["to"], &args["failure"]["name"]), (&json!("ops"), &json!("backup")));
        assert_eq!(args["failure"]["message"], "exit status 3\nno space");
        assert_eq!(follow[0]["id"], "cron:backup:20261120T010000Z-failure");
        assert_eq!(follow[1]["args"]["subject"], "Cron <root@web-1> backup (error)");
    }

    #[test]
    fn a_run_that_the_last_one_left_no_room_for_is_skipped_and_is_no_failure() {
        let (run, follow) = end(Verdict::Rejected, &CallError::Duplicate.to_string());
        assert_eq!((run.outcome, follow.len()), (RunOutcome::SkippedOverlap, 0));
        assert_eq!(end(Verdict::Rejected, "overload").0.outcome, RunOutcome::Ran);
        assert_eq!(end(Verdict::Expired, "expired").0.outcome, RunOutcome::Expired);
    }

    #[test]
    fn runs_wait_for_the_last_one_by_their_policy_or_all_that_are_due_at_one_moment() {
        let entry = |alone, waits, in_turn| {
            let exclusion = Scheduled { alone, waits, in_turn, ..scheduled() }.exclusion()?;
            assert_eq!(&*exclusion.key, "backup");
            Some((exclusion.if_held, exclusion.is_for_every_key))
        };
        let (reject, replace) = (Some(OnDuplicate::Reject), Some(OnDuplicate::Replace));
        assert_eq!(entry(None, true, false), Some((IfHeld::Waits { most: 1 }, true)));
        assert_eq!(entry(reject, false, false), Some((IfHeld::Rejected, false)));
        assert_eq!(entry(replace, false, false), Some((IfHeld::Replaces, false)));
        assert_eq!(entry(None, false, false), None);
        for (alone, waits) in [(None, true), (reject, false), (replace, false)] {
            assert_eq!(entry(alone, waits, true), Some((IfHeld::Waits { most: usize::MAX }, true)));
        }
    }
}
