//! The same picture for Graphviz: a cluster per node, the underlay and the overlay as edges.
//!
//! Language: graphviz.org/doc/info/lang.html. Every name is quoted; every id is made of world ids, not
//! of names.

use super::model::{Chip, ChipKind, Health, NodeView, Picture, Segment};
use super::text::quoted;
use super::way::Stop;
use core::fmt::Write as _;

/// Fill and line of a box.
type Paint = (&'static str, &'static str);

const NODE: Paint = ("#f3f6fb", "#94a3b5");
const POD: Paint = ("#ffffff", "#b3bfcd");
const BRIDGE: Paint = ("#dff4ee", "#74bfae");
const TUNNEL: Paint = ("#eeeafd", "#a492e6");
const UPLINK: Paint = ("#e3eefc", "#7fabe5");
const OTHER: Paint = ("#eef1f5", "#b6c1ce");
const SWITCH: Paint = ("#e4eaf2", "#94a3b5");
const HOST: Paint = ("#f1f5f0", "#9fb59f");
const WARN: Paint = ("#fff4da", "#dd9a1f");
const BAD: Paint = ("#fdeaec", "#d4303f");

/// Writes the graph.
pub(super) fn write(p: &Picture) -> String {
    let mut o = String::new();
    let _ = writeln!(o, "graph {} {{", quoted(&p.title));
    let mut label = format!("{}\n{}", p.title, p.subtitle);
    for (_, text) in p.problems.iter().take(12) {
        let _ = write!(label, "\n! {text}");
    }
    let _ = writeln!(
        o,
        "  graph [label={}, labelloc=t, fontname=\"Helvetica\", fontsize=14, rankdir=TB, \
         splines=true, nodesep=0.3, ranksep=0.5, bgcolor=\"white\"];",
        quoted(&label)
    );
    o.push_str(
        "  node [shape=box, style=\"rounded,filled\", fontname=\"Helvetica\", fontsize=10];\n",
    );
    o.push_str("  edge [fontname=\"Helvetica\", fontsize=9, color=\"#94a3b5\"];\n");
    for seg in &p.segments {
        segment(&mut o, seg, p);
    }
    if let Some(g) = &p.gateway {
        let text = format!("gateway\n{}", g.addresses.join("\n"));
        shape(&mut o, "  ", &format!("n{}", g.ns.0), &text, SWITCH, false);
    }
    overlay(&mut o, p);
    way(&mut o, p);
    o.push_str("}\n");
    o
}

fn sick(h: Health, usual: Paint) -> Paint {
    match h {
        Health::Good => usual,
        Health::Warn => WARN,
        Health::Bad => BAD,
    }
}

fn shape(o: &mut String, indent: &str, id: &str, label: &str, paint: Paint, dashed: bool) {
    let style = if dashed {
        ", style=\"rounded,filled,dashed\""
    } else {
        ""
    };
    let _ = writeln!(
        o,
        "{indent}{id} [label={}, fillcolor=\"{}\", color=\"{}\"{style}];",
        quoted(label),
        paint.0,
        paint.1
    );
}

fn segment(o: &mut String, seg: &Segment, p: &Picture) {
    let switch = seg.switch.map(|s| format!("n{}", s.0));
    if let Some(id) = &switch {
        let text = format!("{}\n{}\nmtu {}", seg.name, seg.nets.join(", "), seg.mtu);
        shape(
            o,
            "  ",
            id,
            text.replace("\n\n", "\n").as_str(),
            SWITCH,
            false,
        );
    }
    for n in &seg.nodes {
        match n.whole {
            true => node(o, n),
            false => tile(o, n),
        }
        if let Some(id) = &switch {
            let _ = writeln!(o, "  {} -- {id};", uplink(n));
        }
    }
    for h in &seg.hosts {
        let text = format!(
            "{}\n{}\n{}",
            h.name,
            h.addresses.join("\n"),
            h.ports.join(" ")
        );
        let id = format!("n{}", h.ns.0);
        shape(o, "  ", &id, text.trim_end(), sick(h.health, HOST), false);
        if let Some(s) = &switch {
            let _ = writeln!(o, "  {s} -- {id};");
        }
    }
    if let (Some(g), Some(s)) = (&p.gateway, &switch) {
        let _ = writeln!(o, "  {s} -- n{};", g.ns.0);
    }
}

/// The id of what a node's wire hangs on.
fn uplink(n: &NodeView) -> String {
    let chip = n.chips.iter().find(|c| c.kind == ChipKind::Uplink);
    match (n.whole, chip) {
        (true, Some(c)) => chip_id(n, c),
        (true, None) => format!("n{}_bar", n.ns.0),
        (false, _) => format!("n{}", n.ns.0),
    }
}

fn chip_id(n: &NodeView, c: &Chip) -> String {
    match c.dev {
        Some(d) => format!("n{}_d{}", n.ns.0, d.0),
        None => format!("n{}_bar", n.ns.0),
    }
}

fn tile(o: &mut String, n: &NodeView) {
    let facts = [n.addresses.join(", "), n.cidrs.join(", ")].join("\n");
    let text = format!("{}\n{facts}\n{} pods", n.name, n.pod_count);
    let paint = sick(n.health, NODE);
    shape(o, "  ", &format!("n{}", n.ns.0), &text, paint, false);
}

