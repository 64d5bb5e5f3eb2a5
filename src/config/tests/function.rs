//! What stands in `[functions.NAME]`.

use super::*;

#[test]
fn a_function_is_built_from_its_configuration() {
    let config = read(
        r#"
        [functions.resize]
        worker = ["./resize", ""]
        processes = 4
        params = ["width"]
        timeout = "30s"
        cache = "1m"
        safe = false
        async = false
        concurrency = 2
        rate = "10/min"
        delivery = "at-least-once"
        cluster_concurrency = 8
        unique = "replace"
        unique_for = "10m"
        retries = 5
        backoff = "2s"
        max_backoff = "1min"
        retry_for = "1h"
        sources = ["web"]
        users = ["tom"]
        cwd = "work"
        user = "nobody"
        nice = -5
        env = { LANG = "C", EMPTY = "" }
        max_output = "2MiB"
        [functions.resize.limits]
        memory = "256MiB"
        cpu = "10s"
        open_files = 64
        processes = 10
        file_size = 0
        "#,
    );
    let function = &config.functions["resize"];
    let terms = Terms {
        params: vec!["width".to_owned()],
        timeout: Duration::from_secs(30),
        cache: Some(Duration::from_secs(60)),
        is_async: false,
        concurrency: Some(2),
        rate: "10/min".parse().ok(),
        delivery: Delivery::AtLeastOnce,
        cluster_concurrency: Some(8),
        unique: Some(OnDuplicate::Replace),
        ends_with_daemon: false,
        safe: Some(false),
        unique_for: Duration::from_mins(10),
        retries: Retries {
            count: 5,
            backoff: Duration::from_secs(2),
            max_backoff: Duration::from_mins(1),
            retry_for: Duration::from_hours(1),
        },
        sources: names(&["web"]),
        users: names(&["tom"]),
        room: None,
    };
    let process = ProcessConfig {
        cwd: PathBuf::from("/etc/work"),
        user: Some("nobody".to_owned()),
        nice: Some(-5),
        env: [("LANG", "C"), ("EMPTY", "")].map(|(name, value)| (name.to_owned(), value.to_owned())).into(),
        limits: LimitsConfig {
            memory: Some(256 << 20),
            cpu: Some(Duration::from_secs(10)),
            open_files: Some(64),
            processes: Some(10),
            file_size: Some(0),
        },
    };
    let argv = vec!["/etc/work/resize".to_owned(), String::new()];
    let body = BodyConfig::Worker(WorkerConfig { argv, processes: 4, process, max_output: 2 << 20 });
    assert_eq!((&function.terms, &function.body), (&terms, &body));
    assert_eq!(function.position, Some(Position { line: 2, column: 20 }));
}

#[test]
fn a_function_that_only_moved_is_the_same() {
    let function = "[functions.a]\ncommand = ['date']\n";
    assert_eq!(read(function), read(&format!("# moved\n{function}")));
    assert_ne!(read(function), read(&format!("{function}nice = 1\n")));
}

#[test]
fn what_a_function_leaves_out_is_the_servers_or_the_builtins() {
    let config = read(
        r#"
        server.max_output = 0x10
        [functions]
        a.command = ["date"]
        w.worker = ["w"]
        b.http = "https://h/"
        hello.builtin = "hello"
        sum = { builtin = "sum", timeout = "1s" }
        "#,
    );
    let BodyConfig::Command(date) = &config.functions["a"].body else { panic!("a command") };
    assert_eq!((date.max_output, date.process.cwd.as_path()), (16, Path::new("/etc")));
    let BodyConfig::Worker(worker) = &config.functions["w"].body else { panic!("a worker") };
    assert_eq!((worker.max_output, worker.processes), (16, 1));
    let BodyConfig::Http(http) = &config.functions["b"].body else { panic!("an http function") };
    assert_eq!((http.max_output, http.headers.len()), (16, 0));
    assert_eq!(config.functions["b"].terms, Terms::default());
    assert_eq!(config.functions["hello"].terms, BuiltinFunction::Hello.terms());
    let sum = BuiltinFunction::Sum.terms();
    assert_eq!(config.functions["sum"].terms, Terms { timeout: Duration::from_secs(1), ..sum });
}

#[test]
fn a_function_has_exactly_one_body() {
    check(
        "[functions.a]\ntimeout = '5s'\nprocesses = 2",
        &["cerbas.toml:1:12: functions.a: has nothing to run, give one of builtin, command, worker, http"],
    );
    check(
        "[functions.a]\nbuiltin = 'sum'\nhttp = 'http://h/'",
        &["cerbas.toml:1:12: functions.a: has builtin and http, give only one"],
    );
    check(
        "[functions.a]\ncomand = ['date']",
        &[
            "cerbas.toml:1:12: functions.a: has nothing to run, give one of builtin, command, worker, http",
            "cerbas.toml:2:1: functions.a.comand: unknown key, did you mean command?",
        ],
    );
}

#[test]
fn what_must_not_run_twice_is_not_tried_again() {
    check(
        "[functions.pay]\ncommand = ['true']\ndelivery = 'at-most-once'\nretries = 3",
        &[
            "cerbas.toml:4:1: functions.pay.retries: contradicts delivery = \"at-most-once\", which never runs a call again",
        ],
    );
}

