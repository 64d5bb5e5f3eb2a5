//! Values as they stand in Redis: what was pushed is what is stored, published and kept.

use super::world::{Foreign, Subscription, World, eventually, scratch};

/// Arguments that a program with doubles and 64 bits would change.
const ARGS: &str = r#"{"z":[117.63331139400017,1.0,-0,1E5,1e400],"message":{"y":18446744073709551617,"b":-9223372036854775809},"a":"\u00e4"}"#;

/// What `echo` says to them.
const MESSAGE: &str = r#"{"y":18446744073709551617,"b":-9223372036854775809}"#;

fn dead(foreign: &mut Foreign) -> Vec<String> {
    foreign.ask(&["ZRANGE", "CERBAS-DEAD", "0", "-1"])
}

#[test]
fn both_forms_of_a_request_are_answered_with_the_same_digits_in_both_forms_of_an_answer() {
    let world = World::open();
    let mut foreign = world.foreign();
    for (number, is_numbered) in [(1, true), (2, false)] {
        let id = format!("{number:010}");
        let (json, msgpack) = (format!("CERBAS-RESPONSE-1-{id}"), format!("MSGPACK:CERBAS-RESPONSE-1-{id}"));
        let mut subscription = Subscription::to(&world.redis.url(), &[&json, &msgpack]);
        if is_numbered {
            let () =
                foreign.ask(&["SET", &format!("CERBAS-REQ-{id}"), &format!("{{\"func\":\"echo\",\"args\":{ARGS}}}")]);
            foreign.push(number.to_string());
        } else {
            foreign.push(format!("{{\"id\":\"{id}\",\"func\":\"echo\",\"args\":{ARGS}}}"));
        }
        let expected = format!("{{\"status\":\"ok\",\"data\":{MESSAGE}}}");
        assert_eq!(subscription.next(), (json, expected.clone().into_bytes()));
        let packed = [
            &b"\x82\xa6status\xa2ok\xa4data\x82\xa1y"[..],
            b"\xc7\x14N18446744073709551617",
            b"\xa1b\xc7\x14N-9223372036854775809",
        ];
        assert_eq!(subscription.next(), (msgpack, packed.concat()));
        assert_eq!(foreign.ask::<String>(&["GET", &format!("CERBAS-RESULT-{id}")]), expected);
    }
}

#[test]
fn who_subscribes_late_is_told_the_same_in_messagepack() {
    let world = World::open();
    let mut foreign = world.foreign();
    let deep = format!("{}{}", "[".repeat(97), "]".repeat(97));
    foreign.push(format!("{{\"id\":\"late\",\"func\":\"echo\",\"args\":{{\"message\":[1e400,{deep}]}}}}"));
    eventually("its answer is stored", || foreign.ask::<bool>(&["EXISTS", "CERBAS-RESULT-late"]));
    let mut subscription = Subscription::to(&world.redis.url(), &["MSGPACK:CERBAS-RESPONSE-1-late"]);
    let expected = [&b"\x82\xa6status\xa2ok\xa4data\x92\xc7\x05N1e400"[..], &[0x91; 96], b"\x90"].concat();
    assert_eq!(subscription.next().1, expected);
}

#[test]
fn what_fails_is_kept_as_it_was_sent_also_when_it_was_delayed_without_an_id_or_tried_again() {
    let world = World::with(scratch(), |_| {});
    let mut foreign = world.foreign();
    let ways = [
        ("", "at once"),
        (r#","id":"own""#, "with an id"),
        (r#","delay":10"#, "delayed without an id"),
        (r#","delay":10,"id":"later""#, "delayed"),
        (r#","retries":1,"id":"again""#, "tried again"),
        (r#","retries":1,"delay":10,"extra":{"b":1e400,"a":1.0}"#, "delayed and tried again"),
    ];
    for (more, way) in ways {
        let () = foreign.ask(&["DEL", "CERBAS-DEAD"]);
        foreign.push(format!("{{\"func\":\"witherror\",\"reply\":false,\"args\":{ARGS}{more}}}"));
        eventually(way, || !dead(&mut foreign).is_empty());
        let [entry] = &dead(&mut foreign)[..] else { panic!("{way}: there is one") };
        assert!(entry.contains(&format!("\"args\":{ARGS}")), "{way}: {entry}");
        if more.contains("extra") {
            assert!(entry.contains(r#""extra":{"b":1e400,"a":1.0}"#), "{way}: {entry}");
        }
    }
    world.check_all_settled();
}
