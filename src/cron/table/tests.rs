use std::time::Duration;

use serde_json::json;

use super::*;
use crate::cron::{Catchup, Overlap};

const HOST: &str = "web-1";

fn read(text: &str) -> Vec<Entry> {
    let table = Table::read(text, &Reading { host: HOST, ..Reading::default() });
    assert_eq!(table.faults, []);
    table.entries
}

#[track_caller]
fn check_faults(text: &str, expected: &[(usize, usize, &str)]) {
    let faults = Table::read(text, &Reading { host: HOST, ..Reading::default() }).faults;
    let found: Vec<(usize, usize, &str)> =
        faults.iter().map(|fault| (fault.line, fault.column, fault.reason.as_str())).collect();
    assert_eq!(found, expected);
}

fn command(entry: &Entry) -> &Command {
    match &entry.action {
        Action::Command(command) => command,
        Action::Request(request) => panic!("{request:?} is no command"),
    }
}

#[test]
fn a_crontab_is_read_as_cron_reads_it() {
    let entries = read(concat!(
        "\u{feff}# comment\r\n\r\n   # another\r\n",
        "SHELL=/bin/bash\r\n  MAILTO = \"ops@example.org\" \nPATH='/usr/bin:/bin'\n",
        "*/5 * * * *\techo  two  blanks ; x=1\r\n",
        "HOME=/tmp\n",
        "  @daily  /usr/bin/mail -s \"100\\%\" root%first line%second\\% line\n",
        "@every 90s true",
    ));
    assert_eq!(entries.len(), 3);
    let first = command(&entries[0]);
    assert_eq!((first.line.as_str(), first.stdin.as_str(), &first.user), ("echo  two  blanks ; x=1", "", &None));
    let set = |command: &Command| {
        command.environment.iter().map(|(name, value)| format!("{name}={value}")).collect::<Vec<_>>()
    };
    assert_eq!(set(first), ["MAILTO=ops@example.org", "PATH=/usr/bin:/bin", "SHELL=/bin/bash"]);
    let second = command(&entries[1]);
    assert_eq!(
        (second.line.as_str(), second.stdin.as_str()),
        ("/usr/bin/mail -s \"100%\" root", "first line\nsecond% line\n")
    );
    assert_eq!(second.environment["HOME"], "/tmp");
    assert_eq!((entries[1].line, entries[1].text.as_str(), entries[2].text.as_str()), (9, "@daily", "@every 90s"));
}

#[test]
fn a_line_with_a_bar_is_a_request() {
    let entries = read("0 12 * * 5 | {\"func\": \"hello\", \"args\": {\"a\": \"50%\"}, \"source\": \"foo\"}\n");
    let request = json!({"func": "hello", "args": {"a": "50%"}, "source": "foo"});
    assert_eq!(entries[0].action, Action::Request(request.as_object().expect("an object").clone().into()));
    assert!(entries[0].name.starts_with("hello."), "{}", entries[0].name);
}

#[test]
fn a_system_crontab_has_a_column_for_the_user() {
    let text = "17 * * * *\troot\tcd / && run-parts --report /etc/cron.hourly\n";
    let table = Table::read(text, &Reading { has_users: true, host: HOST, ..Reading::default() });
    let run = command(&table.entries[0]);
    assert_eq!((run.user.as_deref(), run.line.as_str()), (Some("root"), "cd / && run-parts --report /etc/cron.hourly"));
    let faults =
        Table::read("17 * * * * root\n", &Reading { has_users: true, host: HOST, ..Reading::default() }).faults;
    assert_eq!((faults[0].column, faults[0].reason.as_str()), (16, "expected a user and a command"));
}

