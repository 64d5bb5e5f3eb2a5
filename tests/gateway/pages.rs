//! Pages in a browser: what they can make it do here, and what not.

use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};

use cerbas::gateway::TokenHash;
use cerbas::{Call, Running, Terms};
use serde_json::{Map, Value, json};

use crate::support::{Answer, Connection, Upstream, address, ask, server};

/// A gateway with `touch`, which acts, `read`, which only reads, `kept`, which has a cache, and `never`, which has one and acts. Tells how
/// often `touch` ran.
fn gateway(http: &str) -> (Running, Arc<AtomicUsize>) {
    let functions = "[functions.kept]\ncommand = [\"echo\", \"kept\"]\ncache = \"20s\"\n[functions.stop]\nbuiltin = \"halt\"\n\
                     [functions.never]\ncommand = [\"echo\", \"never\"]\ncache = \"20s\"\nsafe = false\n";
    let runs = Arc::new(AtomicUsize::new(0));
    let counted = Arc::clone(&runs);
    let safe = Terms { safe: Some(true), ..Terms::default() };
    let running = server(&format!("{http}\n{functions}"))
        .function("touch", move |_: &Call, args: Map<String, Value>| {
            counted.fetch_add(1, Ordering::AcqRel);
            Ok(json!(args))
        })
        .function_with("read", safe, |_: &Call, _: Map<String, Value>| Ok(json!("read")))
        .start()
        .expect("it starts");
    (running, runs)
}

/// What browsers send besides where there is a name and plain HTTP: neither `Origin` nor `Sec-Fetch-Site`.
const BROWSERS: [&str; 4] = [
    // A link, a script that sets `location`, a form with the method GET.
    "Upgrade-Insecure-Requests: 1\r\nUser-Agent: Mozilla/5.0 (X11)\r\nAccept: text/html,application/xhtml+xml\r\n",
    // The same from a page that says where it is.
    "Referer: http://evil.example/\r\nUser-Agent: Mozilla/5.0 (X11)\r\nAccept: text/html\r\n",
    // An image.
    "Accept: image/avif,image/webp,*/*;q=0.8\r\n",
    // A script, a style sheet.
    "User-Agent: Mozilla/5.0 (X11)\r\nAccept: */*\r\n",
];

const PROGRAMS: [&str; 4] = [
    "",
    "User-Agent: curl/8.5.0\r\nAccept: */*\r\n",
    "User-Agent: python-requests/2.32\r\nAccept: application/json\r\n",
    "Accept: application/msgpack\r\n",
];

fn secret() -> String {
    format!("[http.tokens.web]\nhash = \"{}\"\n", TokenHash::of("secret"))
}

/// anyone:secret
const BASIC: &str = "Authorization: Basic YW55b25lOnNlY3JldA==\r\n";

#[test]
fn a_page_cannot_make_a_browser_call_what_acts() {
    for (http, token) in [(String::new(), ""), (secret(), BASIC)] {
        let (running, runs) = gateway(&http);
        let at = address(&running);
        for browser in BROWSERS {
            for target in ["/api/touch?from=page", "/api/never", "/api/stop", "/api/t%6Fuch"] {
                for method in ["GET", "HEAD"] {
                    let answer = ask(at, method, target, &format!("{token}{browser}"), "");
                    assert_eq!(
                        (answer.status, answer.header("allow")),
                        (405, Some("POST, OPTIONS")),
                        "{method} {target} {browser}"
                    );
                }
            }
            for target in ["/api/read", "/api/kept", "/api/hello"] {
                let answer = ask(at, "GET", target, &format!("{token}{browser}"), "");
                assert_eq!(answer.status, 200, "{target} {browser}");
            }
            assert_eq!(ask(at, "GET", "/api/nobody", &format!("{token}{browser}"), "").status, 404);
        }
        assert_eq!(runs.load(Ordering::Acquire), 0);
        for program in PROGRAMS {
            assert_eq!(ask(at, "GET", "/api/touch?a=1", &format!("{token}{program}"), "").status, 200, "{program}");
        }
        assert_eq!(runs.load(Ordering::Acquire), PROGRAMS.len());
    }
}

#[test]
fn who_opens_the_address_of_what_acts_is_asked() {
    let (running, runs) = gateway("");
    let at = address(&running);
    let page = ask(at, "GET", "/api/touch?a=1", BROWSERS[0], "");
    assert_eq!((page.status, page.header("content-type")), (405, Some("text/html; charset=utf-8")));
    assert!(page.text().contains("<form method=\"post\"><button>Run touch</button></form>"), "{}", page.text());
    let rules = page.header("content-security-policy").unwrap_or_default();
    assert!(rules.contains("frame-ancestors 'none'") && rules.contains("default-src 'none'"), "{rules}");
    assert_eq!(ask(at, "GET", "/api/touch", BROWSERS[3], "").json()["status"], "error");
    // What its button sends, and the same from a page of somebody else.
    let press = |origin: &str| {
        let headers = format!("Origin: {origin}\r\nContent-Type: application/x-www-form-urlencoded\r\n{}", BROWSERS[0]);
        ask(at, "POST", "/api/touch?a=1", &headers, "")
    };
    assert_eq!(press("http://evil.example").status, 403);
    assert_eq!(press("null").status, 403);
    assert_eq!(runs.load(Ordering::Acquire), 0);
    assert_eq!(press("http://localhost").json()["data"], json!({"a": 1}));
}

