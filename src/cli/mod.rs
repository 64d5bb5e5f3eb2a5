//! The command line: parse, do, and turn the result into an exit status.

mod bench;
mod call;
mod check;
mod columns;
mod cron;
mod dead;
mod doctor;
mod exit;
mod jobs;
mod nodes;
mod output;
mod place;
mod run;
mod status;
mod token;
mod top;
mod torture;
mod why;

use std::path::PathBuf;
use std::process::ExitCode;

use clap::{CommandFactory, Parser, Subcommand};

use self::exit::Failure;
use self::place::Place;

/// The exit statuses, as `--help` shows them.
const EXIT_STATUSES: &str = "\
Exit status:
  0  done
  1  the function answered an error; check or doctor found faults; run had to abandon something;
     why, jobs or dead know nothing of an id, or could not do it; torture found something lost
  2  the command line is wrong
  3  the function ran out of time
  4  no daemon answers
  5  Redis cannot be reached, or refuses
  6  cerbas cannot start: its configuration or its machine
  7  run: a thread of the daemon has panicked, which is a bug in cerbas";

/// Answers requests from Redis with functions, on a fixed pool of threads.
#[derive(Parser)]
#[command(name = "cerbas", version, after_help = EXIT_STATUSES, disable_help_subcommand = true)]
struct CommandLine {
    #[command(subcommand)]
    command: Command,
}

/// The daemon alone. It stays in memory, so it does not make the other commands first.
#[derive(Parser)]
#[command(name = "cerbas", version)]
enum DaemonLine {
    /// Run the daemon in the foreground
    Run(run::Run),
}

#[derive(Subcommand)]
enum Command {
    /// Run the daemon in the foreground
    Run(run::Run),
    /// Look for faults in the configuration
    Check(check::Check),
    /// Call a function and wait for its value
    Call(call::Call),
    /// Send a request and do not wait
    Send(call::Send),
    /// List the functions of the configuration
    Functions(check::List),
    /// Stop the daemon, by its function `halt`
    Halt(call::Halt),
    /// List the daemons
    Nodes(nodes::Nodes),
    /// Show queues, daemons, counts and rates
    Status(status::Status),
    /// Watch them, live in the terminal
    Top(top::Top),
    /// Tell what became of a request, or what it waits for
    Why(why::Why),
    /// List requests without a verdict, and cancel them
    Jobs(jobs::Jobs),
    /// Look at requests that failed for good, and send them again
    Dead(dead::Dead),
    /// Look whether anything can be promised on this Redis
    Doctor(doctor::Doctor),
    /// Tell what a crontab means, and when
    Cron(cron::Cron),
    /// Make a token for the HTTP gateway
    Token(token::MakeToken),
    /// Measure a scratch daemon on a scratch Redis, each figure beside its limit
    Bench(bench::Bench),
    /// Kill and hold up scratch daemons and a scratch Redis, and look whether a request is lost
    Torture(torture::Torture),
    /// Print a completion script
    Completions {
        /// For which shell
        shell: clap_complete::Shell,
    },
    /// The bare loop that answers calls in `bench`
    #[command(hide = true)]
    BenchEcho(bench::Echo),
    /// One of the daemons of `torture`
    #[command(hide = true)]
    TortureDaemon(torture::Daemon),
    /// A worker process of such a daemon
    #[command(hide = true)]
    TortureWorker(torture::Worker),
}

/// Where the configuration is.
#[derive(clap::Args, Clone)]
struct ConfigPath {
    /// The configuration
    #[arg(long, value_name = "FILE", default_value = "cerbas.toml", env = "CERBAS_CONFIG")]
    config: PathBuf,
}

/// The program `cerbas`.
pub fn main() -> ExitCode {
    let is_daemon = std::env::args_os().nth(1).is_some_and(|name| name == "run");
    let command = if is_daemon {
        let DaemonLine::Run(run) = DaemonLine::parse();
        Command::Run(run)
    } else {
        CommandLine::parse().command
    };
    let done = match command {
        Command::Run(run) => run.run(),
        Command::Check(check) => check.run(),
        Command::Call(call) => call.run(),
        Command::Send(send) => send.run(),
        Command::Functions(list) => list.run(),
        Command::Halt(halt) => halt.run(),
        Command::Nodes(nodes) => nodes.run(),
        Command::Status(status) => status.run(),
        Command::Top(top) => top.run(),
        Command::Why(why) => why.run(),
        Command::Jobs(jobs) => jobs.run(),
        Command::Dead(dead) => dead.run(),
        Command::Doctor(doctor) => doctor.run(),
        Command::Cron(cron) => cron.run(),
        Command::Token(token) => token.run(),
        Command::Bench(bench) => bench.run(),
        Command::BenchEcho(echo) => echo.run(),
        Command::Torture(torture) => torture.run(),
        Command::TortureDaemon(daemon) => daemon.run(),
        Command::TortureWorker(worker) => worker.run(),
        Command::Completions { shell } => {
            let mut script = Vec::new();
            clap_complete::generate(shell, &mut CommandLine::command(), "cerbas", &mut script);
            output::print_bytes(&script)
        }
    };
    match done {
        Ok(exit) => exit.into(),
        Err(Failure { exit, message }) => {
            output::complain(&message);
            exit.into()
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_command_line_is_well_formed() {
        CommandLine::command().debug_assert();
    }
}
