//! The SVG page: header, underlay, nodes, overlay, the trace's way, legend; in this order, so that lines lie
//! over what they join and under their labels.

use super::layout::{
    self, Layout, MARGIN, NodeBox, Overlays, PAD, PROBLEMS_SHOWN, Rect, lay, overlays,
};
use super::model::{Chip, ChipKind, Health, HostView, NodeView, Picture, PodView};
use super::paint::Canvas;
use super::text::{Face, escape, fit, fit_list, width};
use super::{route, style};

/// Writes the document.
pub(super) fn write(p: &Picture) -> String {
    let l = lay(p);
    let how = overlays(p, &l.sizes);
    let mut c = Canvas::default();
    if let Some(r) = l.enclosure {
        c.rect("overlay", r, 18);
    }
    wires(&mut c, p, &l);
    switches(&mut c, p, &l);
    for (seg, b) in p.segments.iter().zip(&l.blocks) {
        for (n, nb) in seg.nodes.iter().zip(&b.nodes) {
            match nb.whole {
                true => node(&mut c, n, nb, &l),
                false => tile(&mut c, n, nb.rect),
            }
        }
        for (h, r) in seg.hosts.iter().zip(&b.hosts) {
            host(&mut c, h, *r);
        }
    }
    match how {
        Overlays::Arcs => arcs(&mut c, p, &l),
        Overlays::Around => {
            if let Some(r) = l.enclosure {
                let fits = fit(&p.overlay.summary(), 11, Face::Bold, r.w - 60);
                pill(&mut c, r.cx(), r.y, &fits);
            }
        }
        Overlays::None => {}
    }
    way(&mut c, p, &l);
    let (height, wide) = legend(&mut c, p, &l, how);
    let width = l.width.max(wide);
    header(&mut c, p, width);
    let sheet = style::sheet();
    let body = c.finish();
    let (title, about) = (escape(&p.title), escape(&p.subtitle));
    format!(
        "<svg xmlns=\"http://www.w3.org/2000/svg\" width=\"{width}\" height=\"{height}\" \
         viewBox=\"0 0 {width} {height}\" role=\"img\" aria-labelledby=\"t d\">\n\
         <title id=\"t\">{title}</title>\n<desc id=\"d\">{about}</desc>\n<style>{sheet}</style>\n\
         <rect class=\"page\" width=\"{width}\" height=\"{height}\" rx=\"12\"/>\n{body}</svg>\n"
    )
}

