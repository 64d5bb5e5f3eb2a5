//! The entries of the dead list: requests that failed and that nobody else would hear of.

use serde::{Deserialize, Serialize};

use super::glimpse::length_before_cut;
use super::{Object, RequestId, Verdict};

/// How much is kept of an element that cannot be read, in bytes.
const ELEMENT_BYTES: usize = 4096;

/// One entry, as JSON in Redis.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct DeadLetter {
    /// When it died, in milliseconds since 1970.
    pub at: u64,
    /// The id of the request, where it has one that could be read.
    pub id: Option<String>,
    /// How it ended.
    pub verdict: Verdict,
    /// What its function or cerbas said; for a command the end of its standard error.
    pub message: String,
    /// The function that it asked for.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub func: Option<String>,
    /// How often it ran.
    #[serde(default)]
    pub attempts: u32,
    /// The daemon that gave it its verdict.
    #[serde(default)]
    pub node: String,
    /// When it was taken first, in milliseconds since 1970.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub first_at: Option<u64>,
    /// The request, so that it can be tried again; missing where it could not be read.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub request: Option<Object>,
    /// The first 4096 bytes of what could not be read.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub element: Option<String>,
    /// How long that was, in bytes.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub bytes: Option<usize>,
}

impl DeadLetter {
    /// One that ended at `at` with `verdict` for what `message` says, on the daemon `node`; it has not run.
    pub fn new(at: u64, id: Option<&RequestId>, verdict: Verdict, message: String, node: &str) -> Self {
        DeadLetter {
            at,
            id: id.map(RequestId::to_string),
            verdict,
            message,
            func: None,
            attempts: 0,
            node: node.to_owned(),
            first_at: None,
            request: None,
            element: None,
            bytes: None,
        }
    }

    /// With the request that is in `json`, and its function.
    pub fn with_request(self, json: &[u8]) -> Self {
        let request = serde_json::from_slice::<Object>(json).ok();
        let func = request.as_ref().and_then(|request| request.text("func"));
        DeadLetter { func, request, ..self }
    }

    /// With the beginning of an element that cannot be read.
    pub fn with_element(self, element: &[u8]) -> Self {
        let shown = String::from_utf8_lossy(&element[..element.len().min(ELEMENT_BYTES)]).into_owned();
        let length = length_before_cut(element).unwrap_or(element.len());
        DeadLetter { element: Some(shown), bytes: Some(length), ..self }
    }

    /// As it stands in the list.
    pub fn to_json(&self) -> Box<str> {
        serde_json::to_string(self).expect("an entry is JSON").into()
    }
}
