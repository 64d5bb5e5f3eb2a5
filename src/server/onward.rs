//! How functions of this daemon reach others: through the broker, as any client does.

use std::sync::Mutex;

use crate::broker::Post;
use crate::client::{Client, ClientError};
use crate::functions::{Caller, Onward};
use crate::lock::Unpoisoned;
use crate::protocol::{Answer, CallError, Node, Outcome, Status};

/// Opens a connection to send over.
type Open = Box<dyn Fn() -> Result<Box<dyn Post>, ClientError> + Send + Sync>;

/// So many connections are kept for the next calls.
const MOST_IDLE: usize = 16;

/// Sends calls of functions over connections that are used again.
pub(super) struct Exchange {
    open: Open,
    idle: Mutex<Vec<Box<dyn Post>>>,
}

impl Exchange {
    /// Calls go over connections that `open` opens.
    pub(super) fn new(open: impl Fn() -> Result<Box<dyn Post>, ClientError> + Send + Sync + 'static) -> Self {
        Exchange { open: Box::new(open), idle: Mutex::default() }
    }

    fn take(&self) -> Result<Box<dyn Post>, ClientError> {
        let kept = self.idle.lock().unpoisoned().pop();
        kept.map_or_else(|| (self.open)(), Ok)
    }

    fn keep(&self, post: Box<dyn Post>) {
        let mut idle = self.idle.lock().unpoisoned();
        if idle.len() < MOST_IDLE {
            idle.push(post);
        }
    }
}

impl Caller for Exchange {
    fn call(&self, call: Onward) -> Outcome {
        let failed = |error: ClientError| CallError::Failed(error.to_string());
        let mut client = Client::over(self.take().map_err(failed)?).patience(call.patience).chain(call.chain);
        if let Some(user) = call.user {
            client = client.user(user);
        }
        if let Some(source) = call.source {
            client = client.source(source);
        }
        if let Some(node) = call.node {
            client = client.node(node);
        }
        let answer = client.ask(&call.func, call.args);
        self.keep(client.into_post());
        match answer {
            Ok(answer) => outcome_of(answer),
            Err(ClientError::NoAnswer { .. }) => Err(CallError::TimedOut),
            Err(error) => Err(failed(error)),
        }
    }

    fn nodes(&self) -> Result<Vec<Node>, String> {
        let failed = |error: ClientError| error.to_string();
        let mut client = Client::over(self.take().map_err(failed)?);
        let nodes = client.nodes().map_err(failed);
        self.keep(client.into_post());
        nodes
    }
}

fn outcome_of(answer: Answer) -> Outcome {
    if answer.status == Status::Ok {
        return Ok(answer.data);
    }
    Err(answer.error())
}
