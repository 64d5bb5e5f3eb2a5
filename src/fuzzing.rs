//! What must hold whatever bytes come, for a fuzzer (`fuzz/`). Each of these panics if it does not.

use std::path::Path;
use std::sync::Arc;

use jiff::Timestamp;
use serde_json::Value;

use crate::cron::{Reading, Table};
use crate::net::fuzzing as net;
use crate::protocol::codec::{decode_answer, decode_request, encode_outcome, encode_request};
use crate::protocol::glimpse;
use crate::protocol::json::{from_msgpack, to_msgpack};
use crate::protocol::{Json, Request, RequestId};
use crate::proxy::fuzzing as proxy;

/// A time that all requests are read at.
const NOW: u64 = 1_800_000_000_000;

/// Heads of requests and answers.
pub fn http_head(bytes: &[u8]) {
    proxy::head(bytes);
}

/// Paths of requests.
pub fn http_path(bytes: &[u8]) {
    net::path(bytes);
}

/// Bodies in chunks.
pub fn http_chunks(bytes: &[u8]) {
    net::chunks(bytes);
}

/// A request that can be read is the same after it was written down and read again.
pub fn request(bytes: &[u8]) {
    let Ok(request) = decode_request(bytes, None, NOW) else { return };
    if !matches!(request.id, RequestId::Text(_)) || request.attempt > 0 || request.ticket.is_some() {
        return;
    }
    // Written down, it has its id.
    let request = Request { first_at: None, is_named: true, ..request };
    // What is due already needs no delay any more.
    let is_past = |at: Option<u64>| at.is_some_and(|at| at <= NOW);
    if is_past(request.not_before) || is_past(request.expires_at) {
        return;
    }
    // Without a time at which it was sent, it would be read again when it is due.
    if request.not_before.zip(request.expires_at).is_some_and(|(not_before, expires_at)| expires_at <= not_before) {
        return;
    }
    let again = decode_request(&encode_request(&request, NOW), None, NOW).expect("what we write can be read");
    assert_eq!(again, request);
}

/// What is seen of a request that cannot be read is what is read of one that can.
pub fn glimpse(bytes: &[u8]) {
    let seen = glimpse::glimpse(bytes).id;
    let _any_bytes_can_come = glimpse::glimpse_of_large(bytes);
    let (Ok(request), Some(seen)) = (decode_request(bytes, None, NOW), seen) else { return };
    assert_eq!(request.id, seen);
    // The same where it stands at the end of a text that was cut, if it is short enough to be whole there.
    let Some(members) = bytes.trim_ascii_start().strip_prefix(b"{").filter(|rest| rest.len() < glimpse::CUT_ENDS)
    else {
        return;
    };
    let large = [b"{\"pad\":\"", "x".repeat(2 * glimpse::CUT_ENDS).as_bytes(), b"\",", members].concat();
    assert_eq!(glimpse::glimpse_of_large(&glimpse::cut(&large)).id, Some(seen));
}

/// A value that is taken is the same after it went through an answer, MessagePack, and all that makes a text of it.
pub fn value(bytes: &[u8]) {
    let Ok(text) = std::str::from_utf8(bytes) else { return };
    let Ok(value) = Json::read(text) else { return };
    let tidy = value.as_json();
    assert_eq!(Json::read(tidy).expect("it is JSON").as_json(), tidy, "it has white space");
    if let (Ok(before), Ok(after)) = (serde_json::from_str::<Value>(text), serde_json::from_str::<Value>(tidy)) {
        assert_eq!(before, after);
    }
    assert_eq!(Json::read(&value.to_pretty()).expect("it is JSON").as_json(), tidy);
    let canonical = value.canonical();
    assert_eq!(Json::read(&canonical).expect("it is JSON").canonical(), canonical);

    let answer = encode_outcome(Ok(value.clone()));
    let again = decode_answer(&answer.json).expect("what we write can be read");
    assert_eq!(*again, *answer);
    let packed = |value: &Json| {
        let mut out = Vec::new();
        to_msgpack(value, &mut out);
        out
    };
    let unpacked = from_msgpack(&packed(&value)).expect("what we write can be read");
    assert_eq!(packed(&unpacked), packed(&value));

    let request = format!("{{\"func\": \"f\", \"args\": {{\"v\": {text}}}}}");
    if let Ok(request) = decode_request(request.as_bytes(), None, NOW) {
        assert_eq!(request.args.get("v").map(Json::as_json), Some(tidy));
    }
}

/// What cannot be read of MessagePack is an error, and what can be is the same again.
pub fn msgpack(bytes: &[u8]) {
    if let Ok(read) = from_msgpack(bytes) {
        value(read.as_json().as_bytes());
    }
}

/// A crontab that can be read fires at times that lie ahead.
pub fn crontab(bytes: &[u8]) {
    for has_users in [false, true] {
        let file: Arc<Path> = Arc::from(Path::new("CRONTAB"));
        let reading = Reading { file, has_users, host: "web-1", ..Reading::default() };
        let table = Table::read(bytes, &reading);
        let now = Timestamp::from_second(1_800_000_000).expect("it is a time");
        for entry in table.entries.iter().take(4) {
            let mut at = now;
            for _ in 0..3 {
                let Some(firing) = entry.schedule.next(at, entry.zone()) else { break };
                assert!(firing.at > at, "{}: {} does not follow {at}", entry.text, firing.at);
                at = firing.at;
            }
        }
    }
}
