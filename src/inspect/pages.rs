//! What of it is shown over HTTP.

use super::Inspector;
use crate::broker::{Inspect, Result};
use crate::pages::{Answer, Asked, Method, Page, Pages, Reply};
use crate::protocol::{Json, Node};

const NODES: &[Page] = &[
    Page { path: "/api/nodes", methods: &[(Method::Get, None)] },
    Page { path: "/api/v1/nodes", methods: &[(Method::Get, None)] },
];

/// The pages.
pub(crate) struct InspectPages(pub(crate) Inspector);

impl Pages for InspectPages {
    fn pages(&self) -> &[Page] {
        NODES
    }

    fn ask(&self, _: usize, _: &Asked<'_>) -> Reply {
        let inspector = self.0.clone();
        Reply::Later(Box::new(move || match inspector.ask(nodes) {
            Ok(nodes) => Answer::value(200, Json::of(&nodes).expect("they are JSON")),
            Err(error) => {
                log::warn!("http: {error}");
                let reason = "the daemons cannot be asked for at this moment";
                Answer::error(503, reason).with("Retry-After", "5")
            }
        }))
    }
}

/// The daemons that live, by their names.
fn nodes(inspect: &mut dyn Inspect) -> Result<Vec<Node>> {
    Ok(inspect.members()?.into_iter().filter_map(|member| member.record).collect())
}
