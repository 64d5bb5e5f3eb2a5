//! That nothing is left behind in Redis for ever.

use serde_json::json;

use super::world::World;

#[test]
fn after_thousands_of_requests_every_key_has_an_end_or_a_bound() {
    let world = World::open();
    let mut foreign = world.foreign();
    let asked = foreign.send_mixed(0..3000);
    for number in 0..100 {
        foreign.send(&format!("silent-{number}"), json!({"func": "hello", "reply": false}));
        foreign.send(&format!("refused-{number}"), json!({"func": "nothing"}));
        foreign.send(&format!("failed-{number}"), json!({"func": "witherror"}));
        foreign.send(&format!("late-{number}"), json!({"func": "hello", "delay": 1}));
        foreign.push(format!("what is this: {number}"));
    }
    foreign.check_answered(&asked);
    (0..100).for_each(|number| drop(foreign.answer(&format!("late-{number}"))));
    world.check_all_settled();

    for key in foreign.keys("*") {
        match key.as_str() {
            "CERBAS-COUNTER" | "CERBAS-VERDICTS" => {}
            "CERBAS-DEAD" => assert_eq!(foreign.ask::<u64>(&["ZCARD", &key]), 100),
            "CERBAS-NODES" => assert_eq!(foreign.ask::<u64>(&["ZCARD", &key]), 1),
            _ => {
                let longest = match key.as_str() {
                    answer if answer.starts_with("CERBAS-RESULT-") => 60,
                    lease if lease.starts_with("CERBAS-NODE-") => 10,
                    fence if fence.starts_with("CERBAS-FENCE-") => 2 * 24 * 60 * 60,
                    other => panic!("{other} is left"),
                };
                let left: i64 = foreign.ask(&["TTL", &key]);
                assert!((0..=longest).contains(&left), "{key} lives {left} s");
            }
        }
    }
    assert_eq!(foreign.ask::<u64>(&["DBSIZE"]), 3000 + 300 + 2 + 4);
}
