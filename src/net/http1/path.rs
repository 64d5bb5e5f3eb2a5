//! The one form of a path: in it a site is chosen, its rules are asked, and the upstream gets it (RFC 3986, 6.2.2).
//!
//! Where two programs read one path in two ways, what one of them forbids the other may serve. So letters that need no encoding are
//! decoded, empty segments are merged, and what would still be ambiguous is told to whoever has to judge it.

use std::borrow::Cow;

/// A path in its one form.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Path<'a> {
    /// The path. Writing it so once more changes nothing.
    pub(crate) text: Cow<'a, str>,
    /// Whether a slash in it is encoded: programs that decode it see other segments.
    pub(crate) has_encoded_slash: bool,
    /// What in it some programs read as something else, whoever they are.
    pub(crate) doubt: Option<&'static str>,
}

/// The one form of `path`; the error says why it has none.
pub(crate) fn canonical(path: &str) -> Result<Path<'_>, &'static str> {
    let bytes = path.as_bytes();
    let is_plain = |pair: &[u8]| !matches!(pair, b"//" | b"/.") && !matches!(pair[0], b'%' | b'\\');
    if bytes.windows(2).all(is_plain) && !matches!(bytes.last(), Some(b'%' | b'\\')) {
        return Ok(Path { text: path.into(), has_encoded_slash: false, doubt: None });
    }
    let mut text = String::with_capacity(path.len());
    let (mut has_encoded_slash, mut doubt) = (false, None);
    let mut at = 0;
    while let Some(&byte) = bytes.get(at) {
        if byte == b'%' {
            let decoded =
                encoded(bytes, at).ok_or("the path has a % that is not followed by two hexadecimal digits")?;
            at += 3;
            match decoded {
                b'.' | b'-' | b'_' | b'~' => text.push(char::from(decoded)),
                decoded if decoded.is_ascii_alphanumeric() => text.push(char::from(decoded)),
                decoded => {
                    text.push_str(&format!("%{decoded:02X}"));
                    match decoded {
                        b'/' => has_encoded_slash = true,
                        b'\\' => doubt = Some("an encoded backslash"),
                        0 => doubt = Some("an encoded NUL"),
                        _ => {}
                    }
                }
            }
            continue;
        }
        at += 1;
        match byte {
            b'/' if text.ends_with('/') => {}
            b'\\' => {
                doubt = Some("a backslash");
                text.push('\\');
            }
            // A path is ASCII: the head is refused otherwise.
            byte => text.push(char::from(byte)),
        }
    }
    // In the form that is left: what was decoded above may have made it.
    if text.match_indices("%25").any(|(at, found)| is_encoded_twice(text.as_bytes(), at + found.len())) {
        doubt = Some("something that is encoded twice");
    }
    // Programs that know parameters of segments take them away first.
    let plain = text.replace("%2F", "/").replace("%5C", "/").replace('\\', "/");
    let is_dots = |segment: &str| matches!(segment.split(';').next().unwrap_or_default(), "." | "..");
    if plain.split('/').any(is_dots) {
        return Err("the path has dots in it that could lead elsewhere");
    }
    Ok(Path { text: text.into(), has_encoded_slash, doubt })
}

/// The one form of `path`, if it has one that nothing can be read into.
pub(crate) fn one_form(path: &str) -> Option<String> {
    let path = canonical(path).ok()?;
    (path.doubt.is_none() && !path.has_encoded_slash).then(|| path.text.into_owned())
}

/// The byte that stands encoded at `at`.
fn encoded(bytes: &[u8], at: usize) -> Option<u8> {
    let digits = bytes.get(at + 1..at + 3).filter(|digits| digits.iter().all(u8::is_ascii_hexdigit))?;
    u8::from_str_radix(std::str::from_utf8(digits).ok()?, 16).ok()
}

/// Whether what stands at `at`, behind an encoded percent sign, would be something with a meaning if it were decoded once more.
fn is_encoded_twice(bytes: &[u8], at: usize) -> bool {
    // As if the percent sign stood there.
    let digits = bytes.get(at..at + 2).filter(|digits| digits.iter().all(u8::is_ascii_hexdigit));
    let byte = digits.and_then(|digits| u8::from_str_radix(std::str::from_utf8(digits).ok()?, 16).ok());
    matches!(byte, Some(b'.' | b'/' | b'\\' | b'%' | 0))
}

