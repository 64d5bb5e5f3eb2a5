//! `cerbas bench`: a daemon of its own on a scratch Redis, each figure beside its limit on the same Redis.
//!
//! The limit of a figure is a bare loop that sends the commands which a request needs and does nothing else. Machines are
//! shared and noisy, so daemon and limit take turns, and medians and their ratio are what counts.

mod bare;
mod calls;
mod daemon;
mod drain;
mod recovery;
mod table;

use std::time::Duration;

use self::daemon::Daemon;
use self::drain::Form;
use self::table::{Figure, Table, median};
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
    /// How many requests one daemon does in a row, to see whether its memory grows; 0 leaves that out
    #[arg(long, default_value_t = 1_000_000, value_parser = clap::value_parser!(u64).range(0..=100_000_000))]
    endurance: u64,
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
        self.compare(&scratch, &mut table)?;
        self.calls(&scratch, 1, self.calls, &mut table)?;
        self.calls(&scratch, self.clients, self.calls * 4, &mut table)?;
        idle(&scratch, &mut table)?;
        self.endure(&scratch, &mut table)?;
        recover(&mut table)?;
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

    /// What crash safety costs, and what further daemons bring.
    fn compare(&self, scratch: &ScratchRedis, table: &mut Table) -> Result<(), Failure> {
        let (mut safe, mut once, mut bare, mut four) = (Vec::new(), Vec::new(), Vec::new(), Vec::new());
        for round in 1..=self.rounds {
            let _shown = Waiting::show(format!("drain, compared, round {round} of {}", self.rounds));
            safe.push(self.drain_with(scratch, Form::Numbered, 1)?);
            once.push(self.drain_with(scratch, Form::AtMostOnce, 1)?);
            four.push(self.drain_with(scratch, Form::Numbered, 4)?);
            drain::fill(scratch, Form::AtMostOnce, self.requests)?;
            let rate = bare::drain(scratch.address(), Form::AtMostOnce, self.requests);
            bare.push(rate.map_err(|error| failed("the bare loop", error))?);
        }
        table.add(Figure::rate("drain, beside at-most-once", "requests/s", &safe, &once, 0.85));
        table.add(Figure::rate("drain, beside a bare loop without safety", "requests/s", &safe, &bare, 0.85));
        table.add(Figure::rate("drain with 4 daemons, beside 1", "requests/s", &four, &safe, 1.0));
        Ok(())
    }

    /// The rate at which `daemons` daemons drain a full queue.
    fn drain_with(&self, scratch: &ScratchRedis, form: Form, daemons: usize) -> Result<f64, Failure> {
        drain::fill(scratch, form, self.requests)?;
        let daemons: Vec<Daemon> = (0..daemons).map(|_| Daemon::start(scratch)).collect::<Result<_, _>>()?;
        let rate = drain::measure(scratch, self.requests)?;
        daemons.into_iter().try_for_each(Daemon::stop)?;
        Ok(rate)
    }

    /// Whether the memory of a daemon grows.
    fn endure(&self, scratch: &ScratchRedis, table: &mut Table) -> Result<(), Failure> {
        const STEP: u64 = 100_000;
        let steps = self.endurance / STEP;
        if steps == 0 {
            return Ok(());
        }
        scratch.flush().map_err(|reason| failed("emptying Redis", reason))?;
        let daemon = Daemon::start(scratch)?;
        let mut memory = Vec::new();
        for step in 1..=steps {
            let _shown = Waiting::show(format!("memory, {} of {} requests", step * STEP, self.endurance));
            drain::add(scratch, Form::Numbered, STEP)?;
            drain::until_empty(scratch)?;
            memory.push(daemon.memory());
            table.add(Figure::plain(&format!("memory after {} requests", step * STEP), "MiB", daemon.memory()));
        }
        daemon.stop()?;
        // Of three each, as one look may find the allocator before or after it has tidied up.
        let third = memory.len().min(3);
        let (first, last) = (median(&memory[..third]), median(&memory[memory.len() - third..]));
        let growth = (last - first).max(0.0);
        table.add(Figure::below("memory: growth, first three to last three", "MiB", &[growth], 1.0));
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

/// How many daemons are killed.
const KILLS: u64 = 5;

fn recover(table: &mut Table) -> Result<(), Failure> {
    let _shown = Waiting::show("recovery after kill -9".to_owned());
    let times = recovery::measure(KILLS)?;
    table.add(Figure::below(&format!("kill -9: {} calls run elsewhere", recovery::RUNNING), "s", &times, 12.0));
    Ok(())
}

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
