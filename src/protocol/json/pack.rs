//! From JSON to MessagePack and back, without the loss of a digit.

use std::fmt;

use rmp::encode::{self, RmpWrite};
use serde::de::{Error, MapAccess, SeqAccess, Visitor};
use serde::{Deserialize, Deserializer};

use super::text::end_of_scalar;
use super::{Json, MAX_DEPTH, valid};

/// The type of the extension in which a number travels that MessagePack has no form for: a whole number beyond 64 bits, or
/// one that no double comes near, such as `1e400`. Its bytes are the number as JSON has it.
pub const NUMBER_EXTENSION: i8 = b'N' as i8;

/// Writes `value` behind what is in `out`, in MessagePack.
pub fn to_msgpack(value: &Json, out: &mut Vec<u8>) {
    let mut writer = Writer { json: value.as_json(), at: 0, out };
    writer.value();
}

const CANNOT_FAIL: &str = "a vector takes all that is written";

struct Writer<'a> {
    json: &'a str,
    at: usize,
    out: &'a mut Vec<u8>,
}

impl Writer<'_> {
    fn value(&mut self) {
        match self.peek() {
            Some(b'{') => self.container(&OBJECT),
            Some(b'[') => self.container(&ARRAY),
            _ => {
                let end = end_of_scalar(self.json, self.at);
                self.scalar(self.at, end);
                self.at = end;
            }
        }
    }

    /// An object or an array. How much is in it is known at its end, and only then how long its head is.
    fn container(&mut self, kind: &Kind) {
        let head = self.out.len();
        self.out.push(kind.few);
        self.at += 1;
        let mut count = 0_u32;
        while !matches!(self.peek(), Some(b'}' | b']') | None) {
            if kind.has_names {
                self.value();
                self.at += 1;
            }
            self.value();
            count += 1;
            if self.peek() == Some(b',') {
                self.at += 1;
            }
        }
        self.at += 1;
        match (u8::try_from(count), u16::try_from(count)) {
            (Ok(few @ 0..16), _) => self.out[head] = kind.few | few,
            (_, Ok(count)) => drop(self.out.splice(head..=head, [kind.many].into_iter().chain(count.to_be_bytes()))),
            _ => drop(self.out.splice(head..=head, [kind.many + 1].into_iter().chain(count.to_be_bytes()))),
        }
    }

    fn scalar(&mut self, start: usize, end: usize) {
        let text = &self.json[start..end];
        let written = match text.as_bytes().first() {
            Some(b'"') if text.contains('\\') => {
                let text: String = serde_json::from_str(text).unwrap_or_default();
                encode::write_str(self.out, &text)
            }
            Some(b'"') => encode::write_str(self.out, &text[1..text.len() - 1]),
            Some(b't' | b'f') => return encode::write_bool(self.out, text == "true").expect(CANNOT_FAIL),
            Some(b'n') => return encode::write_nil(self.out).expect(CANNOT_FAIL),
            _ => return self.number(start, end),
        };
        written.expect(CANNOT_FAIL);
    }

    fn number(&mut self, start: usize, end: usize) {
        let text = &self.json[start..end];
        // `-0` is a whole number for JSON, but only a double has its sign.
        let is_whole = text != "-0" && !text.contains(['.', 'e', 'E']);
        if is_whole && let Ok(number) = text.parse() {
            encode::write_uint(self.out, number).expect(CANNOT_FAIL);
            return;
        }
        if is_whole && let Ok(number) = text.parse() {
            encode::write_sint(self.out, number).expect(CANNOT_FAIL);
            return;
        }
        if let Some(number) = text.parse().ok().filter(|number: &f64| !is_whole && number.is_finite()) {
            return encode::write_f64(self.out, number).expect(CANNOT_FAIL);
        }
        let length = u32::try_from(text.len()).unwrap_or(u32::MAX);
        encode::write_ext_meta(self.out, length, NUMBER_EXTENSION).expect(CANNOT_FAIL);
        self.out.write_bytes(text.as_bytes()).expect(CANNOT_FAIL);
    }

    fn peek(&self) -> Option<u8> {
        self.json.as_bytes().get(self.at).copied()
    }
}

/// How MessagePack writes an object or an array.
struct Kind {
    /// The head of one with fewer than 16 members.
    few: u8,
    /// The head of one with up to 65,535 of them, and behind it that of one with more.
    many: u8,
    has_names: bool,
}

