//! The cluster as an SVG: a box per node, the underlay as a bar below them, hosts below it, tunnels as arcs.

use super::Options;
use super::model::{self, HostBox, Model, NodeBox};
use crate::base::NsId;
use crate::cluster::Cluster;
use crate::path::{Disposition, Event, EventKind};
use std::collections::BTreeMap;
use std::fmt::Write as _;

const BOX_W: i32 = 400;
const GAP: i32 = 46;
const MARGIN: i32 = 36;
const ROW_H: i32 = 26;
const HEAD_H: i32 = 54;
const CHIP_H: i32 = 22;
const ARC_H: i32 = 54;
/// Nodes side by side.
const COLUMNS: i32 = 4;

/// Rules with the names of colours; some viewers know no CSS variables, so the values are written out.
const RULES: &str = "\
text{fill:INK}.s{fill:SOFT}.bg{fill:BG}.n{fill:NODE;stroke:LINE}.p{fill:POD;stroke:LINE}.c{fill:CHIP}.b{fill:BAR}\
.down{fill:none;stroke:BAD;stroke-dasharray:3 2}.l{stroke:LINE}.tun{stroke:TUN}.tl{fill:TUN}.go{stroke:GO}\
.dg{fill:GO}.x{stroke:BAD}.xt{fill:BAD}.num{fill:#fff}";

/// Sizes, which do not depend on light or dark.
const SIZES: &str = "\
text{font-family:system-ui,-apple-system,'Segoe UI',Roboto,'DejaVu Sans',sans-serif;font-size:12px}\
.t{font-size:17px;font-weight:600}.h{font-size:14px;font-weight:600}.s,.tl{font-size:11px}\
.l{stroke-width:1.5;fill:none}.tun{stroke-width:1.6;stroke-dasharray:6 4;fill:none}\
.w{stroke-width:2.6;fill:none;opacity:.85}.num{font-size:10px;font-weight:700}.x{stroke-width:3}.xt{font-weight:600}";

/// Name, light value, dark value.
const COLOURS: [(&str, &str, &str); 11] = [
    ("INK", "#1d2433", "#e8ecf3"),
    ("SOFT", "#5b6577", "#9aa6b8"),
    ("LINE", "#c4ccd9", "#3a4557"),
    ("NODE", "#f4f7fb", "#1b2230"),
    ("POD", "#ffffff", "#232c3d"),
    ("CHIP", "#e3ecf9", "#2a3a57"),
    ("BAR", "#e8edf4", "#222b3a"),
    ("TUN", "#7a5af0", "#a48bff"),
    ("GO", "#0f8a5f", "#3ecf97"),
    ("BAD", "#d23b3b", "#ff7070"),
    ("BG", "#ffffff", "#12161f"),
];

