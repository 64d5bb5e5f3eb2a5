//! `cerbas cron`: what a crontab means, and when.

use serde_json::{Value, json};

use super::program::Place;

const CRONTAB: &str = "\
MAILTO=ops@example.org
# nightly
#: name=backup tz=Europe/Rome overlap=skip
30 2 * * *  /usr/local/bin/backup --full
*/20 2 * * * | {\"func\": \"refresh\", \"args\": {\"all\": true}}
#: name=off disabled
@daily  /bin/true
";

fn place() -> Place {
    let place = Place::empty();
    place.write("CRONTAB", CRONTAB);
    place
}

#[track_caller]
fn json_of(place: &Place, arguments: &[&str]) -> Value {
    let output = place.run(&[&["cron"], arguments, &["--json"]].concat());
    assert_eq!((output.status, &*output.stderr), (Some(0), ""), "cerbas cron {arguments:?}");
    serde_json::from_str(&output.stdout).expect("it is JSON")
}

#[test]
fn an_expression_has_its_next_times_as_an_array() {
    let place = Place::empty();
    let from = ["--tz", "Europe/Rome", "--from", "2026-03-28T00:00", "-n", "3"];
    assert_eq!(
        json_of(&place, &[&["next", "--expr", "0 12 * * 5"], &from[..]].concat()),
        json!(["2026-04-03T12:00:00+02:00", "2026-04-10T12:00:00+02:00", "2026-04-17T12:00:00+02:00"])
    );
    assert_eq!(
        json_of(&place, &[&["next", "--expr", "30 2 * * *"], &from[..]].concat()),
        json!(["2026-03-28T02:30:00+01:00", "2026-03-29T03:00:00+02:00", "2026-03-30T02:30:00+02:00"])
    );
    assert_eq!(json_of(&place, &["next", "--expr", "0 0 30 2 *"]), json!([]));
    place.check(&["cron", "next", "--expr", "0 0 30 2 *"], 0, "never\n", "");
}

#[test]
fn what_is_no_expression_time_or_zone_is_told_in_one_line() {
    let place = Place::empty();
    place.check_fails(&["cron", "next", "--expr", "0 25 * * *"], 1, &["column 3", "hour: 25 is not from 0 to 23"]);
    place.check_fails(&["cron", "explain", "@dayly"], 1, &["expected @yearly"]);
    place.check_fails(
        &["cron", "next", "--expr", "* * * * *", "--tz", "Mars"],
        2,
        &["no time zone is called \"Mars\""],
    );
    place.check_fails(&["cron", "next", "--expr", "* * * * *", "--from", "soon"], 2, &["--from: expected a time"]);
    place.check_fails(&["cron", "list"], 6, &["CRONTAB: is not there; name one with --file"]);
}

#[test]
fn an_expression_is_said_in_words() {
    let explained = json_of(&Place::empty(), &["explain", "30 2 * * mon", "--tz", "UTC"]);
    assert_eq!(explained["description"], "At 02:30, on Monday.");
    assert!(explained["clock"].as_str().is_some_and(|clock| clock.contains("it fires once")), "{explained}");
    assert_eq!(explained["next"].as_array().map(Vec::len), Some(3));
    // The shell need not keep the five fields together.
    let output = Place::empty().run(&["cron", "explain", "0", "0", "1", "1", "0"]);
    assert_eq!(output.status, Some(0), "{output:?}");
}

#[test]
fn entries_are_listed_with_what_they_do() {
    let entries = json_of(&place(), &["list"]);
    let names: Vec<&str> =
        entries.as_array().expect("an array").iter().filter_map(|entry| entry["name"].as_str()).collect();
    assert!(names[1].starts_with("refresh."), "{names:?}");
    assert_eq!((names[0], names[2]), ("backup", "off"));
    let backup = &entries[0];
    assert_eq!((&backup["command"], &backup["line"]), (&json!("/usr/local/bin/backup --full"), &json!(4)));
    assert_eq!(
        (&backup["zone"], &backup["environment"]),
        (&json!("Europe/Rome"), &json!({"MAILTO": "ops@example.org"}))
    );
    assert_eq!(entries[1]["request"], json!({"func": "refresh", "args": {"all": true}}));
    assert_eq!(entries[2]["disabled"], json!(true));
}

#[test]
fn the_next_firings_of_a_crontab_come_in_their_order_without_disabled_entries() {
    let place = place();
    let firings = json_of(&place, &["next", "--tz", "UTC", "--from", "2026-03-28T00:00Z", "-n", "5"]);
    let at: Vec<&str> =
        firings.as_array().expect("an array").iter().filter_map(|firing| firing["at"].as_str()).collect();
    assert_eq!(
        at,
        [
            "2026-03-28T02:30:00+01:00",
            "2026-03-28T02:00:00+00:00",
            "2026-03-28T02:20:00+00:00",
            "2026-03-28T02:40:00+00:00",
            "2026-03-29T03:00:00+02:00",
        ]
    );
    assert_eq!((&firings[4]["local"], &firings[4]["shifted"]), (&json!("2026-03-29T02:30:00"), &json!(true)));
    let backup = json_of(&place, &["next", "backup", "--from", "2026-03-28T00:00Z", "-n", "2"]);
    assert!(backup.as_array().is_some_and(|all| all.iter().all(|firing| firing["name"] == "backup")), "{backup}");
    place.check_fails(&["cron", "next", "nobody"], 1, &["no entry is called \"nobody\""]);
}

#[test]
fn a_simulation_shows_every_firing_and_the_changes_of_the_clock() {
    let span = ["--from", "2026-03-29T00:00", "--to", "2026-03-29T04:00", "--tz", "Europe/Rome"];
    let output = place().run(&[&["cron", "simulate"], &span[..]].concat());
    assert_eq!(
        output.stdout,
        "Sun 2026-03-29 03:00:00 CEST  the clock of Europe/Rome goes forward by 1h\n\
         Sun 2026-03-29 03:00:00 CEST  backup  instead of 02:30:00, which the clock leaves out\n"
    );
    let back = ["--from", "2026-10-25T02:30", "--to", "2026-10-25T04:00", "--tz", "Europe/Rome", "--json"];
    let output = place().run(&[&["cron", "simulate"], &back[..]].concat());
    let at: Vec<String> = output
        .stdout
        .lines()
        .map(|line| {
            serde_json::from_str::<Value>(line).expect("each line is JSON")["at"]
                .as_str()
                .unwrap_or_default()
                .to_owned()
        })
        .collect();
    assert_eq!(
        at,
        [
            "2026-10-25T02:30:00+02:00",
            "2026-10-25T02:40:00+02:00",
            "2026-10-25T02:00:00+01:00",
            "2026-10-25T02:00:00+01:00",
            "2026-10-25T02:20:00+01:00",
            "2026-10-25T02:40:00+01:00",
        ]
    );
}

#[test]
fn a_simulation_shows_what_becomes_of_what_is_slept_through_or_missed() {
    let place = Place::empty();
    let text = "CRON_TZ=UTC\n#: name=fixed\n15 2 * * * true\n#: name=star\n50 * * * * true\n#: name=all catchup=all\n0 2 * * * true\n";
    place.write("CRONTAB", text);
    let simulate = |away: &[&str]| -> Vec<String> {
        let span = ["cron", "simulate", "--tz", "UTC", "--from", "2026-11-20T01:30", "--to", "2026-11-20T05:00"];
        let output = place.run(&[&span[..], away].concat());
        assert_eq!(output.status, Some(0), "{output:?}");
        output.stdout.lines().map(|line| line.replace("Fri 2026-11-20 ", "").replace(" UTC", "")).collect()
    };
    assert_eq!(
        simulate(&["--asleep", "2026-11-20T01:45/2026-11-20T04:30"]),
        [
            "04:30:00  star  has missed 2026-11-20T01:50:00",
            "04:30:00  all  runs for 2026-11-20T02:00:00",
            "04:30:00  fixed  runs for 2026-11-20T02:15:00",
            "04:30:00  star  has missed 2026-11-20T02:50:00",
            "04:30:00  star  has missed 2026-11-20T03:50:00",
            "04:50:00  star",
        ]
    );
    let off = simulate(&["--off", "2026-11-20T01:45/2026-11-20T02:30"]);
    assert_eq!(
        off[1..3],
        ["02:30:00  all  runs for 2026-11-20T02:00:00", "02:30:00  fixed  has missed 2026-11-20T02:15:00"]
    );
    place.check_fails(
        &["cron", "simulate", "--from", "2026-11-20", "--to", "2026-11-21", "--asleep", "now"],
        2,
        &["--asleep: expected two times"],
    );
}

#[test]
fn all_faults_of_a_crontab_are_told_with_line_and_column() {
    let place = Place::empty();
    place.write("bad", "60 * * * * true\r\n* * * *\n#: overlap=never\n* * * * * true\n");
    let output = place.run(&["cron", "list", "--file", "bad"]);
    assert_eq!((output.status, &*output.stdout), (Some(1), ""));
    assert_eq!(
        output.stderr,
        "cerbas: bad:1:1: minute: 60 is not from 0 to 59\n\
         cerbas: bad:2:8: expected 5 fields (minute, hour, day of month, month, day of week), found 4\n\
         cerbas: bad:3:4: overlap: expected skip, queue, parallel or replace, found \"never\"\n"
    );
}

#[test]
fn a_system_crontab_has_users() {
    let place = Place::empty();
    place.write("crontab", "17 * * * *\troot\tcd / && run-parts /etc/cron.hourly\n");
    let entries = json_of(&place, &["list", "--file", "crontab", "--system"]);
    assert_eq!(
        (&entries[0]["user"], &entries[0]["command"]),
        (&json!("root"), &json!("cd / && run-parts /etc/cron.hourly"))
    );
}