/// A class by health, or the usual one.
fn by_health(h: Health, usual: &'static str) -> &'static str {
    match h {
        Health::Good => usual,
        Health::Warn => "warn",
        Health::Bad => "bad",
    }
}

fn ink(h: Health, usual: &'static str) -> &'static str {
    match h {
        Health::Good => usual,
        Health::Warn => "warnink",
        Health::Bad => "badink",
    }
}

fn header(c: &mut Canvas, p: &Picture, width: i32) {
    let room = width - 2 * MARGIN;
    c.fitted("ink b t20", (MARGIN, MARGIN + 16), &p.title, room * 8 / 10);
    c.fitted("dim t13", (MARGIN, MARGIN + 38), &p.subtitle, room);
    let mut y = MARGIN + 64;
    for (h, text) in p.problems.iter().take(PROBLEMS_SHOWN) {
        c.dot(by_health(*h, "other"), (MARGIN + 5, y - 4), 4);
        c.fitted(ink(*h, "ink"), (MARGIN + 16, y), text, room - 16);
        y += 19;
    }
    if let Some(n) = p
        .problems
        .len()
        .checked_sub(PROBLEMS_SHOWN)
        .filter(|n| *n > 0)
    {
        c.text("dim", MARGIN + 16, y, &format!("and {n} more"));
    }
}

/// Uplinks to the switch, the trunk, and what hangs below.
fn wires(c: &mut Canvas, p: &Picture, l: &Layout) {
    for (seg, b) in p.segments.iter().zip(&l.blocks) {
        for bus in &b.buses {
            let on = || b.nodes.iter().filter(|n| n.bus == Some(*bus));
            let far = on().map(|n| wire_x(n, seg, b)).max().unwrap_or(b.trunk);
            c.bent(
                "wire",
                &[(far, *bus), (b.trunk, *bus), (b.trunk, b.switch.y)],
                8,
            );
        }
        for (n, nb) in seg.nodes.iter().zip(&b.nodes) {
            let end = nb.bus.unwrap_or(b.switch.y);
            let ends = uplinks(n, nb);
            for x in ends {
                c.line("wire", (x, nb.rect.bottom()), (x, end));
            }
        }
        for (r, h) in b.hosts.iter().zip(&seg.hosts) {
            let class = by_health(h.health, "wire");
            c.line(class, (r.cx(), b.switch.bottom()), (r.cx(), r.y));
        }
        if let Some(g) = l.gateway.filter(|_| b.switch.h > 0) {
            c.line("wire", (b.trunk, b.switch.bottom()), (b.trunk, g.y));
        }
    }
}

/// Where a node's uplinks leave its box.
fn uplinks(n: &NodeView, nb: &NodeBox) -> Vec<i32> {
    if !nb.whole {
        return vec![nb.rect.cx()];
    }
    let ups = n.chips.iter().zip(&nb.ports);
    ups.filter(|(c, _)| c.kind == ChipKind::Uplink)
        .map(|(_, x)| *x)
        .collect()
}

/// The rightmost of them.
fn wire_x(nb: &NodeBox, seg: &super::model::Segment, b: &layout::Block) -> i32 {
    let i = b.nodes.iter().position(|x| x.rect == nb.rect);
    let n = i.and_then(|i| seg.nodes.get(i));
    n.and_then(|n| uplinks(n, nb).into_iter().max())
        .unwrap_or(nb.rect.cx())
}

fn switches(c: &mut Canvas, p: &Picture, l: &Layout) {
    for (seg, b) in p.segments.iter().zip(&l.blocks) {
        if b.switch.h == 0 {
            continue;
        }
        let facts = [seg.nets.join(", "), format!("mtu {}", seg.mtu)];
        bar(c, "switch", b.switch, &seg.name, &facts.join(" · "));
        let hidden = seg.hosts.len().saturating_sub(b.hosts.len());
        if hidden > 0 {
            let text = format!("+ {hidden} more hosts");
            c.text("dim t11 e", b.switch.right() - 12, b.switch.cy() + 4, &text);
        }
    }
    if let (Some(g), Some(r)) = (&p.gateway, l.gateway) {
        let text = format!("{} · the way out", g.addresses.join(", "));
        bar(c, "switch", r, "gateway", &text);
    }
}

/// A long box with a name and facts, clear of the trunk's lanes at its left.
fn bar(c: &mut Canvas, class: &str, r: Rect, name: &str, facts: &str) {
    c.open(&format!("{name}\n{facts}"));
    c.rect(class, r, 9);
    let (x, y) = (r.x + 44, r.cy() + 5);
    let used = width(name, 12, Face::Bold) + 10;
    let (name, facts) = (
        fit(name, 12, Face::Bold, r.w - 60),
        fit(facts, 12, Face::Sans, r.w - 60 - used),
    );
    c.pair((x, y), ("ink b", &name), 10, ("dim", &facts));
    c.close();
}

fn node(c: &mut Canvas, n: &NodeView, nb: &NodeBox, l: &Layout) {
    let r = nb.rect;
    c.open(&format!(
        "node {}\n{}\npods {}",
        n.name,
        n.addresses.join(", "),
        n.cidrs.join(", ")
    ));
    c.rect("node", r, 14);
    let count = format!(
        "{} pod{}",
        n.pod_count,
        if n.pod_count == 1 { "" } else { "s" }
    );
    let taken = width(&count, 11, Face::Sans) + 12;
    c.fitted(
        "ink b t15",
        (r.x + PAD, r.y + 28),
        &n.name,
        r.w - 2 * PAD - taken,
    );
    c.text("dim t11 e", r.right() - PAD, r.y + 28, &count);
    if !n.cidrs.is_empty() {
        let text = fit_list(&n.cidrs, 11, Face::Mono, r.w - 2 * PAD - 34);
        c.text("dim t11", r.x + PAD, r.y + 46, "pods");
        c.text("dim m t11", r.x + PAD + 34, r.y + 46, &text);
    }
    veths(c, n, nb, l);
    chip_box(c, &n.bar, nb.bar, l, true);
    for (chip, at) in n.chips.iter().zip(&nb.chips) {
        stem(c, *at, nb);
        chip_box(c, chip, *at, l, false);
    }
    for (chip, (at, x)) in n.chips.iter().zip(nb.chips.iter().zip(&nb.ports)) {
        if chip.kind == ChipKind::Uplink {
            c.line("wire", (*x, at.bottom()), (*x, r.bottom()));
        }
    }
    c.close();
    for (p, at) in n.pods.iter().zip(&nb.pods) {
        pod(c, p, *at);
    }
    if let Some(at) = nb.more {
        c.rect("more", at, 7);
        let what = if n.pods.is_empty() { "pods" } else { "more" };
        c.text(
            "dim t11 c",
            at.cx(),
            at.cy() + 4,
            &format!("+ {} {what}", n.more),
        );
    }
}

/// The veths of a node's pods: a line down each gutter, to the bar.
fn veths(c: &mut Canvas, n: &NodeView, nb: &NodeBox, l: &Layout) {
    let half = l.sizes.gutter / 2;
    let rows = n.pods.iter().zip(&nb.pods).filter(|(p, _)| !p.host_network);
    let mut columns: Vec<(i32, i32)> = Vec::new();
    for (p, r) in rows {
        let x = r.x - half;
        let class = match p.health {
            Health::Bad => "cross",
            _ => "veth",
        };
        c.line(
            if class == "cross" { "bad" } else { class },
            (x, r.cy()),
            (r.x, r.cy()),
        );
        match columns.iter_mut().find(|k| k.0 == x) {
            Some(k) => k.1 = k.1.min(r.cy()),
            None => columns.push((x, r.cy())),
        }
    }
    for (x, y) in columns {
        c.line("veth", (x, y), (x, nb.bar.y));
    }
}

/// The short line from the bar down to a device.
fn stem(c: &mut Canvas, at: Rect, nb: &NodeBox) {
    let i = nb.chips.iter().position(|r| *r == at);
    let x = i.and_then(|i| nb.ports.get(i)).copied().unwrap_or(at.cx());
    c.line("veth", (x, nb.bar.bottom()), (x, at.y));
}

/// A device: in one line for the bar, else name, facts and addresses below each other.
fn chip_box(c: &mut Canvas, chip: &Chip, r: Rect, l: &Layout, long: bool) {
    let (class, text) = match chip.kind {
        ChipKind::Bridge => ("bridge", "bridgeink"),
        ChipKind::Tunnel => ("tunnel", "tunnelink"),
        ChipKind::Uplink => ("uplink", "uplinkink"),
        ChipKind::Other => ("other", "otherink"),
    };
    let text = ink(chip.health, text);
    c.open(&chip.tip);
    c.rect(by_health(chip.health, class), r, 8);
    if long {
        let (x, y, end) = (r.x + l.sizes.gutter, r.cy() + 4, r.right() - 10);
        let used = width(&chip.name, 12, Face::Bold) + 10;
        let facts = width(&chip.detail, 10, Face::Sans) + 12;
        let name = fit(&chip.name, 12, Face::Bold, end - x);
        let detail = fit(&chip.detail, 10, Face::Sans, end - x - used);
        let (bold, small) = (format!("{text} b"), format!("{text} t10"));
        c.pair((x, y), (&bold, &name), 8, (&small, &detail));
        let room = end - x - used - facts;
        if room > 70 && !chip.addresses.is_empty() {
            let text_list = fit_list(&chip.addresses, 10, Face::Mono, room);
            c.text(&format!("{text} m t10 e"), end, y, &text_list);
        }
    } else {
        // The side where lines enter is kept clear when a trace is drawn.
        let clear = if l.sizes.path { 34 } else { 0 };
        let x = r.x
            + 10
            + if chip.kind == ChipKind::Uplink {
                clear
            } else {
                0
            };
        let room = r.w - 18 - clear;
        c.fitted(&format!("{text} b"), (x, r.y + 16), &chip.name, room);
        c.fitted(&format!("{text} t10"), (x, r.y + 29), &chip.detail, room);
        for (i, a) in chip.addresses.iter().take(2).enumerate() {
            let y = r.y + 42 + 13 * i as i32;
            c.fitted(&format!("{text} m t10"), (x, y), a, room);
        }
    }
    c.close();
}

fn pod(c: &mut Canvas, p: &PodView, r: Rect) {
    let mut tip = format!("pod {}/{}\n{}", p.namespace, p.name, p.ips.join(", "));
    if p.host_network {
        tip.push_str("\nhostNetwork: in its node's own namespace");
    }
    if !p.ports.is_empty() {
        tip.push_str(&format!("\nlistens on {}", p.ports.join(", ")));
    }
    if let Some(t) = &p.trouble {
        tip.push_str(&format!("\n{t}"));
    }
    c.open(&tip);
    let usual = if p.host_network { "hostpod" } else { "pod" };
    c.rect(by_health(p.health, usual), r, 8);
    let (x, room) = (r.x + 12, r.w - 22);
    let prefix = format!("{}/", p.namespace);
    let (pw, nw) = (
        width(&prefix, 12, Face::Sans),
        width(&p.name, 12, Face::Bold),
    );
    if pw + nw <= room {
        c.pair((x, r.y + 17), ("dim", &prefix), 0, ("ink b", &p.name));
    } else {
        c.fitted("ink b", (x, r.y + 17), &p.name, room);
    }
    let shown = if p.host_network { &[][..] } else { &p.ips[..] };
    for (i, ip) in shown.iter().take(2).enumerate() {
        c.fitted("dim m t11", (x, r.y + 32 + 14 * i as i32), ip, room);
    }
    let used = shown.first().map_or(0, |i| width(i, 11, Face::Mono) + 12);
    let words = match (&p.trouble, p.host_network) {
        (Some(t), _) => fit(t, 10, Face::Sans, room - used),
        (None, true) => "hostNetwork".into(),
        (None, false) => fit_list(&p.ports, 10, Face::Mono, room - used),
    };
    match (p.trouble.is_some(), p.host_network) {
        (true, _) => c.text(
            &format!("{} t10 e", ink(p.health, "dim")),
            r.right() - 10,
            r.y + 32,
            &words,
        ),
        (false, true) => {
            c.text("dim t10", x, r.y + 32, &words);
            let used = width(&words, 10, Face::Sans) + 12;
            let ports = fit_list(&p.ports, 10, Face::Mono, room - used);
            c.text("dim m t10 e", r.right() - 10, r.y + 32, &ports);
        }
        (false, false) => c.text("dim m t10 e", r.right() - 10, r.y + 32, &words),
    }
    c.close();
}

/// A node of a large cluster.
fn tile(c: &mut Canvas, n: &NodeView, r: Rect) {
    c.open(&format!(
        "node {}\n{}\npods {}\n{} pods",
        n.name,
        n.addresses.join(", "),
        n.cidrs.join(", "),
        n.pod_count
    ));
    c.rect(by_health(n.health, "node"), r, 10);
    let (x, room) = (r.x + 12, r.w - 22);
    c.fitted("ink b", (x, r.y + 20), &n.name, room);
    c.fitted(
        "dim m t11",
        (x, r.y + 37),
        n.addresses.first().map_or("", String::as_str),
        room,
    );
    let count = format!("{} pods", n.pod_count);
    let used = width(&count, 10, Face::Bold) + 8;
    c.text("ink b t10", x, r.y + 54, &count);
    let cidr = n.cidrs.first().map_or("", String::as_str);
    c.fitted("dim m t10", (x + used, r.y + 54), cidr, room - used);
    c.close();
}

fn host(c: &mut Canvas, h: &HostView, r: Rect) {
    let ports = h.ports.join(", ");
    c.open(&format!(
        "external host {}\n{}\nlistens on {ports}",
        h.name,
        h.addresses.join(", ")
    ));
    c.rect(by_health(h.health, "host"), r, 10);
    let (x, room) = (r.x + 12, r.w - 22);
    c.fitted("ink b", (x, r.y + 19), &h.name, room - 50);
    c.text("dim t10 e", r.right() - 10, r.y + 19, "external");
    c.fitted(
        "dim m t11",
        (x, r.y + 34),
        h.addresses.first().map_or("", String::as_str),
        room,
    );
    c.text(
        "dim m t10",
        x,
        r.y + 48,
        &fit_list(&h.ports, 10, Face::Mono, room),
    );
    c.close();
}

/// Text on a small rounded plate.
fn pill(c: &mut Canvas, x: i32, y: i32, text: &str) {
    let w = width(text, 11, Face::Bold) + 22;
    c.rect(
        "pill",
        Rect {
            x: x - w / 2,
            y: y - 11,
            w,
            h: 22,
        },
        11,
    );
    c.text("tunnelink b t11 c", x, y + 4, text);
}

/// A point of a cubic curve at `t` thousandths.
fn cubic(p: [i32; 4], t: i64) -> i32 {
    let u = 1000 - t;
    let [a, b, c, d] = p.map(i64::from);
    let v = u * u * u * a + 3 * u * u * t * b + 3 * u * t * t * c + t * t * t * d;
    i32::try_from(v / 1_000_000_000).unwrap_or(0)
}

/// Tunnels of few nodes, one by one: curves that hang between the nodes' tunnel devices.
fn arcs(c: &mut Canvas, p: &Picture, l: &Layout) {
    let (Some(seg), Some(b)) = (p.segments.first(), l.blocks.first()) else {
        return;
    };
    let mut pills: Vec<(i32, i32, &str)> = Vec::new();
    for t in &p.overlay.tunnels {
        let end = |ns, dev| {
            let i = seg.nodes.iter().position(|n| n.ns == ns)?;
            let (n, nb) = (seg.nodes.get(i)?, b.nodes.get(i)?);
            let k = n.chips.iter().position(|c| c.dev == Some(dev))?;
            let r = nb.chips.get(k)?;
            Some((i, r.x + r.w / 3, r.bottom(), nb.rect))
        };
        let (Some(x), Some(y)) = (end(t.a, t.a_dev), end(t.b, t.b_dev)) else {
            continue;
        };
        let (from, to) = if x.0 <= y.0 { (x, y) } else { (y, x) };
        let span = (to.0 - from.0) as i32;
        // Where two end at one device, they part.
        let (ax, bx) = (from.1 + 6 * (span - 1), to.1 - 6 * (span - 1));
        let low = from.3.bottom() + 78 + 22 * (span - 1);
        let class = if t.both { "overlay" } else { "overlaybad" };
        c.open(&format!(
            "{}{}",
            t.label,
            if t.both {
                ""
            } else {
                ": only one side knows the other"
            }
        ));
        c.curve(class, [(ax, from.2), (ax, low), (bx, low), (bx, to.2)]);
        c.close();
        let gap = from.3.right() + 60;
        let mut at = 0_i64;
        while at < 1000 && cubic([ax, ax, bx, bx], at) < gap {
            at += 5;
        }
        let y = cubic([from.2, low, low, to.2], at);
        if span == 1
            && !pills
                .iter()
                .any(|q| (q.0 - gap).abs() < 40 && (q.1 - y).abs() < 26)
        {
            pills.push((gap, y, &t.label));
        }
    }
    for (x, y, text) in pills {
        pill(c, x, y, text);
    }
}

/// The trace's way: a line per direction with numbered stops, and a cross where it ended badly.
fn way(c: &mut Canvas, p: &Picture, l: &Layout) {
    let lines: Vec<route::Line> = p.legs.iter().map(|leg| route::line(p, l, leg)).collect();
    for line in &lines {
        c.bent("halo", &line.points, 7);
    }
    for (leg, line) in p.legs.iter().zip(&lines) {
        c.bent(if leg.reply { "rep" } else { "fwd" }, &line.points, 7);
    }
    for (leg, line) in p.legs.iter().zip(&lines) {
        let fill = if leg.reply { "repfill" } else { "fwdfill" };
        for (i, at) in line.numbers.iter().enumerate() {
            c.dot(fill, *at, 8);
            c.text("num b t10 c", at.0, at.1 + 4, &(i + 1).to_string());
        }
        let (Some((name, why)), Some(at)) = (&leg.failed, line.numbers.last()) else {
            continue;
        };
        let (x, y) = (at.0 + 20, at.1);
        c.open(why);
        c.bent("cross", &[(x - 6, y - 6), (x + 6, y + 6)], 0);
        c.bent("cross", &[(x - 6, y + 6), (x + 6, y - 6)], 0);
        let w = width(name, 11, Face::Bold) + 18;
        let left = (x + 14).min(l.width - MARGIN - w).max(MARGIN);
        c.rect(
            "bad",
            Rect {
                x: left,
                y: y - 11,
                w,
                h: 22,
            },
            11,
        );
        c.text("badink b t11 c", left + w / 2, y + 4, name);
        c.close();
    }
}

/// A key: its colour, and what it means.
type Key = (&'static str, bool, &'static str);

/// Draws the legend of what occurs. Gives the document's height, and the width it needs.
fn legend(c: &mut Canvas, p: &Picture, l: &Layout, how: Overlays) -> (i32, i32) {
    let chips = || p.nodes().filter(|n| n.whole).flat_map(|n| &n.chips);
    let has = |k| chips().any(|c| c.kind == k);
    let sick = |h| p.problems.iter().any(|x| x.0 == h);
    let leg = |reply| p.legs.iter().any(|x| x.reply == reply);
    let whole = p.nodes().any(|n| n.whole);
    let host_pods = p.nodes().flat_map(|n| &n.pods).any(|p| p.host_network);
    let keys: [(bool, Key); 11] = [
        (whole, ("pod", true, "pod")),
        (host_pods, ("hostpod", true, "hostNetwork pod")),
        (whole, ("bridge", true, "bridge or routed veths")),
        (has(ChipKind::Tunnel), ("tunnel", true, "tunnel device")),
        (has(ChipKind::Uplink), ("uplink", true, "uplink")),
        (true, ("wire", false, "underlay")),
        (how != Overlays::None, ("overlay", false, "overlay")),
        (sick(Health::Bad), ("bad", true, "down, or lost here")),
        (sick(Health::Warn), ("warn", true, "MTU does not fit")),
        (leg(false), ("fwd", false, "request")),
        (leg(true), ("rep", false, "answer")),
    ];
    let (mut x, mut y, mut far) = (MARGIN, l.legend, 0);
    for (class, filled, text) in keys.into_iter().filter(|k| k.0).map(|k| k.1) {
        let w = 32 + width(text, 11, Face::Sans) + 20;
        if x + w > l.width - MARGIN && x > MARGIN {
            (x, y) = (MARGIN, y + 22);
        }
        match filled {
            true => c.rect(
                class,
                Rect {
                    x,
                    y: y - 10,
                    w: 22,
                    h: 13,
                },
                4,
            ),
            false => c.line(class, (x, y - 4), (x + 22, y - 4)),
        }
        c.text("dim t11", x + 30, y, text);
        x += w;
        far = far.max(x);
    }
    (y + MARGIN, far + MARGIN - 20)
}
