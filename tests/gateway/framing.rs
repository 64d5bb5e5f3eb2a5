//! Where one request ends and the next begins: one row a case, at our own server and through the proxy to one that records what it sees.
//! All three must agree.

use std::net::SocketAddr;

use crate::support::{Connection, Upstream, address, serve};

/// What is sent, with `PATH` for where; the statuses of the answers; the bodies that arrive.
const ROWS: &[(&str, &str, &[u16], &[&str])] = &[
    ("no body", "POST PATH HTTP/1.1\r\nHost: a\r\n\r\n", &[200], &[""]),
    ("a length", "POST PATH HTTP/1.1\r\nHost: a\r\nContent-Length: 7\r\n\r\n{\"a\":1}", &[200], &["{\"a\":1}"]),
    (
        "chunks",
        "POST PATH HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: chunked\r\n\r\n3\r\n{\"a\r\n4;x=y\r\n\":1}\r\n0\r\nT: 1\r\n\r\n",
        &[200],
        &["{\"a\":1}"],
    ),
    (
        "two requests in one piece",
        "POST PATH HTTP/1.1\r\nHost: a\r\nContent-Length: 2\r\n\r\n{}POST PATH HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: chunked\r\n\r\n2\r\n{}\r\n0\r\n\r\n",
        &[200, 200],
        &["{}", "{}"],
    ),
    ("empty lines before a request", "\r\n\r\nGET PATH HTTP/1.1\r\nHost: a\r\n\r\n", &[200], &[""]),
    ("an old client", "GET PATH HTTP/1.0\r\n\r\n", &[200], &[""]),
    (
        "both lengths",
        "POST PATH HTTP/1.1\r\nHost: a\r\nContent-Length: 5\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n\r\nGET / HTTP/1.1\r\nHost: b\r\n\r\n",
        &[400],
        &[],
    ),
    (
        "both lengths, the other way round",
        "POST PATH HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: chunked\r\nContent-Length: 5\r\n\r\n0\r\n\r\n",
        &[400],
        &[],
    ),
    ("two lengths", "POST PATH HTTP/1.1\r\nHost: a\r\nContent-Length: 2\r\nContent-Length: 3\r\n\r\n{}x", &[400], &[]),
    (
        "the same length twice",
        "POST PATH HTTP/1.1\r\nHost: a\r\nContent-Length: 2\r\nContent-Length: 2\r\n\r\n{}",
        &[400],
        &[],
    ),
    ("a list of lengths", "POST PATH HTTP/1.1\r\nHost: a\r\nContent-Length: 2, 2\r\n\r\n{}", &[400], &[]),
    ("a length with a sign", "POST PATH HTTP/1.1\r\nHost: a\r\nContent-Length: +2\r\n\r\n{}", &[400], &[]),
    ("a length below zero", "POST PATH HTTP/1.1\r\nHost: a\r\nContent-Length: -1\r\n\r\n", &[400], &[]),
    (
        "a length that overflows",
        "POST PATH HTTP/1.1\r\nHost: a\r\nContent-Length: 18446744073709551618\r\n\r\n{}",
        &[400],
        &[],
    ),
    ("a length in hexadecimal", "POST PATH HTTP/1.1\r\nHost: a\r\nContent-Length: 0x2\r\n\r\n{}", &[400], &[]),
    ("a folded header", "POST PATH HTTP/1.1\r\nHost: a\r\nX: a\r\n b\r\n\r\n", &[400], &[]),
    (
        "a folded Transfer-Encoding",
        "POST PATH HTTP/1.1\r\nHost: a\r\nTransfer-Encoding:\r\n chunked\r\n\r\n0\r\n\r\n",
        &[400],
        &[],
    ),
    ("a blank before the colon", "POST PATH HTTP/1.1\r\nHost: a\r\nContent-Length : 2\r\n\r\n{}", &[400], &[]),
    ("bare line feeds", "POST PATH HTTP/1.1\nHost: a\nContent-Length: 2\n\n{}", &[400], &[]),
    ("one bare line feed", "POST PATH HTTP/1.1\r\nHost: a\nContent-Length: 2\r\n\r\n{}", &[400], &[]),
    ("a bare carriage return", "POST PATH HTTP/1.1\r\nHost: a\r\nX: a\rContent-Length: 9\r\n\r\n", &[400], &[]),
    (
        "chunked behind a tab",
        "POST PATH HTTP/1.1\r\nHost: a\r\nTransfer-Encoding:\tchunked\r\n\r\n0\r\n\r\n",
        &[400],
        &[],
    ),
    (
        "chunked before a tab",
        "POST PATH HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: chunked\t\r\n\r\n0\r\n\r\n",
        &[400],
        &[],
    ),
    (
        "chunked with a vertical tab",
        "POST PATH HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: \x0bchunked\r\n\r\n0\r\n\r\n",
        &[400],
        &[],
    ),
    (
        "chunked in a list",
        "POST PATH HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: identity, chunked\r\n\r\n0\r\n\r\n",
        &[400],
        &[],
    ),
    (
        "chunked twice",
        "POST PATH HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: chunked\r\nTransfer-Encoding: identity\r\n\r\n0\r\n\r\n",
        &[400],
        &[],
    ),
    ("a coding nobody knows", "POST PATH HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: gzip\r\n\r\n", &[501], &[]),
    ("chunks from an old client", "POST PATH HTTP/1.0\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n\r\n", &[400], &[]),
    ("no host", "GET PATH HTTP/1.1\r\n\r\n", &[400], &[]),
    ("two hosts", "GET PATH HTTP/1.1\r\nHost: a\r\nHost: b\r\n\r\n", &[400], &[]),
    ("a zero byte", "GET PATH HTTP/1.1\r\nHost: a\r\nX: a\0b\r\n\r\n", &[400], &[]),
    ("a version of tomorrow", "GET PATH HTTP/3.0\r\nHost: a\r\n\r\n", &[505], &[]),
    ("no HTTP at all", "\x16\x03\x01\x02\x00\x01\x00\x01\r\n\r\n", &[400], &[]),
    ("the preface of HTTP/2", "PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n", &[505], &[]),
];