fn style() -> String {
    let fill = |dark: bool| {
        let pick = |c: &(&'static str, &'static str, &'static str)| if dark { c.2 } else { c.1 };
        COLOURS
            .iter()
            .fold(RULES.to_owned(), |s, c| s.replace(c.0, pick(c)))
    };
    format!(
        "{SIZES}{}@media(prefers-color-scheme:dark){{{}}}",
        fill(false),
        fill(true)
    )
}

/// Where things ended up, to draw a way over them.
#[derive(Default)]
struct Page {
    body: String,
    anchors: BTreeMap<NsId, (i32, i32)>,
    bar_y: i32,
}

/// The drawing.
pub fn svg(c: &Cluster, options: &Options<'_>) -> String {
    let m = model::of(c);
    let columns = (m.nodes.len() as i32).clamp(1, COLUMNS);
    let width = MARGIN * 2 + columns * BOX_W + (columns - 1) * GAP;
    let mut p = Page::default();
    let bottom = nodes(&mut p, &m, columns);
    p.bar_y = bottom + 34;
    underlay(&mut p, &m, width, columns);
    let mut height = hosts(&mut p, &m.hosts, width);
    if let Some(events) = options.path {
        height = draw_way(&mut p, c, events, height);
    }
    let _ = write!(
        p.body,
        r#"<text class="s" x="{MARGIN}" y="{}">dashed: tunnel between nodes; red outline: device down</text>"#,
        height + 6
    );
    height += 24;
    format!(
        "<svg xmlns=\"http://www.w3.org/2000/svg\" width=\"{width}\" height=\"{height}\" viewBox=\"0 0 {width} {height}\" role=\"img\">\
         <title>{t}</title><style>{}</style><rect class=\"bg\" width=\"{width}\" height=\"{height}\"/>\
         <text class=\"t\" x=\"{MARGIN}\" y=\"34\">{t}</text>{}</svg>\n",
        style(),
        p.body,
        t = esc(&m.title)
    )
}

fn box_height(n: &NodeBox) -> i32 {
    let rows = n.pods.len() as i32 + i32::from(n.more > 0);
    HEAD_H + CHIP_H + 16 + rows * (ROW_H + 4) + 8
}

/// Draws the nodes in rows; gives the lowest edge.
fn nodes(p: &mut Page, m: &Model, columns: i32) -> i32 {
    let mut y = 56;
    for row in m.nodes.chunks(columns as usize) {
        let tunnels = row.iter().any(|n| n.tunnel.is_some()) && row.len() > 1;
        y += if tunnels { ARC_H } else { 10 };
        let h = row.iter().map(box_height).max().unwrap_or(0);
        for (i, n) in row.iter().enumerate() {
            let x = MARGIN + i as i32 * (BOX_W + GAP);
            node(p, n, x, y, h);
            let next = row.get(i + 1);
            if let (Some(t), Some(_)) = (&n.tunnel, next) {
                arc(p, x + BOX_W / 2, x + BOX_W + GAP + BOX_W / 2, y, t);
            }
        }
        y += h + 18;
    }
    y
}

fn arc(p: &mut Page, x1: i32, x2: i32, y: i32, label: &str) {
    let mid = (x1 + x2) / 2;
    let _ = write!(
        p.body,
        r#"<path class="tun" d="M{x1} {y} C{x1} {c} {x2} {c} {x2} {y}"/>"#,
        c = y - 40
    );
    let _ = write!(
        p.body,
        r#"<text class="tl" x="{mid}" y="{}" text-anchor="middle">{}</text>"#,
        y - 36,
        esc(label)
    );
}

fn node(p: &mut Page, n: &NodeBox, x: i32, y: i32, h: i32) {
    p.anchors.insert(n.ns, (x + BOX_W - 26, y + 24));
    let _ = write!(
        p.body,
        r#"<g><title>node {}</title><rect class="n" x="{x}" y="{y}" width="{BOX_W}" height="{h}" rx="12"/>"#,
        esc(&n.name)
    );
    let _ = write!(
        p.body,
        r#"<text class="h" x="{}" y="{}">{}</text>"#,
        x + 14,
        y + 23,
        esc(&cut(&n.name, 34))
    );
    let line = n.lines.join("   ");
    let _ = write!(
        p.body,
        r#"<text class="s" x="{}" y="{}">{}</text>"#,
        x + 14,
        y + 42,
        esc(&cut(&line, 56))
    );
    let mut cx = x + 14;
    for d in &n.chips {
        let text = format!("{} {}", d.name, d.mtu);
        let w = 14 + 7 * text.chars().count() as i32;
        if cx + w > x + BOX_W - 8 {
            break;
        }
        let class = if d.up { "c" } else { "down" };
        let cy = y + HEAD_H;
        let _ = write!(
            p.body,
            r#"<rect class="{class}" x="{cx}" y="{cy}" width="{w}" height="{CHIP_H}" rx="6"><title>{}, MTU {}</title></rect>"#,
            esc(&d.name),
            d.mtu
        );
        let _ = write!(
            p.body,
            r#"<text class="s" x="{}" y="{}">{}</text>"#,
            cx + 7,
            cy + 15,
            esc(&text)
        );
        cx += w + 8;
    }
    let mut py = y + HEAD_H + CHIP_H + 12;
    for pod in &n.pods {
        if !pod.host_network {
            p.anchors.insert(pod.ns, (x + BOX_W - 26, py + ROW_H / 2));
        }
        let _ = write!(
            p.body,
            r#"<rect class="p" x="{}" y="{py}" width="{}" height="{ROW_H}" rx="7"/>"#,
            x + 12,
            BOX_W - 24
        );
        let _ = write!(
            p.body,
            r#"<text x="{}" y="{}">{}</text>"#,
            x + 22,
            py + 17,
            esc(&cut(&pod.name, 18))
        );
        let _ = write!(
            p.body,
            r#"<text class="s" x="{}" y="{}">{}</text>"#,
            x + 148,
            py + 17,
            esc(&cut(&pod.text, 33))
        );
        py += ROW_H + 4;
    }
    if n.more > 0 {
        let _ = write!(
            p.body,
            r#"<text class="s" x="{}" y="{}">+ {} more pods</text>"#,
            x + 22,
            py + 17,
            n.more
        );
    }
    p.body.push_str("</g>");
}

fn underlay(p: &mut Page, m: &Model, width: i32, columns: i32) {
    let y = p.bar_y;
    let last_row = m
        .nodes
        .chunks(columns as usize)
        .next_back()
        .map_or(0, <[NodeBox]>::len) as i32;
    for i in 0..last_row {
        let x = MARGIN + i * (BOX_W + GAP) + BOX_W / 2;
        let _ = write!(p.body, r#"<path class="l" d="M{x} {} V{y}"/>"#, y - 52);
    }
    let w = width - 2 * MARGIN;
    let _ = write!(
        p.body,
        r#"<rect class="b" x="{MARGIN}" y="{y}" width="{w}" height="28" rx="8"/>"#
    );
    let _ = write!(
        p.body,
        r#"<text class="s" x="{}" y="{}">underlay</text>"#,
        MARGIN + 12,
        y + 18
    );
    let _ = write!(
        p.body,
        r#"<text class="s" x="{}" y="{}" text-anchor="end">gateway →</text>"#,
        MARGIN + w - 12,
        y + 18
    );
}

fn hosts(p: &mut Page, hosts: &[HostBox], width: i32) -> i32 {
    let mut y = p.bar_y + 28;
    if hosts.is_empty() {
        return y + 20;
    }
    y += 26;
    let mut x = MARGIN;
    for h in hosts {
        let w = 30 + 7 * h.name.len().max(h.text.len()) as i32;
        if x + w > width - MARGIN && x > MARGIN {
            x = MARGIN;
            y += 66;
        }
        let _ = write!(
            p.body,
            r#"<path class="l" d="M{} {} V{y}"/>"#,
            x + w / 2,
            p.bar_y + 28
        );
        let _ = write!(
            p.body,
            r#"<rect class="n" x="{x}" y="{y}" width="{w}" height="48" rx="10"/>"#
        );
        let _ = write!(
            p.body,
            r#"<text class="h" x="{}" y="{}">{}</text>"#,
            x + 14,
            y + 20,
            esc(&h.name)
        );
        let _ = write!(
            p.body,
            r#"<text class="s" x="{}" y="{}">{}</text>"#,
            x + 14,
            y + 38,
            esc(&h.text)
        );
        p.anchors.insert(h.ns, (x + w - 16, y + 24));
        x += w + GAP / 2;
    }
    y + 48 + 22
}

/// The namespaces an exchange's frames passed, in order, without repetition in a row.
pub(super) fn way(events: &[Event]) -> Vec<NsId> {
    let mut out: Vec<NsId> = Vec::new();
    let root = events
        .iter()
        .find(|e| matches!(e.kind, EventKind::Tap(_)) && e.summary.starts_with(['T', 'U', 'I']));
    let Some(root) = root.map(|e| e.root) else {
        return out;
    };
    for e in events
        .iter()
        .filter(|e| e.root == root && matches!(e.kind, EventKind::Tap(_)) && e.parent.is_none())
    {
        if out.last() != Some(&e.ns) {
            out.push(e.ns);
        }
    }
    out
}

/// Draws the way of the first packet, numbered, and where a frame was lost; gives the new lower edge.
fn draw_way(p: &mut Page, c: &Cluster, events: &[Event], height: i32) -> i32 {
    let way = way(events);
    let mut points: Vec<(i32, i32)> = Vec::new();
    for (i, ns) in way.iter().enumerate() {
        let at = p.anchors.get(ns).copied().or_else(|| {
            // A switch or the gateway is the bar itself, half-way between its neighbours.
            let (a, b) = (
                points.last()?,
                way.get(i + 1).and_then(|n| p.anchors.get(n)),
            );
            Some(((a.0 + b.map_or(a.0 + 60, |b| b.0)) / 2, p.bar_y + 14))
        });
        points.extend(at);
    }
    let line: Vec<String> = corners(&points, p.bar_y + 14)
        .iter()
        .map(|(x, y)| format!("{x},{y}"))
        .collect();
    let _ = write!(
        p.body,
        r#"<polyline class="w go" points="{}"/>"#,
        line.join(" ")
    );
    for (i, (x, y)) in points.iter().enumerate() {
        let _ = write!(
            p.body,
            r#"<circle class="dg" cx="{x}" cy="{y}" r="9"/><text class="num" x="{x}" y="{}" text-anchor="middle">{}</text>"#,
            y + 4,
            i + 1
        );
    }
    let lost = events.iter().rev().find_map(|e| match &e.kind {
        EventKind::End(
            Disposition::Dropped { reason, .. } | Disposition::Rejected { reason, .. },
        ) => Some((e, *reason)),
        _ => None,
    });
    let Some((e, reason)) = lost else {
        return height;
    };
    let Some((x, y)) = p.anchors.get(&e.ns).copied() else {
        return height;
    };
    let (l, r, t, b) = (x - 34, x - 18, y - 8, y + 8);
    let _ = write!(
        p.body,
        r#"<path class="x" d="M{l} {t} L{r} {b} M{r} {t} L{l} {b}"/>"#
    );
    let name = c
        .lab
        .world
        .ns(e.ns)
        .map(|n| n.name.clone())
        .unwrap_or_default();
    let text = format!("✘ {name} {}: {reason}", e.dev_name);
    let _ = write!(
        p.body,
        r#"<text class="xt" x="{MARGIN}" y="{}">{}</text>"#,
        height + 4,
        esc(&text)
    );
    height + 24
}

/// The way in straight lines: between a box and the bar it runs in the gap beside the box.
fn corners(points: &[(i32, i32)], bar: i32) -> Vec<(i32, i32)> {
    let beside = |x: i32| x + 26 + GAP / 3;
    let mut out: Vec<(i32, i32)> = Vec::new();
    for (i, at) in points.iter().enumerate() {
        let before = i.checked_sub(1).and_then(|k| points.get(k));
        if at.1 != bar && before.is_some_and(|b| b.1 == bar) {
            out.extend([(beside(at.0), bar), (beside(at.0), at.1)]);
        }
        out.push(*at);
        if at.1 != bar && points.get(i + 1).is_some_and(|n| n.1 == bar) {
            out.extend([(beside(at.0), at.1), (beside(at.0), bar)]);
        }
    }
    out
}

fn cut(text: &str, n: usize) -> String {
    if text.chars().count() <= n {
        text.to_owned()
    } else {
        text.chars().take(n - 1).chain(['…']).collect()
    }
}

/// Text for XML.
fn esc(text: &str) -> String {
    text.replace('&', "&amp;")
        .replace('<', "&lt;")
        .replace('>', "&gt;")
        .replace('"', "&quot;")
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::kube::manifest::Input;
    use crate::kube::store::Store;

    const SMALL: &str = "
apiVersion: podpath.dev/v1alpha1
kind: Cluster
metadata: {name: c}
spec: {cni: {plugin: flannel}, podCIDRs: [10.244.0.0/16]}
---
{apiVersion: v1, kind: Node, metadata: {name: n1}}
---
{apiVersion: v1, kind: Node, metadata: {name: n2}}
---
{apiVersion: v1, kind: Pod, metadata: {name: a, namespace: default}, spec: {nodeName: n1, containers: [{name: x}]}}
---
{apiVersion: v1, kind: Pod, metadata: {name: b, namespace: default}, spec: {nodeName: n2, containers: [{name: x}]}}
";

    fn cluster() -> Cluster {
        let (store, f) = Store::load(&[Input::new("t.yaml", SMALL)]);
        assert!(f.iter().all(|f| !f.is_error()), "{f:?}");
        Cluster::build(store, 1).0
    }

    #[test]
    fn tags_balance_and_the_same_cluster_gives_the_same_bytes() {
        let s = svg(&cluster(), &Options::default());
        assert_eq!(s, svg(&cluster(), &Options::default()));
        for tag in ["svg", "g", "text", "title", "style"] {
            let (open, close) = (
                s.matches(&format!("<{tag}")).count(),
                s.matches(&format!("</{tag}>")).count(),
            );
            assert_eq!(open, close, "{tag}");
        }
        assert!(s.contains("VXLAN 1, UDP 8472") && s.contains("default/a"));
        let d = super::super::dot(&cluster(), &Options::default());
        assert_eq!(d.matches('{').count(), d.matches('}').count());
    }

    #[test]
    fn text_from_outside_is_escaped() {
        assert_eq!(esc("<a & \"b\">"), "&lt;a &amp; &quot;b&quot;&gt;");
        assert_eq!(cut("abcdef", 4), "abc…");
    }
}
