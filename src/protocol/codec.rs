//! Bytes to requests, and answers to bytes.

use std::borrow::Cow;
use std::sync::Arc;
use std::time::Duration;

use rmp::encode;
use serde::{Deserialize, Deserializer};
use serde_json::Value;

use super::glimpse::{glimpse, glimpse_of_large};
use super::json::{Given, Json, Object, deserialize_given, to_msgpack};
use super::{Answer, Arguments, CRON, CallError, MAX_DELAY, OnDuplicate, Outcome, Request, RequestId, Ticket, Verdict};

/// The longest `unique` key and name of a node, in bytes.
const MAX_NAME: usize = 256;

/// So many levels deep a request may be.
pub const MAX_DEPTH: usize = 100;

/// So deep is what stands in its `args`: the request and the arguments are two levels more.
const DEPTH_OF_ARGUMENT: usize = MAX_DEPTH - 2;

/// So many calls may wait for each other.
const MAX_CHAIN: usize = 32;

/// Why bytes are no request: the text for the client, the reason for the operator, and whom to tell.
#[derive(Debug, Clone, PartialEq)]
pub struct Unreadable {
    /// What the client is told.
    pub error: CallError,
    /// What is wrong, for the dead list and the log.
    pub reason: String,
    /// Whom to tell, where that much could be read.
    pub id: Option<RequestId>,
}

/// A request as it stands on the wire. Fields that we do not know are ignored: a newer client may send them.
#[derive(Deserialize)]
struct Wire<'a> {
    #[serde(borrow)]
    id: Option<Cow<'a, str>>,
    #[serde(borrow)]
    func: Option<Cow<'a, str>>,
    #[serde(default, deserialize_with = "deserialize_args")]
    args: Option<Given>,
    user: Option<String>,
    source: Option<String>,
    timeout: Option<u64>,
    delay: Option<u64>,
    expires: Option<u64>,
    sent_at: Option<u64>,
    reply: Option<bool>,
    retries: Option<u32>,
    attempt: Option<u32>,
    first_at: Option<u64>,
    #[serde(borrow)]
    unique: Option<Cow<'a, str>>,
    on_duplicate: Option<OnDuplicate>,
    #[serde(borrow)]
    node: Option<Cow<'a, str>>,
    deadline: Option<u64>,
    chain: Option<Vec<String>>,
    // What rooms say, each under its name.
    cron: Option<Json>,
    #[serde(default)]
    track: bool,
}

fn deserialize_args<'de, D: Deserializer<'de>>(deserializer: D) -> Result<Option<Given>, D::Error> {
    deserialize_given::<D, DEPTH_OF_ARGUMENT>(deserializer).map(Some)
}

/// Who waits, for a request that cannot be read otherwise.
#[derive(Deserialize)]
struct IdOnly {
    id: Option<Value>,
    reply: Option<Value>,
}

