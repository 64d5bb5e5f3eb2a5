//! As whom the server runs: never as root.

use std::fs;
use std::io;
use std::os::unix::fs::MetadataExt;
use std::path::Path;

use rustix::fs::{AtFlags, CWD, chownat};

use crate::accounts::{self, Account};
use crate::children::Identity;

/// Who keeps the data of root's server: the user of the package, or else one with no rights.
const USERS: [&str; 2] = ["redis", "nobody"];

/// As whom the server runs: ourselves, unless we are root.
pub(super) fn identity() -> Result<Option<Identity>, String> {
    if !rustix::process::geteuid().is_root() {
        return Ok(None);
    }
    let found = first_of(&USERS, accounts::local)
        .ok_or("root runs no redis-server as itself, and there is no user redis and none called nobody")?;
    Ok(Some(found))
}

/// The user of the package, where it is installed.
pub(super) fn package_user() -> Option<u32> {
    first_of(&USERS[..1], accounts::local).map(|identity| identity.user.as_raw())
}

/// The first of the users `wanted` that there is.
fn first_of(wanted: &[&str], find: impl Fn(&str) -> Option<Account>) -> Option<Identity> {
    // Who has the rights of root is nobody to hide from.
    let found = wanted.iter().filter_map(|wanted| find(wanted)).find(|account| !account.uid.is_root())?;
    Some(Identity { user: found.uid, group: found.gid, groups: vec![found.gid] })
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
    use rustix::process::{Gid, Uid};

    use super::*;

    #[test]
    fn the_user_of_the_package_keeps_the_data_and_else_one_without_rights() {
        let account = |name: &str, uid: u32| {
            let (uid, gid) = (Uid::from_raw(uid), Gid::from_raw(uid + 1));
            let [name, home, shell] = [name, "/", "/bin/false"].map(str::to_owned);
            Account { name, uid, gid, groups: vec![gid, Gid::from_raw(4)], home, shell }
        };
        let first = |known: &[(&str, u32)]| {
            let find =
                |wanted: &str| known.iter().find(|(name, _)| *name == wanted).map(|(name, uid)| account(name, *uid));
            first_of(&USERS, find).map(|identity| (identity.user.as_raw(), identity.groups))
        };
        let expected = |uid: u32| Some((uid, vec![Gid::from_raw(uid + 1)]));
        assert_eq!(first(&[("root", 0), ("nobody", 65534), ("redis", 102)]), expected(102));
        assert_eq!(first(&[("nobody", 65534)]), expected(65534));
        assert_eq!(first(&[("redis", 0), ("nobody", 1)]), expected(1));
        assert_eq!(first(&[("root", 0)]), None);
    }
}
