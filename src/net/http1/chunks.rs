//! The chunked transfer coding (RFC 9112, 7.1), read piece by piece.

/// How many bytes the extensions of one chunk may have. Nobody uses them; who sends long ones means harm.
const MAX_EXTENSION: u16 = 256;

/// How many bytes all trailers may have together.
const MAX_TRAILERS: u16 = 4096;

/// How many digits a size may have: 15 of them can never overflow.
const MAX_DIGITS: u8 = 15;

/// Where a reader of chunks is. It takes bytes in pieces of any size.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Chunks(State);

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum State {
    Size { size: u64, digits: u8 },
    Extension { size: u64, read: u16 },
    SizeEnd { size: u64 },
    Data { left: u64 },
    DataReturn,
    DataEnd,
    TrailerStart { read: u16 },
    Trailer { read: u16 },
    TrailerEnd { read: u16 },
    LastEnd,
    Done,
}

/// What the next bytes are.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Step {
    /// So many bytes are not of the body.
    pub(crate) framing: usize,
    /// So many bytes after them are.
    pub(crate) data: usize,
    /// The message ends behind them.
    pub(crate) is_last: bool,
}

impl Chunks {
    /// A reader before the first byte.
    pub(crate) fn new() -> Self {
        Chunks(State::Size { size: 0, digits: 0 })
    }

    /// Reads on in `bytes`: what stands in front up to the next data, and how much of that is there. Nothing of it has to be offered
    /// again. The error says what is wrong.
    pub(crate) fn step(&mut self, bytes: &[u8]) -> Result<Step, &'static str> {
        for (at, byte) in bytes.iter().enumerate() {
            if let State::Data { left } = self.0 {
                let data = usize::try_from(left).unwrap_or(usize::MAX).min(bytes.len() - at);
                let left = left - data as u64;
                self.0 = if left == 0 { State::DataReturn } else { State::Data { left } };
                return Ok(Step { framing: at, data, is_last: false });
            }
            if self.0 == State::Done {
                return Ok(Step { framing: at, data: 0, is_last: true });
            }
            self.0 = self.0.next(*byte)?;
        }
        Ok(Step { framing: bytes.len(), data: 0, is_last: self.0 == State::Done })
    }
}

