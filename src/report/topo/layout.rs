//! Where everything stands, in whole px.
//!
//! Nodes in rows, above them nothing, below them their switch, then its hosts, then the gateway and the
//! hosts behind it. Node boxes of one drawing are equally wide; rows are joined to the switch by a
//! trunk at the left.

use super::model::{Chip, ChipKind, HOSTS_SHOWN, NodeView, Picture, PodView, Segment};
use super::text::{Face, width};

pub(super) const MARGIN: i32 = 28;
pub(super) const BAR_H: i32 = 34;
pub(super) const SWITCH_H: i32 = 38;
pub(super) const TILE: (i32, i32) = (168, 66);
pub(super) const HOST: (i32, i32) = (190, 56);
pub(super) const PAD: i32 = 16;
const NODE_GAP: i32 = 34;
const POD_GAP: i32 = 6;
const MORE_H: i32 = 24;
/// Widest row of nodes.
const ROW_W: i32 = 1400;
/// Tiles in one row.
const TILES_PER_ROW: usize = 10;
/// Nodes whose tunnels are drawn one by one.
const ARC_NODES: usize = 4;
/// Problems listed under the title.
pub(super) const PROBLEMS_SHOWN: usize = 6;

/// A rectangle.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
pub(super) struct Rect {
    pub x: i32,
    pub y: i32,
    pub w: i32,
    pub h: i32,
}

impl Rect {
    pub fn right(&self) -> i32 {
        self.x + self.w
    }
    pub fn bottom(&self) -> i32 {
        self.y + self.h
    }
    pub fn cx(&self) -> i32 {
        self.x + self.w / 2
    }
    pub fn cy(&self) -> i32 {
        self.y + self.h / 2
    }
}

/// Sizes that all whole nodes share.
#[derive(Clone, Copy, Debug, Default)]
pub(super) struct Sizes {
    pub columns: usize,
    pub gutter: i32,
    pub pod_w: i32,
    pub pod_h: i32,
    pub chip_h: i32,
    pub node_w: i32,
    /// Between pods and bar, and between bar and chips.
    pub step: (i32, i32),
    /// Below the chips.
    pub foot: i32,
    /// A trace is drawn: room for its lines.
    pub path: bool,
}

/// A node's places.
#[derive(Clone, Debug, Default)]
pub(super) struct NodeBox {
    pub rect: Rect,
    pub whole: bool,
    pub bar: Rect,
    pub chips: Vec<Rect>,
    /// Where wires meet each chip.
    pub ports: Vec<i32>,
    pub pods: Vec<Rect>,
    pub more: Option<Rect>,
    /// The line under its row that leads to the trunk; `None`: its wire goes straight to the switch.
    pub bus: Option<i32>,
}

/// A segment's places.
#[derive(Clone, Debug, Default)]
pub(super) struct Block {
    pub nodes: Vec<NodeBox>,
    pub switch: Rect,
    pub hosts: Vec<Rect>,
    /// Where the trunk to the gateway and from the rows stands.
    pub trunk: i32,
    /// The lines under the rows.
    pub buses: Vec<i32>,
}

/// Everything's place.
#[derive(Clone, Debug, Default)]
pub(super) struct Layout {
    pub width: i32,
    pub sizes: Sizes,
    pub blocks: Vec<Block>,
    pub gateway: Option<Rect>,
    /// Around the nodes that an overlay joins, when its tunnels are not drawn one by one.
    pub enclosure: Option<Rect>,
    pub legend: i32,
}

/// The width a chip wants.
fn chip_w(c: &Chip, path: bool) -> i32 {
    let lines = [
        width(&c.name, 12, Face::Bold),
        width(&c.detail, 10, Face::Sans),
    ];
    let addresses = c.addresses.iter().map(|a| width(a, 10, Face::Mono));
    let text = lines.into_iter().chain(addresses).max().unwrap_or(0);
    text.clamp(56, 230) + 20 + if path { 34 } else { 0 }
}

fn chips_w(n: &NodeView, path: bool) -> i32 {
    let gap = if path { 34 } else { 12 };
    n.chips.iter().map(|c| chip_w(c, path) + gap).sum::<i32>() - gap
}

/// The width a pod wants.
fn pod_want(p: &PodView) -> i32 {
    let name = width(&p.namespace, 12, Face::Sans) + 8 + width(&p.name, 12, Face::Bold);
    let ip = p.ips.first().map_or(0, |i| width(i, 11, Face::Mono));
    let ports = p
        .ports
        .iter()
        .take(3)
        .map(|x| width(x, 10, Face::Mono) + 12);
    name.max(ip + ports.sum::<i32>() + 14) + 20
}

