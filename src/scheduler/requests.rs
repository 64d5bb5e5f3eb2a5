//! From what is due to what is sent and kept. Pure.

use std::time::Duration;

use jiff::Timestamp;
use jiff::civil::DateTime;

use super::records::NewRun;
use crate::cron::{Action, Command, Decision, Due, Entry, OnFailure, Overlap};
use crate::protocol::{CRON, CRON_FUNCTION, Json, Mail, Object, Occurrence, OnDuplicate, Run, RunOutcome, Scheduled};

/// What becomes of `due` on the daemon with the id `node`, on this host.
pub(super) fn new_run(due: &Due, node: &str, host: &str) -> NewRun {
    let Due { entry, firing, decision, is_repeated, in_turn } = due;
    let at = milliseconds(firing.at);
    let mut instant = Occurrence::instant_of(at);
    if firing.is_shifted {
        instant += &firing.local.strftime("-%H%M").to_string();
    }
    if *is_repeated {
        instant += "-again";
    }
    let occurrence = Occurrence {
        name: entry.name.clone(),
        instant,
        at,
        local: local(firing.local),
        zone: entry.zone.name.clone(),
        is_shifted: firing.is_shifted,
        is_late: *decision == Decision::CatchUp,
    };
    let delay = u64::try_from(entry.delay.as_millis()).unwrap_or(0);
    // What is made up for counts from now.
    let sent_at = (*decision == Decision::Run).then_some(at.saturating_add(delay));
    match decision {
        Decision::Run | Decision::CatchUp => begin(entry, occurrence, sent_at, *in_turn, node, host),
        Decision::Miss => only_kept(occurrence, RunOutcome::MissedDown, node),
        Decision::Disabled => only_kept(occurrence, RunOutcome::Disabled, node),
    }
}

/// The run of an entry with `@reboot`, once for the start of the machine that is called `boot`.
pub(super) fn after_boot(entry: &Entry, boot: &str, now: Timestamp, node: &str, host: &str) -> NewRun {
    let occurrence = occurrence_now(entry, format!("boot-{boot}"), now);
    NewRun { at: 0, ..begin(entry, occurrence, None, false, node, host) }
}

/// An instant of `entry` that is now, and not by its schedule.
fn occurrence_now(entry: &Entry, instant: String, now: Timestamp) -> Occurrence {
    Occurrence {
        name: entry.name.clone(),
        instant,
        at: milliseconds(now),
        local: local(entry.zone().to_datetime(now)),
        zone: entry.zone.name.clone(),
        ..Occurrence::default()
    }
}

/// A run of `entry` that somebody starts by hand, `number` of them being different at one moment.
pub fn by_hand(entry: &Entry, number: u64, now: Timestamp, node: &str, host: &str) -> NewRun {
    let instant = format!("{}-run.{number:x}", Occurrence::instant_of(milliseconds(now)));
    NewRun { at: 0, ..begin(entry, occurrence_now(entry, instant, now), None, false, node, host) }
}

/// A run that has ended elsewhere, to be put on record.
pub(super) fn on_record(run: &Run) -> NewRun {
    let Occurrence { name, instant, at, .. } = &run.occurrence;
    let record = run.to_json();
    // What was started by hand or by the start of the machine is no moment of the entry.
    let at = if *instant == Occurrence::instant_of(*at) { *at } else { 0 };
    NewRun {
        name: name.as_str().into(),
        instant: instant.as_str().into(),
        at,
        if_paused: record.clone(),
        record,
        request: None,
    }
}

fn begin(entry: &Entry, occurrence: Occurrence, sent_at: Option<u64>, in_turn: bool, node: &str, host: &str) -> NewRun {
    let if_paused = Run::without(occurrence.clone(), node, RunOutcome::Disabled).to_json();
    let request = request(entry, &occurrence, sent_at, in_turn, host);
    let request = request.to_json().into();
    NewRun { request: Some(request), if_paused, ..only_kept(occurrence, RunOutcome::Waiting, node) }
}

fn only_kept(occurrence: Occurrence, outcome: RunOutcome, node: &str) -> NewRun {
    let (name, instant, at) = (occurrence.name.as_str().into(), occurrence.instant.as_str().into(), occurrence.at);
    let record = Run::without(occurrence, node, outcome).to_json();
    NewRun { name, instant, at, if_paused: record.clone(), record, request: None }
}

