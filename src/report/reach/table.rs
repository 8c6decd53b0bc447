//! The table: a row and a column for each group, numbered, with a legend; what the ports are where there is
//! room for it, one sign for each cell where there is not. Below it where path and policies do not agree.

use core::fmt::Write;
use std::collections::BTreeMap;

use anstyle::{AnsiColor, Style};

use super::words::list;
use super::{Mark, Shown};
use crate::cluster::reach::Differ;
use crate::kube::policy::L4;
use crate::kube::policy::reach::{Kind, PortCell, port_text};
use crate::kube::service::Protocol;

pub(super) const BOLD: Style = Style::new().bold();
pub(super) const DIM: Style = Style::new().dimmed();
pub(super) const GREEN: Style = AnsiColor::Green.on_default();
pub(super) const YELLOW: Style = AnsiColor::Yellow.on_default();
pub(super) const RED: Style = AnsiColor::Red.on_default().bold();

/// Columns of a terminal that a table with ports may take.
const WIDE: usize = 110;
/// Ports shown in a cell.
const PORTS: usize = 3;
/// Ends shown of a group, and differences of a kind.
const NAMES: usize = 3;

fn style(mark: Mark) -> Style {
    match mark {
        Mark::Open => GREEN,
        Mark::Partly | Mark::Shut | Mark::Leak => YELLOW,
        Mark::Opened | Mark::Both | Mark::Broken => RED,
        Mark::Closed | Mark::Nothing | Mark::Untried => DIM,
    }
}

/// The whole text.
pub(super) fn text(shown: &Shown<'_>) -> String {
    let mut out = String::new();
    let by = match shown.paths {
        Some(_) => "the path",
        None => "policy",
    };
    let _ = writeln!(
        out,
        "{BOLD}Who reaches whom by {by}: {}{BOLD:#}",
        shown.title
    );
    let _ = writeln!(out, "{}", shown.summary());
    let _ = writeln!(out, "{DIM}{}{DIM:#}\n", counted(shown));
    grid(&mut out, shown);
    out.push('\n');
    legend(&mut out, shown);
    let left = shown.left();
    if !left.is_empty() {
        let _ = writeln!(out, "{DIM}{left}{DIM:#}");
    }
    differences(&mut out, shown);
    out
}

/// How many questions there were, and how many are open.
fn counted(shown: &Shown<'_>) -> String {
    let (mut pairs, mut open) = (0_u64, 0_u64);
    for &from in &shown.reach.rows {
        for &to in &shown.reach.columns {
            for port in shown.reach.cell(from, to) {
                pairs += port.pairs;
                open += port.open.get(shown.last()).copied().unwrap_or_default();
            }
        }
    }
    let ports = match shown.reach.declared {
        true => "at the ports that destinations declare",
        false => "at the ports asked for",
    };
    let tried = shown.paths.map_or_else(String::new, |paths| {
        format!("; {} probes on the path", paths.probes)
    });
    format!("{pairs} pairs of ends {ports}, {open} open by policy{tried}")
}

/// What a cell says where there is room.
fn wide_cell(shown: &Shown<'_>, ports: &[PortCell], at: (usize, usize)) -> (Mark, String) {
    let mark = shown.mark(at.0, at.1, ports);
    if mark == Mark::Nothing {
        return (mark, String::new());
    }
    let short = |l4: &L4| match l4 {
        L4::Port(Protocol::Tcp, number) => number.to_string(),
        other => port_text(other),
    };
    let reached = |(port, cell): &(usize, &PortCell)| match shown.paths {
        Some(_) => shown.path(at.0, at.1, *port).is_some_and(|p| p.reached > 0),
        None => cell.open.get(shown.last()).is_some_and(|n| *n > 0),
    };
    let open = ports.iter().enumerate().filter(reached);
    let open: Vec<String> = open.map(|(_, p)| short(&p.l4)).collect();
    let more = open.len().saturating_sub(PORTS);
    let shown_ports: Vec<&str> = open.iter().take(PORTS).map(String::as_str).collect();
    let mut text = shown_ports.join(",");
    if more > 0 {
        let _ = write!(text, "+{more}");
    }
    if text.is_empty() || matches!(mark, Mark::Broken | Mark::Leak | Mark::Partly) {
        text.insert(0, mark.sign());
    }
    (mark, text)
}

fn label(shown: &Shown<'_>, group: usize) -> String {
    let name = shown
        .reach
        .groups
        .get(group)
        .map(|g| (g.name.as_str(), g.count));
    match name {
        Some((name, 1)) => format!("{} {name}", group + 1),
        Some((name, n)) => format!("{} {name} ×{n}", group + 1),
        None => String::new(),
    }
}