/// Reads a request from its JSON. `number` is that of a numbered request; an inline one brings its own id. `now` is in
/// milliseconds since 1970.
pub fn decode_request(json: &[u8], number: Option<u64>, now: u64) -> Result<Request, Unreadable> {
    let refuse = |error: CallError, reason: String| Unreadable { error, reason, id: who_waits(json, number) };
    let bad_call = |reason: String| refuse(CallError::BadCall, reason);

    if !is_object(json) {
        return Err(bad_call("must be a JSON object".to_owned()));
    }
    // Also in fields that are ignored: what is no text is no JSON.
    let text = std::str::from_utf8(json).map_err(|error| bad_call(format!("must be UTF-8: {error}")))?;
    let wire: Wire<'_> = serde_json::from_str(text).map_err(|error| bad_call(error.to_string()))?;
    let id = match (number, &wire.id) {
        (Some(number), _) => RequestId::Number(number),
        (None, Some(text)) => RequestId::from_text(text)
            .ok_or_else(|| bad_call("id: must be 1 to 128 characters out of A-Z a-z 0-9 _ . : -".to_owned()))?,
        (None, None) => RequestId::random(),
    };
    let is_named = number.is_some() || wire.id.is_some();
    let func = match wire.func {
        Some(func) if !func.is_empty() => func.into_owned(),
        _ => return Err(bad_call("func: is missing".to_owned())),
    };
    let args = match wire.args {
        None | Some(Given::Nothing) => Arguments::new(),
        Some(Given::Object(args)) => args,
        Some(Given::Other) => {
            let error = CallError::InvalidArguments("must be an object".to_owned());
            return Err(refuse(error, "args: must be an object".to_owned()));
        }
    };
    let at_least_one = |name: &str, milliseconds: Option<u64>| match milliseconds {
        Some(0) => Err(bad_call(format!("{name}: must be at least 1 millisecond"))),
        other => Ok(other),
    };
    let timeout = at_least_one("timeout", wire.timeout)?.map(Duration::from_millis);
    let expires = at_least_one("expires", wire.expires)?;
    let delay = wire.delay.unwrap_or(0);
    if Duration::from_millis(delay) > MAX_DELAY {
        return Err(bad_call("delay: must be at most 366 days, in milliseconds".to_owned()));
    }
    // A client whose clock is ahead must not make its request wait longer than it asked for.
    let sent_at = wire.sent_at.map(|sent_at| sent_at.min(now));
    let not_before = (delay > 0).then(|| sent_at.unwrap_or(now) + delay);
    // Without `sent_at` a delayed request is read a second time when it is due, and `expires` counts from there.
    let expires_at = expires.map(|expires| sent_at.map_or(now, |sent_at| sent_at + delay).saturating_add(expires));
    let expires_at = match (expires_at, wire.deadline) {
        (Some(expires_at), Some(deadline)) => Some(expires_at.min(deadline)),
        (expires_at, deadline) => expires_at.or(deadline),
    };
    let short_text = |name: &str, text: Option<Cow<'_, str>>| match text {
        Some(text) if text.is_empty() || text.len() > MAX_NAME || text.chars().any(char::is_control) => {
            Err(bad_call(format!("{name}: must be 1 to {MAX_NAME} bytes without control characters")))
        }
        text => Ok(text.map(|text| text.into())),
    };
    let unique = short_text("unique", wire.unique)?;
    let node = short_text("node", wire.node)?;
    let chain = wire.chain.unwrap_or_default();
    if chain.len() > MAX_CHAIN {
        return Err(bad_call(format!("chain: {} calls wait for each other, at most {MAX_CHAIN} may", chain.len())));
    }
    Ok(Request {
        id,
        func,
        args,
        user: wire.user,
        source: wire.source,
        timeout,
        not_before,
        expires_at,
        reply: wire.reply.unwrap_or(true),
        retries: wire.retries,
        attempt: wire.attempt.unwrap_or(0),
        first_at: wire.first_at,
        unique,
        on_duplicate: wire.on_duplicate,
        node,
        deadline: wire.deadline,
        chain,
        ticket: wire.cron.map(|value| Box::new(Ticket { room: CRON, value })),
        vouched_by: None,
        account: None,
        is_named,
        is_counted: false,
        is_tracked: wire.track,
    })
}

/// Whether this begins as an object does; serde would take an array as one whose names are left out.
fn is_object(json: &[u8]) -> bool {
    json.trim_ascii_start().starts_with(b"{")
}

/// An inline request with `id` in it; `None` if it has one already.
pub fn with_id(json: &[u8], id: &RequestId) -> Option<Vec<u8>> {
    let mut request: Object = serde_json::from_slice(json).ok()?;
    if request.get("id").is_some_and(|id| !id.is_null()) {
        return None;
    }
    request.insert("id", id.to_string());
    Some(request.to_json().into_bytes())
}

