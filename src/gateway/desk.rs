//! What needs the broker, and so may have to wait: on threads of its own.

use std::collections::VecDeque;
use std::io;
use std::sync::Arc;
use std::time::{Duration, Instant};

use crossbeam_channel::{Receiver, RecvTimeoutError, Sender, TrySendError, bounded};

use super::door::Place;
use super::mailbox::{Mail, Mailbox};
use super::response::Response;
use crate::broker::{Post, Stage};
use crate::net::Handle;
use crate::protocol::RequestId;
use crate::thread::{Joined, Threads};

/// So many threads ask the broker.
const CLERKS: usize = 2;

/// So much may wait for them.
const MOST_JOBS: usize = 256;

/// How often the broker is asked for those who wait for a change.
const PAUSE: Duration = Duration::from_millis(20);

/// So many are asked for in one round trip.
const BATCH: usize = 512;

/// Opens a client's side of the broker; the error says why it cannot.
pub type OpenPost = Arc<dyn Fn() -> Result<Box<dyn Post>, String> + Send + Sync>;

/// Where the answer goes.
pub(super) struct Caller {
    /// Of the thread that has the connection.
    pub(super) mailbox: Arc<Mailbox>,
    pub(super) to: Handle,
    pub(super) serial: u32,
    /// Its place among the calls that wait.
    pub(super) place: Place,
}

/// Asks the broker once; it may not be there.
pub(super) type Ask = Box<dyn FnOnce(Result<&mut dyn Post, String>) -> Result<Asked, String> + Send>;

/// What the broker said.
pub(super) enum Asked {
    /// All that is needed.
    Done(Response),
    /// The caller waits for a change of this request.
    Wait(Wait),
}

/// What a caller waits for.
pub(super) struct Wait {
    pub(super) id: RequestId,
    /// It waits no longer.
    pub(super) until: Instant,
    /// What it waits for.
    pub(super) wants: Wants,
    /// Makes the answer from what is known at the end.
    pub(super) answer: Box<dyn Fn(&Stage) -> Response + Send>,
}

/// When a wait is over.
pub(super) enum Wants {
    /// With any change of this.
    Change(Stage),
    /// With the verdict.
    Verdict,
}

impl Wants {
    fn are_met_by(&self, stage: &Stage) -> bool {
        match self {
            Wants::Change(known) => stage != known,
            Wants::Verdict => matches!(stage, Stage::Done(_) | Stage::Unknown),
        }
    }

    /// What is known where nothing more comes.
    fn last(&self) -> &Stage {
        match self {
            Wants::Change(known) => known,
            Wants::Verdict => &Stage::Pending,
        }
    }
}

struct Job {
    caller: Caller,
    ask: Ask,
}

/// Hands out work to the threads.
pub(super) struct Desk {
    jobs: Option<Sender<Job>>,
    _clerks: Vec<Joined>,
}

impl Desk {
    pub(super) fn start(open: &OpenPost, threads: &Threads) -> io::Result<Self> {
        let (jobs, taken) = bounded::<Job>(MOST_JOBS);
        let (waits, waiting) = bounded::<(Caller, Wait)>(MOST_JOBS * 16);
        let mut clerks = Vec::new();
        for _ in 0..CLERKS {
            let clerk = Clerk { post: None, open: Arc::clone(open) };
            let (taken, waits) = (taken.clone(), waits.clone());
            clerks.push(threads.spawn("http-desk", move || clerk.run(&taken, &waits))?);
        }
        let clerk = Clerk { post: None, open: Arc::clone(open) };
        clerks.push(threads.spawn("http-waits", move || clerk.watch(&waiting))?);
        Ok(Desk { jobs: Some(jobs), _clerks: clerks })
    }

    /// Lets somebody ask; `None` if too many wait already.
    pub(super) fn ask(&self, caller: Caller, ask: Ask) -> Option<()> {
        match self.jobs.as_ref()?.try_send(Job { caller, ask }) {
            Ok(()) => Some(()),
            Err(TrySendError::Full(_) | TrySendError::Disconnected(_)) => None,
        }
    }
}

impl Drop for Desk {
    fn drop(&mut self) {
        self.jobs = None;
    }
}

