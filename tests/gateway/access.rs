//! Who is let in.

use cerbas::{Call, Config, Server, StartError};
use serde_json::{Map, Value, json};

use crate::support::{address, ask, get, serve, server};

/// Hashes of `secret-token-of-the-web` and `secret-token-of-ops`.
const TOKENS: &str = "
[http.tokens.web]
hash = \"sha256:WEB\"
user = \"tom\"
source = \"web\"
[http.tokens.ops]
hash = \"sha256:OPS\"
";

fn tokens() -> String {
    let hash = |token: &str| cerbas::gateway::TokenHash::of(token).to_string();
    TOKENS.replace("sha256:WEB", &hash("secret-token-of-the-web")).replace("sha256:OPS", &hash("secret-token-of-ops"))
}

#[test]
fn who_has_a_token_is_let_in_as_whom_it_stands_for() {
    let running = server(&tokens())
        .function("who", |call: &Call, _: Map<String, Value>| Ok(json!([call.user, call.source])))
        .start()
        .expect("it starts");
    let at = address(&running);
    let refused = get(at, "/api/who");
    assert_eq!(refused.status, 401);
    assert!(refused.header("www-authenticate").is_some_and(|value| value.contains("Basic")));
    assert_eq!(ask(at, "GET", "/api/who", "Authorization: Bearer wrong\r\n", "").status, 401);
    let web = ask(at, "GET", "/api/who", "Authorization: Bearer secret-token-of-the-web\r\n", "");
    assert_eq!(web.json()["data"], json!(["tom", "web"]));
    // ops:secret-token-of-ops
    let ops = ask(at, "GET", "/api/who", "Authorization: Basic b3BzOnNlY3JldC10b2tlbi1vZi1vcHM=\r\n", "");
    assert_eq!(ops.json()["data"], json!([null, "web"]));
    let body = "{\"request\": {\"func\": \"who\", \"user\": \"eve\"}}";
    let other = ask(at, "POST", "/api/general", "Authorization: Bearer secret-token-of-the-web\r\n", body);
    assert_eq!((other.status, &other.json()["data"]), (403, &json!("cerbas authorization - invalid user")));
    for open in ["/livez", "/readyz"] {
        assert_eq!(get(at, open).status, 200, "{open}");
    }
    for closed in ["/metrics", "/api/nodes", "/", "/api/status/x"] {
        assert_eq!(get(at, closed).status, 401, "{closed}");
    }
}

#[test]
fn the_lists_of_who_may_call_hold_over_http_as_well() {
    let running = serve("[functions.private]\nbuiltin = \"hello\"\nusers = [\"tom\"]\n[auth]\nsources = [\"web\"]\n");
    let at = address(&running);
    assert_eq!(get(at, "/api/hello").status, 200);
    let refused = get(at, "/api/private");
    assert_eq!((refused.status, &refused.json()["data"]), (403, &json!("cerbas authorization - invalid user")));
    let general = |request: &str| ask(at, "POST", "/api/general", "", &format!("{{\"request\": {request}}}"));
    assert_eq!(general("{\"func\": \"private\", \"user\": \"tom\"}").status, 200);
    assert_eq!(general("{\"func\": \"hello\", \"source\": \"eve\"}").status, 403);
}

#[test]
fn an_address_that_others_can_reach_needs_tokens() {
    let read = |http: &str| {
        let text = format!("[redis]\nserver = \"none\"\n[http]\n{http}\n");
        Config::from_text(&text, "cerbas.toml", std::iter::empty::<(&str, &str)>())
    };
    let faults = read("listen = [\"0.0.0.0:0\"]").expect_err("it is open to all").to_string();
    assert!(
        faults.contains("cerbas.toml:4:1: http.listen: 0.0.0.0:0: others than this machine can reach it"),
        "{faults}"
    );
    let config = read(&format!("listen = [\"0.0.0.0:0\"]\n{}", tokens())).expect("it has tokens");
    let running = Server::new(config).start().expect("it starts");
    assert_eq!(get(address(&running), "/api/hello").status, 401);
}

#[test]
fn an_address_that_is_taken_is_told() {
    let running = serve("");
    let text = format!("[redis]\nserver = \"none\"\n[http]\nlisten = [\"{}\"]\n", address(&running));
    let config = Config::from_text(&text, "cerbas.toml", std::iter::empty::<(&str, &str)>()).expect("it is one");
    match Server::new(config).start() {
        Err(StartError::Gateway(error)) => {
            assert!(error.to_string().starts_with(&address(&running).to_string()), "{error}");
        }
        Err(error) => panic!("{error}"),
        Ok(_) => panic!("two daemons listen at one address"),
    }
}

#[test]
fn pages_of_other_sites_cannot_ask_unless_they_are_listed() {
    let running = serve("origins = [\"https://app.example.org\"]\n");
    let at = address(&running);
    let from = |headers: &str| ask(at, "POST", "/api/sum", headers, "{\"a\": 1, \"b\": 2}");
    assert_eq!(from("Origin: https://evil.example\r\n").status, 403);
    assert_eq!(from("Sec-Fetch-Site: cross-site\r\n").status, 403);
    assert_eq!(from("Origin: null\r\n").status, 403);
    let listed = from("Origin: https://app.example.org\r\n");
    assert_eq!((listed.status, listed.header("access-control-allow-origin")), (200, Some("https://app.example.org")));
    let preflight = "Origin: https://app.example.org\r\nAccess-Control-Request-Method: POST\r\n";
    let allowed = ask(at, "OPTIONS", "/api/sum", preflight, "");
    assert_eq!(allowed.status, 204);
    assert!(allowed.header("access-control-allow-methods").is_some_and(|methods| methods.contains("POST")));
    assert_eq!(ask(at, "OPTIONS", "/api/sum", &preflight.replace("app.", "evil."), "").status, 403);
}

#[test]
fn a_name_that_somebody_made_point_here_is_refused() {
    let running = serve("hosts = [\"tasks.example.org\"]\n");
    let status = |host: &str| {
        let mut connection = crate::support::Connection::open(address(&running));
        connection.send(format!("GET /api/hello HTTP/1.1\r\nHost: {host}\r\nConnection: close\r\n\r\n"));
        connection.answer().status
    };
    assert_eq!(status("evil.example:4455"), 421);
    assert_eq!(status("tasks.example.org"), 200);
    assert_eq!(status("[::1]:4455"), 200);
}
