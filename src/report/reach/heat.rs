//! The heat map: senders from top to bottom, destinations from left to right, a square for each pair of
//! groups, namespaces apart. A self-contained SVG that needs no script or font, on light and dark pages.
//!
//! Small maps have a tip on each square; in large ones squares of a row with the same mark are one shape.
//! Invariant: the document's size follows the number of shapes, and no name gets out of its text.

use core::fmt::Write;
use std::collections::BTreeMap;

use super::style::{class, has_sign, sheet};
use super::words::why;
use super::{Mark, Shown};
use crate::kube::policy::reach::{PortCell, port_text};
use crate::report::topo::text::{Face, escape, fit, width};

/// Space around the drawing.
const MARGIN: i32 = 24;
/// Space between namespaces.
const GAP: i32 = 6;
/// The widest a name may be.
const LABEL: i32 = 230;
/// The smallest square that has its row's name beside it.
const NAMED: i32 = 10;
/// Squares smaller than this have the names of columns upright.
const STEEP: i32 = 18;
/// The smallest square that has a line around it.
const FINE: i32 = 5;
/// Squares that have a tip each.
const TIPS: usize = 2_500;

/// Where everything is.
pub(super) struct Plan {
    /// The side of a square.
    pub(super) side: i32,
    /// Left edges of columns.
    pub(super) xs: Vec<i32>,
    /// Upper edges of rows.
    pub(super) ys: Vec<i32>,
    /// The size of the document.
    pub(super) size: (i32, i32),
}

/// How squares are drawn.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Squares {
    /// Each with a tip.
    Titled,
    /// Each by itself.
    Single,
    /// Those of a row that touch and are alike as one.
    Runs,
}

/// Every cell's mark, row by row.
pub(super) fn marks(shown: &Shown<'_>) -> Vec<Vec<Mark>> {
    let reach = shown.reach;
    let row = |from: &usize| {
        let mark = |to: &usize| shown.mark(*from, *to, &reach.cell(*from, *to));
        reach.columns.iter().map(mark).collect()
    };
    reach.rows.iter().map(row).collect()
}

/// The document.
pub fn svg(shown: &Shown<'_>) -> String {
    drawing(shown, &marks(shown), true).0
}

/// The document and where its squares are; small maps have tips if `titled`.
pub(super) fn drawing(shown: &Shown<'_>, marks: &[Vec<Mark>], titled: bool) -> (String, Plan) {
    let count = shown.reach.rows.len().max(shown.reach.columns.len());
    let side = match count {
        0..=16 => 30,
        17..=40 => 20,
        41..=90 => 14,
        91..=220 => 11,
        _ => i32::try_from(2_400 / count).unwrap_or(1).clamp(2, 9),
    };
    let names = side >= NAMED;
    // Narrow columns have their names upright, others at 55 degrees.
    let steep = names && side < STEEP;
    let (left, top) = margins(shown, names, steep);
    let xs = places(shown, &shown.reach.columns, left, side);
    let top = top + 82;
    let ys = places(shown, &shown.reach.rows, top, side);
    let right = xs.last().map_or(left, |x| x + side);
    let bottom = ys.last().map_or(top, |y| y + side);
    let mut body = String::new();
    bands(&mut body, shown, (&xs, &ys), side);
    let titles = match (shown.reach.cells() <= TIPS, titled) {
        (true, true) => Squares::Titled,
        (true, false) => Squares::Single,
        (false, _) => Squares::Runs,
    };
    squares(&mut body, shown, marks, (&xs, &ys), (side, titles));
    if titles == Squares::Runs && side >= FINE {
        lines(&mut body, (&xs, &ys), side);
    }
    labels(&mut body, shown, (&xs, &ys), side, (names, steep));
    let (legend_width, height) = legend(&mut body, shown, marks, bottom + 28);
    let title_width =
        width(&title(shown), 20, Face::Bold).max(width(&shown.summary(), 13, Face::Sans));
    let wide = (right + slant(shown, names, steep))
        .max(legend_width)
        .max(title_width.min(900) + MARGIN)
        + MARGIN;
    header(&mut body, shown, wide - 2 * MARGIN);
    let plan = Plan {
        side,
        xs,
        ys,
        size: (wide, height),
    };
    let (title, about) = (escape(&title(shown)), escape(&shown.summary()));
    let document = format!(
        "<svg xmlns=\"http://www.w3.org/2000/svg\" width=\"{wide}\" height=\"{height}\" \
         viewBox=\"0 0 {wide} {height}\" role=\"img\" aria-labelledby=\"t d\">\n\
         <title id=\"t\">{title}</title>\n<desc id=\"d\">{about}</desc>\n<style>{}</style>\n\
         <rect class=\"page\" width=\"{wide}\" height=\"{height}\" rx=\"12\"/>\n{body}</svg>\n",
        sheet()
    );
    (document, plan)
}

