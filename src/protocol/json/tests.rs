use proptest::prelude::*;
use serde_json::json;

use super::*;

fn read(text: &str) -> Json {
    Json::read(text).unwrap_or_else(|error| panic!("{text}: {error}"))
}

/// Numbers that a double or 64 bits would change.
const NUMBERS: [&str; 19] = [
    "0",
    "-0",
    "-0.0",
    "1.0",
    "1E5",
    "1e+5",
    "117.63331139400017",
    "0.42451918914251396",
    "-970.1335576829955",
    "4.686940810304589e-19",
    "1234567e89",
    "5e-324",
    "1.7976931348623157e308",
    "1e400",
    "-1e-400",
    "18446744073709551615",
    "18446744073709551616",
    "-9223372036854775809",
    "12345678901234567890123456789012345678901234567890.0123456789",
];

#[test]
fn every_digit_stays() {
    for number in NUMBERS {
        assert_eq!(read(number).as_json(), number);
        let nested = format!(r#"{{"b":[{number}],"a":{number}}}"#);
        assert_eq!(read(&nested).as_json(), nested);
        assert_eq!(read(&nested).to::<Object>().expect("it is one").to_json(), nested);
    }
}

#[test]
fn only_white_space_between_the_parts_is_taken_away() {
    assert_eq!(
        read(" { \"b\" : [ 1 ,\r\n\t\"a  \\\" b\" ] , \"a\" : { } } ").as_json(),
        r#"{"b":[1,"a  \" b"],"a":{}}"#
    );
}

#[test]
fn what_is_not_json_is_no_value() {
    for text in ["", "NaN", "Infinity", "-", "01", "1.", "[1,]", "{'a':1}", "\"\u{1}\"", "1 2", "\u{feff}1", "\"\\x\""]
    {
        assert!(Json::read(text).is_err(), "{text}");
    }
}

#[test]
fn a_value_is_127_levels_deep_at_the_most() {
    let deep = |levels: usize| "[".repeat(levels) + &"]".repeat(levels);
    assert_eq!(read(&deep(127)).as_json(), deep(127));
    for levels in [128, 1_000_000] {
        let error = Json::read(&deep(levels)).expect_err("it is too deep").to_string();
        assert!(error.contains("too deep: it has more than 127 levels"), "{error}");
    }
    assert!(Json::read(&format!("[{}]", vec!["[]"; 1000].join(","))).is_ok(), "side by side is not deep");
}

#[test]
fn half_a_character_is_told_by_its_digits() {
    for whole in [r#""\ud83d\ude00""#, r#""\\ud83d""#, r#""\uD7FF\uE000""#] {
        assert_eq!(read(whole).as_json(), whole);
    }
    for half in [r#""\ud83d""#, r#""\ude00\ud83d""#, r#""\ud83d\u0041""#, r#""\ud83d\\ude00""#, r#"{"\udc00":1}"#] {
        let error = Json::read(half).expect_err("it is no character").to_string();
        assert!(error.contains("is half a character"), "{half}: {error}");
    }
}

#[test]
fn of_a_name_that_stands_twice_the_last_value_counts() {
    assert_eq!(read(r#"{"a":1,"b":2,"a":3}"#).to::<Object>().expect("it is one").to_json(), r#"{"b":2,"a":3}"#);
    let many: Vec<String> = (0..100_000).map(|number| format!("\"{}\":{number}", number % 5)).collect();
    let object: Object = read(&format!("{{{}}}", many.join(","))).to().expect("it is one");
    assert_eq!(object.to_json(), r#"{"0":99995,"1":99996,"2":99997,"3":99998,"4":99999}"#);
}

#[test]
fn keys_that_are_made_of_values_differ_in_every_digit_and_not_in_the_order_of_names() {
    let key = |text: &str| read(text).canonical().into_owned();
    assert_eq!(
        key(r#"{"b": {"d": 1, "c": [{"f": 2, "e": 3}]}, "a": 4}"#),
        r#"{"a":4,"b":{"c":[{"e":3,"f":2}],"d":1}}"#
    );
    assert_eq!(key(r#"["\u00e4\/", "\u0022"]"#), r#"["ä/","\""]"#);
    assert_eq!(key(r#"{"\u0062":1,"a":2}"#), key(r#"{"a":2,"b":1}"#));
    for [one, other] in [
        ["18446744073709551616", "18446744073709551617"],
        ["0.1", "0.10000000000000001"],
        ["1e400", "1e401"],
        ["0", "-0"],
    ] {
        assert_ne!(key(one), key(other));
        let object = |text: &str| read(&format!("{{\"id\":{text}}}")).to::<Object>().expect("it is one").canonical();
        assert_ne!(object(one), object(other));
    }
}

#[test]
fn it_is_the_same_value_whatever_the_order_of_names() {
    assert_eq!(read(r#"{"a":1,"b":2}"#), read(r#"{"b":2,"a":1}"#));
    assert_eq!(read(r#"{"b":"ä","a":1}"#), json!({"a": 1, "b": "ä"}));
    assert_ne!(read("18446744073709551616"), read("18446744073709551617"));
}

#[test]
fn people_see_it_on_several_lines() {
    let text = r#"{"b":[1,{"c":"{}[],:"}],"a":{},"d":[],"e":1e400}"#;
    let expected = "{\n  \"b\": [\n    1,\n    {\n      \"c\": \"{}[],:\"\n    }\n  ],\n  \"a\": {},\n  \"d\": [],\n  \"e\": 1e400\n}";
    assert_eq!(read(text).to_pretty(), expected);
}

#[test]
fn a_native_type_reads_and_writes_all_its_digits() {
    let object: Object = read(r#"{"float":117.63331139400017,"large":340282366920938463463374607431768211455}"#)
        .to()
        .expect("it is one");
    #[derive(Debug, PartialEq, Deserialize, Serialize)]
    struct Typed {
        float: f64,
        large: u128,
    }
    let typed: Typed = object.to().expect("it fits");
    assert_eq!(typed, Typed { float: 117.633_311_394_000_17, large: u128::MAX });
    assert_eq!(Json::of(&typed).expect("it is JSON").as_json(), object.to_json());
}

fn packed(text: &str) -> Vec<u8> {
    let mut out = Vec::new();
    to_msgpack(&read(text), &mut out);
    out
}

#[test]
fn messagepack_has_every_number_that_it_can_hold() {
    assert_eq!(packed("18446744073709551615"), b"\xcf\xff\xff\xff\xff\xff\xff\xff\xff");
    assert_eq!(packed("-9223372036854775808"), b"\xd3\x80\0\0\0\0\0\0\0");
    assert_eq!(packed("[127,128,-32,-33]"), b"\x94\x7f\xcc\x80\xe0\xd0\xdf");
    assert_eq!(packed("1.0"), [&b"\xcb"[..], &1.0_f64.to_be_bytes()].concat());
    assert_eq!(packed("-0"), [&b"\xcb"[..], &(-0.0_f64).to_be_bytes()].concat());
    assert_eq!(packed("117.63331139400017"), [&b"\xcb"[..], &117.633_311_394_000_17_f64.to_be_bytes()].concat());
}

#[test]
fn a_number_that_messagepack_cannot_hold_travels_as_its_text_and_nobody_takes_it_for_another() {
    assert_eq!(packed("18446744073709551616"), b"\xc7\x14N18446744073709551616");
    assert_eq!(packed("[1e400]"), b"\x91\xc7\x05N1e400");
    for number in NUMBERS {
        let back = from_msgpack(&packed(number)).unwrap_or_else(|error| panic!("{number}: {error}"));
        let same = back.as_json() == number || back.to::<f64>().ok() == read(number).to::<f64>().ok();
        assert!(same, "{number} came back as {back}");
    }
}

#[test]
fn objects_and_arrays_have_the_shortest_head() {
    for count in [0, 1, 15, 16, 65_535, 65_536] {
        let array = format!("[{}]", vec!["7"; count].join(","));
        let members: Vec<String> = (0..count).map(|number| format!("\"{number}\":[]")).collect();
        let object = format!("{{{}}}", members.join(","));
        let head = match count {
            0..16 => 1,
            16..65_536 => 3,
            _ => 5,
        };
        assert_eq!(packed(&array).len(), head + count);
        for text in [array, object] {
            assert_eq!(from_msgpack(&packed(&text)).expect("it is a value").as_json(), text);
        }
    }
}

#[test]
fn what_json_does_not_have_is_refused_of_messagepack() {
    let not_a_number = [&b"\xcb"[..], &f64::NAN.to_be_bytes()].concat();
    let deep = [vec![0x91; 128], vec![0x90]].concat();
    let others: [&[u8]; 8] =
        [&not_a_number, &deep, b"", b"\xc1", b"\x81\x01\x01", b"\xc4\x01a", b"\xd4\x01a", b"\xc7\x04Nnull"];
    for bytes in others {
        assert!(from_msgpack(bytes).is_err(), "{bytes:02x?}");
    }
    assert_eq!(from_msgpack(b"\xca\x3d\xcc\xcc\xcd").expect("a single float is one").as_json(), "0.10000000149011612");
}

/// Any value, written in any way that JSON allows.
pub(in crate::protocol) fn any_json() -> impl Strategy<Value = String> {
    let number = prop_oneof![
        "-?(0|[1-9][0-9]{0,40})(\\.[0-9]{1,30})?([eE][+-]?[0-9]{1,3})?",
        any::<f64>().prop_filter("JSON has none", |number| number.is_finite()).prop_map(|number| format!("{number:e}")),
        any::<i64>().prop_map(|number| number.to_string()),
    ];
    let text = prop_oneof![
        any::<String>().prop_map(|text| serde_json::to_string(&text).expect("a text is JSON")),
        "\"([a-z ]|\\\\u00[0-9a-f]{2}|\\\\[\"nbfrt/]|\\\\ud83d\\\\ude00){0,8}\"",
    ];
    let leaf =
        prop_oneof![Just("null".to_owned()), Just("true".to_owned()), Just("false".to_owned()), number, text.clone()];
    leaf.prop_recursive(5, 40, 6, move |inner| {
        prop_oneof![
            prop::collection::vec(inner.clone(), 0..6).prop_map(|values| format!("[{}]", values.join(","))),
            prop::collection::vec((text.clone(), inner), 0..6).prop_map(|members| {
                let members: Vec<String> = members.into_iter().map(|(name, value)| format!("{name}:{value}")).collect();
                format!("{{{}}}", members.join(","))
            }),
        ]
    })
}

proptest! {
    #[test]
    fn any_value_stays_as_it_was_written(text in any_json()) {
        prop_assert_eq!(read(&text).to_string(), text);
    }

    #[test]
    fn any_value_stays_what_it_was_in_its_other_forms(text in any_json()) {
        let value = read(&text);
        let canonical = value.canonical().into_owned();
        prop_assert_eq!(read(&canonical).canonical().into_owned(), canonical, "the canonical form is its own");
        prop_assert_eq!(read(&value.to_pretty()), value.clone());
        let back = from_msgpack(&packed(&text)).expect("it is a value");
        let (there, again) = (packed(&text), packed(back.as_json()));
        prop_assert_eq!(there, again, "MessagePack of what came out of MessagePack");
    }
}
