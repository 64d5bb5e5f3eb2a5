//! Who may use the gateway. Pure.

use std::collections::HashSet;
use std::fmt;

use crate::net::RequestHead;
use crate::pages::Rights;
use base64::Engine;
use base64::prelude::BASE64_STANDARD;
use ring::digest::{SHA256, digest};
use subtle::ConstantTimeEq;

/// What is known of a token: enough to recognise it, not enough to make it.
#[derive(Clone, PartialEq, Eq)]
pub struct TokenHash([u8; 32]);

/// A token, and for whom it stands.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Token {
    /// What the operator calls it.
    pub name: String,
    /// Its hash.
    pub hash: TokenHash,
    /// The user that its requests come from; without one they may say it themselves.
    pub user: Option<String>,
    /// The program that its requests come from; without one they may say it themselves.
    pub source: Option<String>,
    /// What it lets one do.
    pub may: Rights,
}

/// Who asks, as far as that is sure.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Identity {
    /// The name of the token, for the log.
    pub(super) token: Option<String>,
    pub(super) user: Option<String>,
    pub(super) source: Option<String>,
    /// What they may do.
    pub(super) may: Rights,
}

/// Somebody, where there are no tokens.
impl Default for Identity {
    fn default() -> Self {
        Identity { token: None, user: None, source: None, may: Rights::all() }
    }
}

impl TokenHash {
    const PREFIX: &str = "sha256:";

    /// The hash of `token`.
    pub fn of(token: &str) -> Self {
        let digest = digest(&SHA256, token.as_bytes());
        TokenHash(digest.as_ref().try_into().expect("SHA-256 has 32 bytes"))
    }

    /// The hash that is written as `sha256:` and 64 hexadecimal digits.
    pub fn read(text: &str) -> Option<Self> {
        let digits = text.strip_prefix(Self::PREFIX).filter(|digits| digits.len() == 64 && digits.is_ascii())?;
        let mut hash = [0; 32];
        for (byte, pair) in hash.iter_mut().zip(digits.as_bytes().chunks(2)) {
            *byte = u8::from_str_radix(std::str::from_utf8(pair).ok()?, 16).ok()?;
        }
        Some(TokenHash(hash))
    }

    /// Takes as long for a wrong one as for the right one.
    fn is_same(&self, other: &TokenHash) -> bool {
        self.0.ct_eq(&other.0).into()
    }
}

impl fmt::Display for TokenHash {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(Self::PREFIX)?;
        self.0.iter().try_for_each(|byte| write!(f, "{byte:02x}"))
    }
}

impl fmt::Debug for TokenHash {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{self}")
    }
}

/// Who is let in with which tokens, `authorization` being the header of that name. Where there are no tokens everybody is.
pub(super) fn identify(tokens: &[Token], authorization: Option<&str>) -> Option<Identity> {
    if tokens.is_empty() {
        return Some(Identity::default());
    }
    let given = TokenHash::of(&credential(authorization?)?);
    // All of them are compared, whichever it is.
    let found =
        tokens.iter().fold(None, |found, token| if token.hash.is_same(&given) { Some(token) } else { found })?;
    let Token { name, user, source, may, hash: _ } = found.clone();
    Some(Identity { token: Some(name), user, source, may })
}

/// The token of a header `Authorization`: `Bearer TOKEN` (RFC 6750), or for people `Basic` (RFC 7617) with any user and the token as the
/// password.
fn credential(authorization: &str) -> Option<String> {
    let (scheme, rest) = authorization.split_once(' ')?;
    let rest = rest.trim();
    if scheme.eq_ignore_ascii_case("bearer") {
        return Some(rest.to_owned());
    }
    if !scheme.eq_ignore_ascii_case("basic") {
        return None;
    }
    let decoded = String::from_utf8(BASE64_STANDARD.decode(rest).ok()?).ok()?;
    decoded.split_once(':').map(|(_, password)| password.to_owned())
}

/// What a browser says of where a request comes from.
#[derive(Debug, Clone, Copy, Default)]
pub(super) struct Page<'a> {
    /// The header `Origin`.
    pub(super) origin: Option<&'a str>,
    /// The header `Referer`.
    pub(super) referer: Option<&'a str>,
    /// The header `Sec-Fetch-Site`, which browsers send to trustworthy addresses only.
    pub(super) fetch_site: Option<&'a str>,
    /// The host that it asks.
    pub(super) host: Option<&'a str>,
}

