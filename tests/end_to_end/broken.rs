//! A thread of the daemon panics where no function runs.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use cerbas::functions::Body;
use cerbas::protocol::{Arguments, Outcome};
use cerbas::{Call, Json, Server, Terms};

use crate::support::workers;

/// A function that nobody can ask how many calls it takes once it is armed: the thread that does panics.
#[derive(Clone, Default)]
struct Mined {
    is_armed: Arc<AtomicBool>,
}

impl Body for Mined {
    fn run(&self, _: &Call, _: Arguments) -> Outcome {
        self.is_armed.store(true, Ordering::Release);
        Ok(Json::from("done"))
    }

    fn kind(&self) -> &'static str {
        "native"
    }

    fn capacity(&self) -> Option<usize> {
        assert!(!self.is_armed.load(Ordering::Acquire), "it goes off");
        Some(1)
    }
}

/// A daemon with such a function, called `mined`, after one request for it.
fn break_with(mined: Mined) -> cerbas::Running {
    let running = Server::new(workers(2)).body("mined", Terms::default(), mined).start().expect("it starts");
    running.memory().expect("it has no Redis").push(0, r#"{"id": "r", "func": "mined"}"#);
    running
}

#[test]
fn a_worker_that_breaks_ends_the_daemon_which_says_so() {
    let running = break_with(Mined::default());
    let ended = running.wait();
    let broken = ended.broken.clone().expect("a thread has panicked");
    assert_eq!((broken.thread.as_str(), broken.message.as_str(), ended.is_clean()), ("worker", "it goes off", false));
    assert_eq!(running.ended(), Some(ended.clone()));
    assert_eq!(running.stop(), ended);
}

#[test]
fn what_the_broken_thread_had_in_its_hands_stays_in_flight_and_is_not_answered() {
    let running = break_with(Mined { is_armed: Arc::new(AtomicBool::new(true)) });
    let memory = running.memory().expect("it has no Redis").clone();
    let broken = running.wait().broken.expect("a thread has panicked");
    assert!(broken.thread.starts_with("intake"), "{broken}");
    assert_eq!((memory.in_flight(), memory.queue(0).len()), (1, 0));
    assert_eq!(memory.answer(&cerbas::protocol::RequestId::Text("r".into()), std::time::Duration::ZERO), None);
}

#[test]
fn the_other_daemon_of_the_program_goes_on() {
    let other = Server::new(workers(1)).function("one", |_: &Call, _: Json| Ok(1)).start().expect("it starts");
    assert!(break_with(Mined::default()).wait().broken.is_some());
    let mut client = other.client().expect("there is a broker");
    assert_eq!(client.call("one", serde_json::json!({})).map(|one| one.to_string()), Ok("1".to_owned()));
    assert!(other.stop().is_clean());
}
