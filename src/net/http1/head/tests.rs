use super::*;

fn end(text: &str) -> Result<End, (u16, &'static str)> {
    find_end(text.as_bytes(), 0).map_err(|broken| (broken.status, broken.reason))
}

/// What a request with this head is.
fn read(text: &str) -> Result<RequestHead<'_>, (u16, &'static str)> {
    match end(text)? {
        End::At(length) => {
            RequestHead::read(&text.as_bytes()[..length]).map_err(|broken| (broken.status, broken.reason))
        }
        End::Later(_) => panic!("{text:?} has no end"),
    }
}

fn with(headers: &str) -> String {
    format!("GET / HTTP/1.1\r\nHost: a\r\n{headers}\r\n")
}

#[track_caller]
fn refused(text: &str, status: u16, reason: &str) {
    assert_eq!(read(text).expect_err(text), (status, reason), "{text:?}");
}

#[test]
fn a_head_is_read() {
    let head = read(concat!(
        "POST /api/sum?a=1&b=2 HTTP/1.1\r\nHost: localhost:4455\r\nContent-Length: 2\r\n",
        "Connection: keep-alive, Upgrade\r\nExpect: 100-Continue\r\nX-Empty:\r\nX-Blanks: \t a b \t\r\n\r\n{}",
    ))
    .expect("it is right");
    assert_eq!((head.method, head.path(), head.query()), ("POST", "/api/sum", "a=1&b=2"));
    assert_eq!((head.host, head.length, head.keeps_alive), (Some("localhost:4455"), Length::Known(2), true));
    assert!(head.expects_continue && head.wants_upgrade && !head.is_old);
    assert_eq!((head.header("x-empty"), head.header("X-BLANKS"), head.header("none")), (Some(""), Some("a b"), None));
}

#[test]
fn who_says_nothing_of_the_connection_keeps_it_with_http_1_1_and_closes_it_with_1_0() {
    let keeps = |text: &str| read(text).expect("it is right").keeps_alive;
    assert!(keeps(&with("")) && !keeps(&with("Connection: close\r\n")));
    assert!(!keeps("GET / HTTP/1.0\r\n\r\n") && keeps("GET / HTTP/1.0\r\nConnection: Keep-Alive\r\n\r\n"));
    assert!(!keeps(&with("Connection: keep-alive\r\nConnection: x, close\r\n")));
}

#[test]
fn a_target_may_have_a_host_that_wins() {
    let target = |text: &'static str| read(text).map(|head| (format!("{}{}", head.path(), head.search()), head.host));
    assert_eq!(target("GET http://b:80/x?y HTTP/1.1\r\nHost: a\r\n\r\n"), Ok(("/x?y".to_owned(), Some("b:80"))));
    assert_eq!(target("GET HTTP://b HTTP/1.1\r\nHost: a\r\n\r\n"), Ok(("/".to_owned(), Some("b"))));
    assert_eq!(target("OPTIONS * HTTP/1.1\r\nHost: a\r\n\r\n"), Ok(("*".to_owned(), Some("a"))));
    for text in [
        "GET * HTTP/1.1",
        "GET x HTTP/1.1",
        "GET ftp://b/ HTTP/1.1",
        "GET http:///x HTTP/1.1",
        "GET http://u@b/ HTTP/1.1",
    ] {
        refused(&format!("{text}\r\nHost: a\r\n\r\n"), 400, "the target is no path");
    }
    refused("CONNECT b:443 HTTP/1.1\r\nHost: b\r\n\r\n", 405, "there are no tunnels to other servers here");
}