const OBJECT: Kind = Kind { few: 0x80, many: 0xde, has_names: true };
const ARRAY: Kind = Kind { few: 0x90, many: 0xdc, has_names: false };

/// The value that `bytes` are in MessagePack; the error says why they are none that JSON has.
pub fn from_msgpack(bytes: &[u8]) -> Result<Json, String> {
    let mut reader = rmp_serde::Deserializer::from_read_ref(bytes);
    reader.set_max_depth(MAX_DEPTH + 1);
    let written = Written::deserialize(&mut reader).map_err(|error| error.to_string())?;
    Json::within(valid(written.0), MAX_DEPTH).map_err(|flaw| flaw.to_string())
}

/// A value, written as JSON while it is read.
struct Written(String);

impl<'de> Deserialize<'de> for Written {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        deserializer.deserialize_any(Parts).map(Written)
    }
}

struct Parts;

impl<'de> Visitor<'de> for Parts {
    type Value = String;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("a value that JSON has")
    }

    fn visit_unit<E>(self) -> Result<String, E> {
        Ok("null".to_owned())
    }

    fn visit_bool<E>(self, value: bool) -> Result<String, E> {
        Ok(value.to_string())
    }

    fn visit_u64<E>(self, value: u64) -> Result<String, E> {
        Ok(value.to_string())
    }

    fn visit_i64<E>(self, value: i64) -> Result<String, E> {
        Ok(value.to_string())
    }

    fn visit_f64<E: Error>(self, value: f64) -> Result<String, E> {
        if value.is_finite() { json(&value) } else { Err(E::custom(format!("JSON has no number that is {value}"))) }
    }

    fn visit_str<E: Error>(self, value: &str) -> Result<String, E> {
        json(value)
    }

    /// An extension: its type, then its bytes.
    fn visit_newtype_struct<D: Deserializer<'de>>(self, deserializer: D) -> Result<String, D::Error> {
        deserializer.deserialize_any(Extension)
    }

    fn visit_seq<A: SeqAccess<'de>>(self, mut values: A) -> Result<String, A::Error> {
        let mut text = String::from("[");
        while let Some(Written(value)) = values.next_element()? {
            separate(&mut text);
            text += &value;
        }
        Ok(text + "]")
    }

    fn visit_map<A: MapAccess<'de>>(self, mut map: A) -> Result<String, A::Error> {
        let mut text = String::from("{");
        while let Some(name) = map.next_key::<String>()? {
            separate(&mut text);
            text += &json::<A::Error>(&name)?;
            text.push(':');
            text += &map.next_value::<Written>()?.0;
        }
        Ok(text + "}")
    }
}

/// Reads an extension, which must be that of numbers.
struct Extension;

impl<'de> Visitor<'de> for Extension {
    type Value = String;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "an extension of type {NUMBER_EXTENSION}")
    }

    fn visit_seq<A: SeqAccess<'de>>(self, mut parts: A) -> Result<String, A::Error> {
        let kind: Option<i8> = parts.next_element()?;
        let number: Option<Bytes> = parts.next_element()?;
        let number =
            number.and_then(|bytes| String::from_utf8(bytes.0).ok()).filter(|_| kind == Some(NUMBER_EXTENSION));
        match number {
            Some(text) if is_number(&text) => Ok(text),
            _ => Err(A::Error::custom("an extension is no value that JSON has")),
        }
    }
}

/// Whether this is a number as JSON has it.
fn is_number(text: &str) -> bool {
    Json::read(text)
        .is_ok_and(|json| json.as_json() == text && text.starts_with(|c: char| c == '-' || c.is_ascii_digit()))
}

struct Bytes(Vec<u8>);

impl<'de> Deserialize<'de> for Bytes {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        struct Any;

        impl Visitor<'_> for Any {
            type Value = Bytes;

            fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str("bytes")
            }

            fn visit_bytes<E>(self, bytes: &[u8]) -> Result<Bytes, E> {
                Ok(Bytes(bytes.to_vec()))
            }
        }

        deserializer.deserialize_any(Any)
    }
}

fn separate(text: &mut String) {
    if text.len() > 1 {
        text.push(',');
    }
}

fn json<E: Error>(value: &(impl serde::Serialize + ?Sized)) -> Result<String, E> {
    serde_json::to_string(value).map_err(E::custom)
}