fn title(shown: &Shown<'_>) -> String {
    match (shown.is_change(), shown.paths.is_some()) {
        (true, _) => format!("What changes: {}", shown.title),
        (_, true) => format!("Who reaches whom by the path: {}", shown.title),
        _ => format!("Who reaches whom by policy: {}", shown.title),
    }
}

fn header(out: &mut String, shown: &Shown<'_>, room: i32) {
    let title = fit(&title(shown), 20, Face::Bold, room);
    let _ = writeln!(
        out,
        "<text class=\"ink b t20\" x=\"{MARGIN}\" y=\"42\">{}</text>",
        escape(&title)
    );
    let about = fit(&shown.summary(), 13, Face::Sans, room);
    let _ = writeln!(
        out,
        "<text class=\"dim t13\" x=\"{MARGIN}\" y=\"64\">{}</text>",
        escape(&about)
    );
}

fn name(shown: &Shown<'_>, group: usize) -> String {
    let group = shown.reach.groups.get(group);
    group.map_or_else(String::new, |g| match g.count {
        1 => g.name.clone(),
        n => format!("{} ×{n}", g.name),
    })
}

/// What tells bands apart: the namespace, or what the ends are.
fn band(shown: &Shown<'_>, group: usize) -> String {
    let group = shown.reach.groups.get(group);
    group.map_or_else(String::new, |g| match g.namespace.as_str() {
        "" => g.kind.to_string(),
        namespace if g.kind == crate::kube::policy::reach::Kind::Service => {
            format!("svc/{namespace}")
        }
        namespace => namespace.to_owned(),
    })
}

/// The width of the names of rows, and the height of those of columns.
fn margins(shown: &Shown<'_>, names: bool, steep: bool) -> (i32, i32) {
    let longest = |groups: &[usize]| {
        let text = |at: &usize| {
            if names {
                name(shown, *at)
            } else {
                band(shown, *at)
            }
        };
        let widths = groups.iter().map(|at| width(&text(at), 12, Face::Sans));
        widths.max().unwrap_or(0).min(LABEL)
    };
    let (rows, columns) = (longest(&shown.reach.rows), longest(&shown.reach.columns));
    let rise = if steep { columns } else { columns * 82 / 100 };
    (MARGIN + rows + 12, rise + 12)
}

/// How far the last column's name leans out.
fn slant(shown: &Shown<'_>, names: bool, steep: bool) -> i32 {
    if steep {
        return 0;
    }
    let last = shown.reach.columns.last();
    let text = last.map_or_else(String::new, |at| {
        if names {
            name(shown, *at)
        } else {
            band(shown, *at)
        }
    });
    width(&text, 12, Face::Sans).min(LABEL) * 58 / 100
}

fn places(shown: &Shown<'_>, groups: &[usize], start: i32, side: i32) -> Vec<i32> {
    let (mut at, mut before) = (start, None::<String>);
    groups
        .iter()
        .map(|group| {
            let here = band(shown, *group);
            if before.as_ref().is_some_and(|band| *band != here) {
                at += GAP;
            }
            before = Some(here);
            let place = at;
            at += side;
            place
        })
        .collect()
}

/// First and last place and name of each band.
fn spans(shown: &Shown<'_>, groups: &[usize], places: &[i32]) -> Vec<(i32, i32, String)> {
    let mut out: Vec<(i32, i32, String)> = Vec::new();
    for (group, place) in groups.iter().zip(places) {
        let here = band(shown, *group);
        match out.last_mut() {
            Some((_, last, name)) if *name == here => *last = *place,
            _ => out.push((*place, *place, here)),
        }
    }
    out
}

/// The ground of each pair of namespaces.
fn bands(out: &mut String, shown: &Shown<'_>, (xs, ys): (&[i32], &[i32]), side: i32) {
    let columns = spans(shown, &shown.reach.columns, xs);
    for (top, bottom, _) in spans(shown, &shown.reach.rows, ys) {
        for (left, right, _) in &columns {
            let (w, h) = (right - left + side, bottom - top + side);
            let _ = writeln!(
                out,
                "<rect class=\"band\" x=\"{left}\" y=\"{top}\" width=\"{w}\" height=\"{h}\"/>"
            );
        }
    }
}

