//! When a request was sent, as far as its own text tells it.

use std::borrow::Cow;

use serde::Deserialize;

/// Before this, in milliseconds since 1970, no id was made: 2010. What claims to be older is no time.
const FIRST: u64 = 1_262_304_000_000;

/// So far may a client's clock be ahead of ours.
const AHEAD: u64 = 24 * 60 * 60 * 1000;

/// The digits of a ULID, by their value.
const ULID_DIGITS: &[u8; 32] = b"0123456789ABCDEFGHJKMNPQRSTVWXYZ";

/// What tells the time in an inline request. The rest of it need not be readable.
#[derive(Deserialize)]
struct Sent<'a> {
    sent_at: Option<u64>,
    #[serde(borrow)]
    id: Option<Cow<'a, str>>,
}

/// When the inline request `element` was sent, in milliseconds since 1970: by its `sent_at`, or by the time in its id.
/// `None` where neither tells; `now` is needed to tell a time from a number that only looks like one.
pub fn sent_at(element: &[u8], now: u64) -> Option<u64> {
    let sent: Sent<'_> = serde_json::from_slice(element).ok()?;
    sent.sent_at.or_else(|| time_in_id(&sent.id?, now))
}

/// The time in a ULID or a UUID of version 7, in milliseconds since 1970.
pub fn time_in_id(id: &str, now: u64) -> Option<u64> {
    let time = match id.len() {
        26 => ulid_time(id.as_bytes()),
        36 => {
            uuid::Uuid::try_parse(id).ok().filter(|id| id.get_version_num() == 7).map(|id| (id.as_u128() >> 80) as u64)
        }
        _ => None,
    };
    time.filter(|time| (FIRST..=now + AHEAD).contains(time))
}

fn ulid_time(id: &[u8]) -> Option<u64> {
    let value = |byte: &u8| ULID_DIGITS.iter().position(|digit| *digit == byte.to_ascii_uppercase());
    let values: Option<Vec<usize>> = id.iter().map(value).collect();
    Some(values?[..10].iter().fold(0, |time, value| time << 5 | *value as u64))
}

#[cfg(test)]
mod tests {
    use super::*;

    const NOW: u64 = 1_800_000_000_000;

    #[test]
    fn a_request_tells_itself_when_it_was_sent() {
        assert_eq!(sent_at(br#"{"func": "a", "args": [], "sent_at": 1700000000000}"#, NOW), Some(1_700_000_000_000));
        let ulid = br#"{"id": "01ARZ3NDEKTSV4RRFFQ69G5FAV"}"#;
        assert_eq!(sent_at(ulid, NOW), Some(1_469_922_850_259));
        let uuid = br#"{"id": "017f22e2-79b0-7cc3-98c4-dc0c0c07398f", "sent_at": null}"#;
        assert_eq!(sent_at(uuid, NOW), Some(1_645_557_742_000));
    }

    #[test]
    fn what_tells_no_time_has_none() {
        for element in [
            &b"17"[..],
            b"not JSON",
            br#"{"func": "a"}"#,
            br#"{"id": "0192f0c1"}"#,
            // A UUID of version 4, a text as long as a ULID, and ULIDs of 1970 and of 10889.
            br#"{"id": "017f22e2-79b0-4cc3-98c4-dc0c0c07398f"}"#,
            br#"{"id": "the-backup-of-last-evening"}"#,
            br#"{"id": "00000000000000000000000000"}"#,
            br#"{"id": "7ZZZZZZZZZZZZZZZZZZZZZZZZZ"}"#,
        ] {
            assert_eq!(sent_at(element, NOW), None, "{}", String::from_utf8_lossy(element));
        }
    }
}
