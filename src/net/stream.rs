//! A connection, and what waits on its two sides.

use std::io::{self, ErrorKind, Read, Write};
use std::net::{Shutdown, TcpStream};
use std::os::fd::{AsFd, BorrowedFd};
use std::os::unix::net::UnixStream;

use super::buffer::Buffer;
use super::poller::Ready;

/// A socket that never blocks.
#[derive(Debug)]
pub(crate) enum Stream {
    /// Over TCP.
    Tcp(TcpStream),
    /// On this machine.
    Unix(UnixStream),
}

impl Stream {
    fn shut_down(&self, how: Shutdown) -> io::Result<()> {
        match self {
            Stream::Tcp(stream) => stream.shutdown(how),
            Stream::Unix(stream) => stream.shutdown(how),
        }
    }

    /// Why it broke, where the system knows.
    fn take_error(&self) -> Option<io::Error> {
        match self {
            Stream::Tcp(stream) => stream.take_error(),
            Stream::Unix(stream) => stream.take_error(),
        }
        .unwrap_or_else(Some)
    }
}

impl Read for Stream {
    fn read(&mut self, bytes: &mut [u8]) -> io::Result<usize> {
        match self {
            Stream::Tcp(stream) => stream.read(bytes),
            Stream::Unix(stream) => stream.read(bytes),
        }
    }
}

impl Write for Stream {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        match self {
            Stream::Tcp(stream) => stream.write(bytes),
            Stream::Unix(stream) => stream.write(bytes),
        }
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

impl AsFd for Stream {
    fn as_fd(&self) -> BorrowedFd<'_> {
        match self {
            Stream::Tcp(stream) => stream.as_fd(),
            Stream::Unix(stream) => stream.as_fd(),
        }
    }
}

/// A socket with what was read from it and what is to be written. The poller tells once when it becomes ready
/// (`EPOLLET`), so it is remembered here until a read or write says otherwise.
#[derive(Debug)]
pub(crate) struct Wire {
    stream: Stream,
    /// What came, and is not looked at yet.
    pub(crate) input: Buffer,
    /// What is to go.
    pub(crate) output: Buffer,
    can_read: bool,
    can_write: bool,
    /// The other side has sent its last; it may not be read yet.
    is_ending: bool,
    /// The other side has said that nothing more comes.
    has_ended: bool,
    broken: Option<io::Error>,
}

impl Wire {
    /// Over `stream`, which may be about to connect.
    pub(crate) fn new(stream: Stream) -> Self {
        Wire {
            stream,
            input: Buffer::default(),
            output: Buffer::default(),
            can_read: false,
            can_write: false,
            is_ending: false,
            has_ended: false,
            broken: None,
        }
    }

    pub(crate) fn stream(&self) -> &Stream {
        &self.stream
    }

    /// The poller has said what is ready.
    pub(crate) fn note(&mut self, ready: Ready) {
        self.can_read |= ready.to_read;
        self.can_write |= ready.to_write;
        self.is_ending |= ready.is_ending;
        if ready.is_broken
            && let Some(error) = self.stream.take_error()
        {
            self.broken = Some(error);
        }
    }

    /// Whether a connect has ended, well or not.
    pub(crate) fn is_connected(&self) -> bool {
        self.can_write || self.broken.is_some()
    }

    /// Whether the other side has sent its last, be it read or not.
    pub(crate) fn is_ending(&self) -> bool {
        self.is_ending
    }

    /// Whether the other side has closed it or sent something since the poller last told. Asks the system.
    pub(crate) fn is_closed_meanwhile(&self) -> bool {
        match &self.stream {
            Stream::Tcp(stream) => !stream.peek(&mut [0]).is_err_and(|error| error.kind() == ErrorKind::WouldBlock),
            // There is no way to look without reading; the poller tells soon enough.
            Stream::Unix(_) => false,
        }
    }

    /// Why it cannot be used any more.
    pub(crate) fn broken(&self) -> Option<&io::Error> {
        self.broken.as_ref()
    }

    /// Whether nothing more comes.
    pub(crate) fn has_ended(&self) -> bool {
        self.has_ended || self.broken.is_some()
    }

    /// Reads what is there, until `limit` bytes wait; tells whether any came.
    pub(crate) fn fill(&mut self, limit: usize) -> bool {
        let before = self.input.len();
        while self.can_read && !self.has_ended && self.input.len() < limit {
            match self.input.read_from(&mut self.stream, limit) {
                Ok((0, _)) => self.has_ended = true,
                // Less than was asked for: there is no more, and the poller will tell of the next. The end is told of only once.
                Ok((_, has_more)) => self.can_read = has_more || self.is_ending,
                Err(error) if error.kind() == ErrorKind::WouldBlock => self.can_read = false,
                Err(error) if error.kind() == ErrorKind::Interrupted => {}
                Err(error) => {
                    self.broken = Some(error);
                    self.has_ended = true;
                }
            }
        }
        self.input.len() > before
    }

    /// Writes what waits, as far as it goes; tells whether any went.
    pub(crate) fn flush(&mut self) -> bool {
        let before = self.output.len();
        while self.can_write && !self.output.is_empty() && self.broken.is_none() {
            match self.stream.write(self.output.data()) {
                Ok(count) => self.output.consume(count),
                Err(error) if error.kind() == ErrorKind::WouldBlock => self.can_write = false,
                Err(error) if error.kind() == ErrorKind::Interrupted => {}
                Err(error) => self.broken = Some(error),
            }
        }
        if self.broken.is_some() {
            self.output.consume(self.output.len());
        }
        self.output.len() < before
    }

    /// Sends `data` behind what waits: at once what goes at once, without a copy.
    pub(crate) fn send(&mut self, data: &[u8]) {
        let mut rest = data;
        while self.output.is_empty() && self.can_write && !rest.is_empty() && self.broken.is_none() {
            match self.stream.write(rest) {
                Ok(count) => rest = &rest[count..],
                Err(error) if error.kind() == ErrorKind::WouldBlock => self.can_write = false,
                Err(error) if error.kind() == ErrorKind::Interrupted => {}
                Err(error) => self.broken = Some(error),
            }
        }
        if self.broken.is_none() {
            self.output.push(rest);
        }
    }

    /// Tells the other side that nothing more comes.
    pub(crate) fn finish(&mut self) {
        // A connection that is gone already needs no end.
        let _ = self.stream.shut_down(Shutdown::Write);
    }

    /// Gives back the memory that it does not need.
    pub(crate) fn release(&mut self) {
        self.input.release();
        self.output.release();
    }
}
