//! Who gets into the server, and what nobody may do there.

use std::path::Path;

use super::entrance::{Entrance, SOCKET};
use super::process::quote;
use crate::broker::redis::Target;

/// What clients and daemons need; what decides on the server itself, its files and its data as a whole is for nobody.
const COMMANDS: &str = "~* &* +@all -@admin -@dangerous +info +role +keys +sort +sort_ro +config|get +client|unblock";

/// Who gets in.
#[derive(Clone, PartialEq, Eq)]
pub(super) enum Access {
    /// Whoever is on this machine.
    Everybody,
    /// Who knows the password of the configuration.
    Password(String),
    /// The user of the daemon, by an entrance of his own.
    Entrance(Entrance),
    /// The user of the daemon, as nobody else can open the socket of the URL.
    Socket,
}

impl Access {
    /// Whether it keeps anybody out who can reach the address of the URL.
    pub(super) fn is_closed(&self) -> bool {
        *self != Access::Everybody
    }

    /// How we get in ourselves.
    pub(super) fn target(&self, target: &Target) -> Target {
        match self {
            Access::Everybody | Access::Password(_) | Access::Socket => target.clone(),
            Access::Entrance(entrance) => entrance.target(target),
        }
    }

    /// The lines of the configuration; `socket` is that of the URL, if it has one.
    pub(super) fn settings(&self, socket: Option<&Path>) -> Vec<String> {
        let secret = match self {
            Access::Everybody | Access::Socket => "nopass".to_owned(),
            Access::Password(password) => quote(&format!(">{password}")),
            Access::Entrance(entrance) => format!(">{}", entrance.password()),
        };
        let mut lines = vec![format!("user default on {secret} {COMMANDS}")];
        let own = matches!(self, Access::Entrance(entrance) if entrance.has_socket()).then_some(Path::new(SOCKET));
        if let Some(path) = socket.or(own) {
            lines.push(format!("unixsocket {}", quote(&path.display().to_string())));
            lines.push(format!("unixsocketperm {}", if self.is_closed() { "700" } else { "777" }));
        }
        lines
    }
}
