//! `podpath proxy compare`'s output: a line for each cause with an example, or for every class that differs,
//! or what becomes of every class.
//!
//! Text is for people; the JSON has version 1 (docs/json.md). Invariant: both say how many classes there
//! were.

use core::fmt::Write;
use std::collections::BTreeMap;

use anstyle::{AnsiColor, Style};
use serde_json::{Value, json};

use crate::kube::proxy::compare::{Compared, Report, Source, Verdict};

/// Endpoints that a line shows of a verdict.
const SHOWN: usize = 3;

const MODES: [&str; 3] = ["iptables", "nftables", "ipvs"];
const BOLD: Style = Style::new().bold();
const DIM: Style = Style::new().dimmed();
const YELLOW: Style = AnsiColor::Yellow.on_default();

/// The text; with `all` every difference, otherwise the first of each cause; with `classes` a table of every
/// class before it.
pub fn text(report: &Report, all: bool, classes: bool) -> String {
    let mut out = String::new();
    if classes {
        table(&mut out, report, all);
        out.push('\n');
    }
    let causes = report.by_cause();
    let differ: usize = causes.values().map(Vec::len).sum();
    let plural = |n: usize, one: &str, more: &str| match n {
        1 => format!("1 {one}"),
        n => format!("{n} {more}"),
    };
    let _ = writeln!(
        out,
        "{BOLD}{} of packets on {} in iptables, nftables and ipvs mode: {differ} differ, for {}{BOLD:#}",
        plural(report.classes(), "class", "classes"),
        plural(report.nodes, "node", "nodes"),
        plural(causes.len(), "cause", "causes"),
    );
    let kinds = report.covered.iter();
    let kinds: Vec<String> = kinds.map(|(kind, n)| format!("{kind} {n}")).collect();
    if !kinds.is_empty() {
        let _ = writeln!(out, "{DIM}to {}{DIM:#}", kinds.join(", "));
    }
    for (cause, list) in causes {
        let n = plural(list.len(), "class", "classes");
        let _ = writeln!(out, "\n{YELLOW}{cause}{YELLOW:#}: {n}");
        let _ = writeln!(out, "  {DIM}{}{DIM:#}", cause.why());
        let shown = if all { list.len() } else { 1 };
        for compared in list.into_iter().take(shown) {
            let _ = writeln!(out, "  {}", class(compared));
            for (mode, verdict) in MODES.iter().zip(&compared.verdicts) {
                let _ = writeln!(out, "    {mode:<8}  {}", words(verdict, all));
            }
        }
    }
    out
}

/// `10.244.1.2:8080, 10.244.2.2:8080, and 3 more`.
fn words(verdict: &Verdict, all: bool) -> String {
    let text = verdict.to_string();
    let mut parts: Vec<String> = text.split(',').map(str::to_owned).collect();
    let more = parts.len().saturating_sub(SHOWN);
    if more > 0 && !all {
        parts.truncate(SHOWN);
        parts.push(format!("and {more} more"));
    }
    parts.join(", ")
}

/// `n1: outside, in the source ranges -> default/web:http load balancer 1.2.3.4:80/tcp`.
fn class(d: &Compared) -> String {
    let source = from(d.class.source, d.class.in_ranges);
    let name = service(d);
    let gap = if name.is_empty() { "" } else { " " };
    format!("{}: {source} -> {name}{gap}{}", d.node, destination(d))
}

fn service(d: &Compared) -> String {
    let name = d.class.service.as_ref();
    name.map_or_else(String::new, ToString::to_string)
}

fn destination(d: &Compared) -> String {
    let c = &d.class;
    format!("{} {}/{}", c.target, c.to, c.protocol)
}

fn from(source: Source, in_ranges: Option<bool>) -> String {
    let ranges = match in_ranges {
        None => "",
        Some(true) => ", in the source ranges",
        Some(false) => ", not in the source ranges",
    };
    format!("{source}{ranges}")
}

