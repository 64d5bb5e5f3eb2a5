//! How the account is told.

use std::collections::BTreeMap;

use serde_json::{Value, json};

use super::account::Account;
use super::faults::Fault;
use super::watch::Seen;
use super::world::Ends;
use crate::cli::columns::{Columns, Line, Tone, cell, plain};

/// How many faults are told one by one.
const TOLD: usize = 20;

/// All that is told at the end.
pub(super) struct Report {
    pub(super) seed: u64,
    pub(super) seconds: f64,
    pub(super) nodes: usize,
    pub(super) faults: BTreeMap<Fault, u64>,
    pub(super) ends: Ends,
    pub(super) seen: Seen,
    pub(super) account: Account,
}

impl Report {
    /// Whether the law held.
    pub(super) fn holds(&self) -> bool {
        self.account.faults.is_empty()
    }

    /// `kill -9` of daemons and of Redis, and daemons that a request ended.
    fn kills(&self) -> u64 {
        let count = |fault| self.faults.get(&fault).copied().unwrap_or(0);
        count(Fault::KillDaemon) + count(Fault::KillRedis) + self.ends.aborted
    }

    pub(super) fn json(&self) -> Value {
        let account = &self.account;
        json!({
            "seed": self.seed,
            "seconds": self.seconds,
            "nodes": self.nodes,
            "faults": self.faults.iter().map(|(fault, count)| (name(*fault), json!(count))).collect::<serde_json::Map<_, _>>(),
            "kills": self.kills(),
            "aborted": self.ends.aborted,
            "accepted": account.accepted,
            "unsure": account.unsure,
            "answered": account.answered,
            "verdicts": account.verdicts,
            "repeated": account.repeated,
            "given_up": account.given_up,
            "fenced": self.seen.fenced(),
            "ledgers": self.seen.looks,
            "lost": account.silent,
            "holds": self.holds(),
            "violations": account.faults,
        })
    }

    pub(super) fn lines(&self) -> Vec<Line> {
        let account = &self.account;
        let mut lines =
            vec![Line::of(format!("{:.0} s, {} daemons, seed {}", self.seconds, self.nodes, self.seed), Tone::Strong)];
        let mut table = Columns::new(&["what was done", ">times"]);
        for (fault, count) in &self.faults {
            table.row([plain(fault.name()), plain(count)]);
        }
        table.row([plain("daemons that a request has ended"), plain(self.ends.aborted)]);
        table.row([plain("kills in all"), plain(self.kills())]);
        lines.push(Line::default());
        lines.extend(table.lines());

        let mut table = Columns::new(&["what became of the requests", ">requests"]);
        table.row([plain("accepted: Redis acknowledged them"), plain(account.accepted)]);
        table.row([plain("not acknowledged, but there after all"), plain(account.unsure)]);
        for (verdict, count) in &account.verdicts {
            table.row([plain(format!("verdict {verdict}")), plain(count)]);
        }
        table.row([plain("ran more than once, as their daemon died"), plain(account.repeated)]);
        table.row([plain("given up, as their daemon died too often"), plain(account.given_up)]);
        table.row([plain("late answers that were dropped"), plain(self.seen.fenced())]);
        table.row([plain("ledgers looked at on the way"), plain(self.seen.looks)]);
        let tone = if account.silent == 0 { Tone::Good } else { Tone::Bad };
        table.row([cell("lost: no verdict", tone), cell(account.silent, tone)]);
        lines.push(Line::default());
        lines.extend(table.lines());
        lines.push(Line::default());
        lines.push(match self.holds() {
            true => Line::of("the law holds: each has exactly one verdict", Tone::Good),
            false => Line::of("the law does not hold", Tone::Bad),
        });
        lines.extend(account.faults.iter().take(TOLD).map(|fault| Line::of(fault, Tone::Plain)));
        if account.faults.len() > TOLD {
            lines.push(Line::of(format!("... and {} more", account.faults.len() - TOLD), Tone::Faint));
        }
        lines
    }
}

fn name(fault: Fault) -> String {
    serde_json::to_value(fault).ok().and_then(|name| name.as_str().map(str::to_owned)).unwrap_or_default()
}
