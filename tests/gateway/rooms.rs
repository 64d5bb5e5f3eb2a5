//! Pages that a program shows besides its functions.

use std::time::Duration;

use cerbas::pages::{Answer, Asked, Content, Method, Page, Pages, Reply, Right};
use cerbas::protocol::{Arguments, Request, RequestId};
use cerbas::{Running, StartError};
use serde_json::json;

use crate::support::{address, ask, get, serve, server};

/// A shelf of things, with a page of each kind of reply.
struct Shelf;

const SHELF: &[Page] = &[
    Page {
        path: "/api/shelf/{thing}",
        methods: &[
            (Method::Get, Some(Right::Look)),
            (Method::Put, Some(Right::Change)),
            (Method::Delete, Some(Right::Change)),
        ],
    },
    Page { path: "/shelf/{rest*}", methods: &[(Method::Get, None)] },
    Page { path: "/api/shelf/{thing}/sum", methods: &[(Method::Post, Some(Right::Call))] },
    Page { path: "/api/shelf/{thing}/work", methods: &[(Method::Post, Some(Right::Call))] },
];

impl Pages for Shelf {
    fn pages(&self) -> &[Page] {
        SHELF
    }

    fn ask(&self, page: usize, asked: &Asked<'_>) -> Reply {
        let thing = asked.parameters[0].clone();
        match (page, asked.method) {
            (0, Method::Put) if asked.body.is_empty() => Reply::Now(Answer::error(400, "the thing is missing")),
            (0, method) => {
                let said = json!({"method": method.name(), "thing": thing, "body": String::from_utf8_lossy(asked.body),
                                  "query": asked.query, "x": asked.header("x-thing")});
                Reply::Now(Answer::value(200, said).with("ETag", "\"1\""))
            }
            (1, _) => Reply::Later(Box::new(move || Answer {
                status: 200,
                content: Content::Bytes("text/html; charset=utf-8", format!("<p>{thing}").into_bytes().into()),
                headers: Vec::new(),
            })),
            (2, _) => match asked.arguments() {
                Ok(args) => Reply::Call(Box::new(Request::new(id(asked.id), "sum", args))),
                Err(answer) => Reply::Now(answer),
            },
            _ => {
                let request = Request::new(id("w-shelf"), "hello", Arguments::new());
                let answer = Answer::value(202, json!({"id": "w-shelf"})).with("Location", "/api/status/w-shelf");
                Reply::Submit { request: Box::new(request), keep: Duration::from_secs(60), answer }
            }
        }
    }
}

fn id(text: &str) -> RequestId {
    RequestId::from_text(text).expect("it is an id")
}

fn shelf(http: &str) -> Running {
    server(http).pages(Shelf).start().expect("it starts")
}

#[test]
fn a_page_is_told_who_asks_for_what_and_its_answer_is_sent() {
    let running = shelf("");
    let at = address(&running);
    let put = ask(at, "PUT", "/api/shelf/a%2Fb?q=1", "X-Thing: here\r\n", "words");
    assert_eq!((put.status, put.header("etag")), (200, Some("\"1\"")));
    assert_eq!(put.json(), json!({"method": "PUT", "thing": "a/b", "body": "words", "query": "q=1", "x": "here"}));
    let empty = ask(at, "PUT", "/api/shelf/a", "", "");
    assert_eq!((empty.status, &empty.json()["data"]), (400, &json!("the thing is missing")));
    assert_eq!(ask(at, "DELETE", "/api/shelf/a", "", "").json()["method"], "DELETE");
    let html = get(at, "/shelf/c/d?x");
    assert_eq!((html.header("content-type"), html.text()), (Some("text/html; charset=utf-8"), "<p>c/d".to_owned()));
}

#[test]
fn a_page_has_the_methods_that_it_says_and_head_where_it_has_get() {
    let running = shelf("");
    let at = address(&running);
    let head = ask(at, "HEAD", "/api/shelf/a", "", "");
    assert_eq!((head.status, head.header("content-length").is_some_and(|length| length != "0")), (200, true));
    let refused = ask(at, "POST", "/api/shelf/a", "", "x");
    assert_eq!((refused.status, refused.header("allow")), (405, Some("GET, HEAD, PUT, DELETE, OPTIONS")));
    let options = ask(at, "OPTIONS", "/api/shelf/a/sum", "", "");
    assert_eq!((options.status, options.header("allow")), (204, Some("POST, OPTIONS")));
    assert_eq!(ask(at, "TRACE", "/api/shelf/a", "", "").status, 405);
    assert_eq!(get(at, "/api/shelf/a/b/c").status, 404);
    // A function is not hidden by what only begins like it.
    assert_eq!(get(at, "/api/shelf").status, 404);
    assert_eq!(get(at, "/api/hello").status, 200);
}

