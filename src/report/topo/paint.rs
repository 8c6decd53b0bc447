//! SVG elements, one function each: boxes with text, wires, curves.

use super::layout::Rect;
use super::text::{Face, escape, fit};
use core::fmt::Write as _;

/// An SVG document's body in the making. Every group that is opened is closed by [`Canvas::close`].
#[derive(Default)]
pub(super) struct Canvas {
    out: String,
}

impl Canvas {
    /// What was drawn.
    pub fn finish(self) -> String {
        self.out
    }

    /// Opens a group with a tooltip.
    pub fn open(&mut self, tip: &str) {
        let _ = writeln!(self.out, "<g><title>{}</title>", escape(tip));
    }

    /// Closes it.
    pub fn close(&mut self) {
        self.out.push_str("</g>\n");
    }

    /// A rounded box.
    pub fn rect(&mut self, class: &str, r: Rect, radius: i32) {
        let Rect { x, y, w, h } = r;
        let _ = writeln!(
            self.out,
            "<rect class=\"{class}\" x=\"{x}\" y=\"{y}\" width=\"{w}\" height=\"{h}\" rx=\"{radius}\"/>"
        );
    }

    /// Text on a baseline; `class` holds colour and size.
    pub fn text(&mut self, class: &str, x: i32, y: i32, text: &str) {
        if !text.is_empty() {
            let text = escape(text);
            let _ = writeln!(
                self.out,
                "<text class=\"{class}\" x=\"{x}\" y=\"{y}\">{text}</text>"
            );
        }
    }

    /// Text cut to fit, in a size of the style sheet.
    pub fn fitted(&mut self, class: &str, at: (i32, i32), text: &str, room: i32) {
        let size = ["t10", "t11", "t13", "t15", "t20"]
            .into_iter()
            .find(|t| class.split(' ').any(|c| c == *t))
            .and_then(|t| t.get(1..)?.parse().ok())
            .unwrap_or(12);
        let face = match () {
            () if class.split(' ').any(|c| c == "m") => Face::Mono,
            () if class.split(' ').any(|c| c == "b") => Face::Bold,
            () => Face::Sans,
        };
        self.text(class, at.0, at.1, &fit(text, size, face, room));
    }

    /// A name and what is said of it, one after the other, whatever the font's widths are.
    pub fn pair(&mut self, at: (i32, i32), a: (&str, &str), gap: i32, b: (&str, &str)) {
        let _ = writeln!(
            self.out,
            "<text x=\"{}\" y=\"{}\"><tspan class=\"{}\">{}</tspan><tspan class=\"{}\" dx=\"{gap}\">{}</tspan></text>",
            at.0,
            at.1,
            a.0,
            escape(a.1),
            b.0,
            escape(b.1)
        );
    }

    /// A straight line.
    pub fn line(&mut self, class: &str, a: (i32, i32), b: (i32, i32)) {
        let (d, e) = (a, b);
        let _ = writeln!(
            self.out,
            "<path class=\"{class}\" d=\"M{} {}L{} {}\"/>",
            d.0, d.1, e.0, e.1
        );
    }

    /// A dot.
    pub fn dot(&mut self, class: &str, c: (i32, i32), r: i32) {
        let _ = writeln!(
            self.out,
            "<circle class=\"{class}\" cx=\"{}\" cy=\"{}\" r=\"{r}\"/>",
            c.0, c.1
        );
    }

    /// A cubic curve.
    pub fn curve(&mut self, class: &str, p: [(i32, i32); 4]) {
        let [a, b, c, d] = p;
        let _ = writeln!(
            self.out,
            "<path class=\"{class}\" d=\"M{} {}C{} {} {} {} {} {}\"/>",
            a.0, a.1, b.0, b.1, c.0, c.1, d.0, d.1
        );
    }

    /// Lines with rounded corners.
    pub fn bent(&mut self, class: &str, points: &[(i32, i32)], radius: i32) {
        let _ = writeln!(
            self.out,
            "<path class=\"{class}\" d=\"{}\"/>",
            bends(points, radius)
        );
    }
}

/// The path data of lines with rounded corners.
fn bends(points: &[(i32, i32)], radius: i32) -> String {
    let mut d = String::new();
    let Some(first) = points.first() else {
        return d;
    };
    let _ = write!(d, "M{} {}", first.0, first.1);
    // A point `radius` px from a corner towards another, at most half way.
    let near = |corner: (i32, i32), to: (i32, i32)| {
        let (dx, dy) = (to.0 - corner.0, to.1 - corner.1);
        let long = dx.abs().max(dy.abs()).max(1);
        let r = radius.min(long / 2);
        (corner.0 + dx * r / long, corner.1 + dy * r / long)
    };
    for w in points.windows(3) {
        let [a, b, c] = w else { continue };
        let (p, q) = (near(*b, *a), near(*b, *c));
        let _ = write!(d, "L{} {}Q{} {} {} {}", p.0, p.1, b.0, b.1, q.0, q.1);
    }
    if let [.., last] = points {
        let _ = write!(d, "L{} {}", last.0, last.1);
    }
    d
}
