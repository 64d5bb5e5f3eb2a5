//! Keys that are made of values: two values that differ in a digit are never the same, and the order of names makes no difference.

use std::thread;

use super::{House, arguments, over_both_brokers};

/// Pairs that programs with doubles and 64 bits take for the same.
const PAIRS: [[&str; 2]; 4] = [
    ["18446744073709551616", "18446744073709551617"],
    ["12345678901234567890123", "12345678901234567890124"],
    ["0.1", "0.10000000000000001"],
    ["1e400", "1e401"],
];

const FUNCTIONS: &str = r#"
[functions.cached]
command = ["sh", "-c", "echo $$"]
cache = "1h"
"#;

fn process(house: &House, value: &str) -> String {
    house.call(house.client(), "cached", value)
}

#[test]
fn accounts_that_differ_in_a_digit_have_each_their_own_cached_answer() {
    over_both_brokers(FUNCTIONS, |house| {
        for [one, other] in PAIRS {
            let first = process(house, one);
            assert_ne!(process(house, other), first, "{one}, {other}");
            assert_eq!(process(house, one), first, "{one} is kept");
        }
        let first = process(house, r#"{"b":1,"a":[{"d":1.0,"c":"\u00e4"}]}"#);
        assert_eq!(process(house, r#"{"a":[{"c":"ä","d":1.0}],"b":1}"#), first);
    });
}

#[test]
fn a_key_of_idempotency_is_for_exactly_its_arguments() {
    over_both_brokers(FUNCTIONS, |house| {
        let ask = |key: &str, body: &str| {
            let url = format!("http://{}/api/native", house.running.http_addresses()[0]);
            let agent: ureq::Agent = ureq::Agent::config_builder().http_status_as_error(false).build().into();
            let request = agent.post(&url).header("Content-Type", "application/json").header("Idempotency-Key", key);
            let answer = request.send(body).unwrap_or_else(|error| panic!("{url}: {error}"));
            answer.status().as_u16()
        };
        for [one, other] in PAIRS {
            let body = |value: &str| format!("{{\"b\":1,\"v\":{value}}}");
            assert_eq!(ask(one, &body(one)), 200);
            assert_eq!(ask(one, &body(other)), 422, "{one}, {other}");
            assert_eq!(ask(one, &format!("{{\"v\":{one},\"b\":1}}")), 200, "the order of names makes no difference");
        }
    });
}

#[test]
fn accounts_that_differ_in_a_digit_do_not_lock_each_other_out() {
    over_both_brokers("", |house| {
        let call = |value: &str| house.client().call("alone", arguments(value));
        thread::scope(|scope| {
            for [one, other] in PAIRS {
                let calls = [one, other].map(|value| scope.spawn(move || call(value)));
                // Neither is let go before both are there.
                house.holds(2);
                house.let_go(2);
                for called in calls {
                    called.join().expect("it ends").unwrap_or_else(|error| panic!("{one}, {other}: {error}"));
                }
            }
            let first = scope.spawn(|| call(r#"{"b":18446744073709551616,"a":1}"#));
            house.holds(1);
            let second = call(r#"{"a":1,"b":18446744073709551616}"#).expect_err("the first one runs");
            assert_eq!(second.to_string(), "duplicate");
            house.let_go(1);
            first.join().expect("it ends").expect("it has a value");
        });
    });
}
