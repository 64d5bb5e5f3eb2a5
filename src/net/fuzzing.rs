//! What must hold of paths and bodies whatever bytes come.

use super::http1::{Chunks, Step, canonical};

/// A path has one form, which has no other, and whoever decodes it once more stays where it leads.
pub(crate) fn path(bytes: &[u8]) {
    // As a head has it.
    let is_path = |text: &&str| text.starts_with('/') && text.bytes().all(|byte| byte.is_ascii_graphic());
    let Some(text) = std::str::from_utf8(bytes).ok().filter(is_path) else { return };
    let Ok(path) = canonical(text) else { return };
    assert_eq!(canonical(&path.text).expect("it is one already"), path);
    if path.has_encoded_slash || path.doubt.is_some() {
        return;
    }
    let decoded = percent_encoding::percent_decode_str(&path.text).decode_utf8_lossy();
    assert_eq!(decoded.split('/').count(), path.text.split('/').count(), "{decoded}");
    assert!(!decoded.split(['/', '\\']).any(|segment| matches!(segment, "." | "..")), "{decoded}");
}

/// A body is the same in whatever pieces it comes.
pub(crate) fn chunks(bytes: &[u8]) {
    let Some((&piece, bytes)) = bytes.split_first() else { return };
    let (whole, pieces) = (body(bytes, bytes.len().max(1)), body(bytes, usize::from(piece).max(1)));
    assert_eq!(whole, pieces);
}

/// The body that `bytes` begin with; `None` where it is not complete.
fn body(bytes: &[u8], piece: usize) -> Result<Option<Vec<u8>>, &'static str> {
    let (mut chunks, mut body) = (Chunks::new(), Vec::new());
    for mut piece in bytes.chunks(piece) {
        while !piece.is_empty() {
            let Step { framing, data, is_last } = chunks.step(piece)?;
            assert!(framing + data > 0, "nothing moves");
            body.extend_from_slice(&piece[framing..framing + data]);
            piece = &piece[framing + data..];
            if is_last {
                return Ok(Some(body));
            }
        }
    }
    Ok(None)
}
