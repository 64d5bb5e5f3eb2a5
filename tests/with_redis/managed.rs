//! The private `redis-server` of a daemon.

use std::fs;
use std::net::TcpListener;
use std::os::unix::fs::MetadataExt;
use std::path::Path;
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

use cerbas::config::RedisServer;
use cerbas::{Client, Config, Server};
use rustix::process::{Pid, Signal, kill_process};
use serde_json::json;

use super::world::{Folder, Foreign, PATIENCE, RETURN, eventually};

/// A private Redis in `folder`, reached through a socket, as no two of those have the same address.
fn managed(folder: &Path) -> Config {
    let mut config = super::world::config(&format!("unix://{}/socket?db=1", folder.display()));
    config.redis.server = RedisServer::Managed;
    config.server.state_dir = folder.join("state");
    config
}

/// The process behind `foreign`.
fn pid(foreign: &mut Foreign) -> Pid {
    let info: redis::InfoDict = foreign.ask(&["INFO", "server"]);
    info.get("process_id").and_then(Pid::from_raw).expect("it has a number")
}

fn is_alive(pid: Pid) -> bool {
    fs::read_to_string(format!("/proc/{}/stat", pid.as_raw_pid())).is_ok_and(|stat| !stat.contains(") Z "))
}

/// Kills a process that a failed test left behind.
struct Killed(Pid);

impl Drop for Killed {
    fn drop(&mut self) {
        let command = fs::read_to_string(format!("/proc/{}/cmdline", self.0.as_raw_pid())).unwrap_or_default();
        if command.starts_with("redis-server") {
            let _already_gone = kill_process(self.0, Signal::KILL);
        }
    }
}

#[test]
fn a_private_redis_lives_as_long_as_the_daemon_and_keeps_its_data() {
    let folder = Folder::new();
    let config = managed(folder.path());
    let url = config.redis.url.clone();
    let running = Server::new(config.clone()).start().expect("it starts");
    let mut foreign = Foreign::connect(&url);
    foreign.check_served(RETURN);
    foreign.send("kept", json!({"func": "hello"}));
    foreign.answer("kept");
    let first = pid(&mut foreign);
    assert!(running.stop().is_clean());
    assert!(!is_alive(first), "it was left behind");

    let running = Server::new(config).start().expect("it starts");
    let mut foreign = Foreign::connect(&url);
    eventually("it has read its data", || foreign.try_ask::<String>(&["PING"]).is_ok());
    assert!(foreign.stored("kept").is_some(), "it is kept");
    let second = pid(&mut foreign);
    drop(running);
    assert!(!is_alive(second), "it was left behind");
}

#[test]
fn a_private_redis_that_is_killed_is_started_again_with_its_data() {
    let folder = Folder::new();
    let config = managed(folder.path());
    let url = config.redis.url.clone();
    let running = Server::new(config).start().expect("it starts");
    let mut foreign = Foreign::connect(&url);
    let asked = foreign.send_mixed(0..500);
    foreign.check_answered(&asked);
    // What is older than a second is on the disk; what is younger is written down by now, too, unless a disk is slow.
    let first = pid(&mut foreign);
    kill_process(first, Signal::KILL).expect("it runs");
    eventually("another one runs", || super::world::connect(&url).is_ok());
    foreign.reconnect();
    let second = pid(&mut foreign);
    assert_ne!(first, second);
    foreign.check_served(RETURN);
    foreign.check_answered(&asked);
    assert!(running.stop().is_clean());
    assert!(!is_alive(second), "it was left behind");
}

#[test]
fn a_private_redis_keeps_its_files_in_the_state_folder_and_asks_for_the_password() {
    let folder = Folder::new();
    let mut config = managed(folder.path());
    config.redis.password = Some("a \"secret\" \\ with é".to_owned());
    let url = config.redis.url.clone();
    let running = Server::new(config).start().expect("it starts");
    let mut client = running.client().expect("it lets us in");
    assert_eq!(client.call("hello", ()), Ok(json!("hello world!").into()));
    let refused = Client::connect(&url).map(drop).expect_err("it wants a password");
    assert!(!refused.to_string().contains('\n'), "{refused}");
    assert!(folder.path().join("state/redis/appendonlydir").is_dir());
    assert!(running.stop().is_clean());
}

#[test]
fn a_private_redis_is_not_started_on_an_address_that_others_can_reach() {
    let folder = Folder::new();
    let mut config = managed(folder.path());
    config.redis.url = "redis://255.255.255.255:1/1".to_owned();
    let error = Server::new(config).start().map(drop).expect_err("it is refused");
    assert_eq!(
        error.to_string(),
        "255.255.255.255: a managed Redis runs on a loopback address only; set redis.server = \"external\""
    );
}

