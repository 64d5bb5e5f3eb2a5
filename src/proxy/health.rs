//! Asks targets whether they are well, and looks up their names, on a thread of its own.

use std::io;
use std::io::{Read, Write};
use std::net::TcpStream;
use std::os::fd::AsFd;
use std::os::unix::net::UnixStream;
use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant};

use rustix::net::sockopt::{Timeout, set_socket_timeout};

use super::site::{HealthTerms, Site, Sites};
use super::target::{Address, Target};
use crate::lock::Unpoisoned;
use crate::net::{End, MAX_HEAD, ResponseHead, find_end};
use crate::thread::{Joined, Stop, Threads};

/// How often names are looked up again.
const LOOK_UP: Duration = Duration::from_secs(30);

/// The thread wakes at least so often.
const TICK: Duration = Duration::from_millis(200);

/// Looks after the targets of all sites.
pub(crate) struct Watch {
    shared: Arc<Shared>,
    stop: Stop,
    threads: Threads,
    thread: Option<Joined>,
}

#[derive(Default)]
struct Shared {
    sites: Mutex<Arc<Sites>>,
}

impl Shared {
    fn sites(&self) -> Arc<Sites> {
        Arc::clone(&self.sites.lock().unpoisoned())
    }
}

impl Watch {
    pub(crate) fn new(threads: Threads) -> Self {
        Watch { shared: Arc::default(), stop: Stop::new(), threads, thread: None }
    }

    /// From now on these are the sites. The thread starts when one of them needs it.
    pub(crate) fn set(&mut self, sites: &Arc<Sites>) -> io::Result<()> {
        *self.shared.sites.lock().unpoisoned() = Arc::clone(sites);
        let needs_it =
            |site: &Arc<Site>| site.terms.health.is_some() || site.targets.iter().any(|target| target.has_name());
        if self.thread.is_none() && sites.iter().any(needs_it) {
            let (shared, stop) = (Arc::clone(&self.shared), self.stop.clone());
            self.thread = Some(self.threads.spawn("http-health", move || run(&shared, &stop))?);
        }
        Ok(())
    }
}

impl Drop for Watch {
    fn drop(&mut self) {
        self.stop.ask();
        self.thread = None;
    }
}

/// What is known of one target between its checks.
struct Known {
    number: u64,
    next_check: Instant,
    next_look: Instant,
    passed: u32,
    failed: u32,
}

fn run(shared: &Shared, stop: &Stop) {
    let mut known: Vec<Known> = Vec::new();
    loop {
        let sites = shared.sites();
        let targets = || sites.iter().flat_map(|site| site.targets.iter().map(move |target| (site, target)));
        known.retain(|known| targets().any(|(_, target)| target.number == known.number));
        for (site, target) in targets() {
            let at = known.iter().position(|known| known.number == target.number).unwrap_or_else(|| {
                let now = Instant::now();
                known.push(Known { number: target.number, next_check: now, next_look: now, passed: 0, failed: 0 });
                known.len() - 1
            });
            look_after(site, target, &mut known[at]);
            if stop.is_asked() {
                return;
            }
        }
        if stop.wait(TICK) {
            return;
        }
    }
}

fn look_after(site: &Site, target: &Target, known: &mut Known) {
    if target.has_name() && Instant::now() >= known.next_look {
        known.next_look = Instant::now() + LOOK_UP;
        match target.address.look_up() {
            Ok(places) => target.set_places(places),
            Err(error) => log::warn!("proxy {}: {}: {error}", site.terms.name, target.address),
        }
    }
    let Some(health) = site.terms.health.as_ref().filter(|_| Instant::now() >= known.next_check) else { return };
    known.next_check = Instant::now() + health.interval;
    let checked = check(target, health);
    match checked {
        Ok(()) => (known.passed, known.failed) = (known.passed + 1, 0),
        Err(_) => (known.passed, known.failed) = (0, known.failed + 1),
    }
    let (name, address) = (&site.terms.name, &target.address);
    if !target.is_well() && known.passed >= health.passes {
        log::info!("proxy {name}: {address} is well again");
        target.set_well(true);
    } else if let Err(why) = checked
        && target.is_well()
        && known.failed >= health.fails
    {
        log::warn!("proxy {name}: {address} is not well: {why}");
        target.set_well(false);
    }
}

/// Asks once.
fn check(target: &Target, health: &HealthTerms) -> Result<(), String> {
    let until = Instant::now() + health.timeout;
    let asked = match &target.address {
        Address::Unix(path) => UnixStream::connect(path).and_then(|stream| ask(stream, target, health, until)),
        Address::Tcp { .. } => {
            let places = target.places();
            let place = places.first().ok_or("its name leads nowhere")?;
            TcpStream::connect_timeout(place, health.timeout).and_then(|stream| ask(stream, target, health, until))
        }
    };
    match asked {
        Ok(status) if (200..400).contains(&status) => Ok(()),
        Ok(status) => Err(format!("{} says {status}", health.path)),
        Err(error) => Err(error.to_string()),
    }
}

/// The status of the answer.
fn ask(mut stream: impl Read + Write + AsFd, target: &Target, health: &HealthTerms, until: Instant) -> io::Result<u16> {
    for of in [Timeout::Recv, Timeout::Send] {
        set_socket_timeout(&stream, of, Some(health.timeout))?;
    }
    let (path, authority) = (&health.path, &target.authority);
    let request =
        format!("GET {path} HTTP/1.1\r\nHost: {authority}\r\nUser-Agent: cerbas\r\nConnection: close\r\n\r\n");
    stream.write_all(request.as_bytes())?;
    let mut bytes = Vec::new();
    let mut piece = [0; 1024];
    while bytes.len() < MAX_HEAD && Instant::now() < until {
        let count = stream.read(&mut piece)?;
        bytes.extend_from_slice(&piece[..count]);
        match find_end(&bytes, 0) {
            Ok(End::At(length)) => {
                let head = ResponseHead::read(&bytes[..length], false);
                return head.map(|head| head.status).map_err(io::Error::other);
            }
            Ok(End::Later(_)) if count > 0 => {}
            Ok(End::Later(_)) => return Err(io::ErrorKind::UnexpectedEof.into()),
            Err(broken) => return Err(io::Error::other(broken.reason)),
        }
    }
    Err(io::ErrorKind::TimedOut.into())
}
