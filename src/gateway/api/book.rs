//! The pages that others have: which path is which. Pure.

use std::sync::Arc;

use percent_encoding::{NON_ALPHANUMERIC, percent_decode_str, percent_encode};

use super::route::Route;
use crate::pages::{Method, Page, Pages};

/// All pages.
#[derive(Default)]
pub(in crate::gateway) struct Book(Vec<Entry>);

struct Entry {
    pages: Arc<dyn Pages>,
    /// Its number among those.
    number: usize,
    page: Page,
    parts: Vec<Part>,
}

/// A part of a path.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Part {
    Text(&'static str),
    Any,
    Rest,
}

/// A page that was found.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Found {
    entry: usize,
    /// What stands for the parts in braces.
    pub(super) parameters: Vec<String>,
}

impl Book {
    /// That of all of them; the error names two of which one request could mean either.
    pub(in crate::gateway) fn new(all: &[Arc<dyn Pages>]) -> Result<Self, String> {
        let mut book = Book::default();
        for pages in all {
            for (number, page) in pages.pages().iter().enumerate() {
                let parts = parts(page.path).ok_or_else(|| format!("{}: is no path of a page", page.path))?;
                if let Some(fault) = fault(page) {
                    return Err(format!("{}: {fault}", page.path));
                }
                if let Some(other) = book.0.iter().find(|other| overlap(&other.parts, &parts)) {
                    return Err(format!("{} and {}: one path could mean either", other.page.path, page.path));
                }
                if Route::own(page.path).is_some() {
                    return Err(format!("{}: is answered by the gateway itself", page.path));
                }
                book.0.push(Entry { pages: Arc::clone(pages), number, page: *page, parts });
            }
        }
        Ok(book)
    }

    /// The page at `path`.
    pub(super) fn find(&self, path: &str) -> Option<Found> {
        let found = |(entry, of): (usize, &Entry)| Some(Found { entry, parameters: read(&of.parts, path)? });
        self.0.iter().enumerate().find_map(found)
    }

    /// Whether the function `name` can be called over HTTP; the error names the page that is at its path.
    pub(in crate::gateway) fn does_not_hide(&self, name: &str) -> Result<(), String> {
        let path = format!("/api/{}", percent_encode(name.as_bytes(), NON_ALPHANUMERIC));
        match self.find(&path).or_else(|| self.find(&format!("/api/{name}"))) {
            Some(found) => Err(format!("{}: is a page, and the path of the function {name}", self.page(&found).path)),
            None => Ok(()),
        }
    }

    pub(super) fn page(&self, found: &Found) -> &Page {
        &self.0[found.entry].page
    }

    /// Who has it, and its number there.
    pub(super) fn pages(&self, found: &Found) -> (&Arc<dyn Pages>, usize) {
        let entry = &self.0[found.entry];
        (&entry.pages, entry.number)
    }
}

/// Why nobody could ask for `page` as it says.
fn fault(page: &Page) -> Option<String> {
    let methods: Vec<Method> = page.methods.iter().map(|(method, _)| *method).collect();
    let own = methods.iter().find(|method| matches!(method, Method::Head | Method::Options));
    let twice = methods.iter().enumerate().find(|(number, method)| methods[..*number].contains(method));
    match (own, twice) {
        _ if methods.is_empty() => Some("is a page without a method".to_owned()),
        (Some(method), _) => Some(format!("the gateway answers {} itself", method.name())),
        (None, Some((_, method))) => Some(format!("has {} twice", method.name())),
        (None, None) => None,
    }
}

/// What a path in a [`Page`] means.
fn parts(path: &'static str) -> Option<Vec<Part>> {
    let rest = path.strip_prefix('/')?;
    let mut parts = Vec::new();
    for text in rest.split('/') {
        // Nothing stands behind what stands for all that follows.
        if parts.last() == Some(&Part::Rest) {
            return None;
        }
        parts.push(match text.strip_prefix('{').and_then(|text| text.strip_suffix('}')) {
            Some(name) if name.ends_with('*') => Part::Rest,
            Some(_) => Part::Any,
            None if text.contains(['{', '}']) => return None,
            None => Part::Text(text),
        });
    }
    Some(parts)
}

/// Whether a path could be one of both.
fn overlap(one: &[Part], other: &[Part]) -> bool {
    match (one.split_first(), other.split_first()) {
        (None, None) | (Some((Part::Rest, _)), _) | (_, Some((Part::Rest, _))) => true,
        (Some((Part::Text(one), _)), Some((Part::Text(other), _))) if one != other => false,
        (Some((_, one)), Some((_, other))) => overlap(one, other),
        _ => false,
    }
}

