//! `cerbas nodes`, `status` and `top`: seeing what goes on.

use std::fs;
use std::io::Write;
use std::process::{Child, Command, Stdio};

use redis::Commands;
use rustix::process::{Pid, Signal, kill_process};
use serde_json::{Value, json};

use super::program::{Daemon, Place, eventually};

const SERVER: &str = "name = \"web-1\"\nlease = \"1s\"\nshutdown_timeout = \"5s\"";

/// A function that runs until there is a file `go`. It ends with the folder, too.
const WAITING: &str = r#"
[functions.waiting]
command = ["sh", "-c", "touch started; while [ -e started ] && [ ! -e go ]; do sleep 0.02; done; echo done"]
timeout = "1m"
"#;

/// What `cerbas <arguments> --json` prints, and its exit status.
fn json_of(place: &Place, arguments: &[&str]) -> (Option<i32>, Value) {
    let output = place.run(&[arguments, &["--json"]].concat());
    assert_eq!(output.stderr, "", "cerbas {arguments:?}");
    (output.status, serde_json::from_str(&output.stdout).expect("it is JSON"))
}

/// A daemon that others see.
fn daemon(place: &Place) -> Daemon {
    let daemon = place.daemon();
    eventually("it is seen", || place.run(&["nodes"]).status == Some(0));
    daemon
}

#[test]
fn without_a_daemon_status_shows_the_queues_and_ends_with_4() {
    let place = Place::with_server(SERVER, WAITING);
    let _: u64 = place.connect().rpush("CERBAS-QUEUE", "what is this").expect("Redis takes it");
    let output = place.run(&["status", "--no-rates"]);
    assert_eq!((output.status, &*output.stderr), (Some(4), ""));
    let lines: Vec<Vec<&str>> = output.stdout.lines().map(|line| line.split_whitespace().collect()).collect();
    assert_eq!(lines[0], ["no", "daemons"]);
    assert!(lines.contains(&vec!["default", "1", "-"]), "{}", output.stdout);
    place.check(&["nodes"], 4, "no daemons\n", "");
    place.check(&["nodes", "--json"], 4, "[]\n", "");
}

#[test]
fn without_redis_all_of_them_end_with_5() {
    let mut place = Place::with_server(SERVER, WAITING);
    place.kill_redis();
    for arguments in [&["status"][..], &["nodes"], &["top", "-n", "1"]] {
        place.check_fails(arguments, 5, &["redis://", "connection refused"]);
    }
}

#[test]
fn living_daemons_are_listed_and_a_killed_one_is_dead_with_what_it_left() {
    let place = Place::with_server(SERVER, WAITING);
    let living = place.daemon();
    // Only this one has its name from its host.
    place.configure("lease = \"1s\"", WAITING);
    let killed = place.daemon();
    let pid = |node: &Value| node["pid"].as_u64();
    eventually("both are there", || json_of(&place, &["nodes"]).1.as_array().is_some_and(|nodes| nodes.len() == 2));

    let (status, nodes) = json_of(&place, &["nodes"]);
    let nodes = nodes.as_array().expect("it is an array").clone();
    let of = |daemon: u32| nodes.iter().find(|node| pid(node) == Some(daemon.into())).expect("it is listed");
    let web = of(living.pid());
    assert_eq!(
        (status, &web["name"], &web["workers"], &web["is_alive"]),
        (Some(0), &json!("web-1"), &json!(4), &json!(true))
    );
    assert_eq!((&web["functions"], &web["holds"]), (&json!(["waiting"]), &json!(true)));
    let other = of(killed.pid());
    assert_eq!(
        other["name"],
        other["host"]
            .as_str()
            .expect("it has a host")
            .replace(|c: char| !c.is_ascii_alphanumeric() && !"_.-".contains(c), "-")
    );

    let table = place.run(&["nodes"]);
    let row = table.stdout.lines().find(|line| line.starts_with("web-1 ")).expect("it is listed").to_owned();
    let cells: Vec<&str> = row.split_whitespace().collect();
    assert_eq!((cells[1], cells[2]), (web["node"].as_str().expect("it has one"), env!("CARGO_PKG_VERSION")));
    assert!(row.contains(&format!(":{} ", living.pid())) && row.contains(" 0/4 ") && row.ends_with(" ago"), "{row}");
    assert!(!table.stdout.contains("waiting") && !table.stdout.contains('\x1b'), "{}", table.stdout);
    let wide = place.run(&["nodes", "--wide"]).stdout;
    let last: Vec<&str> = wide.lines().nth(1).expect("there is a row").split_whitespace().rev().take(2).collect();
    assert_eq!(last, ["default", "waiting"], "{wide}");

    // Nobody is left to take back what this one leaves.
    living.signal(Signal::TERM);
    eventually("only one lives", || json_of(&place, &["nodes"]).1.as_array().is_some_and(|nodes| nodes.len() == 1));
    let name = other["node"].as_str().expect("it has one");
    let element = json!({"id": "left", "func": "waiting"}).to_string();
    let _: u64 = place.connect().rpush("CERBAS-QUEUE", element).expect("Redis takes it");
    eventually("it runs", || place.path("started").exists());
    killed.signal(Signal::KILL);
    eventually("it is dead", || json_of(&place, &["nodes"]).0 == Some(4));
    let (_, nodes) = json_of(&place, &["nodes"]);
    let dead = &nodes[0];
    assert_eq!((&dead["node"], &dead["is_alive"], &dead["claimed"]), (&json!(name), &json!(false), &json!(1)));
    assert!(dead["silent_ms"].as_u64() >= Some(500), "{dead}");
    let table = place.run(&["nodes"]);
    let row: Vec<&str> = table.stdout.lines().nth(1).expect("there is a row").split_whitespace().collect();
    assert_eq!((row[0], row[1], row[row.len() - 3]), ("dead", name, "1"), "{}", table.stdout);
}

