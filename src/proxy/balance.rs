//! Which target gets a request.

use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::{Duration, Instant};

use super::site::{Balance, Site};
use super::target::Target;

/// The target for the next request, none of `tried`. Where there is none: how long until one is tried again.
pub(super) fn choose(site: &Site, tried: &[u64], now: Instant) -> Result<Arc<Target>, Duration> {
    let untried = || site.targets.iter().filter(|target| !tried.contains(&target.number));
    let open: Vec<&Arc<Target>> = untried().filter(|target| target.breaker().would_admit(now)).collect();
    // Health checks take out those that are unwell, but never all: where none is well, the checks may be what is wrong.
    let well: Vec<&Arc<Target>> = open.iter().copied().filter(|target| target.is_well()).collect();
    let candidates = if well.is_empty() { open } else { well };
    let turn = site.turn.fetch_add(1, Ordering::Relaxed);
    let mut ordered: Vec<&Arc<Target>> = candidates.clone();
    ordered.rotate_left(if candidates.is_empty() { 0 } else { turn % candidates.len() });
    if site.terms.balance == Balance::LeastConnections {
        // Of those with equally many, each in its turn: the sort keeps their order.
        ordered.sort_by_key(|target| target.in_flight());
    }
    let chosen = ordered.into_iter().find(|target| target.breaker().admit(now));
    chosen.cloned().ok_or_else(|| {
        let waits = site.targets.iter().map(|target| target.breaker().wait(now));
        waits.min().unwrap_or(Duration::ZERO)
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::proxy::site::Sites;
    use crate::proxy::target::Flight;
    use crate::proxy::{Address, SiteTerms};

    fn site(balance: Balance) -> (Arc<Site>, Instant) {
        let now = Instant::now();
        let target = |port| Address::Tcp { host: "127.0.0.1".to_owned(), port };
        let terms = SiteTerms { targets: vec![target(1), target(2), target(3)], balance, ..SiteTerms::named("a") };
        let sites = Sites::new(&[terms], &Sites::default(), now);
        let found = sites.find(None, "/a").map(Arc::clone);
        (found.expect("it is there"), now)
    }

    fn fail(target: &Target, now: Instant) {
        target.breaker().ended(true, now);
        target.breaker().ended(true, now);
    }

    #[test]
    fn each_target_gets_a_request_in_its_turn() {
        let (site, now) = site(Balance::RoundRobin);
        let ports: Vec<String> =
            (0..6).map(|_| choose(&site, &[], now).expect("all are open").authority.clone()).collect();
        assert_eq!(ports[..3], ports[3..]);
        assert!(ports[0] != ports[1] && ports[1] != ports[2] && ports[0] != ports[2]);
    }

    #[test]
    fn the_target_with_the_fewest_requests_gets_the_next() {
        let (site, now) = site(Balance::LeastConnections);
        let _first = Flight::new(Arc::clone(&site.targets[0]));
        let _second = Flight::new(Arc::clone(&site.targets[2]));
        for _ in 0..4 {
            assert_eq!(choose(&site, &[], now).map(|target| target.number), Ok(site.targets[1].number));
        }
    }

    #[test]
    fn a_target_whose_breaker_is_open_gets_none_and_where_all_are_one_is_told_how_long() {
        let (site, now) = site(Balance::RoundRobin);
        fail(&site.targets[0], now);
        fail(&site.targets[1], now + Duration::from_secs(1));
        for _ in 0..4 {
            assert_eq!(choose(&site, &[], now).map(|target| target.number), Ok(site.targets[2].number));
        }
        fail(&site.targets[2], now);
        assert_eq!(choose(&site, &[], now + Duration::from_secs(2)).err(), Some(Duration::from_secs(8)));
    }

    #[test]
    fn checks_take_out_the_unwell_but_never_the_last() {
        let (site, now) = site(Balance::RoundRobin);
        site.targets[0].set_well(false);
        site.targets[1].set_well(false);
        for _ in 0..4 {
            assert_eq!(choose(&site, &[], now).map(|target| target.number), Ok(site.targets[2].number));
        }
        site.targets[2].set_well(false);
        assert!(choose(&site, &[], now).is_ok());
        let tried: Vec<u64> = site.targets.iter().map(|target| target.number).collect();
        assert!(choose(&site, &tried, now).is_err());
    }
}
