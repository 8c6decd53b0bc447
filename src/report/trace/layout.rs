//! The page: columns, wrapping, colours. Knows words only.

use super::lines::{End, Line, Mood};
use crate::path::Direction;
use anstyle::{AnsiColor, Style};
use core::fmt::Write as _;
use core::time::Duration;

/// Where the text of a line begins: two for the margin, two for the mark, ten for the label.
const INDENT: usize = 14;
/// The width of the label.
const LABEL: usize = 10;

const BOLD: Style = Style::new().bold();
const DIM: Style = Style::new().dimmed();
const GOOD: Style = AnsiColor::Green.on_default();
const BAD: Style = AnsiColor::Red.on_default();
const OPEN: Style = AnsiColor::Yellow.on_default();
const ADDRESS: Style = AnsiColor::Cyan.on_default();

/// The text so far.
pub(super) struct Page {
    out: String,
    width: usize,
    /// The origin that the last rule told, which the next need not tell again.
    said: Option<String>,
}

impl Page {
    pub fn new(width: usize) -> Self {
        let width = width.max(INDENT + 20);
        Page {
            out: String::new(),
            width,
            said: None,
        }
    }

    /// `── node1 ─────────────── +12us`
    pub fn heading(&mut self, name: &str, at: Duration) {
        let at = format!("+{}", span(at));
        let used = 4 + name.chars().count() + at.chars().count();
        let rule = "─".repeat(self.width.saturating_sub(used + 1).max(2));
        let _ = writeln!(
            self.out,
            "{DIM}──{DIM:#} {BOLD}{name}{BOLD:#} {DIM}{rule} {at}{DIM:#}"
        );
    }

    /// An empty line and what comes now.
    pub fn direction(&mut self, name: &str) {
        let _ = writeln!(self.out, "\n{BOLD}{name}{BOLD:#}");
    }

    /// Time went by inside a block.
    pub fn later(&mut self, at: Duration) {
        let _ = writeln!(self.out, "  {DIM}· +{}{DIM:#}", span(at));
    }

    /// A frame at a device.
    pub fn tap(&mut self, dir: Direction, dev: &str, summary: &str) {
        let mark = match dir {
            Direction::In => "←",
            Direction::Out => "→",
        };
        let label = match dir {
            Direction::In => format!("{dev} In"),
            Direction::Out => format!("{dev} Out"),
        };
        self.row(mark, &label, summary, ADDRESS, Style::new());
    }

    /// Something done.
    pub fn step(&mut self, l: &Line) {
        self.row(" ", l.label, &l.text, Style::new(), Style::new());
        if let Some(o) = &l.origin
            && (l.label != "rule" || self.said.as_ref() != Some(o))
        {
            self.origin(o);
        }
        self.said = l.origin.clone();
    }

    /// Behind the last line when it fits, else on the next, dim.
    fn origin(&mut self, origin: &str) {
        let last = self
            .out
            .trim_end_matches('\n')
            .rsplit('\n')
            .next()
            .unwrap_or("");
        if visible(last) + 3 + origin.chars().count() <= self.width && self.out.ends_with('\n') {
            self.out.pop();
            let _ = writeln!(self.out, "  {DIM}{origin}{DIM:#}");
        } else {
            self.row(" ", "", origin, Style::new(), DIM);
        }
    }

    /// A conversation folded to a line.
    pub fn aside(&mut self, text: &str) {
        self.row(" ", "neigh", text, DIM, DIM);
    }

    /// The way's end.
    pub fn end(&mut self, e: &End) {
        let (mark, style) = match e.mood {
            Mood::Good => ("✔", GOOD),
            Mood::Bad => ("✘", BAD),
            Mood::Open => ("?", OPEN),
        };
        self.row(mark, e.label, &e.text, style.bold(), style);
        for (label, fact) in &e.facts {
            self.row(" ", label, fact, DIM, DIM);
        }
    }

    /// Mark, label and wrapped text.
    fn row(&mut self, mark: &str, label: &str, text: &str, head: Style, body: Style) {
        let pad = LABEL.saturating_sub(label.chars().count()).max(1);
        let first = self
            .width
            .saturating_sub(INDENT + (label.chars().count() + 1).saturating_sub(LABEL));
        let mut pieces = wrap(text, first, self.width - INDENT).into_iter();
        let gap = " ".repeat(pad);
        let _ = write!(self.out, "  {head}{mark} {label}{head:#}{gap}");
        let line = pieces.next().unwrap_or_default();
        let _ = writeln!(self.out, "{body}{line}{body:#}");
        for line in pieces {
            let _ = writeln!(self.out, "{:INDENT$}{body}{line}{body:#}", "");
        }
    }

    pub fn finish(self) -> String {
        self.out
    }
}

/// Characters a terminal shows of a styled line.
fn visible(line: &str) -> usize {
    let (mut n, mut escape) = (0, false);
    for c in line.chars() {
        match (escape, c) {
            (false, '\u{1b}') => escape = true,
            (true, 'm') => escape = false,
            (true, _) => {}
            (false, _) => n += 1,
        }
    }
    n
}

/// Cuts at spaces; a word longer than a line stays whole.
fn wrap(text: &str, first: usize, rest: usize) -> Vec<String> {
    let mut lines: Vec<String> = vec![String::new()];
    for word in text.split(' ') {
        let room = if lines.len() == 1 { first } else { rest };
        let Some(line) = lines.last_mut() else { break };
        if line.is_empty() {
            line.push_str(word);
        } else if line.chars().count() + 1 + word.chars().count() <= room {
            line.push(' ');
            line.push_str(word);
        } else {
            lines.push(word.to_owned());
        }
    }
    lines
}

/// A time span in the unit that reads best: `0us`, `12us`, `1.5ms`, `3s`.
pub(super) fn span(d: Duration) -> String {
    let ns = d.as_nanos();
    let (unit, name) = match ns {
        0..1_000_000 => (1_000, "us"),
        1_000_000..1_000_000_000 => (1_000_000, "ms"),
        _ => (1_000_000_000, "s"),
    };
    let (whole, thousandths) = (ns / unit, ns % unit * 1000 / unit);
    match thousandths {
        0 => format!("{whole}{name}"),
        t => format!("{whole}.{}{name}", format!("{t:03}").trim_end_matches('0')),
    }
}
