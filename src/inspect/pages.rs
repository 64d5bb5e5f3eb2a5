//! What of it is shown over HTTP.

use std::sync::{Arc, Mutex};

use crate::broker::{Inspect, Result};
use crate::lock::Unpoisoned;
use crate::pages::{Answer, Asked, Method, Page, Pages, Reply};
use crate::protocol::{Json, Node};

/// Opens an operator's side of the broker.
pub(crate) type OpenInspect = Arc<dyn Fn() -> Result<Box<dyn Inspect>> + Send + Sync>;

const NODES: &[Page] = &[
    Page { path: "/api/nodes", methods: &[(Method::Get, None)] },
    Page { path: "/api/v1/nodes", methods: &[(Method::Get, None)] },
];

/// The pages.
pub(crate) struct InspectPages {
    open: OpenInspect,
    /// One that nobody uses at the moment.
    idle: Arc<Mutex<Option<Box<dyn Inspect>>>>,
}

impl InspectPages {
    pub(crate) fn new(open: OpenInspect) -> Self {
        InspectPages { open, idle: Arc::default() }
    }
}

impl Pages for InspectPages {
    fn pages(&self) -> &[Page] {
        NODES
    }

    fn ask(&self, _: usize, _: &Asked<'_>) -> Reply {
        let (open, idle) = (Arc::clone(&self.open), Arc::clone(&self.idle));
        Reply::Later(Box::new(move || {
            let unused = idle.lock().unpoisoned().take();
            let nodes = unused.map_or_else(|| open(), Ok).and_then(|mut inspect| {
                let nodes = nodes(&mut *inspect)?;
                *idle.lock().unpoisoned() = Some(inspect);
                Ok(nodes)
            });
            match nodes {
                Ok(nodes) => Answer::value(200, Json::of(&nodes).expect("they are JSON")),
                Err(error) => {
                    log::warn!("http: {error}");
                    let reason = "the daemons cannot be asked for at this moment";
                    Answer::error(503, reason).with("Retry-After", "5")
                }
            }
        }))
    }
}

/// The daemons that live, by their names.
fn nodes(inspect: &mut dyn Inspect) -> Result<Vec<Node>> {
    Ok(inspect.members()?.into_iter().filter_map(|member| member.record).collect())
}
