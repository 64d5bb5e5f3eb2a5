//! Functions that are programs.

use std::fs;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;

use rustix::process::{Pid, Signal, kill_process};

use super::program::{Output, Place, eventually, within};

/// A long time to sleep, in seconds, which nobody else sleeps: it tells the processes of one test from all others. They are
/// killed when it is dropped.
struct Marker(String);

impl Marker {
    fn new() -> Self {
        static NEXT: AtomicUsize = AtomicUsize::new(1);
        Marker(format!("3700.{}{:04}", std::process::id(), NEXT.fetch_add(1, Ordering::Relaxed)))
    }

    /// The processes that have it among their arguments.
    fn processes(&self) -> Vec<Pid> {
        let pids = fs::read_dir("/proc").expect("there is a /proc").flatten();
        let pids = pids.filter_map(|entry| entry.file_name().to_str()?.parse().ok());
        let ours = pids.filter(|pid| {
            let arguments = fs::read(format!("/proc/{pid}/cmdline")).unwrap_or_default();
            arguments.split(|&byte| byte == 0).any(|argument| argument == self.0.as_bytes())
        });
        ours.filter_map(Pid::from_raw).collect()
    }
}

impl Drop for Marker {
    fn drop(&mut self) {
        for pid in self.processes() {
            let _already_gone = kill_process(pid, Signal::KILL);
        }
    }
}

/// Ignores SIGTERM, and so do a child, a grandchild and one that has left the process group.
const STUBBORN: &str = "trap '' TERM; sleep $1 & sh -c 'trap \"\" TERM; sleep $1 & wait' sh $1 & \
                        setsid sh -c 'trap \"\" TERM; sleep $1 & wait' sh $1 & wait";

fn stubborn(marker: &Marker, timeout: &str) -> String {
    format!(
        "[functions.stubborn]\ncommand = ['sh', '-c', '''{STUBBORN}''', 'sh', '{}']\ntimeout = \"{timeout}\"\n",
        marker.0
    )
}

#[test]
fn a_command_that_ignores_sigterm_is_gone_with_all_its_processes_within_a_second() {
    let marker = Marker::new();
    let place = Place::with(&stubborn(&marker, "1500ms"));
    let _daemon = place.daemon();
    let call = place.start(&["call", "stubborn"]);
    eventually("they all run", || marker.processes().len() >= 6);
    assert_eq!(call.finish(), Output::new(3, "", "cerbas: stubborn: timeout\n"));
    within(Duration::from_secs(1), "all are gone", || marker.processes().is_empty());
}

#[test]
fn a_command_that_runs_when_the_daemon_gives_up_is_gone_with_all_its_processes() {
    let marker = Marker::new();
    let place = Place::with_server("shutdown_timeout = \"100ms\"", &stubborn(&marker, "1m"));
    let mut daemon = place.daemon();
    assert_eq!(place.run(&["send", "stubborn"]).status, Some(0));
    eventually("they all run", || marker.processes().len() >= 6);
    daemon.signal(Signal::TERM);
    assert_eq!(daemon.wait().code(), Some(1), "{}", daemon.log());
    within(Duration::from_secs(1), "all are gone", || marker.processes().is_empty());
}

