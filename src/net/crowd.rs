//! Who is connected, over all threads that share the connections.

use std::collections::HashMap;
use std::net::IpAddr;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, MutexGuard};

use crate::lock::Unpoisoned;

/// Counts connections.
pub(crate) struct Crowd {
    /// How many each thread has.
    threads: Box<[AtomicUsize]>,
    per_address: Mutex<HashMap<IpAddr, usize>>,
}

/// The place of one connection; free again when this is dropped.
pub(crate) struct Seat {
    crowd: Arc<Crowd>,
    thread: usize,
    peer: Option<IpAddr>,
}

impl Crowd {
    pub(crate) fn new(threads: usize) -> Self {
        Crowd { threads: (0..threads).map(|_| AtomicUsize::new(0)).collect(), per_address: Mutex::default() }
    }

    /// How many connections there are.
    pub(crate) fn len(&self) -> usize {
        self.threads.iter().map(|count| count.load(Ordering::Relaxed)).sum()
    }

    /// How many there are from `peer`.
    pub(crate) fn from(&self, peer: IpAddr) -> usize {
        self.per_address().get(&peer).copied().unwrap_or(0)
    }

    /// A seat at the thread that has the fewest.
    pub(crate) fn sit(self: &Arc<Self>, peer: Option<IpAddr>) -> Seat {
        let fewest = self.threads.iter().enumerate().min_by_key(|(_, count)| count.load(Ordering::Relaxed));
        let thread = fewest.map_or(0, |(thread, _)| thread);
        self.threads[thread].fetch_add(1, Ordering::Relaxed);
        if let Some(peer) = peer {
            *self.per_address().entry(peer).or_default() += 1;
        }
        Seat { crowd: Arc::clone(self), thread, peer }
    }

    fn per_address(&self) -> MutexGuard<'_, HashMap<IpAddr, usize>> {
        self.per_address.lock().unpoisoned()
    }
}

impl Seat {
    /// Which thread it is at.
    pub(crate) fn thread(&self) -> usize {
        self.thread
    }

    pub(crate) fn peer(&self) -> Option<IpAddr> {
        self.peer
    }
}

impl Drop for Seat {
    fn drop(&mut self) {
        self.crowd.threads[self.thread].fetch_sub(1, Ordering::Relaxed);
        let Some(peer) = self.peer else { return };
        let mut per_address = self.crowd.per_address();
        if let Some(count) = per_address.get_mut(&peer) {
            *count -= 1;
            if *count == 0 {
                per_address.remove(&peer);
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_connection_goes_to_the_thread_with_the_fewest_and_leaves_nothing_behind() {
        let crowd = Arc::new(Crowd::new(2));
        let peer = IpAddr::from([10, 0, 0, 1]);
        let seats: Vec<Seat> = (0..4).map(|_| crowd.sit(Some(peer))).collect();
        assert_eq!(seats.iter().map(Seat::thread).collect::<Vec<_>>(), [0, 1, 0, 1]);
        assert_eq!((crowd.len(), crowd.from(peer)), (4, 4));
        drop(seats);
        assert_eq!((crowd.len(), crowd.from(peer)), (0, 0));
        assert!(crowd.per_address().is_empty());
    }
}