#[cfg(test)]
mod tests {
    use percent_encoding::percent_decode_str;
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn a_path_has_one_form() {
        for (path, expected) in [
            ("/", "/"),
            ("*", "*"),
            ("/app/x.txt", "/app/x.txt"),
            ("/app/%61dmin/i.txt", "/app/admin/i.txt"),
            ("/app//admin///i", "/app/admin/i"),
            ("//a", "/a"),
            ("/%7euser/%5Bx%5d", "/~user/%5Bx%5D"),
            ("/a%20b;v=1/%e4", "/a%20b;v=1/%E4"),
            ("/100%25", "/100%25"),
            ("/.well-known/x", "/.well-known/x"),
            ("/a...b/..c/d..", "/a...b/..c/d.."),
        ] {
            let found = canonical(path).expect(path);
            assert_eq!((&*found.text, found.has_encoded_slash, found.doubt), (expected, false, None), "{path}");
        }
    }

    #[test]
    fn a_path_that_could_lead_elsewhere_or_is_malformed_has_none() {
        for path in [
            "/pub/../secret",
            "/pub/%2e%2e/secret",
            "/pub/.%2E/secret",
            "/x%2f%2e%2e%2f..%2fsecret",
            "/x/..%2fsecret",
            "/x%5c..%5csecret",
            "/x/..;a=b/y",
            "/x/..",
            "/./x",
            "/x/%2e",
            "/x\\..\\y",
            "/%",
            "/%2",
            "/%zz",
            "/a%2/x",
        ] {
            assert!(canonical(path).is_err(), "{path}");
        }
    }

    #[test]
    fn what_programs_read_in_two_ways_is_told() {
        for (path, has_encoded_slash, has_doubt) in [
            ("/app/admin%2fi.txt", true, false),
            ("/app/a%5cb", false, true),
            ("/app/a\\b", false, true),
            ("/app/a%00", false, true),
            ("/app/%252e%252e/x", false, true),
            ("/app/a%252Fb", false, true),
            ("/app/a%25zz", false, false),
            ("/app/%25%32e%25%32%65", false, true),
            ("/%252%252%358b", false, true),
        ] {
            let found = canonical(path).expect(path);
            assert_eq!((found.has_encoded_slash, found.doubt.is_some()), (has_encoded_slash, has_doubt), "{path}");
        }
    }

    fn paths() -> impl Strategy<Value = String> {
        let part = prop_oneof![
            Just("/".to_owned()),
            Just("//".to_owned()),
            Just(".".to_owned()),
            Just("..".to_owned()),
            Just("%".to_owned()),
            "%[0-9a-fA-F]{2}",
            Just("%2e".to_owned()),
            Just("%2F".to_owned()),
            Just("%25".to_owned()),
            Just("\\".to_owned()),
            "[a-z0-9;=~_-]{1,3}",
        ];
        proptest::collection::vec(part, 0..12).prop_map(|parts| format!("/{}", parts.concat()))
    }

    proptest! {
        #[test]
        fn the_one_form_of_the_one_form_is_itself(path in paths()) {
            if let Ok(once) = canonical(&path) {
                prop_assert_eq!(canonical(&once.text), Ok(Path { text: once.text.as_ref().into(), ..once.clone() }));
            }
        }

        #[test]
        fn whoever_decodes_what_is_not_in_doubt_once_more_or_twice_stays_under_the_same_segments(path in paths()) {
            let Ok(found) = canonical(&path) else { return Ok(()) };
            prop_assume!(!found.has_encoded_slash && found.doubt.is_none());
            let count = |text: &str| text.split('/').count();
            let once = percent_decode_str(&found.text).decode_utf8_lossy().into_owned();
            let twice = percent_decode_str(&once).decode_utf8_lossy().into_owned();
            for decoded in [once, twice] {
                prop_assert_eq!(count(&decoded), count(&found.text), "{}", decoded);
                prop_assert!(!decoded.split(['/', '\\']).any(|segment| segment == "." || segment == ".."), "{}", decoded);
            }
        }
    }
}