/// Rows and columns.
fn grid(out: &mut String, shown: &Shown<'_>) {
    let (rows, columns) = (&shown.reach.rows, &shown.reach.columns);
    let labels: Vec<String> = rows.iter().map(|row| label(shown, *row)).collect();
    let first = labels
        .iter()
        .map(|l| l.chars().count())
        .max()
        .unwrap_or(0)
        .max(9);
    // Each column takes a gap and a character at least.
    let mut wide = (first + columns.len() * 3 <= WIDE).then(Vec::new);
    if let Some(cells) = &mut wide {
        for &row in rows {
            let cell = |to: &usize| wide_cell(shown, &shown.reach.cell(row, *to), (row, *to));
            cells.push(columns.iter().map(cell).collect::<Vec<_>>());
        }
    }
    let widths = wide.as_ref().map(|cells| {
        let width = |(at, to): (usize, &usize)| {
            let texts = cells.iter().filter_map(|row| row.get(at));
            let most = texts.map(|(_, t)| t.chars().count()).max().unwrap_or(0);
            most.max((to + 1).to_string().len())
        };
        columns.iter().enumerate().map(width).collect::<Vec<_>>()
    });
    let fits = |widths: &Vec<usize>| first + widths.iter().map(|w| w + 2).sum::<usize>() <= WIDE;
    match (wide, widths.filter(fits)) {
        (Some(cells), Some(widths)) => wide_grid(out, shown, &labels, first, &cells, &widths),
        _ => compact_grid(out, shown, &labels, first),
    }
}

fn wide_grid(
    out: &mut String,
    shown: &Shown<'_>,
    labels: &[String],
    first: usize,
    cells: &[Vec<(Mark, String)>],
    widths: &[usize],
) {
    let mut head = format!("{:<first$}", "FROM \\ TO");
    for (to, width) in shown.reach.columns.iter().zip(widths) {
        let _ = write!(head, "  {:<width$}", to + 1);
    }
    let _ = writeln!(out, "{BOLD}{}{BOLD:#}", head.trim_end());
    for (label, row) in labels.iter().zip(cells) {
        let _ = write!(out, "{label:<first$}");
        for ((mark, text), width) in row.iter().zip(widths) {
            let style = style(*mark);
            let gap = " ".repeat(width.saturating_sub(text.chars().count()));
            let _ = match text.is_empty() {
                true => write!(out, "  {gap}"),
                false => write!(out, "  {style}{text}{style:#}{gap}"),
            };
        }
        trim(out);
    }
}

/// Ends a line without blanks before its end.
fn trim(out: &mut String) {
    out.truncate(out.trim_end_matches(' ').len());
    out.push('\n');
}

/// A sign for each cell; the columns' numbers from top to bottom; a gap between namespaces.
fn compact_grid(out: &mut String, shown: &Shown<'_>, labels: &[String], first: usize) {
    let columns = &shown.reach.columns;
    let gaps: Vec<bool> = columns
        .iter()
        .scan(None, |before, to| {
            let group = shown
                .reach
                .groups
                .get(*to)
                .map(|g| (g.kind, g.namespace.as_str()));
            let gap = before.is_some() && *before != Some(group);
            *before = Some(group);
            Some(gap)
        })
        .collect();
    let digits = columns.last().map_or(1, |to| (to + 1).to_string().len());
    for place in 0..digits {
        let head = if place + 1 == digits {
            "FROM \\ TO"
        } else {
            ""
        };
        let _ = write!(out, "{BOLD}{head:<first$}  ");
        for (to, gap) in columns.iter().zip(&gaps) {
            let number = format!("{:>digits$}", to + 1);
            let digit = number.chars().nth(place).unwrap_or(' ');
            let _ = write!(out, "{}{digit}", if *gap { " " } else { "" });
        }
        out.truncate(out.trim_end_matches(' ').len());
        let _ = writeln!(out, "{BOLD:#}");
    }
    for (label, from) in labels.iter().zip(&shown.reach.rows) {
        let _ = write!(out, "{label:<first$}  ");
        for (to, gap) in columns.iter().zip(&gaps) {
            let mark = shown.mark(*from, *to, &shown.reach.cell(*from, *to));
            let (style, space) = (style(mark), if *gap { " " } else { "" });
            let _ = match mark {
                Mark::Nothing => write!(out, "{space} "),
                _ => write!(out, "{space}{style}{}{style:#}", mark.sign()),
            };
        }
        trim(out);
    }
}

