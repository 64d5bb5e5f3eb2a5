//! What must hold of heads whatever bytes come.

use super::SiteTerms;
use super::forward::{Sender, request};
use crate::net::{End, MAX_HEAD, MAX_HEADERS, RequestHead, ResponseHead, find_end};

/// A head is found in whatever pieces it comes. One that can be read says the same after the proxy has written it anew.
pub(crate) fn head(bytes: &[u8]) {
    let whole = find_end(bytes, 0);
    let mut seen = 0;
    for length in 0..=bytes.len().min(512) {
        match find_end(&bytes[..length], seen) {
            Ok(End::Later(looked)) => seen = looked,
            found => {
                if bytes.len() <= 512 {
                    assert_eq!(found, whole, "in pieces it is another");
                }
                break;
            }
        }
    }
    let Ok(End::At(length)) = whole else { return };
    let _no_panic = ResponseHead::read(&bytes[..length], false);
    let Ok(head) = RequestHead::read(&bytes[..length]) else { return };
    let sender = Sender { peer: None, is_trusted: false, request_id: "fuzz", was_for_us: false, user: None };
    let written = request(&head, &SiteTerms::named("fuzz"), "upstream", &sender);
    if written.len() > MAX_HEAD || head.headers.len() > MAX_HEADERS - 12 {
        return;
    }
    assert_eq!(find_end(&written, 0), Ok(End::At(written.len())), "it has another end: {written:?}");
    let again = RequestHead::read(&written).expect("what we write can be read");
    assert_eq!((again.method, again.search(), again.length), (head.method, head.search(), head.length));
    assert_eq!(again.path, head.path);
}