#[test]
fn status_counts_what_has_ended_and_how_fast() {
    let place = Place::with_server(SERVER, WAITING);
    let _daemon = daemon(&place);
    let (status, look) = json_of(&place, &["status", "--no-rates"]);
    assert_eq!((status, &look["per_second"], &look["dead"]), (Some(0), &Value::Null, &json!(0)));
    assert_eq!((&look["queues"][0]["name"], &look["queues"][0]["length"]), (&json!("default"), &json!(0)));
    assert_eq!(look["nodes"][0]["holds"], true);

    // Somebody counts while it looks twice.
    let _: () = place.connect().hset("CERBAS-VERDICTS", "timeout", 7).expect("Redis takes it");
    let looking = place.start(&["status", "--json"]);
    let mut redis = place.connect();
    let name = "cerbas-operator";
    eventually("it looks", || {
        let clients: String = redis::cmd("CLIENT").arg("LIST").query(&mut redis).expect("Redis answers");
        clients.lines().any(|client| client.contains(name) && client.contains("cmd=hgetall"))
    });
    let _: u64 = redis.hincr("CERBAS-VERDICTS", "timeout", 40).expect("Redis takes it");
    let output = looking.finish();
    let look: Value = serde_json::from_str(&output.stdout).expect("it is JSON");
    assert_eq!((&look["verdicts"]["timeout"], &look["verdicts_are_exact"]), (&json!(47), &json!(true)));
    let rate = look["per_second"]["timeout"].as_f64().expect("it is known");
    // 40 in a second, and a bit more on a busy machine.
    assert!((2.0..=40.0).contains(&rate), "{rate}");
    assert_eq!(look["per_second"]["ok"], 0.0);
}

#[test]
fn top_without_a_terminal_says_what_to_do_instead_or_prints_plain_frames() {
    let place = Place::with_server(SERVER, WAITING);
    let _daemon = daemon(&place);
    place.check_fails(&["top"], 2, &["needs a terminal", "cerbas status", "-n COUNT"]);
    let output = place.run(&["top", "-n", "2", "--every", "100ms"]);
    assert_eq!((output.status, &*output.stderr), (Some(0), ""));
    assert_eq!(output.stdout.matches("cerbas top").count(), 2, "{}", output.stdout);
    assert!(output.stdout.contains("1 alive") && output.stdout.contains("web-1"), "{}", output.stdout);
    assert!(!output.stdout.contains('\x1b'), "{:?}", output.stdout);
}

/// `cerbas top` in a terminal of its own; killed and reaped at the end of the test.
struct Terminal {
    child: Child,
}

impl Terminal {
    /// What it prints goes to the file `shown`, its process id to `pid`, the modes of the terminal to `before` and `after`.
    fn open(place: &Place) -> Self {
        let program = env!("CARGO_BIN_EXE_cerbas");
        place.write(
            "in-terminal",
            &format!(
                "stty rows 30 cols 90; stty -g > before\n\
                 sh -c 'echo $$ > pid; exec {program} top --every 100ms'; echo $? > status; stty -g > after\n\
                 while [ -e in-terminal ] && [ ! -e seen ]; do sleep 0.05; done\n"
            ),
        );
        let mut command = Command::new("script");
        command.args(["-qefc", "sh in-terminal", "shown"]).env("TERM", "xterm").env_remove("NO_COLOR");
        command.env_remove("CERBAS_CONFIG").current_dir(place.path("."));
        let child = command.stdin(Stdio::piped()).stdout(Stdio::null()).spawn().expect("script can be run");
        Terminal { child }
    }