/// The request that runs `entry`; `sent_at` is where its `expires` counts from.
fn request(entry: &Entry, occurrence: &Occurrence, sent_at: Option<u64>, in_turn: bool, host: &str) -> Object {
    let policies = &entry.policies;
    let (mut request, mail) = match &entry.action {
        Action::Request(request) => (request.clone(), None),
        Action::Command(command) => {
            let func = format!("{CRON_FUNCTION}{}", entry.name);
            (Object::from_iter([("func".into(), func.into())]), mail(command, host))
        }
    };
    // What the entry says itself counts.
    let mut usually = |name: &str, value: Option<Json>| {
        if let (false, Some(value)) = (request.contains(name), value) {
            request.insert(name, value);
        }
    };
    usually("source", Some("cron".into()));
    usually("timeout", policies.timeout.map(|timeout| length(timeout).into()));
    usually("retries", policies.retries.map(Json::from));
    if let (Some(expires), Some(sent_at)) = (policies.expires, sent_at) {
        usually("expires", Some(length(expires).into()));
        usually("sent_at", Some(sent_at.into()));
    }
    let overlap = policies.overlap.unwrap_or_default();
    let alone = match overlap {
        Overlap::Skip => Some(OnDuplicate::Reject),
        Overlap::Replace => Some(OnDuplicate::Replace),
        Overlap::Queue | Overlap::Parallel => None,
    };
    let on_failure = policies.on_failure.as_ref().map(|then| match then {
        OnFailure::Request(request) => request.clone(),
        OnFailure::Command(_) => {
            let func = format!("{CRON_FUNCTION}{}{FAILURE}", entry.name);
            Object::from_iter([("func".into(), func.into()), ("source".into(), "cron".into())])
        }
    });
    let waits = overlap == Overlap::Queue;
    let in_turn = in_turn && overlap != Overlap::Parallel;
    let scheduled = Scheduled { occurrence: occurrence.clone(), alone, waits, in_turn, on_failure, mail };
    request.insert("id", occurrence.id().to_string());
    request.insert("reply", false);
    request.insert(CRON, Json::of(&scheduled).expect("it is JSON"));
    request
}

/// What stands behind the name of an entry in that of the function that is called when it fails.
pub const FAILURE: &str = "/failure";

/// A local time as it is shown: with seconds only where there are some.
fn local(time: DateTime) -> String {
    time.strftime(if time.second() == 0 { "%Y-%m-%dT%H:%M" } else { "%Y-%m-%dT%H:%M:%S" }).to_string()
}

/// Who gets what `command` prints, if anybody does (`MAILTO`, `MAILFROM` in `crontab(5)`).
fn mail(command: &Command, host: &str) -> Option<Mail> {
    let variable = |name: &str| command.environment.get(name).filter(|value| !value.is_empty()).cloned();
    let to = variable("MAILTO")?;
    let user = command.user.clone().or_else(|| std::env::var("LOGNAME").ok()).unwrap_or_else(|| "root".to_owned());
    Some(Mail { to, from: variable("MAILFROM"), subject: format!("<{user}@{host}> {}", command.line) })
}

fn milliseconds(at: Timestamp) -> u64 {
    u64::try_from(at.as_millisecond()).unwrap_or(0)
}

