//! The reverse proxy.

use std::io::{Read, Write};
use std::net::{Shutdown, TcpListener};
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::mpsc;

use crate::support::{Connection, Seen, Upstream, address, ask, eventually, get, serve};

const OK: &str = "HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nok";

/// An address at which nobody listens.
fn nobody() -> String {
    let listener = TcpListener::bind("127.0.0.1:0").expect("a port is free");
    listener.local_addr().expect("it is bound").to_string()
}

#[test]
fn an_upstream_sees_who_asks_and_nothing_that_was_for_the_connection_only() {
    let (upstream, seen) = Upstream::recording(OK);
    let running =
        serve(&format!("[proxy.app]\ntarget = \"http://{}\"\nheaders = {{ X-Site = \"app\" }}\n", upstream.address));
    let headers = concat!(
        "Connection: X-Secret, keep-alive\r\nX-Secret: 1\r\nKeep-Alive: 5\r\nTE: trailers\r\nProxy-Authorization: x\r\n",
        "X-Forwarded-For: 6.6.6.6\r\nX_Forwarded_For: 6.6.6.6\r\nForwarded: for=6.6.6.6\r\nX-Own: kept\r\nX-Request-Id: r-1\r\n",
    );
    let mut connection = Connection::open(address(&running));
    connection.send(format!("GET /app/a%20b?c=d HTTP/1.1\r\nHost: localhost\r\n{headers}\r\n"));
    let answer = connection.answer();
    assert_eq!((answer.status, answer.text().as_str(), answer.header("x-request-id")), (200, "ok", Some("r-1")));
    let seen = seen.lock().expect("nothing panics here")[0].clone();
    assert_eq!(seen.first_line(), "GET /app/a%20b?c=d HTTP/1.1");
    for gone in ["connection", "x-secret", "keep-alive", "te", "proxy-authorization", "x_forwarded_for"] {
        assert_eq!(seen.header(gone), None, "{gone}: {}", seen.head);
    }
    for (name, value) in [
        ("host", "localhost"),
        ("x-forwarded-for", "127.0.0.1"),
        ("x-forwarded-host", "localhost"),
        ("x-forwarded-proto", "http"),
        ("forwarded", "for=127.0.0.1;host=\"localhost\";proto=http"),
        ("x-own", "kept"),
        ("x-site", "app"),
        ("x-request-id", "r-1"),
    ] {
        assert_eq!(seen.header(name), Some(value), "{name}");
    }
}

#[test]
fn a_proxy_in_front_is_believed_only_if_it_is_trusted() {
    let (upstream, seen) = Upstream::recording(OK);
    let running =
        serve(&format!("trusted_proxies = [\"127.0.0.0/8\"]\n[proxy.app]\ntarget = \"http://{}\"\n", upstream.address));
    let headers = "X-Forwarded-For: 10.1.1.1\r\nX-Forwarded-Proto: https\r\nX-Forwarded-Host: shop.example\r\n";
    assert_eq!(ask(address(&running), "GET", "/app", headers, "").status, 200);
    let seen = seen.lock().expect("nothing panics here")[0].clone();
    assert_eq!(seen.header("x-forwarded-for"), Some("10.1.1.1, 127.0.0.1"));
    assert_eq!(
        (seen.header("x-forwarded-proto"), seen.header("x-forwarded-host")),
        (Some("https"), Some("shop.example"))
    );
}

