//! `cerbas nodes`.

use serde_json::Value;

use super::columns::{Cell, Columns, Line, Tone, cell, plain, size, span};
use super::exit::{Exit, Failure};
use super::{Place, output};
use crate::broker::Member;
use crate::inspect::shapes;
use crate::protocol::{Node, StalledLoop};

#[derive(clap::Args)]
pub(super) struct Nodes {
    /// Show the names of the functions and queues, too
    #[arg(long)]
    wide: bool,
    /// Print a JSON array
    #[arg(long)]
    json: bool,
    #[command(flatten)]
    place: Place,
}

impl Nodes {
    pub(super) fn run(self) -> Result<Exit, Failure> {
        let members = self.place.operator()?.members()?;
        if self.json {
            let members: Vec<Value> = members.iter().map(shapes::member).collect();
            output::print(&Value::from(members).to_string())?;
        } else if members.is_empty() {
            output::print("no daemons")?;
        } else {
            output::print_lines(&table(&members, self.wide).lines())?;
            output::print_lines(&ill(&members))?;
        }
        Ok(exit(&members))
    }
}

/// The exit status of a look at `members`.
pub(super) fn exit(members: &[Member]) -> Exit {
    if members.iter().any(|member| member.record.is_some()) { Exit::Done } else { Exit::NoAnswer }
}

/// What is wrong with `members` themselves, a line each: loops that do not turn any more, rights that they lack in Redis.
pub(super) fn ill(members: &[Member]) -> Vec<Line> {
    let of = |record: &Node| {
        let name = &record.status.name;
        let line = |stalled: &StalledLoop| {
            let what = match stalled.has_panicked {
                true => "has panicked".to_owned(),
                false => format!("has not turned for {}", span(stalled.since_ms)),
            };
            Line::of(format!("{name}: the loop {} {what}; restart this daemon", stalled.name), Tone::Bad)
        };
        let missing = &record.status.missing_rights;
        let rights = (!missing.is_empty()).then(|| {
            let missing = missing.join(" ");
            Line::of(format!("{name}: redis does not let it do all that it needs; ACL SETUSER: {missing}"), Tone::Bad)
        });
        record.status.stalled.iter().map(line).chain(rights).collect::<Vec<_>>()
    };
    members.iter().filter_map(|member| member.record.as_ref()).flat_map(of).collect()
}

/// All `members`, for people.
fn table(members: &[Member], is_wide: bool) -> Columns {
    let usual = [
        "name",
        "node",
        "version",
        "host:pid",
        ">up",
        ">busy",
        ">stuck",
        ">functions",
        ">memory",
        ">in flight",
        ">heard",
    ];
    let wide: &[&str] = if is_wide { &["functions", "queues"] } else { &[] };
    let mut columns = Columns::new(&[&usual, wide].concat());
    for member in members {
        let mut cells = cells(member);
        if is_wide && let Some(record) = &member.record {
            cells.extend([&record.status.functions, &record.status.queues].map(|names| plain(names.join(" "))));
        }
        columns.row(cells);
    }
    columns
}

fn cells(member: &Member) -> Vec<Cell> {
    let heard = |tone| cell(format!("{} ago", span(member.silent)), tone);
    let Some(record) = &member.record else {
        let mut cells = vec![cell("dead", Tone::Bad), cell(&member.node, Tone::Bad)];
        cells.extend((0..7).map(|_| cell("-", Tone::Faint)));
        cells.push(left(member));
        cells.push(heard(Tone::Bad));
        return cells;
    };
    let status = &record.status;
    vec![
        plain(&status.name),
        cell(&member.node, Tone::Faint),
        plain(&record.version),
        plain(format!("{}:{}", record.host, record.pid)),
        plain(span(record.at.saturating_sub(record.started) + member.silent)),
        busy(member),
        stuck(member),
        plain(status.functions.len()),
        plain(memory(status.memory)),
        plain(status.in_flight),
        heard(Tone::Plain),
    ]
}

/// How many workers of a living daemon are busy, of how many.
pub(super) fn busy(member: &Member) -> Cell {
    member.record.as_ref().map_or(cell("-", Tone::Faint), |record| {
        let status = &record.status;
        let tone = if status.workers > 0 && status.busy >= status.workers { Tone::Odd } else { Tone::Plain };
        cell(format!("{}/{}", status.busy, status.workers), tone)
    })
}

/// How many workers of a living daemon are stuck.
pub(super) fn stuck(member: &Member) -> Cell {
    let stuck = member.record.as_ref().map(|record| record.status.stuck);
    match stuck {
        None => cell("-", Tone::Faint),
        Some(0) => plain(0),
        Some(stuck) => cell(stuck, Tone::Odd),
    }
}

/// How much a dead daemon has left in flight that nobody has taken back yet.
pub(super) fn left(member: &Member) -> Cell {
    if member.claimed == 0 { cell(0, Tone::Faint) } else { cell(member.claimed, Tone::Bad) }
}

/// An amount of memory.
pub(super) fn memory(bytes: u64) -> String {
    if bytes == 0 { "-".to_owned() } else { size(bytes) }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::protocol::NodeStatus;

    #[test]
    fn each_loop_that_does_not_turn_any_more_has_a_line_that_names_its_daemon() {
        let loops = [("intake-default", 42_000, false), ("cron", 1, true)];
        let stalled_loop = |(name, since_ms, has_panicked): (&str, _, _)| StalledLoop {
            name: name.to_owned(),
            since_ms,
            has_panicked,
        };
        let stalled_loops = loops.map(stalled_loop).to_vec();
        let status = NodeStatus { name: "web-1".to_owned(), stalled: stalled_loops, ..NodeStatus::default() };
        let member = |status| Member {
            node: "n.1".to_owned(),
            silent: 0,
            claimed: 0,
            inbox: 0,
            record: Some(Node { status, ..Node::default() }),
        };
        let lines: Vec<String> =
            ill(&[member(status), member(NodeStatus::default())]).iter().map(|line| line.text(None, false)).collect();
        assert_eq!(
            lines,
            [
                "web-1: the loop intake-default has not turned for 42s; restart this daemon",
                "web-1: the loop cron has panicked; restart this daemon",
            ]
        );
    }
}
