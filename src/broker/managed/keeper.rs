//! As whom the server runs: never as root.

use std::fs;
use std::io;
use std::os::unix::fs::MetadataExt;
use std::path::Path;

use rustix::fs::{AtFlags, CWD, chownat};
use rustix::process::{Gid, Uid};

use crate::children::Identity;

/// Who keeps the data of root's server: the user of the package, or else one with no rights.
const USERS: [&str; 2] = ["redis", "nobody"];

/// As whom the server runs: ourselves, unless we are root.
pub(super) fn identity() -> Result<Option<Identity>, String> {
    if !rustix::process::geteuid().is_root() {
        return Ok(None);
    }
    let passwd = fs::read_to_string("/etc/passwd").unwrap_or_default();
    let found = find(&passwd, &USERS)
        .ok_or("root runs no redis-server as itself, and there is no user redis and none called nobody")?;
    Ok(Some(found))
}

/// The user of the package, where it is installed.
pub(super) fn package_user() -> Option<u32> {
    let passwd = fs::read_to_string("/etc/passwd").unwrap_or_default();
    find(&passwd, &USERS[..1]).map(|identity| identity.user.as_raw())
}

/// The first of the users `wanted` that there is.
fn find(passwd: &str, wanted: &[&str]) -> Option<Identity> {
    wanted.iter().find_map(|wanted| {
        passwd.lines().find_map(|line| {
            let [name, _, user, group, ..] = line.split(':').collect::<Vec<_>>()[..] else { return None };
            let (user, group): (u32, u32) = (user.parse().ok()?, group.parse().ok()?);
            // Who has the rights of root is nobody to hide from, and the highest number is no user.
            let is_user = name == *wanted && user != 0 && user != u32::MAX && group != u32::MAX;
            let group = Gid::from_raw(group);
            is_user.then(|| Identity { user: Uid::from_raw(user), group, groups: vec![group] })
        })
    })
}

/// Lets `identity` have the folder of the server, and what an earlier version has left there as root. Where it is ours to keep, it must be
/// ours already.
pub(super) fn hand_over(folder: &Path, identity: Option<&Identity>) -> Result<(), String> {
    let told = |error: io::Error| format!("the folder of the managed Redis: {}: {error}", folder.display());
    match identity {
        Some(identity) => give(folder, identity).map_err(told),
        None => {
            let (owner, me) = (fs::metadata(folder).map_err(told)?.uid(), rustix::process::geteuid().as_raw());
            if owner == me {
                return Ok(());
            }
            let folder = folder.display();
            Err(format!("the folder of the managed Redis: {folder}: belongs to user {owner}; chown -R {me} {folder}"))
        }
    }
}

/// Links are given, not what they lead to; and a file with a second name elsewhere is not.
fn give(path: &Path, identity: &Identity) -> io::Result<()> {
    let data = fs::symlink_metadata(path)?;
    if data.is_file() && data.nlink() != 1 {
        log::warn!("{}: has several names (hard links) and keeps its owner", path.display());
        return Ok(());
    }
    if (data.uid(), data.gid()) != (identity.user.as_raw(), identity.group.as_raw()) {
        chownat(CWD, path, Some(identity.user), Some(identity.group), AtFlags::SYMLINK_NOFOLLOW)?;
    }
    if data.is_dir() {
        for entry in fs::read_dir(path)? {
            give(&entry?.path(), identity)?;
        }
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_user_of_the_package_keeps_the_data_and_else_one_without_rights() {
        let found =
            |passwd: &str| find(passwd, &USERS).map(|identity| (identity.user.as_raw(), identity.group.as_raw()));
        let both = "root:x:0:0::/root:/bin/sh\nnobody:x:65534:65533::/:/bin/false\nredis:x:102:105::/:/bin/false\n";
        assert_eq!(found(both), Some((102, 105)));
        assert_eq!(found("nobody:x:65534:65533::/:/bin/false\n"), Some((65534, 65533)));
        assert_eq!(found("redis:x:0:0::/:/bin/false\nnobody:x:1:1::/:/bin/false\n"), Some((1, 1)));
        assert_eq!(found("root:x:0:0::/root:/bin/sh\n"), None);
    }
}