fn squares(
    out: &mut String,
    shown: &Shown<'_>,
    marks: &[Vec<Mark>],
    (xs, ys): (&[i32], &[i32]),
    (side, how): (i32, Squares),
) {
    let inset = i32::from(how != Squares::Runs);
    for ((row, y), from) in marks.iter().zip(ys).zip(&shown.reach.rows) {
        let cells: Vec<(usize, i32, Mark)> = shown
            .reach
            .columns
            .iter()
            .zip(xs)
            .zip(row)
            .map(|((to, x), mark)| (*to, *x, *mark))
            .collect();
        let mut rest = cells.as_slice();
        while let Some((to, x, mark)) = rest.first().copied() {
            // Squares that touch and are alike are one, unless each has a tip.
            let alike = |(n, (_, here, own)): &(usize, &(usize, i32, Mark))| {
                let n = i32::try_from(*n).unwrap_or(i32::MAX);
                *own == mark && *here == x.saturating_add(n.saturating_mul(side))
            };
            let run = match how {
                Squares::Titled | Squares::Single => 1,
                Squares::Runs => rest.iter().enumerate().take_while(alike).count().max(1),
            };
            rest = rest.get(run..).unwrap_or_default();
            if mark == Mark::Nothing {
                continue;
            }
            let w = i32::try_from(run).unwrap_or(1) * side - inset;
            let (class, h) = (class(mark, shown.is_change()), side - inset);
            let round = if side >= 14 { " rx=\"2\"" } else { "" };
            let rect = format!(
                "<rect class=\"{class}\" x=\"{x}\" y=\"{y}\" width=\"{w}\" height=\"{h}\"{round}"
            );
            let _ = match how {
                Squares::Titled => writeln!(
                    out,
                    "{rect}><title>{}</title></rect>",
                    escape(&tip(shown, *from, to))
                ),
                _ => writeln!(out, "{rect}/>"),
            };
            if has_sign(mark) && side >= 11 {
                for n in 0..i32::try_from(run).unwrap_or(1) {
                    let (cx, cy) = (x + n * side + (side - inset) / 2, y + side / 2 + side / 5);
                    let size = side * 3 / 5;
                    let _ = writeln!(
                        out,
                        "<text class=\"sign c\" x=\"{cx}\" y=\"{cy}\" style=\"font-size:{size}px\">{}</text>",
                        mark.sign()
                    );
                }
            }
        }
    }
}

/// Lines between squares that were drawn as one.
fn lines(out: &mut String, (xs, ys): (&[i32], &[i32]), side: i32) {
    let (Some(left), Some(top)) = (xs.first(), ys.first()) else {
        return;
    };
    let right = xs.last().map_or(*left, |x| x + side);
    let bottom = ys.last().map_or(*top, |y| y + side);
    for x in xs {
        let (x, h) = (x + side - 1, bottom - top);
        let _ = writeln!(
            out,
            "<rect class=\"page\" x=\"{x}\" y=\"{top}\" width=\"1\" height=\"{h}\"/>"
        );
    }
    for y in ys {
        let (y, w) = (y + side - 1, right - left);
        let _ = writeln!(
            out,
            "<rect class=\"page\" x=\"{left}\" y=\"{y}\" width=\"{w}\" height=\"1\"/>"
        );
    }
}

/// What a square stands for: its ends, and each port with what decides.
pub(super) fn tip(shown: &Shown<'_>, from: usize, to: usize) -> String {
    let mut out = format!("{} → {}", name(shown, from), name(shown, to));
    for line in details(shown, from, to) {
        out.push('\n');
        out.push_str(&line);
    }
    out
}

/// A line for each port.
pub(super) fn details(shown: &Shown<'_>, from: usize, to: usize) -> Vec<String> {
    let ports = shown.reach.cell(from, to);
    ports
        .iter()
        .enumerate()
        .filter(|(_, port)| port.pairs > 0)
        .map(|(at, port)| one(shown, (from, to, at), port))
        .collect()
}

fn one(shown: &Shown<'_>, cell: (usize, usize, usize), port: &PortCell) -> String {
    let count = |state: usize| {
        let open = port.open.get(state).copied().unwrap_or_default();
        match open {
            0 => "closed".to_owned(),
            n if n == port.pairs => "open".to_owned(),
            n => format!("{n} of {} pairs open", port.pairs),
        }
    };
    let name = port_text(&port.l4);
    if shown.is_change() {
        let [before, after] = [0, 1].map(|s| (count(s), why(shown.reach, cell, s, false)));
        return match before == after {
            true => format!("{name} {} as before: {}", after.0, after.1),
            false => format!(
                "{name} before {} ({}), after {} ({})",
                before.0, before.1, after.0, after.1
            ),
        };
    }
    let mut text = format!("{name} {}: {}", count(0), why(shown.reach, cell, 0, false));
    if shown.paths.is_some() {
        let path = shown.path(cell.0, cell.1, cell.2);
        let said = path.map_or_else(
            || "not tried".to_owned(),
            |p| format!("{} of {} probes arrive", p.reached, p.tried),
        );
        let _ = write!(text, "; path: {said}");
        let because = super::csv::because(shown, cell);
        if !because.is_empty() {
            let _ = write!(text, " ({because})");
        }
    }
    text
}

