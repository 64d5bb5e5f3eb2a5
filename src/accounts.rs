//! Users of this machine, and their groups: those of `/etc/passwd` and `/etc/group`, and those that only a directory service knows
//! (LDAP, SSSD, systemd-homed), which `getent` and `id` are asked for.
//!
//! They are asked as programs, with a time limit: the lookup of the C library may block on the network, and is not there at all in a
//! program that is linked statically.

use std::collections::HashMap;
use std::fs;
use std::io::{self, Read};
use std::process::{Child, Command, Stdio};
use std::sync::{LazyLock, Mutex};
use std::time::{Duration, Instant};

use rustix::event::{PollFd, PollFlags, Timespec, poll};
use rustix::io::Errno;
use rustix::process::{Gid, Uid, getegid, geteuid, getgroups};

use crate::children;
use crate::lock::Unpoisoned;

/// A user.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Account {
    pub(crate) name: String,
    pub(crate) uid: Uid,
    pub(crate) gid: Gid,
    /// All groups, that of the user among them.
    pub(crate) groups: Vec<Gid>,
    pub(crate) home: String,
    pub(crate) shell: String,
}

/// So long a directory service may take to answer.
const PATIENCE: Duration = Duration::from_secs(5);

/// What a directory service said holds so long.
const FRESH: Duration = Duration::from_secs(60);

/// What it said, by name or number.
static SAID: LazyLock<Mutex<HashMap<String, Said>>> = LazyLock::new(Mutex::default);

/// When it said what; `None` is that there is no such user.
type Said = (Instant, Option<Account>);

/// The user called `wanted`, or with that number; or why it is not known.
pub(crate) fn find(wanted: &str) -> Result<Account, String> {
    if let Some(account) = local(wanted) {
        return Ok(account);
    }
    match of_directory(wanted, Instant::now(), ask) {
        Ok(Some(account)) => Ok(account),
        Ok(None) => Err(format!("user {wanted:?}: neither /etc/passwd nor getent knows it")),
        Err(error) => Err(format!("user {wanted:?}: is not in /etc/passwd, and getent cannot be asked: {error}")),
    }
}

/// The same in `/etc/passwd` alone.
pub(crate) fn local(wanted: &str) -> Option<Account> {
    let read =
        |path: &str| fs::read(path).map(|bytes| String::from_utf8_lossy(&bytes).into_owned()).unwrap_or_default();
    find_in(&read("/etc/passwd"), &read("/etc/group"), wanted)
}

/// The user of this process, if it is known at all: in a container it can be a mere number.
pub(crate) fn ours() -> Option<Account> {
    find(&geteuid().as_raw().to_string()).ok()
}

/// The user of this process; one that nobody knows has a number for a name, and what our environment says.
pub(crate) fn ours_or_made() -> Account {
    ours().unwrap_or_else(|| {
        let set = |name: &str| std::env::var(name).ok().filter(|value| !value.is_empty());
        let (uid, gid) = (geteuid(), getegid());
        let mut groups = vec![gid];
        groups.extend(getgroups().unwrap_or_default().into_iter().filter(|group| *group != gid));
        let name = set("LOGNAME").or_else(|| set("USER")).unwrap_or_else(|| uid.as_raw().to_string());
        let home = set("HOME").unwrap_or_else(|| "/".to_owned());
        Account { name, uid, gid, groups, home, shell: "/bin/sh".to_owned() }
    })
}

/// The same by what the two files say.
pub(crate) fn find_in(passwd: &str, group: &str, wanted: &str) -> Option<Account> {
    let accounts = || passwd.lines().filter_map(parse);
    let mut account = accounts().find(|account| account.name == wanted).or_else(|| {
        let number: u32 = wanted.parse().ok()?;
        accounts().find(|account| account.uid.as_raw() == number)
    })?;
    let more = group.lines().filter_map(|line| {
        let [_, _, number, members] = line.split(':').collect::<Vec<_>>().try_into().ok()?;
        let is_member = members.split(',').any(|member| member == account.name);
        is_member.then(|| number_of(number).map(Gid::from_raw))?
    });
    account.groups.extend(more.filter(|gid| *gid != account.gid).collect::<Vec<_>>());
    Some(account)
}

/// A line of `/etc/passwd`, which is what `getent` prints as well.
fn parse(line: &str) -> Option<Account> {
    let [name, _, uid, gid, _, home, shell] = line.split(':').collect::<Vec<_>>().try_into().ok()?;
    let (uid, gid) = (Uid::from_raw(number_of(uid)?), Gid::from_raw(number_of(gid)?));
    let [name, home, shell] = [name, home, shell].map(str::to_owned);
    Some(Account { name, uid, gid, groups: vec![gid], home, shell })
}

/// The highest number is no user and no group: to the kernel it means "leave it as it is".
fn number_of(text: &str) -> Option<u32> {
    text.parse().ok().filter(|&number| number != u32::MAX)
}

/// What the directory service says of `wanted`. While it cannot be asked, what it said before holds.
fn of_directory(
    wanted: &str,
    now: Instant,
    ask: impl FnOnce(&str) -> io::Result<Option<Account>>,
) -> io::Result<Option<Account>> {
    let is_name = |byte: u8| byte.is_ascii_graphic() && byte != b':' && byte != b'/';
    if wanted.is_empty() || wanted.starts_with('-') || !wanted.bytes().all(is_name) {
        return Ok(None);
    }
    let said = || SAID.lock().unpoisoned();
    let known = said().get(wanted).cloned();
    if let Some((at, account)) = &known
        && now.saturating_duration_since(*at) < FRESH
    {
        return Ok(account.clone());
    }
    match (ask(wanted), known) {
        (Ok(account), _) => {
            said().insert(wanted.to_owned(), (now, account.clone()));
            Ok(account)
        }
        (Err(_), Some((_, account @ Some(_)))) => Ok(account),
        (Err(error), _) => Err(error),
    }
}

