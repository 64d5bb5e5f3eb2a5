use std::thread;

use super::super::testing::{
    arguments, call, call_within, eventually, is_our_child, json, marker, nothing, running, shell,
};
use super::*;
use crate::protocol::Json;

/// Answers every call of the tests with its own process number.
const GOOD: &str = r#"while read -r line; do echo '{"id":"test-1","status":"ok","data":'$$'}'; done"#;

fn worker_of(argv: Vec<String>, processes: usize) -> Worker {
    let process = ProcessOptions::default();
    Worker::new(WorkerOptions { name: "test".to_owned(), argv, processes, process, max_output: 1 << 20 })
}

fn worker(script: &str) -> Worker {
    worker_of(shell(script, &[]), 1)
}

fn run(worker: &Worker) -> Outcome {
    worker.run(&call(), nothing())
}

fn process_number(worker: &Worker) -> u32 {
    run(worker).unwrap().to().unwrap()
}

fn error_of(worker: &Worker) -> String {
    run(worker).unwrap_err().to_string()
}

/// A program whose first process does `bad` when it is called, and then hangs. All later ones are good.
fn bad_once(bad: &str) -> Worker {
    let directory = std::env::temp_dir().join(format!("cerbas-worker-{}", marker()));
    let script =
        format!("if mkdir $1 2>/dev/null; then read -r line; {bad}; sleep 60; fi; rmdir $1 2>/dev/null; {GOOD}");
    worker_of(shell(&script, &[directory.to_str().unwrap()]), 1)
}

#[test]
fn one_process_serves_call_after_call() {
    let worker = worker(GOOD);
    let process = process_number(&worker);
    assert_eq!(process_number(&worker), process);
    assert_eq!((worker.kind(), worker.capacity()), ("worker", Some(1)));
}

#[test]
fn a_program_in_another_language_reads_requests_and_writes_answers() {
    let script = r#"
import json, sys
for line in sys.stdin:
    call = json.loads(line)
    answer = {"id": call["id"], "status": "ok", "data": call["args"]} if call["args"] else \
             {"id": call["id"], "status": "error", "data": "no arguments"}
    print(json.dumps(answer), flush=True)
"#;
    let worker = worker_of(["python3", "-c", script].map(str::to_owned).into(), 1);
    let args = json!({"text": "ä\n".repeat(50_000), "list": [1, null]});
    assert_eq!(worker.run(&call(), arguments(args.clone())), Ok(args));
    assert_eq!(run(&worker), Err(CallError::Failed("no arguments".to_owned())));
}

#[test]
fn a_child_that_misbehaves_is_replaced_and_its_caller_told() {
    let cases = [
        ("echo garbage", "worker wrote something that is not an answer: garbage: expected value at line 1 column 1"),
        (
            "echo '{\"id\":\"test-2\",\"status\":\"ok\",\"data\":1}'",
            "worker answered another call: {\"id\":\"test-2\",\"status\":\"ok\",\"data\":1}",
        ),
        ("exit 3", "worker ended with exit status 3 in the middle of the call"),
        ("printf '{\"id\"'; exit 0", "worker ended with exit status 0 in the middle of the call"),
        ("kill -9 $$", "worker was killed by signal 9 (SIGKILL) in the middle of the call"),
        ("sleep 60 & exit 4", "worker ended with exit status 4 in the middle of the call"),
        ("exec >&-", "worker closed its input or output in the middle of the call"),
        ("while :; do printf xxxxxxxxxxxxxxxx; done", "worker wrote a line that is larger than 1 MiB"),
    ];
    for (bad, expected) in cases {
        let worker = bad_once(bad);
        assert_eq!(error_of(&worker), expected);
        let next = run(&worker);
        assert!(next.is_ok(), "after {bad}: {next:?}");
    }
}

#[test]
fn a_child_that_hangs_is_killed_with_all_it_started_when_the_call_is_cancelled() {
    let marker = marker();
    let script = "trap '' TERM; read -r line; setsid sleep $1 & sleep $1 & while :; do sleep $1; done";
    let worker = worker_of(shell(script, &[&marker]), 1);
    let call = call();
    let cancel = call.cancel.clone();
    let ours = thread::scope(|scope| {
        let run = scope.spawn(|| worker.run(&call, nothing()));
        eventually("all four run", || running(&marker).len() == 4);
        let ours: Vec<u32> = running(&marker).into_iter().filter(|&pid| is_our_child(pid)).collect();
        cancel.cancel();
        assert_eq!(run.join().unwrap(), Err(CallError::Cancelled));
        ours
    });
    assert_eq!(ours.len(), 1);
    assert!(!is_our_child(ours[0]), "it is a zombie");
    eventually("all are gone", || running(&marker).is_empty());
}