/// Bodies that break off being readable, after a head that was right: an upstream may have seen the head, but never a whole request.
const BROKEN_BODIES: &[(&str, &str)] = &[
    ("a size that overflows", "fffffffffffffffff\r\n"),
    ("a size with a blank", "2 \r\n{}\r\n0\r\n\r\n"),
    ("a size in the wrong notation", "0x2\r\n{}\r\n0\r\n\r\n"),
    ("no size", "\r\n{}\r\n0\r\n\r\n"),
    ("a size below zero", "-2\r\n{}\r\n0\r\n\r\n"),
    ("a bare line feed behind a size", "2\n{}\n0\n\n"),
    ("a chunk longer than its size", "2\r\n{}{}\r\n0\r\n\r\n"),
    ("a chunk without its end", "2\r\n{}0\r\n\r\n"),
    ("an extension without end", EXTENSION),
];

const EXTENSION: &str = "2;xxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxx\r\n{}\r\n0\r\n\r\n";

/// In the target of the request that is sent after each row.
const LAST: &str = "?last";

/// The statuses of the answers to `bytes`. A good request follows them: it is answered only if the connection goes on, and then its
/// answer is the last one and left out here.
fn statuses_of(address: SocketAddr, bytes: &str, path: &str) -> Vec<u16> {
    let mut connection = Connection::open(address);
    connection.send(bytes);
    connection.send(format!("GET {path}{LAST} HTTP/1.1\r\nHost: a\r\nConnection: close\r\n\r\n"));
    let answers = connection.answers();
    let mut statuses: Vec<u16> = answers.iter().map(|answer| answer.status).collect();
    if statuses.iter().all(|status| *status == 200) && !bytes.contains("HTTP/1.0") {
        assert_eq!(statuses.pop(), Some(200), "{bytes:?}");
    }
    statuses
}

