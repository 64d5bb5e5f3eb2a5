//! Files and folders that nobody but us may look into.
//!
//! What the daemon keeps has the output of jobs, requests and answers in it. So it is made for its owner alone, in the step that
//! makes it; what an earlier version left open is narrowed. Links are not followed: what lies at the end of one is not ours.

use std::fs::{self, DirBuilder, File, OpenOptions};
use std::io;
use std::os::unix::fs::{DirBuilderExt, MetadataExt, OpenOptionsExt, fchown};
use std::path::Path;

use rustix::fs::{Mode, OFlags, fchmod};

/// What others than the owner may do.
const OTHERS: u32 = 0o077;

/// What the owner may do with a file.
const FILE: u32 = 0o600;

/// Makes the folder and those above it that are missing. One that is there stays as it is: [`narrow`].
pub(crate) fn make_folder(path: &Path) -> io::Result<()> {
    DirBuilder::new().recursive(true).mode(0o700).create(path)
}

/// Opens a file to write it at its end; it is made if it is missing.
pub(crate) fn append(path: &Path) -> io::Result<File> {
    open(OpenOptions::new().create(true).append(true), path)
}

/// Opens a file to write it anew; it is made if it is missing.
pub(crate) fn create(path: &Path) -> io::Result<File> {
    open(OpenOptions::new().create(true).write(true).truncate(true), path)
}

/// Lets `file` belong to whom the file or folder at `path` belongs to, where we may say so: what root makes in the folder of a daemon is the daemon's.
/// One that has another name as well stays as it is: whoever owns the folder could have given it that of a file which is not theirs.
pub(crate) fn give_to_owner_of(path: &Path, file: &File) {
    let is_known_by_one_name = file.metadata().is_ok_and(|facts| facts.is_file() && facts.nlink() == 1);
    if is_known_by_one_name
        && rustix::process::geteuid().is_root()
        && let Ok(owner) = fs::metadata(path)
    {
        // One that stays root's is noticed by whoever cannot open it.
        let _is_given = fchown(file, Some(owner.uid()), Some(owner.gid()));
    }
}

fn open(options: &mut OpenOptions, path: &Path) -> io::Result<File> {
    let file = options.mode(FILE).custom_flags(OFlags::NOFOLLOW.bits().cast_signed()).open(path)?;
    narrow_open(&file)?;
    Ok(file)
}

/// Takes from others what they may do with the folder and what is in it. Whose names `is_ours` does not know is left alone, and so
/// is then the folder itself: it is used for other things as well. Tells whether all of it is closed.
pub(crate) fn narrow(folder: &Path, is_ours: impl Fn(&str) -> bool) -> io::Result<bool> {
    let mut is_shared = false;
    for entry in fs::read_dir(folder)? {
        let entry = entry?;
        match is_ours(&entry.file_name().to_string_lossy()) {
            true => narrow_all(&entry.path())?,
            false => is_shared = true,
        }
    }
    if !is_shared {
        narrow_one(folder)?;
    }
    Ok(!is_shared || fs::metadata(folder)?.mode() & OTHERS == 0)
}

/// The same for a file, or a folder with all that is in it.
fn narrow_all(path: &Path) -> io::Result<()> {
    narrow_one(path)?;
    if fs::symlink_metadata(path)?.is_dir() {
        for entry in fs::read_dir(path)? {
            narrow_all(&entry?.path())?;
        }
    }
    Ok(())
}

fn narrow_one(path: &Path) -> io::Result<()> {
    let kind = fs::symlink_metadata(path)?.file_type();
    if !kind.is_file() && !kind.is_dir() {
        return Ok(());
    }
    let flags = OFlags::RDONLY | OFlags::NOFOLLOW | OFlags::NONBLOCK | OFlags::CLOEXEC;
    narrow_open(&File::from(rustix::fs::open(path, flags, Mode::empty())?))
}

