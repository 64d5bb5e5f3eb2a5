//! One request for all nodes: each runs it, and the answers come back together.

use std::collections::HashSet;
use std::thread;

use super::onward::Onward;
use super::{Body, Call};
use crate::protocol::{Answer, Arguments, CallError, Json, Node, Object, Outcome};

/// Sends the call to every living node and gathers their answers: an object with the answer of each under its name, or under
/// its id where several have the same name.
pub(crate) struct Everywhere;

/// So many nodes are asked at once; more than any cluster of one Redis should have.
const MOST: usize = 256;

impl Body for Everywhere {
    fn run(&self, call: &Call, args: Arguments) -> Outcome {
        let failed = |reason: String| CallError::Failed(format!("all nodes: {reason}"));
        let caller = call.way.0.as_deref().ok_or_else(|| failed("there is no way to others".to_owned()))?;
        let nodes = caller.nodes().map_err(failed)?;
        if nodes.len() > MOST {
            return Err(failed(format!("there are {}, at most {MOST} can be asked together", nodes.len())));
        }
        let ask = |node: &Node| {
            caller.call(Onward {
                func: call.func.clone(),
                args: args.clone(),
                node: Some(node.node.clone()),
                user: call.user.clone(),
                source: call.source.clone(),
                chain: call.chain.clone(),
                patience: call.remaining(),
            })
        };
        let ask = &ask;
        let answers: Vec<Outcome> = thread::scope(|scope| {
            let asked: Vec<_> = nodes.iter().map(|node| scope.spawn(move || ask(node))).collect();
            asked.into_iter().map(|thread| thread.join().unwrap_or(Err(CallError::Lost))).collect()
        });
        let mut seen = HashSet::new();
        let shared: HashSet<&str> =
            nodes.iter().map(|node| node.status.name.as_str()).filter(|name| !seen.insert(*name)).collect();
        let named = nodes.iter().zip(answers).map(|(node, outcome)| {
            let name = if shared.contains(node.status.name.as_str()) { &node.node } else { &node.status.name };
            let answer = Json::of(&Answer::from(outcome))?;
            Ok((name.as_str().into(), answer))
        });
        let named: serde_json::Result<Object> = named.collect();
        named.and_then(|named| Json::of(&named)).map_err(|error| failed(error.to_string()))
    }

    fn kind(&self) -> &'static str {
        "everywhere"
    }
}