#[test]
fn a_sixth_field_is_no_command() {
    let reason = "bad command: there are five fields before it, none of them for seconds, and it cannot begin with *";
    check_faults("* * * * * * echo six\n", &[(1, 11, reason)]);
    check_faults("  0 */5 * * *\t* /usr/bin/foo\n", &[(1, 15, reason)]);
    check_faults("@daily *\n", &[(1, 8, reason)]);
    let with_users = Reading { has_users: true, host: HOST, ..Reading::default() };
    let faults = Table::read("* * * * * * root echo six\n", &with_users).faults;
    assert_eq!((faults[0].column, faults[0].reason.as_str()), (11, reason));
    assert_eq!(command(&read("* * * * * echo *\n")[0]).line, "echo *");
}

#[test]
fn a_line_with_a_fault_costs_itself_only_and_one_with_policies_also_the_entry_below_it() {
    let text = concat!(
        "61 * * * * a\n* * * * * b\n#: overlap=never\n* * * * * c\n#: name=d\n* * * * * d\n#: name=d\n* * * * * e\n",
        "#: disabled\nX=1\nY=2\n* * * * * f\n* * * * * g\nCRON_TZ=Nowhere\n* * * * * h\n",
    );
    let table = Table::read(text, &Reading { host: HOST, ..Reading::default() });
    let commands: Vec<&str> = table.entries.iter().map(|entry| command(entry).line.as_str()).collect();
    assert_eq!(commands, ["b", "d", "g"]);
    let lines: Vec<usize> = table.faults.iter().map(|fault| fault.line).collect();
    assert_eq!(lines, [1, 3, 8, 10, 15]);
}

#[test]
fn what_nobody_runs_may_have_any_bytes_and_a_remark_is_no_policy() {
    let text = b"# T\xe4glich\n#: a remark, T\xe4glich\n#: disk\n* * * * * a\n#: disable\n* * * * * b\n* * * * * \xe4\n#: on_failure='\xe4'\n* * * * * c";
    let table = Table::read(text, &Reading { host: HOST, ..Reading::default() });
    let commands: Vec<&str> = table.entries.iter().map(|entry| command(entry).line.as_str()).collect();
    assert_eq!(commands, ["a"]);
    let faults: Vec<(usize, usize, &str)> =
        table.faults.iter().map(|fault| (fault.line, fault.column, fault.reason.as_str())).collect();
    let utf8 = "expected text in UTF-8";
    assert_eq!(faults, [(5, 4, "disable: unknown policy, did you mean disabled?"), (7, 11, utf8), (8, 16, utf8)]);
}

#[test]
fn a_line_that_is_not_to_be_logged_is_a_line() {
    let entries = read("-*/15 * * * * a\n -@daily b\n");
    assert_eq!((&*entries[0].text, &*entries[1].text), ("*/15 * * * *", "@daily"));
    check_faults("-61 * * * * a\n", &[(1, 2, "minute: 61 is not from 0 to 59")]);
    check_faults("--1 * * * * a\n", &[(1, 2, "minute: expected a number from 0 to 59, found \"\"")]);
}

#[test]
fn policies_stand_above_their_entry() {
    let entries = read(concat!(
        "#: name=backup overlap=queue timeout=2h tz=Europe/Rome\n",
        "#: catchup=within=1h jitter=5m retries=3 expires=\"1h 30m\" nodes=web-1,web-2\n",
        "# a comment between them is allowed\n",
        "#: on_failure='mail -s failed root' disabled\n",
        "30 2 * * * backup\n",
        "31 2 * * * other\n",
    ));
    let policies = &entries[0].policies;
    assert_eq!(
        (entries[0].name.as_str(), policies.overlap, policies.is_disabled),
        ("backup", Some(Overlap::Queue), true)
    );
    assert_eq!(policies.catchup, Some(Catchup::Within(Duration::from_secs(3600))));
    assert_eq!((policies.jitter, policies.retries), (Some(Duration::from_secs(300)), Some(3)));
    assert_eq!(
        (policies.timeout, policies.expires),
        (Some(Duration::from_secs(7200)), Some(Duration::from_secs(5400)))
    );
    assert_eq!(policies.nodes.as_deref(), Some(&["web-1".to_owned(), "web-2".to_owned()][..]));
    assert_eq!(policies.zone.as_ref().map(|zone| zone.name.as_str()), Some("Europe/Rome"));
    assert_eq!(entries[1].policies, Policies::default());
}

