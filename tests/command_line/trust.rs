//! What the daemon of root believes: nothing that somebody else could have written.

use std::fs;
use std::os::unix::fs::{PermissionsExt, chown, symlink};

use super::program::{Place, eventually, is_root};

const NOBODY: u32 = 65534;

/// A place whose daemon runs what is in the folder `jobs`, and nothing yet.
fn place(key: &str) -> Place {
    let place = Place::empty();
    fs::create_dir(place.path("jobs")).expect("a folder can be made");
    place.write("cerbas.toml", &format!("[redis]\nserver = \"none\"\n[cron]\n{key} = [\"jobs\"]\n"));
    place
}

fn mode(place: &Place, name: &str, mode: u32) {
    fs::set_permissions(place.path(name), fs::Permissions::from_mode(mode)).expect("it is ours");
}

fn give_away(place: &Place, name: &str) {
    chown(place.path(name), Some(NOBODY), None).expect("root can");
}

/// That a crontab is good, and after `spoil` it is not.
#[track_caller]
fn check_refused(key: &str, spoil: impl FnOnce(&Place), said: &str) {
    let place = place(key);
    let line = if key == "files" { "@every 1s true\n" } else { "@every 1s root true\n" };
    place.write("jobs/job", line);
    assert_eq!(place.run(&["check"]).status, Some(0));
    spoil(&place);
    let check = place.run(&["check"]);
    assert_eq!(check.status, Some(1), "{said}: {check:?}");
    assert!(check.stdout.contains(said), "no {said:?} in {check:?}");
}

#[test]
fn root_runs_no_crontab_that_somebody_else_could_have_written() {
    if !is_root() {
        return;
    }
    for key in ["files", "system_files"] {
        check_refused(key, |place| give_away(place, "jobs/job"), "jobs/job: belongs to user 65534");
        check_refused(key, |place| mode(place, "jobs/job", 0o664), "jobs/job: others than its owner can write it");
        check_refused(key, |place| mode(place, "jobs", 0o1777), "jobs: others than its owner can put files into it");
        check_refused(key, |place| mode(place, "jobs", 0o775), "jobs: others than its owner can put files into it");
        check_refused(key, |place| give_away(place, "jobs"), "jobs: belongs to user 65534");
        check_refused(key, |place| give_away(place, ""), "belongs to user 65534");
        let twice = |place: &Place| fs::hard_link(place.path("jobs/job"), place.path("other")).expect("it can be made");
        check_refused(key, twice, "jobs/job: has 2 names");
        let link = |place: &Place| {
            place.write("his", "@every 1s root true\n");
            give_away(place, "his");
            symlink(place.path("his"), place.path("jobs/link")).expect("a link can be made");
        };
        check_refused(key, link, "jobs/link: belongs to user 65534");
    }
}

#[test]
fn a_crontab_that_is_given_to_somebody_else_runs_nothing_new_until_root_has_it_again() {
    if !is_root() {
        return;
    }
    let place = place("files");
    let here = place.path("").display().to_string();
    place.write("jobs/job", &format!("@every 1s touch {here}/first\n"));
    let daemon = place.daemon();
    eventually("it runs", || place.path("first").exists());
    give_away(&place, "jobs/job");
    daemon.wait_for("jobs/job: belongs to user 65534, who could run anything as root through it; chown root ");
    place.write("jobs/job", &format!("@every 1s touch {here}/second\n"));
    // Two looks of the daemon: one at another file shows that it has looked at this one, too.
    place.write("jobs/more", "61 * * * * true\n");
    daemon.wait_for("jobs/more:1:1: ");
    assert!(!place.path("second").exists());
    fs::remove_file(place.path("jobs/more")).expect("it is there");
    chown(place.path("jobs/job"), Some(0), None).expect("root can");
    eventually("what root has runs", || place.path("second").exists());
}

#[test]
fn root_takes_no_configuration_of_somebody_else() {
    if !is_root() {
        return;
    }
    let place = Place::empty();
    place.write("cerbas.toml", "[redis]\nserver = \"none\"\n[functions.hello]\nbuiltin = \"hello\"\n");
    give_away(&place, "cerbas.toml");
    let said = "cerbas.toml: belongs to user 65534, who could run anything as root through it; chown root cerbas.toml, \
                or run cerbas as another user than root";
    place.check_fails(&["run"], 6, &[said]);
    place.check(&["check"], 1, &format!("{said}\n"), "");
    // Who only looks runs nothing.
    assert_eq!(place.run(&["functions"]).status, Some(0));

    chown(place.path("cerbas.toml"), Some(0), None).expect("root can");
    mode(&place, "cerbas.toml", 0o666);
    place.check_fails(&["run"], 6, &["cerbas.toml: others than its owner can write it", "chmod go-w cerbas.toml"]);

    mode(&place, "cerbas.toml", 0o644);
    place.write("url", "redis://127.0.0.1:1/1\n");
    give_away(&place, "url");
    place.write("cerbas.toml", "[redis]\nurl_file = \"url\"\nserver = \"external\"\n");
    place.check_fails(&["run"], 6, &["redis.url_file: cannot read ", "belongs to user 65534"]);
}

#[test]
fn an_import_does_not_tell_root_to_run_what_users_can_change() {
    if !is_root() {
        return;
    }
    let place = Place::empty();
    fs::create_dir(place.path("spool")).expect("a folder can be made");
    place.write("spool/nobody", "MAILTO=me\n*/5 * * * *  id > who\n@daily backup\n");
    place.write("spool/john.doe", "* * * * * true\n");
    give_away(&place, "spool/nobody");
    let output = place.run(&["cron", "import", "spool"]);
    assert_eq!(output.status, Some(0), "{output:?}");
    for part in [
        "spool/nobody:2: */5 * * * *  nobody: id > who\n",
        "spool/john.doe: is passed over for its name",
        "\n    system_files = [\"/etc/cerbas/crontabs\"]\n",
        "each user could run anything as root",
        "\n# /etc/cerbas/crontabs/nobody, from spool/nobody\nMAILTO=me\n*/5 * * * * nobody id > who\n@daily nobody backup\n",
    ] {
        assert!(output.stdout.contains(part), "no {part:?} in\n{}", output.stdout);
    }
    assert!(!output.stdout.contains("\n    files = "), "{}", output.stdout);
}
