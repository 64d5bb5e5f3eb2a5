//! The thread that does what this daemon is told from outside: to cancel a request, or to tell of one.

use std::time::Duration;

use crate::broker::{Message, Presence, Told};
use crate::dispatch::Dispatcher;
use crate::outage::Retry;
use crate::thread::{Pulse, Stop};

/// How long one wait for messages may take, and so how late a dead connection may be noticed.
const PATIENCE: Duration = Duration::from_secs(1);

/// The loop; it ends when `stop` is asked for.
pub(crate) fn run(broker: &dyn Presence, dispatcher: &Dispatcher, pulse: &Pulse, stop: &Stop) {
    let mut retry = Retry::default();
    while !stop.is_asked() {
        pulse.beat();
        match broker.listen(PATIENCE) {
            Ok(messages) => {
                retry.succeeded();
                messages.into_iter().for_each(|message| obey(broker, dispatcher, message));
            }
            // The other connections say why.
            Err(_) => drop(retry.pause(stop)),
        }
    }
}

fn obey(broker: &dyn Presence, dispatcher: &Dispatcher, message: Message) {
    match message {
        Message::Cancel(id) => {
            // One that has ended meanwhile needs nothing: it has its verdict.
            let was_here = dispatcher.cancel(&id);
            log::info!("{id}: asked to cancel it{}", if was_here { "" } else { ", but it is not here" });
        }
        Message::Ask { id, is_to_cancel, asker } => {
            let calls = dispatcher.find(&id);
            if is_to_cancel && dispatcher.cancel(&id) {
                log::info!("{id}: asked to cancel it");
            }
            let told = Told { node: broker.node().to_owned(), calls };
            // Whoever asks gives up by itself, and may ask again.
            if let Err(error) = broker.reply(&asker, &serde_json::to_vec(&told).expect("calls are JSON")) {
                log::warn!("{id}: somebody has asked for it and cannot be told: {error}");
            }
        }
    }
}