#[test]
fn cron_tz_holds_for_the_lines_below_it_unless_a_policy_says_otherwise() {
    let entries = read("0 0 * * * a\nCRON_TZ=Asia/Tokyo\n0 0 * * * b\n#: tz=UTC\n0 0 * * * c\n");
    let zones: Vec<Option<&str>> =
        entries.iter().map(|entry| entry.policies.zone.as_ref().map(|zone| zone.name.as_str())).collect();
    assert_eq!(zones, [None, Some("Asia/Tokyo"), Some("UTC")]);
}

#[test]
fn names_are_the_same_as_long_as_an_entry_is_and_different_for_each() {
    let names = |text: &str| read(text).into_iter().map(|entry| entry.name).collect::<Vec<_>>();
    let first = names("0 1 * * * /usr/bin/backup --full\n0 2 * * * /usr/bin/backup --full\n");
    assert!(first[0].starts_with("backup.") && first[0] != first[1], "{first:?}");
    let moved = names("# more\n\n0 2 * * * /usr/bin/backup --full\n");
    assert_eq!(moved[0], first[1]);
    let twice = names("* * * * * true\n* * * * * true\n");
    assert_eq!(twice[1], format!("{}-2", twice[0]));
}

#[test]
fn every_fault_is_told_with_its_place() {
    check_faults(
        concat!(
            "60 * * * * true\n",
            "   0 25 * * * true\n",
            "* * * * *\n",
            "@dayly true\n",
            "* * * * * | {\"func\": 1}\n",
            "* * * * * | {\"func\": \"a\",}\n",
            "#: overlap=sometimes  colour=red timeot=1s name='x\n",
            "* * * * * true\n",
            "hello\n",
            "CRON_TZ=Mars/Olympus\n",
            "* * * * * true\n",
        ),
        &[
            (1, 1, "minute: 60 is not from 0 to 59"),
            (2, 6, "hour: 25 is not from 0 to 23"),
            (3, 1, "a command is missing"),
            (
                4,
                1,
                "expected @yearly, @annually, @monthly, @weekly, @daily, @midnight, @hourly, @reboot or @every, found \"@dayly\"",
            ),
            (5, 12, "the request has no func"),
            (6, 26, "a request must be a JSON object: trailing comma"),
            (7, 4, "overlap: expected skip, queue, parallel or replace, found \"sometimes\""),
            (
                7,
                23,
                "colour: unknown policy, expected one of name, tz, overlap, timeout, catchup, jitter, retries, on_failure, expires, disabled, nodes",
            ),
            (7, 34, "timeot: unknown policy, did you mean timeout?"),
            (7, 44, "name: the quote ' is not closed"),
            (9, 6, "expected 5 fields (minute, hour, day of month, month, day of week), found 1"),
            (11, 1, "CRON_TZ: no time zone is called \"Mars/Olympus\"; expected one such as Europe/Rome"),
        ],
    );
    check_faults("#: name=a\n* * * * * x\n#: name=a\n* * * * * y\n", &[(4, 1, "the name a is that of line 2, too")]);
    check_faults("#: name=a\nSHELL=/bin/sh\n", &[(2, 1, "policies stand above an entry, not above a variable")]);
    check_faults("* * * * * x\n#: name=a\n", &[(2, 1, "policies stand above an entry, and there is none below these")]);
}

#[test]
fn no_text_makes_it_panic() {
    use proptest::prelude::*;
    proptest!(|(text in "([#:@|%\\\\ \t\r\n=*/,~0-9a-zé'\"{}-]{0,60}\n?){0,6}")| {
        for has_users in [false, true] {
            let _may_be_anything = Table::read(&text, &Reading { has_users, host: HOST, ..Reading::default() });
        }
    });
}