#[test]
fn a_length_that_can_be_read_in_two_ways_is_refused() {
    let length = |headers: &str| read(&with(headers)).map(|head| head.length);
    assert_eq!(length(""), Ok(Length::Known(0)));
    assert_eq!(length("Content-Length: 007\r\n"), Ok(Length::Known(7)));
    assert_eq!(length("transfer-encoding:  Chunked\r\n"), Ok(Length::Chunked));
    for (headers, reason) in [
        ("Content-Length: 1\r\nContent-Length: 1\r\n", "there are two lengths"),
        ("Content-Length: 1\r\nTransfer-Encoding: chunked\r\n", "there are two lengths"),
        ("Content-Length: 1, 1\r\n", "Content-Length is not a number"),
        ("Content-Length: +1\r\n", "Content-Length is not a number"),
        ("Content-Length: 0x1\r\n", "Content-Length is not a number"),
        ("Content-Length: -1\r\n", "Content-Length is not a number"),
        ("Content-Length:\r\n", "Content-Length is not a number"),
        ("Content-Length: 99999999999999999999\r\n", "Content-Length is not a number"),
        ("Transfer-Encoding: chunked\r\nTransfer-Encoding: chunked\r\n", "there are two transfer encodings"),
        ("Transfer-Encoding: chunked, chunked\r\n", "Transfer-Encoding is more than chunked"),
        ("Transfer-Encoding: gzip, chunked\r\n", "Transfer-Encoding is more than chunked"),
        ("Transfer-Encoding: chunked, identity\r\n", "Transfer-Encoding is more than chunked"),
        ("Transfer-Encoding:\tchunked\r\n", "Transfer-Encoding is more than chunked"),
        ("Transfer-Encoding: chunked\t\r\n", "Transfer-Encoding is more than chunked"),
        ("Transfer-Encoding: xchunked\r\n", "Transfer-Encoding is more than chunked"),
        ("Transfer-Encoding: \"chunked\"\r\n", "Transfer-Encoding is more than chunked"),
    ] {
        refused(&with(headers), 400, reason);
    }
    refused(&with("Transfer-Encoding: gzip\r\n"), 501, "no transfer coding but chunked is known here");
    refused(&with("Transfer-Encoding:\r\n"), 501, "no transfer coding but chunked is known here");
    refused("POST / HTTP/1.0\r\nTransfer-Encoding: chunked\r\n\r\n", 400, "HTTP/1.0 has no transfer codings");
}

#[test]
fn a_head_that_some_would_read_otherwise_is_refused() {
    for (text, reason) in [
        ("GET / HTTP/1.1\nHost: a\n\n", "a line ends without a carriage return"),
        ("GET / HTTP/1.1\r\nHost: a\n\r\n", "a line ends without a carriage return"),
        ("\nGET / HTTP/1.1\r\nHost: a\r\n\r\n", "a line ends without a carriage return"),
        ("GET / HTTP/1.1\r\nHost: a\r\n b\r\n\r\n", "a header name is malformed"),
        ("GET / HTTP/1.1\r\nHost : a\r\n\r\n", "a header name is malformed"),
        ("GET / HTTP/1.1\r\n Host: a\r\n\r\n", "a header name is malformed"),
        ("GET / HTTP/1.1\r\nHost: a\r\nX\r\n\r\n", "a header name is malformed"),
        ("GET / HTTP/1.1\r\nHost: a\r\n: x\r\n\r\n", "a header name is malformed"),
        ("GET / HTTP/1.1\r\nHost: a\r\nX: \x01\r\n\r\n", "a header value is malformed"),
        ("GET / HTTP/1.1\r\nHost: a\r\nX: a\rb\r\n\r\n", "a header value is malformed"),
        ("GET / HTTP/1.1\r\nHost: a\r\nHost: a\r\n\r\n", "there are two Host headers"),
        ("GET / HTTP/1.1\r\n\r\n", "there is no Host header"),
        ("GET / HTTP/1.1\r\nHost: a b\r\n\r\n", "the Host header is malformed"),
        ("GET / HTTP/1.1\r\nHost: a/b\r\n\r\n", "the Host header is malformed"),
        ("GET  / HTTP/1.1\r\nHost: a\r\n\r\n", "the first line is malformed"),
        ("GET /a b HTTP/1.1\r\nHost: a\r\n\r\n", "only HTTP/1.0 and HTTP/1.1 are spoken here"),
        ("GET /\u{e9} HTTP/1.1\r\nHost: a\r\n\r\n", "the target has characters that must be encoded"),
        ("GET /# HTTP/1.1\r\nHost: a\r\n\r\n", "the target has characters that must be encoded"),
        ("G\u{e9}T / HTTP/1.1\r\nHost: a\r\n\r\n", "the first line is malformed"),
    ] {
        let status = if reason.starts_with("only") { 505 } else { 400 };
        refused(text, status, reason);
    }
    refused("GET / HTTP/2.0\r\nHost: a\r\n\r\n", 505, "only HTTP/1.0 and HTTP/1.1 are spoken here");
    refused(&with("Expect: rain\r\n"), 417, "only 100-continue can be expected");
}