#[test]
fn a_redis_that_answers_already_is_used_and_left_running() {
    let folder = Folder::new();
    let redis = super::world::scratch();
    let mut config = managed(folder.path());
    config.redis.url = redis.url();
    let running = Server::new(config).start().expect("it starts");
    Foreign::connect(&redis.url()).check_served(RETURN);
    assert!(running.stop().is_clean());
    let () = Foreign::connect(&redis.url()).ask(&["PING"]);
    assert!(!folder.path().join("state/redis/redis.log").exists());
}

#[test]
fn a_second_daemon_on_the_same_private_redis_does_not_stop_it() {
    let folder = Folder::new();
    let other = Folder::new();
    let mut config = managed(folder.path());
    let first = Server::new(config.clone()).start().expect("it starts");
    let process = pid(&mut Foreign::connect(&config.redis.url));
    // With the same folder, and with one of its own.
    for state_dir in [config.server.state_dir.clone(), other.path().join("state")] {
        config.server.state_dir = state_dir;
        let second = Server::new(config.clone()).start().expect("it starts");
        assert!(second.stop().is_clean());
        Foreign::connect(&config.redis.url).check_served(RETURN);
        assert_eq!(pid(&mut Foreign::connect(&config.redis.url)), process);
    }
    assert!(first.stop().is_clean());
}

/// A process that is killed and reaped at the end.
struct Program(Child);

impl Drop for Program {
    fn drop(&mut self) {
        let _already_gone = self.0.kill();
        let _reaped = self.0.wait();
    }
}

fn write_config(folder: &Path, url: &str) {
    let text = format!(
        "[redis]\nurl = \"{url}\"\nserver = \"managed\"\n\
         [functions.hello]\nbuiltin = \"hello\"\n[functions.echo]\nbuiltin = \"echo\"\n"
    );
    fs::write(folder.join("cerbas.toml"), text).expect("it can be written");
}

#[test]
fn a_private_redis_that_a_killed_daemon_left_is_taken_over_and_stopped_in_the_end() {
    let folder = Folder::new();
    let config = managed(folder.path());
    let url = config.redis.url.clone();
    write_config(folder.path(), &url);
    let mut program = Command::new(env!("CARGO_BIN_EXE_cerbas"));
    program.args(["run", "--config"]).arg(folder.path().join("cerbas.toml")).stderr(Stdio::null());
    let mut daemon = Program(program.spawn().expect("it can be run"));
    eventually("it has a Redis", || super::world::connect(&url).is_ok());
    let mut foreign = Foreign::connect(&url);
    foreign.check_served(PATIENCE);
    let orphan = pid(&mut foreign);
    let _killed = Killed(orphan);
    daemon.0.kill().expect("it runs");
    daemon.0.wait().expect("it ends");
    assert!(is_alive(orphan), "it outlives its daemon");

    let running = Server::new(config).start().expect("it starts");
    let mut foreign = Foreign::connect(&url);
    foreign.check_served(RETURN);
    assert_eq!(pid(&mut foreign), orphan, "the same one serves on");
    assert!(running.stop().is_clean());
    assert!(!is_alive(orphan), "it was left behind");
}

#[test]
fn a_missing_redis_server_is_said_with_the_package_to_install() {
    let folder = Folder::new();
    write_config(folder.path(), &format!("unix://{}/socket?db=1", folder.path().display()));
    let mut program = Command::new(env!("CARGO_BIN_EXE_cerbas"));
    program.args(["run", "--config"]).arg(folder.path().join("cerbas.toml")).env("PATH", "");
    let output = program.output().expect("it can be run");
    assert_eq!(output.status.code(), Some(6));
    assert_eq!(
        String::from_utf8_lossy(&output.stderr),
        "cerbas: redis-server is not installed: install it (on Debian: apt install redis-server), \
         or set redis.server = \"external\" or \"none\"\n"
    );
}

#[test]
fn something_that_is_no_redis_is_not_overrun() {
    let folder = Folder::new();
    let listener = TcpListener::bind(("127.0.0.1", 0)).expect("a free port");
    let port = listener.local_addr().expect("it has an address").port();
    let mut config = managed(folder.path());
    config.redis.url = format!("redis://127.0.0.1:{port}/1");
    let start = Instant::now();
    // Whether that is refused or waited out: no server is started beside it, and the daemon can be stopped.
    if let Ok(running) = Server::new(config).start() {
        running.stop();
    }
    assert!(start.elapsed() < Duration::from_mins(1), "it took {:?}", start.elapsed());
    assert!(!folder.path().join("state/redis/redis.log").exists());
}

