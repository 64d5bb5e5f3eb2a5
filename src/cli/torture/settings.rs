//! What holds for the daemons that are tortured.

use std::path::Path;
use std::time::Duration;

/// How soon a daemon that is silent is taken for dead: short, so that much happens in a minute.
pub(super) const LEASE: Duration = Duration::from_secs(1);

/// How long running calls have when a daemon is told to end.
const SHUTDOWN: Duration = Duration::from_secs(2);

/// Workers of each daemon.
pub(super) const WORKERS: usize = 8;

/// The further queue that some requests go into.
pub(super) const BULK: &str = "bulk";

/// How long a call may run that is to end by itself: longer than all that happens here.
pub(super) const LONG: Duration = Duration::from_secs(120);

/// How long one may run that never ends.
pub(super) const SHORT: Duration = Duration::from_millis(300);

/// The configuration of every daemon: `runs` is where commands and workers write down each run, `program` is this program.
pub(super) fn configuration(url: &str, runs: &Path, program: &Path) -> String {
    // A text of JSON is one of TOML, too.
    let quoted = |text: &str| serde_json::Value::from(text).to_string();
    let (runs, program) = (quoted(&runs.display().to_string()), quoted(&program.display().to_string()));
    let mut text = format!(
        "[redis]\nurl = {}\nserver = \"external\"\n\
         [server]\nworkers = {WORKERS}\nlease = {}\nshutdown_timeout = {}\nresult_ttl = \"1h\"\n\
         [queues.{BULK}]\npriority = 2\n",
        quoted(url),
        milliseconds(LEASE),
        milliseconds(SHUTDOWN),
    );
    for (name, script, timeout) in [
        ("command", "printf %s \"$CERBAS_ID\"", LONG),
        ("command-dies", "kill -9 $$", LONG),
        // Not for ever: nobody ends it when its daemon is killed.
        ("command-hangs", "sleep 3", SHORT),
    ] {
        let script = quoted(&format!("echo \"$CERBAS_ID\" >>\"$RUNS\"; {script}"));
        let timeout = milliseconds(timeout);
        text += &format!(
            "[functions.{name}]\ncommand = [\"/bin/sh\", \"-c\", {script}]\nenv = {{ RUNS = {runs} }}\n\
             timeout = {timeout}\nconcurrency = 2\n"
        );
    }
    for name in ["worker", "worker-dies"] {
        text += &format!(
            "[functions.{name}]\nworker = [{program}, \"torture-worker\", {runs}]\nprocesses = 2\ntimeout = {}\n",
            milliseconds(LONG)
        );
    }
    text
}

fn milliseconds(duration: Duration) -> String {
    format!("\"{}ms\"", duration.as_millis())
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::config::Config;

    #[test]
    fn the_configuration_has_no_fault_wherever_its_files_are() {
        let text = configuration("redis://127.0.0.1:6379/1", Path::new("/tmp/a \"b\" \\ c/runs"), Path::new("/bin/sh"));
        let nothing: [(&str, &str); 0] = [];
        let config = Config::from_text(&text, "torture.toml", nothing).expect("it can be read");
        assert_eq!(config.check(), Ok(()));
        assert_eq!((config.functions.len(), config.server.lease), (5, LEASE));
    }
}
