//! The thread at which a running daemon is asked.
//!
//! One question for each connection, in a line, and its answer in another. Nothing here waits for a client: one that says nothing,
//! or does not read, is let go after [`PATIENCE`], and earlier where others need its place.

use std::collections::VecDeque;
use std::io::{self, ErrorKind, Read, Write};
use std::os::fd::OwnedFd;
use std::os::unix::net::UnixStream;
use std::path::Path;
use std::sync::Arc;
use std::time::{Duration, Instant};

use rustix::event::{EventfdFlags, PollFd, PollFlags, Timespec, eventfd, poll};
use rustix::io::Errno;

use super::question::refusal;
use super::socket::{self, Bound};
use crate::thread::{Joined, Pulse, Threads};

/// What the thread is called, and its pulse.
const THREAD: &str = "inspect";

/// A client has so long to ask and to read its answer.
const PATIENCE: Duration = Duration::from_secs(10);

/// So many are served at once; one more takes the place of the one that came first.
const MOST: usize = 16;

/// The longest question, in bytes: a request on the dead list, or one of cron.
const LONGEST: usize = 16 << 20;

/// After an error that would come again at once.
const PAUSE: Duration = Duration::from_millis(100);

/// Answers a question, which is a line without its end.
pub(crate) type Answer = Box<dyn FnMut(&[u8]) -> Vec<u8> + Send>;

/// A daemon that can be asked, until this is dropped.
pub(crate) struct Listener {
    told: Arc<OwnedFd>,
    // Joined when it is dropped, after it was told.
    thread: Option<Joined>,
}

impl Listener {
    /// Listens in `folder`, and answers with `answer`.
    pub(crate) fn open(folder: &Path, answer: Answer, threads: &Threads) -> io::Result<Self> {
        let bound = socket::bind(folder)?;
        let pulse = threads.pulse(THREAD);
        let told = Arc::new(eventfd(0, EventfdFlags::CLOEXEC | EventfdFlags::NONBLOCK)?);
        let thread = threads.spawn(THREAD, {
            let told = Arc::clone(&told);
            move || Talk { bound, told, answer, clients: VecDeque::new() }.run(&pulse)
        })?;
        Ok(Listener { told, thread: Some(thread) })
    }
}

impl Drop for Listener {
    fn drop(&mut self) {
        let _full_is_told_as_well = rustix::io::write(&self.told, &1u64.to_ne_bytes());
        self.thread = None;
    }
}

/// The state of the thread.
struct Talk {
    bound: Bound,
    told: Arc<OwnedFd>,
    answer: Answer,
    /// The one that came first is the first.
    clients: VecDeque<Client>,
}

impl Talk {
    fn run(mut self, pulse: &Pulse) {
        loop {
            pulse.rest();
            let ready = self.wait();
            pulse.beat();
            match ready {
                Ok(Ready { is_told: true, .. }) => return,
                Ok(Ready { comes, .. }) => {
                    self.serve();
                    if comes && let Err(error) = self.take() {
                        log::warn!("inspect: a client cannot be taken: {error}");
                        std::thread::sleep(PAUSE);
                    }
                }
                Err(error) => {
                    log::warn!("inspect: {error}");
                    std::thread::sleep(PAUSE);
                }
            }
        }
    }

    /// Until a client comes or can go on, the patience with one is over, or the end is told.
    fn wait(&self) -> io::Result<Ready> {
        let mut handles =
            vec![PollFd::new(&*self.told, PollFlags::IN), PollFd::new(&self.bound.listener, PollFlags::IN)];
        handles.extend(self.clients.iter().map(|client| PollFd::new(&client.stream, client.waits_for())));
        let left = self.clients.front().map(|client| client.deadline.saturating_duration_since(Instant::now()));
        let left = left.and_then(|left| Timespec::try_from(left).ok());
        match poll(&mut handles, left.as_ref()) {
            Ok(_) | Err(Errno::INTR) => {}
            Err(errno) => return Err(errno.into()),
        }
        let is_ready = |at: usize| !handles[at].revents().is_empty();
        Ok(Ready { is_told: is_ready(0), comes: is_ready(1) })
    }