fn sizes(p: &Picture) -> Sizes {
    let path = !p.legs.is_empty();
    let whole: Vec<&NodeView> = p.nodes().filter(|n| n.whole).collect();
    let most = whole.iter().map(|n| n.pods.len()).max().unwrap_or(0);
    let (per, limit, widest) = match whole.len() {
        0 | 1 => (10, 4, 300),
        2 => (10, 2, 300),
        3 => (12, 1, 300),
        _ => (12, 1, 250),
    };
    let columns = most.div_ceil(per).clamp(1, limit);
    let gutter = if path { 44 } else { 30 };
    let wanted = whole.iter().flat_map(|n| &n.pods).map(pod_want).max();
    let mut pod_w = wanted.unwrap_or(180).clamp(170, widest);
    let k = columns as i32;
    let title = whole
        .iter()
        .map(|n| width(&n.name, 15, Face::Bold).min(300))
        .max();
    let chips = whole.iter().map(|n| chips_w(n, path)).max().unwrap_or(0);
    let inner = (k * (gutter + pod_w))
        .max(chips)
        .max(title.unwrap_or(0) + 90);
    pod_w = inner / k - gutter;
    let ips = whole
        .iter()
        .flat_map(|n| &n.pods)
        .map(|x| x.ips.len())
        .max();
    let lines = whole
        .iter()
        .flat_map(|n| &n.chips)
        .map(|c| c.addresses.len())
        .max();
    Sizes {
        columns,
        gutter,
        pod_w,
        pod_h: 40 + if ips > Some(1) { 14 } else { 0 },
        chip_h: 36 + 13 * lines.unwrap_or(0).min(2) as i32,
        node_w: inner + 2 * PAD,
        step: if path { (32, 34) } else { (16, 14) },
        foot: if path { 30 } else { 16 },
        path,
    }
}

/// Height of a node's part above its bar.
fn upper(n: &NodeView, s: &Sizes) -> i32 {
    let rows = n.pods.len().div_ceil(s.columns) as i32;
    let head = 14 + 20 + if n.cidrs.is_empty() { 0 } else { 18 } + 10;
    let pods = (rows * (s.pod_h + POD_GAP) - POD_GAP).max(0);
    head + pods + if n.more > 0 { POD_GAP + MORE_H } else { 0 }
}

fn node_h(n: &NodeView, s: &Sizes) -> i32 {
    upper(n, s) + s.step.0 + BAR_H + s.step.1 + s.chip_h + s.foot
}

/// A whole node in `rect`: head and pods from the top, chips and bar from the bottom.
fn place_node(n: &NodeView, rect: Rect, s: &Sizes) -> NodeBox {
    let inner = rect.w - 2 * PAD;
    let chips_y = rect.bottom() - s.foot - s.chip_h;
    let bar = Rect {
        x: rect.x + PAD,
        y: chips_y - s.step.1 - BAR_H,
        w: inner,
        h: BAR_H,
    };
    let (mut left, mut right) = (bar.x, bar.right());
    let gap = if s.path { 34 } else { 12 };
    let mut chips = vec![Rect::default(); n.chips.len()];
    let mut ports = vec![0; n.chips.len()];
    // Uplinks stand at the right, the rest from the left.
    for (i, c) in n.chips.iter().enumerate().rev() {
        let w = chip_w(c, s.path);
        if c.kind == ChipKind::Uplink {
            right -= w;
            chips[i] = Rect {
                x: right,
                y: chips_y,
                w,
                h: s.chip_h,
            };
            ports[i] = if s.path { right + 20 } else { right + w / 2 };
            right -= gap;
        }
    }
    for (i, c) in n.chips.iter().enumerate() {
        let w = chip_w(c, s.path);
        if c.kind != ChipKind::Uplink {
            chips[i] = Rect {
                x: left,
                y: chips_y,
                w,
                h: s.chip_h,
            };
            ports[i] = if s.path { left + w - 20 } else { left + w / 2 };
            left += w + gap;
        }
    }
    let top = rect.y + 44 + if n.cidrs.is_empty() { 0 } else { 18 };
    let rows = n.pods.len().div_ceil(s.columns).max(1);
    let pod = |i: usize| Rect {
        x: bar.x + (i / rows) as i32 * (s.gutter + s.pod_w) + s.gutter,
        y: top + (i % rows) as i32 * (s.pod_h + POD_GAP),
        w: s.pod_w,
        h: s.pod_h,
    };
    let pods: Vec<Rect> = (0..n.pods.len()).map(pod).collect();
    let last = pods.iter().map(Rect::bottom).max();
    let more = (n.more > 0).then(|| Rect {
        x: bar.x + s.gutter,
        y: last.map_or(top, |y| y + POD_GAP),
        w: inner - s.gutter,
        h: MORE_H,
    });
    NodeBox {
        rect,
        whole: true,
        bar,
        chips,
        ports,
        pods,
        more,
        bus: None,
    }
}

