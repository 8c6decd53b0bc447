//! The cluster for Graphviz.

use super::{Options, model};
use crate::cluster::Cluster;
use std::fmt::Write as _;

/// A dot graph: a cluster per node, the underlay in the middle, tunnels dashed.
pub fn dot(c: &Cluster, options: &Options<'_>) -> String {
    let m = model::of(c);
    let mut s = String::from(
        "graph podpath {\n  graph [compound=true, fontname=\"sans-serif\", rankdir=TB, label=",
    );
    let _ = writeln!(s, "{}, labelloc=t];", quoted(&m.title));
    s.push_str("  node [shape=box, style=rounded, fontname=\"sans-serif\", fontsize=10];\n  edge [fontname=\"sans-serif\", fontsize=9];\n");
    s.push_str("  underlay [shape=ellipse, label=\"underlay\"];\n");
    for (i, n) in m.nodes.iter().enumerate() {
        let label = [&[n.name.clone()][..], &n.lines[..]].concat().join("\\n");
        let _ = writeln!(
            s,
            "  subgraph cluster_{i} {{\n    label={};",
            quoted(&label)
        );
        for d in &n.chips {
            let style = if d.up { "" } else { ", color=red" };
            let label = quoted(&format!("{}\\nmtu {}", d.name, d.mtu));
            let _ = writeln!(
                s,
                "    {} [label={label}, shape=component{style}];",
                id(&n.name, &d.name)
            );
        }
        for p in &n.pods {
            let _ = writeln!(
                s,
                "    {} [label={}];",
                quoted(&p.name),
                quoted(&format!("{}\\n{}", p.name, p.text))
            );
            if let Some(b) = n
                .chips
                .iter()
                .find(|d| !p.host_network && d.name.starts_with("cni"))
            {
                let _ = writeln!(s, "    {} -- {};", quoted(&p.name), id(&n.name, &b.name));
            }
        }
        if n.more > 0 {
            let _ = writeln!(
                s,
                "    {} [label=\"+ {} more\", shape=plaintext];",
                id(&n.name, "more"),
                n.more
            );
        }
        s.push_str("  }\n");
        if let Some(up) = n.chips.first() {
            let _ = writeln!(s, "  {} -- underlay;", id(&n.name, &up.name));
        }
    }
    for h in &m.hosts {
        let _ = writeln!(
            s,
            "  {} [label={}];",
            quoted(&h.name),
            quoted(&format!("{}\\n{}", h.name, h.text))
        );
        let _ = writeln!(s, "  {} -- underlay;", quoted(&h.name));
    }
    for pair in m.nodes.windows(2) {
        if let ([a, b], Some(t)) = (pair, &pair[0].tunnel)
            && let (Some(x), Some(y)) = (a.chips.last(), b.chips.last())
        {
            let ends = format!("{} -- {}", id(&a.name, &x.name), id(&b.name, &y.name));
            let _ = writeln!(s, "  {ends} [style=dashed, label={}];", quoted(t));
        }
    }
    let way = options.path.map(super::svg::way).unwrap_or_default();
    for (k, pair) in way.windows(2).enumerate() {
        let name = |ns| {
            c.lab
                .world
                .ns(ns)
                .map(|n| n.name.clone())
                .unwrap_or_default()
        };
        let _ = writeln!(
            s,
            "  // hop {}: {} to {}",
            k + 1,
            name(pair[0]),
            name(pair[1])
        );
    }
    s.push_str("}\n");
    s
}

fn id(node: &str, dev: &str) -> String {
    quoted(&format!("{node}/{dev}"))
}

/// A dot string: `\n` stays a line break, everything else is literal.
fn quoted(text: &str) -> String {
    format!("\"{}\"", text.replace('"', "\\\""))
}
