//! How soon others run what a killed daemon was running.

use std::time::{Duration, Instant};

use super::bare::Wire;
use super::daemon::Daemon;
use super::failed;
use crate::broker::{Inspect, Member, Operator, ScratchRedis, Target};
use crate::cli::exit::Failure;
use crate::protocol::keys::Keys;

/// How many requests run when their daemon is killed.
pub(super) const RUNNING: u64 = 16;

/// Two daemons with a worker for each of them, and the usual lease.
const CONFIG: &str = "\
[redis]
server = \"external\"

[server]
workers = 16

[functions.slow]
builtin = \"slow\"
timeout = \"1m\"
";

/// How long anything may take before something is wrong.
const LONGEST: Duration = Duration::from_secs(60);

/// Kills `rounds` daemons on as many servers, all at the same time, since each only waits; gives back after how many seconds
/// all their requests ran elsewhere.
pub(super) fn measure(rounds: u64) -> Result<Vec<f64>, Failure> {
    std::thread::scope(|scope| {
        let rounds: Vec<_> = (0..rounds).map(|round| scope.spawn(move || once(PHASE * round as u32))).collect();
        rounds.into_iter().map(|round| round.join().expect("a round only measures")).collect()
    })
}

/// The rounds differ in how long their daemons have lived, as a heartbeat comes every 3.3 s.
const PHASE: Duration = Duration::from_millis(700);

fn once(phase: Duration) -> Result<f64, Failure> {
    let scratch = ScratchRedis::start().map_err(|reason| failed("its Redis", reason))?;
    let target = Target::new(&scratch.url(), None, None)?;
    let mut operator = Operator::connect(&target, Keys::new("CERBAS", target.database()))?;
    let killed = Daemon::start_with(&scratch, CONFIG)?;
    let mut wire = Wire::connect(scratch.address()).map_err(|error| failed("its requests", error))?;
    for number in 0..RUNNING {
        let element = format!(r#"{{"id":"recovery-{number}","func":"slow"}}"#);
        wire.ask(&[b"RPUSH", b"CERBAS-QUEUE", element.as_bytes()]).map_err(|error| failed("its requests", error))?;
    }
    let first =
        until(&mut operator, |members| Some(members.iter().find(|member| member.claimed == RUNNING)?.node.clone()))?;
    let _other = Daemon::start_with(&scratch, CONFIG)?;
    std::thread::sleep(phase);
    killed.kill();
    let start = Instant::now();
    // There is a worker for each, so what is claimed runs.
    until(&mut operator, |members| {
        members.iter().find(|member| member.node != first && member.claimed == RUNNING).map(drop)
    })?;
    Ok(start.elapsed().as_secs_f64())
}

fn until<T>(operator: &mut Operator, find: impl Fn(&[Member]) -> Option<T>) -> Result<T, Failure> {
    let start = Instant::now();
    while start.elapsed() < LONGEST {
        if let Some(found) = find(&operator.members()?) {
            return Ok(found);
        }
        std::thread::sleep(Duration::from_millis(5));
    }
    Err(failed("recovery", format!("the requests do not run after {LONGEST:?}")))
}