#[test]
fn a_page_can_let_a_function_answer_or_put_its_request_into_the_queue() {
    let running = shelf("");
    let at = address(&running);
    let json = "Content-Type: application/json\r\n";
    let sum = ask(at, "POST", "/api/shelf/x/sum?a=1", json, "{\"b\": 2}");
    assert_eq!((sum.status, sum.json()["data"].clone()), (200, json!(3)));
    let bad = ask(at, "POST", "/api/shelf/x/sum", json, "[1]");
    assert_eq!(bad.status, 400, "{}", bad.text());
    let work = ask(at, "POST", "/api/shelf/x/work", "", "");
    assert_eq!((work.status, work.header("location")), (202, Some("/api/status/w-shelf")));
    // Each answer is the next change: that it waits, that it runs, that it is done.
    let mut states = std::iter::repeat_with(|| get(at, "/api/status/w-shelf?wait=20s").json()["status"].clone());
    assert!(states.by_ref().take(3).any(|state| state == "done"));
}

#[test]
fn a_page_goes_before_a_site_that_has_everything() {
    let running = shelf("[proxy.all]\npath = \"/\"\ntarget = \"http://127.0.0.1:1\"\n");
    assert_eq!(get(address(&running), "/shelf/a").status, 200);
    assert_eq!(get(address(&running), "/other").status, 502);
}

#[test]
fn pages_that_cannot_be_told_apart_are_refused_at_the_start_by_name() {
    let refused = |server: cerbas::Server| match server.start() {
        Err(StartError::Gateway(error)) => error.to_string(),
        other => panic!("it starts, or fails for another reason: {:?}", other.err()),
    };
    let twice = refused(server("").pages(Shelf).pages(Shelf));
    assert_eq!(twice, "/api/shelf/{thing} and /api/shelf/{thing}: one path could mean either");

    struct Nodes;
    impl Pages for Nodes {
        fn pages(&self) -> &[Page] {
            &[Page { path: "/api/{any}", methods: &[(Method::Get, None)] }]
        }

        fn ask(&self, _: usize, _: &Asked<'_>) -> Reply {
            Reply::Now(Answer::value(200, ""))
        }
    }
    let hidden = server("").pages(Weather).function("weather", |_: &cerbas::Call, (): ()| Ok(()));
    assert_eq!(refused(hidden), "/api/weather: is a page, and the path of the function weather");
    assert_eq!(refused(server("").pages(Nodes)), "/api/nodes and /api/{any}: one path could mean either");
}

/// One page.
struct Weather;

impl Pages for Weather {
    fn pages(&self) -> &[Page] {
        &[Page { path: "/api/weather", methods: &[(Method::Get, None)] }]
    }

    fn ask(&self, _: usize, _: &Asked<'_>) -> Reply {
        Reply::Now(Answer::value(200, "it rains"))
    }
}

/// Tokens with these rights, called after them.
fn tokens(rights: &[&str]) -> String {
    let token = |right: &&str| {
        let hash = cerbas::gateway::TokenHash::of(&secret(right));
        let may = if *right == "usual" { String::new() } else { format!("may = [{right}]\n") };
        let name = right.replace(['"', ',', ' '], "");
        format!("[http.tokens.t{name}]\nhash = \"{hash}\"\n{may}")
    };
    rights.iter().map(token).collect()
}

fn secret(right: &str) -> String {
    format!("secret-token-for-{right}")
}

#[test]
fn a_token_lets_one_do_what_it_may_and_the_usual_one_calls() {
    let rights = ["usual", "\"call\"", "\"look\"", "\"change\"", "", "\"call\", \"look\", \"change\""];
    let proxied = "[proxy.all]\npath = \"/site\"\ntarget = \"http://127.0.0.1:1\"\n";
    let running = shelf(&format!("{}{proxied}", tokens(&rights)));
    let at = address(&running);
    let status = |method: &str, path: &str| {
        rights.map(|right| {
            let headers = format!("Authorization: Bearer {}\r\nContent-Type: application/json\r\n", secret(right));
            ask(at, method, path, &headers, if method == "POST" { "{\"x\": 1}" } else { "" }).status
        })
    };
    //                                               usual call look change none all
    assert_eq!(status("GET", "/api/hello"), [200, 200, 403, 403, 403, 200]);
    assert_eq!(status("POST", "/api/work"), [202, 202, 403, 403, 403, 202]);
    assert_eq!(status("GET", "/api/status/w-none"), [404, 404, 404, 403, 403, 404]);
    assert_eq!(status("GET", "/api/shelf/a"), [403, 403, 200, 403, 403, 200]);
    assert_eq!(status("HEAD", "/api/shelf/a"), [403, 403, 200, 403, 403, 200]);
    assert_eq!(status("DELETE", "/api/shelf/a"), [403, 403, 403, 200, 403, 200]);
    let is_refused = status("GET", "/site/x").map(|status| status == 403);
    assert_eq!(is_refused, [false, false, true, true, true, false]);
    for open in ["/metrics", "/api/nodes", "/", "/shelf/x"] {
        assert_eq!(status("GET", open), [200; 6], "{open}");
    }
    let refused = ask(at, "GET", "/api/shelf/a", &format!("Authorization: Bearer {}\r\n", secret("\"call\"")), "");
    let reason = "the token tcall may not look: may = [\"look\"] in [http.tokens.tcall] lets it";
    assert_eq!(refused.json(), json!({"status": "error", "data": reason}));
}

