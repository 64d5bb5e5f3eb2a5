//! What is proxied where.

use std::collections::HashMap;
use std::sync::Arc;
use std::sync::atomic::AtomicUsize;
use std::time::{Duration, Instant};

use super::breaker::BreakerTerms;
use super::stale::Stale;
use super::target::{Address, Target};

/// A section `[proxy.NAME]`.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct SiteTerms {
    /// What the operator calls it.
    pub name: String,
    /// Requests for paths under this one are for it.
    pub path: String,
    /// Only those that name this host, if there is one; in small letters.
    pub host: Option<String>,
    /// Where requests go.
    pub targets: Vec<Address>,
    /// Whether upstreams are asked without the path.
    pub strips: bool,
    /// Whether upstreams are told the host that the client has named, or their own.
    pub keeps_host: bool,
    /// Which of several targets gets a request.
    pub balance: Balance,
    /// Headers that upstreams get besides.
    pub headers: Vec<(String, String)>,
    /// What a connection may become besides HTTP; names of protocols (RFC 9110, 7.8).
    pub upgrades: Vec<String>,
    /// Whether its paths may have encoded slashes in them, which it takes for letters.
    pub takes_encoded_slashes: bool,
    /// Whether everybody may use it, also without a token.
    pub is_public: bool,
    /// The longest body of a request, where there is a limit.
    pub max_request: Option<u64>,
    /// How long a connection may take to open.
    pub connect_timeout: Duration,
    /// How long an upstream may take until its answer begins.
    pub first_byte_timeout: Duration,
    /// How long nothing may come of a body.
    pub idle_timeout: Duration,
    /// How long a request may take in all.
    pub total_timeout: Option<Duration>,
    /// How often a request is sent again that no upstream can have seen, or that may be repeated.
    pub retries: u32,
    /// When targets are left alone.
    pub breaker: BreakerTerms,
    /// The statuses that count as failures of a target.
    pub failure_statuses: Vec<u16>,
    /// How targets are asked whether they are well.
    pub health: Option<HealthTerms>,
    /// What is done where no target can be asked.
    pub fallback: Fallback,
}

impl SiteTerms {
    /// What holds where nothing is said, for the site `name`; it has no targets yet.
    pub fn named(name: &str) -> Self {
        SiteTerms {
            name: name.to_owned(),
            path: format!("/{name}"),
            host: None,
            targets: Vec::new(),
            strips: false,
            keeps_host: true,
            balance: Balance::default(),
            headers: Vec::new(),
            upgrades: vec!["websocket".to_owned()],
            takes_encoded_slashes: false,
            is_public: false,
            max_request: None,
            connect_timeout: Duration::from_secs(2),
            first_byte_timeout: Duration::from_secs(60),
            idle_timeout: Duration::from_secs(60),
            total_timeout: None,
            retries: 1,
            breaker: BreakerTerms::default(),
            failure_statuses: vec![502, 503, 504],
            health: None,
            fallback: Fallback::default(),
        }
    }
}

/// How targets are asked whether they are well.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct HealthTerms {
    /// The path that is asked for.
    pub path: String,
    /// How often.
    pub interval: Duration,
    /// How long an answer may take.
    pub timeout: Duration,
    /// So many good answers in a row make a target well.
    pub passes: u32,
    /// So many others make it unwell.
    pub fails: u32,
}

/// Which of several targets gets a request.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub enum Balance {
    /// Each in its turn.
    #[default]
    RoundRobin,
    /// The one with the fewest requests at this moment.
    LeastConnections,
}

/// What is done where no target can be asked.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub enum Fallback {
    /// The client is told so: 503.
    #[default]
    Refuse,
    /// The last good answer to the same request, marked as stale, if it is no older than this.
    Stale(Duration),
    /// This function answers.
    Function(String),
}

/// What is proxied, with what is known of its targets.
pub(crate) struct Site {
    pub(crate) terms: SiteTerms,
    pub(crate) targets: Vec<Arc<Target>>,
    /// Whose turn it is.
    pub(super) turn: AtomicUsize,
    pub(super) stale: Stale,
}

impl Site {
    fn new(terms: SiteTerms, now: Instant) -> Self {
        let targets = terms.targets.iter().map(|address| Arc::new(Target::new(address.clone(), terms.breaker, now)));
        Site { targets: targets.collect(), turn: AtomicUsize::new(0), stale: Stale::default(), terms }
    }
}

/// All that is proxied.
#[derive(Default)]
pub(crate) struct Sites {
    /// Those with a host first, and those with longer paths before those with shorter ones.
    sites: Vec<Arc<Site>>,
}

impl Sites {
    /// Those of `terms`. What is unchanged since `old` keeps what is known of it.
    pub(crate) fn new(terms: &[SiteTerms], old: &Sites, now: Instant) -> Self {
        let known: HashMap<&str, &Arc<Site>> = old.sites.iter().map(|site| (site.terms.name.as_str(), site)).collect();
        let site = |terms: &SiteTerms| match known.get(terms.name.as_str()) {
            Some(site) if site.terms == *terms => Arc::clone(site),
            _ => Arc::new(Site::new(terms.clone(), now)),
        };
        let mut sites: Vec<Arc<Site>> = terms.iter().map(site).collect();
        sites.sort_by_key(|site| (site.terms.host.is_none(), std::cmp::Reverse(site.terms.path.len())));
        Sites { sites }
    }

    /// The one that a request for `path` at `host` is for.
    pub(crate) fn find(&self, host: Option<&str>, path: &str) -> Option<&Arc<Site>> {
        if self.sites.is_empty() {
            return None;
        }
        let host = host.map(|host| {
            host.rsplit_once(':')
                .filter(|(_, port)| port.bytes().all(|byte| byte.is_ascii_digit()))
                .map_or(host, |(name, _)| name)
                .to_ascii_lowercase()
        });
        self.sites.iter().find(|site| {
            let is_host = site.terms.host.as_ref().is_none_or(|wanted| Some(wanted) == host.as_ref());
            is_host && is_under(path, &site.terms.path)
        })
    }

    pub(crate) fn iter(&self) -> impl Iterator<Item = &Arc<Site>> {
        self.sites.iter()
    }
}

/// Whether `path` is `prefix` or under it: `/api5` has `/api5/x`, and not `/api50`.
fn is_under(path: &str, prefix: &str) -> bool {
    let plain = prefix.trim_end_matches('/');
    path.strip_prefix(plain).is_some_and(|rest| rest.is_empty() && !prefix.ends_with('/') || rest.starts_with('/'))
}
