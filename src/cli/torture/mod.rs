//! `cerbas torture`: the promise, put to the test on this machine. Daemons and a Redis of its own are killed, held up and
//! overloaded for a while; then every request that Redis acknowledged must have exactly one verdict.

mod account;
mod daemon;
mod faults;
mod kinds;
mod load;
mod random;
mod report;
mod settings;
mod watch;
mod world;

use std::collections::{BTreeMap, HashMap};
use std::time::{Duration, Instant};

use crossbeam_channel::Receiver;
use humantime::parse_duration;

use self::account::{Evidence, Sent, settle};
pub(super) use self::daemon::{Daemon, Worker};
use self::faults::{Deck, Fault};
use self::kinds::Kind;
use self::load::Load;
use self::random::Random;
use self::report::Report;
use self::settings::WORKERS;
use self::watch::Watch;
use self::world::World;
use super::exit::{Exit, Failure};
use super::output::{self, Waiting};
use crate::broker::{Inspect, Operator, RoughClient, Target};
use crate::protocol::keys::Keys;
use crate::protocol::{Answer, RequestId};
use crate::signals::{self, Signalled};

#[derive(clap::Args)]
pub(super) struct Torture {
    /// How long it goes on
    #[arg(long = "for", value_name = "DURATION", default_value = "60s", value_parser = parse_duration)]
    duration: Duration,
    /// How many daemons
    #[arg(long, default_value_t = 3, value_parser = clap::value_parser!(u64).range(1..=16))]
    nodes: u64,
    /// How many requests a second, about
    #[arg(long, default_value_t = 400, value_parser = clap::value_parser!(u64).range(1..=10_000))]
    rate: u64,
    /// Repeats what was done in another run. Default: by chance
    #[arg(long)]
    seed: Option<u64>,
    /// Print a JSON object
    #[arg(long)]
    json: bool,
}

/// How often it is looked whether something is due.
const TICK: Duration = Duration::from_millis(10);

/// How long all may take to become quiet afterwards.
const PATIENCE: Duration = Duration::from_secs(120);

/// How many answers are asked for at once.
const PAGE: usize = 1000;

/// Anything that keeps it from going on.
fn failed(what: &str, why: impl std::fmt::Display) -> Failure {
    Failure::new(Exit::CannotStart, format!("torture: {what}: {why}"))
}

impl Torture {
    pub(super) fn run(self) -> Result<Exit, Failure> {
        let seed = self.seed.unwrap_or_else(|| u64::from(uuid::Uuid::new_v4().as_fields().0));
        let signals = signals::listen().map_err(|error| failed("listening to signals", error))?;
        let mut world = World::start(self.nodes as usize)?;
        let target = Target::new(&world.url(), None, None)?;
        let keys = Keys::new("CERBAS", target.database());
        let report = self.torture(seed, &mut world, &target, &keys, signals.received())?;
        if self.json {
            output::print(&report.json().to_string())?;
        } else {
            output::print_lines(&report.lines())?;
        }
        if report.holds() {
            return Ok(Exit::Done);
        }
        let kept = world.keep_files().map_err(|error| failed("keeping the logs", error))?;
        output::complain(&format!("the logs of the daemons and the data of Redis are in {}", kept.display()));
        Ok(Exit::Failed)
    }

    fn torture(
        &self,
        seed: u64,
        world: &mut World,
        target: &Target,
        keys: &Keys,
        signals: &Receiver<Signalled>,
    ) -> Result<Report, Failure> {
        let mut random = Random::new(seed);
        let mut deck = Deck::new(Random::new(random.next()));
        let load = Load::start(RoughClient::new(target.clone(), keys.clone()), random, self.rate);
        let watch = Watch::start(target.clone(), keys.clone());
        let shown = Waiting::show("torture".to_owned());
        let start = Instant::now();

        let mut done = BTreeMap::new();
        let mut next = start;
        while start.elapsed() < self.duration && !is_told_to_stop(signals) {
            let now = Instant::now();
            if now >= next {
                let fault = deck.deal();
                let length = deck.length(fault);
                if apply(fault, length, world, &load, &mut deck, now) {
                    *done.entry(fault).or_insert(0) += 1;
                }
                next = now + deck.pause();
                let count: u64 = done.values().sum();
                shown.update(format!("torture: {count} faults, {} requests, last: {}", load.sent(), fault.name()));
            }
            world.turn(now)?;
            std::thread::sleep(TICK);
        }
        let seconds = start.elapsed().as_secs_f64();
        let sent = load.stop();
        world.calm(Instant::now());
        shown.update(format!("torture: waiting until {} requests have their verdict", sent.len()));
        let mut evidence = become_quiet(world, target, keys, sent, signals)?;
        let seen = watch.stop();
        world.finish()?;
        evidence.strange.extend(world.ends.strange.iter().chain(&seen.unbalanced).cloned());
        evidence.runs = runs(world)?;
        let (nodes, ends) = (self.nodes as usize, world.ends.clone());
        Ok(Report { seed, seconds, nodes, faults: done, ends, seen, account: settle(&evidence) })
    }
}

