//! `cerbas bench`: a daemon of its own on a scratch Redis, each figure beside its limit on the same Redis.
//!
//! The limit of a figure is a bare loop that sends the commands which a request needs and does nothing else. Machines are
//! shared and noisy, so daemon and limit take turns, and medians and their ratio are what counts.

mod bare;
mod calls;
mod daemon;
mod drain;
mod table;

use std::time::Duration;

use self::daemon::Daemon;
use self::drain::Form;
use self::table::{Figure, Table};
use super::exit::{Exit, Failure};
use super::output::{self, Waiting};
use crate::broker::ScratchRedis;

#[derive(clap::Args)]
pub(super) struct Bench {
    /// How many waiting requests are drained
    #[arg(long, default_value_t = 50_000, value_parser = clap::value_parser!(u64).range(1000..=1_000_000))]
    requests: u64,
    /// How many calls one client makes; all together make four times as many
    #[arg(long, default_value_t = 5_000, value_parser = clap::value_parser!(u64).range(100..=1_000_000))]
    calls: u64,
    /// How many clients call at once
    #[arg(long, default_value_t = 32, value_parser = clap::value_parser!(u64).range(2..=256))]
    clients: u64,
    /// How often each figure is measured; the medians are printed
    #[arg(long, default_value_t = 3, value_parser = clap::value_parser!(u64).range(1..=100))]
    rounds: u64,
    /// Let Redis write its append-only file, as the managed one does
    #[arg(long)]
    persist: bool,
    /// Print a JSON array
    #[arg(long)]
    json: bool,
}

/// The bare loop that answers calls, as a process of its own.
#[derive(clap::Args)]
pub(super) struct Echo {
    /// Host and port of Redis
    address: String,
}

impl Echo {
    pub(super) fn run(self) -> Result<Exit, Failure> {
        bare::echo(&self.address).map_err(|error| Failure::new(Exit::NoRedis, error))
    }
}

/// Anything that keeps the bench from going on.
fn failed(what: &str, why: impl std::fmt::Display) -> Failure {
    Failure::new(Exit::Failed, format!("bench: {what}: {why}"))
}

impl Bench {
    pub(super) fn run(self) -> Result<Exit, Failure> {
        let scratch = if self.persist { ScratchRedis::start_with_log() } else { ScratchRedis::start() };
        let scratch = scratch.map_err(|reason| Failure::new(Exit::CannotStart, reason))?;
        let mut table = Table::default();
        for (form, name) in
            [(Form::Numbered, "drain, numbered, answered"), (Form::InlineSilent, "drain, inline, reply: false")]
        {
            self.drain(&scratch, form, name, &mut table)?;
        }
        self.calls(&scratch, 1, self.calls, &mut table)?;
        self.calls(&scratch, self.clients, self.calls * 4, &mut table)?;
        idle(&scratch, &mut table)?;
        output::print_bytes(if self.json { table.json() } else { table.text() }.as_bytes())
    }

    fn drain(&self, scratch: &ScratchRedis, form: Form, name: &str, table: &mut Table) -> Result<(), Failure> {
        let (mut ours, mut limits, mut peaks) = (Vec::new(), Vec::new(), Vec::new());
        for round in 1..=self.rounds {
            let _shown = Waiting::show(format!("{name}, round {round} of {}", self.rounds));
            drain::fill(scratch, form, self.requests)?;
            limits.push(
                bare::drain(scratch.address(), form, self.requests).map_err(|error| failed("the bare loop", error))?,
            );
            drain::fill(scratch, form, self.requests)?;
            let daemon = Daemon::start(scratch)?;
            ours.push(drain::measure(scratch, self.requests)?);
            peaks.push(daemon.peak_memory());
            daemon.stop()?;
        }
        table.add(Figure::rate(name, "requests/s", &ours, &limits, 0.8));
        table.add(Figure::below(&format!("{name}: peak memory"), "MiB", &peaks, 24.0));
        Ok(())
    }

    fn calls(&self, scratch: &ScratchRedis, clients: u64, calls: u64, table: &mut Table) -> Result<(), Failure> {
        let name = if clients == 1 { "call, 1 client".to_owned() } else { format!("call, {clients} clients") };
        let (mut ours, mut limits) = (Vec::new(), Vec::new());
        for round in 1..=self.rounds {
            let _shown = Waiting::show(format!("{name}, round {round} of {}", self.rounds));
            scratch.flush().map_err(|reason| failed("emptying Redis", reason))?;
            let echo = daemon::start_echo(scratch)?;
            limits.push(calls::measure(scratch, clients, calls)?);
            drop(echo);
            scratch.flush().map_err(|reason| failed("emptying Redis", reason))?;
            let daemon = Daemon::start(scratch)?;
            ours.push(calls::measure(scratch, clients, calls)?);
            daemon.stop()?;
        }
        let pick = |of: fn(&calls::Latencies) -> f64| {
            let of_all = |runs: &[calls::Latencies]| runs.iter().map(of).collect::<Vec<f64>>();
            (of_all(&ours), of_all(&limits))
        };
        let (median, median_limit) = pick(|run| run.median);
        let (p99, p99_limit) = pick(|run| run.p99);
        let (rate, rate_limit) = pick(|run| run.per_second);
        if clients == 1 {
            table.add(Figure::latency(&format!("{name}: median"), &median, &median_limit, Some(0.30)));
            table.add(Figure::latency(&format!("{name}: p99"), &p99, &p99_limit, None));
        } else {
            let goal = (clients == 32).then_some(20_000.0);
            table.add(Figure::at_least(&name, "calls/s", &rate, &rate_limit, goal));
            table.add(Figure::latency(&format!("{name}: median"), &median, &median_limit, None));
            table.add(Figure::latency(&format!("{name}: p99"), &p99, &p99_limit, None));
        }
        Ok(())
    }
}

/// How long the idle daemon is watched.
const IDLE: Duration = Duration::from_secs(10);

fn idle(scratch: &ScratchRedis, table: &mut Table) -> Result<(), Failure> {
    let _shown = Waiting::show("idle".to_owned());
    scratch.flush().map_err(|reason| failed("emptying Redis", reason))?;
    let mut starts = Vec::new();
    for _ in 0..4 {
        let daemon = Daemon::start(scratch)?;
        starts.push(daemon.started_in().as_secs_f64() * 1000.0);
        daemon.stop()?;
    }
    let daemon = Daemon::start(scratch)?;
    let before = daemon.cpu_time();
    std::thread::sleep(IDLE);
    let used = daemon.cpu_time().saturating_sub(before);
    table.add(Figure::below("ready after start", "ms", &starts, 100.0));
    table.add(Figure::below("idle: resident memory", "MiB", &[daemon.memory()], 8.0));
    table.add(Figure::below("idle: processor", "%", &[used.as_secs_f64() / IDLE.as_secs_f64() * 100.0], 0.2));
    daemon.stop()?;
    let program = std::env::current_exe().and_then(std::fs::metadata);
    let size = program.map_err(|error| failed("the program's size", error))?.len() as f64 / f64::from(1 << 20);
    table.add(Figure::below("size of the program", "MiB", &[size], 8.0));
    Ok(())
}
