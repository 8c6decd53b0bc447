//! One probe's way over the picture, from its trace: where the request went, and where the answer.
//!
//! Of many packets the one that explains the outcome is taken: the first that came to a bad end, else the
//! first that arrived. Address resolution and flooded copies are not ways.

use crate::base::{DevId, FrameId, NsId};
use crate::cluster::Cluster;
use crate::path::{Disposition, DropReason, Event, EventKind};
use std::collections::{BTreeMap, BTreeSet};
use std::net::{IpAddr, SocketAddr};

/// A place the packet passed.
#[derive(Clone, PartialEq, Eq, Debug)]
pub(super) struct Stop {
    pub ns: NsId,
    pub dev: Option<DevId>,
}

/// One direction.
#[derive(Clone, PartialEq, Eq, Debug)]
pub(super) struct Leg {
    pub reply: bool,
    pub stops: Vec<Stop>,
    /// Why it ended badly at the last stop: by name, and in words.
    pub failed: Option<(String, String)>,
}

type Pair = (IpAddr, IpAddr);

/// The innermost packet's source and destination, of a frame's one-line summary (`wire::print`).
fn endpoints(summary: &str) -> Option<Pair> {
    let inner = summary.rsplit(" | ").next()?;
    let (left, right) = inner.split_once(" > ")?;
    let host = |w: &str| {
        let plain = w.parse().ok();
        plain.or_else(|| w.parse::<SocketAddr>().ok().map(|s| s.ip()))
    };
    Some((
        host(left.rsplit(' ').next()?)?,
        host(right.split([' ', ',']).next()?)?,
    ))
}

/// ARP and neighbour discovery: how a way is found, not a way.
fn is_resolution(summary: &str) -> bool {
    summary.starts_with("ARP ")
        || (summary.starts_with("ICMPv6 ")
            && [" who has ", " tgt is "]
                .iter()
                .any(|w| summary.contains(w)))
}

/// Why an end is a bad one. Copies of a flooded frame that nobody wanted are not.
fn failure(how: &Disposition) -> Option<(String, String)> {
    use DropReason::*;
    let told = |r: &DropReason| Some((r.name(), r.text().to_owned()));
    match how {
        Disposition::Dropped { reason, .. } => match reason {
            OtherHost | ArpIgnored | NdIgnored | NoFloodPort | GroupNotJoined | IcmpIgnored
            | FragmentDuplicate => None,
            r => told(r),
        },
        Disposition::Rejected { reason, .. } => told(reason),
        Disposition::Loop => Some(("loop".into(), "it went round: too many devices".into())),
        Disposition::Unknown { origin } => Some(("depends".into(), format!("depends on {origin}"))),
        Disposition::Delivered(_) | Disposition::LeftTheCluster | Disposition::Consumed(_) => None,
    }
}

fn arrived(how: &Disposition) -> bool {
    match how {
        Disposition::Delivered(_) | Disposition::LeftTheCluster => true,
        Disposition::Consumed(what) => what.contains("echo"),
        _ => false,
    }
}

struct Ways<'a> {
    events: &'a [Event],
    pairs: BTreeMap<FrameId, Pair>,
    resolving: BTreeSet<FrameId>,
}

impl Ways<'_> {
    fn pair(&self, f: FrameId) -> Option<Pair> {
        let p = self.pairs.get(&f).copied();
        p.filter(|_| !self.resolving.contains(&f))
    }

    /// The first end from `after` on that `wanted` accepts.
    fn end(&self, after: usize, wanted: impl Fn(Pair, &Disposition) -> bool) -> Option<usize> {
        let mut rest = self.events.iter().enumerate().skip(after);
        let found = rest.find(|(_, e)| match &e.kind {
            EventKind::End(how) => self.pair(e.frame).is_some_and(|p| wanted(p, how)),
            _ => false,
        });
        found.map(|(i, _)| i)
    }

    /// The frame that ended at event `at` and those it was copied from, the same way round.
    fn leg(&self, at: usize, reply: bool, c: &Cluster) -> Option<Leg> {
        let last = self.events.get(at)?;
        let way = self.pair(last.frame)?;
        let mut chain: BTreeMap<FrameId, usize> = BTreeMap::new();
        let (mut next, mut until) = (Some(last.frame), at);
        while let Some(f) = next {
            let first = self.events.iter().position(|e| e.frame == f);
            let (Some(first), true) = (first, self.pair(f) == Some(way)) else {
                break;
            };
            if chain.insert(f, until).is_some() {
                break;
            }
            next = self.events.get(first).and_then(|e| e.parent);
            until = first;
        }
        let mut stops: Vec<Stop> = Vec::new();
        for (i, e) in self.events.iter().enumerate().take(at + 1) {
            let ours = chain.get(&e.frame).is_some_and(|u| i <= *u);
            if !ours || matches!(e.kind, EventKind::Step(_)) {
                continue;
            }
            let stop = Stop {
                ns: e.ns,
                dev: e.dev,
            };
            if stops.last() != Some(&stop) {
                stops.push(stop);
            }
        }
        // A packet that was dropped before any device had it began where its first step was taken.
        let start = self.events.iter().find(|e| e.frame == last.frame)?;
        if stops.first().is_some_and(|s| s.ns != start.ns) && last.parent.is_none() {
            stops.insert(
                0,
                Stop {
                    ns: start.ns,
                    dev: start.dev,
                },
            );
        }
        stops.retain(|s| c.lab.world.ns(s.ns).is_some());
        let failed = match &last.kind {
            EventKind::End(how) => failure(how),
            _ => None,
        };
        Some(Leg {
            reply,
            stops,
            failed,
        })
    }
}

/// The ways of a trace: there, and back if anything came back.
pub(super) fn legs(events: &[Event], c: &Cluster) -> Vec<Leg> {
    let mut w = Ways {
        events,
        pairs: BTreeMap::new(),
        resolving: BTreeSet::new(),
    };
    for e in events.iter().filter(|e| !e.summary.is_empty()) {
        if is_resolution(&e.summary) {
            w.resolving.insert(e.frame);
        } else if let Some(p) = endpoints(&e.summary) {
            w.pairs.entry(e.frame).or_insert(p);
        }
    }
    let Some((from, to)) = events.iter().find_map(|e| w.pair(e.frame)) else {
        return Vec::new();
    };
    let there = |p: Pair| p == (from, to);
    let back = |p: Pair| p.1 == from && p.0 != from;
    let bad = w.end(0, |p, d| there(p) && failure(d).is_some());
    let good = |d: &Disposition| arrived(d);
    let forward = bad.or_else(|| w.end(0, |p, d| there(p) && good(d)));
    let Some(forward) = forward else {
        return Vec::new();
    };
    let reply = w
        .end(0, |p, d| back(p) && failure(d).is_some())
        .or_else(|| w.end(forward, |p, d| back(p) && good(d)))
        // Errors are told to whoever sent the frame: they end in its kernel.
        .or_else(|| {
            w.end(forward, |p, d| {
                back(p) && matches!(d, Disposition::Consumed(_))
            })
        });
    let mut out: Vec<Leg> = w.leg(forward, false, c).into_iter().collect();
    out.extend(reply.and_then(|at| w.leg(at, true, c)));
    out
}
