//! Address resolution folded: all frames that ask one question in one namespace become one line.

use super::layout::span;
use super::lines::{answer, is_resolution, question};
use crate::base::{FrameId, Instant};
use crate::path::{Direction, Event, EventKind};
use std::collections::{BTreeMap, BTreeSet};
use std::net::IpAddr;

/// One question and what became of it.
#[derive(Clone, Debug)]
struct Asked {
    at: usize,
    first: Instant,
    last: Instant,
    times: usize,
    answered: Option<Instant>,
}

/// The frames left out and the lines in their place.
#[derive(Clone, Debug, Default)]
pub(super) struct Side {
    frames: BTreeSet<FrameId>,
    lines: BTreeMap<usize, String>,
}

impl Side {
    /// Finds all of them.
    pub fn find(events: &[Event]) -> Self {
        let mut side = Side::default();
        let mut open: BTreeMap<(String, IpAddr), Asked> = BTreeMap::new();
        let mut done: Vec<(IpAddr, Asked)> = Vec::new();
        for (i, e) in events
            .iter()
            .enumerate()
            .filter(|(_, e)| is_resolution(&e.summary))
        {
            // A bridge's copy of a question, or one passed on, is no new question.
            let known = side.frames.contains(&e.frame)
                || e.parent.is_some_and(|p| side.frames.contains(&p));
            side.frames.insert(e.frame);
            let EventKind::Tap(dir) = e.kind else {
                continue;
            };
            if let Some(ip) = question(&e.summary)
                && !known
                && dir == Direction::Out
            {
                let new = Asked {
                    at: i,
                    first: e.time,
                    last: e.time,
                    times: 0,
                    answered: None,
                };
                let a = open.entry((e.ns_name.clone(), ip)).or_insert(new);
                (a.last, a.times) = (e.time, a.times + 1);
            }
            if let Some(ip) = answer(&e.summary)
                && dir == Direction::In
                && let Some(mut a) = open.remove(&(e.ns_name.clone(), ip))
            {
                a.answered = Some(e.time);
                done.push((ip, a));
            }
        }
        done.extend(open.into_iter().map(|((_, ip), a)| (ip, a)));
        side.lines = done
            .into_iter()
            .map(|(ip, a)| (a.at, told(ip, &a)))
            .collect();
        side
    }

    /// Whether a frame is one of them.
    pub fn contains(&self, f: FrameId) -> bool {
        self.frames.contains(&f)
    }

    /// The line to write before event `i`.
    pub fn line_at(&self, i: usize) -> Option<String> {
        self.lines.get(&i).cloned()
    }
}

fn told(ip: IpAddr, a: &Asked) -> String {
    let how = if ip.is_ipv4() { "ARP" } else { "ND" };
    let times = if a.times > 1 {
        format!(" ({} times)", a.times)
    } else {
        String::new()
    };
    match a.answered {
        Some(t) => format!(
            "{how} who-has {ip}{times}: answered in {}",
            span(t.since(a.first))
        ),
        None => {
            let over = a.last.since(a.first);
            let over = if over.is_zero() {
                String::new()
            } else {
                format!(" over {}", span(over))
            };
            format!("{how} who-has {ip}{times}: no answer{over}")
        }
    }
}