fn labels(
    out: &mut String,
    shown: &Shown<'_>,
    (xs, ys): (&[i32], &[i32]),
    side: i32,
    (names, steep): (bool, bool),
) {
    let (rows, columns) = (&shown.reach.rows, &shown.reach.columns);
    let size = if side >= 20 {
        12
    } else {
        (side - 1).clamp(9, 12)
    };
    let x = xs.first().map_or(MARGIN, |x| x - 8);
    let y = ys.first().map_or(MARGIN, |y| y - 8);
    let mut row = |at: i32, text: &str, class: &str| {
        let text = escape(&fit(text, size, Face::Sans, LABEL));
        let at = at + size / 3;
        let _ = writeln!(
            out,
            "<text class=\"{class} e\" x=\"{x}\" y=\"{at}\" style=\"font-size:{size}px\">{text}</text>"
        );
    };
    if names {
        for (group, place) in rows.iter().zip(ys) {
            row(place + side / 2, &name(shown, *group), "ink");
        }
    } else {
        let mut free = i32::MIN;
        for (first, last, band) in spans(shown, rows, ys) {
            let middle = (first + last + side) / 2;
            // Names that would lie on one another are left out.
            if middle >= free {
                row(middle, &band, "ink");
                free = middle + size;
            }
        }
    }
    let angle = if steep { 90 } else { 55 };
    let mut column = |at: i32, text: &str| {
        let text = escape(&fit(text, size, Face::Sans, LABEL));
        let _ = writeln!(
            out,
            "<text class=\"ink\" transform=\"translate({at},{y}) rotate(-{angle})\" style=\"font-size:{size}px\">{text}</text>"
        );
    };
    if names {
        for (group, place) in columns.iter().zip(xs) {
            column(place + side / 2 + size / 3, &name(shown, *group));
        }
    } else {
        let mut free = i32::MIN;
        for (first, last, band) in spans(shown, columns, xs) {
            let middle = (first + last + side) / 2;
            if middle >= free {
                column(middle, &band);
                free = middle + size * 3 / 2;
            }
        }
    }
}

/// What colours mean and how many squares have them; its width and the document's height.
fn legend(out: &mut String, shown: &Shown<'_>, marks: &[Vec<Mark>], top: i32) -> (i32, i32) {
    let mut counts: BTreeMap<Mark, usize> = BTreeMap::new();
    for mark in marks.iter().flatten() {
        *counts.entry(*mark).or_default() += 1;
    }
    let (mut x, mut y, mut widest) = (MARGIN, top, 0);
    for mark in Mark::ALL {
        let Some(count) = counts.get(&mark).filter(|_| mark != Mark::Nothing) else {
            continue;
        };
        let squares = if *count == 1 { "square" } else { "squares" };
        let text = format!("{}: {count} {squares}", mark.meaning(shown.is_change()));
        let wide = 22 + width(&text, 12, Face::Sans) + 20;
        if x > MARGIN && x + wide > 760 {
            (x, y) = (MARGIN, y + 22);
        }
        let class = class(mark, shown.is_change());
        let _ = writeln!(
            out,
            "<rect class=\"{class}\" x=\"{x}\" y=\"{}\" width=\"14\" height=\"14\" rx=\"2\"/>\
             <text class=\"ink\" x=\"{}\" y=\"{y}\">{}</text>",
            y - 12,
            x + 20,
            escape(&text)
        );
        x += wide;
        widest = widest.max(x);
    }
    let left = shown.left();
    let notes = ["rows send, columns are reached", left.as_str()];
    let notes: Vec<&str> = notes.into_iter().filter(|t| !t.is_empty()).collect();
    let text = notes.join(" · ");
    let _ = writeln!(
        out,
        "<text class=\"dim\" x=\"{MARGIN}\" y=\"{}\">{}</text>",
        y + 24,
        escape(&text)
    );
    (
        widest.max(MARGIN + width(&text, 12, Face::Sans)),
        y + 24 + MARGIN,
    )
}