impl<'a> Page<'a> {
    /// What is said with `head`.
    pub(super) fn of(head: &RequestHead<'a>) -> Self {
        let header = |name| head.header(name);
        let (origin, referer, fetch_site) = (header("origin"), header("referer"), header("sec-fetch-site"));
        Page { origin, referer, fetch_site, host: head.host }
    }

    /// Whether it looks as if a browser has sent it: by what it says of the page, or by what programs do not say.
    pub(super) fn is_of_browser(&self, accept: Option<&str>, agent: Option<&str>, upgrade: Option<&str>) -> bool {
        let says_so = self.origin.is_some() || self.referer.is_some() || self.fetch_site.is_some() || upgrade.is_some();
        let shows_it = accept.is_some_and(|accept| accept.contains("text/html") || accept.contains("image/"));
        // PowerShell says that it is Mozilla, too.
        let is_browser = |agent: &str| agent.starts_with("Mozilla/") && !agent.contains("PowerShell");
        says_so || shows_it || agent.is_some_and(is_browser)
    }

    /// Whether it says that it comes from a page of ours, or that no page has made the browser send it.
    pub(super) fn is_ours(&self) -> bool {
        let host_of = |address: &'a str| {
            let rest = address.split_once("://").map(|(_, rest)| rest)?;
            rest.split(['/', '?', '#']).next()
        };
        match self.fetch_site {
            Some(site) => matches!(site, "same-origin" | "none"),
            None => self.host.is_some() && self.origin.or(self.referer).and_then(host_of) == self.host,
        }
    }

    /// Whether a page of another site has made the browser send it, which is not one of `origins`. Programs say nothing of all that.
    pub(super) fn is_foreign(&self, origins: &HashSet<String>) -> bool {
        if self.origin.is_some_and(|origin| is_listed(origins, origin)) {
            return false;
        }
        match (self.fetch_site, self.origin) {
            (Some(site), _) => !matches!(site, "same-origin" | "none"),
            (None, Some(origin)) => {
                let host = origin.split_once("://").map(|(_, host)| host);
                host.is_none() || host != self.host
            }
            (None, None) => false,
        }
    }
}

/// Whether pages of `origin` may ask.
pub(super) fn is_listed(origins: &HashSet<String>, origin: &str) -> bool {
    origins.contains(origin) || origins.contains("*")
}