#[test]
fn a_page_of_ours_and_a_person_can_call_what_acts_by_get() {
    let (running, _) = gateway("");
    let at = address(&running);
    for own in [
        "Sec-Fetch-Site: same-origin\r\nReferer: http://localhost/console\r\n",
        "Sec-Fetch-Site: none\r\n",
        "Referer: http://localhost/console\r\n",
    ] {
        let answer = ask(at, "GET", "/api/touch", &format!("{own}{}", BROWSERS[0]), "");
        assert_eq!(answer.status, 200, "{own}");
    }
    let other = "Sec-Fetch-Site: cross-site\r\nReferer: http://localhost/\r\n";
    assert_eq!(ask(at, "GET", "/api/touch", other, "").status, 403);
    let (running, _) = gateway(&secret());
    let bearer = format!("Authorization: Bearer secret\r\n{}", BROWSERS[0]);
    assert_eq!(ask(address(&running), "GET", "/api/touch", &bearer, "").status, 200);
}

/// A gateway with a site at `/up`.
fn with_site(http: &str, site: &str) -> (Running, Upstream) {
    let (upstream, _) = Upstream::recording("HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nup");
    let target = format!("[proxy.up]\npath = \"/up\"\ntarget = \"http://{}\"\n{site}\n", upstream.address);
    (server(&format!("{http}\n{target}")).start().expect("it starts"), upstream)
}

/// What comes of a request with exactly this head.
fn raw(running: &Running, head: &str) -> Answer {
    let mut connection = Connection::open(address(running));
    connection.send(format!("{head}Connection: close\r\n\r\n"));
    connection.answer_to("GET").expect("the connection ended before the answer")
}

#[test]
fn a_name_that_somebody_else_made_point_here_does_not_open_a_site() {
    let get = "GET /up/x HTTP/1.1\r\nHost: evil.example\r\n";
    let (running, _upstream) = with_site("", "");
    assert_eq!(raw(&running, get).status, 421);
    assert_eq!(raw(&running, &get.replace("evil.example", "localhost")).status, 200);
    for (http, site) in [
        ("hosts = [\"evil.example\"]".to_owned(), "".to_owned()),
        (String::new(), "public = true".to_owned()),
        (String::new(), "host = \"evil.example\"".to_owned()),
    ] {
        let (running, _upstream) = with_site(&http, &site);
        assert_eq!(raw(&running, get).status, 200, "{http} {site}");
    }
}

#[test]
fn a_page_of_somebody_else_does_not_act_on_a_site_with_a_token_that_the_browser_remembers() {
    let evil = "Host: localhost\r\nOrigin: http://evil.example\r\n";
    let upgrade = "Upgrade: websocket\r\nConnection: upgrade\r\nSec-WebSocket-Version: 13\r\nSec-WebSocket-Key: AAAAAAAAAAAAAAAAAAAAAA==\r\n";
    for (http, token) in [(String::new(), ""), (secret(), BASIC)] {
        let (running, _upstream) = with_site(&http, "");
        for method in ["POST", "PUT", "DELETE"] {
            let answer = raw(&running, &format!("{method} /up/x HTTP/1.1\r\n{evil}{token}Content-Length: 0\r\n"));
            assert_eq!(answer.status, 403, "{method}");
        }
        let mut connection = Connection::open(address(&running));
        connection.send(format!("GET /up/ws HTTP/1.1\r\n{evil}{token}{upgrade}\r\n"));
        assert_eq!(connection.answer_to("GET").expect("it is answered").status, 403);
        // Links lead from page to page, and its own pages may do all.
        assert_eq!(raw(&running, &format!("GET /up/x HTTP/1.1\r\n{evil}{token}")).status, 200);
        let own = evil.replace("evil.example", "localhost");
        assert_eq!(raw(&running, &format!("POST /up/x HTTP/1.1\r\n{own}{token}Content-Length: 0\r\n")).status, 200);
        let (running, _upstream) = with_site(&format!("origins = [\"http://evil.example\"]\n{http}"), "");
        assert_eq!(raw(&running, &format!("POST /up/x HTTP/1.1\r\n{evil}{token}Content-Length: 0\r\n")).status, 200);
    }
    let (running, _upstream) = with_site("", "public = true");
    assert_eq!(raw(&running, &format!("POST /up/x HTTP/1.1\r\n{evil}Content-Length: 0\r\n")).status, 200);
}