    /// Goes on with each client as far as it lets us.
    fn serve(&mut self) {
        let (now, answer) = (Instant::now(), &mut self.answer);
        self.clients.retain_mut(|client| now < client.deadline && client.go_on(answer).unwrap_or(false));
    }

    fn take(&mut self) -> io::Result<()> {
        let stream = match self.bound.listener.accept() {
            Ok((stream, _)) => stream,
            Err(error) if matches!(error.kind(), ErrorKind::WouldBlock | ErrorKind::Interrupted) => return Ok(()),
            Err(error) => return Err(error),
        };
        stream.set_nonblocking(true)?;
        let mut client = Client { stream, said: Vec::new(), answer: None, deadline: Instant::now() + PATIENCE };
        if !socket::may_ask(&client.stream) {
            client.answer = Some((refusal("only the user of the daemon and root may ask it"), 0));
        }
        if self.clients.len() == MOST {
            self.clients.pop_front();
        }
        self.clients.push_back(client);
        Ok(())
    }
}

struct Ready {
    is_told: bool,
    /// Somebody connects.
    comes: bool,
}

/// Somebody who asks.
struct Client {
    stream: UnixStream,
    said: Vec<u8>,
    /// The answer, and how much of it was sent.
    answer: Option<(Vec<u8>, usize)>,
    deadline: Instant,
}

impl Client {
    fn waits_for(&self) -> PollFlags {
        if self.answer.is_some() { PollFlags::OUT } else { PollFlags::IN }
    }

    /// Reads, answers and writes as far as that goes at once. Tells whether there is more to do.
    fn go_on(&mut self, answer: &mut Answer) -> io::Result<bool> {
        loop {
            let done = match &mut self.answer {
                None => match self.read() {
                    Ok(true) => {
                        self.answer = Some((self.answered(answer), 0));
                        continue;
                    }
                    Ok(false) => return Ok(false),
                    Err(error) => Err(error),
                },
                Some((text, sent)) if *sent < text.len() => self.stream.write(&text[*sent..]).map(|more| *sent += more),
                Some(_) => return Ok(false),
            };
            match done {
                Err(error) if error.kind() == ErrorKind::WouldBlock => return Ok(true),
                Err(error) if error.kind() == ErrorKind::Interrupted => {}
                done => done?,
            }
        }
    }

    /// Reads on to the end of a question, or to its longest length; false where the client is gone before.
    fn read(&mut self) -> io::Result<bool> {
        let mut part = [0; 4096];
        while !self.said.ends_with(b"\n") && self.said.len() <= LONGEST {
            match self.stream.read(&mut part)? {
                0 => return Ok(false),
                count => self.said.extend_from_slice(&part[..count]),
            }
        }
        Ok(true)
    }

    fn answered(&self, answer: &mut Answer) -> Vec<u8> {
        match self.said.strip_suffix(b"\n") {
            Some(question) => answer(question),
            None => refusal(&format!("a question has at most {LONGEST} bytes")),
        }
    }
}

#[cfg(test)]
mod tests {
    use std::fs;
    use std::os::unix::fs::PermissionsExt;
    use std::path::PathBuf;

    use super::super::calls::Calls;
    use super::super::remote::Remote;
    use super::*;
    use crate::broker::{Cause, Fate, Inspect, Memory};
    use crate::inspect::question::answer;
    use crate::protocol::{OpenCall, RequestId};
    use crate::thread::Threads;

    /// A folder that goes with the test.
    struct Scratch(PathBuf);

    impl Scratch {
        fn new(name: &str) -> Self {
            Scratch(std::env::temp_dir().join(format!("cerbas-inspect-{}", uuid::Uuid::new_v4())).join(name))
        }

        fn listen(&self, memory: &Memory) -> io::Result<Listener> {
            let mut memory = memory.clone();
            let answer = move |line: &[u8]| answer(line, &mut memory, &Nothing);
            Listener::open(&self.0, Box::new(answer), &Threads::default())
        }

        fn remote(&self) -> Option<Remote> {
            Remote::find(&self.0).expect("the folder can be used")
        }
    }

    impl Drop for Scratch {
        fn drop(&mut self) {
            let _never_made = fs::remove_dir_all(self.0.parent().expect("it is in another"));
        }
    }

    /// A daemon that has no calls besides.
    struct Nothing;

