//! Which path is what. Pure.

use percent_encoding::percent_decode_str;

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
    Nodes,
    Metrics,
    Live,
    Ready,
}

/// A method that something here answers.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Method {
    Get,
    Head,
    Post,
    Options,
}

/// What stands behind `/api/` and cannot be the name of a function.
pub const RESERVED: [&str; 7] = ["work", "status", "process", "actor", "nodes", "general", "v1"];

impl Method {
    pub(super) fn of(method: &str) -> Option<Self> {
        match method {
            "GET" => Some(Method::Get),
            "HEAD" => Some(Method::Head),
            "POST" => Some(Method::Post),
            "OPTIONS" => Some(Method::Options),
            _ => None,
        }
    }
}

impl Route {
    pub(super) fn of(path: &str) -> Option<Self> {
        match path {
            "/" | "*" => return Some(Route::Root),
            "/metrics" => return Some(Route::Metrics),
            "/livez" => return Some(Route::Live),
            "/readyz" => return Some(Route::Ready),
            _ => {}
        }
        let rest = path.strip_prefix("/api/")?;
        match rest.strip_prefix("v1/").unwrap_or(rest) {
            "general" => return Some(Route::General),
            "work" => return Some(Route::Work),
            "nodes" => return Some(Route::Nodes),
            rest => {
                if let Some(id) = rest.strip_prefix("status/") {
                    return Some(Route::Status(id.to_owned())).filter(|_| !id.is_empty());
                }
            }
        }
        let name = percent_decode_str(rest).decode_utf8().ok()?;
        let is_name = !name.is_empty() && !rest.contains('/') && !RESERVED.contains(&&*name);
        is_name.then(|| Route::Call(name.into_owned()))
    }

    pub(super) fn methods(&self) -> &'static [Method] {
        match self {
            Route::Call(_) => &[Method::Get, Method::Head, Method::Post],
            Route::General | Route::Work => &[Method::Post],
            Route::Root | Route::Status(_) | Route::Nodes | Route::Metrics | Route::Live | Route::Ready => {
                &[Method::Get, Method::Head]
            }
        }
    }

    /// The value of the header `Allow`.
    pub(super) fn allow(&self) -> &'static str {
        match self {
            Route::Call(_) => "GET, HEAD, POST, OPTIONS",
            Route::General | Route::Work => "POST, OPTIONS",
            _ => "GET, HEAD, OPTIONS",
        }
    }
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
            ("/api/nodes", Some(Route::Nodes)),
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
            assert_eq!(Route::of(path), expected, "{path}");
        }
    }
}