/// Only the owner can, and only he has to.
fn narrow_open(file: &File) -> io::Result<()> {
    let facts = file.metadata()?;
    let me = rustix::process::geteuid();
    if facts.mode() & OTHERS != 0 && (me.is_root() || facts.uid() == me.as_raw()) {
        fchmod(file, Mode::from_raw_mode(facts.mode() & !OTHERS))?;
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use std::os::unix::fs::{PermissionsExt, symlink};
    use std::path::PathBuf;

    use super::*;

    struct Scratch(PathBuf);

    impl Scratch {
        fn new() -> Self {
            let path = std::env::temp_dir().join(format!("cerbas-private-{}", uuid::Uuid::new_v4()));
            fs::create_dir(&path).unwrap();
            Scratch(path)
        }

        fn with(self, name: &str, mode: u32) -> Self {
            let path = self.0.join(name);
            fs::create_dir_all(path.parent().unwrap()).unwrap();
            fs::write(&path, name).unwrap();
            fs::set_permissions(&path, fs::Permissions::from_mode(mode)).unwrap();
            self
        }

        fn mode(&self, name: &str) -> u32 {
            fs::metadata(self.0.join(name)).unwrap().mode() & 0o7777
        }
    }

    impl Drop for Scratch {
        fn drop(&mut self) {
            fs::remove_dir_all(&self.0).unwrap();
        }
    }

    #[test]
    fn what_is_made_is_its_owners_alone() {
        let scratch = Scratch::new();
        make_folder(&scratch.0.join("a/b")).unwrap();
        create(&scratch.0.join("a/b/new")).unwrap();
        append(&scratch.0.join("a/b/log")).unwrap();
        let modes = ["a", "a/b", "a/b/new", "a/b/log"].map(|name| scratch.mode(name));
        assert_eq!(modes, [0o700, 0o700, 0o600, 0o600]);
    }

    #[test]
    fn a_file_that_was_open_to_all_is_narrowed_when_it_is_opened() {
        let scratch = Scratch::new().with("old", 0o644);
        append(&scratch.0.join("old")).unwrap();
        assert_eq!(scratch.mode("old"), 0o600);
    }

    #[test]
    fn a_folder_of_ours_is_narrowed_with_all_that_is_in_it() {
        let scratch = Scratch::new().with("ours", 0o644).with("ours.d/deep/file", 0o755);
        assert!(narrow(&scratch.0, |name| name.starts_with("ours")).unwrap());
        let modes = ["", "ours", "ours.d", "ours.d/deep", "ours.d/deep/file"].map(|name| scratch.mode(name));
        assert_eq!(modes, [0o700, 0o600, 0o700, 0o700, 0o700]);
    }

    #[test]
    fn a_folder_that_is_used_for_other_things_too_keeps_its_mode_and_they_theirs() {
        let scratch = Scratch::new().with("ours", 0o644).with("theirs", 0o644);
        fs::set_permissions(&scratch.0, fs::Permissions::from_mode(0o755)).unwrap();
        assert!(!narrow(&scratch.0, |name| name == "ours").unwrap());
        assert_eq!(["", "ours", "theirs"].map(|name| scratch.mode(name)), [0o755, 0o600, 0o644]);
    }

    #[test]
    fn what_a_link_leads_to_is_neither_written_nor_narrowed() {
        let scratch = Scratch::new().with("elsewhere", 0o644);
        fs::create_dir(scratch.0.join("state")).unwrap();
        symlink(scratch.0.join("elsewhere"), scratch.0.join("state/log")).unwrap();
        append(&scratch.0.join("state/log")).unwrap_err();
        create(&scratch.0.join("state/log")).unwrap_err();
        assert!(narrow(&scratch.0.join("state"), |_| true).unwrap());
        assert_eq!(scratch.mode("elsewhere"), 0o644);
        assert_eq!(fs::read_to_string(scratch.0.join("elsewhere")).unwrap(), "elsewhere");
    }
}
