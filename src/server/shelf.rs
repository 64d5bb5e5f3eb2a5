//! The functions of a daemon, over its reloads.

use std::collections::BTreeMap;
use std::sync::Arc;

use crossbeam_channel::Sender;

use crate::config::{self, Config, FunctionConfig};
use crate::dispatch::{Admission, Rules};
use crate::functions::{Function, Functions};

/// The functions of the program and of the configuration.
pub(super) struct FunctionShelf {
    natives: Functions,
    /// Those of the configuration, with what they were built from: what is unchanged at a reload keeps its processes.
    built: BTreeMap<String, (FunctionConfig, Arc<Function>)>,
    halt: Sender<()>,
}

impl FunctionShelf {
    /// The functions of the program; `halt` is told when the builtin of that name is called.
    pub(super) fn new(natives: Functions, halt: Sender<()>) -> Self {
        FunctionShelf { natives, built: BTreeMap::new(), halt }
    }

    /// What can be called, and by whom, as `config` says. A function that is as it was keeps its processes.
    pub(super) fn rules(&mut self, config: &Config) -> Rules {
        let mut old = std::mem::take(&mut self.built);
        let mut functions = Functions::default();
        for (name, wanted) in &config.functions {
            let kept = old.remove(name).filter(|(from, _)| from.terms == wanted.terms && from.body == wanted.body);
            let function = kept.map_or_else(|| Arc::new(self.build(name, wanted)), |(_, function)| function);
            functions.share(Arc::clone(&function));
            self.built.insert(name.clone(), (wanted.clone(), function));
        }
        self.natives.iter().for_each(|native| functions.share(Arc::clone(native)));
        let auth = config.auth.clone();
        let admission = Admission { sources: auth.sources, users: auth.users, require_user: auth.require_user };
        Rules { functions, admission }
    }

    fn build(&self, name: &str, wanted: &FunctionConfig) -> Function {
        let halt = self.halt.clone();
        let halt = move || {
            // Whoever calls it twice finds the first call still there, which is enough.
            let _already_told = halt.try_send(());
        };
        config::build(name, wanted, Arc::new(halt))
    }
}