#[test]
fn the_prefix_is_kept_or_stripped_and_the_longest_one_wins() {
    let (upstream, seen) = Upstream::recording(OK);
    let target = upstream.address;
    let running = serve(&format!(
        "[proxy.all]\npath = \"/\"\ntarget = \"http://{target}\"\nheaders = {{ X-Site = \"all\" }}\n\
         [proxy.cut]\npath = \"/cut\"\nstrip = true\ntarget = \"http://{target}\"\nheaders = {{ X-Site = \"cut\" }}\n\
         [proxy.host]\npath = \"/\"\nhost = \"other.example\"\ntarget = \"http://{target}\"\nhost_header = \"target\"\n\
         headers = {{ X-Site = \"host\" }}\n",
    ));
    let at = address(&running);
    let check = |target: &str, host: &str, expected: &str, site: &str| {
        let mut connection = Connection::open(at);
        connection.send(format!("GET {target} HTTP/1.1\r\nHost: {host}\r\nConnection: close\r\n\r\n"));
        assert_eq!(connection.answer().status, 200, "{target}");
        let seen = seen.lock().expect("nothing panics here").pop().expect("it has come");
        assert_eq!((seen.first_line(), seen.header("x-site")), (&*format!("GET {expected} HTTP/1.1"), Some(site)));
        seen
    };
    check("/x", "localhost", "/x", "all");
    check("/cut", "localhost", "/", "cut");
    check("/cut/", "localhost", "/", "cut");
    check("/cut/a?b", "localhost", "/a?b", "cut");
    check("/cutter", "localhost", "/cutter", "all");
    let seen = check("/api/hello", "other.example:80", "/api/hello", "host");
    assert_eq!(seen.header("host"), Some(&*target.to_string()));
    // What is answered here is not proxied.
    assert_eq!(get(at, "/api/hello").json()["data"], "hello world!");
    for path in ["/cut/../x", "/cut/%2e%2e/x", "/cut/..%2fx", "/cut/.;/x", "/cut/\\..\\x"] {
        assert_eq!(get(at, path).status, 400, "{path}");
    }
}

#[test]
fn bodies_of_all_kinds_go_both_ways() {
    let upstream = Upstream::start(|mut stream| {
        while let Some(request) = Seen::read(&mut stream) {
            let body = request.body;
            let answer = match request.head.split(' ').nth(1) {
                Some("/app/chunks") => {
                    let mut answer = b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n".to_vec();
                    for piece in body.chunks(1000) {
                        answer.extend(format!("{:x}\r\n", piece.len()).bytes());
                        answer.extend(piece);
                        answer.extend(b"\r\n");
                    }
                    answer.extend(b"0\r\n\r\n");
                    answer
                }
                Some("/app/end") => [b"HTTP/1.1 200 OK\r\n\r\n".as_slice(), &body].concat(),
                _ => [format!("HTTP/1.1 200 OK\r\nContent-Length: {}\r\n\r\n", body.len()).as_bytes(), &body].concat(),
            };
            if stream.write_all(&answer).is_err() || request.head.contains("/app/end") {
                return;
            }
        }
    });
    let running = serve(&format!("[proxy.app]\ntarget = \"http://{}\"\n", upstream.address));
    let body: Vec<u8> = (0..300_000_u32).map(|number| (number % 251) as u8).collect();
    for path in ["/app/length", "/app/chunks", "/app/end"] {
        for in_chunks in [false, true] {
            let mut connection = Connection::open(address(&running));
            let mut sender = Connection(connection.0.try_clone().expect("a socket can be cloned"));
            let sent = body.clone();
            let sending = std::thread::spawn(move || {
                if in_chunks {
                    sender
                        .send(format!("POST {path} HTTP/1.1\r\nHost: localhost\r\nTransfer-Encoding: chunked\r\n\r\n"));
                    for piece in sent.chunks(777) {
                        sender.send(format!("{:x}\r\n", piece.len())).send(piece).send("\r\n");
                    }
                    sender.send("0\r\n\r\n");
                } else {
                    let length = sent.len();
                    sender.send(format!("POST {path} HTTP/1.1\r\nHost: localhost\r\nContent-Length: {length}\r\n\r\n"));
                    sender.send(sent);
                }
            });
            let answer = connection.answer();
            sending.join().expect("it was sent");
            assert_eq!((answer.status, answer.body.len()), (200, body.len()), "{path} {in_chunks}");
            assert!(answer.body == body, "{path} {in_chunks}: the body is another");
            // The connection goes on.
            connection.send("GET /api/hello HTTP/1.1\r\nHost: localhost\r\n\r\n");
            assert_eq!(connection.answer().status, 200);
        }
    }
}

