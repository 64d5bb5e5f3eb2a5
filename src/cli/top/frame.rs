//! One frame of `top`, as lines. Pure: what is known in, lines out.

use super::View;
use crate::broker::Overview;
use crate::inspect::rates::Totals;
use crate::inspect::shapes::in_flight;
use crate::protocol::{CallState, OpenCall, Verdict};

use super::super::columns::{Columns, Line, Tone, cell, plain, span};
use super::super::nodes::ill;
use super::super::status::{members, rate_text, waiting};

/// A table is not cut below its headings and this many rows, while others have more.
const LEAST_ROWS: usize = 2;

/// What `view` knows, in at most `rows` lines.
pub(super) fn lines(view: &View, rows: Option<usize>) -> Vec<Line> {
    let mut lines = vec![title(view)];
    if let Some(trouble) = &view.trouble {
        lines.push(Line::of(format!("what is shown is old: {trouble}"), Tone::Bad));
    }
    let Some(overview) = &view.overview else { return lines };
    lines.push(summary(overview));
    lines.extend(ill(&overview.members));
    lines.push(Line::default());
    lines.extend(verdicts(view, overview).lines());

    let tables = [members(overview), waiting(overview), running(overview)];
    let tables: Vec<Vec<Line>> = tables.iter().filter(|table| !table.is_empty()).map(Columns::lines).collect();
    // Above each table is an empty line.
    let room = rows.map(|rows| rows.saturating_sub(lines.len() + tables.len()));
    let shown = share(&tables.iter().map(Vec::len).collect::<Vec<usize>>(), room);
    for (table, shown) in tables.into_iter().zip(shown) {
        lines.push(Line::default());
        let left_out = table.len() - shown;
        if left_out == 0 {
            lines.extend(table);
        } else {
            lines.extend(table.into_iter().take(shown.saturating_sub(1)));
            lines.push(Line::of(format!("... {} more", left_out + 1), Tone::Faint));
        }
    }
    lines
}

/// How many lines each of several tables gets: the longest is cut first.
fn share(wanted: &[usize], room: Option<usize>) -> Vec<usize> {
    let mut shown = wanted.to_vec();
    let Some(room) = room else { return shown };
    while shown.iter().sum::<usize>() > room {
        match shown.iter_mut().max() {
            Some(longest) if *longest > LEAST_ROWS + 1 => *longest -= 1,
            _ => break,
        }
    }
    shown
}

fn title(view: &View) -> Line {
    let title = Line::of("cerbas top", Tone::Strong).and(format!("  {}", view.address), Tone::Faint);
    let time = view.overview.as_ref().map(|overview| {
        let seconds = overview.now / 1000 % 86400;
        format!("  {:02}:{:02}:{:02} UTC", seconds / 3600, seconds / 60 % 60, seconds % 60)
    });
    title.and(time.unwrap_or_default(), Tone::Faint).and("  q quits", Tone::Faint)
}

fn summary(overview: &Overview) -> Line {
    let living: Vec<_> = overview.members.iter().filter_map(|member| member.record.as_ref()).collect();
    let sum =
        |count: fn(&crate::protocol::NodeStatus) -> usize| living.iter().map(|node| count(&node.status)).sum::<usize>();
    let dead = overview.members.len() - living.len();
    let stuck = sum(|status| status.stuck);
    let waiting: u64 = overview.queues.iter().map(|queue| queue.length).sum();
    let alive = if living.is_empty() { Tone::Bad } else { Tone::Good };
    let mut line = Line::of(format!("{} alive", living.len()), alive);
    if dead > 0 {
        line = line.and(format!(", {dead} dead"), Tone::Bad);
    }
    line = line
        .and(format!("   {}/{} workers busy", sum(|status| status.busy), sum(|status| status.workers)), Tone::Plain);
    if stuck > 0 {
        line = line.and(format!(", {stuck} stuck"), Tone::Odd);
    }
    line.and(
        format!("   {} in flight   {waiting} waiting   {} delayed", in_flight(overview), overview.delayed),
        Tone::Plain,
    )
}

fn verdicts(view: &View, overview: &Overview) -> Columns {
    let mut columns = Columns::new(&[
        "              ",
        ">       ok",
        ">    error",
        ">  timeout",
        ">expired",
        ">cancelled",
        ">rejected",
        ">lost",
    ]);
    let rates = Verdict::ALL.map(|verdict| {
        let rate = view.per_second.as_ref().and_then(|rates| rates.get(&verdict)).copied();
        let tone = match (verdict, rate) {
            (_, None | Some(0.0)) => Tone::Faint,
            (Verdict::Ok, _) => Tone::Good,
            (Verdict::Lost, _) => Tone::Bad,
            _ => Tone::Odd,
        };
        cell(rate.map_or_else(|| "-".to_owned(), rate_text), tone)
    });
    let totals = Totals::of(overview);
    let counts = Verdict::ALL.map(|verdict| plain(totals.counts.get(&verdict).copied().unwrap_or(0)));
    columns.row([&[plain("per second")], &rates[..]].concat());
    columns.row([&[plain(if totals.are_exact { "in all" } else { "by those alive" })], &counts[..]].concat());
    columns
}

