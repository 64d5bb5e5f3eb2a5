//! A daemon that takes over another configuration.

use cerbas::Config;
use cerbas::protocol::Verdict;
use serde_json::{Value, json};

use crate::support::{Daemon, becomes, configured, eventually, ok, rejected, unfit, verdicts};

/// A worker that answers each call with its process id.
const WORKER: &str = r#"
[functions.pid]
worker = ["/bin/sh", "-c", '''
while read -r line; do
    id=${line#*'"id":"'}
    echo "{\"id\":\"${id%%'"'*}\",\"status\":\"ok\",\"data\":$$}"
done
''']
"#;

fn config(functions: &str) -> Config {
    configured(&format!("[server]\nworkers = 2\n{functions}"))
}

#[track_caller]
fn call(daemon: &Daemon, func: &str) -> Value {
    daemon.client().source("web").call(func, json!({})).expect("it has a value").to().expect("it is a value")
}

#[track_caller]
fn check(daemon: &Daemon, request: Value, expected: Value) {
    let id = format!("check-{}", daemon.balance().accepted);
    let mut request = request;
    request["id"] = Value::from(id.as_str());
    daemon.push(request);
    assert_eq!(daemon.answer(&id), expected);
}

#[test]
fn functions_come_and_go() {
    let daemon = Daemon::plain(config("[functions.old]\nbuiltin = \"hello\""));
    check(&daemon, json!({"func": "old"}), ok("hello world!"));
    check(&daemon, json!({"func": "new", "args": {"message": 1}}), rejected("Undefined function"));

    daemon.reconfigure(config("[functions.new]\nbuiltin = \"echo\"")).expect("it is taken");
    check(&daemon, json!({"func": "old"}), rejected("Undefined function"));
    check(&daemon, json!({"func": "new", "args": {"message": 1}}), ok(1));
    // Those of the program stay.
    daemon.serves();

    daemon.reconfigure(config("[functions.new]\nbuiltin = \"sum\"")).expect("it is taken");
    check(&daemon, json!({"func": "new", "args": {"a": 1, "b": 2}}), ok(3));
    check(&daemon, json!({"func": "new", "args": {"message": 1}}), unfit("a: is missing"));
}

#[test]
fn terms_change_with_their_function() {
    let daemon = Daemon::plain(config("[functions.echo]\nbuiltin = \"echo\""));
    check(&daemon, json!({"func": "echo", "args": {"message": 1}}), ok(1));
    daemon
        .reconfigure(config("[functions.echo]\nbuiltin = \"echo\"\nparams = [\"message\", \"more\"]"))
        .expect("it is taken");
    check(&daemon, json!({"func": "echo", "args": {"message": 1}}), unfit("more: is missing"));
    daemon.reconfigure(config("[functions.echo]\nbuiltin = \"echo\"\nsources = [\"web\"]")).expect("it is taken");
    let refused = rejected("cerbas authorization - invalid source");
    check(&daemon, json!({"func": "echo", "args": {"message": 1}}), refused);
    check(&daemon, json!({"func": "echo", "args": {"message": 1}, "source": "web"}), ok(1));
}

#[test]
fn who_may_call_changes() {
    let daemon = Daemon::plain(config(""));
    check(&daemon, json!({"func": "one"}), ok(1));

    daemon
        .reconfigure(config("[auth]\nsources = [\"web\"]\nusers = [\"tom\"]\nrequire_user = true"))
        .expect("it is taken");
    check(&daemon, json!({"func": "one"}), rejected("cerbas authorization - invalid source"));
    check(&daemon, json!({"func": "one", "source": "web"}), rejected("cerbas authorization - invalid user"));
    check(
        &daemon,
        json!({"func": "one", "source": "web", "user": "eve"}),
        rejected("cerbas authorization - invalid user"),
    );
    check(&daemon, json!({"func": "one", "source": "web", "user": "tom"}), ok(1));

    daemon.reconfigure(config("")).expect("it is taken");
    check(&daemon, json!({"func": "one"}), ok(1));
}

