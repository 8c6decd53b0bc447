//! A graph for Graphviz: a node for each group, namespaces as clusters, an arrow where something is open,
//! with its ports; of a change, what opens and closes in colour.

use core::fmt::Write;
use std::collections::BTreeMap;

use super::{Mark, Shown, words};
use crate::kube::policy::reach::Kind;
use crate::report::topo::text::quoted;

/// The graph.
pub fn dot(shown: &Shown<'_>) -> String {
    let mut out = String::from("digraph reach {\n  rankdir=LR;\n");
    out.push_str("  node [shape=box, style=\"rounded,filled\", fillcolor=\"#f3f6fb\", fontname=\"Helvetica\"];\n");
    out.push_str("  edge [fontname=\"Helvetica\", fontsize=10, color=\"#5a687a\"];\n");
    let _ = writeln!(out, "  label={};", quoted(&shown.title));
    let mut spaces: BTreeMap<&str, Vec<usize>> = BTreeMap::new();
    for (at, group) in shown.reach.groups.iter().enumerate() {
        spaces.entry(&group.namespace).or_default().push(at);
    }
    for (number, (namespace, groups)) in spaces.iter().enumerate() {
        let inside = !namespace.is_empty();
        if inside {
            let _ = writeln!(
                out,
                "  subgraph cluster_{number} {{\n    label={}; color=\"#94a3b5\";",
                quoted(namespace)
            );
        }
        for at in groups {
            node(&mut out, shown, *at);
        }
        if inside {
            out.push_str("  }\n");
        }
    }
    for &from in &shown.reach.rows {
        for &to in &shown.reach.columns {
            edge(&mut out, shown, from, to);
        }
    }
    out.push_str("}\n");
    out
}

fn node(out: &mut String, shown: &Shown<'_>, at: usize) {
    let Some(group) = shown.reach.groups.get(at) else {
        return;
    };
    let shape = match group.kind {
        Kind::Pods => "",
        Kind::Nodes => ", shape=box3d",
        Kind::Outside => ", shape=ellipse, style=\"dashed\"",
        Kind::Service => ", shape=hexagon",
    };
    let text = format!("{}\n{}", group.name, shown.ends(at));
    let _ = writeln!(out, "    g{} [label={}{shape}];", at + 1, quoted(&text));
}

fn edge(out: &mut String, shown: &Shown<'_>, from: usize, to: usize) {
    let ports = shown.reach.cell(from, to);
    let mark = shown.mark(from, to, &ports);
    let attributes = match mark {
        Mark::Nothing | Mark::Closed | Mark::Untried => return,
        Mark::Open | Mark::Partly if shown.is_change() => "color=\"#c3cedc\"",
        Mark::Open => "color=\"#1c8a66\"",
        Mark::Partly => "color=\"#1c8a66\", style=dashed",
        Mark::Opened => "color=\"#d4480f\", fontcolor=\"#d4480f\", penwidth=2",
        Mark::Shut => "color=\"#1d5fe0\", fontcolor=\"#1d5fe0\", style=dashed, penwidth=2",
        Mark::Both => "color=\"#8a3ffc\", fontcolor=\"#8a3ffc\", penwidth=2",
        Mark::Broken => "color=\"#d4303f\", fontcolor=\"#d4303f\", style=dashed, penwidth=2",
        Mark::Leak => "color=\"#c77700\", fontcolor=\"#c77700\", penwidth=2",
    };
    let mut texts = Vec::new();
    for (at, port) in ports.iter().enumerate() {
        let open = port.open.get(shown.last()).copied().unwrap_or_default();
        let reached = shown.path(from, to, at).map(|p| p.reached > 0);
        let text = words::port(port, shown.last());
        match (port.change(), reached.unwrap_or(open > 0)) {
            ((up, 0), _) if up > 0 => texts.push(format!("+{text}")),
            ((_, down), _) if down > 0 => texts.push(format!("-{text}")),
            (_, true) => texts.push(text),
            _ if mark == Mark::Broken && open > 0 => texts.push(format!("x {text}")),
            _ => {}
        }
    }
    let label = quoted(&texts.join("\n"));
    let _ = writeln!(
        out,
        "  g{} -> g{} [label={label}, {attributes}];",
        from + 1,
        to + 1
    );
}
