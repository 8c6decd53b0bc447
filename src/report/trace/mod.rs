//! A walk's trace for people and for programs.
//!
//! [`text`] groups events by namespace hop, folds ARP and neighbour discovery to a line each and sets
//! the reply apart; colours are ANSI styles inside the text, which the edge strips where they are not
//! wanted. [`json`] is the versioned document of docs/json.md. Neither asks the world anything: events
//! are all they see.

mod fold;
mod json;
mod layout;
mod lines;

use crate::base::{FrameId, Instant};
use crate::path::{Disposition, Event, EventKind, Step};
use fold::Side;
use layout::Page;
use lines::endpoints;
use std::collections::{BTreeMap, BTreeSet};
use std::net::IpAddr;

pub use json::{VERSION, json};

/// How a trace is written.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Style {
    /// Show every frame of address resolution instead of one line a question.
    pub verbose: bool,
    /// Columns.
    pub width: usize,
}

impl Default for Style {
    fn default() -> Self {
        Style {
            verbose: false,
            width: 100,
        }
    }
}

/// The trace as text, with ANSI styles.
pub fn text(events: &[Event], style: Style) -> String {
    let side = if style.verbose {
        Side::default()
    } else {
        Side::find(events)
    };
    let mut w = Writer::new(events, style);
    for i in told_in_order(events) {
        let Some(e) = events.get(i) else { continue };
        if let Some(line) = side.line_at(i) {
            w.heading(e, false);
            w.page.aside(&line);
        }
        if !side.contains(e.frame) {
            w.event(e);
        }
    }
    w.page.finish()
}

/// Indexes of the events as they are told: how a rejected frame ended stands with the error it caused,
/// not behind the error's own way.
fn told_in_order(events: &[Event]) -> Vec<usize> {
    let mut order: Vec<usize> = (0..events.len()).collect();
    for (i, e) in events.iter().enumerate() {
        if !matches!(e.kind, EventKind::Step(Step::IcmpError { .. })) {
            continue;
        }
        let its_end = |x: &Event| {
            x.frame == e.frame && matches!(x.kind, EventKind::End(Disposition::Rejected { .. }))
        };
        let mut soon = events.iter().skip(i).take_while(|x| x.time == e.time);
        let Some(end) = soon.position(its_end).map(|n| i + n) else {
            continue;
        };
        let at = |index| order.iter().position(|o| *o == index);
        if let (Some(to), Some(from)) = (at(i), at(end)) {
            let moved = order.remove(from);
            order.insert(to + 1, moved);
        }
    }
    order
}

struct Writer {
    page: Page,
    begin: Instant,
    /// Namespace and direction of the present block.
    block: Option<(String, bool)>,
    now: Instant,
    /// Whether a frame goes back: the first packet's source and destination the other way round.
    replies: BTreeMap<FrameId, bool>,
    /// Show policies that let pass and had no rule before them.
    verbose: bool,
    /// Chains of which a rule was told since the last tap.
    told: BTreeSet<(String, String)>,
}

impl Writer {
    fn new(events: &[Event], style: Style) -> Self {
        let begin = events.first().map_or(Instant::ZERO, |e| e.time);
        let mut w = Writer {
            page: Page::new(style.width),
            begin,
            block: None,
            now: begin,
            replies: BTreeMap::new(),
            verbose: style.verbose,
            told: BTreeSet::new(),
        };
        w.directions(events);
        w
    }

    /// Which frames go back: known from their addresses, and for steps from the frame's other events.
    fn directions(&mut self, events: &[Event]) {
        let mut ways: BTreeMap<FrameId, (IpAddr, IpAddr)> = BTreeMap::new();
        for e in events.iter().filter(|e| !lines::is_resolution(&e.summary)) {
            if let Some(way) = endpoints(&e.summary) {
                ways.entry(e.frame).or_insert(way);
            }
        }
        // The first frame that has a way at all: it may be named only where it ends.
        let first = { events.iter() }.find_map(|e| Some((e.root, *ways.get(&e.frame)?)));
        let Some((root, (from, to))) = first else {
            return;
        };
        // What the request looked like on its way, translations included: an answer looks like that the
        // other way round.
        let there = { events.iter() }
            .filter(|e| e.root == root && !lines::is_resolution(&e.summary))
            .filter_map(|e| endpoints(&e.summary))
            .filter(|(_, dst)| *dst != from);
        let there: BTreeSet<(IpAddr, IpAddr)> = there.collect();
        let sender = |ip: IpAddr| there.iter().any(|(src, _)| *src == ip);
        let back = |(src, dst): (IpAddr, IpAddr)| {
            let plain = (src, dst) != (from, to) && (src == to || dst == from);
            plain || there.contains(&(dst, src)) || (sender(dst) && !sender(src))
        };
        self.replies = ways.into_iter().map(|(f, way)| (f, back(way))).collect();
    }

    fn is_reply(&self, e: &Event) -> bool {
        self.replies.get(&e.frame).copied().unwrap_or(false)
    }

    /// Begins a block when the namespace or the direction changes.
    fn heading(&mut self, e: &Event, reply: bool) {
        let was_reply = self.block.as_ref().is_some_and(|b| b.1);
        let same = self
            .block
            .as_ref()
            .is_some_and(|(ns, r)| *ns == e.ns_name && *r == reply);
        if !same {
            if reply && !was_reply {
                self.page.direction("reply");
            } else if !reply && was_reply {
                self.page.direction("forward");
            }
            self.page.heading(&e.ns_name, e.time.since(self.begin));
            self.block = Some((e.ns_name.clone(), reply));
            self.now = e.time;
        }
        if e.time != self.now {
            self.page.later(e.time.since(self.begin));
            self.now = e.time;
        }
    }

    /// Whether a step says nothing: an empty chain whose policy lets the packet pass.
    fn is_noise(&mut self, s: &Step) -> bool {
        match s {
            Step::Rule { at, .. } => {
                self.told.insert((at.table.to_string(), at.chain.clone()));
                false
            }
            Step::Policy { at, skipped: 0 } if at.text.to_ascii_uppercase().ends_with("ACCEPT") => {
                !self.verbose
                    && !self
                        .told
                        .contains(&(at.table.to_string(), at.chain.clone()))
            }
            _ => false,
        }
    }

    fn event(&mut self, e: &Event) {
        match &e.kind {
            EventKind::Tap(_) => self.told.clear(),
            EventKind::Step(s) if self.is_noise(s) => return,
            _ => {}
        }
        let reply = self.is_reply(e);
        self.heading(e, reply);
        match &e.kind {
            EventKind::Tap(dir) => self.page.tap(*dir, &e.dev_name, &e.summary),
            EventKind::Step(s) => {
                let line = lines::step(s);
                self.page.step(&line);
            }
            EventKind::End(how) => {
                let end = lines::end(how, &e.dev_name);
                self.page.end(&end);
            }
        }
    }
}
