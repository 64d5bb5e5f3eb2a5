//! Users and their groups, as `/etc/passwd` and `/etc/group` have them.
//!
//! Users that only a directory service knows are not found: asking one needs the C library's lookup, which may block on
//! the network.

use std::fs;

use rustix::process::{Gid, Uid};

use crate::functions::output::plain;

/// A user that programs can run as.
#[derive(Debug, PartialEq, Eq)]
pub(super) struct User {
    pub(super) name: String,
    pub(super) uid: Uid,
    pub(super) gid: Gid,
    /// All groups, that of the user among them.
    pub(super) groups: Vec<Gid>,
    pub(super) home: String,
    pub(super) shell: String,
}

/// The user called `wanted`, or with that number.
pub(super) fn find(wanted: &str) -> Result<User, String> {
    let read = |path: &str| {
        let bytes = fs::read(path).map_err(|error| format!("user {wanted:?}: {path}: {}", plain(&error)))?;
        Ok::<_, String>(String::from_utf8_lossy(&bytes).into_owned())
    };
    find_in(&read("/etc/passwd")?, &read("/etc/group").unwrap_or_default(), wanted)
        .ok_or_else(|| format!("user {wanted:?}: is not in /etc/passwd"))
}

fn find_in(passwd: &str, group: &str, wanted: &str) -> Option<User> {
    let users = || passwd.lines().filter_map(parse_user);
    let mut user = users().find(|user| user.name == wanted).or_else(|| {
        let number: u32 = wanted.parse().ok()?;
        users().find(|user| user.uid.as_raw() == number)
    })?;
    let more = group.lines().filter_map(|line| {
        let [_, _, number, members] = line.split(':').collect::<Vec<_>>().try_into().ok()?;
        let is_member = members.split(',').any(|member| member == user.name);
        is_member.then(|| number.parse().ok().filter(|&number| number != u32::MAX).map(Gid::from_raw))?
    });
    user.groups.extend(more.filter(|gid| *gid != user.gid).collect::<Vec<_>>());
    Some(user)
}

fn parse_user(line: &str) -> Option<User> {
    let [name, _, uid, gid, _, home, shell] = line.split(':').collect::<Vec<_>>().try_into().ok()?;
    // The highest number is no user: to the kernel it means "leave it as it is".
    let [uid, gid] = [uid, gid].map(|number| number.parse().ok().filter(|&number| number != u32::MAX));
    let gid = Gid::from_raw(gid?);
    let [name, home, shell] = [name, home, shell].map(str::to_owned);
    Some(User { name, uid: Uid::from_raw(uid?), gid, groups: vec![gid], home, shell })
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
        assert_eq!(find("no such user").unwrap_err(), "user \"no such user\": is not in /etc/passwd");
    }

    #[test]
    fn the_number_that_changes_nothing_is_no_user() {
        assert_eq!(find_in("evil:x:4294967295:0::/:/bin/sh\n", "", "evil"), None);
    }
}
