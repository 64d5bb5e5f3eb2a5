//! Crontabs that belong to users, as cron keeps them in its spool: what root's daemon runs instead.
//!
//! A user can change his crontab at any time. So root never reads it; its lines go into a file of root, with the user behind the
//! schedule.

use std::fs;
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use crate::accounts::{self, Account};
use crate::cron::{Action, Entry, with_user};

/// Where the lines go, for example.
pub(super) const COPIES: &str = "/etc/cerbas/crontabs";

pub(super) const ADVICE: [&str; 3] = [
    "Crontabs of users are no files for root's daemon: each user could run anything as root through his. So put their lines, with",
    "the user behind the schedule, into files of root. Users change them through you from then on; or each runs a cerbas of his own.",
    "",
];

/// Where crons keep the crontabs of users, each named after its user.
const SPOOL: &str = "/var/spool/cron";

/// A crontab that is a user's.
pub(super) struct UserFile {
    pub(super) path: PathBuf,
    user: String,
}

impl UserFile {
    /// `None` where the file is root's, or may be used as it is.
    pub(super) fn of(path: &Path) -> Option<Self> {
        let is_root = rustix::process::geteuid().is_root();
        let owner = fs::metadata(path).ok()?.uid();
        let user = user_of(path, is_in_spool(path), owner, is_root, &accounts::find)?;
        Some(UserFile { path: path.to_owned(), user })
    }

    /// Names the user of `entries`.
    pub(super) fn name_user(&self, entries: &mut [Arc<Entry>]) {
        for entry in entries {
            if let Action::Command(command) = &mut Arc::make_mut(entry).action {
                command.user = Some(self.user.clone());
            }
        }
    }

    /// What root's file has instead.
    pub(super) fn lines(&self) -> Vec<String> {
        let name: String = self.user.chars().map(|c| if c.is_ascii_alphanumeric() { c } else { '_' }).collect();
        let mut lines = vec![format!("# {COPIES}/{name}, from {}", self.path.display())];
        let bytes = fs::read(&self.path).unwrap_or_default();
        lines.extend(with_user(&String::from_utf8_lossy(&bytes), &self.user));
        lines.push(String::new());
        lines
    }
}

/// Whether it is a crontab of a user, whatever its name looks like.
pub(super) fn is_users(path: &Path) -> bool {
    let is_hidden = path.file_name().is_none_or(|name| name.to_string_lossy().starts_with('.'));
    is_in_spool(path) && !is_hidden
}

fn is_in_spool(path: &Path) -> bool {
    path.canonicalize().is_ok_and(|path| path.starts_with(SPOOL)) || path.starts_with(SPOOL)
}

/// Whose crontab `path` is: in the spool that of the user it is named after, elsewhere that of its owner.
fn user_of(path: &Path, is_in_spool: bool, owner: u32, is_root: bool, find: &Find) -> Option<String> {
    let named_after = path.file_name()?.to_string_lossy().into_owned();
    if is_in_spool {
        return Some(named_after);
    }
    // Who is not root runs what is his as himself.
    if owner == 0 || !is_root {
        return None;
    }
    if find(&named_after).is_ok_and(|account| account.name == named_after && account.uid.as_raw() == owner) {
        return Some(named_after);
    }
    let owner = owner.to_string();
    Some(find(&owner).map_or(owner, |account| account.name))
}

/// Looks for a user by name or number.
type Find<'a> = dyn Fn(&str) -> Result<Account, String> + 'a;

#[cfg(test)]
mod tests {
    use super::*;

    const PASSWD: &str =
        "root:x:0:0::/root:/bin/sh\ntom:x:1000:1000::/home/tom:/bin/sh\nthomas:x:1000:1000::/h:/bin/sh\n";

    #[test]
    fn a_crontab_is_the_users_it_is_named_after_or_its_owners() {
        let find = |wanted: &str| accounts::find_in(PASSWD, "", wanted).ok_or_else(String::new);
        let user = |path: &str, in_spool, owner, is_root| user_of(Path::new(path), in_spool, owner, is_root, &find);
        assert_eq!(user("/var/spool/cron/crontabs/john.doe", true, 0, true).as_deref(), Some("john.doe"));
        assert_eq!(user("/srv/jobs/backup", false, 1000, true).as_deref(), Some("tom"));
        assert_eq!(user("/srv/jobs/thomas", false, 1000, true).as_deref(), Some("thomas"));
        assert_eq!(user("/srv/jobs/backup", false, 4711, true).as_deref(), Some("4711"));
        assert_eq!(user("/srv/jobs/backup", false, 0, true), None);
        assert_eq!(user("/home/tom/CRONTAB", false, 1000, false), None);
    }
}
