//! The gateway of the real program: where it listens, what it logs, and what it does when the system has no more.

use std::io::{Read, Write};
use std::net::{SocketAddr, TcpListener, TcpStream};
use std::os::fd::AsRawFd;
use std::os::unix::fs::PermissionsExt;
use std::os::unix::net::UnixStream;
use std::process::{Command, Stdio};

use rustix::process::Signal;
use serde_json::Value;

use super::program::{Daemon, PATIENCE, Place, eventually};

const HELLO: &str = "[functions.hello]\nbuiltin = \"hello\"\n";

/// A place without Redis whose `[http]` has these lines.
fn place(http: &str) -> Place {
    let place = Place::empty();
    place.write("cerbas.toml", &format!("[redis]\nserver = \"none\"\n{HELLO}[http]\n{http}"));
    place
}

const ANYWHERE: &str = "listen = [\"127.0.0.1:0\"]\n";

/// Where the daemon says that it listens.
fn address(daemon: &Daemon) -> SocketAddr {
    daemon.wait_for("listens at http://");
    let log = daemon.log();
    let place = log
        .split("listens at http://")
        .nth(1)
        .and_then(|rest| rest.split(|c: char| c.is_whitespace() || c == '"').next());
    place.and_then(|place| place.parse().ok()).expect("it says where")
}

fn ask(mut stream: impl Read + Write, target: &str) -> String {
    let request = format!("GET {target} HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\n\r\n");
    stream.write_all(request.as_bytes()).expect("somebody listens");
    let mut answer = String::new();
    stream.read_to_string(&mut answer).expect("an answer comes");
    answer
}

fn connect(address: SocketAddr) -> TcpStream {
    let stream = TcpStream::connect(address).expect("somebody listens");
    stream.set_read_timeout(Some(PATIENCE)).expect("a socket has time limits");
    stream
}

#[test]
fn a_socket_of_this_machine_is_for_its_group_and_goes_with_the_daemon() {
    let place = place("listen = [\"unix:/SOCKET\"]\n");
    let socket = place.path("http.sock");
    place.write(
        "cerbas.toml",
        &std::fs::read_to_string(place.path("cerbas.toml"))
            .expect("it is there")
            .replace("/SOCKET", socket.to_str().expect("it is text")),
    );
    // One that a daemon left behind which was killed is no hindrance.
    drop(std::os::unix::net::UnixListener::bind(&socket).expect("it can be bound"));
    let mut daemon = place.daemon();
    assert_eq!(socket.metadata().expect("it is there").permissions().mode() & 0o777, 0o660);
    assert!(ask(UnixStream::connect(&socket).expect("somebody listens"), "/api/hello").contains("hello world!"));
    let second = place.run(&["run"]);
    assert_eq!(second.status, Some(6), "{second:?}");
    assert!(second.stderr.contains("http.sock: Address already in use"), "{second:?}");
    daemon.signal(Signal::TERM);
    assert!(daemon.wait().success());
    assert!(!socket.exists());
}

#[test]
fn sockets_of_systemd_are_taken_over() {
    let place = place("listen = [\"systemd\"]\n");
    let missing = place.run(&["run"]);
    assert_eq!(missing.status, Some(6), "{missing:?}");
    assert!(missing.stderr.contains("systemd has opened no sockets"), "{missing:?}");

    let listener = TcpListener::bind("127.0.0.1:0").expect("a port is free");
    // Without the flag that would close it in the daemon.
    let handed = rustix::io::dup(&listener).expect("a descriptor is free");
    let program = env!("CARGO_BIN_EXE_cerbas");
    let script = format!("exec 3<&{}; LISTEN_FDS=1 LISTEN_PID=$$ exec {program} run", handed.as_raw_fd());
    let mut command = Command::new("bash");
    command.args(["-c", &script]).current_dir(place.path(""));
    let _daemon = Daemon::start(command);
    let address = listener.local_addr().expect("it is bound");
    assert!(ask(connect(address), "/api/hello").contains("hello world!"));
}

#[test]
fn a_flood_beyond_the_descriptors_passes_and_nothing_is_left_of_it() {
    let place = place(ANYWHERE);
    let program = env!("CARGO_BIN_EXE_cerbas");
    let mut command = Command::new("sh");
    command.args(["-c", &format!("ulimit -n 64; exec {program} run")]).current_dir(place.path(""));
    let daemon = Daemon::start(command);
    let address = address(&daemon);
    let flood: Vec<TcpStream> = (0..120).map(|_| connect(address)).collect();
    daemon.wait_for("no connections are taken for a moment");
    drop(flood);
    eventually("others are answered", || ask(connect(address), "/api/hello").contains("hello world!"));
    let pid = daemon.pid();
    let open = || std::fs::read_dir(format!("/proc/{pid}/fd")).expect("it runs").count();
    eventually("all of them are closed", || open() < 40);
}