impl State {
    fn next(self, byte: u8) -> Result<State, &'static str> {
        Ok(match (self, byte) {
            (State::Size { digits: MAX_DIGITS, .. }, b'0'..=b'9' | b'a'..=b'f' | b'A'..=b'F') => {
                return Err("a chunk size has too many digits");
            }
            (State::Size { size, digits }, digit @ (b'0'..=b'9' | b'a'..=b'f' | b'A'..=b'F')) => {
                let digit = char::from(digit).to_digit(16).unwrap_or_default();
                State::Size { size: size * 16 + u64::from(digit), digits: digits + 1 }
            }
            (State::Size { digits: 0, .. }, _) => return Err("a chunk has no size"),
            (State::Size { size, .. }, b'\r') => State::SizeEnd { size },
            (State::Size { size, .. }, b';') => State::Extension { size, read: 0 },
            (State::Size { .. }, _) => return Err("a chunk size is not a hexadecimal number"),
            (State::Extension { read: MAX_EXTENSION, .. }, _) => return Err("a chunk extension is too long"),
            (State::Extension { size, .. }, b'\r') => State::SizeEnd { size },
            (State::Extension { .. }, b'\n') => return Err("a line of a chunk ends without a carriage return"),
            (State::Extension { size, read }, _) => State::Extension { size, read: read + 1 },
            (State::SizeEnd { size: 0 }, b'\n') => State::TrailerStart { read: 0 },
            (State::SizeEnd { size }, b'\n') => State::Data { left: size },
            (State::DataReturn, b'\r') => State::DataEnd,
            (State::DataReturn, _) => return Err("a chunk is longer than its size"),
            (State::DataEnd, b'\n') => State::Size { size: 0, digits: 0 },
            (State::TrailerStart { .. }, b'\r') => State::LastEnd,
            (State::TrailerStart { read } | State::Trailer { read }, _) if read >= MAX_TRAILERS => {
                return Err("the trailers are too long");
            }
            (State::TrailerStart { .. } | State::Trailer { .. }, b'\n') => {
                return Err("a trailer ends without a carriage return");
            }
            (State::TrailerStart { .. }, b' ' | b'\t') => return Err("a trailer is folded"),
            (State::Trailer { read }, b'\r') => State::TrailerEnd { read },
            (State::TrailerStart { read } | State::Trailer { read }, _) => State::Trailer { read: read + 1 },
            (State::TrailerEnd { read }, b'\n') => State::TrailerStart { read },
            (State::LastEnd, b'\n') => State::Done,
            (State::SizeEnd { .. } | State::DataEnd | State::TrailerEnd { .. } | State::LastEnd, _) => {
                return Err("a carriage return stands alone");
            }
            (State::Data { .. } | State::Done, _) => unreachable!("is looked at before"),
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// A body, and what follows behind it.
    type Body = (Vec<u8>, Vec<u8>);

    /// The body that `bytes` have, read in pieces of `piece` bytes.
    fn read(bytes: &[u8], piece: usize) -> Result<Option<Body>, &'static str> {
        let (mut chunks, mut body, mut buffer) = (Chunks::new(), Vec::new(), Vec::new());
        let mut pieces = bytes.chunks(piece);
        loop {
            let step = chunks.step(&buffer)?;
            body.extend_from_slice(&buffer[step.framing..step.framing + step.data]);
            buffer.drain(..step.framing + step.data);
            if step.is_last {
                buffer.extend(pieces.flatten());
                return Ok(Some((body, buffer)));
            }
            if buffer.is_empty() {
                match pieces.next() {
                    Some(piece) => buffer.extend_from_slice(piece),
                    None => return Ok(None),
                }
            }
        }
    }

    #[track_caller]
    fn check(text: &str, expected: Result<Option<(&str, &str)>, &'static str>) {
        let expected =
            expected.map(|found| found.map(|(body, rest)| (body.as_bytes().to_vec(), rest.as_bytes().to_vec())));
        for piece in [1, 2, 3, 7, 1000] {
            assert_eq!(read(text.as_bytes(), piece), expected, "{text:?} in pieces of {piece}");
        }
    }

    #[test]
    fn chunks_are_put_together_in_whatever_pieces_they_come() {
        check("0\r\n\r\nGET", Ok(Some(("", "GET"))));
        check("5\r\nhello\r\n006\r\n world\r\n0\r\n\r\n", Ok(Some(("hello world", ""))));
        check(
            "A;name=\"value\"\r\n0123456789\r\n0;last\r\nChecksum: 1\r\nMore: 2\r\n\r\nrest",
            Ok(Some(("0123456789", "rest"))),
        );
        check("5\r\nhel", Ok(None));
        check("5\r\nhello\r\n0\r\n", Ok(None));
    }

    #[test]
    fn what_could_be_read_in_two_ways_is_refused() {
        check("\r\n", Err("a chunk has no size"));
        check(" 5\r\nhello\r\n", Err("a chunk has no size"));
        check("+5\r\n", Err("a chunk has no size"));
        check("0x5\r\n", Err("a chunk size is not a hexadecimal number"));
        check("5 \r\n", Err("a chunk size is not a hexadecimal number"));
        check("5\nhello", Err("a chunk size is not a hexadecimal number"));
        check("5\rhello", Err("a carriage return stands alone"));
        check("5;a\nhello", Err("a line of a chunk ends without a carriage return"));
        check("ffffffffffffffff\r\n", Err("a chunk size has too many digits"));
        check("0000000000000000\r\n", Err("a chunk size has too many digits"));
        check("5\r\nhellos\r\n", Err("a chunk is longer than its size"));
        check("5\r\nhello\n0\r\n", Err("a chunk is longer than its size"));
        check("5\r\nhello\rx", Err("a carriage return stands alone"));
        check("0\r\nA: b\n\r\n", Err("a trailer ends without a carriage return"));
        check("0\r\n A: b\r\n\r\n", Err("a trailer is folded"));
        check("0\r\n\n", Err("a trailer ends without a carriage return"));
        check(&format!("1;{}\r\n", "x".repeat(300)), Err("a chunk extension is too long"));
        check(&format!("0\r\n{}", "A: b\r\n".repeat(3000)), Err("the trailers are too long"));
    }
}