#[test]
fn without_tokens_this_machine_may_do_all() {
    let running = shelf("");
    for (method, path) in [("GET", "/api/shelf/a"), ("DELETE", "/api/shelf/a"), ("GET", "/api/hello")] {
        assert_eq!(ask(address(&running), method, path, "", "").status, 200, "{method} {path}");
    }
}

#[test]
fn a_right_that_is_not_known_is_a_fault_of_the_configuration() {
    let hash = cerbas::gateway::TokenHash::of("x");
    let read = |may: &str| {
        let text = format!("[http.tokens.t]\nhash = \"{hash}\"\nmay = {may}\n");
        cerbas::Config::from_text(&text, "cerbas.toml", std::iter::empty::<(&str, &str)>())
    };
    let fault = |may: &str| read(may).expect_err("it is refused").to_string();
    assert!(
        fault("[\"lock\"]").ends_with("http.tokens.t.may: unknown name \"lock\", expected some of call, look, change"),
        "{}",
        fault("[\"lock\"]")
    );
    assert!(fault("\"call\"").contains("expected a list of texts"), "{}", fault("\"call\""));
    let _a_token_that_may_nothing_reads_the_metrics = serve(&format!("[http.tokens.t]\nhash = \"{hash}\"\nmay = []\n"));
}

/// Pages that do what they should not.
struct Rude;

impl Pages for Rude {
    fn pages(&self) -> &[Page] {
        &[
            Page { path: "/api/rude/falls", methods: &[(Method::Get, None)] },
            Page { path: "/api/rude/falls-later", methods: &[(Method::Get, None)] },
            Page { path: "/api/rude/says/{what}", methods: &[(Method::Get, None)] },
            Page { path: "/api/rude/has/{status}", methods: &[(Method::Get, None)] },
            Page { path: "/api/rude/cuts", methods: &[(Method::Get, None)] },
        ]
    }

    fn ask(&self, page: usize, asked: &Asked<'_>) -> Reply {
        // Without a message among those of the tests.
        let fall = || -> Answer { std::panic::resume_unwind(Box::new("it falls")) };
        let well = || Answer::value(200, "well");
        match page {
            0 => Reply::Now(fall()),
            1 => Reply::Later(Box::new(fall)),
            2 => Reply::Now(well().with("X-Said", &*asked.parameters[0])),
            3 => Reply::Now(Answer { status: asked.parameters[0].parse().expect("it is a number"), ..well() }),
            _ => Reply::Now(well().with("Content-Length", "0")),
        }
    }
}

#[test]
fn a_page_that_panics_or_gives_what_cannot_be_sent_costs_only_the_request() {
    let running = server("").pages(Rude).start().expect("it starts");
    // All on one connection: whatever is sent besides an answer would be taken for the beginning of the next.
    let mut connection = crate::support::Connection::open(address(&running));
    let mut status = |path: &str| {
        connection.send(format!("GET {path} HTTP/1.1\r\nHost: localhost\r\n\r\n"));
        let answer = connection.answer();
        assert_eq!(answer.header("x-evil"), None, "{path}: {answer:?}");
        answer.status
    };
    for (path, expected) in [
        ("/api/rude/falls", 500),
        ("/api/rude/falls-later", 500),
        ("/api/rude/says/words", 200),
        ("/api/rude/says/words%0D%0AX-Evil:%201", 500),
        ("/api/rude/says/words%00", 500),
        ("/api/rude/has/404", 404),
        ("/api/rude/has/204", 500),
        ("/api/rude/has/304", 500),
        ("/api/rude/has/100", 500),
        ("/api/rude/has/1000", 500),
        ("/api/rude/cuts", 500),
    ] {
        assert_eq!(status(path), expected, "{path}");
        assert_eq!(status("/api/hello"), 200, "after {path}");
    }
    assert_eq!(running.stop().broken, None);
}