/// The nodes of a segment cut into rows: tiles first, then whole ones.
fn rows<'a>(nodes: &'a [NodeView], s: &Sizes) -> Vec<&'a [NodeView]> {
    let (tiles, whole) = nodes.split_at(nodes.iter().filter(|n| !n.whole).count());
    let mut out = Vec::new();
    let cut = |v: &'a [NodeView], per: usize, out: &mut Vec<&'a [NodeView]>| {
        if !v.is_empty() {
            let lines = v.len().div_ceil(per.max(1));
            out.extend(v.chunks(v.len().div_ceil(lines)));
        }
    };
    let square = (1..TILES_PER_ROW)
        .find(|c| c * c >= tiles.len())
        .unwrap_or(TILES_PER_ROW);
    cut(tiles, square, &mut out);
    let per = ((ROW_W + NODE_GAP) / (s.node_w + NODE_GAP)).max(1) as usize;
    cut(whole, per, &mut out);
    out
}

fn row_w(row: &[NodeView], s: &Sizes, gap: i32) -> i32 {
    let w = if row.first().is_some_and(|n| n.whole) {
        s.node_w + gap
    } else {
        TILE.0 + 14
    };
    row.len() as i32 * w
        - if row.first().is_some_and(|n| n.whole) {
            gap
        } else {
            14
        }
}

/// How tunnels are drawn: one by one, around the nodes, or not at all.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(super) enum Overlays {
    None,
    Arcs,
    Around,
}

pub(super) fn overlays(p: &Picture, s: &Sizes) -> Overlays {
    let n = p.nodes().count();
    let with_nodes = p.segments.iter().filter(|s| !s.nodes.is_empty()).count();
    let one_row = p
        .segments
        .first()
        .is_some_and(|x| rows(&x.nodes, s).len() == 1);
    match () {
        () if p.overlay.tunnels.is_empty() => Overlays::None,
        () if n <= ARC_NODES && with_nodes == 1 && one_row => Overlays::Arcs,
        () => Overlays::Around,
    }
}

/// Lays a picture out.
pub(super) fn lay(p: &Picture) -> Layout {
    let s = sizes(p);
    let how = overlays(p, &s);
    let lines =
        p.problems.len().min(PROBLEMS_SHOWN) + usize::from(p.problems.len() > PROBLEMS_SHOWN);
    let room = if how == Overlays::Around { 12 } else { 0 };
    let top = MARGIN + 52 + room + 19 * lines as i32 + if lines > 0 { 8 } else { 0 };
    let around = if how == Overlays::Around { 20 } else { 0 };
    let mut out = Layout {
        sizes: s,
        ..Layout::default()
    };
    let mut x = MARGIN + around;
    let (near, far): (Vec<&Segment>, Vec<&Segment>) = p
        .segments
        .iter()
        .partition(|s| !s.nodes.is_empty() || p.gateway.is_none());
    for seg in &near {
        let b = block(seg, x, top + around, &s, how);
        x = b.switch.right() + NODE_GAP + around;
        out.blocks.push(b);
    }
    let nodes_end = out.blocks.iter().map(|b| b.switch.y).max().unwrap_or(top);
    for (b, seg) in out.blocks.iter_mut().zip(&near) {
        b.switch.y = nodes_end;
        place_hosts(b, seg, nodes_end + SWITCH_H + 30);
    }
    let right = out
        .blocks
        .iter()
        .map(|b| b.switch.right())
        .max()
        .unwrap_or(MARGIN + 560);
    out.width = (right + MARGIN + around).max(620);
    let mut y = out
        .blocks
        .iter()
        .flat_map(|b| &b.hosts)
        .map(Rect::bottom)
        .max();
    let mut bottom = y.get_or_insert(nodes_end + SWITCH_H).to_owned();
    if p.gateway.is_some() {
        let x = out.blocks.first().map_or(MARGIN, |b| b.switch.x);
        let g = Rect {
            x,
            y: bottom + 30,
            w: right - x,
            h: BAR_H,
        };
        out.gateway = Some(g);
        bottom = g.bottom();
        for seg in far {
            let mut b = Block {
                switch: Rect {
                    h: 0,
                    y: g.bottom(),
                    ..g
                },
                ..Block::default()
            };
            let taken: i32 = out
                .blocks
                .iter()
                .filter(|b| b.switch.h == 0)
                .map(|b| b.hosts.len() as i32)
                .sum();
            b.switch.w -= taken * (HOST.0 + 16);
            place_hosts(&mut b, seg, g.bottom() + 30);
            bottom = bottom.max(b.hosts.iter().map(Rect::bottom).max().unwrap_or(bottom));
            out.blocks.push(b);
        }
    }
    if how == Overlays::Around {
        let all = || out.blocks.iter().flat_map(|b| &b.nodes).map(|n| n.rect);
        let x = all().map(|r| r.x).min().unwrap_or(MARGIN) - 20;
        let far = all().map(|r| r.right()).max().unwrap_or(x) + 20;
        let low = all().map(|r| r.bottom()).max().unwrap_or(top) + 18;
        out.enclosure = Some(Rect {
            x,
            y: top,
            w: far - x,
            h: low - top,
        });
    }
    out.legend = bottom + 34;
    out
}