/// The calls that ran at the last heartbeats, the longest first; then those that daemons had taken and that did not run.
fn running(overview: &Overview) -> Columns {
    let mut calls: Vec<(u64, &OpenCall, &str)> = Vec::new();
    for record in overview.members.iter().filter_map(|member| member.record.as_ref()) {
        let running = record.status.running.iter();
        calls.extend(running.map(|call| (record.at.saturating_sub(call.since), call, record.status.name.as_str())));
    }
    calls.sort_by_key(|(length, ..)| std::cmp::Reverse(*length));
    let mut columns = Columns::new(&[">running", "function", "id", "daemon", ""]);
    let mut row = |length, call: &OpenCall, daemon: &str, waits_for: String| {
        let waits_for = cell(waits_for, Tone::Odd);
        columns.row([plain(span(length)), plain(&call.func), cell(&call.id, Tone::Faint), plain(daemon), waits_for]);
    };
    for (length, call, daemon) in calls {
        row(length, call, daemon, String::new());
    }
    for record in overview.members.iter().filter_map(|member| member.record.as_ref()) {
        for call in &record.status.queued {
            let waits_for = match (call.state, call.due) {
                (CallState::Again, Some(due)) => {
                    format!("has failed, runs again in {}", span(due.saturating_sub(record.at)))
                }
                (CallState::Parked, _) => "waits until fewer run".to_owned(),
                _ => "waits for a worker".to_owned(),
            };
            row(record.at.saturating_sub(call.since), call, &record.status.name, waits_for);
        }
    }
    columns
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::broker::{Member, QueueLook};
    use crate::protocol::{Node, NodeStatus};

    fn view(members: u64, queues: u64) -> View {
        let call =
            |id: u64| OpenCall { id: id.to_string(), func: "slow".to_owned(), since: 1000 - id, ..OpenCall::default() };
        let member = |number: u64| {
            let status =
                NodeStatus { name: format!("n{number}"), running: (0..9).map(call).collect(), ..NodeStatus::default() };
            let record = (number > 0).then(|| Node { at: 2000, status, ..Node::default() });
            Member { node: format!("host.{number}"), silent: 5, record, claimed: 3, inbox: 0 }
        };
        let queue = |number: u64| QueueLook {
            is_served: true,
            name: format!("q{number}"),
            key: format!("CERBAS-QUEUE-q{number}"),
            length: number,
            oldest: None,
        };
        let overview = Overview {
            now: 3000,
            members: (0..members).map(member).collect(),
            queues: (0..queues).map(queue).collect(),
            delayed: 0,
            next_due: None,
            dead: 0,
            verdicts: None,
        };
        View { address: "redis://a".to_owned(), overview: Some(overview), ..View::default() }
    }

    fn text(view: &View, rows: Option<usize>) -> String {
        lines(view, rows).iter().map(|line| line.text(None, false) + "\n").collect()
    }

    #[test]
    fn a_frame_fits_the_terminal_and_says_what_it_leaves_out() {
        let view = view(20, 20);
        for rows in [24, 30, 50] {
            let text = text(&view, Some(rows));
            assert_eq!(text.lines().count(), rows, "{text}");
            assert!(text.contains(" more"), "{text}");
        }
        assert!(!text(&view, None).contains(" more"));
    }

    #[test]
    fn what_runs_longest_is_on_top_and_the_dead_are_named() {
        let text = text(&view(2, 1), Some(40));
        let first = text.lines().skip_while(|line| !line.contains("function")).nth(1).expect("something runs");
        assert_eq!(first.split_whitespace().collect::<Vec<_>>(), ["1.0s", "slow", "8", "n1"]);
        assert!(text.contains("1 alive, 1 dead") && text.contains("dead    host.0"), "{text}");
    }

    #[test]
    fn what_a_daemon_has_taken_and_does_not_run_is_shown_with_what_it_waits_for() {
        let mut view = view(2, 1);
        let record = view.overview.as_mut().and_then(|overview| overview.members[1].record.as_mut()).expect("it lives");
        let state = CallState::Again;
        let call = OpenCall {
            id: "a".to_owned(),
            func: "f".to_owned(),
            since: 1500,
            state,
            due: Some(5000),
            ..OpenCall::default()
        };
        record.status.queued.push(call);
        let text = text(&view, None);
        let line = text.lines().last().expect("there are some").split_whitespace().collect::<Vec<_>>().join(" ");
        assert_eq!(line, "500ms f a n1 has failed, runs again in 3.0s");
    }

    #[test]
    fn while_redis_is_away_the_last_look_stays_with_the_reason() {
        let mut view = view(1, 1);
        view.trouble = Some("redis://a: connection refused".to_owned());
        let text = text(&view, Some(40));
        assert!(text.contains("what is shown is old: redis://a: connection refused") && text.contains("q0"), "{text}");
    }
}
