//! What root believes; who owns what is made up, so that nobody has to be root.

use std::collections::HashMap;

use super::*;

const TOM: u32 = 1000;

fn facts(owner: u32, mode: u32) -> Facts {
    Facts { owner, mode, names: 1 }
}

/// A file system in which all folders that nothing is said of are root's, and 755.
#[derive(Default)]
struct World(HashMap<PathBuf, Seen>);

impl World {
    fn with(mut self, path: &str, owner: u32, mode: u32) -> Self {
        self.0.insert(path.into(), (facts(owner, mode), None));
        self
    }

    fn with_link(mut self, path: &str, owner: u32, target: &str) -> Self {
        self.0.insert(path.into(), (facts(owner, 0o777), Some(target.into())));
        self
    }

    fn walk(&self, path: &str) -> Result<PathBuf, Unread> {
        walk(Path::new(path), |path| Ok(self.0.get(path).cloned().unwrap_or((facts(ROOT, 0o755), None))))
    }

    #[track_caller]
    fn check(&self, path: &str, expected: &str) {
        let found = self.walk(path).map_or_else(|error| error.to_string(), |found| found.display().to_string());
        assert_eq!(found, expected);
    }
}

#[test]
fn a_file_is_roots_and_nobody_else_can_write_it() {
    for mode in [0o644, 0o600, 0o755, 0o100_644] {
        assert_eq!(judge(facts(ROOT, mode), Role::File), Ok(()));
    }
    assert_eq!(judge(facts(TOM, 0o600), Role::File), Err(Flaw::Owner(TOM)));
    for mode in [0o664, 0o646, 0o666, 0o622] {
        assert_eq!(judge(facts(ROOT, mode), Role::File), Err(Flaw::Writable), "{mode:o}");
    }
}

#[test]
fn a_crontab_has_one_name() {
    let linked = Facts { names: 2, ..facts(ROOT, 0o644) };
    assert_eq!(judge(linked, Role::Crontab), Err(Flaw::Names(2)));
    // One whose last name is gone was put aside while it was opened.
    assert_eq!(judge(Facts { names: 0, ..linked }, Role::Crontab), Err(Flaw::Names(0)));
    assert_eq!(judge(linked, Role::File), Ok(()));
}

#[test]
fn a_sticky_folder_may_be_on_the_way_but_its_files_are_not_all_believed() {
    let sticky = facts(ROOT, 0o1777);
    assert_eq!(judge(sticky, Role::Above), Ok(()));
    assert_eq!(judge(sticky, Role::Folder), Err(Flaw::Writable));
    assert_eq!(judge(facts(ROOT, 0o777), Role::Above), Err(Flaw::Writable));
    assert_eq!(judge(facts(TOM, 0o1777), Role::Above), Err(Flaw::Owner(TOM)));
}

#[test]
fn each_folder_above_a_file_is_looked_at() {
    World::default().check("/etc/cerbas/CRONTAB", "/etc/cerbas/CRONTAB");
    World::default().with("/tmp", ROOT, 0o1777).check("/tmp/x/CRONTAB", "/tmp/x/CRONTAB");
    World::default().with("/home/tom", TOM, 0o755).check(
        "/home/tom/jobs/CRONTAB",
        "the folder /home/tom belongs to user 1000, who could run anything as root through it; chown root /home/tom",
    );
    World::default().with("/srv", ROOT, 0o775).check(
        "/srv/jobs/CRONTAB",
        "the folder /srv can be written by others than its owner, who could run anything as root; chmod go-w /srv",
    );
    // The last step is judged when it is open.
    World::default().with("/etc/CRONTAB", TOM, 0o666).check("/etc/CRONTAB", "/etc/CRONTAB");
}

#[test]
fn links_are_roots_as_well_as_all_they_lead_through() {
    let world = World::default().with_link("/etc/jobs", ROOT, "../srv/./jobs").with_link("/opt/a", ROOT, "/etc/jobs/b");
    world.check("/etc/jobs/x", "/srv/jobs/x");
    world.check("/opt/a", "/srv/jobs/b");
    world.check("/opt/../opt/a/..", "/srv/jobs");
    World::default().with("/tmp", ROOT, 0o1777).with_link("/tmp/a", TOM, "/etc/CRONTAB").check(
        "/tmp/a",
        "the link /tmp/a belongs to user 1000, who could run anything as root through it; chown -h root /tmp/a",
    );
    let home = World::default().with("/home/tom", TOM, 0o755);
    let through = home.with_link("/etc/CRONTAB", ROOT, "/home/tom/CRONTAB").walk("/etc/CRONTAB").unwrap_err();
    assert!(through.to_string().starts_with("the folder /home/tom belongs to user 1000"), "{through}");
}

#[test]
fn links_that_lead_in_a_circle_are_an_error() {
    let world = World::default().with_link("/a", ROOT, "b").with_link("/b", ROOT, "a");
    assert!(matches!(world.walk("/a"), Err(Unread::System(_))));
}

#[test]
fn what_the_kernel_leads_to_without_a_path_is_judged_when_it_is_open() {
    let world = World::default().with_link("/dev/fd", ROOT, "/proc/self/fd").with_link("/proc/self", ROOT, "4711");
    world.check("/dev/fd/63", "/proc/self/fd/63");
}

#[test]
fn who_is_not_root_reads_what_he_can() {
    let path = std::env::temp_dir().join(format!("cerbas-trust-{}", uuid::Uuid::new_v4()));
    fs::write(&path, "a").unwrap();
    fs::set_permissions(&path, std::os::unix::fs::PermissionsExt::from_mode(0o666)).unwrap();
    assert_eq!(Trust::All.read(&path, Role::Crontab).unwrap(), b"a");
    if rustix::process::geteuid().is_root() {
        let refused = Trust::Root.read(&path, Role::Crontab).unwrap_err().to_string();
        let expected = "others than its owner can write it, and it would run as root; chmod go-w ";
        assert_eq!(refused, format!("{expected}{}", path.display()));
    }
    fs::remove_file(&path).unwrap();
    assert!(Trust::Root.check(&path, Role::File).is_ok(), "what is not there cannot do harm");
}