/// Every class, sources with the same verdicts in one row.
fn table(out: &mut String, report: &Report, all: bool) {
    let mut rows: Vec<[String; 5]> = Vec::new();
    let head = ["NODE", "SERVICE", "DESTINATION", "FROM", "VERDICT"].map(str::to_owned);
    let mut rest = report.compared.as_slice();
    while let Some(first) = rest.first() {
        let same = |c: &Compared| {
            c.node == first.node
                && c.class.service == first.class.service
                && c.class.to == first.class.to
                && c.class.protocol == first.class.protocol
        };
        let n = rest.iter().take_while(|c| same(c)).count();
        let (group, behind) = rest.split_at(n);
        rest = behind;
        let mut verdicts: BTreeMap<&[Verdict; 3], Vec<&Compared>> = BTreeMap::new();
        for c in group {
            verdicts.entry(&c.verdicts).or_default().push(c);
        }
        // In the order of their first source.
        let mut lists: Vec<Vec<&Compared>> = verdicts.into_values().collect();
        lists.sort_by_key(|list| {
            list.first()
                .map(|c| (c.class.source, !c.class.in_ranges.unwrap_or(true)))
        });
        for list in lists {
            let Some(like) = list.first() else { continue };
            let sources: Vec<String> = list.iter().map(|c| short(c)).collect();
            let sources = match list.len() == n && n > 1 {
                true => "all".to_owned(),
                false => sources.join(", "),
            };
            rows.push([
                first.node.clone(),
                service(first),
                destination(first),
                sources,
                ends(like, all),
            ]);
        }
    }
    print(out, &head, &rows);
}

/// `outside in ranges`.
fn short(c: &Compared) -> String {
    match c.class.in_ranges {
        None => c.class.source.to_string(),
        Some(true) => format!("{} in ranges", c.class.source),
        Some(false) => format!("{} not in ranges", c.class.source),
    }
}

/// What becomes of it: one text where the modes agree.
fn ends(c: &Compared, all: bool) -> String {
    match c.cause {
        None => c
            .verdicts
            .first()
            .map_or_else(String::new, |v| words(v, all)),
        Some(_) => {
            let each = MODES.iter().zip(&c.verdicts);
            let each: Vec<String> = each
                .map(|(m, v)| format!("{m} {}", words(v, all)))
                .collect();
            format!("{YELLOW}{}{YELLOW:#}", each.join("; "))
        }
    }
}

/// Columns as wide as their widest text; the last one ends where it ends.
fn print<const N: usize>(out: &mut String, head: &[String; N], rows: &[[String; N]]) {
    let mut widths = [0; N];
    for row in core::iter::once(head).chain(rows) {
        for (width, text) in widths.iter_mut().zip(row) {
            *width = (*width).max(text.chars().count());
        }
    }
    for row in core::iter::once(head).chain(rows) {
        let mut line = String::new();
        for (i, (text, width)) in row.iter().zip(widths).enumerate() {
            let width = if i + 1 == N { 0 } else { width };
            let _ = write!(line, "{text:width$}  ");
        }
        out.push_str(line.trim_end());
        out.push('\n');
    }
}

/// The JSON: version 1, every difference; `listed` also has every class.
pub fn json(report: &Report, listed: bool) -> Value {
    let verdict = |v: &Verdict| {
        let endpoints: Vec<String> = v.endpoints.iter().map(ToString::to_string).collect();
        json!({"endpoints": endpoints, "reject": v.refused, "drop": v.dropped,
            "node": v.host, "routed": v.routed})
    };
    let one = |d: &Compared| {
        let [iptables, nftables, ipvs] = d.verdicts.each_ref().map(verdict);
        json!({
            "node": d.node,
            "family": d.class.family.name(),
            "source": d.class.source.to_string(),
            "inSourceRanges": d.class.in_ranges,
            "target": d.class.target.to_string(),
            "service": d.class.service.as_ref().map(ToString::to_string),
            "to": d.class.to.to_string(),
            "protocol": d.class.protocol.to_string(),
            "iptables": iptables,
            "nftables": nftables,
            "ipvs": ipvs,
            "cause": d.cause.map(|c| c.to_string()),
        })
    };
    let covered = report.covered.iter();
    let covered: BTreeMap<String, usize> = covered.map(|(t, n)| (t.to_string(), *n)).collect();
    let differing = report.compared.iter().filter(|c| c.cause.is_some());
    let mut out = json!({
        "version": 1,
        "classes": report.classes(),
        "covered": covered,
        "nodes": report.nodes,
        "differences": differing.map(one).collect::<Vec<_>>(),
    });
    if listed && let Some(object) = out.as_object_mut() {
        let every: Vec<Value> = report.compared.iter().map(one).collect();
        object.insert("listed".into(), every.into());
    }
    out
}