struct Clerk {
    /// Opened when it is needed.
    post: Option<Box<dyn Post>>,
    open: OpenPost,
}

impl Clerk {
    fn run(mut self, jobs: &Receiver<Job>, waits: &Sender<(Caller, Wait)>) {
        for Job { caller, ask } in jobs {
            if caller.place.is_given_up() {
                continue;
            }
            let response = match ask(self.post()) {
                Ok(Asked::Done(response)) => response,
                Ok(Asked::Wait(wait)) => match waits.try_send((caller, wait)) {
                    Ok(()) => continue,
                    Err(TrySendError::Full((caller, wait)) | TrySendError::Disconnected((caller, wait))) => {
                        tell(caller, (wait.answer)(wait.wants.last()));
                        continue;
                    }
                },
                Err(error) => {
                    // Whatever it was, the next one begins anew.
                    self.post = None;
                    away(&error)
                }
            };
            tell(caller, response);
        }
    }

    /// Asks again and again for those who wait.
    fn watch(mut self, arriving: &Receiver<(Caller, Wait)>) {
        let mut waits: VecDeque<(Caller, Wait)> = VecDeque::new();
        loop {
            let arrived = match waits.is_empty() {
                true => arriving.recv().map_err(|_| RecvTimeoutError::Disconnected),
                false => arriving.recv_timeout(PAUSE),
            };
            match arrived {
                Ok(wait) => {
                    waits.push_back(wait);
                    waits.extend(arriving.try_iter());
                }
                Err(RecvTimeoutError::Timeout) => {}
                Err(RecvTimeoutError::Disconnected) => {
                    return waits.into_iter().for_each(|(caller, wait)| tell(caller, (wait.answer)(wait.wants.last())));
                }
            }
            let ids: Vec<RequestId> = waits.iter().map(|(_, wait)| wait.id.clone()).collect();
            let mut stages = Vec::with_capacity(ids.len());
            for ids in ids.chunks(BATCH) {
                match self.post().and_then(|post| post.stages(ids).map_err(|error| error.to_string())) {
                    Ok(some) => stages.extend(some.into_iter().map(Some)),
                    Err(_) => {
                        self.post = None;
                        stages.extend(ids.iter().map(|_| None));
                    }
                }
            }
            let now = Instant::now();
            for stage in stages {
                let Some((caller, wait)) = waits.pop_front() else { break };
                if stage == Some(Stage::Pending) {
                    caller.place.start();
                }
                if caller.place.is_given_up() {
                    self.withdraw(caller, wait, stage.as_ref(), &mut waits);
                    continue;
                }
                match stage {
                    Some(stage) if wait.wants.are_met_by(&stage) => tell(caller, (wait.answer)(&stage)),
                    // Also while the broker is away: the client asked to be told by then.
                    _ if now >= wait.until => tell(caller, (wait.answer)(wait.wants.last())),
                    _ => waits.push_back((caller, wait)),
                }
            }
        }
    }

    /// Nobody waits for `wait` any more. A call that has not started is cancelled, which is its verdict.
    fn withdraw(&mut self, caller: Caller, wait: Wait, stage: Option<&Stage>, waits: &mut VecDeque<(Caller, Wait)>) {
        if !matches!(wait.wants, Wants::Verdict) || matches!(stage, Some(Stage::Done(_) | Stage::Unknown)) {
            return;
        }
        let cancelled = self.post().and_then(|post| post.cancel(&wait.id).map_err(|error| error.to_string()));
        if cancelled.is_err() {
            self.post = None;
            // It is tried again, until its time is over by itself.
            if Instant::now() < wait.until {
                waits.push_back((caller, wait));
            }
        }
    }

    fn post(&mut self) -> Result<&mut dyn Post, String> {
        if self.post.is_none() {
            self.post = Some((self.open)()?);
        }
        Ok(&mut **self.post.as_mut().expect("it was opened just now"))
    }
}

fn tell(caller: Caller, response: Response) {
    caller.mailbox.send(Mail::Answer { to: caller.to, serial: caller.serial, response });
}

/// The broker cannot be asked.
fn away(error: &str) -> Response {
    log::warn!("http: {error}");
    Response::error(503, "the queue cannot be reached at this moment").with("Retry-After", "5")
}
