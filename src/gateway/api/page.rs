//! What somebody sees who opens the address of a function in a browser. Pure.
//!
//! A page of anybody can make a browser open an address, with the token that it remembers. So a function that acts is not called by
//! that: the page that comes instead asks, and sends a POST, of which a browser says where it comes from.

use std::borrow::Cow;

use crate::gateway::access::Page;
use crate::gateway::response::{Body, Response};
use crate::net::RequestHead;

/// The answer to a GET for `func`, which acts, where a page may have made a browser send it.
pub(super) fn instead_of_run(head: &RequestHead<'_>, func: &str) -> Response {
    let wants_page = head.header("accept").is_some_and(|accept| accept.contains("text/html"));
    let response = match wants_page {
        true => Response::new(405, Body::Bytes("text/html; charset=utf-8", Cow::Owned(question(func).into_bytes()))),
        false => Response::error(
            405,
            format!("{func}: a browser calls it with POST only; safe of the function can allow GET"),
        ),
    };
    response
        .with("Allow", "POST, OPTIONS")
        .with("Cache-Control", "no-store")
        .with(
            "Content-Security-Policy",
            "default-src 'none'; style-src 'unsafe-inline'; form-action 'self'; frame-ancestors 'none'",
        )
        .with("X-Frame-Options", "DENY")
}

/// Whether a page may have made a browser send `head`, of which nothing says that it was one of ours.
pub(super) fn may_be_of_a_page(head: &RequestHead<'_>) -> bool {
    // A browser adds no token of this kind by itself.
    let is_of_program = head.header("authorization").and_then(|header| header.split_once(' '));
    if is_of_program.is_some_and(|(scheme, _)| scheme.eq_ignore_ascii_case("bearer")) {
        return false;
    }
    let page = Page::of(head);
    page.is_of_browser(head.header("accept"), head.header("user-agent"), head.header("upgrade-insecure-requests"))
        && !page.is_ours()
}

fn question(func: &str) -> String {
    let func = escaped(func);
    format!(
        "<!doctype html>\n<meta charset=\"utf-8\">\n<title>{func}</title>\n<style>body {{ font: 1rem sans-serif; margin: 2rem }} \
         button {{ font: inherit; padding: .5rem 1rem }}</style>\n<h1>{func}</h1>\n\
         <p>This function does something, so opening its address does not call it.</p>\n\
         <form method=\"post\"><button>Run {func}</button></form>\n"
    )
}

/// A text as it can stand in HTML.
fn escaped(text: &str) -> String {
    let mut escaped = String::new();
    for character in text.chars() {
        match character {
            '&' => escaped.push_str("&amp;"),
            '<' => escaped.push_str("&lt;"),
            '>' => escaped.push_str("&gt;"),
            '"' => escaped.push_str("&quot;"),
            '\'' => escaped.push_str("&#39;"),
            other => escaped.push(other),
        }
    }
    escaped
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_name_of_a_function_is_text_in_its_page() {
        let page = question("<script>'\"&");
        assert!(page.contains("Run &lt;script&gt;&#39;&quot;&amp;<") && !page.contains("<script"), "{page}");
    }
}
