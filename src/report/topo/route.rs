//! The lines of a trace over the layout: from place to place along gutters, bars and wires.
//!
//! Each direction has a lane of its own, a few px beside the middle, so that there and back never cover
//! each other.

use super::layout::{Layout, NodeBox, Rect};
use super::model::{NodeView, Picture};
use super::way::{Leg, Stop};

type Point = (i32, i32);

/// What kind of place a packet passes.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
enum Kind {
    /// A pod; the x of its gutter.
    Pod(i32),
    /// A node's bar; the x of its first gutter.
    Bar(i32),
    /// A device; the x of its port, and its place in the row.
    Chip(i32, usize),
    /// A node that is drawn as a tile.
    Tile,
    Switch,
    Gateway,
    Host,
}

#[derive(Clone, Copy, PartialEq, Eq, Debug)]
struct Place {
    rect: Rect,
    kind: Kind,
    /// Line under the row and trunk, for places that are joined to the switch by them.
    bus: Option<(i32, i32)>,
    /// Where the trunk of the segment stands.
    trunk: i32,
}

/// A leg's line, and where its numbers stand.
#[derive(Clone, Debug, Default)]
pub(super) struct Line {
    pub points: Vec<Point>,
    pub numbers: Vec<Point>,
}

/// The place of a stop.
fn place(p: &Picture, l: &Layout, s: &Stop) -> Option<Place> {
    for (seg, b) in p.segments.iter().zip(&l.blocks) {
        let at = |rect, kind| Place {
            rect,
            kind,
            bus: None,
            trunk: b.trunk,
        };
        if seg.switch == Some(s.ns) {
            // A switch with nothing but a far host is not drawn.
            return (b.switch.h > 0).then(|| at(b.switch, Kind::Switch));
        }
        if let Some(i) = seg.hosts.iter().position(|h| h.ns == s.ns) {
            return b.hosts.get(i).map(|r| at(*r, Kind::Host));
        }
        for (n, nb) in seg.nodes.iter().zip(&b.nodes) {
            if let Some((rect, kind)) = in_node(n, nb, l, s) {
                let bus = nb.bus.map(|y| (y, b.trunk));
                return Some(Place {
                    rect,
                    kind,
                    bus,
                    trunk: b.trunk,
                });
            }
        }
    }
    p.gateway.as_ref().filter(|g| g.ns == s.ns)?;
    let (rect, trunk) = (l.gateway?, l.blocks.first()?.trunk);
    Some(Place {
        rect,
        kind: Kind::Gateway,
        bus: None,
        trunk,
    })
}

fn in_node(n: &NodeView, nb: &NodeBox, l: &Layout, s: &Stop) -> Option<(Rect, Kind)> {
    let gutter = l.sizes.gutter / 2;
    let pods = n.pods.iter().zip(&nb.pods).filter(|(p, _)| !p.host_network);
    if n.ns != s.ns {
        let (_, r) = pods.into_iter().find(|(p, _)| p.ns == s.ns)?;
        return Some((*r, Kind::Pod(r.x - gutter)));
    }
    if !nb.whole {
        return Some((nb.rect, Kind::Tile));
    }
    let i = n
        .chips
        .iter()
        .position(|c| c.dev.is_some() && c.dev == s.dev);
    if let Some(i) = i {
        return Some((*nb.chips.get(i)?, Kind::Chip(*nb.ports.get(i)?, i)));
    }
    Some((nb.bar, Kind::Bar(nb.bar.x + gutter)))
}

/// From one place to the next: the points between, first on `a`'s edge, last on `b`'s.
fn join(a: &Place, b: &Place, lane: i32, l: &Layout) -> Vec<Point> {
    if let Some(v) = down(a, b, lane, l) {
        return v;
    }
    if let Some(mut v) = down(b, a, lane, l) {
        v.reverse();
        return v;
    }
    vec![(a.rect.cx(), a.rect.cy()), (b.rect.cx(), b.rect.cy())]
}

/// The same, for a pair that is ordered from the pods outward.
fn down(a: &Place, b: &Place, lane: i32, l: &Layout) -> Option<Vec<Point>> {
    let (ar, br) = (a.rect, b.rect);
    Some(match (a.kind, b.kind) {
        (Kind::Pod(g), Kind::Bar(_)) => {
            let y = ar.cy() + lane;
            vec![(ar.x, y), (g + lane, y), (g + lane, br.y)]
        }
        (Kind::Bar(_), Kind::Chip(port, _)) => {
            vec![(port + lane, ar.bottom()), (port + lane, br.y)]
        }
        (Kind::Chip(_, i), Kind::Chip(_, k)) if i + 1 == k && ar.x < br.x => {
            vec![(ar.right(), ar.cy() + lane), (br.x, br.cy() + lane)]
        }
        (Kind::Chip(p, i), Kind::Chip(q, k)) if i < k => {
            // Others stand between: below them.
            let y = ar.bottom() + 14 + lane / 2;
            vec![
                (p + lane, ar.bottom()),
                (p + lane, y),
                (q + lane, y),
                (q + lane, br.bottom()),
            ]
        }
        (Kind::Chip(..) | Kind::Tile, Kind::Switch) => {
            let x = if let Kind::Chip(port, _) = a.kind {
                port
            } else {
                ar.cx()
            } + lane;
            match a.bus {
                Some((bus, trunk)) => vec![
                    (x, ar.bottom()),
                    (x, bus + lane),
                    (trunk + lane, bus + lane),
                    (trunk + lane, br.y),
                ],
                None => vec![(x, ar.bottom()), (x, br.y)],
            }
        }
        (Kind::Switch, Kind::Host) | (Kind::Gateway, Kind::Host) => {
            vec![(br.cx() + lane, ar.bottom()), (br.cx() + lane, br.y)]
        }
        (Kind::Switch, Kind::Gateway) => {
            let x = a.trunk + lane;
            vec![(x, ar.bottom()), (x, br.y)]
        }
        (Kind::Bar(_), Kind::Switch) => {
            let x = ar.right() - l.sizes.gutter / 2 + lane;
            vec![(x, ar.bottom()), (x, br.y)]
        }
        _ => return None,
    })
}

