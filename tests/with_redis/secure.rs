//! Ways in that are not open to everybody: TLS, users who may do little, sockets.

use std::path::Path;
use std::process::Command;

use cerbas::broker::{ScratchRedis, Target, TargetOptions};
use cerbas::{Client, Server};
use serde_json::json;

use super::servers::free_port;
use super::world::{Folder, Foreign, PATIENCE, config, eventually, scratch};

/// Makes a certificate authority, a certificate of a server at 127.0.0.1 and one of a client, as PEM files in `folder`.
fn make_certificates(folder: &Path) {
    let openssl = |arguments: &str| {
        let output = Command::new("openssl").args(arguments.split(' ')).current_dir(folder).output();
        let output = output.expect("openssl is installed");
        assert!(output.status.success(), "openssl {arguments}: {}", String::from_utf8_lossy(&output.stderr));
    };
    std::fs::write(folder.join("server.ext"), "subjectAltName=IP:127.0.0.1").expect("a file can be written");
    std::fs::write(folder.join("client.ext"), "extendedKeyUsage=clientAuth").expect("a file can be written");
    openssl(
        "req -x509 -newkey ec -pkeyopt ec_paramgen_curve:prime256v1 -nodes -days 2 -keyout ca.key -out ca.pem -subj /CN=ca",
    );
    for name in ["server", "client"] {
        openssl(&format!(
            "req -newkey ec -pkeyopt ec_paramgen_curve:prime256v1 -nodes -keyout {name}.key -out {name}.csr -subj /CN={name}"
        ));
        openssl(&format!(
            "x509 -req -in {name}.csr -CA ca.pem -CAkey ca.key -CAcreateserial -days 2 -out {name}.pem -extfile {name}.ext"
        ));
    }
}

fn tls_redis(folder: &Path, asks_for_certificates: bool) -> (ScratchRedis, String) {
    make_certificates(folder);
    let port = free_port();
    let file = |name: &str| folder.join(name).display().to_string();
    let lines = [
        "save \"\"".to_owned(),
        format!("tls-port {port}"),
        format!("tls-ca-cert-file {}", file("ca.pem")),
        format!("tls-cert-file {}", file("server.pem")),
        format!("tls-key-file {}", file("server.key")),
        format!("tls-auth-clients {}", if asks_for_certificates { "yes" } else { "no" }),
    ];
    let lines: Vec<&str> = lines.iter().map(String::as_str).collect();
    (ScratchRedis::start_with(&lines).expect("redis-server starts"), format!("rediss://127.0.0.1:{port}/1"))
}

#[test]
fn over_tls_requests_are_served_with_certificates_on_both_sides() {
    let folder = Folder::new();
    let (_redis, url) = tls_redis(folder.path(), true);
    let file = |name: &str| folder.path().join(name);
    let mut config = config(&url);
    config.redis.ca_file = Some(file("ca.pem"));
    config.redis.cert_file = Some(file("client.pem"));
    config.redis.key_file = Some(file("client.key"));
    let daemon = Server::new(config.clone()).start().expect("the daemon starts");
    let read = |name: &str| std::fs::read(file(name)).expect("it was made");
    let options = TargetOptions {
        ca: Some(read("ca.pem")),
        identity: Some((read("client.pem"), read("client.key"))),
        ..TargetOptions::default()
    };
    let target = Target::with(&url, &options).expect("a URL");
    let mut client = Client::connect_with(&target, "CERBAS").expect("Redis is there").patience(PATIENCE);
    for a in 0..100 {
        assert_eq!(client.call("sum", json!({"a": a, "b": 1})), Ok(json!(a + 1).into()));
    }
    daemon.stop();

    config.redis.cert_file = None;
    config.redis.key_file = None;
    let refused = Server::new(config).start().err().map(|error| error.to_string());
    // The server says so after the handshake, so it may also be taken for a connection that broke.
    assert!(refused.is_none_or(|error| error.contains("ertificate")), "a client without a certificate is kept out");
}

#[test]
fn a_server_that_nobody_vouches_for_is_not_trusted() {
    let folder = Folder::new();
    let (_redis, url) = tls_redis(folder.path(), false);
    let error = Server::new(config(&url)).start().expect_err("it does not start").to_string();
    assert!(error.contains("rediss://") && error.contains("certificate"), "{error}");
    let mut with_missing_file = config(&url);
    with_missing_file.redis.ca_file = Some("/nowhere/ca.pem".into());
    let error = Server::new(with_missing_file).start().expect_err("it does not start").to_string();
    assert!(error.contains("ca_file /nowhere/ca.pem: No such file"), "{error}");
}

/// The least that a user needs, as the README says.
const RULES: &str = "on >secret resetchannels ~CERBAS* &CERBAS* &MSGPACK:CERBAS* \
                     +@all -@admin -@dangerous +info +role +client|unblock";

#[test]
fn a_user_who_may_touch_only_our_keys_is_enough() {
    let redis = scratch();
    let mut admin = Foreign::connect(&redis.url());
    let rules: Vec<&str> = RULES.split_whitespace().collect();
    let () = admin.ask(&[&["ACL", "SETUSER", "cerbas"], rules.as_slice()].concat());
    let mut daemon_config = config(&redis.url());
    daemon_config.redis.username = Some("cerbas".to_owned());
    daemon_config.redis.password = Some("secret".to_owned());
    daemon_config.server.lease = std::time::Duration::from_secs(1);
    let daemon = Server::new(daemon_config.clone()).start().expect("the daemon starts");
    let target = Target::new(&redis.url(), Some("cerbas"), Some("secret")).expect("a URL");
    let mut client = Client::connect_with(&target, "CERBAS").expect("Redis is there").patience(PATIENCE);
    assert_eq!(client.call("sum", json!({"a": 1, "b": 2})), Ok(json!(3).into()));
    let number = admin.try_send_numbered(&json!({"func": "hello", "delay": 1})).expect("Redis is there");
    assert_eq!(admin.answer(&number)["status"], "ok");
    let mut unique = client.unique("key", true);
    assert_eq!(unique.call("hello", json!({})), Ok(json!("hello world!").into()));
    eventually("its lease is renewed", || daemon.nodes().is_ok_and(|nodes| nodes.len() == 1));
    assert!(daemon.stop().is_clean());

    daemon_config.redis.password = Some("wrong".to_owned());
    let error = Server::new(daemon_config).start().expect_err("it does not start").to_string();
    assert!(error.contains("authentication failed") && !error.contains("wrong"), "{error}");
}

#[test]
fn a_socket_is_as_good_as_a_port() {
    let folder = Folder::new();
    let socket = folder.path().join("redis.sock").display().to_string();
    let _redis =
        ScratchRedis::start_with(&["save \"\"", &format!("unixsocket {socket}")]).expect("redis-server starts");
    let url = format!("unix://{socket}?db=1");
    let daemon = Server::new(config(&url)).start().expect("the daemon starts");
    let mut client = Client::connect(&url).expect("Redis is there").patience(PATIENCE);
    assert_eq!(client.call("sum", json!({"a": 1, "b": 2})), Ok(json!(3).into()));
    daemon.stop();
}