/// Signs, then groups.
fn legend(out: &mut String, shown: &Shown<'_>) {
    let mut seen: BTreeMap<Mark, ()> = BTreeMap::new();
    for &from in &shown.reach.rows {
        for &to in &shown.reach.columns {
            seen.insert(shown.mark(from, to, &shown.reach.cell(from, to)), ());
        }
    }
    let marks = Mark::ALL
        .iter()
        .filter(|m| seen.contains_key(m) && **m != Mark::Nothing);
    let words: Vec<String> = marks
        .map(|m| {
            let style = style(*m);
            format!(
                "{style}{}{style:#} {}",
                m.sign(),
                m.meaning(shown.is_change())
            )
        })
        .collect();
    let _ = writeln!(out, "{}\n", words.join("   "));
    let rows: Vec<[String; 4]> = shown
        .reach
        .groups
        .iter()
        .enumerate()
        .map(|(at, group)| {
            let ports: Vec<String> = group.ports.iter().map(port_text).collect();
            let what = about(shown, at);
            let name = format!("{} {}", at + 1, group.name);
            [name, shown.ends(at), list(&ports), what]
        })
        .collect();
    let head = ["GROUP", "ENDS", "PORTS ASKED", "WHAT"].map(str::to_owned);
    let width = |column: usize| {
        let texts = rows.iter().chain([&head]).filter_map(|row| row.get(column));
        texts.map(|t| t.chars().count()).max().unwrap_or(0)
    };
    let (a, b, c) = (width(0), width(1), width(2));
    for (at, [name, ends, ports, what]) in core::iter::once(&head).chain(&rows).enumerate() {
        let bold = if at == 0 { BOLD } else { Style::new() };
        let _ = write!(out, "{bold}{name:<a$}  {ends:<b$}  {ports:<c$}  {what}");
        out.truncate(out.trim_end_matches(' ').len());
        let _ = writeln!(out, "{bold:#}");
    }
}

/// Labels, members or ranges of a group.
fn about(shown: &Shown<'_>, group: usize) -> String {
    let Some(g) = shown.reach.groups.get(group) else {
        return String::new();
    };
    let labels: Vec<String> = g.labels.iter().map(|(k, v)| format!("{k}={v}")).collect();
    let short = |all: &[String]| {
        let more = all.len().saturating_sub(NAMES);
        let text: Vec<&str> = all.iter().take(NAMES).map(String::as_str).collect();
        match more {
            0 => text.join(", "),
            more => format!("{} and {more} more", text.join(", ")),
        }
    };
    let pods: Vec<String> = g.pods.iter().map(|m| m.name.name.clone()).collect();
    match g.kind {
        Kind::Pods if g.count > 1 => match labels.is_empty() {
            true => short(&pods),
            false => format!("{}: {}", labels.join(","), short(&pods)),
        },
        Kind::Pods => labels.join(","),
        Kind::Nodes => short(&g.nodes),
        Kind::Outside => {
            if g.rest {
                return "every other address".into();
            }
            let hosts: Vec<String> = g.nodes.iter().map(|h| format!("host/{h}")).collect();
            let all: Vec<String> = hosts.into_iter().chain(g.ranges.iter().cloned()).collect();
            short(&all)
        }
        Kind::Service => String::new(),
    }
}

/// Where path and policies do not agree, those with the same cause together.
fn differences(out: &mut String, shown: &Shown<'_>) {
    let Some(paths) = shown.paths else { return };
    if paths.differ.is_empty() {
        let _ = writeln!(out, "\n{GREEN}path and policies agree everywhere{GREEN:#}");
        return;
    }
    let mut causes: Vec<(&Differ, Vec<&Differ>)> = Vec::new();
    for one in &paths.differ {
        let same = |(first, _): &&mut (&Differ, Vec<&Differ>)| {
            first.cause == one.cause && first.allowed == one.allowed
        };
        match causes.iter_mut().find(same) {
            Some((_, all)) => all.push(one),
            None => causes.push((one, vec![one])),
        }
    }
    let _ = writeln!(
        out,
        "\n{BOLD}path and policies do not agree on {} of {} probes{BOLD:#}",
        paths.differ.len(),
        paths.probes
    );
    for (first, all) in causes {
        let (style, words) = match first.allowed {
            true => (RED, "allowed, but the path fails"),
            false => (YELLOW, "denied, but the path lets it pass"),
        };
        let probes = if all.len() == 1 { "probe" } else { "probes" };
        let _ = writeln!(
            out,
            "{style}{words}{style:#}, {} {probes}: {}",
            all.len(),
            first.cause
        );
        for one in all.iter().take(NAMES) {
            let (_, to, port) = one.cell;
            let group = shown.reach.groups.get(to);
            let l4 = group.and_then(|g| g.ports.get(port)).map(port_text);
            let l4 = l4.unwrap_or_default();
            let _ = write!(out, "  {} -> {} {l4}: {}", one.from, one.to, one.outcome);
            let _ = match one.hop == one.cause || one.hop.is_empty() {
                true => writeln!(out),
                false => writeln!(out, ", {}", one.hop),
            };
        }
        if all.len() > NAMES {
            let _ = writeln!(out, "  {DIM}and {} more{DIM:#}", all.len() - NAMES);
        }
    }
}