/// Through a place, from the point of entry to that of exit: along its edges, clear of its text.
fn through(p: &Place, from: Point, to: Point, lane: i32) -> Vec<Point> {
    let r = p.rect;
    match p.kind {
        Kind::Bar(g) => {
            let (top, low) = (r.y + lane / 2, r.bottom() + lane / 2);
            if from.1 <= r.cy() && to.1 <= r.cy() {
                return vec![(from.0, top), (to.0, top)];
            }
            if from.1 > r.cy() && to.1 > r.cy() {
                return vec![(from.0, low), (to.0, low)];
            }
            let x = g + lane;
            let way = vec![(from.0, top), (x, top), (x, low), (to.0, low)];
            match from.1 <= r.cy() {
                true => way,
                false => vec![(from.0, low), (x, low), (x, top), (to.0, top)],
            }
        }
        Kind::Switch | Kind::Gateway => {
            let y = r.y + 7 + lane * 3 / 8;
            vec![(from.0, y), (to.0, y)]
        }
        Kind::Chip(..) if from.0 != to.0 && from.1 != to.1 => {
            let upright = from.1 == r.y || from.1 == r.bottom();
            vec![if upright {
                (from.0, to.1)
            } else {
                (to.0, from.1)
            }]
        }
        _ => Vec::new(),
    }
}

/// The line of a leg.
pub(super) fn line(p: &Picture, l: &Layout, leg: &Leg) -> Line {
    let lane = if leg.reply { 8 } else { -8 };
    let mut places: Vec<Place> = Vec::new();
    for s in &leg.stops {
        if let Some(x) = place(p, l, s)
            && places.last() != Some(&x)
        {
            places.push(x);
        }
    }
    let mut out = Line::default();
    let (Some(first), Some(last)) = (places.first(), places.last()) else {
        return out;
    };
    let mut entry: Option<Point> = None;
    for w in places.windows(2) {
        let [a, b] = w else { continue };
        let way = join(a, b, lane, l);
        let (Some(start), Some(end)) = (way.first().copied(), way.last().copied()) else {
            continue;
        };
        match entry {
            Some(e) => out.points.extend(through(a, e, start, lane)),
            None => out.numbers.push(number(first, start, start)),
        }
        let before = way.iter().rev().nth(1).copied().unwrap_or(start);
        out.numbers.push(number(b, before, end));
        out.points.extend(way);
        entry = Some(end);
    }
    if places.len() == 1 {
        let r = last.rect;
        out.numbers.push((r.x, r.cy() + lane));
    }
    out.points.dedup();
    straighten(&mut out.points);
    spread(&mut out.numbers);
    out
}

/// Where a place's number stands: on the line, just before it enters.
fn number(p: &Place, before: Point, edge: Point) -> Point {
    let toward = |from: i32, to: i32| (from - to).signum() * 11;
    match p.kind {
        Kind::Pod(_) | Kind::Host => edge,
        _ => (
            edge.0 + toward(before.0, edge.0),
            edge.1 + toward(before.1, edge.1),
        ),
    }
}

/// Points on the way of a straight line are none.
fn straighten(v: &mut Vec<Point>) {
    let mut i = 1;
    while i + 1 < v.len() {
        let (a, b, c) = (v[i - 1], v[i], v[i + 1]);
        let between = |p: i32, q: i32, r: i32| (p <= q && q <= r) || (p >= q && q >= r);
        let flat = (a.0 == b.0 && b.0 == c.0 && between(a.1, b.1, c.1))
            || (a.1 == b.1 && b.1 == c.1 && between(a.0, b.0, c.0));
        // Over an edge and back by a few px, where a lane runs just beside it.
        let spike = |p: i32, q: i32, r: i32| {
            (q - r).abs().min((q - p).abs()) <= 8 && (q - p).signum() == (q - r).signum()
        };
        let back = (a.0 == b.0 && b.0 == c.0 && spike(a.1, b.1, c.1))
            || (a.1 == b.1 && b.1 == c.1 && spike(a.0, b.0, c.0));
        if flat || back {
            v.remove(i);
        } else {
            i += 1;
        }
    }
}

/// Numbers that would cover each other move on to the right.
fn spread(v: &mut [Point]) {
    for i in 1..v.len() {
        let (done, rest) = v.split_at_mut(i);
        let Some(p) = rest.first_mut() else { continue };
        while done
            .iter()
            .any(|d| (d.0 - p.0).abs() < 15 && (d.1 - p.1).abs() < 15)
        {
            p.0 += 16;
        }
    }
}
