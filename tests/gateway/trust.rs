//! What a proxied request can do that its site does not allow: nothing, however it is spelt.

use crate::support::{Connection, Upstream, address, ask, get, serve};

const OK: &str = "HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nok";

const TOKEN: &str = "secret-token-of-the-web";

/// `[http.tokens.web]`, for [`TOKEN`].
fn token() -> String {
    format!("[http.tokens.web]\nhash = \"{}\"\n", cerbas::gateway::TokenHash::of(TOKEN))
}

#[test]
fn one_form_of_a_path_chooses_the_site_and_is_what_the_upstream_gets() {
    let (upstream, seen) = Upstream::recording(OK);
    let target = upstream.address;
    let running = serve(&format!(
        "{}[proxy.pub]\npath = \"/pub\"\npublic = true\ntarget = \"http://{target}\"\n\
         [proxy.app]\npath = \"/app\"\npublic = true\ntarget = \"http://{target}\"\n\
         [proxy.admin]\npath = \"/app/admin\"\ntarget = \"http://{target}\"\n",
        token()
    ));
    let at = address(&running);
    let seen = || seen.lock().expect("nothing panics here").pop().map(|seen| seen.first_line().to_owned());
    // Out of a site's prefix.
    for path in [
        "/pub/%2e%2e/secret.txt",
        "/pub/.%2e/secret.txt",
        "/pub/%2E%2E/secret.txt",
        "/pub/x%2f%2e%2e%2f%2e%2e%2fsecret.txt",
        "/pub/.%2e%2fsecret.txt",
        "/pub/%2e./secret.txt",
        "/pub/..;x/secret.txt",
        "/pub/%252e%252e%252fsecret.txt",
        "/pub/a%5c..%5csecret.txt",
        "/pub/a%00",
        "/pub/%zz",
    ] {
        assert_eq!((get(at, path).status, seen()), (400, None), "{path}");
    }
    // Past a site's token.
    for path in ["/app/admin/i.txt", "/app/%61dmin/i.txt", "/app//admin/i.txt", "//app/admin", "/%61pp///%61dmin/"] {
        assert_eq!((get(at, path).status, seen()), (401, None), "{path}");
    }
    assert_eq!((get(at, "/app/admin%2fi.txt").status, seen()), (400, None));
    for (path, expected) in [
        ("/pub/%61//b?x=%2e%2e//y", "/pub/a/b?x=%2e%2e//y"),
        ("/%70ub/a%20b/%e4", "/pub/a%20b/%E4"),
        ("/app/admin.html?", "/app/admin.html?"),
    ] {
        assert_eq!(get(at, path).status, 200, "{path}");
        assert_eq!(seen(), Some(format!("GET {expected} HTTP/1.1")));
    }
}

#[test]
fn a_site_that_takes_encoded_slashes_gets_them_unless_they_lead_to_another_site() {
    let (upstream, seen) = Upstream::recording(OK);
    let target = upstream.address;
    let running = serve(&format!(
        "{}[proxy.app]\npath = \"/app\"\npublic = true\nencoded_slashes = true\ntarget = \"http://{target}\"\n\
         [proxy.admin]\npath = \"/app/admin\"\ntarget = \"http://{target}\"\n",
        token()
    ));
    let at = address(&running);
    assert_eq!(get(at, "/app/id/a%2fb").status, 200);
    let seen = || seen.lock().expect("nothing panics here").pop().map(|seen| seen.first_line().to_owned());
    assert_eq!(seen().as_deref(), Some("GET /app/id/a%2Fb HTTP/1.1"));
    for path in ["/app/admin%2fi.txt", "/app%2fadmin/i.txt", "/app/x%2f..%2fy", "/app/a%5cb", "/app/a%252fb"] {
        assert_ne!(get(at, path).status, 200, "{path}");
        assert_eq!(seen(), None, "{path}");
    }
}

#[test]
fn a_connection_becomes_nothing_that_is_http_itself_and_only_what_its_site_allows() {
    let (upstream, seen) = Upstream::recording(OK);
    let running = serve(&format!("[proxy.app]\ntarget = \"http://{}\"\n", upstream.address));
    for (offered, expected) in [
        ("h2c", None),
        ("websocket, h2c", Some("websocket")),
        ("h2c, WebSocket", Some("WebSocket")),
        ("HTTP/2.0", None),
        ("TLS/1.2, HTTP/1.1", None),
        ("echo", None),
    ] {
        let mut connection = Connection::open(address(&running));
        connection.send(format!(
            "GET /app HTTP/1.1\r\nHost: localhost\r\nConnection: Upgrade, HTTP2-Settings\r\nUpgrade: {offered}\r\n\
             HTTP2-Settings: AAMAAABkAARAAAAAAAIAAAAA\r\n\r\n"
        ));
        assert_eq!(connection.answer().status, 200, "{offered}");
        let seen = seen.lock().expect("nothing panics here").pop().expect("it has come");
        assert_eq!((seen.header("upgrade"), seen.header("http2-settings")), (expected, None), "{offered}");
    }
}

