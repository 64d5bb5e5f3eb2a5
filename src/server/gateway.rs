//! The gateway of a daemon, as the configuration says.

use std::sync::Arc;

use super::about::About;
use super::connection::Connection;
use crate::config::Config;
use crate::dispatch::Dispatcher;
use crate::error::StartError;
use crate::gateway::{Gateway, GatewayOptions, OpenPost};

/// Starts the gateway, if there is to be one.
pub(super) fn start(
    config: &Config,
    link: &Connection,
    dispatcher: &Arc<Dispatcher>,
    about: &About,
) -> Result<Option<Gateway>, StartError> {
    let Some(http) = &config.http else { return Ok(None) };
    let opener = link.opener(config);
    let open: OpenPost = Arc::new(move || opener().map_err(|error| error.to_string()));
    let options = GatewayOptions {
        places: http.listen.clone(),
        settings: http.settings.clone(),
        dispatcher: Arc::clone(dispatcher),
        open,
        faults: {
            let (about, broker) = (about.clone(), Arc::clone(&link.broker));
            Box::new(move || {
                let away = broker.is_away().then(|| format!("{}: cannot be reached", broker.address()));
                away.into_iter().chain(about.faults()).collect()
            })
        },
        metrics: Box::new(String::new),
    };
    Gateway::start(options).map(Some).map_err(StartError::Gateway)
}
