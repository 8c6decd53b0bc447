//! Line charts as SVG, for light and for dark pages: panels side by side, a legend below.
//!
//! Both axes are drawn in decades where values span more than one. Knows numbers and names only; no scripts,
//! no fonts to load. Invariant: the same chart gives the same bytes.

use super::topo::text::{Face, escape, width};
use core::fmt::Write as _;

/// A line: its name and points, left to right.
#[derive(Clone, PartialEq, Debug)]
pub struct Series {
    /// What the legend calls it; series of one name have one colour in all panels.
    pub name: String,
    /// A yardstick, drawn dashed.
    pub dashed: bool,
    /// x and y.
    pub points: Vec<(f64, f64)>,
}

/// One pair of axes.
#[derive(Clone, PartialEq, Debug)]
pub struct Panel {
    /// Above it.
    pub title: String,
    /// What goes to the right.
    pub x: String,
    /// What goes up.
    pub y: String,
    /// The lines.
    pub series: Vec<Series>,
}

/// Panels side by side.
#[derive(Clone, PartialEq, Debug)]
pub struct Chart {
    /// Above all.
    pub title: String,
    /// Below the title.
    pub subtitle: String,
    /// Left to right.
    pub panels: Vec<Panel>,
}

const PLOT_W: f64 = 400.0;
const PLOT_H: f64 = 260.0;
/// Room left of a panel for its figures, between panels, above and below.
const LEFT: f64 = 62.0;
const GAP: f64 = 34.0;
const TOP: f64 = 96.0;
const BELOW: f64 = 52.0;
const MARGIN: f64 = 24.0;
const ROW: f64 = 20.0;

/// Lines' colours on light and on dark pages; they differ in lightness as well as in hue.
const INKS: &[(&str, &str)] = &[
    ("#1d5fe0", "#6ea8ff"),
    ("#d4551f", "#ff9b66"),
    ("#0e8a6d", "#4fd6b4"),
    ("#a3249a", "#ee85e2"),
    ("#8a6a00", "#e5c04a"),
    ("#5b45c2", "#ada0ff"),
    ("#b01c3b", "#ff8298"),
    ("#2f7d95", "#79d0e8"),
    ("#5f7d1c", "#b2d75f"),
    ("#7a5236", "#d5a988"),
];

/// What an axis shows.
struct Axis {
    log: bool,
    from: f64,
    to: f64,
    ticks: Vec<f64>,
}

impl Axis {
    /// An axis that holds all values; `zero` begins at 0 if it can.
    fn of(values: impl Iterator<Item = f64>, zero: bool) -> Axis {
        let all = values.filter(|v| v.is_finite() && *v > 0.0);
        let (least, most) = all.fold((f64::MAX, 0.0f64), |(a, b), v| (a.min(v), b.max(v)));
        let (least, most) = if most == 0.0 {
            (1.0, 10.0)
        } else {
            (least, most)
        };
        match zero && most <= least * 12.0 {
            true => Axis::linear(most),
            false => Axis::decades(least, most),
        }
    }

    fn linear(most: f64) -> Axis {
        let raw = most / 5.0;
        let unit = 10f64.powf(raw.log10().floor());
        let step = [1.0, 2.0, 5.0, 10.0].map(|n| n * unit);
        let step = step.into_iter().find(|s| *s >= raw).unwrap_or(raw);
        let steps = (most / step).ceil().max(1.0);
        Axis {
            log: false,
            from: 0.0,
            to: steps * step,
            ticks: (0..=steps as u32).map(|n| f64::from(n) * step).collect(),
        }
    }

    fn decades(least: f64, most: f64) -> Axis {
        let near = |v: f64, up: bool| {
            let unit = 10f64.powf(v.log10().floor());
            let mut marks = [1.0, 2.0, 5.0, 10.0].map(|n| n * unit);
            if !up {
                marks.reverse();
            }
            let fits = |m: &f64| if up { *m >= v * 0.999 } else { *m <= v * 1.001 };
            marks.into_iter().find(fits).unwrap_or(v)
        };
        let (from, mut to) = (near(least, false), near(most, true));
        if to <= from {
            to = from * 10.0;
        }
        let mut ticks = Vec::new();
        let mut unit = 10f64.powf(from.log10().floor());
        let dense = to / from <= 200.0;
        while unit <= to * 1.001 {
            let marks: &[f64] = if dense { &[1.0, 2.0, 5.0] } else { &[1.0] };
            let all = marks.iter().map(|m| m * unit);
            ticks.extend(all.filter(|v| *v >= from * 0.999 && *v <= to * 1.001));
            unit *= 10.0;
        }
        Axis {
            log: true,
            from,
            to,
            ticks,
        }
    }

    /// Where a value is, 0 to 1.
    fn part(&self, v: f64) -> f64 {
        let at = match self.log {
            true => (v / self.from).ln() / (self.to / self.from).ln(),
            false => (v - self.from) / (self.to - self.from),
        };
        at.clamp(0.0, 1.0)
    }
}

