//! The functions of a daemon, over its reloads.

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex, MutexGuard};

use crate::config::{self, Config, FunctionConfig, RedisServer};
use crate::cron::Entry;
use crate::dispatch::{Admission, Dispatcher, Rules};
use crate::functions::{Function, Functions, House};
use crate::lock::Unpoisoned;
use crate::scheduler;

/// The functions of the program, of the configuration and of the crontabs. Each of them is read by another thread.
pub(super) struct FunctionShelf {
    natives: Functions,
    halt: Arc<dyn Fn() + Send + Sync>,
    /// To which port each proxy sends requests; none where that is a Unix socket.
    proxied: Arc<Mutex<Ports>>,
    state: Mutex<State>,
}

type Ports = BTreeMap<String, Option<u16>>;

struct State {
    config: Config,
    entries: Vec<Arc<Entry>>,
    /// Those of the configuration, with what they were built from: what is unchanged at a reload keeps its processes.
    built: BTreeMap<String, (FunctionConfig, Arc<Function>)>,
}

impl FunctionShelf {
    /// The functions of the program, with `config` and the `entries` of its crontabs; `halt` is called when the builtin of that
    /// name is called.
    pub(super) fn new(
        natives: Functions,
        halt: Arc<dyn Fn() + Send + Sync>,
        config: &Config,
        entries: &[Arc<Entry>],
    ) -> Self {
        warn_of_mail(config, entries);
        let state = State { config: config.clone(), entries: entries.to_vec(), built: BTreeMap::new() };
        FunctionShelf { natives, halt, proxied: Arc::new(Mutex::new(proxied(config))), state: Mutex::new(state) }
    }

    /// What can be called, and by whom.
    pub(super) fn rules(&self) -> Rules {
        self.rules_of(&mut self.state())
    }

    /// From now on `config` holds.
    pub(super) fn configure(&self, config: &Config, dispatcher: &Dispatcher) {
        let mut state = self.state();
        state.config = config.clone();
        *lock(&self.proxied) = proxied(config);
        // Under the lock, so that of two changes the later one stays.
        dispatcher.replace_rules(self.rules_of(&mut state));
    }

    /// From now on these are the entries of the crontabs.
    pub(super) fn schedule(&self, entries: &[Arc<Entry>], dispatcher: &Dispatcher) {
        let mut state = self.state();
        warn_of_mail(&state.config, entries);
        state.entries = entries.to_vec();
        dispatcher.replace_rules(self.rules_of(&mut state));
    }

    fn state(&self) -> MutexGuard<'_, State> {
        self.state.lock().unpoisoned()
    }

    fn rules_of(&self, state: &mut State) -> Rules {
        let mut old = std::mem::take(&mut state.built);
        let mut functions = Functions::default();
        for (name, wanted) in &state.config.functions {
            let kept = old.remove(name).filter(|(from, _)| from.terms == wanted.terms && from.body == wanted.body);
            let function = kept.map_or_else(|| Arc::new(self.build(name, wanted)), |(_, function)| function);
            functions.share(Arc::clone(&function));
            state.built.insert(name.clone(), (wanted.clone(), function));
        }
        self.natives.iter().for_each(|native| functions.share(Arc::clone(native)));
        if let Some(cron) = &state.config.cron {
            let has_queue = state.config.redis.server != RedisServer::None;
            state
                .entries
                .iter()
                .flat_map(|entry| scheduler::functions_of(entry, has_queue))
                .for_each(|function| functions.add(function));
            functions.add(scheduler::mail(&cron.sendmail));
        }
        let auth = state.config.auth.clone();
        let admission = Admission { sources: auth.sources, users: auth.users, require_user: auth.require_user };
        Rules { functions, admission }
    }

    fn build(&self, name: &str, wanted: &FunctionConfig) -> Function {
        let proxied = Arc::clone(&self.proxied);
        let house =
            House { halt: Arc::clone(&self.halt), proxied: Arc::new(move |name| port_of(&lock(&proxied), name)) };
        config::build(name, wanted, house)
    }
}

/// Says that no mail can be sent, where some would be.
fn warn_of_mail(config: &Config, entries: &[Arc<Entry>]) {
    let fault = config.cron.as_ref().and_then(|cron| config::unmailed(entries, &cron.sendmail));
    if let Some((_, fault)) = fault {
        log::warn!("cron: {fault}");
    }
}

fn lock(proxied: &Mutex<Ports>) -> MutexGuard<'_, Ports> {
    proxied.lock().unpoisoned()
}

/// To which port the proxy called `name` sends requests.
fn port_of(ports: &Ports, name: &str) -> Result<u16, String> {
    let port = ports.get(name).ok_or_else(|| format!("no proxy is called {name:?}"))?;
    port.ok_or_else(|| format!("the proxy {name:?} sends requests to a unix socket, which has no port"))
}

/// To which ports the proxies of `config` send requests, by their names: to that of the first target, where there are several.
fn proxied(config: &Config) -> Ports {
    let sites = config.http.iter().flat_map(|http| &http.settings.sites);
    sites.filter_map(|site| Some((site.name.clone(), site.targets.first()?.port()))).collect()
}
