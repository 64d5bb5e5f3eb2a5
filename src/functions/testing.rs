//! What the tests of the bodies share.

use std::fs;
use std::process;
use std::sync::OnceLock;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::thread;
use std::time::{Duration, Instant};

use super::{Call, CancelToken, Way};
use crate::protocol::{Arguments, Json, RequestId};

/// A [`Json`], written as with the macro of serde_json.
macro_rules! json {
    ($($value:tt)+) => { $crate::protocol::Json::from(serde_json::json!($($value)+)) };
}
pub(crate) use json;

/// A call of `test` that has `timeout`.
pub(super) fn call_within(timeout: Duration) -> Call {
    Call {
        id: RequestId::from_text("test-1").unwrap(),
        func: "test".to_owned(),
        user: Some("peter".to_owned()),
        source: None,
        timeout,
        deadline: Instant::now() + timeout,
        deadline_at: 1_700_000_000_000,
        chain: vec!["first".to_owned()],
        way: Way::default(),
        cancel: CancelToken::default(),
        log: OnceLock::new(),
    }
}

/// A call that has plenty of time.
pub(super) fn call() -> Call {
    call_within(Duration::from_secs(30))
}

/// `value`, which must be an object, as arguments.
pub(super) fn arguments(value: Json) -> Arguments {
    value.to().expect("arguments are an object")
}

/// No arguments.
pub(super) fn nothing() -> Arguments {
    Arguments::new()
}

/// The command that runs `script` in a shell, with `rest` as `$1` and so on.
pub(super) fn shell(script: &str, rest: &[&str]) -> Vec<String> {
    ["sh", "-c", script, "sh"].iter().chain(rest).map(|&part| part.to_owned()).collect()
}

/// A long time to sleep, in seconds, which no other test sleeps: it tells the processes of a test from all others.
pub(super) fn marker() -> String {
    static NEXT: AtomicUsize = AtomicUsize::new(1);
    format!("3600.{}{:04}", process::id(), NEXT.fetch_add(1, Ordering::Relaxed))
}

/// The processes that run with `marker` among their arguments.
pub(super) fn running(marker: &str) -> Vec<u32> {
    let pids = fs::read_dir("/proc").unwrap().flatten().filter_map(|entry| entry.file_name().to_str()?.parse().ok());
    pids.filter(|pid| {
        let arguments = fs::read(format!("/proc/{pid}/cmdline")).unwrap_or_default();
        arguments.split(|&byte| byte == 0).any(|argument| argument == marker.as_bytes())
    })
    .collect()
}

/// Whether `pid` is a child of this process, running or waiting to be reaped.
pub(super) fn is_our_child(pid: u32) -> bool {
    let status = fs::read_to_string(format!("/proc/{pid}/status")).unwrap_or_default();
    status.lines().any(|line| line.split_whitespace().eq(["PPid:", &process::id().to_string()]))
}

/// Waits until `condition` holds; fails the test if it does not within ten seconds.
pub(super) fn eventually(what: &str, mut condition: impl FnMut() -> bool) {
    let until = Instant::now() + Duration::from_secs(10);
    while !condition() {
        assert!(Instant::now() < until, "not within ten seconds: {what}");
        thread::sleep(Duration::from_millis(2));
    }
}