/// `50`, `4k`, `1.5M`.
fn short(v: f64) -> String {
    let (v, unit) = match v {
        v if v >= 1e6 => (v / 1e6, "M"),
        v if v >= 1e3 => (v / 1e3, "k"),
        v => (v, ""),
    };
    let text = format!("{v:.1}");
    format!("{}{unit}", text.strip_suffix(".0").unwrap_or(&text))
}

impl Chart {
    /// All names, in the order in which they come.
    fn names(&self) -> Vec<(&str, bool)> {
        let mut names: Vec<(&str, bool)> = Vec::new();
        for s in self.panels.iter().flat_map(|p| &p.series) {
            if !names.iter().any(|n| n.0 == s.name) {
                names.push((&s.name, s.dashed));
            }
        }
        names
    }

    /// The document.
    pub fn svg(&self) -> String {
        let names = self.names();
        let panels = self.panels.len().max(1) as f64;
        let w = MARGIN * 2.0 + panels * (LEFT + PLOT_W) + (panels - 1.0) * GAP;
        let (legend, rows) = legend(&names, TOP + PLOT_H + BELOW, w);
        let h = TOP + PLOT_H + BELOW + rows * ROW + 12.0;
        let mut out = format!(
            "<svg xmlns=\"http://www.w3.org/2000/svg\" width=\"{w}\" height=\"{h}\" viewBox=\"0 0 {w} {h}\" \
             role=\"img\" aria-labelledby=\"t d\">\n<title id=\"t\">{}</title>\n<desc id=\"d\">{}</desc>\n\
             <style>{}</style>\n<rect class=\"page\" width=\"{w}\" height=\"{h}\" rx=\"12\"/>\n",
            escape(&self.title),
            escape(&self.subtitle),
            sheet(),
        );
        text(&mut out, "ink b t18", MARGIN, 34.0, &self.title);
        text(&mut out, "dim", MARGIN, 54.0, &self.subtitle);
        for (i, p) in self.panels.iter().enumerate() {
            let x = MARGIN + LEFT + i as f64 * (LEFT + PLOT_W + GAP);
            panel(&mut out, p, x, &names);
        }
        out.push_str(&legend);
        out.push_str("</svg>\n");
        out
    }
}

fn text(out: &mut String, class: &str, x: f64, y: f64, what: &str) {
    let what = escape(what);
    let _ = writeln!(
        out,
        "<text class=\"{class}\" x=\"{x:.1}\" y=\"{y:.1}\">{what}</text>"
    );
}

fn line(out: &mut String, class: &str, a: (f64, f64), b: (f64, f64)) {
    let _ = writeln!(
        out,
        "<path class=\"{class}\" d=\"M{:.1} {:.1}L{:.1} {:.1}\"/>",
        a.0, a.1, b.0, b.1
    );
}

fn ink(names: &[(&str, bool)], name: &str) -> usize {
    let at = names.iter().position(|n| n.0 == name).unwrap_or(0);
    at % INKS.len()
}

fn panel(out: &mut String, p: &Panel, left: f64, names: &[(&str, bool)]) {
    let points = || p.series.iter().flat_map(|s| &s.points);
    let (x, y) = (
        Axis::of(points().map(|p| p.0), false),
        Axis::of(points().map(|p| p.1), true),
    );
    let bottom = TOP + PLOT_H;
    let at = |v: &(f64, f64)| {
        (
            left + 10.0 + x.part(v.0) * (PLOT_W - 20.0),
            bottom - y.part(v.1) * PLOT_H,
        )
    };
    text(out, "ink b", left, TOP - 14.0, &p.title);
    for tick in &y.ticks {
        let h = bottom - y.part(*tick) * PLOT_H;
        line(out, "grid", (left, h), (left + PLOT_W, h));
        text(out, "dim e", left - 8.0, h + 4.0, &short(*tick));
    }
    for tick in &x.ticks {
        let (h, _) = at(&(*tick, y.from));
        line(out, "axis", (h, bottom), (h, bottom + 5.0));
        text(out, "dim c", h, bottom + 19.0, &short(*tick));
    }
    line(out, "axis", (left, bottom), (left + PLOT_W, bottom));
    text(out, "dim e", left + PLOT_W, bottom + 38.0, &p.x);
    text(out, "dim", left - LEFT + 8.0, TOP - 14.0, &p.y);
    for s in &p.series {
        let n = ink(names, &s.name);
        let all: Vec<(f64, f64)> = s.points.iter().map(at).collect();
        let mut d = String::new();
        for (i, (h, v)) in all.iter().enumerate() {
            let _ = write!(d, "{}{h:.1} {v:.1}", if i == 0 { 'M' } else { 'L' });
        }
        let dash = if s.dashed { " dash" } else { "" };
        let _ = writeln!(out, "<path class=\"line i{n}{dash}\" d=\"{d}\"/>");
        for ((h, v), (a, b)) in all.iter().zip(&s.points) {
            let tip = format!("{}: {} at {}", s.name, short(*b), short(*a));
            let tip = escape(&tip);
            let r = if s.dashed { 2.5 } else { 4.0 };
            let _ = writeln!(
                out,
                "<circle class=\"f{n}\" cx=\"{h:.1}\" cy=\"{v:.1}\" r=\"{r}\"><title>{tip}</title></circle>"
            );
        }
    }
}