#[test]
fn a_command_gets_its_arguments_and_gives_its_output() {
    let place = Place::with(
        r#"
[functions.shout]
command = ["sh", "-c", "echo $CERBAS_ARG_WORD | tr a-z A-Z"]
params = ["word"]
[functions.fail]
command = ["sh", "-c", "echo one >&2; echo 'the reason' >&2; exit 3"]
[functions.json]
command = ["sh", "-c", "read -r line; echo \"[$line]\""]
[functions.late]
command = ["sleep", "30"]
timeout = "200ms"
"#,
    );
    let _daemon = place.daemon();
    place.check(&["call", "shout", r#"{"word": "hush"}"#], 0, "HUSH\n", "");
    place.check(&["call", "shout"], 1, "", "cerbas: shout: invalid arguments: word: is missing\n");
    place.check(&["call", "late"], 3, "", "cerbas: late: timeout\n");
    let failed = place.run(&["call", "fail"]);
    assert_eq!(failed.status, Some(1), "{failed:?}");
    assert!(failed.stderr.contains("the reason"), "{failed:?}");
    let printed: serde_json::Value =
        serde_json::from_str(&place.run(&["call", "json", r#"{"a": 1}"#]).stdout).expect("it is JSON");
    assert_eq!((&printed[0]["func"], &printed[0]["args"]["a"]), (&"json".into(), &1.into()));
}

/// Answers each line with its own process id.
const WORKER: &str = r#"
while read -r line; do
  id=$(printf '%s' "$line" | sed 's/^{"id":"\([^"]*\)".*/\1/')
  case "$line" in *crash*) exit 1;; esac
  printf '{"id":"%s","status":"ok","data":%s}\n' "$id" $$
done
touch ended
"#;

#[test]
fn a_worker_serves_many_calls_with_one_process_and_is_replaced_when_it_ends() {
    let place = Place::with("[functions.number]\nworker = [\"sh\", \"worker.sh\"]\n");
    place.write("worker.sh", WORKER);
    let mut daemon = place.daemon();
    let first = place.run(&["call", "number"]);
    assert_eq!(first.status, Some(0), "{first:?}");
    for _ in 0..5 {
        assert_eq!(place.run(&["call", "number"]), first);
    }
    let crashed = place.run(&["call", "number", r#"{"why": "crash"}"#]);
    assert_eq!(crashed.status, Some(1), "{crashed:?}");
    assert_eq!(crashed.stderr.lines().count(), 1, "{crashed:?}");
    let second = place.run(&["call", "number"]);
    assert_eq!(second.status, Some(0), "{second:?}");
    assert_ne!(second.stdout, first.stdout);

    daemon.signal(Signal::TERM);
    assert_eq!(daemon.wait().code(), Some(0), "{}", daemon.log());
    let worker = format!("/proc/{}", second.stdout.trim());
    within(Duration::from_secs(1), "the worker is gone", || !std::path::Path::new(&worker).exists());
    assert!(place.path("ended").exists(), "it was not asked to end before it was killed");
}

#[test]
fn the_daemon_can_be_run_from_a_shell_script() {
    let place = Place::with("[functions.hello]\nbuiltin = \"hello\"\n[functions.halt]\nbuiltin = \"halt\"\n");
    let program = env!("CARGO_BIN_EXE_cerbas");
    let script = format!(
        "{program} run 2>log & daemon=$!
         trap 'kill $daemon 2>/dev/null' EXIT
         until grep -qs 'functions are ready' log; do sleep 0.02; done
         {program} call hello && {program} call nothing
         echo \"status $?\"
         {program} halt && wait $daemon
         echo \"status $?\""
    );
    let mut shell = std::process::Command::new("timeout");
    shell.args(["20", "sh", "-c", &script]).current_dir(place.path("."));
    let output = shell.output().expect("it can be run");
    assert_eq!(String::from_utf8_lossy(&output.stdout), "hello world!\nstatus 1\nhalting\nstatus 0\n");
    assert_eq!(String::from_utf8_lossy(&output.stderr), "cerbas: nothing: Undefined function\n");
}

#[test]
fn a_daemon_that_is_idle_does_next_to_nothing() {
    let place = Place::with("[functions.hello]\nbuiltin = \"hello\"\n");
    let daemon = place.daemon();
    place.check(&["call", "hello"], 0, "hello world!\n", "");
    let ticks = || -> u64 {
        let stat = fs::read_to_string(format!("/proc/{}/stat", daemon.pid())).expect("it runs");
        let fields: Vec<&str> = stat.rsplit(") ").next().expect("it has fields").split(' ').collect();
        fields[11..13].iter().map(|field| field.parse::<u64>().expect("it is a number")).sum()
    };
    let before = ticks();
    // What it does in this time is what this is about.
    std::thread::sleep(Duration::from_secs(2));
    // In hundredths of a second.
    assert!(ticks() - before <= 10, "it used {} ticks in two seconds", ticks() - before);
}