/// The note that a daemon leaves for clients in the home of its user.
struct Note(u16);

impl Drop for Note {
    fn drop(&mut self) {
        let home = std::env::var_os("HOME").unwrap_or_default();
        let note = Path::new(&home).join(format!(".local/state/cerbas/redis-{}.json", self.0));
        let _never_left = fs::remove_file(note);
    }
}

/// A private Redis in `folder` at a free port, with the URL of the port.
fn managed_over_tcp(folder: &Path) -> (Config, String, Note) {
    let port =
        TcpListener::bind(("127.0.0.1", 0)).and_then(|listener| listener.local_addr()).expect("a free port").port();
    let mut config = managed(folder);
    config.redis.url = format!("redis://localhost:{port}/8");
    (config, format!("redis://127.0.0.1:{port}/8"), Note(port))
}

/// `url` with the password that the daemon has made.
#[track_caller]
fn with_password(url: &str, folder: &Path) -> String {
    let password = fs::read_to_string(folder.join("state/redis.password")).expect("there is one");
    url.replace("//", &format!("//:{}@", password.trim()))
}

/// What others than the owner may do with what is in `folder`, and with the folder.
fn open_to_others(folder: &Path) -> Vec<String> {
    let (mut folders, mut found) = (vec![folder.to_owned()], Vec::new());
    while let Some(folder) = folders.pop() {
        let entries = fs::read_dir(&folder).expect("it is a folder").map(|entry| entry.expect("it is there").path());
        for path in entries.chain([folder.clone()]) {
            let data = fs::symlink_metadata(&path).expect("it is there");
            if data.mode() & 0o077 != 0 {
                found.push(format!("{} {:o}", path.display(), data.mode()));
            }
            if data.is_dir() && path != folder {
                folders.push(path);
            }
        }
    }
    found
}

#[test]
fn a_private_redis_lets_in_nobody_without_its_password_and_its_own_user_without_asking() {
    let folder = Folder::new();
    let (config, url, _note) = managed_over_tcp(folder.path());
    let running = Server::new(config).start().expect("it starts");
    let refused = super::world::connect(&url).err().expect("it is closed");
    assert!(refused.to_string().contains("Authentication required"), "{refused}");
    Foreign::connect(&with_password(&url, folder.path())).check_served(RETURN);
    assert_eq!(running.client().expect("it lets us in").call("hello", ()), Ok(json!("hello world!").into()));
    // Also who knows nothing but the URL.
    assert_eq!(Client::connect(&url).expect("it finds the way").call("hello", ()), Ok(json!("hello world!").into()));
    assert!(running.stop().is_clean());
    assert!(super::world::connect(&with_password(&url, folder.path())).is_err(), "it is gone");
    assert!(Client::connect(&url).is_err(), "the way leads nowhere");
}

#[test]
fn nobody_decides_on_a_private_redis_itself_over_a_connection_to_it() {
    let folder = Folder::new();
    let (config, url, _note) = managed_over_tcp(folder.path());
    let running = Server::new(config).start().expect("it starts");
    let mut foreign = Foreign::connect(&with_password(&url, folder.path()));
    for words in [
        &["CONFIG", "SET", "dir", "/tmp"][..],
        &["CONFIG", "REWRITE"],
        &["MODULE", "LIST"],
        &["DEBUG", "SLEEP", "0"],
        &["SLAVEOF", "127.0.0.1", "1"],
        &["REPLICAOF", "127.0.0.1", "1"],
        &["FLUSHALL"],
        &["FLUSHDB"],
        &["SHUTDOWN"],
        &["ACL", "SETUSER", "eve"],
        &["CLIENT", "KILL", "TYPE", "normal"],
        &["MONITOR"],
    ] {
        let error = foreign.try_ask::<redis::Value>(words).expect_err("it is refused");
        // Some of it newer versions refuse to all.
        let is_refused = error.code() == Some("NOPERM") || error.to_string().contains("not allowed");
        assert!(is_refused, "{words:?}: {error}");
    }
    let () = foreign.ask(&["CONFIG", "GET", "dir"]);
    let _all: Vec<String> = foreign.ask(&["KEYS", "*"]);
    foreign.check_served(RETURN);
    assert!(running.stop().is_clean());
}

