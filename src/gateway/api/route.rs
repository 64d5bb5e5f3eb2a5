//! Which path is what. Pure.

use std::borrow::Cow;

use percent_encoding::percent_decode_str;

use super::book::{Book, Found};
use crate::pages::{Method, Right, Rights};

/// What a path names.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum Route {
    Root,
    /// A function, by its name.
    Call(String),
    /// A whole request in the body.
    General,
    Work,
    /// The work with this id.
    Status(String),
    /// One of the pages that others have.
    Page(Found),
    Metrics,
    Live,
    Ready,
}

/// What stands behind `/api/` and cannot be the name of a function.
pub const RESERVED: [&str; 7] = ["work", "status", "process", "actor", "nodes", "general", "v1"];

impl Route {
    /// What is at `path`: what the gateway answers itself goes before the pages of others, and those before functions.
    pub(super) fn of(path: &str, book: &Book) -> Option<Self> {
        Self::own(path).or_else(|| book.find(path).map(Route::Page)).or_else(|| Self::function(path))
    }

    /// What the gateway answers itself.
    pub(super) fn own(path: &str) -> Option<Self> {
        match path {
            "/" | "*" => return Some(Route::Root),
            "/metrics" => return Some(Route::Metrics),
            "/livez" => return Some(Route::Live),
            "/readyz" => return Some(Route::Ready),
            _ => {}
        }
        let rest = path.strip_prefix("/api/")?;
        match rest.strip_prefix("v1/").unwrap_or(rest) {
            "general" => Some(Route::General),
            "work" => Some(Route::Work),
            rest => {
                let id = rest.strip_prefix("status/").filter(|id| !id.is_empty())?;
                Some(Route::Status(id.to_owned()))
            }
        }
    }

    fn function(path: &str) -> Option<Self> {
        let rest = path.strip_prefix("/api/")?;
        let name = percent_decode_str(rest).decode_utf8().ok()?;
        let is_name = !name.is_empty() && !rest.contains('/') && !RESERVED.contains(&&*name);
        is_name.then(|| Route::Call(name.into_owned()))
    }

    /// Whether a request with this method is answered, and if so by whom: `rights` must have one of these, unless there are none.
    pub(super) fn takes<'a>(&self, method: Method, book: &'a Book) -> Option<&'a [Right]> {
        let asked = if method == Method::Head { Method::Get } else { method };
        Some(match (self, asked) {
            (Route::Page(found), _) => {
                let (_, right) = book.page(found).methods.iter().find(|(method, _)| *method == asked)?;
                right.as_slice()
            }
            (Route::Call(_), Method::Get | Method::Post) | (Route::General | Route::Work, Method::Post) => {
                &[Right::Call]
            }
            (Route::Status(_), Method::Get) => &[Right::Call, Right::Look],
            (Route::Root | Route::Metrics | Route::Live | Route::Ready, Method::Get) => &[],
            _ => return None,
        })
    }

    /// The value of the header `Allow`.
    pub(super) fn allow(&self, book: &Book) -> Cow<'static, str> {
        match self {
            Route::Call(_) => "GET, HEAD, POST, OPTIONS".into(),
            Route::General | Route::Work => "POST, OPTIONS".into(),
            Route::Page(found) => {
                let methods = book.page(found).methods.iter().map(|(method, _)| *method);
                let all = methods.flat_map(|method| [Some(method), (method == Method::Get).then_some(Method::Head)]);
                let names: Vec<&str> = all.flatten().chain([Method::Options]).map(Method::name).collect();
                names.join(", ").into()
            }
            _ => "GET, HEAD, OPTIONS".into(),
        }
    }
}

/// The right of `needed` that `may` lacks: one of those is enough.
pub(super) fn missing(needed: &[Right], may: Rights) -> Option<Right> {
    needed.first().filter(|_| !needed.iter().any(|right| may.has(*right))).copied()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_path_names_one_thing() {
        let call = |name: &str| Some(Route::Call(name.to_owned()));
        for (path, expected) in [
            ("/", Some(Route::Root)),
            ("/api/hello", call("hello")),
            ("/api/a%2Fb%20c", call("a/b c")),
            ("/api/general", Some(Route::General)),
            ("/api/work", Some(Route::Work)),
            ("/api/v1/work", Some(Route::Work)),
            ("/api/status/7-a", Some(Route::Status("7-a".to_owned()))),
            ("/api/v1/status/7-a", Some(Route::Status("7-a".to_owned()))),
            ("/api/nodes", None),
            ("/api/status/", None),
            ("/api/status", None),
            ("/api/process", None),
            ("/api/v1/hello", None),
            ("/api/", None),
            ("/api", None),
            ("/api/a/b", None),
            ("/api/%ff", None),
            ("/livez", Some(Route::Live)),
            ("/livez/", None),
        ] {
            assert_eq!(Route::of(path, &Book::default()), expected, "{path}");
        }
    }
}
