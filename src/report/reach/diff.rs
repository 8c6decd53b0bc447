//! What a change opens and closes: a line for each pair of groups and port, with how many pairs of ends and
//! the policies before and after.

use core::fmt::Write;

use super::table::{BOLD, DIM, GREEN, RED, YELLOW};
use super::words::why;
use super::{Shown, words};
use crate::kube::policy::reach::port_text;

/// One line.
pub(super) struct Change {
    /// Row, column and the port's place.
    pub(super) cell: (usize, usize, usize),
    /// The port, as `80/TCP`.
    pub(super) port: String,
    /// Pairs asked.
    pub(super) pairs: u64,
    /// Pairs open before and after.
    pub(super) open: [u64; 2],
    /// Pairs that open, and that close.
    pub(super) change: (u64, u64),
}

/// Every change, in the order of rows, columns and ports; and all pairs asked.
pub(super) fn changes(shown: &Shown<'_>) -> (Vec<Change>, u64) {
    let (mut out, mut asked) = (Vec::new(), 0);
    for &from in &shown.reach.rows {
        for &to in &shown.reach.columns {
            for (at, port) in shown.reach.cell(from, to).into_iter().enumerate() {
                asked += port.pairs;
                let change = port.change();
                if change != (0, 0) {
                    let open = |state: usize| port.open.get(state).copied().unwrap_or_default();
                    out.push(Change {
                        cell: (from, to, at),
                        port: port_text(&port.l4),
                        pairs: port.pairs,
                        open: [open(0), open(1)],
                        change,
                    });
                }
            }
        }
    }
    (out, asked)
}

/// Whether anything differs.
impl Shown<'_> {
    /// Whether a change opens or closes anything; without a change, whether path and policies differ.
    pub fn differs(&self) -> bool {
        match self.is_change() {
            true => !changes(self).0.is_empty(),
            false => self.paths.is_some_and(|p| !p.differ.is_empty()),
        }
    }
}

/// The text.
pub(super) fn text(shown: &Shown<'_>) -> String {
    let mut out = String::new();
    let (all, asked) = changes(shown);
    let sum = |of: fn(&Change) -> u64| all.iter().map(of).sum::<u64>();
    let (opened, closed) = (sum(|c| c.change.0), sum(|c| c.change.1));
    let _ = writeln!(out, "{BOLD}What changes by policy: {}{BOLD:#}", shown.title);
    let _ = writeln!(out, "{}", shown.summary());
    let _ = writeln!(
        out,
        "of {asked} pairs of ends and ports {RED}{opened} open{RED:#} and {YELLOW}{closed} close{YELLOW:#}"
    );
    let mut part = |opens: bool| {
        let fits = |c: &&Change| {
            if opens {
                c.change.0 > 0
            } else {
                c.change.1 > 0
            }
        };
        let mut lines = all.iter().filter(fits).peekable();
        if lines.peek().is_none() {
            return;
        }
        let (style, word) = if opens {
            (RED, "opened")
        } else {
            (YELLOW, "closed")
        };
        let _ = writeln!(out, "\n{style}{word}{style:#}");
        for change in lines {
            line(&mut out, shown, change, opens);
        }
    };
    part(true);
    part(false);
    if all.is_empty() {
        let _ = writeln!(out, "\n{GREEN}nothing opens and nothing closes{GREEN:#}");
    }
    let gone = membership(shown);
    if !gone.is_empty() {
        let _ = writeln!(out, "\n{gone}");
    }
    out
}

fn line(out: &mut String, shown: &Shown<'_>, change: &Change, opens: bool) {
    let (from, to, _) = change.cell;
    let name = |group: usize| {
        let group = shown.reach.groups.get(group);
        group.map_or_else(String::new, |g| match g.count {
            1 => g.name.clone(),
            n => format!("{} ×{n}", g.name),
        })
    };
    let count = if opens {
        change.change.0
    } else {
        change.change.1
    };
    let pairs = match (count, change.pairs) {
        (1, 1) => "1 pair".to_owned(),
        (n, all) if n == all => format!("{n} pairs"),
        (n, all) => format!("{n} of {all} pairs"),
    };
    let _ = writeln!(
        out,
        "  {} -> {} {}  {pairs}",
        name(from),
        name(to),
        change.port
    );
    let before = why(shown.reach, change.cell, 0, true);
    let after = why(shown.reach, change.cell, 1, true);
    let _ = writeln!(out, "    {DIM}before{DIM:#} {before}");
    let _ = writeln!(out, "    {DIM}after{DIM:#}  {after}");
}

/// Who came and who went.
fn membership(shown: &Shown<'_>) -> String {
    let pods = shown.reach.groups.iter().flat_map(|g| &g.pods);
    let (mut came, mut went) = (Vec::new(), Vec::new());
    for member in pods {
        match member.names.as_slice() {
            [None, Some(name)] => came.push(name.to_string()),
            [Some(name), None] => went.push(name.to_string()),
            _ => {}
        }
    }
    let mut parts = Vec::new();
    for (names, word) in [(came, "new"), (went, "gone")] {
        if !names.is_empty() {
            parts.push(format!("{word} pods: {}", words::list(&names)));
        }
    }
    parts.join("\n")
}