fn ask(wanted: &str) -> io::Result<Option<Account>> {
    let Some(line) = run("getent", &["passwd", wanted])? else { return Ok(None) };
    let Some(mut account) = line.lines().find_map(parse) else { return Ok(None) };
    let groups = run("id", &["-G", &account.name])?.unwrap_or_default();
    let others = groups.split_whitespace().filter_map(number_of).map(Gid::from_raw);
    account.groups.extend(others.filter(|gid| *gid != account.gid));
    Ok(Some(account))
}

/// What `program` prints; `None` where it does not end well.
fn run(program: &str, arguments: &[&str]) -> io::Result<Option<String>> {
    let mut command = Command::new(program);
    command.args(arguments).env_clear().env("PATH", "/usr/sbin:/usr/bin:/sbin:/bin").env("LC_ALL", "C");
    command.stdin(Stdio::null()).stdout(Stdio::piped()).stderr(Stdio::null());
    let mut child = match children::start(&mut command) {
        Ok(child) => child,
        // A small container has none, and no directory service either.
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(None),
        Err(error) => return Err(error),
    };
    let output = read_to_end(&mut child, Instant::now() + PATIENCE);
    if output.is_err() {
        // Only one that has ended cannot be killed.
        let _ = child.kill();
    }
    let status = child.wait();
    children::forget(child.id());
    Ok(status?.success().then_some(output?))
}

fn read_to_end(child: &mut Child, until: Instant) -> io::Result<String> {
    let Some(mut stdout) = child.stdout.take() else { return Ok(String::new()) };
    let mut output = Vec::new();
    loop {
        let left = until.saturating_duration_since(Instant::now());
        let left = Timespec::try_from(left).unwrap_or(Timespec { tv_sec: 0, tv_nsec: 0 });
        match poll(&mut [PollFd::new(&stdout, PollFlags::IN)], Some(&left)) {
            Err(Errno::INTR) => continue,
            Ok(0) => return Err(io::Error::new(io::ErrorKind::TimedOut, format!("no answer within {PATIENCE:?}"))),
            done => done?,
        };
        let mut piece = [0; 4096];
        match stdout.read(&mut piece)? {
            0 => return Ok(String::from_utf8_lossy(&output).into_owned()),
            length => output.extend_from_slice(&piece[..length]),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const PASSWD: &str = "root:x:0:0:root:/root:/bin/bash\nbroken line\npeter:x:1000:100:Peter:/home/peter:/bin/sh\n";
    const GROUP: &str = "root:x:0:\nusers:x:100:peter\naudio:x:63:tom,peter\nvideo:x:44:tom\n";

    #[test]
    fn a_user_is_found_by_name_and_by_number_with_all_groups() {
        let peter = find_in(PASSWD, GROUP, "peter").unwrap();
        assert_eq!((peter.uid.as_raw(), peter.gid.as_raw()), (1000, 100));
        assert_eq!(peter.groups, [Gid::from_raw(100), Gid::from_raw(63)]);
        assert_eq!((&*peter.home, &*peter.shell), ("/home/peter", "/bin/sh"));
        assert_eq!(find_in(PASSWD, GROUP, "1000"), Some(peter));
    }

    #[test]
    fn an_unknown_user_is_named_in_the_error() {
        assert_eq!(find_in(PASSWD, GROUP, "nobody-here"), None);
        for name in ["no such user", "nobody-here", "-s", ""] {
            assert_eq!(find(name).unwrap_err(), format!("user {name:?}: neither /etc/passwd nor getent knows it"));
        }
    }

    #[test]
    fn the_number_that_changes_nothing_is_no_user() {
        assert_eq!(find_in("evil:x:4294967295:0::/:/bin/sh\n", "", "evil"), None);
    }

    #[test]
    fn who_is_asked_says_of_a_user_what_the_files_say() {
        assert_eq!(
            ask("root").unwrap().map(|root| (root.uid, root.home)),
            local("root").map(|root| (root.uid, root.home))
        );
        assert_eq!(ask("nobody-here").unwrap(), None);
    }

    #[test]
    fn what_a_directory_service_said_holds_for_a_while_and_while_it_is_away() {
        let name = "somebody-of-the-directory";
        let account = |home: &str| parse(&format!("{name}:x:7000:7000::{home}:/bin/sh"));
        let start = Instant::now();
        let later = |seconds: u64| start + Duration::from_secs(seconds);
        let away = |_: &str| Err(io::Error::other("it is away"));
        let asked = |at: Instant, home: &'static str| of_directory(name, at, |_| Ok(account(home))).unwrap();
        assert!(of_directory(name, start, away).is_err());
        assert_eq!(asked(start, "/a"), account("/a"));
        assert_eq!(asked(later(59), "/b"), account("/a"));
        assert_eq!(of_directory(name, later(61), away).unwrap(), account("/a"));
        assert_eq!(asked(later(61), "/b"), account("/b"));
        assert_eq!(of_directory(name, later(200), |_| Ok(None)).unwrap(), None);
        assert!(of_directory(name, later(300), away).is_err());
    }
}
