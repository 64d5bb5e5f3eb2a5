//! How long a message is (RFC 9112, 6.3), by its headers.

use super::chunks::Chunks;

/// How the body of a message is marked off.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Length {
    /// It has so many bytes.
    Known(u64),
    /// It comes in chunks.
    Chunked,
    /// It ends with the connection: only answers of upstreams.
    ToTheEnd,
}

/// Why the length of a message is not clear.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Unclear {
    /// It could be read in two ways, or in none.
    Malformed(&'static str),
    /// It has a coding that we do not know.
    Coding,
}

/// Collects the headers of a head that say how long its body is.
#[derive(Debug, Default)]
pub(super) struct Lengths {
    known: Option<u64>,
    is_chunked: bool,
}

impl Lengths {
    /// A header `Content-Length: value`.
    pub(super) fn content_length(&mut self, value: &[u8]) -> Result<(), Unclear> {
        if self.known.is_some() {
            return Err(Unclear::Malformed("there are two lengths"));
        }
        // Eighteen digits can never overflow.
        if value.is_empty() || value.len() > 18 || !value.iter().all(u8::is_ascii_digit) {
            return Err(Unclear::Malformed("Content-Length is not a number"));
        }
        self.known = Some(value.iter().fold(0, |number, digit| number * 10 + u64::from(digit - b'0')));
        Ok(())
    }

    /// A header `Transfer-Encoding:value`, with all that stands between the colon and the end of its line.
    pub(super) fn transfer_encoding(&mut self, value: &[u8]) -> Result<(), Unclear> {
        if self.is_chunked {
            return Err(Unclear::Malformed("there are two transfer encodings"));
        }
        let plain = value.trim_ascii_start();
        if plain.eq_ignore_ascii_case(b"chunked") && value.iter().all(|byte| *byte != b'\t') {
            self.is_chunked = true;
            return Ok(());
        }
        let is_hidden = value.to_ascii_lowercase().windows(7).any(|window| window == b"chunked");
        Err(if is_hidden { Unclear::Malformed("Transfer-Encoding is more than chunked") } else { Unclear::Coding })
    }

    /// What they say together; `None` where they say nothing.
    pub(super) fn length(&self) -> Result<Option<Length>, Unclear> {
        match (self.known, self.is_chunked) {
            (Some(_), true) => Err(Unclear::Malformed("there are two lengths")),
            (Some(length), false) => Ok(Some(Length::Known(length))),
            (None, true) => Ok(Some(Length::Chunked)),
            (None, false) => Ok(None),
        }
    }
}

/// Where a reader of a body is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Framing {
    /// So many bytes are still to come.
    Known(u64),
    /// In chunks.
    Chunked(Chunks),
    /// Whatever comes until the connection ends.
    ToTheEnd,
}

/// What the next bytes of a body are: framing, then data.
pub(crate) use super::chunks::Step;

impl Framing {
    /// A reader before the first byte of a body.
    pub(crate) fn new(length: Length) -> Self {
        match length {
            Length::Known(length) => Framing::Known(length),
            Length::Chunked => Framing::Chunked(Chunks::new()),
            Length::ToTheEnd => Framing::ToTheEnd,
        }
    }

    /// Reads on in `bytes`, as [`Chunks::step`] does.
    pub(crate) fn step(&mut self, bytes: &[u8]) -> Result<Step, &'static str> {
        match self {
            Framing::Known(left) => {
                let data = usize::try_from(*left).unwrap_or(usize::MAX).min(bytes.len());
                *left -= data as u64;
                Ok(Step { framing: 0, data, is_last: *left == 0 })
            }
            Framing::Chunked(chunks) => chunks.step(bytes),
            Framing::ToTheEnd => Ok(Step { framing: 0, data: bytes.len(), is_last: false }),
        }
    }
}
