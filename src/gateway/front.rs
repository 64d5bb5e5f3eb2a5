//! A thread that owns connections: it waits for them, reads and writes, and hands out whole requests.
//!
//! Invariants:
//! * Nothing here blocks. What may take long (a function, the broker, a name to be looked up) is done elsewhere, and comes back by the
//!   mailbox.
//! * No client holds up another: each goes a few steps at a time, and has a deadline for whatever it does.
//! * Running out of descriptors or memory for one connection ends that connection, never the loop.

use std::io::{self, ErrorKind};
use std::net::IpAddr;
use std::sync::Arc;
use std::time::{Duration, Instant};

use super::api::Api;
use super::client::{Client, Next, World};
use super::mailbox::{Mail, Mailbox};
use super::orders::Orders;
use crate::clock;
use crate::net::{Date, Events, Handle, Listener, Poller, Ready, Seat, Slots, Stream, Timers};
use crate::proxy::Upstreams;
use crate::thread::Pulse;

/// So many connections are taken at once, before those that are there have their turn.
const MOST_ACCEPTED: usize = 64;

/// While the system has no more descriptors, none are taken for so long.
const ACCEPT_PAUSE: Duration = Duration::from_millis(100);

/// So many connections beyond the limit are told that there are too many; more are closed without a word.
const MOST_TURNED_AWAY: usize = 64;

/// So many of one address beyond its limit.
const MOST_STANDING: usize = 16;

/// So many timers of connections that are gone do no harm.
const MOST_LEFT_TIMERS: usize = 1024;

/// The thread goes round at least so often, also when nothing happens.
const LONGEST_WAIT: Duration = Duration::from_secs(1);

/// The handles of listeners count down from here.
const LISTENERS: u64 = u64::MAX - 1;

/// What the thread has.
pub(super) struct Front {
    poller: Poller,
    api: Api,
    orders: Arc<Orders>,
    /// The first thread takes all connections, and hands them out.
    listeners: Vec<Listener>,
    others: Vec<Arc<Mailbox>>,
    clients: Slots<Client>,
    upstreams: Upstreams,
    timers: Timers,
    /// Those that have more to do.
    ready: Vec<Handle>,
    date: Date,
    /// Connections are not taken before then.
    accepts_at: Option<Instant>,
    is_closing: bool,
    /// When idle upstreams were last looked through.
    tidied: Option<Instant>,
}

impl Front {
    /// The thread with these `listeners`, or none. `all` are the mailboxes of all threads.
    pub(super) fn new(
        poller: Poller,
        listeners: Vec<Listener>,
        all: Vec<Arc<Mailbox>>,
        api: Api,
        orders: Arc<Orders>,
    ) -> io::Result<Self> {
        for (number, listener) in listeners.iter().enumerate() {
            poller.add_listener(listener, LISTENERS - number as u64)?;
        }
        Ok(Front {
            poller,
            api,
            orders,
            listeners,
            others: all,
            clients: Slots::new(),
            upstreams: Upstreams::new(),
            timers: Timers::default(),
            ready: Vec::new(),
            date: Date::default(),
            accepts_at: None,
            is_closing: false,
            tidied: None,
        })
    }

    /// The loop; it ends when it is told to.
    pub(super) fn run(mut self, pulse: &Pulse) {
        let mut events = Events::new();
        let mut told: Vec<(u64, Ready)> = Vec::new();
        let mut mails: Vec<Mail> = Vec::new();
        loop {
            let patience = self.patience();
            let mailbox = Arc::clone(&self.api.services().mailbox);
            let waited = self.poller.wait(
                &mut events,
                Some(patience),
                || !mailbox.is_empty(),
                |handle, ready| told.push((handle, ready)),
            );
            if let Err(error) = waited {
                log::error!("http: cannot wait for connections: {error}");
                std::thread::sleep(ACCEPT_PAUSE);
            }
            let now = Instant::now();
            self.date.update(clock::now());
            pulse.beat();
            if self.obey(now) {
                break;
            }
            let mut is_called = false;
            for (handle, ready) in told.drain(..) {
                if handle > LISTENERS - self.listeners.len() as u64 {
                    is_called = true;
                } else {
                    self.on_ready(Handle(handle), ready, now);
                }
            }
            for handle in std::mem::take(&mut self.ready) {
                self.drive(handle, now);
            }
            if is_called {
                self.accept(now);
            }
            mailbox.take(&mut mails);
            for mail in mails.drain(..) {
                self.receive(mail, now);
            }
            self.expire(now);
        }
    }

