//! Connections to upstreams: those that carry a request, and those that wait for the next.

use std::collections::HashMap;
use std::io;
use std::net::{SocketAddr, TcpStream};
use std::os::unix::net::UnixStream;
use std::time::{Duration, Instant};

use rustix::io::Errno;
use rustix::net::{AddressFamily, SocketAddrUnix, SocketFlags, SocketType, connect, socket_with, sockopt};

use super::target::{Address, Target};
use crate::net::{Handle, Poller, Ready, Slots, Stream, Wire};

/// So many connections to one target wait for the next request.
const MOST_IDLE: usize = 64;

/// How long one waits.
const LONGEST_IDLE: Duration = Duration::from_secs(30);

/// The mark of their handles.
const MARK: u64 = 1 << 63;

/// A connection to an upstream.
pub(crate) struct Upstream {
    pub(super) wire: Wire,
    /// The client whose request it carries.
    pub(crate) owner: Option<Handle>,
    target: u64,
    idle_since: Instant,
}

/// All connections to upstreams.
pub(crate) struct Upstreams {
    slots: Slots<Upstream>,
    idle: HashMap<u64, Vec<Handle>>,
}

impl Upstreams {
    pub(crate) fn new() -> Self {
        Upstreams { slots: Slots::marked(MARK), idle: HashMap::new() }
    }

    /// Whether `handle` is one of theirs.
    pub(crate) fn have(handle: Handle) -> bool {
        handle.0 & MARK != 0
    }

    /// The poller has said what is ready; gives back the client that has to be looked at.
    pub(crate) fn note(&mut self, handle: Handle, ready: Ready) -> Option<Handle> {
        let upstream = self.slots.get_mut(handle)?;
        upstream.wire.note(ready);
        if upstream.owner.is_none() {
            // What an upstream says unasked is an end, or nothing that could be believed.
            upstream.wire.fill(1);
            if upstream.wire.has_ended() || !upstream.wire.input.is_empty() {
                self.close(handle);
            }
            return None;
        }
        upstream.owner
    }

    pub(super) fn get_mut(&mut self, handle: Handle) -> Option<&mut Upstream> {
        self.slots.get_mut(handle)
    }

    /// A connection to `target` that was used before and is free; one that is surely still open, where the request `must_arrive`, as it
    /// cannot be sent again.
    pub(super) fn take_idle(&mut self, target: &Target, owner: Handle, must_arrive: bool) -> Option<Handle> {
        let idle = self.idle.get_mut(&target.number)?;
        while let Some(handle) = idle.pop() {
            match self.slots.get_mut(handle) {
                Some(upstream) if must_arrive && upstream.wire.is_closed_meanwhile() => drop(self.slots.remove(handle)),
                Some(upstream) => {
                    upstream.owner = Some(owner);
                    return Some(handle);
                }
                None => {}
            }
        }
        None
    }

    /// Opens a connection to the place of `target` with this number; the poller tells when it is there.
    pub(super) fn open(
        &mut self,
        target: &Target,
        place: usize,
        owner: Handle,
        poller: &Poller,
        now: Instant,
    ) -> io::Result<Handle> {
        let stream = match &target.address {
            Address::Unix(path) => {
                let address = SocketAddrUnix::new(path)?;
                let socket = socket_with(AddressFamily::UNIX, SocketType::STREAM, flags(), None)?;
                begun(connect(&socket, &address))?;
                Stream::Unix(UnixStream::from(socket))
            }
            Address::Tcp { .. } => {
                let places = target.places();
                let Some(address) = places.get(place % places.len().max(1)) else {
                    return Err(io::Error::new(io::ErrorKind::NotFound, "its name leads nowhere"));
                };
                let family = if address.is_ipv4() { AddressFamily::INET } else { AddressFamily::INET6 };
                let socket = socket_with(family, SocketType::STREAM, flags(), None)?;
                sockopt::set_tcp_nodelay(&socket, true)?;
                let address: &SocketAddr = address;
                begun(connect(&socket, address))?;
                Stream::Tcp(TcpStream::from(socket))
            }
        };
        let (target, owner) = (target.number, Some(owner));
        let handle = self.slots.insert_with(|_| Upstream { wire: Wire::new(stream), owner, target, idle_since: now });
        let upstream = self.slots.get_mut(handle).expect("it was put there just now");
        if let Err(error) = poller.add(upstream.wire.stream(), handle.0) {
            self.slots.remove(handle);
            return Err(error);
        }
        Ok(handle)
    }

    /// Its request has been answered, and another may follow.
    pub(super) fn give_back(&mut self, handle: Handle, now: Instant) {
        let Some(upstream) = self.slots.get_mut(handle) else { return };
        let is_clean = upstream.wire.input.is_empty() && upstream.wire.output.is_empty() && !upstream.wire.has_ended();
        let idle = self.idle.entry(upstream.target).or_default();
        if !is_clean || idle.len() >= MOST_IDLE {
            self.slots.remove(handle);
            return;
        }
        upstream.owner = None;
        upstream.idle_since = now;
        upstream.wire.release();
        idle.push(handle);
    }

    pub(super) fn close(&mut self, handle: Handle) {
        if let Some(upstream) = self.slots.remove(handle)
            && upstream.owner.is_none()
            && let Some(idle) = self.idle.get_mut(&upstream.target)
        {
            idle.retain(|other| *other != handle);
        }
    }

    /// Closes those that have waited too long.
    pub(crate) fn tidy(&mut self, now: Instant) {
        for idle in self.idle.values_mut() {
            idle.retain(|handle| {
                let is_kept = self
                    .slots
                    .get_mut(*handle)
                    .is_some_and(|upstream| now.saturating_duration_since(upstream.idle_since) < LONGEST_IDLE);
                if !is_kept {
                    self.slots.remove(*handle);
                }
                is_kept
            });
        }
        self.idle.retain(|_, idle| !idle.is_empty());
    }
}

fn flags() -> SocketFlags {
    SocketFlags::CLOEXEC | SocketFlags::NONBLOCK
}

/// A connect that goes on is as good as one that is done. A socket of this machine whose queue is full says `EAGAIN`.
fn begun(connected: Result<(), Errno>) -> io::Result<()> {
    match connected {
        Ok(()) | Err(Errno::INPROGRESS) => Ok(()),
        Err(error) => Err(error.into()),
    }
}

/// Lets the system find out whether the other side is still there, on a connection that may be silent for long.
pub(super) fn keep_alive(stream: &Stream) {
    // Without it a tunnel to a machine that vanished stays; that is no reason to cut it.
    let _ = sockopt::set_socket_keepalive(stream, true);
}