fn is_told_to_stop(signals: &Receiver<Signalled>) -> bool {
    matches!(signals.try_recv(), Ok(Signalled::Stop(_)))
}

/// Does it; false if there is nothing that it could be done to.
fn apply(fault: Fault, length: Duration, world: &mut World, load: &Load, deck: &mut Deck, now: Instant) -> bool {
    let first = deck.pick(world.daemons());
    let count = world.daemons();
    // The first of them that it can be done to.
    let mut numbers = (0..count).map(|number| (first + number) % count);
    match fault {
        Fault::KillDaemon => numbers.any(|number| world.kill(number, now, length)),
        Fault::EndDaemon => numbers.any(|number| world.end(number, now, length)),
        Fault::PauseDaemon | Fault::DelayDaemon => numbers.any(|number| world.pause(number, now, length)),
        Fault::KillRedis => world.kill_redis(now, length),
        Fault::PauseRedis => world.pause_redis(now, length),
        Fault::DeadlyRequest => {
            load.order(Kind::Deadly, 1);
            true
        }
        Fault::FillPool => {
            load.order(Kind::Slow, world.daemons() * WORKERS * 4);
            true
        }
    }
}

/// Waits until each request has its answer and nothing is open, and looks at what there is then.
fn become_quiet(
    world: &mut World,
    target: &Target,
    keys: &Keys,
    sent: Vec<Sent>,
    signals: &Receiver<Signalled>,
) -> Result<Evidence, Failure> {
    let mut client = RoughClient::new(target.clone(), keys.clone());
    let mut answers = HashMap::new();
    let start = Instant::now();
    loop {
        world.turn(Instant::now())?;
        std::thread::sleep(TICK * 10);
        let missing: Vec<RequestId> = sent
            .iter()
            .filter(|sent| sent.kind.is_answered() && !answers.contains_key(&sent.id))
            .map(|sent| sent.id.clone())
            .collect();
        // Redis may have been started just now.
        let open = find(&mut client, &missing, &mut answers)
            .and_then(|()| Operator::connect(target, keys.clone()))
            .and_then(|mut operator| Ok((operator.jobs(PAGE)?, operator)));
        let is_over = start.elapsed() > PATIENCE || is_told_to_stop(signals);
        match open {
            Ok((open, mut operator)) if open.is_empty() || is_over => {
                // What was answered since it was looked for.
                find(&mut client, &missing, &mut answers)?;
                let dead = operator.dead()?.into_iter().filter_map(|entry| entry.letter.id).collect();
                let counted = operator.overview()?.verdicts.unwrap_or_default();
                let open = open.iter().map(|job| format!("{:?} of {:?}: {:?}", job.id, job.func, job.stand)).collect();
                return Ok(Evidence { sent, answers, dead, counted, open, ..Evidence::default() });
            }
            Err(error) if is_over => return Err(error.into()),
            Ok(_) | Err(_) => {}
        }
    }
}

/// Looks for the answers to `missing`.
fn find(
    client: &mut RoughClient,
    missing: &[RequestId],
    answers: &mut HashMap<RequestId, Answer>,
) -> crate::broker::Result<()> {
    for page in missing.chunks(PAGE) {
        for (id, json) in page.iter().zip(client.answers(page)?) {
            if let Some(answer) = json.and_then(|json| serde_json::from_slice(&json).ok()) {
                answers.insert(id.clone(), answer);
            }
        }
    }
    Ok(())
}

/// How often each id ran, as it was written down.
fn runs(world: &World) -> Result<HashMap<String, u32>, Failure> {
    let text = std::fs::read_to_string(world.runs()).map_err(|error| failed("the record of runs", error))?;
    let mut runs = HashMap::new();
    for id in text.lines() {
        *runs.entry(id.to_owned()).or_insert(0) += 1;
    }
    Ok(runs)
}