/// A segment's nodes and its switch, from `x` and `top` on.
fn block(seg: &Segment, x: i32, top: i32, s: &Sizes, how: Overlays) -> Block {
    let cut = rows(&seg.nodes, s);
    let gap = if how == Overlays::Arcs { 120 } else { NODE_GAP };
    let inset = match (cut.len() > 1, how) {
        (false, _) => 0,
        (true, Overlays::Around) => 62,
        (true, _) => 40,
    };
    let wide = cut.iter().map(|r| row_w(r, s, gap)).max().unwrap_or(0);
    let hosts = seg.hosts.len().min(HOSTS_SHOWN).min(5) as i32;
    let w = (wide + inset).max(460).max(hosts * (HOST.0 + 16) + 40);
    let mut b = Block {
        trunk: x + 16,
        ..Block::default()
    };
    let mut y = top;
    for (k, row) in cut.iter().enumerate() {
        let whole = row.first().is_some_and(|n| n.whole);
        let h = if whole {
            row.iter().map(|n| node_h(n, s)).max().unwrap_or(0)
        } else {
            TILE.1
        };
        let (nw, ng) = if whole { (s.node_w, gap) } else { (TILE.0, 14) };
        let mut nx = x + inset + (w - inset - row_w(row, s, gap)) / 2;
        if cut.len() > 1 && !whole {
            nx = x + inset;
        }
        let last = k + 1 == cut.len();
        let last_tiles = !whole && cut.get(k + 1).is_some_and(|r| r.iter().any(|n| n.whole));
        let bus = (!last).then_some(y + h + if whole { 22 } else { 11 });
        for n in *row {
            let rect = Rect { x: nx, y, w: nw, h };
            let mut nb = match whole {
                true => place_node(n, rect, s),
                false => NodeBox {
                    rect,
                    ..NodeBox::default()
                },
            };
            nb.bus = bus;
            b.nodes.push(nb);
            nx += nw + ng;
        }
        b.buses.extend(bus);
        y += h + match (last, how, whole) {
            (true, Overlays::Arcs, _) => 104,
            (true, ..) => 48,
            (false, _, true) => 44,
            (false, _, false) if last_tiles => 44,
            (false, _, false) => 22,
        };
    }
    b.switch = Rect {
        x,
        y,
        w,
        h: SWITCH_H,
    };
    b
}

/// Hosts hang below the switch, from the right.
fn place_hosts(b: &mut Block, seg: &Segment, y: i32) {
    let room = ((b.switch.w - 40) / (HOST.0 + 16)).max(1) as usize;
    let n = seg.hosts.len().min(room).min(HOSTS_SHOWN);
    for i in 0..n {
        let x = b.switch.right() - (n - i) as i32 * (HOST.0 + 16) + 16;
        b.hosts.push(Rect {
            x,
            y,
            w: HOST.0,
            h: HOST.1,
        });
    }
}
