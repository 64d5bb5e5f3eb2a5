//! What needs the broker, and so may have to wait: on threads of its own.

use std::io;
use std::sync::{Arc, Weak};

use crossbeam_channel::{Receiver, Sender, TrySendError, bounded};

use super::answers::{Answers, Wait, Wants};
use super::door::Place;
use super::mailbox::{Mail, Mailbox};
use super::response::Response;
use crate::broker::Post;
use crate::net::Handle;
use crate::protocol::RequestId;
use crate::thread::{Joined, Pulse, Threads};

/// So many threads ask the broker.
const CLERKS: usize = 2;

/// So much may wait for them.
const MOST_JOBS: usize = 256;

/// Opens a client's side of the broker; the error says why it cannot.
pub type OpenPost = Arc<dyn Fn() -> Result<Box<dyn Post>, String> + Send + Sync>;

/// A client's side of the broker, for one thread: opened when it is needed, and again after it was let go.
pub(super) struct Line {
    open: OpenPost,
    post: Option<Box<dyn Post>>,
}

impl Line {
    pub(super) fn new(open: &OpenPost) -> Self {
        Line { open: Arc::clone(open), post: None }
    }

    pub(super) fn post(&mut self) -> Result<&mut dyn Post, String> {
        let post = match self.post.take() {
            Some(post) => post,
            None => (self.open)()?,
        };
        Ok(&mut **self.post.insert(post))
    }

    /// Something went wrong: whatever it was, the next one begins anew.
    pub(super) fn let_go(&mut self) {
        self.post = None;
    }
}

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
    /// The caller waits for what becomes of a request.
    Wait(Wait),
}

enum Job {
    /// The caller wants to know something.
    Ask { caller: Caller, ask: Ask },
    /// Nobody waits for a request any more, and it has not started: to cancel it is its verdict.
    Cancel(RequestId),
}

/// Hands out work to the threads.
pub(super) struct Desk {
    jobs: Option<Arc<Sender<Job>>>,
    _clerks: Vec<Joined>,
}

impl Desk {
    pub(super) fn start(open: &OpenPost, threads: &Threads) -> io::Result<Self> {
        let (jobs, taken) = bounded::<Job>(MOST_JOBS);
        let jobs = Arc::new(jobs);
        let (answers, listener) = Answers::start(open, threads)?;
        let answers = Arc::new(answers);
        let mut clerks = Vec::new();
        for number in 0..CLERKS {
            let clerk = Clerk { line: Line::new(open), answers: Arc::clone(&answers), jobs: Arc::downgrade(&jobs) };
            let taken = taken.clone();
            let pulse = threads.pulse(&format!("http-desk-{number}"));
            clerks.push(threads.spawn("http-desk", move || clerk.run(&taken, &pulse))?);
        }
        // It ends when the clerks have.
        clerks.push(listener);
        Ok(Desk { jobs: Some(jobs), _clerks: clerks })
    }

    /// Lets somebody ask; `None` if too many wait already.
    pub(super) fn ask(&self, caller: Caller, ask: Ask) -> Option<()> {
        match self.jobs.as_ref()?.try_send(Job::Ask { caller, ask }) {
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
    line: Line,
    answers: Arc<Answers>,
    /// The way back here.
    jobs: Weak<Sender<Job>>,
}

impl Clerk {
    fn run(mut self, jobs: &Receiver<Job>, pulse: &Pulse) {
        loop {
            pulse.rest();
            let Ok(job) = jobs.recv() else { return };
            pulse.beat();
            match job {
                Job::Ask { caller, .. } if caller.place.is_given_up() => {}
                Job::Ask { caller, ask } => match ask(self.line.post()) {
                    Ok(Asked::Done(response)) => tell(caller, response),
                    Ok(Asked::Wait(wait)) => self.let_wait(caller, wait),
                    Err(error) => {
                        self.line.let_go();
                        tell(caller, away(&error));
                    }
                },
                Job::Cancel(id) => {
                    let post = self.line.post();
                    let cancelled = post.and_then(|post| post.cancel(&id).map_err(|error| error.to_string()));
                    if cancelled.is_err() {
                        // It ends by its own limit.
                        self.line.let_go();
                    }
                }
            }
        }
    }

    fn let_wait(&mut self, caller: Caller, wait: Wait) {
        if let Wants::Verdict = wait.wants {
            let (id, jobs) = (wait.id.clone(), self.jobs.clone());
            caller.place.when_given_up(move || {
                // Where too much is to be done, it ends by its own limit.
                let _is_told = jobs.upgrade().map(|jobs| jobs.try_send(Job::Cancel(id)));
            });
        }
        if let Err(both) = self.answers.wait(caller, wait, &mut self.line) {
            let (caller, wait) = *both;
            tell(caller, wait.unmet());
        }
    }
}

/// Answers `caller`.
pub(super) fn tell(caller: Caller, response: Response) {
    caller.mailbox.send(Mail::Answer { to: caller.to, serial: caller.serial, response });
}

/// The broker cannot be asked.
fn away(error: &str) -> Response {
    log::warn!("http: {error}");
    Response::error(503, "the queue cannot be reached at this moment").with("Retry-After", "5")
}