/// In milliseconds, at least one.
fn length(duration: Duration) -> u64 {
    u64::try_from(duration.as_millis()).unwrap_or(u64::MAX).max(1)
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use super::*;
    use crate::cron::{Plan, Reading, Table};
    use crate::protocol::RequestId;
    use crate::protocol::codec::decode_request;

    fn due(text: &str, now: &str) -> Vec<Due> {
        let table = Table::read(text, &Reading { host: "web-1", ..Reading::default() });
        let entries: Vec<Arc<Entry>> = table.entries.into_iter().map(Arc::new).collect();
        let now: Timestamp = now.parse().expect("it is a moment");
        let mut plan = Plan::new(&entries, "web-1", now);
        let wake = plan.next_wake().expect("something is due");
        plan.take_due(wake, jiff::SignedDuration::ZERO, 10)
    }

    fn run(text: &str, now: &str) -> NewRun {
        new_run(&due(text, now)[0], "web-1.7", "web-1")
    }

    fn sent(run: &NewRun) -> crate::protocol::Request {
        decode_request(run.request.as_deref().expect("it has one").as_bytes(), None, u64::MAX / 4)
            .expect("it is a request")
    }

    /// What its ticket says.
    fn ticket(request: &crate::protocol::Request) -> Option<Scheduled> {
        request.ticket.as_ref().map(|ticket| ticket.value.to().expect("it is what cron has written"))
    }

    #[test]
    fn a_line_with_a_request_sends_that_request_under_the_id_of_its_instant() {
        let text = "#: name=refresh tz=Europe/Rome timeout=9s retries=2\n0 2 * * * | {\"func\": \"fresh\", \"args\": {\"a\": 1}}";
        let run = run(text, "2026-11-20T00:00:00Z");
        assert_eq!((&*run.name, &*run.instant, run.at), ("refresh", "20261120T010000Z", 1_795_136_400_000));
        let request = sent(&run);
        assert_eq!(request.id, RequestId::Text("cron:refresh:20261120T010000Z".into()));
        assert_eq!((&*request.func, request.source.as_deref(), request.reply), ("fresh", Some("cron"), false));
        assert_eq!((request.timeout, request.retries), (Some(Duration::from_secs(9)), Some(2)));
        assert_eq!((request.unique.as_deref(), request.on_duplicate), (None, None));
        let scheduled = ticket(&request).expect("cron has sent it");
        assert_eq!(scheduled.alone, Some(OnDuplicate::Reject));
        assert_eq!((&*scheduled.occurrence.local, &*scheduled.occurrence.zone), ("2026-11-20T02:00", "Europe/Rome"));
        let record: Run = serde_json::from_str(&run.record).expect("it is a run");
        assert_eq!((record.outcome, record.occurrence), (RunOutcome::Waiting, scheduled.occurrence));
    }

    #[test]
    fn the_arguments_of_a_line_and_of_what_follows_it_stay_as_they_are_written() {
        let args = r#"{"z":18446744073709551617,"a":[117.63331139400017,1.0,1e400]}"#;
        let then = format!(r#"{{"func":"tell","args":{args}}}"#);
        let text = format!("#: name=a on_failure='{then}'\n@daily | {{\"func\": \"f\", \"args\": {args}}}");
        let request = sent(&run(&text, "2026-11-20T00:00:00Z"));
        assert_eq!(request.args.to_json(), args);
        let follows = ticket(&request).and_then(|cron| cron.on_failure).expect("something follows");
        assert_eq!(follows.to_json(), then);
    }

    #[test]
    fn a_plain_line_calls_the_function_of_its_entry_and_mails_what_it_prints() {
        let text =
            "MAILTO=ops@example.org\n#: name=backup overlap=replace on_failure='logger it failed'\n@daily backup --all";
        let request = sent(&run(text, "2026-11-20T00:00:00Z"));
        assert_eq!(request.func, "cron/backup");
        let scheduled = ticket(&request).expect("cron has sent it");
        assert_eq!(scheduled.alone, Some(OnDuplicate::Replace));
        let mail = scheduled.mail.expect("somebody gets it");
        assert_eq!(mail.to, "ops@example.org");
        assert!(mail.subject.ends_with("@web-1> backup --all"), "{}", mail.subject);
        assert_eq!(
            scheduled.on_failure.expect("something follows").text("func").as_deref(),
            Some("cron/backup/failure")
        );
    }

    #[test]
    fn overlap_decides_what_a_request_waits_for() {
        let parallel = sent(&run("#: name=a overlap=parallel\n@daily a", "2026-11-20T00:00:00Z"));
        assert_eq!(ticket(&parallel).map(|cron| (cron.alone, cron.waits)), Some((None, false)));
        let queued = sent(&run("#: name=a overlap=queue\n@daily a", "2026-11-20T00:00:00Z"));
        assert_eq!(ticket(&queued).map(|cron| (cron.alone, cron.waits)), Some((None, true)));
    }

    #[test]
    fn a_moved_firing_has_a_name_of_its_own() {
        let text = "#: name=a tz=Europe/Rome\n0,30 2 * * * a";
        let runs: Vec<String> =
            due(text, "2026-03-28T12:00:00Z").iter().map(|due| new_run(due, "n", "h").instant.into()).collect();
        assert_eq!(runs, ["20260329T010000Z-0200", "20260329T010000Z-0230"]);
    }

    #[test]
    fn what_the_change_of_the_clock_leaves_out_is_sent_to_run_in_turn_with_what_is_due_then() {
        let text = "#: name=a tz=Europe/Rome\n0,10,20,30,40,50 0-23 * * * a";
        let sent_at = |text: &str, now: &str| -> Vec<(String, bool)> {
            let runs = due(text, now).into_iter().map(|due| new_run(&due, "n", "h"));
            runs.map(|run| (run.instant.to_string(), ticket(&sent(&run)).expect("cron has sent it").in_turn)).collect()
        };
        let night = sent_at(text, "2027-03-28T00:55:00Z");
        let instants: Vec<&str> = night.iter().map(|(instant, _)| instant.as_str()).collect();
        let all = ["-0200", "-0210", "-0220", "-0230", "-0240", "-0250", ""]
            .map(|left_out| format!("20270328T010000Z{left_out}"));
        assert_eq!(instants, all);
        assert!(night.iter().all(|(_, in_turn)| *in_turn), "{night:?}");
        assert_eq!(sent_at(text, "2027-03-28T01:05:00Z"), [("20270328T011000Z".to_owned(), false)]);
        // Beside each other they may run by their policy.
        let parallel = text.replace("name=a", "name=a overlap=parallel");
        assert!(sent_at(&parallel, "2027-03-28T00:55:00Z").iter().all(|(_, in_turn)| !in_turn));
    }

    #[test]
    fn what_expires_counts_from_its_time_and_what_is_missed_or_disabled_is_only_kept() {
        let mut found = due("#: name=a expires=1m\n@daily a", "2026-11-20T12:00:00Z");
        let at = milliseconds(found[0].firing.at);
        assert_eq!(sent(&new_run(&found[0], "n", "h")).expires_at, Some(at + 60_000));
        found[0].decision = Decision::CatchUp;
        assert_eq!(sent(&new_run(&found[0], "n", "h")).expires_at, None);
        for (decision, outcome) in [(Decision::Miss, "missed-down"), (Decision::Disabled, "disabled")] {
            found[0].decision = decision;
            let run = new_run(&found[0], "n", "h");
            assert_eq!(run.request, None);
            assert!(run.record.contains(&format!("\"outcome\":\"{outcome}\"")), "{}", run.record);
        }
    }
}
