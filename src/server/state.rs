//! The folder for what must outlive a restart: nobody else may look into it.

use std::io::ErrorKind;
use std::path::Path;

use crate::private;

/// What a daemon keeps there: a folder `redis`, and files that begin with the name of the part that writes them.
fn is_ours(name: &str) -> bool {
    name == "redis" || ["redis.", "store.", "cron.", "inspect."].iter().any(|part| name.starts_with(part))
}

/// Closes what an earlier version has left open to others.
pub(super) fn close(folder: &Path) {
    match private::narrow(folder, is_ours) {
        Ok(true) => {}
        Ok(false) => log::warn!(
            "{}: others can look into it, and it is used for other things, too, so it stays as it is; chmod 700 it, or give \
             the daemon a state_dir of its own",
            folder.display()
        ),
        Err(error) if error.kind() == ErrorKind::NotFound => {}
        Err(error) => log::warn!("{}: cannot be closed to others: {error}", folder.display()),
    }
}
