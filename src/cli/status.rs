//! `cerbas status`: one look at everything.

use std::collections::BTreeMap;
use std::thread;
use std::time::Duration;

use super::Place;
use super::columns::{Cell, Columns, Line, Tone, cell, plain, span, span_or_dash};
use super::exit::{Exit, Failure};
use super::nodes::{self, busy, left, stuck};
use super::output::{self, Waiting};
use crate::broker::{Member, Overview};
use crate::inspect::rates::{Totals, rates};
use crate::inspect::shapes::{self, in_flight};
use crate::protocol::Verdict;

/// Rates are measured over this time.
const BETWEEN: Duration = Duration::from_secs(1);

#[derive(clap::Args)]
pub(super) struct Status {
    /// Print one JSON object
    #[arg(long)]
    json: bool,
    /// Answer at once, without the rates, which take a second
    #[arg(long)]
    no_rates: bool,
    #[command(flatten)]
    place: Place,
}

impl Status {
    pub(super) fn run(self) -> Result<Exit, Failure> {
        let mut operator = self.place.operator()?;
        let mut overview = operator.overview()?;
        let mut per_second = None;
        if !self.no_rates {
            let _waiting = Waiting::show("measuring".to_owned());
            thread::sleep(BETWEEN);
            let before = std::mem::replace(&mut overview, operator.overview()?);
            per_second = rates(&before, &overview);
        }
        if self.json {
            output::print(&shapes::overview(&overview, per_second.as_ref()).to_string())?;
        } else {
            output::print_lines(&text(&overview, per_second.as_ref()))?;
        }
        Ok(nodes::exit(&overview.members))
    }
}

fn text(overview: &Overview, per_second: Option<&BTreeMap<Verdict, f64>>) -> Vec<Line> {
    let mut lines = match overview.members.is_empty() {
        true => vec![Line::of("no daemons", Tone::Bad)],
        false => members(overview).lines(),
    };
    lines.extend(nodes::ill(&overview.members));
    for table in [waiting(overview), verdicts(overview, per_second), crons(overview)] {
        if table.is_empty() {
            continue;
        }
        lines.push(Line::default());
        lines.extend(table.lines());
    }
    if !Totals::of(overview).are_exact {
        lines.push(Line::of("counted by the daemons that live, with their last heartbeats", Tone::Faint));
    }
    lines
}

/// The daemons, one line each.
pub(super) fn members(overview: &Overview) -> Columns {
    let mut columns =
        Columns::new(&["daemon", "node", ">busy", ">stuck", ">in flight", ">    memory", ">    heard", "account"]);
    for member in &overview.members {
        let heard = format!("{} ago", span(member.silent));
        let row = match &member.record {
            Some(record) => [
                plain(&record.status.name),
                cell(&member.node, Tone::Faint),
                busy(member),
                stuck(member),
                plain(record.status.in_flight),
                plain(nodes::memory(record.status.memory)),
                plain(heard),
                account(member),
            ],
            None => [
                cell("dead", Tone::Bad),
                cell(&member.node, Tone::Bad),
                busy(member),
                stuck(member),
                left(member),
                cell("-", Tone::Faint),
                cell(heard, Tone::Bad),
                account(member),
            ],
        };
        columns.row(row);
    }
    columns
}

/// Whether `accepted = verdicts + in flight` holds for a living daemon.
fn account(member: &Member) -> Cell {
    match &member.record {
        None => cell("-", Tone::Faint),
        Some(record) if record.status.holds() => cell("holds", Tone::Good),
        Some(record) => {
            let (accepted, ended) = (record.status.accepted, record.status.verdicts.values().sum::<u64>());
            cell(
                format!("BROKEN: {accepted} accepted, {ended} ended, {} in flight", record.status.in_flight),
                Tone::Bad,
            )
        }
    }
}

/// The queues and all else that waits.
pub(super) fn waiting(overview: &Overview) -> Columns {
    let mut columns = Columns::new(&["queue       ", ">   waiting", ">        oldest"]);
    for (place, queue) in overview.queues.iter().enumerate() {
        // The second is the first one's old spelling, which few use.
        if place != 1 || queue.length > 0 {
            let name = if place == 1 { format!("{} ({})", queue.name, queue.key) } else { queue.name.clone() };
            let name = match queue.is_served || queue.length == 0 {
                true => plain(name),
                false => cell(format!("{name}, which no daemon serves"), Tone::Bad),
            };
            columns.row([name, plain(queue.length), plain(span_or_dash(queue.oldest))]);
        }
    }
    for member in overview.members.iter().filter(|member| member.inbox > 0) {
        columns.row([plain(format!("inbox of {}", member.node)), plain(member.inbox), plain("-")]);
    }
    let next = overview.next_due.map(|due| match due.checked_sub(overview.now) {
        Some(wait) => format!("next in {}", span(wait)),
        None => format!("due since {}", span(overview.now - due)),
    });
    columns.row([plain("delayed"), plain(overview.delayed), plain(next.unwrap_or_else(|| "-".to_owned()))]);
    let tone = if overview.dead > 0 { Tone::Odd } else { Tone::Plain };
    columns.row([plain("dead list"), cell(overview.dead, tone), plain("-")]);
    columns
}

fn verdicts(overview: &Overview, per_second: Option<&BTreeMap<Verdict, f64>>) -> Columns {
    let mut columns = Columns::new(&["verdict", ">requests", ">per second"]);
    for (verdict, count) in &Totals::of(overview).counts {
        let rate =
            per_second.and_then(|rates| rates.get(verdict)).map_or_else(|| "-".to_owned(), |rate| rate_text(*rate));
        columns.row([plain(verdict), plain(count), plain(rate)]);
    }
    columns.row([plain("in flight"), plain(in_flight(overview)), plain("")]);
    columns
}

/// How cron stands at the daemons that have one.
fn crons(overview: &Overview) -> Columns {
    let mut columns = Columns::new(&["cron", ">entries", ">next in", "crontab"]);
    for record in overview.members.iter().filter_map(|member| member.record.as_ref()) {
        let Some(cron) = &record.status.cron else { continue };
        let next = cron.next.map(|next| next.saturating_sub(overview.now));
        let crontab = match cron.broken() {
            Some(broken) => cell(format!("in force but for {broken}"), Tone::Bad),
            None if !cron.missing.is_empty() => cell(format!("not there: {}", cron.missing.join(", ")), Tone::Odd),
            None if cron.pending > 0 => cell(format!("{} instants are not on record yet", cron.pending), Tone::Odd),
            None => cell("in force", Tone::Good),
        };
        columns.row([plain(&record.status.name), plain(cron.entries), plain(span_or_dash(next)), crontab]);
    }
    columns
}

/// A rate with as many digits as mean something.
pub(super) fn rate_text(rate: f64) -> String {
    if rate >= 100.0 || rate == 0.0 { format!("{rate:.0}") } else { format!("{rate:.1}") }
}