#[test]
fn keys_of_another_body_are_refused() {
    check(
        "[functions.a]\ncommand = ['date']\nprocesses = 3\nheaders = {}\nprocess = 1",
        &[
            "cerbas.toml:3:1: functions.a.processes: belongs to worker, not to command",
            "cerbas.toml:4:1: functions.a.headers: belongs to http, not to command",
            "cerbas.toml:5:1: functions.a.process: unknown key, known are builtin, command, worker, http, cwd, user, nice, \
             env, limits, max_output, params, timeout, cache, safe, async, concurrency, rate, delivery, \
             cluster_concurrency, unique, unique_for, retries, backoff, max_backoff, retry_for, sources, users",
        ],
    );
    check(
        "[functions.a]\nbuiltin = 'sum'\nmax_output = 3\ncwd = '/'",
        &[
            "cerbas.toml:3:1: functions.a.max_output: belongs to command or worker or http, not to builtin",
            "cerbas.toml:4:1: functions.a.cwd: belongs to command or worker, not to builtin",
        ],
    );
}

#[test]
fn wrong_values_of_functions_are_told_all_at_once() {
    check(
        r#"
[functions.a]
builtin = "helo"
timeout = "0s"
cache = true
concurrency = 0
[functions.b]
command = []
nice = 20
env = { A = "a",
        B = 1 }
limits = { memory = 0, cpu = "1500ms", file = 1 }
[functions.c]
worker = "python3 a.py"
processes = 257
env = { "A=B" = "" }
[functions.d]
http = "ftp://user:secret@host/"
headers = { "a b" = "secret" }
[functions.e]
http = "/only/a/path"
headers = { a = "secret\n" }
timeout = "5"
"#,
        &[
            r#"cerbas.toml:3:11: functions.a.builtin: unknown name "helo", did you mean hello?"#,
            r#"cerbas.toml:4:11: functions.a.timeout: expected a duration from 1ms to 366days, found "0s""#,
            r#"cerbas.toml:5:9: functions.a.cache: expected a duration such as "5s", found true"#,
            "cerbas.toml:6:15: functions.a.concurrency: expected a whole number from 1 to 65536, found 0",
            r#"cerbas.toml:8:11: functions.b.command: expected a program and its arguments, as in ["date", "-u"]"#,
            "cerbas.toml:9:8: functions.b.nice: expected a whole number from -20 to 19, found 20",
            "cerbas.toml:11:13: functions.b.env: B: expected a text, found a whole number",
            r#"cerbas.toml:12:21: functions.b.limits.memory: expected a size such as "1MiB", at least 1 byte, found 0"#,
            "cerbas.toml:12:30: functions.b.limits.cpu: expected whole seconds, found 1s 500ms",
            "cerbas.toml:12:40: functions.b.limits.file: unknown key, known are memory, cpu, open_files, processes, file_size",
            r#"cerbas.toml:14:10: functions.c.worker: expected a program and its arguments, as in ["date", "-u"], found "python3 a.py""#,
            "cerbas.toml:15:13: functions.c.processes: expected a whole number from 1 to 256, found 257",
            r#"cerbas.toml:16:7: functions.c.env: "A=B" cannot be the name of a variable"#,
            "cerbas.toml:18:8: functions.d.http: expected a URL such as http://127.0.0.1:5000/path",
            r#"cerbas.toml:19:11: functions.d.headers: "a b" cannot be the name of a header"#,
            "cerbas.toml:21:8: functions.e.http: expected a URL such as http://127.0.0.1:5000/path",
            "cerbas.toml:22:11: functions.e.headers: the value of a cannot be sent in a header",
            r#"cerbas.toml:23:11: functions.e.timeout: expected a duration such as "5s", found "5": time unit needed, for example 5sec or 5ms"#,
        ],
    );
}

#[test]
fn not_every_name_can_be_a_functions() {
    let taken = "cannot be the name of a function, as work, status, process, actor, nodes, general, v1 are taken";
    check("[functions.work]\nbuiltin = 'sum'", &[&format!("cerbas.toml:1:12: functions.work: {taken}")]);
    let wrong = "cannot be the name of a function: expected 1 to 128 characters, no / or control characters";
    let long = "ü".repeat(129);
    for name in ["", "a/b", "a\\tb", &long] {
        let fault = format!("cerbas.toml:1:12: functions.\"{name}\": {wrong}");
        check(&format!("[functions.\"{name}\"]\nbuiltin = 'sum'"), &[&fault]);
    }
    let fits = "ü".repeat(128);
    assert!(read(&format!("[functions.\"{fits}\"]\nbuiltin = 'sum'")).functions.contains_key(&fits));
}

#[test]
fn a_check_finds_what_is_not_on_this_machine() {
    let folder = Folder::new();
    let program = folder.write("program", "#!/bin/sh\n");
    folder.write(
        "cerbas.toml",
        "[functions]\ngood.command = ['./program']\nmissing.command = ['./missing']\nnowhere.worker = ['date']\n\
         nowhere.cwd = '/no/such/folder'\nfar.http = 'http://127.0.0.1:1/'",
    );
    let config = folder.load(&[]).expect("it can be read");
    let places = |config: &Config| -> Vec<(usize, String)> {
        let faults = config.check().err().into_iter().flatten();
        let line = |fault: &Fault| fault.position.map_or(0, |position| position.line);
        faults.map(|fault| (line(&fault), fault.message.split(": ").next().unwrap_or_default().to_owned())).collect()
    };
    let missing = [(3, "functions.missing".to_owned()), (4, "functions.nowhere".to_owned())];
    assert_eq!(places(&config), [&[(2, "functions.good".to_owned())], &missing[..]].concat());
    fs::set_permissions(&program, fs::Permissions::from_mode(0o755)).expect("it can be made executable");
    assert_eq!(places(&config), missing);
}