/// Whether `host`, as a client wrote it, can only be this machine or is one of `hosts`. A name that somebody else made point here
/// would let pages of that name read answers (DNS rebinding).
pub(super) fn is_own_host(host: &str, hosts: &HashSet<String>) -> bool {
    let name = match host.strip_prefix('[') {
        Some(rest) => rest.split(']').next().unwrap_or_default(),
        None => host.rsplit_once(':').map_or(host, |(name, _)| name),
    };
    let name = name.to_ascii_lowercase();
    name.parse::<std::net::IpAddr>().is_ok()
        || name.is_empty()
        || name == "localhost"
        || name.ends_with(".localhost")
        || hosts.contains(&name)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn tokens() -> Vec<Token> {
        let token = |name: &str, secret, user: Option<&str>| Token {
            name: name.to_owned(),
            hash: TokenHash::of(secret),
            user: user.map(str::to_owned),
            source: None,
            may: Rights::default(),
        };
        vec![token("web", "secret-1", Some("tom")), token("ops", "secret-2", None)]
    }

    #[test]
    fn who_has_a_token_is_who_it_stands_for() {
        let name = |header: &str| identify(&tokens(), Some(header)).map(|identity| identity.token.expect("it has one"));
        assert_eq!(name("Bearer secret-1").as_deref(), Some("web"));
        assert_eq!(name("bearer  secret-2").as_deref(), Some("ops"));
        // anyone:secret-2
        assert_eq!(name("Basic YW55b25lOnNlY3JldC0y").as_deref(), Some("ops"));
        for wrong in ["Bearer secret", "Bearer", "secret-1", "Basic secret-1", "Basic YW55b25l", "Digest secret-1", ""]
        {
            assert_eq!(identify(&tokens(), Some(wrong)), None, "{wrong:?}");
        }
        assert_eq!(identify(&tokens(), None), None);
        assert_eq!(identify(&[], None), Some(Identity::default()));
        assert_eq!(identify(&tokens(), Some("Bearer secret-1")).and_then(|found| found.user).as_deref(), Some("tom"));
    }

    #[test]
    fn a_hash_is_written_as_it_is_read() {
        let hash = TokenHash::of("secret");
        assert_eq!(TokenHash::read(&hash.to_string()), Some(hash));
        assert_eq!(TokenHash::read("secret"), None);
        assert_eq!(TokenHash::read(&format!("sha256:{}", "g".repeat(64))), None);
        assert_eq!(TokenHash::read("sha256:00"), None);
    }

    #[test]
    fn a_page_of_another_site_is_foreign() {
        let origins = HashSet::from(["https://app.example.org".to_owned()]);
        let check = |origin, fetch_site, expected| {
            let site = Page { origin, fetch_site, host: Some("localhost:4455"), referer: None };
            assert_eq!(site.is_foreign(&origins), expected, "{site:?}");
        };
        check(None, None, false);
        check(Some("http://localhost:4455"), None, false);
        check(Some("http://localhost:4455"), Some("same-origin"), false);
        check(Some("https://app.example.org"), Some("cross-site"), false);
        check(None, Some("none"), false);
        check(Some("http://evil.example"), None, true);
        check(Some("null"), None, true);
        check(None, Some("cross-site"), true);
        check(None, Some("same-site"), true);
    }

    #[test]
    fn a_browser_is_known_by_what_programs_do_not_say() {
        let bare = Page { host: Some("box"), ..Page::default() };
        assert!(!bare.is_of_browser(None, None, None));
        assert!(!bare.is_of_browser(Some("*/*"), Some("curl/8.5.0"), None));
        assert!(!bare.is_of_browser(Some("application/json"), Some("python-requests/2.32"), None));
        let shell = "Mozilla/5.0 (Windows NT; Windows NT 10.0; en-US) WindowsPowerShell/5.1.19041.4291";
        assert!(!bare.is_of_browser(None, Some(shell), None));
        assert!(bare.is_of_browser(Some("text/html,application/xhtml+xml"), None, None));
        assert!(bare.is_of_browser(Some("image/avif,image/webp,*/*;q=0.8"), None, None));
        assert!(bare.is_of_browser(Some("*/*"), Some("Mozilla/5.0 (X11)"), None));
        assert!(bare.is_of_browser(None, None, Some("1")));
        for page in [
            Page { origin: Some("null"), ..bare },
            Page { referer: Some("http://a/"), ..bare },
            Page { fetch_site: Some("none"), ..bare },
        ] {
            assert!(page.is_of_browser(None, None, None), "{page:?}");
        }
    }

    #[test]
    fn only_what_says_so_is_of_a_page_of_ours() {
        let check = |origin, referer, fetch_site, expected| {
            let page = Page { origin, referer, fetch_site, host: Some("box:80") };
            assert_eq!(page.is_ours(), expected, "{page:?}");
        };
        check(None, None, None, false);
        check(None, None, Some("same-origin"), true);
        check(None, None, Some("none"), true);
        check(None, Some("http://box:80/"), Some("cross-site"), false);
        check(Some("http://box:80"), None, None, true);
        check(Some("http://evil"), Some("http://box:80/a"), None, false);
        check(Some("null"), None, None, false);
        check(None, Some("http://box:80/a?b"), None, true);
        check(None, Some("http://evil/?http://box:80"), None, false);
        check(None, Some("http://box:80.evil/"), None, false);
        assert!(!Page::default().is_ours());
    }

    #[test]
    fn only_names_of_this_machine_are_its_own() {
        let hosts = HashSet::from(["tasks.example.org".to_owned()]);
        for own in
            ["localhost", "LOCALHOST:4455", "127.0.0.1:4455", "[::1]:4455", "a.localhost", "Tasks.example.org:80"]
        {
            assert!(is_own_host(own, &hosts), "{own}");
        }
        for other in ["evil.example", "localhost.evil.example:4455", "127.0.0.1.evil.example"] {
            assert!(!is_own_host(other, &hosts), "{other}");
        }
    }
}