#[test]
fn the_log_can_be_json_with_the_id_of_each_request() {
    let place = place(&format!("{ANYWHERE}access_log = \"all\"\n"));
    let mut command = place.command(&["run", "--log-format", "json"]);
    command.stdout(Stdio::null());
    let daemon = Daemon::start(command);
    let address = address(&daemon);
    let mut stream = connect(address);
    let request = "GET /api/hello?secret=1 HTTP/1.1\r\nHost: localhost\r\nX-Request-Id: order-7\r\n\r\n";
    stream.write_all(request.as_bytes()).expect("it is there");
    daemon.wait_for("order-7");
    for line in daemon.log().lines() {
        let line: Value = serde_json::from_str(line).unwrap_or_else(|error| panic!("{error}: {line}"));
        assert!(line["at"].is_string() && line["level"].is_string() && line["message"].is_string(), "{line}");
    }
    let log = daemon.log();
    let line = log.lines().find(|line| line.contains("order-7")).expect("it was logged");
    let line: Value = serde_json::from_str(line).expect("it is JSON");
    assert_eq!(
        (&line["request_id"], &line["status"], &line["path"]),
        (&"order-7".into(), &200.into(), &"/api/hello".into())
    );
    assert!(!log.contains("secret"), "{log}");
}

#[test]
fn a_token_is_made_and_lets_its_owner_in() {
    let place = place(ANYWHERE);
    let made = place.run(&["token", "web", "--json"]);
    let made: Value = serde_json::from_str(&made.stdout).expect("it is JSON");
    let (token, hash) =
        (made["token"].as_str().expect("it has a token"), made["hash"].as_str().expect("it has a hash"));
    place.write(
        "cerbas.toml",
        &format!("[redis]\nserver = \"none\"\n{HELLO}[http]\n{ANYWHERE}[http.tokens.web]\nhash = \"{hash}\"\n"),
    );
    let daemon = place.daemon();
    let mut stream = connect(address(&daemon));
    let ask = |stream: &mut TcpStream, authorization: &str| {
        let request = format!("GET /api/hello HTTP/1.1\r\nHost: localhost\r\n{authorization}\r\n");
        stream.write_all(request.as_bytes()).expect("it is there");
        let mut first = [0; 12];
        stream.read_exact(&mut first).expect("an answer comes");
        String::from_utf8_lossy(&first).into_owned()
    };
    assert_eq!(ask(&mut stream, &format!("Authorization: Bearer {token}\r\n")), "HTTP/1.1 200");
    assert_eq!(ask(&mut connect(address(&daemon)), ""), "HTTP/1.1 401");
    let shown = place.run(&["token", "ops"]);
    assert!(shown.stdout.contains("[http.tokens.ops]\n    hash = \"sha256:"), "{shown:?}");
}

#[test]
fn what_the_gateway_names_must_be_there() {
    let place =
        place("listen = [\"here\", \"127.0.0.1:0\"]\norigins = [\"example.org\"]\ntrusted_proxies = [\"all\"]\n");
    let check = place.run(&["check"]);
    for fault in [
        "http.listen: expected a place such as 127.0.0.1:4455, unix:/PATH or systemd, found \"here\"",
        "http.origins: expected origins such as https://app.example.org, found \"example.org\"",
        "http.trusted_proxies: expected addresses or networks such as 10.0.0.0/8, found \"all\"",
    ] {
        assert!(check.stdout.contains(fault), "{fault}: {check:?}");
    }
    place.write(
        "cerbas.toml",
        concat!(
            "[redis]\nserver = \"none\"\n[http]\nwork = \"nothing\"\n[http.tokens.a]\nuser = \"tom\"\n",
            "[proxy.a]\ntarget = \"https://a\"\n[proxy.b]\ntarget = \"http://b/c\"\n[proxy.c]\n",
            "[proxy.d]\ntarget = \"http://d\"\nfallback = \"nobody\"\n",
        ),
    );
    let check = place.run(&["check"]);
    for fault in [
        "http.tokens.a: hash is missing; `cerbas token` makes a token and prints it",
        "https://a: only http:// is spoken to upstreams; put a TLS tunnel in between",
        "http://b/c: a target has no path; strip and path say what upstreams are asked for",
        "proxy.c: target is missing: where requests go, such as http://127.0.0.1:5000",
    ] {
        assert!(check.stdout.contains(fault), "{fault}: {check:?}");
    }
    place.write(
        "cerbas.toml",
        "[redis]\nserver = \"none\"\n[http]\nwork = \"nothing\"\n[proxy.d]\ntarget = \"http://d\"\nfallback = \"nobody\"\n",
    );
    let check = place.run(&["check"]);
    assert_eq!(check.status, Some(1), "{check:?}");
    assert!(check.stdout.contains("http.work: there is no function \"nothing\""), "{check:?}");
    assert!(check.stdout.contains("proxy.d.fallback: there is no function \"nobody\""), "{check:?}");
}
