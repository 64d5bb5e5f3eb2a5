//! `cerbas check`, `functions`, `completions` and `--help`: what needs no daemon.

use serde_json::{Value, json};

use super::program::Place;

#[test]
fn a_good_configuration_is_good() {
    let place = Place::empty();
    place.write("cerbas.toml", "[functions.hello]\nbuiltin = \"hello\"\n[functions.date]\ncommand = [\"date\"]\n");
    place.check(&["check"], 0, "cerbas.toml: good, 2 functions\n", "");
    place.check(&["check", "--json"], 0, "[]\n", "");
}

#[test]
fn every_fault_is_told_with_line_and_column() {
    let place = Place::empty();
    place.write("broken.toml", "[redis]\nurll = \"redis://127.0.0.1/1\"\n\n[server]\nworkers = \"many\"\n");
    let output = place.run(&["check", "--config", "broken.toml"]);
    assert_eq!((output.status, &*output.stderr), (Some(1), ""), "{output:?}");
    let lines: Vec<&str> = output.stdout.lines().collect();
    assert_eq!(lines.len(), 2, "{output:?}");
    assert!(lines[0].starts_with("broken.toml:2:1: redis.urll: unknown key, did you mean url"), "{output:?}");
    assert!(lines[1].starts_with("broken.toml:5:11: server.workers: "), "{output:?}");
    let output = place.run(&["check", "--config", "broken.toml", "--json"]);
    let faults: Vec<String> = serde_json::from_str(&output.stdout).expect("it is JSON");
    assert_eq!((output.status, faults), (Some(1), lines.into_iter().map(str::to_owned).collect()));
}

#[test]
fn a_broken_file_keeps_the_daemon_from_starting_and_says_where() {
    let place = Place::empty();
    place.write("cerbas.toml", "[redis]\nserver = \"external\"\n[functions.hello\nbuiltin = \"hello\"\n");
    place.check_fails(&["run"], 6, &["cerbas.toml:3:17: "]);
    place.check_fails(&["functions"], 6, &["cerbas.toml:3:17: "]);
    place.check_fails(&["call", "hello"], 6, &["cerbas.toml:3:17: "]);
}

#[test]
fn a_missing_file_is_said() {
    let place = Place::empty();
    place.check_fails(&["run"], 6, &["cerbas.toml", "no such file"]);
    place.check_fails(&["run", "--config", "/no/such/file.toml"], 6, &["/no/such/file.toml", "no such file"]);
    place.check_fails(&["functions"], 6, &["cerbas.toml"]);
    let output = place.run(&["check"]);
    assert_eq!((output.status, &*output.stderr), (Some(1), ""), "{output:?}");
    assert!(output.stdout.starts_with("cerbas.toml: "), "{output:?}");
}

#[test]
fn what_a_function_needs_is_looked_for() {
    let place = Place::empty();
    place.write("cerbas.toml", "[functions.x]\ncommand = [\"no-such-program\"]\n");
    let output = place.run(&["check"]);
    assert_eq!(output.status, Some(1), "{output:?}");
    assert!(output.stdout.starts_with("cerbas.toml:1:12: functions.x: cannot run \"no-such-program\""), "{output:?}");
}

#[test]
fn a_redis_that_lets_nobody_in_keeps_the_daemon_from_starting() {
    let place = Place::with("");
    let () =
        redis::cmd("CONFIG").arg(&["SET", "requirepass", "x"]).query(&mut place.connect()).expect("Redis is there");
    let mut command = place.command(&["run"]);
    let output = command.env("CERBAS_REDIS_PASSWORD", "not-it").output().expect("it can be run");
    let text = String::from_utf8(output.stderr).expect("it is UTF-8");
    assert_eq!(output.status.code(), Some(5), "{text}");
    let last = text.lines().last().unwrap_or_default();
    assert!(last.starts_with("cerbas: redis://127.0.0.1:"), "{text}");
    assert!(!text.contains("not-it") && !text.contains("panicked"), "{text}");
}

#[test]
fn functions_are_listed() {
    let place = Place::empty();
    place.write(
        "cerbas.toml",
        "[functions.hello]\nbuiltin = \"hello\"\n[functions.sum]\nbuiltin = \"sum\"\ntimeout = \"1m\"\n",
    );
    let output = place.run(&["functions"]);
    assert_eq!((output.status, &*output.stderr), (Some(0), ""), "{output:?}");
    let rows: Vec<Vec<&str>> = output.stdout.lines().map(|line| line.split_whitespace().collect()).collect();
    assert_eq!(
        rows,
        [
            vec!["function", "body", "timeout", "cache", "arguments"],
            vec!["hello", "builtin", "5s", "20s"],
            vec!["sum", "builtin", "1m", "-", "a", "b"],
        ]
    );
    let output = place.run(&["functions", "--json"]);
    let rows: Vec<Value> = serde_json::from_str(&output.stdout).expect("it is JSON");
    assert_eq!(
        (&rows[1]["name"], &rows[1]["params"], &rows[1]["timeout_ms"]),
        (&json!("sum"), &json!(["a", "b"]), &json!(60_000))
    );
}

#[test]
fn completions_are_printed_for_every_shell() {
    let place = Place::empty();
    for shell in ["bash", "zsh", "fish", "elvish", "powershell"] {
        let output = place.run(&["completions", shell]);
        assert_eq!((output.status, &*output.stderr), (Some(0), ""), "{shell}");
        assert!(output.stdout.contains("cerbas"), "{shell}");
    }
    assert_eq!(place.run(&["completions", "tcsh"]).status, Some(2));
}

#[test]
fn help_tells_the_exit_statuses() {
    let place = Place::empty();
    let output = place.run(&["--help"]);
    assert_eq!((output.status, &*output.stderr), (Some(0), ""));
    for line in ["Exit status:", "  0  done", "  4  no daemon answers", "  6  cerbas cannot start"] {
        assert!(output.stdout.contains(line), "no {line:?} in {}", output.stdout);
    }
    assert!(place.run(&["--version"]).stdout.starts_with("cerbas "));
}
