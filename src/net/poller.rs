//! What a thread with connections waits for: many sockets, and somebody who wakes it.

use std::io;
use std::os::fd::{AsFd, OwnedFd};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use rustix::buffer::spare_capacity;
use rustix::event::epoll::{self, CreateFlags, EventData, EventFlags};
use rustix::event::{EventfdFlags, Timespec, eventfd};
use rustix::io::Errno;

/// So many sockets are told of at once.
const MOST_EVENTS: usize = 256;

/// Stands for the waker, and for no socket.
const WAKER: u64 = u64::MAX;

/// What has become possible with a socket.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub(crate) struct Ready {
    pub(crate) to_read: bool,
    pub(crate) to_write: bool,
    /// The other side sends no more than what is there to be read.
    pub(crate) is_ending: bool,
    /// There is an error to be asked for.
    pub(crate) is_broken: bool,
}

/// Waits for sockets.
pub(crate) struct Poller {
    epoll: OwnedFd,
    waker: Arc<Waker>,
}

/// What the system tells of; it stays on its thread.
pub(crate) struct Events(Vec<epoll::Event>);

impl Events {
    pub(crate) fn new() -> Self {
        Events(Vec::with_capacity(MOST_EVENTS))
    }
}

/// Wakes a [`Poller`]. Cheap while that is awake.
#[derive(Debug)]
pub(crate) struct Waker {
    told: OwnedFd,
    is_asleep: AtomicBool,
}

impl Waker {
    /// Call this after there is something new to see.
    pub(crate) fn wake(&self) {
        if self.is_asleep.swap(false, Ordering::SeqCst) {
            // A full counter wakes as well.
            let _ = rustix::io::write(&self.told, &1_u64.to_ne_bytes());
        }
    }
}

impl Poller {
    pub(crate) fn new() -> io::Result<Self> {
        let epoll = epoll::create(CreateFlags::CLOEXEC)?;
        let told = eventfd(0, EventfdFlags::CLOEXEC | EventfdFlags::NONBLOCK)?;
        // Each wake-up is told of once, so nobody has to read the counter.
        epoll::add(&epoll, &told, EventData::new_u64(WAKER), EventFlags::IN | EventFlags::ET)?;
        let waker = Arc::new(Waker { told, is_asleep: AtomicBool::new(false) });
        Ok(Poller { epoll, waker })
    }

    pub(crate) fn waker(&self) -> Arc<Waker> {
        Arc::clone(&self.waker)
    }

    /// Tells of `socket` as `token`, once each time when it becomes ready, until it is closed.
    pub(crate) fn add(&self, socket: impl AsFd, token: u64) -> io::Result<()> {
        let flags = EventFlags::IN | EventFlags::OUT | EventFlags::RDHUP | EventFlags::ET;
        Ok(epoll::add(&self.epoll, socket, EventData::new_u64(token), flags)?)
    }

    /// Tells of `listener` as `token`, as long as somebody wants to connect.
    pub(crate) fn add_listener(&self, listener: impl AsFd, token: u64) -> io::Result<()> {
        Ok(epoll::add(&self.epoll, listener, EventData::new_u64(token), EventFlags::IN)?)
    }

    /// Tells of it no more.
    pub(crate) fn remove(&self, socket: impl AsFd) -> io::Result<()> {
        Ok(epoll::delete(&self.epoll, socket)?)
    }

    /// Waits, `patience` at the most, and tells `each` what is ready. Does not wait if `has_news` once it counts as asleep.
    pub(crate) fn wait(
        &self,
        events: &mut Events,
        patience: Option<Duration>,
        has_news: impl FnOnce() -> bool,
        mut each: impl FnMut(u64, Ready),
    ) -> io::Result<()> {
        self.waker.is_asleep.store(true, Ordering::SeqCst);
        let patience = if has_news() { Some(Duration::ZERO) } else { patience };
        let patience = patience.and_then(|patience| Timespec::try_from(patience).ok());
        events.0.clear();
        let waited = epoll::wait(&self.epoll, spare_capacity(&mut events.0), patience.as_ref());
        self.waker.is_asleep.store(false, Ordering::SeqCst);
        match waited {
            Ok(_) | Err(Errno::INTR) => {}
            Err(error) => return Err(error.into()),
        }
        for event in &events.0 {
            let (flags, token) = (event.flags, event.data.u64());
            if token == WAKER {
                continue;
            }
            let is_broken = flags.intersects(EventFlags::ERR | EventFlags::HUP);
            let ready = Ready {
                to_read: is_broken || flags.intersects(EventFlags::IN | EventFlags::RDHUP),
                to_write: is_broken || flags.contains(EventFlags::OUT),
                is_ending: is_broken || flags.contains(EventFlags::RDHUP),
                is_broken,
            };
            each(token, ready);
        }
        Ok(())
    }
}
