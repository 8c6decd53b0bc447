//! Where a probe was decided: the end of a frame's way that explains what the client saw.
//!
//! Chosen by causality, never by guessing at configuration: only frames of the probe's own exchange count,
//! and the last one that was dropped or rejected decides. Invariant: an `ok` names where the request arrived.

use super::client::{ClientEnd, ClientState};
use super::lineage::Lineage;
use super::world::Lab;
use crate::base::{DevId, FrameId, Instant, NsId, limits};
use crate::endpoint::Outcome;
use crate::path::{Direction, Disposition, DropReason, Observer, Place, Step};
use crate::wire::Frame;
use std::collections::{BTreeSet, VecDeque};

/// To which half of an exchange a frame belongs.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Debug)]
pub enum Way {
    /// A packet the client sent, or what the kernel made of it (ARP, ICMP about it).
    Forward,
    /// What was sent in answer.
    Reply,
}

/// The end of one frame's way.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Hop {
    /// When.
    pub time: Instant,
    /// In which namespace.
    pub ns: NsId,
    /// Its name.
    pub ns_name: String,
    /// At which device, where one is meant.
    pub dev: Option<DevId>,
    /// Its name, empty without one.
    pub device: String,
    /// Which frame.
    pub frame: FrameId,
    /// The frame it descends from.
    pub root: FrameId,
    /// Which half of the exchange.
    pub way: Way,
    /// How it ended.
    pub how: Disposition,
}

/// Keeps the ends of ways, before it is known whose frames they are.
#[derive(Debug, Default)]
pub(super) struct Ends {
    fresh: Vec<Hop>,
    kept: VecDeque<Hop>,
}

impl Observer for Ends {
    const TRACING: bool = false;
    fn tap(&mut self, _: Place<'_>, _: Direction, _: &Frame) {}
    fn step(&mut self, _: Place<'_>, _: &Frame, _: Step) {}
    fn end(&mut self, at: Place<'_>, frame: &Frame, how: &Disposition) {
        self.fresh.push(Hop {
            time: at.now,
            ns: at.ns.id,
            ns_name: at.ns.name.clone(),
            dev: at.dev,
            device: at.dev_name().to_owned(),
            frame: frame.id,
            root: frame.root,
            way: Way::Forward,
            how: how.clone(),
        });
    }
}

impl Ends {
    /// Keeps those of the present clients' exchanges and throws the others away.
    pub(super) fn sort(&mut self, lab: &Lab, clients: &BTreeSet<super::ClientRef>) {
        for hop in self.fresh.drain(..) {
            if lab
                .client_of(hop.root)
                .is_some_and(|c| clients.contains(&c))
            {
                if self.kept.len() >= limits::LAB_ENDS_MAX {
                    self.kept.pop_front();
                }
                self.kept.push_back(hop);
            }
        }
    }

    /// The end that explains how a client ended.
    pub(super) fn decisive(&self, lab: &Lab, r: super::ClientRef, c: &ClientState) -> Option<Hop> {
        let end = c.end?;
        // The kernel's echo reply descends from the request's frame: what ends after the request is its.
        let mut echoed = BTreeSet::new();
        let own: Vec<(&Hop, Way)> = self
            .kept
            .iter()
            .filter_map(|h| {
                let l = lab.lineage(h.root).filter(|l| l.client == Some(r))?;
                let reply = echoed.contains(&h.root);
                if matches!(h.how, Disposition::Consumed("echo request")) {
                    echoed.insert(h.root);
                }
                Some((h, if reply { Way::Reply } else { way(l, c) }))
            })
            .collect();
        let (hop, way) = choose(&own, &end)?;
        Some(Hop { way, ..hop.clone() })
    }
}

fn way(l: &Lineage, c: &ClientState) -> Way {
    match l.ns == c.ns && l.tuple == Some(c.tuple) {
        true => Way::Forward,
        false => Way::Reply,
    }
}

fn choose<'a>(ends: &[(&'a Hop, Way)], end: &ClientEnd) -> Option<(&'a Hop, Way)> {
    let last = |f: &dyn Fn(&Hop, Way) -> bool| ends.iter().rev().find(|(h, w)| f(h, *w)).copied();
    let arrived = |h: &Hop, w: Way| {
        w == Way::Forward
            && matches!(
                h.how,
                Disposition::Delivered(_) | Disposition::Consumed("echo request")
            )
    };
    if end.outcome == Outcome::Ok {
        return last(&arrived);
    }
    let told = |h: &Hop, _: Way| match (&h.how, end.icmp) {
        (Disposition::Rejected { icmp, .. }, Some(seen)) => {
            (icmp.typ, icmp.code) == (seen.typ, seen.code)
        }
        _ => false,
    };
    let bad = |h: &Hop, _: Way| {
        matches!(
            h.how,
            Disposition::Dropped { .. }
                | Disposition::Rejected { .. }
                | Disposition::Loop
                | Disposition::LeftTheCluster
                | Disposition::Unknown { .. }
        )
    };
    last(&told)
        .or_else(|| last(&|h, w| bad(h, w) && !by_the_way(h)))
        .or_else(|| last(&bad))
        .or_else(|| last(&arrived))
}

/// Drops that happen to copies of healthy frames, too: a flooded frame at those it is not for.
fn by_the_way(h: &Hop) -> bool {
    use DropReason::*;
    match h.how {
        Disposition::Dropped { reason, .. } => matches!(
            reason,
            OtherHost
                | ArpIgnored
                | NdIgnored
                | NoFloodPort
                | GroupNotJoined
                | IcmpIgnored
                | FragmentDuplicate
        ),
        _ => false,
    }
}
