//! The arguments of a call, from a query or a body. Pure.

use std::borrow::Cow;
use std::collections::HashMap;

use crate::protocol::json::from_msgpack;
use crate::protocol::{Arguments, Json};

/// In which form a body comes.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Kind {
    Json,
    MessagePack,
    Form,
}

/// What a query or a form says: `a=1&b=x`. A value that is a number, `true`, `false`, `null` or a text in quotes is what JSON
/// means by it, anything else is text. A name that comes more than once has a list.
pub(super) fn from_query(query: &str) -> Arguments {
    let mut named: Vec<(Cow<'_, str>, Vec<Json>)> = Vec::new();
    let mut places = HashMap::new();
    for (name, text) in form_urlencoded::parse(query.as_bytes()) {
        let place = *places.entry(name.clone()).or_insert(named.len());
        if place == named.len() {
            named.push((name, Vec::new()));
        }
        named[place].1.push(scalar(&text));
    }
    let value = |mut values: Vec<Json>| match values.len() {
        1 => values.remove(0),
        _ => Json::of(&values).expect("a list of values is JSON"),
    };
    named.into_iter().map(|(name, values)| (name.into(), value(values))).collect()
}

fn scalar(text: &str) -> Json {
    match Json::read(text) {
        // What many things are called that are no numbers: `1e5` may be the start of a hash.
        Ok(value) if value.as_json() == text && !text.starts_with(['{', '[']) && !is_unusual(text) => value,
        _ => text.into(),
    }
}

/// Whether it is a number in a form that people do not write numbers in.
fn is_unusual(text: &str) -> bool {
    !text.starts_with('"') && (text.contains(['e', 'E']) && text.ends_with(|last: char| last.is_ascii_digit()))
}

/// The object that a body is. The error says what it should be.
pub(super) fn from_body(kind: Option<&str>, body: &[u8]) -> Result<Arguments, (u16, String)> {
    if body.is_empty() {
        return Ok(Arguments::new());
    }
    let read: Json = match kind_of(kind, body)? {
        Kind::Form => {
            let text = std::str::from_utf8(body).map_err(|error| (400, format!("the form is not UTF-8: {error}")))?;
            return Ok(from_query(text));
        }
        Kind::Json => {
            serde_json::from_slice(body).map_err(|error| (400, format!("the body is not a JSON object: {error}")))?
        }
        Kind::MessagePack => {
            from_msgpack(body).map_err(|error| (400, format!("the body is not MessagePack: {error}")))?
        }
    };
    read.to().map_err(|_| (400, "the body must be an object, its arguments by name".to_owned()))
}

fn kind_of(kind: Option<&str>, body: &[u8]) -> Result<Kind, (u16, String)> {
    let media = kind.map(|kind| kind.split(';').next().unwrap_or_default().trim().to_ascii_lowercase());
    match media.as_deref() {
        // What curl says of everything.
        Some("application/x-www-form-urlencoded") if body.trim_ascii_start().starts_with(b"{") => Ok(Kind::Json),
        Some("application/x-www-form-urlencoded") => Ok(Kind::Form),
        Some("application/msgpack" | "application/x-msgpack" | "application/vnd.msgpack") => Ok(Kind::MessagePack),
        None | Some("application/json" | "text/json" | "text/plain" | "") => Ok(Kind::Json),
        Some(other) if other.ends_with("+json") => Ok(Kind::Json),
        Some(other) => Err((
            415,
            format!("{other}: expected application/json, application/msgpack or application/x-www-form-urlencoded"),
        )),
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn a_query_has_numbers_and_texts() {
        let args = from_query(
            "a=1&b=-2.5&c=true&d=null&e=%221%22&f=x+y%21&g=&h=007&i=12345678901234567890123&m=1e5&n=0.42451918914251396&j={}&k=1&k=z&l",
        );
        let expected = r#"{"a":1,"b":-2.5,"c":true,"d":null,"e":"1","f":"x y!","g":"","h":"007","i":12345678901234567890123,"m":"1e5","n":0.42451918914251396,"j":"{}","k":[1,"z"],"l":""}"#;
        assert_eq!(args.to_json(), expected);
    }

    #[test]
    fn a_body_is_read_by_what_it_says_it_is() {
        let read = |kind, body: &[u8]| from_body(kind, body).map(Json::from).map_err(|(status, _)| status);
        assert_eq!(read(Some("application/json; charset=utf-8"), b"{\"a\": [1]}"), Ok(json!({"a": [1]}).into()));
        assert_eq!(read(None, b""), Ok(json!({}).into()));
        assert_eq!(read(Some("application/x-www-form-urlencoded"), b"a=1&b=x"), Ok(json!({"a": 1, "b": "x"}).into()));
        assert_eq!(read(Some("application/x-www-form-urlencoded"), b" {\"a\": 1}"), Ok(json!({"a": 1}).into()));
        assert_eq!(read(Some("application/msgpack"), b"\x81\xa1a\x01"), Ok(json!({"a": 1}).into()));
        assert_eq!(read(Some("application/msgpack"), b"\x81\xa1a"), Err(400));
        assert_eq!(read(Some("application/json"), b"[1]"), Err(400));
        assert_eq!(read(Some("application/json"), b"{"), Err(400));
        assert_eq!(read(Some("image/png"), b"x"), Err(415));
    }
}
