//! Bytes that come in at one end and go out at the other.

use std::io::{self, Read};

/// How much is made at first: enough for most requests.
const FIRST: usize = 2 * 1024;

/// More is never read at once.
const MOST_AT_ONCE: usize = 64 * 1024;

/// A queue of bytes. An empty one holds no memory after [`Buffer::release`].
#[derive(Debug, Default)]
pub(crate) struct Buffer {
    /// All of it has been written once; what counts lies between the two ends.
    bytes: Vec<u8>,
    start: usize,
    end: usize,
}

impl Buffer {
    /// What is in it.
    pub(crate) fn data(&self) -> &[u8] {
        &self.bytes[self.start..self.end]
    }

    pub(crate) fn len(&self) -> usize {
        self.end - self.start
    }

    pub(crate) fn is_empty(&self) -> bool {
        self.start == self.end
    }

    /// Takes out the first `count` bytes.
    pub(crate) fn consume(&mut self, count: usize) {
        self.start += count;
        debug_assert!(self.start <= self.end, "no more can go out than came in");
        if self.start == self.end {
            (self.start, self.end) = (0, 0);
        }
    }

    /// Adds `bytes`.
    pub(crate) fn push(&mut self, bytes: &[u8]) {
        self.make_room(bytes.len());
        self.bytes[self.end..self.end + bytes.len()].copy_from_slice(bytes);
        self.end += bytes.len();
    }

    /// Reads once from `source`, up to `limit` bytes in all. Tells how many came, and whether there may be more at once.
    pub(crate) fn read_from(&mut self, source: &mut impl Read, limit: usize) -> io::Result<(usize, bool)> {
        let wanted = limit.saturating_sub(self.len()).min(MOST_AT_ONCE);
        if self.bytes.len() - self.end == 0 || self.start > 0 {
            // Twice as much each time: who sends little needs little.
            self.make_room(self.bytes.len().clamp(FIRST, MOST_AT_ONCE).min(wanted.max(1)));
        }
        let room = (self.bytes.len() - self.end).min(wanted);
        let count = source.read(&mut self.bytes[self.end..self.end + room])?;
        self.end += count;
        Ok((count, count == room))
    }

    /// Gives its memory back if it is empty.
    pub(crate) fn release(&mut self) {
        if self.is_empty() && !self.bytes.is_empty() {
            *self = Buffer::default();
        }
    }

    /// Makes room for `count` bytes behind the last one.
    fn make_room(&mut self, count: usize) {
        if self.start > 0 && self.bytes.len() - self.end < count {
            self.bytes.copy_within(self.start..self.end, 0);
            (self.start, self.end) = (0, self.end - self.start);
        }
        if self.bytes.len() - self.end < count {
            let needed = self.end + count;
            self.bytes.resize(needed.max(FIRST), 0);
        }
    }
}

impl io::Write for Buffer {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        self.push(bytes);
        Ok(bytes.len())
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_comes_in_goes_out_in_its_order() {
        let mut buffer = Buffer::default();
        let source: Vec<u8> = (0..200_000_u32).map(|number| number as u8).collect();
        let (mut rest, mut out) = (source.as_slice(), Vec::new());
        while out.len() < source.len() {
            let (count, _) = buffer.read_from(&mut rest, 70_000).expect("a slice can be read");
            assert!(buffer.len() <= 70_000);
            let taken = if count == 0 { buffer.len() } else { buffer.len() / 3 };
            out.extend_from_slice(&buffer.data()[..taken]);
            buffer.consume(taken);
        }
        assert!(out == source && buffer.is_empty());
        buffer.release();
        assert_eq!(buffer.bytes.capacity(), 0);
        buffer.push(b"again");
        assert_eq!(buffer.data(), b"again");
    }
}
