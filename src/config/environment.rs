//! The variables that override the file: `CERBAS_<SECTION>_<KEY>` for each key of `[redis]`, `[server]` and `[auth]`.
//!
//! An empty variable counts as absent: that is how service managers and compose files say "not set".

use std::collections::BTreeMap;
use std::ffi::OsString;

/// The variables that can be ours, by name.
#[derive(Default)]
pub(super) struct Environment(BTreeMap<String, OsString>);

const START: &str = "CERBAS_";

impl Environment {
    pub(super) fn new(variables: impl IntoIterator<Item = (impl Into<OsString>, impl Into<OsString>)>) -> Self {
        let ours = variables.into_iter().filter_map(|(name, value)| {
            let (name, value) = (name.into().into_string().ok()?, value.into());
            (name.starts_with(START) && !value.is_empty()).then_some((name, value))
        });
        Environment(ours.collect())
    }

    /// The name of the variable for `key` of `section`.
    pub(super) fn name(section: &str, key: &str) -> String {
        format!("{START}{section}_{key}").to_uppercase()
    }

    /// The variable for `key` of `section`, if it is set.
    pub(super) fn get(&self, section: &str, key: &str) -> Option<&OsString> {
        self.0.get(&Self::name(section, key))
    }

    /// All variables for `section`, as their names and the keys they would stand for.
    pub(super) fn keys<'a>(&'a self, section: &str) -> impl Iterator<Item = (&'a str, String)> {
        let start = Self::name(section, "");
        self.0.keys().filter_map(move |name| {
            let key = name.strip_prefix(&start)?;
            (!is_service_link(key)).then(|| (name.as_str(), key.to_lowercase()))
        })
    }
}

/// Whether a cluster made the variable by itself: beside a service called `cerbas-redis`, Kubernetes sets
/// `CERBAS_REDIS_SERVICE_HOST`, `CERBAS_REDIS_PORT_6379_TCP` and the like. No key of ours is called so.
fn is_service_link(key: &str) -> bool {
    let words: Vec<&str> = key.split('_').collect();
    words.contains(&"PORT") || key.ends_with("SERVICE_HOST")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_set_variables_of_ours_are_kept() {
        let environment = Environment::new([
            ("CERBAS_REDIS_URL", "a"),
            ("CERBAS_REDIS_PREFIX", ""),
            ("REDIS_URL", "b"),
            ("HOME", "/"),
        ]);
        assert_eq!(environment.0.keys().collect::<Vec<_>>(), ["CERBAS_REDIS_URL"]);
        assert_eq!(environment.get("redis", "url").map(|value| value.as_os_str()), Some("a".as_ref()));
        assert_eq!(environment.get("redis", "prefix"), None);
    }

    #[test]
    fn what_a_cluster_sets_for_a_service_is_nobodys_key() {
        let environment = Environment::new([
            ("CERBAS_REDIS_SERVICE_HOST", "10.0.0.1"),
            ("CERBAS_REDIS_SERVICE_PORT", "6379"),
            ("CERBAS_REDIS_SERVICE_PORT_REDIS", "6379"),
            ("CERBAS_REDIS_PORT", "tcp://10.0.0.1:6379"),
            ("CERBAS_REDIS_PORT_6379_TCP_ADDR", "10.0.0.1"),
            ("CERBAS_REDIS_MASTER_SERVICE_HOST", "10.0.0.1"),
            ("CERBAS_REDIS_ULR", "typo"),
        ]);
        let keys: Vec<_> = environment.keys("redis").collect();
        assert_eq!(keys, [("CERBAS_REDIS_ULR", "ulr".to_owned())]);
    }
}