#[test]
fn after_a_call_that_took_too_long_the_next_is_served_by_a_new_child() {
    let worker = bad_once(":");
    assert_eq!(worker.run(&call_within(Duration::from_millis(200)), nothing()), Err(CallError::TimedOut));
    assert!(run(&worker).is_ok());
}

#[test]
fn a_child_that_died_while_idle_costs_no_call() {
    let worker = worker(r#"while read -r line; do echo '{"id":"test-1","status":"ok","data":'$$'}'; exit; done"#);
    let first = process_number(&worker);
    let second = process_number(&worker);
    assert_ne!(first, second);
    assert!(!is_our_child(first), "it is a zombie");
}

#[test]
fn a_child_that_says_more_than_its_answer_is_not_asked_again() {
    let worker = worker(
        r#"while read -r line; do echo '{"id":"test-1","status":"ok","data":'$$'}
more'; done"#,
    );
    assert_ne!(process_number(&worker), process_number(&worker));
}

#[test]
fn a_program_that_cannot_be_started_says_so_at_once_and_is_left_alone_for_a_while() {
    let starts = std::env::temp_dir().join(format!("cerbas-worker-{}", marker()));
    let worker = worker_of(shell("echo >>$1; exit 1", &[starts.to_str().unwrap()]), 1);
    let started = Instant::now();
    for _ in 0..20 {
        let refusal = error_of(&worker);
        assert!(refusal.starts_with("worker cannot be started, it is tried again in "), "{refusal}");
        assert!(refusal.ends_with("ms: worker ended with exit status 1 before it read a call"), "{refusal}");
    }
    let count = std::fs::read_to_string(&starts).unwrap().lines().count();
    let pauses = started.elapsed().as_millis() / 100;
    assert!(count as u128 <= 2 + pauses, "{count} starts within {pauses} pauses");
    std::fs::remove_file(starts).unwrap();
    let missing = worker_of(vec!["/no/such".to_owned()], 1);
    assert_eq!(error_of(&missing), "cannot run \"/no/such\": No such file or directory");
}

#[test]
fn a_program_that_ends_once_before_it_reads_costs_no_call() {
    let directory = std::env::temp_dir().join(format!("cerbas-worker-{}", marker()));
    let script = format!("if mkdir $1 2>/dev/null; then exit 1; fi; rmdir $1; {GOOD}");
    assert!(run(&worker_of(shell(&script, &[directory.to_str().unwrap()]), 1)).is_ok());
}

/// A worker in Python that does what the argument `bad` says.
const POISONED: &str = r#"
import json, sys, time
for line in sys.stdin:
    call = json.loads(line)
    bad, answer = call["args"].get("bad"), {"id": call["id"], "status": "ok", "data": "good"}
    if bad == "nan":
        answer["data"] = float("nan")
    elif bad == "lone surrogate":
        answer["data"] = "\ud800"
    elif bad == "print":
        print("secret", flush=True)
        continue
    elif bad == "print first":
        print("secret", flush=True)
    elif bad == "exit":
        sys.exit(3)
    elif bad == "bytes":
        sys.stdout.buffer.write(b"\xff\xfe secret\n")
        sys.stdout.flush()
        continue
    elif bad == "long line":
        answer["data"] = "x" * (3 << 20)
    elif bad == "hang":
        time.sleep(60)
    elif bad == "late":
        print(json.dumps(answer), flush=True)
        print("secret", flush=True)
        continue
    print(json.dumps(answer), flush=True)
"#;

#[test]
fn what_a_call_does_to_its_child_costs_no_other_call() {
    let worker = worker_of(["python3", "-c", POISONED].map(str::to_owned).into(), 1);
    let good = || assert_eq!(run(&worker), Ok(json!("good")));
    for bad in ["nan", "lone surrogate", "print", "print first", "exit", "bytes", "long line", "hang", "late"] {
        let time_limit = Duration::from_millis(if bad == "hang" { 300 } else { 30_000 });
        // On a child that has answered, on fresh ones one after the other, and in turn with good ones.
        for count in [1, 3, 1] {
            good();
            for _ in 0..count {
                let outcome = worker.run(&call_within(time_limit), arguments(json!({"bad": bad})));
                let may_be_good = ["late", "print first"].contains(&bad);
                assert!(outcome.is_err() || may_be_good, "{bad}: {outcome:?}");
            }
            good();
        }
    }
}

#[test]
fn what_is_left_over_from_the_call_before_is_no_error_and_is_shown_to_nobody() {
    let answer = r#"echo '{"id":"test-1","status":"ok","data":'$$'}'"#;
    let worker_that =
        |then: &str| worker(&format!("read -r line; {answer}; read -r line; echo secret; {then}; {GOOD}"));
    let late = worker_that(answer);
    let first = process_number(&late);
    assert_eq!(process_number(&late), first);
    assert_ne!(process_number(&late), first, "it is not asked again");
    let silent = worker_that("sleep 60");
    assert!(run(&silent).is_ok());
    let expected = "worker wrote something that is not an answer: expected value at line 1 column 1";
    assert_eq!(error_of(&silent), expected);
    // It says so without having read the next call.
    let gone = worker(&format!("read -r line; {answer}; exec 0<&-; echo secret"));
    assert!(run(&gone).is_ok() && run(&gone).is_ok());
}

#[test]
fn calls_run_side_by_side_up_to_the_number_of_processes() {
    // Each answers only when both run.
    let directory = std::env::temp_dir().join(format!("cerbas-worker-{}", marker()));
    let script = r#"read -r line; mkdir -p $1; : >$1/$$; while [ $(ls $1 | wc -l) -lt 2 ]; do sleep 0.01; done
                        echo '{"id":"test-1","status":"ok","data":'$$'}'; read -r line"#;
    let worker = worker_of(shell(script, &[directory.to_str().unwrap()]), 2);
    let values: [Json; 2] = thread::scope(|scope| {
        let calls = [scope.spawn(|| run(&worker)), scope.spawn(|| run(&worker))];
        calls.map(|call| call.join().unwrap().unwrap())
    });
    assert_ne!(values[0], values[1]);
    std::fs::remove_dir_all(directory).unwrap();
}

#[test]
fn a_call_that_waits_for_a_child_can_be_cancelled_and_has_a_deadline() {
    let marker = marker();
    let worker = worker_of(shell("while :; do sleep $1; done", &[&marker]), 1);
    let (busy, waiting) = (call(), call());
    thread::scope(|scope| {
        let first = scope.spawn(|| worker.run(&busy, nothing()));
        eventually("the child is busy", || !running(&marker).is_empty());
        let second = scope.spawn(|| worker.run(&waiting, nothing()));
        assert_eq!(worker.run(&call_within(Duration::from_millis(50)), nothing()), Err(CallError::TimedOut));
        waiting.cancel.cancel();
        assert_eq!(second.join().unwrap(), Err(CallError::Cancelled));
        busy.cancel.cancel();
        assert_eq!(first.join().unwrap(), Err(CallError::Cancelled));
    });
}

#[test]
fn a_child_that_ends_at_the_end_of_its_input_is_given_the_time_to() {
    let file = std::env::temp_dir().join(format!("cerbas-worker-{}", marker()));
    let worker = worker_of(shell(&format!("{GOOD}; echo done >$1"), &[file.to_str().unwrap()]), 1);
    let process = process_number(&worker);
    drop(worker);
    assert_eq!(std::fs::read_to_string(&file).unwrap(), "done\n");
    assert!(!is_our_child(process), "it is a zombie");
    std::fs::remove_file(file).unwrap();
}

#[test]
fn a_child_that_does_not_care_is_gone_with_the_worker() {
    let marker = marker();
    let script = format!("trap '' TERM; setsid sleep $1 2>&1 & {GOOD}; while :; do sleep $1; done");
    let worker = worker_of(shell(&script, &[&marker]), 1);
    assert!(run(&worker).is_ok());
    eventually("both run", || running(&marker).len() == 2);
    drop(worker);
    eventually("all are gone", || running(&marker).is_empty());
}

#[test]
fn a_child_that_writes_much_to_standard_error_is_not_held_up() {
    let noisy = r#"while read -r line; do head -c 300000 /dev/zero >&2; echo '{"id":"test-1","status":"ok"}'; done"#;
    assert_eq!(run(&worker(noisy)), Ok(json!(null)));
}
