//! Functions that panic.

use cerbas::protocol::Verdict;
use serde::{Deserialize, Serialize, Serializer};
use serde_json::json;

use crate::support::{Anything, Daemon, becomes, failed, verdicts, workers};

#[derive(Deserialize)]
struct Told {
    text: String,
}

/// Cannot even be written.
struct Unwritable;

impl Serialize for Unwritable {
    fn serialize<S: Serializer>(&self, _: S) -> Result<S::Ok, S::Error> {
        panic!("unwritable")
    }
}

fn daemon() -> Daemon {
    Daemon::start(workers(2), |server, _| {
        server
            .function("panic", |_, Told { text }: Told| -> Result<(), _> { panic!("{text}") })
            .function("index", |_, _: Anything| Ok([1, 2, 3][std::hint::black_box(7)]))
            .function("strange", |_, _: Anything| -> Result<(), _> { std::panic::panic_any(7) })
            .function("unwritable", |_, _: Anything| Ok(Unwritable))
    })
}

#[test]
fn a_panic_is_an_error_with_its_text() {
    let daemon = daemon();
    daemon.push(json!({"id": "a", "func": "panic", "args": {"text": "boom"}}));
    assert_eq!(daemon.answer("a"), failed("function panicked: boom"));
    daemon.send("b", "strange");
    assert_eq!(daemon.answer("b"), failed("function panicked: no message"));
    daemon.send("c", "unwritable");
    assert_eq!(daemon.answer("c"), failed("function panicked: unwritable"));
    daemon.send("d", "index");
    assert_eq!(daemon.answer("d"), failed("function panicked: index out of bounds: the len is 3 but the index is 7"));
    assert_eq!(verdicts(&daemon.settled()), [(Verdict::Error, 4)]);
}

#[test]
fn panics_cost_no_worker() {
    let daemon = daemon();
    for _ in 0..100 {
        daemon.push(json!({"func": "panic", "args": {"text": "again"}}));
    }
    becomes(100, || daemon.balance().count(Verdict::Error));
    daemon.has_a_whole_pool_of(2);
    daemon.serves();
}