    /// How long nothing has to be done.
    fn patience(&self) -> Duration {
        if !self.ready.is_empty() {
            return Duration::ZERO;
        }
        let now = Instant::now();
        let due = [self.timers.next(), self.accepts_at].into_iter().flatten().min();
        due.map_or(LONGEST_WAIT, |due| due.saturating_duration_since(now)).min(LONGEST_WAIT)
    }

    /// Does what others have told; whether that is to end.
    fn obey(&mut self, now: Instant) -> bool {
        let orders = Arc::clone(&self.orders);
        let (settings, is_closing, ends_at) = {
            let mut pending = orders.pending();
            (pending.settings.take(), pending.is_closing, pending.ends_at)
        };
        if let Some((settings, sites)) = settings {
            self.api = Api::new(settings, Arc::clone(self.api.services()), sites);
        }
        if is_closing && !self.is_closing {
            self.is_closing = true;
            for listener in self.listeners.drain(..) {
                let _closed_with_it = self.poller.remove(&listener);
            }
            self.ready.extend(self.clients.handles());
        }
        ends_at.is_some_and(|at| now >= at || self.clients.len() == 0)
    }

    fn on_ready(&mut self, handle: Handle, ready: Ready, now: Instant) {
        if Upstreams::have(handle) {
            if let Some(owner) = self.upstreams.note(handle, ready) {
                self.drive(owner, now);
            }
        } else if let Some(client) = self.clients.get_mut(handle) {
            client.note(ready);
            self.drive(handle, now);
        }
    }

    fn drive(&mut self, handle: Handle, now: Instant) {
        self.with(handle, now, |client, world| client.drive(world));
    }

