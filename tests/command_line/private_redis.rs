//! A Redis of the daemon's own, and who gets into it.

use std::net::TcpListener;
use std::os::unix::fs::chown;
use std::process::{Command, Stdio};
use std::time::{Duration, Instant};

use rustix::process::Signal;

use super::program::{Daemon, PATIENCE, Place, eventually, is_root};

/// A user who is nobody.
const NOBODY: u32 = 65534;

/// A place whose daemon has a Redis of its own at a free port, with these further lines in `[redis]`.
fn place(redis: &str) -> (Place, String) {
    let place = Place::empty();
    let port = TcpListener::bind(("127.0.0.1", 0)).and_then(|it| it.local_addr()).expect("a free port").port();
    let url = format!("redis://127.0.0.1:{port}/1");
    let functions = "[functions.hello]\nbuiltin = \"hello\"\n";
    place.write("cerbas.toml", &format!("[redis]\nurl = \"{url}\"\nserver = \"managed\"\n{redis}\n{functions}"));
    (place, url)
}

/// A daemon that is stopped in order, as its Redis then goes with it.
struct Stopped(Daemon);

impl Stopped {
    #[track_caller]
    fn start(command: Command) -> Self {
        Stopped(Daemon::start(command))
    }
}

impl Drop for Stopped {
    fn drop(&mut self) {
        self.0.signal(Signal::TERM);
        let until = Instant::now() + PATIENCE;
        while self.0.is_running() && Instant::now() < until {
            std::thread::sleep(Duration::from_millis(5));
        }
    }
}

/// The program, for the user whose home is the folder.
fn at_home(place: &Place, arguments: &[&str]) -> Command {
    let mut command = place.command(arguments);
    command.env("HOME", place.path(""));
    command
}

/// The same for a user without rights, if root asks.
fn as_nobody(place: &Place, arguments: &[&str]) -> Command {
    let own = at_home(place, arguments);
    if !rustix::process::geteuid().is_root() {
        return own;
    }
    place.as_user(own, "65534")
}

/// What a command prints and says, one after the other, and its status.
#[track_caller]
fn outcome(mut command: Command) -> (Option<i32>, String) {
    let output = command.output().expect("it can be run");
    let text = [output.stdout, output.stderr].concat();
    (output.status.code(), String::from_utf8(text).expect("it is UTF-8"))
}

#[test]
fn the_command_line_of_its_user_finds_its_way_into_a_closed_redis() {
    let (place, url) = place("");
    let _daemon = Stopped::start(at_home(&place, &["run"]));
    for arguments in [&["call", "hello"][..], &["call", "hello", "--redis", &url]] {
        assert_eq!(outcome(at_home(&place, arguments)), (Some(0), "hello world!\n".to_owned()), "{arguments:?}");
    }
    let (_, said) = outcome(at_home(&place, &["doctor"]));
    assert!(said.contains(&format!("access      {url} asks for a password")), "{said}");
}

#[test]
fn another_user_does_not_get_into_a_closed_redis() {
    if !is_root() {
        return;
    }
    let (place, url) = place("");
    let _daemon = Stopped::start(at_home(&place, &["run"]));
    for arguments in [&["call", "hello"][..], &["call", "hello", "--redis", &url]] {
        let (status, said) = outcome(as_nobody(&place, arguments));
        assert_eq!(status, Some(5), "{said}");
        assert!(said.contains(&format!("{url}: asks for a password")), "{said}");
    }
}

#[test]
fn a_server_that_somebody_else_has_put_in_the_place_of_a_closed_redis_is_not_used() {
    if !is_root() {
        return;
    }
    let (place, url) = place("");
    let port = url.rsplit([':', '/']).nth(1).expect("it has a port");
    let mut command = Command::new("setpriv");
    command.args(["--reuid", "65534", "--regid", "65534", "--clear-groups"]);
    command.args(["redis-server", "--port", port, "--save", "", "--dir", "/tmp"]).stdout(Stdio::null());
    let mut server = command.spawn().expect("it can be run");
    let client = redis::Client::open(url.clone()).expect("it is a URL");
    eventually("it answers", || client.get_connection().is_ok());
    let run = outcome(at_home(&place, &["run"]));
    server.kill().expect("it runs");
    server.wait().expect("it ends");
    assert_eq!(run.0, Some(6), "{run:?}");
    assert!(run.1.contains(&format!("{url}: user 65534 has a server there already")), "{run:?}");
}

#[test]
fn an_open_redis_lets_everybody_in_and_says_so() {
    let (place, url) = place("open = true");
    if rustix::process::geteuid().is_root() {
        chown(place.path(""), Some(NOBODY), Some(NOBODY)).expect("root can");
        chown(place.path("cerbas.toml"), Some(NOBODY), Some(NOBODY)).expect("root can");
    }
    let daemon = Stopped::start(as_nobody(&place, &["run"]));
    assert!(
        daemon.0.log().contains("redis.open: everybody on this machine can call all functions"),
        "{}",
        daemon.0.log()
    );
    let client = redis::Client::open(url.clone()).expect("it is a URL");
    let mut connection = client.get_connection_with_timeout(PATIENCE).expect("it is open");
    let refused = redis::cmd("CONFIG").arg(&["SET", "dir", "/tmp"]).query::<()>(&mut connection).expect_err("not this");
    assert_eq!(refused.code(), Some("NOPERM"));
    let (_, said) = outcome(as_nobody(&place, &["doctor"]));
    assert!(said.contains(&format!("whoever can reach {url} calls all functions")), "{said}");
}

#[test]
fn root_is_told_what_to_do_instead_of_an_open_redis() {
    if !is_root() {
        return;
    }
    let (place, _) = place("open = true");
    let said = "redis.open: everybody on this machine could run as root what the functions do; set open = false \
                (CERBAS_REDIS_OPEN=false), or run cerbas as another user than root";
    place.check_fails(&["run"], 6, &[said]);
    place.check(&["check"], 1, &format!("cerbas.toml: {said}\n"), "");
    let mut closed = at_home(&place, &["run"]);
    closed.env("CERBAS_REDIS_OPEN", "false");
    let _daemon = Stopped::start(closed);
    assert_eq!(outcome(at_home(&place, &["call", "hello"])), (Some(0), "hello world!\n".to_owned()));
}