/// `request` as an element of a queue, in which it is inline. `now` is in milliseconds since 1970.
pub fn encode_request(request: &Request, now: u64) -> Vec<u8> {
    let mut fields = Object::new();
    let mut set = |name: &str, value: Option<Json>| {
        if let Some(value) = value {
            fields.insert(name, value);
        }
    };
    set("id", Some(Json::from(request.id.to_string())));
    set("func", Some(Json::from(request.func.as_str())));
    set("args", Some(Json::from(request.args.clone())));
    set("user", request.user.as_deref().map(Json::from));
    set("source", request.source.as_deref().map(Json::from));
    set("timeout", request.timeout.map(|timeout| Json::from(timeout.as_millis() as u64)));
    let delay = request.not_before.map_or(0, |not_before| not_before.saturating_sub(now));
    set("sent_at", Some(Json::from(now)));
    set("delay", (delay > 0).then(|| Json::from(delay)));
    let expires = request.expires_at.map(|expires_at| expires_at.saturating_sub(now + delay).max(1));
    set("expires", expires.map(Json::from));
    set("reply", (!request.reply).then(|| Json::from(false)));
    set("retries", request.retries.map(Json::from));
    set("unique", request.unique.as_deref().map(Json::from));
    set("on_duplicate", request.on_duplicate.map(|what| Json::of(&what).expect("a word is JSON")));
    set("node", request.node.as_deref().map(Json::from));
    set("deadline", request.deadline.map(Json::from));
    set("chain", (!request.chain.is_empty()).then(|| Json::from(request.chain.clone())));
    set("track", request.is_tracked.then(|| Json::from(true)));
    fields.to_json().into_bytes()
}

/// What of a request is written anew when it is to run again.
#[derive(Debug)]
pub struct Rerun<'a> {
    /// Its id; a numbered request has it inside from now on.
    pub id: &'a RequestId,
    /// Whether somebody still waits for its answer.
    pub reply: bool,
    /// How often it ran.
    pub attempt: u32,
    /// When it was taken first, in milliseconds since 1970.
    pub first_at: u64,
    /// After this it must not start, in milliseconds since 1970.
    pub expires_at: Option<u64>,
    /// What went wrong the last time.
    pub last_error: &'a str,
    /// Milliseconds since 1970.
    pub now: u64,
}

/// The request in `json` as it waits for its next run, inline; `None` if it is no object.
pub fn encode_rerun(json: &[u8], rerun: &Rerun<'_>) -> Option<Vec<u8>> {
    let mut request: Object = serde_json::from_slice(json).ok()?;
    request.remove("delay");
    let mut set = |name: &str, value: Json| request.insert(name, value);
    set("id", Json::from(rerun.id.to_string()));
    set("attempt", Json::from(rerun.attempt));
    set("first_at", Json::from(rerun.first_at));
    set("last_error", Json::from(rerun.last_error));
    if !rerun.reply {
        set("reply", Json::from(false));
    }
    if let Some(expires_at) = rerun.expires_at {
        set("sent_at", Json::from(rerun.now));
        set("expires", Json::from(expires_at.saturating_sub(rerun.now).max(1)));
    }
    Some(request.to_json().into_bytes())
}

/// The function that the request in `json` names.
pub fn func_of(json: &[u8]) -> Option<Cow<'_, str>> {
    #[derive(Deserialize)]
    struct FuncOnly<'a> {
        #[serde(borrow)]
        func: Option<Cow<'a, str>>,
    }
    serde_json::from_slice::<FuncOnly<'_>>(json).ok()?.func
}

/// Whom to tell that a request cannot be read, as far as that much of it can be.
fn who_waits(json: &[u8], number: Option<u64>) -> Option<RequestId> {
    let found: Option<IdOnly> = if is_object(json) { serde_json::from_slice(json).ok() } else { None };
    let seen = glimpse(json);
    if seen.is_quiet || found.as_ref().is_some_and(|found| found.reply == Some(Value::Bool(false))) {
        return None;
    }
    let read = || RequestId::from_text(found?.id?.as_str()?);
    number.map(RequestId::Number).or_else(read).or(seen.id)
}