    impl Calls for Nothing {
        fn node(&self) -> &str {
            "n.1"
        }

        fn open(&self) -> Vec<OpenCall> {
            Vec::new()
        }

        fn find(&self, _: &RequestId) -> Vec<OpenCall> {
            Vec::new()
        }

        fn cancel(&self, _: &RequestId) -> bool {
            false
        }
    }

    fn memory() -> Memory {
        Memory::new(Duration::from_secs(60))
    }

    #[test]
    fn what_is_asked_over_the_socket_is_what_the_broker_says() {
        let (scratch, mut memory) = (Scratch::new("state"), memory());
        memory.push(0, r#"{"id": "a", "func": "f"}"#);
        let _listener = scratch.listen(&memory).expect("nobody else is there");
        let mut remote = scratch.remote().expect("it runs");
        assert_eq!(remote.jobs(5), Inspect::jobs(&mut memory, 5));
        let id = RequestId::from_text("a").expect("it is an id");
        assert!(matches!(remote.fate(&id), Ok(Fate::Open(_))));
        assert_eq!(remote.cancel(&id, Duration::ZERO), Ok(crate::broker::Found::Waiting));
        let there = remote.answer(&id).expect("it answers").expect("it has ended");
        assert_eq!(there.0.verdict().as_str(), "cancelled");
    }

    #[test]
    fn the_socket_is_its_owners_alone_and_goes_with_the_daemon() {
        let scratch = Scratch::new("state");
        let listener = scratch.listen(&memory()).expect("nobody else is there");
        let socket = socket::path(&scratch.0);
        let mode = fs::symlink_metadata(&socket).expect("it is there").permissions().mode();
        assert_eq!(mode & 0o777, 0o600);
        let mut remote = scratch.remote().expect("it runs");
        drop(listener);
        assert!(!socket.exists() && scratch.remote().is_none());
        assert_eq!(remote.members().expect_err("it has ended").cause, Cause::NoDaemon);
    }

    #[test]
    fn a_socket_that_is_left_behind_is_replaced_and_that_of_a_living_daemon_is_not() {
        let scratch = Scratch::new("state");
        fs::create_dir_all(&scratch.0).expect("a folder can be made");
        drop(std::os::unix::net::UnixListener::bind(socket::path(&scratch.0)).expect("it can be made"));
        assert!(scratch.remote().is_none(), "nobody listens at what is left");
        let _first = scratch.listen(&memory()).expect("nobody else is there");
        let second = scratch.listen(&memory()).err().expect("the first one is there");
        assert!(second.to_string().contains("state_dir of its own"), "{second}");
        assert_eq!(scratch.remote().expect("the first one answers").members(), Ok(vec![]));
    }

    #[test]
    fn a_folder_with_a_long_path_is_no_obstacle() {
        let scratch = Scratch::new(&"long/".repeat(40));
        let _listener = scratch.listen(&memory()).expect("it is bound by the folder");
        assert_eq!(scratch.remote().expect("it runs").members(), Ok(vec![]));
    }

    #[test]
    fn clients_that_say_nothing_hold_nobody_up_and_give_way_to_others() {
        let scratch = Scratch::new("state");
        let _listener = scratch.listen(&memory()).expect("nobody else is there");
        let mut silent: Vec<UnixStream> =
            (0..MOST + 3).map(|_| socket::connect(&scratch.0).expect("it can be").expect("it runs")).collect();
        assert_eq!(scratch.remote().expect("it runs").members(), Ok(vec![]));
        // The first ones were let go.
        assert_eq!(silent[0].read(&mut [0; 1]).expect("it is closed"), 0);
    }

    #[test]
    fn what_is_longer_than_a_question_can_be_is_refused() {
        let scratch = Scratch::new("state");
        let _listener = scratch.listen(&memory()).expect("nobody else is there");
        let mut stream = socket::connect(&scratch.0).expect("it can be").expect("it runs");
        let chunk = vec![b' '; 1 << 20];
        // The last part may find it closed.
        let _sent = (0..17).try_for_each(|_| stream.write_all(&chunk));
        let mut answer = String::new();
        let _closed = stream.read_to_string(&mut answer);
        assert!(answer.contains("a question has at most"), "{answer}");
    }
}
