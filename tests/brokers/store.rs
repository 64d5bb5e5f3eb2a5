//! What rooms keep, and what they begin with it.

use cerbas::broker::{Beginning, Begun, Bound, Fields, Following, Settlement, Source, Unless};
use cerbas::effects::{Effects, FieldValue, OnlyIf, Put, StoreKey};

use super::{Both, each, element, ended, id, id_of};

fn key(name: &str) -> StoreKey {
    StoreKey::new(name)
}

fn set(field: &str, value: &str) -> Put {
    Put::one(key("T"), field, value)
}

/// What is kept under `T`, as texts.
fn kept(both: &Both) -> Vec<(String, String)> {
    let fields = both.broker.read(&[key("T")]).expect("it is there").remove(0);
    texts(fields)
}

fn texts(fields: Fields) -> Vec<(String, String)> {
    let text = |value: &FieldValue| value.as_text().expect("it is text").to_owned();
    fields.iter().map(|(name, value)| (name.to_string(), text(value))).collect()
}

fn pairs(expected: &[(&str, &str)]) -> Vec<(String, String)> {
    expected.iter().map(|(name, value)| ((*name).to_owned(), (*value).to_owned())).collect()
}

#[test]
fn a_put_is_done_where_its_condition_holds_and_says_so() {
    each(|both| {
        let missing = |field: &str| OnlyIf::Is(field.into(), None);
        let is = |field: &str, value: &str| OnlyIf::Is(field.into(), Some(value.into()));
        let puts = [
            set("a", "1").only_if(missing("a")),
            set("a", "2").only_if(missing("a")),
            set("a", "3").only_if(is("a", "1")),
            set("a", "4").only_if(is("a", "1")),
            set("b", "5").only_if(OnlyIf::Exists("a".into())),
            set("b", "6").only_if(OnlyIf::Exists("c".into())),
        ];
        let done = both.broker.put(&puts).expect("it is there");
        assert_eq!(done, [true, false, true, false, true, false]);
        assert_eq!(kept(both), pairs(&[("a", "3"), ("b", "5")]));
        assert_eq!(both.broker.put(&[Put::none(key("T"), "a")]), Ok(vec![true]));
        assert_eq!(both.broker.get(&key("T"), "a"), Ok(None));
        assert_eq!(both.broker.get(&key("T"), "b"), Ok(Some("5".into())));
    });
}

#[test]
fn what_is_kept_is_the_same_byte_for_byte_and_is_read_key_by_key() {
    each(|both| {
        let bytes = FieldValue::from((0..=255).collect::<Vec<u8>>());
        let puts = [Put::one(key("T"), "all", bytes.clone()), Put::one(key("U"), "", ""), set("ü \n", "\"")];
        both.broker.put(&puts).expect("it is there");
        let read = both.broker.read(&[key("U"), key("none"), key("T")]).expect("it is there");
        assert_eq!(read[0], Fields::from([("".into(), "".into())]));
        assert_eq!(read[1], Fields::new());
        assert_eq!(read[2], Fields::from([("all".into(), bytes), ("ü \n".into(), "\"".into())]));
    });
}

#[test]
fn what_is_forgotten_is_gone_and_other_keys_stay() {
    each(|both| {
        both.broker.put(&[set("a", "1"), Put::one(key("U"), "b", "2")]).expect("it is there");
        both.broker.forget(&[key("T"), key("none")]).expect("it is there");
        assert_eq!(kept(both), []);
        assert_eq!(both.broker.get(&key("U"), "b"), Ok(Some("2".into())));
    });
}

#[test]
fn the_end_of_a_request_puts_what_a_room_reads() {
    each(|both| {
        both.send("a");
        let claim = both.claim(Source::Queue(0));
        let effects = Effects {
            put: vec![set("a", "1"), set("b", "2").only_if(OnlyIf::Exists("a".into()))],
            ..Effects::default()
        };
        both.settle(Settlement { claim, end: ended("a"), effects });
        assert_eq!(kept(both), pairs(&[("a", "1"), ("b", "2")]));
    });
}

/// What begins `field` with `value`, and sends the request called so.
fn beginning(field: &str, value: &str) -> Beginning {
    let name = format!("test:{field}");
    Beginning {
        room: "test".into(),
        key: key("T"),
        field: field.into(),
        value: value.into(),
        request: Some(Following { id: id(&name), element: element(&name).into() }),
        unless: Some(Unless { key: key("OFF"), field: "t".into(), value: "off".into() }),
        note: Some((key("LAST"), "t".into(), field.into())),
        bound: Bound { most: 4, last: "m".into(), seconds: 60 },
    }
}

#[test]
fn what_a_room_begins_is_begun_once_and_found_by_who_tries_again() {
    each(|both| {
        let begin = |both: &Both, value: &str| both.broker.begin(&[beginning("a", value)]).expect("it is there")[0];
        assert_eq!(begin(both, "mine"), Begun::Sent);
        assert_eq!(begin(both, "mine"), Begun::Sent, "it is the same once more");
        assert_eq!(begin(both, "theirs"), Begun::Taken);
        assert_eq!(id_of(&both.claim(Source::Inbox)), "test:a");
        assert!(both.has_nothing(Source::Inbox), "it was sent once");
        assert_eq!(kept(both), pairs(&[("a", "mine")]));
        assert_eq!(both.broker.get(&key("LAST"), "t"), Ok(Some("a".into())));
    });
}

#[test]
fn what_is_begun_while_a_field_is_against_it_is_kept_and_not_sent() {
    each(|both| {
        both.broker.put(&[Put::one(key("OFF"), "t", "now")]).expect("it is there");
        let only_kept = Beginning { request: None, ..beginning("b", "kept") };
        let begun = both.broker.begin(&[beginning("a", "on"), only_kept]).expect("it is there");
        assert_eq!(begun, [Begun::Withheld, Begun::Sent]);
        assert!(both.has_nothing(Source::Inbox));
        assert_eq!(kept(both), pairs(&[("a", "off"), ("b", "kept")]));
    });
}

#[test]
fn of_what_is_begun_the_last_are_kept_and_before_them_goes_what_comes_too_late() {
    each(|both| {
        for field in ["z", "b", "c", "d", "e"] {
            both.broker.begin(&[Beginning { request: None, ..beginning(field, "1") }]).expect("it is there");
        }
        assert_eq!(kept(both).len(), 5, "a few more are kept, so that this is not done each time");
        both.broker.begin(&[Beginning { request: None, ..beginning("f", "1") }]).expect("it is there");
        assert_eq!(kept(both), pairs(&[("c", "1"), ("d", "1"), ("e", "1"), ("f", "1")]));
    });
}

#[test]
fn what_a_room_has_begun_is_vouched_for() {
    each(|both| {
        both.broker.begin(&[beginning("a", "1")]).expect("it is there");
        let claim = both.claim(Source::Inbox);
        let is_ours =
            |name: &str| both.broker.take_vouched("test", &[(&id(name), &claim.element)]).expect("it is there")[0];
        assert!(is_ours("test:a") && !is_ours("test:b"));
    });
}
