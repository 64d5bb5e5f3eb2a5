//! Values on the command line: what was typed is what is sent, shown and sent again.

use super::program::{Place, eventually};

const FUNCTIONS: &str = r#"
[functions.echo]
builtin = "echo"
[functions.witherror]
builtin = "witherror"
"#;

/// What a program with doubles and 64 bits would change.
const VALUE: &str = r#"{"y":[117.63331139400017,1.0,1e400],"b":18446744073709551617}"#;

#[test]
fn call_prints_every_digit_and_the_order_of_names() {
    let place = Place::with(FUNCTIONS);
    let _daemon = place.daemon();
    let args = format!("{{\"message\":{VALUE}}}");
    place.check(&["call", "echo", &args], 0, &format!("{VALUE}\n"), "");
    place.check(&["call", "echo", &args, "--json"], 0, &format!("{{\"status\":\"ok\",\"data\":{VALUE}}}\n"), "");
    let output = place.command(&["call", "echo", r#"{"message":18446744073709551617}"#, "--msgpack"]).output();
    let packed = b"\x82\xa6status\xa2ok\xa4data\xc7\x14N18446744073709551617";
    assert_eq!(output.expect("it can be run").stdout, packed);
    let half = r#"{"message":"\ud83d"}"#;
    place.check_fails(&["call", "echo", half], 2, &["\\ud83d is half a character"]);
}

#[test]
fn the_dead_list_shows_and_sends_again_what_was_sent() {
    let place = Place::with(FUNCTIONS);
    let _daemon = place.daemon();
    let args = format!("{{\"v\":{VALUE}}}");
    let id = place.run(&["send", "witherror", &args]).stdout.trim().to_owned();
    let list = || place.run(&["dead", "list", "--json"]).stdout;
    eventually("it is on the dead list", || list().contains(&id));
    for round in ["sent", "sent again"] {
        assert!(list().contains(&format!("\"args\":{args}")), "{round}: {}", list());
        assert!(place.run(&["why", &id, "--json"]).stdout.contains(&format!("\"args\":{args}")), "{round}");
        let shown = place.run(&["dead", "show", &id]).stdout;
        let lines: Vec<&str> = shown.lines().map(str::trim).collect();
        let expected =
            ["\"v\": {", "\"y\": [", "117.63331139400017,", "1.0,", "1e400", "],", "\"b\": 18446744073709551617"];
        assert!(lines.windows(expected.len()).any(|window| window == expected), "{round}: {shown}");
        place.check(&["dead", "retry", &id], 0, &format!("{id}: sent again\n"), "");
        eventually("it has failed again", || list().contains(&id));
    }
}

#[test]
fn a_request_that_waits_is_known_whatever_numbers_are_in_it() {
    let place = Place::with(FUNCTIONS);
    let _daemon = place.daemon();
    let args = r#"{"message":[1e400,18446744073709551617]}"#;
    let id = place.run(&["send", "echo", args, "--delay", "1h"]).stdout.trim().to_owned();
    eventually("it waits", || place.run(&["jobs", "list"]).stdout.contains(&id));
    let why = place.run(&["why", &id]).stdout;
    assert!(why.starts_with(&format!("{id}: echo is delayed")), "{why}");
}

#[test]
fn a_line_of_a_crontab_is_listed_and_run_with_its_digits_with_and_without_redis() {
    let functions = format!("{FUNCTIONS}\n[functions.kept]\ncommand = [\"sh\", \"-c\", \"cat >> kept\"]\n");
    let functions = format!("{functions}[cron]\nfile = \"CRONTAB\"\n");
    for (place, is_shared) in [(Place::empty(), false), (Place::with(""), true)] {
        match is_shared {
            true => place.configure("", &functions),
            false => place.write("cerbas.toml", &format!("[redis]\nserver = \"none\"\n{functions}")),
        }
        let args = format!("{{\"message\":{VALUE}}}");
        let then = format!("{{\"func\":\"kept\",\"args\":{args}}}");
        let policies = format!("#: name=failing on_failure='{then}'");
        let lines = format!("{policies}\n@yearly | {{\"func\": \"witherror\"}}\n#: name=told\n@yearly | {then}\n");
        place.write("CRONTAB", &lines);
        let list = place.run(&["cron", "list", "--json"]);
        assert!(list.stdout.contains(&format!("\"request\":{then}")), "{list:?}");
        let daemon = is_shared.then(|| place.daemon());
        eventually("a daemon can be told to", || daemon.is_none() || place.run(&["nodes"]).status == Some(0));
        let kept = || std::fs::read_to_string(place.path("kept")).unwrap_or_default();
        let told = place.run(&["cron", "run", "told"]);
        assert!(kept().contains(&format!(",\"args\":{args},")), "{told:?}: {}", kept());
        place.run(&["cron", "run", "failing"]);
        eventually("what follows has run", || {
            kept().contains(&format!(",\"args\":{{\"message\":{VALUE},\"failure\":{{"))
        });
    }
}

#[test]
fn why_tells_an_answer_as_it_is() {
    let place = Place::with(FUNCTIONS);
    let _daemon = place.daemon();
    let mut redis = place.connect();
    let element = format!("{{\"id\":\"told\",\"func\":\"echo\",\"args\":{{\"message\":{VALUE}}}}}");
    let () = redis::cmd("RPUSH").arg("CERBAS-QUEUE").arg(element).query(&mut redis).expect("Redis is there");
    let why = || place.run(&["why", "told", "--json"]).stdout;
    eventually("it is answered", || why().contains("\"answered\""));
    assert!(why().contains(&format!("\"answer\":{{\"status\":\"ok\",\"data\":{VALUE}}}")), "{}", why());
    assert!(place.run(&["why", "told"]).stdout.contains(VALUE));
}
