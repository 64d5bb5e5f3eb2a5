use proptest::prelude::*;

use super::*;
use crate::protocol::DeadLetter;
use crate::protocol::json::tests::any_json;

const NOW: u64 = 1_800_000_000_000;

fn read(json: &[u8]) -> Request {
    decode_request(json, None, NOW).unwrap_or_else(|error| panic!("{}: {error:?}", String::from_utf8_lossy(json)))
}

proptest! {
    #[test]
    fn arguments_are_the_same_text_however_often_a_request_is_written_anew(value in any_json(), delay in 0_u64..1000) {
        let args = format!("{{\"z\":{value},\"a\":[{value}]}}");
        let json = format!("{{\"args\":{args},\"func\":\"f\",\"delay\":{delay},\"more\":{value}}}");
        let request = read(json.as_bytes());
        prop_assert_eq!(request.args.to_json(), &args[..]);
        prop_assert_eq!(read(&encode_request(&request, NOW)).args.to_json(), &args[..]);

        let named = with_id(json.as_bytes(), &request.id).expect("it has no id");
        prop_assert_eq!(read(&named).args.to_json(), &args[..]);
        let rerun = Rerun {
            id: &request.id, reply: true, attempt: 1, first_at: NOW, expires_at: None, last_error: "x", now: NOW,
        };
        let again = encode_rerun(&named, &rerun).expect("it is a request");
        prop_assert_eq!(read(&again).args.to_json(), &args[..]);
        let again = String::from_utf8(again).expect("it is text");
        prop_assert!(again.contains(&format!("\"more\":{value}")), "{}", again);

        let empty: DeadLetter = serde_json::from_str(r#"{"at":1,"verdict":"error","message":""}"#).expect("it is an entry");
        let letter = empty.with_request(again.as_bytes()).to_json();
        let letter: DeadLetter = serde_json::from_str(&letter).expect("it is an entry");
        let kept = letter.request.expect("it has the request");
        prop_assert_eq!(kept.get("args").map(Json::as_json), Some(&args[..]));
    }

    #[test]
    fn data_is_the_same_text_in_an_answer(value in any_json()) {
        let encoded = encode_outcome(Ok(Json::read(&value).expect("it is JSON")));
        let json = format!("{{\"status\":\"ok\",\"data\":{value}}}");
        prop_assert_eq!(&*encoded.json, json.as_bytes());
        let again = decode_answer(&encoded.json).expect("it is an answer");
        prop_assert_eq!(&*again, &*encoded);
        prop_assert_eq!(json_to_msgpack(&encoded.json), Some(encoded.msgpack.clone()));
    }
}