#[test]
fn calls_that_run_or_wait_are_untouched() {
    let before = "[functions.cat]\ncommand = [\"/bin/sh\", \"-c\", 'read line; echo done']\nconcurrency = 1";
    let daemon = Daemon::plain(config(before));
    daemon.send("running", "held");
    daemon.gate().holds(1);
    daemon.send("command", "cat");
    daemon.reconfigure(config("[auth]\nsources = []")).expect("it is taken");
    daemon.gate().open();
    assert_eq!(daemon.answer("running"), ok("let go"));
    // Taken before the reload it runs as it was; taken afterwards it is refused.
    let answer = daemon.answer("command");
    assert!([ok("done"), rejected("Undefined function")].contains(&answer), "{answer}");
    let balance = daemon.settled();
    assert_eq!((balance.accepted, balance.count(Verdict::Error)), (2, 0), "{:?}", verdicts(&balance));
}

#[test]
fn processes_of_unchanged_functions_stay() {
    let daemon = Daemon::plain(config(WORKER));
    let first = call(&daemon, "pid");
    assert!(first.is_u64(), "{first}");
    assert_eq!(call(&daemon, "pid"), first);

    // Moved by a few lines, beside another one, and under other rules it is still the same.
    daemon
        .reconfigure(config(&format!(
            "[auth]\nsources = [\"web\"]\n\n[functions.hello]\nbuiltin = \"hello\"\n{WORKER}"
        )))
        .expect("it is taken");
    assert_eq!(call(&daemon, "pid"), first);
    assert_eq!(call(&daemon, "hello"), "hello world!");
}

#[test]
fn processes_of_changed_functions_are_replaced_and_end() {
    let daemon = Daemon::plain(config(WORKER));
    let first = call(&daemon, "pid");
    daemon.reconfigure(config(&format!("{WORKER}timeout = \"4s\"\n"))).expect("it is taken");
    let second = call(&daemon, "pid");
    assert_ne!(first, second);
    ends(&first);

    daemon.reconfigure(config("")).expect("it is taken");
    ends(&second);
}

#[track_caller]
fn ends(process: &Value) {
    let folder = std::path::PathBuf::from(format!("/proc/{process}"));
    eventually("the process of the old function ends", || !folder.exists());
}

#[test]
fn a_process_that_serves_a_call_during_a_reload_finishes_it() {
    let slow = WORKER.replace("    id=", "    until test -e \"$CERBAS_GATE\"; do sleep 0.01; done\n    id=");
    let folder = std::env::temp_dir().join(format!("cerbas-reload-{}", std::process::id()));
    std::fs::create_dir_all(&folder).expect("the folder can be made");
    let gate = folder.join("gate");
    let env = format!("timeout = \"30s\"\nenv = {{ CERBAS_GATE = {:?} }}\n", gate.to_string_lossy());
    let daemon = Daemon::plain(config(&format!("{slow}{env}")));
    daemon.has_a_whole_pool_of(2);
    daemon.send("a", "pid");
    becomes(1, || daemon.pool().idle);
    daemon.reconfigure(config("")).expect("it is taken");
    std::fs::write(&gate, "").expect("the gate can be opened");
    assert_eq!(daemon.answer("a")["status"], "ok");
    std::fs::remove_dir_all(&folder).expect("the folder can be removed");
}

#[test]
fn a_changed_function_does_not_answer_with_values_of_the_old_one() {
    let says = |word: &str| config(&format!("[functions.say]\ncommand = [\"echo\", {word:?}]\ncache = \"1h\""));
    let daemon = Daemon::plain(says("old"));
    assert_eq!(call(&daemon, "say"), "old");
    daemon.reconfigure(says("new")).expect("it is taken");
    assert_eq!(call(&daemon, "say"), "new");
}

#[test]
fn the_values_of_an_unchanged_function_are_kept() {
    let config = || config("[functions.now]\ncommand = [\"sh\", \"-c\", \"echo $$\"]\ncache = \"1h\"");
    let daemon = Daemon::plain(config());
    let first = call(&daemon, "now");
    daemon.reconfigure(config()).expect("it is taken");
    assert_eq!(call(&daemon, "now"), first);
}
