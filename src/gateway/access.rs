//! Who may use the gateway. Pure.

use std::collections::HashSet;
use std::fmt;

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
}

/// Who asks, as far as that is sure.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub(super) struct Identity {
    /// The name of the token, for the log.
    pub(super) token: Option<String>,
    pub(super) user: Option<String>,
    pub(super) source: Option<String>,
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
    Some(Identity { token: Some(found.name.clone()), user: found.user.clone(), source: found.source.clone() })
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
    /// The header `Sec-Fetch-Page`.
    pub(super) fetch_site: Option<&'a str>,
    /// The host that it asks.
    pub(super) host: Option<&'a str>,
}

impl Page<'_> {
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
            let site = Page { origin, fetch_site, host: Some("localhost:4455") };
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