/// The legend and its number of rows.
fn legend(names: &[(&str, bool)], top: f64, w: f64) -> (String, f64) {
    let (mut out, mut x, mut row) = (String::new(), MARGIN, 0.0);
    for (name, dashed) in names {
        let room = f64::from(width(name, 12, Face::Sans)) + 52.0;
        if x + room > w - MARGIN && x > MARGIN {
            (x, row) = (MARGIN, row + 1.0);
        }
        let y = top + row * ROW + 12.0;
        let (n, dash) = (ink(names, name), if *dashed { " dash" } else { "" });
        line(
            &mut out,
            &format!("line i{n}{dash}"),
            (x, y - 4.0),
            (x + 24.0, y - 4.0),
        );
        text(&mut out, "ink", x + 32.0, y, name);
        x += room;
    }
    (out, row + 1.0)
}

fn sheet() -> String {
    let mut light = String::from(
        "text{font-family:system-ui,-apple-system,'Segoe UI',Roboto,'Helvetica Neue',Arial,sans-serif;\
         font-size:12px}.b{font-weight:600}.t18{font-size:18px}.c{text-anchor:middle}.e{text-anchor:end}\
         .grid{stroke-width:1}.axis{stroke-width:1.5;fill:none}\
         .line{fill:none;stroke-width:2.2;stroke-linejoin:round;stroke-linecap:round}\
         .dash{stroke-dasharray:5 5;stroke-width:1.6}\
         .page{fill:#fcfdff}.ink{fill:#1b2430}.dim{fill:#5a687a}.grid{stroke:#e4eaf2}.axis{stroke:#94a3b5}",
    );
    let mut dark = String::from(
        ".page{fill:#0f141b}.ink{fill:#e8edf4}.dim{fill:#9aa8ba}.grid{stroke:#232d3b}.axis{stroke:#5f7087}",
    );
    for (n, (on_light, on_dark)) in INKS.iter().enumerate() {
        let _ = write!(light, ".i{n}{{stroke:{on_light}}}.f{n}{{fill:{on_light}}}");
        let _ = write!(dark, ".i{n}{{stroke:{on_dark}}}.f{n}{{fill:{on_dark}}}");
    }
    format!("{light}@media (prefers-color-scheme:dark){{{dark}}}")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn axes_hold_their_values_and_have_round_ticks() {
        let y = Axis::of([31.0, 57.0, 90.0].into_iter(), true);
        assert_eq!((y.log, y.from, y.to), (false, 0.0, 100.0));
        assert_eq!(y.ticks, [0.0, 20.0, 40.0, 60.0, 80.0, 100.0]);
        let wide = Axis::of([30.0, 1900.0].into_iter(), true);
        assert_eq!((wide.log, wide.from, wide.to), (true, 20.0, 2000.0));
        assert_eq!(
            wide.ticks,
            [20.0, 50.0, 100.0, 200.0, 500.0, 1000.0, 2000.0]
        );
        let x = Axis::of([10.0].into_iter(), false);
        assert_eq!((x.from, x.to), (10.0, 100.0));
        assert!(Axis::of([f64::NAN].into_iter(), true).ticks.len() > 1);
    }

    #[test]
    fn figures_are_short() {
        let shown = [50.0, 4096.0, 65_536.0, 1e6, 2.5e6, 0.5].map(short);
        assert_eq!(shown, ["50", "4.1k", "65.5k", "1M", "2.5M", "0.5"]);
    }

    #[test]
    fn every_series_has_a_line_and_a_place_in_the_legend() {
        let series = |name: &str, dashed| Series {
            name: name.into(),
            dashed,
            points: vec![(64.0, 30.0), (4096.0, 33.0)],
        };
        let panel = Panel {
            title: "against <flows>".into(),
            x: "flows".into(),
            y: "ns".into(),
            series: vec![series("service", false), series("limit", true)],
        };
        let chart = Chart {
            title: "t".into(),
            subtitle: "s".into(),
            panels: vec![panel.clone(), panel],
        };
        let svg = chart.svg();
        assert_eq!(svg.matches("<circle").count(), 8);
        // Two in the panels and one in the legend.
        assert_eq!(svg.matches("class=\"line i1 dash\"").count(), 3);
        assert!(svg.contains("against &lt;flows&gt;") && svg.ends_with("</svg>\n"));
    }
}