#[test]
fn a_private_redis_does_not_run_as_root_and_its_files_are_its_own() {
    let folder = Folder::new();
    let (config, url, _note) = managed_over_tcp(folder.path());
    let running = Server::new(config).start().expect("it starts");
    let mut foreign = Foreign::connect(&with_password(&url, folder.path()));
    foreign.check_served(RETURN);
    let process = format!("/proc/{}", pid(&mut foreign).as_raw_pid());
    let (me, keeper) = (rustix::process::geteuid(), fs::metadata(&process).expect("it runs").uid());
    assert_ne!(keeper, 0);
    assert!(me.is_root() || keeper == me.as_raw());
    let state = folder.path().join("state");
    assert_eq!(fs::metadata(state.join("redis")).expect("it is there").uid(), keeper);
    assert_eq!(fs::metadata(state.join("redis.password")).expect("it is there").uid(), me.as_raw());
    assert_eq!(open_to_others(&state), [""; 0]);
    let stat = fs::read_to_string(format!("{process}/stat")).expect("it runs");
    let session = stat.rsplit(") ").next().and_then(|fields| fields.split(' ').nth(3)).expect("it has one");
    assert_eq!(session, pid(&mut foreign).as_raw_pid().to_string(), "it leads a session of its own");
    assert!(running.stop().is_clean());
}

/// A server as earlier versions started it: open to all, and as whoever started them.
struct Earlier(Child);

impl Earlier {
    #[track_caller]
    fn start(folder: &Path, url: &str) -> Self {
        fs::create_dir_all(folder).expect("a folder can be made");
        let port = url.rsplit([':', '/']).nth(1).expect("it has a port");
        let mut command = Command::new("redis-server");
        command.args(["--port", port, "--appendonly", "yes", "--save", "", "--bind", "127.0.0.1", "--dir"]).arg(folder);
        let child = command.stdout(Stdio::null()).spawn().expect("redis-server is installed");
        eventually("it answers", || super::world::connect(url).is_ok());
        Earlier(child)
    }
}

impl Drop for Earlier {
    fn drop(&mut self) {
        let _already_gone = kill_process(Pid::from_child(&self.0), Signal::TERM);
        let _reaped = self.0.wait();
    }
}

#[test]
fn what_an_earlier_version_kept_is_there_after_it_is_closed() {
    let folder = Folder::new();
    let (config, url, _note) = managed_over_tcp(folder.path());
    let earlier = Earlier::start(&folder.path().join("state/redis"), &url);
    let () = Foreign::connect(&url).ask(&["SET", "kept", "value"]);
    drop(earlier);
    let running = Server::new(config).start().expect("it starts");
    let mut foreign = Foreign::connect(&with_password(&url, folder.path()));
    eventually("it has read its data", || {
        foreign.try_ask::<Option<String>>(&["GET", "kept"]).is_ok_and(|it| it.is_some())
    });
    assert_eq!(open_to_others(&folder.path().join("state")), [""; 0]);
    assert!(running.stop().is_clean());
}

#[test]
fn an_open_server_that_an_earlier_daemon_left_running_is_replaced_by_a_closed_one() {
    let folder = Folder::new();
    let (config, url, _note) = managed_over_tcp(folder.path());
    let _earlier = Earlier::start(&folder.path().join("state/redis"), &url);
    let () = Foreign::connect(&url).ask(&["SET", "kept", "value"]);
    let running = Server::new(config).start().expect("it starts");
    assert!(super::world::connect(&url).is_err(), "it is closed");
    let mut foreign = Foreign::connect(&with_password(&url, folder.path()));
    eventually("it has read its data", || {
        foreign.try_ask::<Option<String>>(&["GET", "kept"]).is_ok_and(|it| it.is_some())
    });
    assert!(running.stop().is_clean());
}

#[test]
fn a_private_redis_of_root_is_not_opened_to_all() {
    let folder = Folder::new();
    let (mut config, url, _note) = managed_over_tcp(folder.path());
    config.redis.open = true;
    let started = Server::new(config).start();
    if rustix::process::geteuid().is_root() {
        let error = started.map(drop).expect_err("it is refused");
        assert!(error.to_string().contains("run cerbas as another user than root"), "{error}");
    } else {
        let running = started.expect("it starts");
        Foreign::connect(&url).check_served(RETURN);
        assert!(running.stop().is_clean());
    }
}

#[test]
fn daemons_with_the_same_state_folder_share_a_closed_redis() {
    let folder = Folder::new();
    let (config, url, _note) = managed_over_tcp(folder.path());
    let first = Server::new(config.clone()).start().expect("it starts");
    let second = Server::new(config).start().expect("it starts");
    assert_eq!(second.client().expect("it lets us in").call("hello", ()), Ok(json!("hello world!").into()));
    assert!(second.stop().is_clean());
    Foreign::connect(&with_password(&url, folder.path())).check_served(RETURN);
    assert!(first.stop().is_clean());
}