fn node(o: &mut String, n: &NodeView) {
    let _ = writeln!(o, "  subgraph cluster_n{} {{", n.ns.0);
    let label = format!("{}\n{}", n.name, n.cidrs.join(", "));
    let _ = writeln!(
        o,
        "    label={}; style=\"rounded,filled\"; fillcolor=\"{}\"; color=\"{}\"; fontsize=12;",
        quoted(label.trim_end()),
        NODE.0,
        NODE.1
    );
    let bar = chip_id(n, &n.bar);
    for c in std::iter::once(&n.bar).chain(&n.chips) {
        let usual = match c.kind {
            ChipKind::Bridge => BRIDGE,
            ChipKind::Tunnel => TUNNEL,
            ChipKind::Uplink => UPLINK,
            ChipKind::Other => OTHER,
        };
        let text = format!("{}\n{}\n{}", c.name, c.detail, c.addresses.join("\n"));
        shape(
            o,
            "    ",
            &chip_id(n, c),
            text.trim_end(),
            sick(c.health, usual),
            false,
        );
    }
    for c in &n.chips {
        let _ = writeln!(o, "    {bar} -- {};", chip_id(n, c));
    }
    for (i, p) in n.pods.iter().enumerate() {
        let id = match p.host_network {
            true => format!("n{}_h{i}", n.ns.0),
            false => format!("n{}", p.ns.0),
        };
        let mut text = format!("{}/{}\n{}", p.namespace, p.name, p.ips.join("\n"));
        if p.host_network {
            text.push_str("\nhostNetwork");
        }
        if !p.ports.is_empty() {
            let _ = write!(text, "\n{}", p.ports.join(" "));
        }
        shape(o, "    ", &id, &text, sick(p.health, POD), p.host_network);
        let style = if p.host_network { " [style=invis]" } else { "" };
        let _ = writeln!(o, "    {id} -- {bar}{style};");
    }
    if n.more > 0 {
        let id = format!("n{}_more", n.ns.0);
        shape(o, "    ", &id, &format!("+ {} more", n.more), POD, true);
        let _ = writeln!(o, "    {id} -- {bar} [style=dotted];");
    }
    o.push_str("  }\n");
}

fn overlay(o: &mut String, p: &Picture) {
    // A mesh of many is a blot; the picture's title says it.
    let whole: Vec<&NodeView> = p.nodes().filter(|n| n.whole).collect();
    for t in &p.overlay.tunnels {
        let end = |ns, dev| {
            let n = whole.iter().find(|n| n.ns == ns)?;
            let c = n.chips.iter().find(|c| c.dev == Some(dev))?;
            Some(chip_id(n, c))
        };
        let (Some(a), Some(b)) = (end(t.a, t.a_dev), end(t.b, t.b_dev)) else {
            continue;
        };
        let color = if t.both { "#8b74e0" } else { "#dd9a1f" };
        let _ = writeln!(
            o,
            "  {a} -- {b} [style=dashed, constraint=false, color=\"{color}\", label={}];",
            quoted(&t.label)
        );
    }
}

/// The id a trace's stop has in the graph.
fn stop_id(p: &Picture, s: &Stop) -> Option<String> {
    for n in p.nodes() {
        if n.ns == s.ns {
            let chips = || std::iter::once(&n.bar).chain(&n.chips);
            let chip = chips().find(|c| c.dev.is_some() && c.dev == s.dev);
            return Some(match n.whole {
                true => chip_id(n, chip.unwrap_or(&n.bar)),
                false => format!("n{}", n.ns.0),
            });
        }
    }
    let pods = p.nodes().flat_map(|n| &n.pods).filter(|p| !p.host_network);
    let others = p
        .segments
        .iter()
        .flat_map(|x| x.hosts.iter().map(|h| h.ns).chain(x.switch));
    let mut all = pods
        .map(|p| p.ns)
        .chain(others)
        .chain(p.gateway.iter().map(|g| g.ns));
    all.find(|ns| *ns == s.ns).map(|ns| format!("n{}", ns.0))
}

fn way(o: &mut String, p: &Picture) {
    for leg in &p.legs {
        let color = if leg.reply { "#c0269e" } else { "#1d5fe0" };
        let mut ids: Vec<String> = leg.stops.iter().filter_map(|s| stop_id(p, s)).collect();
        ids.dedup();
        for (i, w) in ids.windows(2).enumerate() {
            let [a, b] = w else { continue };
            let _ = writeln!(
                o,
                "  {a} -- {b} [dir=forward, constraint=false, penwidth=2, color=\"{color}\", \
                 fontcolor=\"{color}\", label=\"{}\"];",
                i + 1
            );
        }
        if let (Some((_, why)), Some(last)) = (&leg.failed, ids.last()) {
            let id = if leg.reply { "lost_reply" } else { "lost" };
            shape(o, "  ", id, &format!("✕ {why}"), BAD, false);
            let _ = writeln!(
                o,
                "  {last} -- {id} [dir=forward, penwidth=2, color=\"{}\"];",
                BAD.1
            );
        }
    }
}