#[test]
fn what_an_upstream_says_comes_at_once() {
    let (go, gone) = mpsc::channel::<()>();
    let gone = std::sync::Mutex::new(gone);
    let upstream = Upstream::start(move |mut stream| {
        if Seen::read(&mut stream).is_some() {
            let _ = stream.write_all(b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n6\r\nfirst!\r\n");
            let _ = gone.lock().expect("it is whole").recv();
            let _ = stream.write_all(b"4\r\nlast\r\n0\r\n\r\n");
        }
    });
    let running = serve(&format!("[proxy.app]\ntarget = \"http://{}\"\n", upstream.address));
    let mut connection = Connection::open(address(&running));
    connection.send("GET /app HTTP/1.1\r\nHost: localhost\r\n\r\n");
    let mut read = Vec::new();
    while !read.ends_with(b"first!\r\n") {
        let mut byte = [0];
        connection.0.read_exact(&mut byte).expect("it comes");
        read.push(byte[0]);
    }
    go.send(()).expect("the upstream waits");
    connection.0.read_exact(&mut [0; 14]).expect("the rest comes");
}

#[test]
fn a_client_that_goes_takes_its_request_along() {
    let (told, left) = mpsc::channel();
    let told = std::sync::Mutex::new(told);
    let upstream = Upstream::start(move |mut stream| {
        if Seen::read(&mut stream).is_some() {
            told.lock().expect("it is whole").send(()).expect("the test waits");
            // The end of the connection is what it waits for.
            let _ = stream.read(&mut [0]);
            told.lock().expect("it is whole").send(()).expect("the test waits");
        }
    });
    let running = serve(&format!("[proxy.app]\ntarget = \"http://{}\"\n", upstream.address));
    let mut connection = Connection::open(address(&running));
    connection.send("GET /app HTTP/1.1\r\nHost: localhost\r\n\r\n");
    left.recv_timeout(crate::support::PATIENCE).expect("the request arrives");
    drop(connection);
    left.recv_timeout(crate::support::PATIENCE).expect("its connection is closed");
}

#[test]
fn connections_to_upstreams_are_used_again_and_one_that_was_closed_meanwhile_does_no_harm() {
    let count = Arc::new(AtomicUsize::new(0));
    let upstream = Upstream::start({
        let count = Arc::clone(&count);
        move |mut stream| {
            let number = count.fetch_add(1, Ordering::SeqCst);
            while Seen::read(&mut stream).is_some() {
                let _ = stream.write_all(OK.as_bytes());
                if number == 1 {
                    // Without a word, as servers do that have waited long enough.
                    return;
                }
            }
        }
    });
    let running = serve(&format!("[proxy.app]\ntarget = \"http://{}\"\n", upstream.address));
    let at = address(&running);
    assert_eq!(get(at, "/app").status, 200);
    assert_eq!(get(at, "/app").status, 200);
    assert_eq!(count.load(Ordering::SeqCst), 1);
    let mut both = [Connection::open(at), Connection::open(at)];
    for connection in &mut both {
        connection.send("GET /app HTTP/1.1\r\nHost: localhost\r\n\r\n");
    }
    for connection in &mut both {
        assert_eq!(connection.answer().status, 200);
    }
    for _ in 0..10 {
        assert_eq!(get(at, "/app").status, 200);
    }
}

#[test]
fn a_request_that_must_not_be_repeated_is_sent_once() {
    let count = Arc::new(AtomicUsize::new(0));
    let talk = {
        let count = Arc::clone(&count);
        move |mut stream| {
            if Seen::read(&mut stream).is_some() {
                count.fetch_add(1, Ordering::SeqCst);
            }
        }
    };
    let (first, second) = (Upstream::start(talk.clone()), Upstream::start(talk));
    let running =
        serve(&format!("[proxy.app]\ntargets = [\"http://{}\", \"http://{}\"]\n", first.address, second.address));
    let at = address(&running);
    assert_eq!(ask(at, "POST", "/app", "", "x=1").status, 502);
    assert_eq!(count.swap(0, Ordering::SeqCst), 1);
    assert_eq!(get(at, "/app").status, 502);
    assert_eq!(count.load(Ordering::SeqCst), 2);
}

#[test]
fn a_body_without_data_ends_at_the_second_target_as_well() {
    let (upstream, seen) = Upstream::recording(OK);
    let closing = Upstream::start(|mut stream| drop(Seen::read(&mut stream)));
    let running =
        serve(&format!("[proxy.app]\ntargets = [\"http://{}\", \"http://{}\"]\n", closing.address, upstream.address));
    for _ in 0..2 {
        let mut connection = Connection::open(address(&running));
        connection.send("PUT /app HTTP/1.1\r\nHost: localhost\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n\r\n");
        assert_eq!(connection.answer().status, 200);
    }
    assert_eq!(seen.lock().expect("nothing panics here").len(), 2);
}

#[test]
fn what_nobody_has_seen_goes_to_another_target() {
    let (upstream, seen) = Upstream::recording(OK);
    let running =
        serve(&format!("[proxy.app]\ntargets = [\"http://{}\", \"http://{}\"]\n", nobody(), upstream.address));
    for _ in 0..4 {
        assert_eq!(ask(address(&running), "POST", "/app", "", "x=1").status, 200);
    }
    assert_eq!(seen.lock().expect("nothing panics here").len(), 4);
}

#[test]
fn a_target_that_fails_is_left_alone_and_asked_again_later() {
    let is_well = Arc::new(std::sync::atomic::AtomicBool::new(false));
    let count = Arc::new(AtomicUsize::new(0));
    let upstream = Upstream::start({
        let (is_well, count) = (Arc::clone(&is_well), Arc::clone(&count));
        move |mut stream| {
            while Seen::read(&mut stream).is_some() {
                count.fetch_add(1, Ordering::SeqCst);
                let status = if is_well.load(Ordering::SeqCst) { "200 OK" } else { "503 Service Unavailable" };
                let _ = stream.write_all(format!("HTTP/1.1 {status}\r\nContent-Length: 0\r\n\r\n").as_bytes());
            }
        }
    });
    let running = serve(&format!(
        "[proxy.app]\ntarget = \"http://{}\"\nbreaker = {{ open_for = \"300ms\" }}\n",
        upstream.address
    ));
    let at = address(&running);
    assert_eq!((get(at, "/app").status, get(at, "/app").status), (503, 503));
    let refused = get(at, "/app");
    assert_eq!((refused.status, refused.header("retry-after")), (503, Some("1")));
    assert_eq!(count.load(Ordering::SeqCst), 2);
    is_well.store(true, Ordering::SeqCst);
    eventually("it is asked again", || get(at, "/app").status == 200);
    assert_eq!(count.load(Ordering::SeqCst), 3);
}

#[test]
fn errors_of_clients_do_not_open_the_breaker() {
    let (upstream, seen) = Upstream::recording("HTTP/1.1 404 Not Found\r\nContent-Length: 0\r\n\r\n");
    let running = serve(&format!("[proxy.app]\ntarget = \"http://{}\"\n", upstream.address));
    for _ in 0..20 {
        assert_eq!(get(address(&running), "/app").status, 404);
    }
    assert_eq!(seen.lock().expect("nothing panics here").len(), 20);
}

#[test]
fn where_no_target_can_be_asked_a_function_answers_or_what_was_good_before() {
    let listener = TcpListener::bind("127.0.0.1:0").expect("a port is free");
    let at_first = listener.local_addr().expect("it is bound");
    let upstream = Upstream::on(listener, |mut stream| {
        while Seen::read(&mut stream).is_some() {
            let _ = stream.write_all(
                b"HTTP/1.1 200 OK\r\nContent-Type: text/plain\r\nContent-Length: 4\r\nConnection: close\r\n\r\ngood",
            );
        }
    });
    let running = serve(&format!(
        "[functions.sorry]\ncommand = [\"/bin/cat\"]\n\
         [proxy.stale]\ntarget = \"http://{at_first}\"\nstale = \"1h\"\n\
         [proxy.sorry]\ntarget = \"http://{}\"\nfallback = \"sorry\"\n",
        nobody()
    ));
    let at = address(&running);
    assert_eq!(get(at, "/stale/x").text(), "good");
    drop(upstream);
    for _ in 0..4 {
        let stale = get(at, "/stale/x");
        assert_eq!(
            (stale.status, stale.text().as_str(), stale.header("content-type")),
            (200, "good", Some("text/plain"))
        );
        assert!(stale.header("warning").is_some_and(|warning| warning.starts_with("110")), "{stale:?}");
        assert!(stale.header("age").is_some());
    }
    assert!(matches!(get(at, "/stale/y").status, 502 | 503));
    assert!(matches!(ask(at, "GET", "/stale/x", "Cookie: a=b\r\n", "").status, 502 | 503));
    assert_eq!(get(at, "/sorry/y").json()["data"]["args"]["path"], "/sorry/y");
}

#[test]
fn an_upstream_that_dies_in_the_middle_cuts_the_answer_off() {
    let upstream = Upstream::start(|mut stream| {
        if let Some(request) = Seen::read(&mut stream) {
            let framing =
                if request.head.contains("chunks") { "Transfer-Encoding: chunked" } else { "Content-Length: 100" };
            let _ = stream.write_all(format!("HTTP/1.1 200 OK\r\n{framing}\r\n\r\n4\r\nhalf\r\n").as_bytes());
        }
    });
    let running = serve(&format!("[proxy.app]\ntarget = \"http://{}\"\n", upstream.address));
    for path in ["/app/length", "/app/chunks"] {
        let mut connection = Connection::open(address(&running));
        connection.send(format!("GET {path} HTTP/1.1\r\nHost: localhost\r\n\r\n"));
        let rest = String::from_utf8_lossy(&connection.rest()).into_owned();
        assert!(rest.starts_with("HTTP/1.1 200 OK\r\n") && rest.contains("half"), "{path}: {rest}");
        // What was cut off must not look whole.
        assert!(!rest.ends_with("0\r\n\r\n"), "{path}: {rest}");
    }
}

#[test]
fn an_upstream_that_says_nothing_is_given_up() {
    let upstream = Upstream::start(|mut stream| {
        let _ = Seen::read(&mut stream);
        let _until_it_is_closed = stream.read(&mut [0]);
    });
    let running = serve(&format!(
        "[proxy.app]\ntarget = \"http://{}\"\nfirst_byte_timeout = \"50ms\"\nretries = 0\n",
        upstream.address
    ));
    let answer = get(address(&running), "/app");
    assert_eq!(answer.status, 504);
    assert!(answer.text().contains("its answer did not come in time"), "{}", answer.text());
}

#[test]
fn a_connection_that_is_upgraded_becomes_a_tunnel_that_a_reload_does_not_cut() {
    let upstream = Upstream::start(|mut stream| {
        let Some(request) = Seen::read(&mut stream) else { return };
        assert_eq!((request.header("upgrade"), request.header("connection")), (Some("echo"), Some("upgrade")));
        let _ = stream.write_all(b"HTTP/1.1 101 Switching Protocols\r\nUpgrade: echo\r\nConnection: upgrade\r\n\r\n");
        let mut bytes = [0; 1024];
        while let Ok(count @ 1..) = stream.read(&mut bytes) {
            let _ = stream.write_all(&bytes[..count]);
        }
        let _ = stream.shutdown(Shutdown::Write);
    });
    let site = format!("[proxy.app]\ntarget = \"http://{}\"\nupgrades = [\"echo\"]\n", upstream.address);
    let running = serve(&site);
    let mut connection = Connection::open(address(&running));
    connection
        .send("GET /app HTTP/1.1\r\nHost: localhost\r\nConnection: keep-alive, Upgrade\r\nUpgrade: echo\r\n\r\nearly");
    let answer = connection.answer();
    assert_eq!((answer.status, answer.header("upgrade")), (101, Some("echo")));
    let mut read = [0; 5];
    connection.0.read_exact(&mut read).expect("it comes back");
    assert_eq!(&read, b"early");
    let config = cerbas::Config::from_text(
        "[http]\nlisten = [\"127.0.0.1:0\"]\n",
        "cerbas.toml",
        std::iter::empty::<(&str, &str)>(),
    );
    running.reconfigure(config.expect("it is one")).expect("it is taken");
    eventually("the proxy is gone", || get(address(&running), "/app").status == 404);
    connection.send("later");
    connection.0.read_exact(&mut read).expect("it comes back");
    assert_eq!(&read, b"later");
    connection.finish();
    assert!(connection.rest().is_empty());
}

#[test]
fn a_tunnel_does_not_hold_up_the_end_of_the_daemon() {
    let upstream = Upstream::start(|mut stream| {
        let _ = Seen::read(&mut stream);
        let _ = stream.write_all(b"HTTP/1.1 101 Switching Protocols\r\nUpgrade: x\r\nConnection: upgrade\r\n\r\n");
        let _until_it_is_closed = stream.read(&mut [0]);
    });
    let running = serve(&format!("[proxy.app]\ntarget = \"http://{}\"\nupgrades = [\"x\"]\n", upstream.address));
    let mut connection = Connection::open(address(&running));
    connection.send("GET /app HTTP/1.1\r\nHost: localhost\r\nConnection: upgrade\r\nUpgrade: x\r\n\r\n");
    assert_eq!(connection.answer().status, 101);
    // Its time for that is longer than this test would wait.
    let stopping = std::thread::spawn(move || running.stop());
    assert!(connection.rest().is_empty());
    assert!(stopping.join().expect("it stops").is_clean());
}

#[test]
fn a_site_that_is_not_public_asks_for_a_token_and_keeps_it() {
    let (upstream, seen) = Upstream::recording(OK);
    let hash = cerbas::gateway::TokenHash::of("secret-token-of-the-web");
    let running = serve(&format!(
        "[http.tokens.web]\nhash = \"{hash}\"\nuser = \"tom\"\n[proxy.app]\ntarget = \"http://{0}\"\n\
         [proxy.open]\ntarget = \"http://{0}\"\npublic = true\n",
        upstream.address
    ));
    let at = address(&running);
    assert_eq!(get(at, "/app").status, 401);
    assert_eq!(ask(at, "GET", "/app", "Authorization: Bearer secret-token-of-the-web\r\n", "").status, 200);
    let inside = seen.lock().expect("nothing panics here").pop().expect("it has come");
    assert_eq!((inside.header("authorization"), inside.header("x-forwarded-user")), (None, Some("tom")));
    assert_eq!(
        ask(at, "GET", "/open", "Authorization: Bearer of-the-app\r\nX-Forwarded-User: eve\r\n", "").status,
        200
    );
    let open = seen.lock().expect("nothing panics here").pop().expect("it has come");
    assert_eq!((open.header("authorization"), open.header("x-forwarded-user")), (Some("Bearer of-the-app"), None));
}

#[test]
fn health_checks_take_a_target_out_and_bring_it_back() {
    let upstream = |name: &'static str| {
        let is_well = Arc::new(std::sync::atomic::AtomicBool::new(true));
        let upstream = Upstream::start({
            let is_well = Arc::clone(&is_well);
            move |mut stream| {
                while let Some(request) = Seen::read(&mut stream) {
                    let is_check = request.first_line().contains("/health");
                    let status = if is_check && !is_well.load(Ordering::SeqCst) { "500 No" } else { "200 OK" };
                    let _ =
                        stream.write_all(format!("HTTP/1.1 {status}\r\nContent-Length: 1\r\n\r\n{name}").as_bytes());
                }
            }
        });
        (upstream, is_well)
    };
    let ((first, first_well), (second, second_well)) = (upstream("1"), upstream("2"));
    let running = serve(&format!(
        "[proxy.app]\ntargets = [\"http://{}\", \"http://{}\"]\nhealth = {{ path = \"/health\", interval = \"100ms\", fails = 1, passes = 1 }}\n",
        first.address, second.address
    ));
    let at = address(&running);
    let who = || (0..4).map(|_| get(at, "/app").text()).collect::<String>();
    assert!(who().contains('1') && who().contains('2'));
    first_well.store(false, Ordering::SeqCst);
    eventually("only the other is asked", || who() == "2222");
    // Both are unwell: the checks may be what is wrong.
    second_well.store(false, Ordering::SeqCst);
    eventually("both are asked", || who().contains('1') && who().contains('2'));
    first_well.store(true, Ordering::SeqCst);
    eventually("only the one that is well is asked", || who() == "1111");
}