/// The parameters of `path`, if it has this form.
fn read(parts: &[Part], path: &str) -> Option<Vec<String>> {
    let mut rest = Some(path.strip_prefix('/')?);
    let mut parameters = Vec::new();
    for part in parts {
        if *part == Part::Rest {
            parameters.push(rest.take().unwrap_or_default().to_owned());
            return Some(parameters);
        }
        let (text, behind) = match rest?.split_once('/') {
            Some((text, behind)) => (text, Some(behind)),
            None => (rest?, None),
        };
        match part {
            Part::Text(expected) if *expected == text => {}
            Part::Any if !text.is_empty() => parameters.push(percent_decode_str(text).decode_utf8().ok()?.into_owned()),
            _ => return None,
        }
        rest = behind;
    }
    rest.is_none().then_some(parameters)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::pages::{Answer, Asked, Reply, Right};

    struct OfTheTest(Vec<Page>);

    impl Pages for OfTheTest {
        fn pages(&self) -> &[Page] {
            &self.0
        }

        fn ask(&self, _: usize, _: &Asked<'_>) -> Reply {
            Reply::Now(Answer::value(200, ""))
        }
    }

    fn book(paths: &[&'static str]) -> Result<Book, String> {
        let page = |path: &&'static str| Page { path, methods: &[(Method::Get, None)] };
        let pages: Arc<dyn Pages> = Arc::new(OfTheTest(paths.iter().map(page).collect()));
        Book::new(&[pages])
    }

    fn find(paths: &[&'static str], path: &str) -> Option<(&'static str, Vec<String>)> {
        let book = book(paths).expect("they can be told apart");
        let found = book.find(path)?;
        Some((book.page(&found).path, found.parameters))
    }

    #[test]
    fn a_path_is_one_page_and_its_parts_in_braces_are_told_decoded() {
        let paths = ["/api/nodes", "/api/actor/{type}/{name}", "/console/{rest*}"];
        let texts = |texts: &[&str]| texts.iter().map(|text| (*text).to_owned()).collect::<Vec<_>>();
        for (path, expected) in [
            ("/api/nodes", Some(("/api/nodes", texts(&[])))),
            ("/api/nodes/", None),
            ("/api/actor/t/a%2Fb%20c", Some(("/api/actor/{type}/{name}", texts(&["t", "a/b c"])))),
            ("/api/actor/t", None),
            ("/api/actor/t/", None),
            ("/api/actor/t/n/more", None),
            ("/api/actor/t/%ff", None),
            ("/console/a/b%20c", Some(("/console/{rest*}", texts(&["a/b%20c"])))),
            ("/console/", Some(("/console/{rest*}", texts(&[""])))),
            ("/console", Some(("/console/{rest*}", texts(&[""])))),
            ("/consoles", None),
            ("/", None),
        ] {
            assert_eq!(find(&paths, path), expected, "{path}");
        }
    }

    #[test]
    fn two_pages_of_which_one_path_could_mean_either_are_refused() {
        let refused = |paths: &[&'static str]| book(paths).err();
        for paths in
            [["/a/{x}", "/a/b"], ["/a/{rest*}", "/a/b/c"], ["/a/{x}/c", "/{y}/b/c"], ["/a", "/a"], ["/a", "/{rest*}"]]
        {
            let reason = refused(&paths).unwrap_or_else(|| panic!("{paths:?} are taken"));
            assert!(reason.ends_with("one path could mean either"), "{reason}");
        }
        assert_eq!(refused(&["/a/{x}", "/a/{x}/c", "/b/{x}"]), None);
        assert_eq!(refused(&["/metrics"]).as_deref(), Some("/metrics: is answered by the gateway itself"));
        for path in ["a", "/a/{x*}/b", "/a/x{y}"] {
            assert_eq!(refused(&[path]), Some(format!("{path}: is no path of a page")));
        }
    }

    #[test]
    fn a_page_has_methods_that_it_can_answer_and_each_once() {
        let refused = |methods: &'static [(Method, Option<Right>)]| {
            let pages: Arc<dyn Pages> = Arc::new(OfTheTest(vec![Page { path: "/a", methods }]));
            Book::new(&[pages]).err()
        };
        assert_eq!(refused(&[]).as_deref(), Some("/a: is a page without a method"));
        let head = refused(&[(Method::Get, None), (Method::Head, None)]);
        assert_eq!(head.as_deref(), Some("/a: the gateway answers HEAD itself"));
        let twice = refused(&[(Method::Put, None), (Method::Get, None), (Method::Put, Some(Right::Change))]);
        assert_eq!(twice.as_deref(), Some("/a: has PUT twice"));
        assert_eq!(refused(&[(Method::Get, None), (Method::Put, Some(Right::Change))]), None);
    }
}