const OK: &str = "HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nok";

#[test]
fn our_server_and_what_is_behind_the_proxy_see_the_same_requests() {
    let (upstream, seen) = Upstream::recording(OK);
    let running = serve(&format!("hosts = [\"a\"]\n[proxy.up]\ntarget = \"http://{}\"\n", upstream.address));
    for (what, bytes, statuses, bodies) in ROWS {
        for path in ["/api/asyncfunc", "/up/x"] {
            let answers = statuses_of(address(&running), &bytes.replace("PATH", path), path);
            assert_eq!(answers, *statuses, "{what}: {path}");
        }
        let seen: Vec<String> = seen
            .lock()
            .expect("nothing panics here")
            .drain(..)
            .filter(|request| !request.first_line().contains(LAST))
            .map(|request| String::from_utf8_lossy(&request.body).into_owned())
            .collect();
        assert_eq!(seen, *bodies, "{what}: behind the proxy");
    }
}

#[test]
fn a_body_that_cannot_be_read_never_arrives_whole() {
    let (upstream, seen) = Upstream::recording(OK);
    let running = serve(&format!("hosts = [\"a\"]\n[proxy.up]\ntarget = \"http://{}\"\n", upstream.address));
    for (what, body) in BROKEN_BODIES {
        for path in ["/api/asyncfunc", "/up/x"] {
            let head = format!("POST {path} HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: chunked\r\n\r\n");
            let answers = statuses_of(address(&running), &format!("{head}{body}"), path);
            assert_eq!(answers, [400], "{what}: {path}");
        }
    }
    assert!(seen.lock().expect("nothing panics here").is_empty());
}

/// Answers of an upstream that could be read in two ways: the client must get none of them.
const BROKEN_ANSWERS: &[(&str, &str)] = &[
    ("both lengths", "HTTP/1.1 200 OK\r\nContent-Length: 2\r\nTransfer-Encoding: chunked\r\n\r\n2\r\nok\r\n0\r\n\r\n"),
    ("two lengths", "HTTP/1.1 200 OK\r\nContent-Length: 2\r\nContent-Length: 3\r\n\r\nok!"),
    ("a folded header", "HTTP/1.1 200 OK\r\nX: a\r\n b\r\nContent-Length: 2\r\n\r\nok"),
    ("a blank before the colon", "HTTP/1.1 200 OK\r\nContent-Length : 2\r\n\r\nok"),
    ("bare line feeds", "HTTP/1.1 200 OK\nContent-Length: 2\n\nok"),
    ("chunked behind a tab", "HTTP/1.1 200 OK\r\nTransfer-Encoding:\tchunked\r\n\r\n0\r\n\r\n"),
    ("no status", "HTTP/1.1 OK\r\nContent-Length: 2\r\n\r\nok"),
    ("no HTTP", "ok\r\n\r\n"),
    (
        "a protocol that nobody has asked for",
        "HTTP/1.1 101 Switching Protocols\r\nUpgrade: x\r\nConnection: upgrade\r\n\r\n",
    ),
    ("nothing", ""),
];

#[test]
fn an_answer_that_could_be_read_in_two_ways_is_no_answer() {
    for (what, answer) in BROKEN_ANSWERS {
        let (upstream, _seen) = Upstream::recording(answer);
        let upstream_end = if answer.is_empty() { Upstream::start(drop) } else { upstream };
        let running = serve(&format!("[proxy.up]\ntarget = \"http://{}\"\n", upstream_end.address));
        let mut connection = Connection::open(address(&running));
        connection.send("POST /up/x HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\n\r\n");
        let answers: Vec<u16> = connection.answers().iter().map(|answer| answer.status).collect();
        assert_eq!(answers, [502], "{what}");
    }
}
