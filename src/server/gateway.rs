//! The gateway of a daemon, as the configuration says.

use std::iter;
use std::sync::Arc;

use rustix::process::{Resource, Rlimit, getrlimit, setrlimit};

use super::about::About;
use super::connection::Connection;
use super::process;
use crate::broker::QueueLook;
use crate::config::Config;
use crate::dispatch::Dispatcher;
use crate::error::StartError;
use crate::gateway::{Gateway, GatewayOptions, OpenPost, Vitals};
use crate::inspect::{InspectPages, Inspector};
use crate::pages::Pages;
use crate::thread::Threads;

/// Besides those of connections, so many descriptors are needed.
const DESCRIPTORS: u64 = 512;

/// Each of `connections` takes a descriptor, two where it is proxied. What a shell gives is for programs with few; the system mostly
/// allows more. No more than needed, as child processes inherit it.
fn raise_descriptor_limit(connections: usize) {
    let limit = getrlimit(Resource::Nofile);
    let wanted = connections as u64 * 2 + DESCRIPTORS;
    let wanted = limit.maximum.map_or(wanted, |maximum| wanted.min(maximum));
    if limit.current.is_none_or(|current| current >= wanted) {
        return;
    }
    let raised = Rlimit { current: Some(wanted), maximum: limit.maximum };
    if let Err(error) = setrlimit(Resource::Nofile, raised) {
        log::warn!("http: at most {} descriptors can be open: {error}", limit.current.unwrap_or(u64::MAX));
    }
}

/// What is told of the daemon with the metrics.
fn vitals(inspector: Inspector, link: &Connection, about: &About) -> Arc<dyn Fn() -> Vitals + Send + Sync> {
    let (about, broker) = (about.clone(), Arc::clone(&link.broker));
    Arc::new(move || {
        let mut vitals = Vitals {
            status: about.look(),
            is_broker_up: !broker.is_away(),
            process: process::look(),
            ..Vitals::default()
        };
        if let Ok(overview) = inspector.ask(|inspect| inspect.overview()) {
            // What clients have made up is no label.
            let (served, others): (Vec<QueueLook>, Vec<QueueLook>) =
                overview.queues.into_iter().partition(|queue| queue.is_served);
            let queue = |queue: QueueLook| (queue.name, queue.length, queue.oldest);
            vitals.queues = served.into_iter().map(queue).collect();
            vitals.unserved = Some(others.iter().map(|queue| queue.length).sum());
            (vitals.delayed, vitals.dead) = (Some(overview.delayed), Some(overview.dead));
        }
        vitals
    })
}

/// Starts the gateway, if there is to be one.
pub(super) fn start(
    config: &Config,
    link: &Connection,
    dispatcher: &Arc<Dispatcher>,
    about: &About,
    pages: Vec<Arc<dyn Pages>>,
    threads: &Threads,
) -> Result<Option<Gateway>, StartError> {
    let Some(http) = &config.http else { return Ok(None) };
    raise_descriptor_limit(http.settings.limits.max_connections);
    let inspector = Inspector::new(link.inspect(config));
    let inspect: Arc<dyn Pages> = Arc::new(InspectPages(inspector.clone()));
    let pages = iter::once(inspect).chain(pages).collect();
    let opener = link.opener(config);
    let open: OpenPost = Arc::new(move || opener().map_err(|error| error.to_string()));
    let options = GatewayOptions {
        listen: http.listen.clone(),
        settings: http.settings.clone(),
        dispatcher: Arc::clone(dispatcher),
        pages,
        open,
        faults: {
            let (about, broker) = (about.clone(), Arc::clone(&link.broker));
            Arc::new(move || about.all_faults(&*broker))
        },
        stalled: {
            let about = about.clone();
            Arc::new(move || about.stalled())
        },
        vitals: vitals(inspector, link, about),
        threads: http.threads,
        crew: threads.clone(),
    };
    Gateway::start(options).map(Some).map_err(StartError::Gateway)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::broker::{Inspect, Memory};
    use crate::gateway::RESERVED;

    #[test]
    fn no_function_of_a_configuration_can_have_the_path_of_a_page_of_ours() {
        let memory = || Ok(Box::new(Memory::new(std::time::Duration::ZERO)) as Box<dyn Inspect>);
        let pages = InspectPages(Inspector::new(Arc::new(memory)));
        for page in pages.pages() {
            let rest = page.path.strip_prefix("/api/").expect("all are there");
            let first = rest.split('/').next().expect("there is a first part");
            assert!(RESERVED.contains(&first), "{}", page.path);
        }
    }
}