/// Whom to tell that a request is too large to be read.
pub fn who_waits_for_large(json: &[u8], number: Option<u64>) -> Option<RequestId> {
    let seen = glimpse_of_large(json);
    if seen.is_quiet { None } else { number.map(RequestId::Number).or(seen.id) }
}

/// An answer as bytes, ready to be sent any number of times.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Encoded {
    /// How the request ended.
    pub verdict: Verdict,
    /// The [`Answer`] as JSON.
    pub json: Box<[u8]>,
    /// The same as MessagePack.
    pub msgpack: Box<[u8]>,
    /// Whether the function said that to try again is pointless.
    pub is_final: bool,
    /// The status of HTTP that says the same.
    pub status: u16,
}

impl Encoded {
    /// What it says, for people: why there is no value, or the value as a text.
    pub fn message(&self) -> String {
        match serde_json::from_slice::<Answer>(&self.json).map(|answer| answer.data) {
            // A function without a value has nothing to say.
            Ok(data) if data.is_null() => String::new(),
            Ok(data) => data.to_text(),
            Err(_) => self.verdict.to_string(),
        }
    }
}

/// Writes `outcome` as the answer that clients read.
pub fn encode_outcome(outcome: Outcome) -> Arc<Encoded> {
    let is_final = matches!(outcome, Err(CallError::FailedForGood(_)));
    let status = outcome.as_ref().err().map_or(200, CallError::status);
    let answer = Answer::from(outcome);
    Arc::new(Encoded {
        is_final,
        status,
        verdict: answer.verdict(),
        json: serde_json::to_vec(&answer).expect("an answer is JSON").into(),
        msgpack: answer_to_msgpack(&answer),
    })
}

/// An answer that was kept as JSON; `None` if `json` is no answer.
pub fn decode_answer(json: &[u8]) -> Option<Arc<Encoded>> {
    let answer: Answer = serde_json::from_slice(json).ok()?;
    let status = if answer.verdict() == Verdict::Ok { 200 } else { answer.error().status() };
    let (verdict, is_final, msgpack) = (answer.verdict(), answer.retry == Some(false), answer_to_msgpack(&answer));
    Some(Arc::new(Encoded { verdict, json: json.into(), msgpack, is_final, status }))
}

/// `answer` in MessagePack, as a map with text keys.
pub fn answer_to_msgpack(answer: &Answer) -> Box<[u8]> {
    const EXPECTED: &str = "a vector takes all that is written";
    let mut out = Vec::with_capacity(answer.data.as_json().len() + 32);
    let texts = [("verdict", answer.verdict.map(Verdict::as_str)), ("reason", answer.reason.as_deref())];
    let fields = 2 + texts.iter().filter(|(_, text)| text.is_some()).count() + usize::from(answer.retry.is_some());
    encode::write_map_len(&mut out, fields as u32).expect(EXPECTED);
    let mut write = |text: &str| encode::write_str(&mut out, text).expect(EXPECTED);
    write("status");
    write(answer.status.as_str());
    write("data");
    to_msgpack(&answer.data, &mut out);
    for (name, text) in texts {
        if let Some(text) = text {
            encode::write_str(&mut out, name).expect(EXPECTED);
            encode::write_str(&mut out, text).expect(EXPECTED);
        }
    }
    if let Some(retry) = answer.retry {
        encode::write_str(&mut out, "retry").expect(EXPECTED);
        encode::write_bool(&mut out, retry).expect(EXPECTED);
    }
    out.into()
}

/// The MessagePack form of an answer that was kept as JSON; `None` if `json` is no answer.
pub fn json_to_msgpack(json: &[u8]) -> Option<Box<[u8]>> {
    serde_json::from_slice(json).ok().map(|answer: Answer| answer_to_msgpack(&answer))
}

#[cfg(test)]
mod tests;