#[test]
fn an_upstream_that_goes_on_in_http_2_although_nobody_may_is_cut_off() {
    let (upstream, _seen) =
        Upstream::recording("HTTP/1.1 101 Switching Protocols\r\nUpgrade: h2c\r\nConnection: upgrade\r\n\r\n");
    for offered in ["websocket", "h2c", "websocket, h2c"] {
        let running = serve(&format!("[proxy.app]\ntarget = \"http://{}\"\n", upstream.address));
        let headers = format!("Connection: Upgrade\r\nUpgrade: {offered}\r\n");
        let mut connection = Connection::open(address(&running));
        connection.send(format!("GET /app HTTP/1.1\r\nHost: localhost\r\n{headers}\r\n"));
        assert_eq!(connection.answer().status, 502, "{offered}");
    }
}

#[test]
fn what_the_operator_tells_an_upstream_the_client_cannot_say_first() {
    let (upstream, seen) = Upstream::recording(OK);
    let running = serve(&format!(
        "[proxy.app]\ntarget = \"http://{}\"\nheaders = {{ X-Role = \"guest\", Authorization = \"Bearer upstream\" }}\n",
        upstream.address
    ));
    let headers = "X-Role: admin\r\nx_role: admin\r\nX_Role: root\r\nAuthorization: Bearer mine\r\nX-Other: kept\r\n";
    assert_eq!(ask(address(&running), "GET", "/app", headers, "").status, 200);
    let seen = seen.lock().expect("nothing panics here")[0].clone();
    let lines = |name: &str| {
        let lines = seen.head.lines().filter_map(|line| line.split_once(": "));
        let lines = lines.filter(|(known, _)| known.to_ascii_lowercase().replace('_', "-") == name);
        lines.map(|(_, value)| value.to_owned()).collect::<Vec<_>>()
    };
    assert_eq!(lines("x-role"), ["guest"]);
    assert_eq!(lines("authorization"), ["Bearer upstream"]);
    assert_eq!(lines("x-other"), ["kept"]);
}

#[test]
fn all_lines_of_a_forwarded_header_count_in_their_order() {
    let (upstream, seen) = Upstream::recording(OK);
    let running =
        serve(&format!("trusted_proxies = [\"127.0.0.0/8\"]\n[proxy.app]\ntarget = \"http://{}\"\n", upstream.address));
    let headers = "X-Forwarded-For: 6.6.6.6\r\nX-Forwarded-Proto: gopher\r\nForwarded: for=6.6.6.6\r\n\
                   X-Forwarded-For: 10.1.2.3\r\nX-Forwarded-Proto: https\r\nForwarded: for=10.1.2.3\r\n";
    assert_eq!(ask(address(&running), "GET", "/app", headers, "").status, 200);
    let seen = seen.lock().expect("nothing panics here")[0].clone();
    assert_eq!(seen.header("x-forwarded-for"), Some("6.6.6.6, 10.1.2.3, 127.0.0.1"));
    assert_eq!(seen.header("x-forwarded-proto"), Some("https"));
    let own = "for=127.0.0.1;host=\"localhost\";proto=http";
    assert_eq!(seen.header("forwarded").map(str::to_owned), Some(format!("for=6.6.6.6, for=10.1.2.3, {own}")));
}

#[test]
fn a_token_of_ours_never_leaves_also_where_none_was_asked_for() {
    let (upstream, seen) = Upstream::recording(OK);
    let running = serve(&format!("{}[proxy.open]\ntarget = \"http://{}\"\npublic = true\n", token(), upstream.address));
    // anyone:secret-token-of-the-web
    let basic = "Basic YW55b25lOnNlY3JldC10b2tlbi1vZi10aGUtd2Vi";
    for (header, expected) in [
        (format!("Authorization: Bearer {TOKEN}"), None),
        (format!("Authorization: {basic}"), None),
        (format!("Authorization: Bearer other\r\nAuthorization: Bearer {TOKEN}"), None),
        ("Authorization: Bearer other".to_owned(), Some("Bearer other")),
    ] {
        assert_eq!(ask(address(&running), "GET", "/open", &format!("{header}\r\n"), "").status, 200);
        let seen = seen.lock().expect("nothing panics here").pop().expect("it has come");
        assert_eq!(seen.header("authorization"), expected, "{header}");
        assert!(!seen.head.contains(TOKEN) && !seen.head.contains("YW55b25l"), "{}", seen.head);
    }
}

#[test]
fn an_answer_under_an_idempotency_key_is_for_whom_it_was_and_for_nobody_who_may_not_ask() {
    let running = serve(
        "source = \"web\"\n[functions.who]\nbuiltin = \"echo\"\nusers = [\"alice\", \"bob\"]\nsources = [\"web\", \"app\"]\n",
    );
    let at = address(&running);
    let call = |user: &str, source: &str, message: &str| {
        let body = format!(
            r#"{{"request":{{"func":"who","user":"{user}","source":"{source}","args":{{"message":"{message}"}}}}}}"#
        );
        ask(at, "POST", "/api/general", "Idempotency-Key: k1\r\nContent-Type: application/json\r\n", &body)
    };
    let replayed = |answer: &crate::support::Answer| answer.header("idempotency-replayed").is_some();
    let first = call("alice", "web", "secret");
    assert_eq!((first.status, replayed(&first)), (200, false));
    let again = call("alice", "web", "secret");
    assert_eq!((again.json()["data"].as_str(), replayed(&again)), (Some("secret"), true));
    for (user, source) in [("bob", "web"), ("alice", "app")] {
        let other = call(user, source, "secret");
        assert_eq!((other.status, replayed(&other)), (200, false), "{user} {source}");
    }
    for (user, source) in [("eve", "web"), ("alice", "evil")] {
        assert_eq!(call(user, source, "secret").status, 403, "{user} {source}");
    }
}