    fn press(&mut self, keys: &[u8]) {
        self.child.stdin.as_mut().expect("it is a pipe").write_all(keys).expect("it is read");
    }
}

impl Drop for Terminal {
    fn drop(&mut self) {
        // With its terminal what runs in it is hung up.
        let _already_gone = self.child.kill();
        let _reaped = self.child.wait();
    }
}

#[test]
fn top_leaves_the_terminal_as_it_was_however_it_ends() {
    let place = Place::with_server(SERVER, WAITING);
    let _daemon = daemon(&place);
    let read = |name: &str| fs::read(place.path(name)).map(|text| String::from_utf8_lossy(&text).into_owned());
    let read = |name: &str| read(name).unwrap_or_default();
    let quit = |terminal: &mut Terminal, way: &str| match way {
        "q" => terminal.press(b"q"),
        "Ctrl-C" => terminal.press(b"\x03"),
        _ => {
            let pid = read("pid").trim().parse().ok().and_then(Pid::from_raw).expect("it has a process id");
            kill_process(pid, Signal::TERM).expect("it runs");
        }
    };
    for way in ["q", "Ctrl-C", "SIGTERM"] {
        for name in ["shown", "status", "before", "after", "seen"] {
            let _not_there = fs::remove_file(place.path(name));
        }
        let mut terminal = Terminal::open(&place);
        eventually("it shows the daemon", || read("shown").contains("web-1"));
        // Ctrl-Z would leave the terminal as it is now.
        terminal.press(b"\x1ax");
        quit(&mut terminal, way);
        eventually("it has ended", || read("after").ends_with('\n'));
        assert_eq!((read("status").trim(), read("before")), ("0", read("after")), "{way}");
        // What the terminal showed is written down by somebody else, who may be later, and would leave out the end with the shell.
        eventually("it goes back", || read("shown").contains("\x1b[?25h\x1b[?1049l"));
        place.write("seen", "");
        let shown = read("shown");
        let (_, live) = shown.split_once("\x1b[?1049h\x1b[?25l").expect("it takes another page");
        let (live, after) = live.split_once("\x1b[?25h\x1b[?1049l").expect("it goes back");
        assert!(live.contains("\x1b[32m1 alive\x1b[0m") && !after.contains("\x1b[H"), "{way}: {shown:?}");
        let widest = live.split("\x1b[H").flat_map(|frame| frame.split("\r\n")).map(width).max();
        assert!(widest.is_some_and(|widest| widest <= 90), "{way}: {widest:?}");
    }
}

/// How many characters of `line` are shown.
fn width(line: &str) -> usize {
    let codes = line.split('\x1b').enumerate();
    codes
        .map(|(at, part)| {
            if at == 0 { part } else { part.split_once(|c: char| c.is_ascii_alphabetic()).map_or("", |(_, rest)| rest) }
        })
        .map(|part| part.chars().count())
        .sum()
}

#[test]
fn a_right_that_is_missing_in_redis_is_told_at_the_start_and_by_every_tool_until_it_is_given() {
    let place = Place::with_server(
        "lease = \"1s\"",
        "[functions.hello]\nbuiltin = \"hello\"\n[http]\nlisten = [\"127.0.0.1:0\"]\n",
    );
    let acl = |rules: &[&str]| {
        let mut set = redis::cmd("ACL");
        set.arg("SETUSER").arg("default");
        for rule in rules {
            set.arg(*rule);
        }
        set.query::<()>(&mut place.connect()).expect("it may")
    };
    acl(&["-hincrby"]);
    let daemon = place.daemon();
    daemon
        .wait_for("ERROR] redis does not let the user default do all that cerbas needs; ACL SETUSER default +hincrby");
    let ready = || place.run(&["status", "--no-rates"]).stdout;
    eventually("the status says so", || {
        ready().contains("redis does not let it do all that it needs; ACL SETUSER: +hincrby")
    });
    let doctor = place.run(&["doctor"]);
    assert!(
        doctor.status == Some(1) && doctor.stdout.contains("ACL SETUSER for ") && doctor.stdout.contains("+hincrby"),
        "{doctor:?}"
    );
    let metrics = place.run(&["nodes", "--json"]).stdout;
    assert!(metrics.contains("+hincrby"), "{metrics}");
    acl(&["+hincrby"]);
    daemon.wait_for("redis: no right is missing any more");
    eventually("it is well again", || !ready().contains("hincrby"));
    assert_eq!(place.run(&["doctor"]).status, Some(0));
}