#[test]
fn a_head_has_a_limit_in_each_direction() {
    assert_eq!(end(&format!("GET /{} HTTP/1.1\r\nHost: a\r\n\r\n", "x".repeat(8000))).map(|_| ()), Ok(()));
    for rest in ["", " HTTP/1.1\r\n", " HTTP/1.1\r\nHost: a\r\n\r\n"] {
        let text = format!("GET /{}{rest}", "x".repeat(9000));
        assert_eq!(end(&text), Err((414, "the first line is too long")));
    }
    assert_eq!(end(&with(&format!("X: {}\r\n", "x".repeat(17000)))), Err((431, "the head is too large")));
    assert_eq!(end(&format!("GET / HTTP/1.1\r\nX: {}", "x".repeat(17000))), Err((431, "the head is too large")));
    let many: String = (0..101).map(|number| format!("X-{number}: 1\r\n")).collect();
    refused(&with(&many), 431, "there are too many headers");
}

#[test]
fn the_end_is_found_in_whatever_pieces_a_head_comes() {
    let text = with("X: y\r\n") + "body";
    let mut seen = 0;
    for length in 1..=text.len() {
        match find_end(&text.as_bytes()[..length], seen).expect("it is right") {
            End::Later(looked) => {
                assert!(length < text.len() - 4, "the end was not seen");
                seen = looked;
            }
            End::At(at) => {
                assert_eq!(at, text.len() - 4);
                return;
            }
        }
    }
}

#[test]
fn an_answer_has_the_body_that_its_request_and_its_status_allow() {
    let read = |text: &'static str, is_to_head| {
        ResponseHead::read(text.as_bytes(), is_to_head).map(|head| (head.status, head.length, head.keeps_alive))
    };
    assert_eq!(read("HTTP/1.1 200 OK\r\nContent-Length: 5\r\n\r\n", false), Ok((200, Length::Known(5), true)));
    assert_eq!(read("HTTP/1.1 200 OK\r\nContent-Length: 5\r\n\r\n", true), Ok((200, Length::Known(0), true)));
    assert_eq!(read("HTTP/1.1 304 \r\nContent-Length: 5\r\n\r\n", false), Ok((304, Length::Known(0), true)));
    assert_eq!(read("HTTP/1.1 204\r\n\r\n", false), Ok((204, Length::Known(0), true)));
    assert_eq!(read("HTTP/1.1 200 OK\r\n\r\n", false), Ok((200, Length::ToTheEnd, false)));
    assert_eq!(read("HTTP/1.0 200 OK\r\nContent-Length: 5\r\n\r\n", false), Ok((200, Length::Known(5), false)));
    assert_eq!(read("HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n", false), Ok((200, Length::Chunked, true)));
    assert_eq!(
        read("HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\nContent-Length: 5\r\n\r\n", false),
        Err("there are two lengths")
    );
    assert_eq!(read("HTTP/1.1 200 OK\r\nA: b\r\n c\r\n\r\n", false), Err("a header name is malformed"));
}