    /// Lets `work` be done with a connection, and sees to what follows.
    fn with(&mut self, handle: Handle, now: Instant, work: impl FnOnce(&mut Client, &mut World<'_>) -> Next) {
        let Some(client) = self.clients.get_mut(handle) else { return };
        let mut world = World {
            api: &self.api,
            upstreams: &mut self.upstreams,
            poller: &self.poller,
            now,
            date: &self.date.text,
            is_closing: self.is_closing,
        };
        let before = client.timer();
        match work(client, &mut world) {
            Next::Wait => {}
            Next::Again => self.ready.push(handle),
            Next::Gone => return self.remove(handle),
        }
        // It stands among the timers already, at a time that is not later.
        if let Some(deadline) = client.deadline()
            && before.is_none_or(|before| deadline < before)
        {
            client.set_timer(Some(deadline));
            self.timers.add(deadline, handle.0);
        }
    }

    fn remove(&mut self, handle: Handle) {
        let Some(mut client) = self.clients.remove(handle) else { return };
        client.leave(&mut self.upstreams);
    }

    fn accept(&mut self, now: Instant) {
        let mut room = MOST_ACCEPTED;
        for at in 0..self.listeners.len() {
            while room > 0 {
                match self.listeners[at].accept() {
                    Ok((stream, peer)) => {
                        room -= 1;
                        self.hand_out(stream, peer, now);
                    }
                    Err(error) if error.kind() == ErrorKind::WouldBlock => break,
                    Err(error) if is_of_the_client(&error) => {}
                    Err(error) => return self.pause_accepting(&error, now),
                }
            }
        }
    }

    /// The system cannot take more. Those who wait stay in its queue.
    fn pause_accepting(&mut self, error: &io::Error, now: Instant) {
        log::error!("http: no connections are taken for a moment: {error}");
        for listener in &self.listeners {
            let _not_told_then = self.poller.remove(listener);
        }
        self.accepts_at = Some(now + ACCEPT_PAUSE);
    }

    fn accept_again(&mut self) {
        self.accepts_at = None;
        for (number, listener) in self.listeners.iter().enumerate() {
            if let Err(error) = self.poller.add_listener(listener, LISTENERS - number as u64) {
                log::error!("http: {} is not listened to any more: {error}", listener.shown());
            }
        }
    }

    /// Gives a new connection to the thread that has the fewest.
    fn hand_out(&mut self, stream: Stream, peer: Option<IpAddr>, now: Instant) {
        let (limits, crowd) = (&self.api.settings().limits, &self.api.services().crowd);
        let count = crowd.len();
        let is_crowded = |peer| crowd.from(peer) >= limits.max_per_address + MOST_STANDING;
        if count >= limits.max_connections + MOST_TURNED_AWAY || peer.is_some_and(is_crowded) {
            return;
        }
        let is_one_too_many = peer.is_some_and(|peer| crowd.from(peer) >= limits.max_per_address);
        let refusal = match (count >= limits.max_connections, is_one_too_many) {
            (true, _) => Some("too many connections"),
            (false, true) => Some("too many connections from this address"),
            (false, false) => None,
        };
        let seat = crowd.sit(peer);
        match self.others.get(seat.thread()) {
            Some(other) if seat.thread() > 0 => other.send(Mail::Connection { stream, seat, refusal }),
            _ => self.welcome(stream, seat, refusal, now),
        }
    }

    fn welcome(&mut self, stream: Stream, seat: Seat, refusal: Option<&'static str>, now: Instant) {
        let handle = self.clients.insert_with(|handle| {
            let client = Client::new(stream, handle, seat, now);
            match refusal {
                Some(refusal) => client.refused(refusal),
                None => client,
            }
        });
        let Some(client) = self.clients.get_mut(handle) else { return };
        if let Err(error) = self.poller.add(client.stream(), handle.0) {
            log::error!("http: a connection cannot be waited for: {error}");
            return self.remove(handle);
        }
        self.drive(handle, now);
    }

    fn receive(&mut self, mail: Mail, now: Instant) {
        match mail {
            Mail::Answer { to, serial, response } => {
                self.with(to, now, |client, world| {
                    client.answer(serial, &response, world);
                    client.drive(world)
                });
            }
            Mail::Connection { stream, seat, refusal } => self.welcome(stream, seat, refusal, now),
        }
    }

    fn expire(&mut self, now: Instant) {
        if self.tidied.is_none_or(|at| now.saturating_duration_since(at) >= LONGEST_WAIT) {
            self.tidied = Some(now);
            self.upstreams.tidy(now);
            self.forget_timers();
        }
        if self.accepts_at.is_some_and(|at| at <= now) {
            self.accept_again();
        }
        while let Some(handle) = self.timers.next_due(now) {
            let handle = Handle(handle);
            let Some(client) = self.clients.get_mut(handle) else { continue };
            client.set_timer(None);
            match client.deadline() {
                Some(deadline) if deadline <= now => self.with(handle, now, Client::expire),
                // It has moved on.
                _ => self.with(handle, now, |_, _| Next::Wait),
            }
        }
    }

    /// Connections that are gone leave their timers behind; of many short ones those are many.
    fn forget_timers(&mut self) {
        if self.timers.len() > 2 * self.clients.len() + MOST_LEFT_TIMERS {
            let timers = self.clients.iter().filter_map(|(handle, client)| Some((client.timer()?, handle.0)));
            self.timers.replace(timers);
        }
    }
}

/// Whether taking a connection failed for a reason that is gone with it (accept(2)).
fn is_of_the_client(error: &io::Error) -> bool {
    use ErrorKind::{ConnectionAborted, ConnectionReset, Interrupted, PermissionDenied, TimedOut};
    matches!(error.kind(), ConnectionAborted | ConnectionReset | Interrupted | PermissionDenied | TimedOut)
}
