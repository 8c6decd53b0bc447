//! Where a probe was decided: the end of a frame's way that explains what the client saw.
//!
//! Chosen by causality, never by guessing at configuration: only frames of the probe's own exchange count,
//! and the last one that was dropped or rejected decides. Invariant: an `ok` names where the request arrived.

use super::client::{ClientEnd, ClientState};
use super::lineage::Lineage;
use super::world::Lab;
use crate::base::{DevId, FrameId, Instant, NsId, limits};
use crate::endpoint::Outcome;
use crate::path::{Direction, Disposition, DropReason, Observer, Place};
use crate::wire::{Frame, IpHeader, proto};
use std::collections::{BTreeMap, BTreeSet, VecDeque};
use std::net::IpAddr;

/// To which half of an exchange a frame belongs.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Debug)]
pub enum Way {
    /// A packet the client sent, and the ARP or ND it needed.
    Forward,
    /// What was sent in answer: by a server, or by a kernel (RST, ICMP, echo reply).
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
    /// Each frame as it was first seen: before any tunnel, and before most translations.
    born: BTreeMap<FrameId, Born>,
}

/// A frame's addresses and protocol when it was first seen.
#[derive(Clone, Copy, Debug)]
struct Born {
    src: IpAddr,
    dst: IpAddr,
    proto: u8,
}

impl Ends {
    fn meet(&mut self, frame: &Frame) {
        if self.born.contains_key(&frame.id) {
            return;
        }
        if let Ok(h) = IpHeader::parse_lax(frame.l3()) {
            if self.born.len() >= limits::LAB_ENDS_MAX {
                self.born.pop_first();
            }
            let (src, dst, proto) = (h.src, h.dst, h.proto);
            self.born.insert(frame.id, Born { src, dst, proto });
        }
    }
}

impl Observer for Ends {
    const TRACING: bool = false;
    fn tap(&mut self, _: Place<'_>, _: Direction, frame: &Frame) {
        self.meet(frame);
    }
    fn end(&mut self, at: Place<'_>, frame: &Frame, how: &Disposition) {
        self.meet(frame);
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
        let own: Vec<(&Hop, Way)> = self
            .kept
            .iter()
            .filter_map(|h| {
                let l = lab.lineage(h.root).filter(|l| l.client == Some(r))?;
                Some((h, way(l, c, h, self.born.get(&h.frame))))
            })
            .collect();
        let (hop, way) = choose(&own, &end, c.tuple.proto)?;
        Some(Hop { way, ..hop.clone() })
    }
}

/// The frame the client's socket sent is forward, however OUTPUT and POSTROUTING translated it before anyone
/// saw it, and so are copies of it; what a kernel sent because of it is an answer.
fn way(l: &Lineage, c: &ClientState, h: &Hop, born: Option<&Born>) -> Way {
    let clients = l.ns == c.ns && l.tuple == Some(c.tuple);
    let own = |b: &Born| {
        let told = matches!(b.proto, proto::ICMP | proto::ICMPV6) && b.proto != c.tuple.proto;
        b.src == c.tuple.src || (b.dst != c.tuple.src && !told)
    };
    match clients && (h.frame == h.root || born.is_none_or(own)) {
        true => Way::Forward,
        false => Way::Reply,
    }
}

fn choose<'a>(ends: &[(&'a Hop, Way)], end: &ClientEnd, protocol: u8) -> Option<(&'a Hop, Way)> {
    let last = |f: &dyn Fn(&Hop, Way) -> bool| ends.iter().rev().find(|(h, w)| f(h, *w)).copied();
    let echo = matches!(protocol, proto::ICMP | proto::ICMPV6);
    let arrived = |h: &Hop, w: Way| match h.how {
        Disposition::Consumed("echo request") => echo,
        Disposition::Delivered(_) => !echo && w == Way::Forward,
        _ => false,
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
    // An answer that was lost itself, before what a kernel sent because of it (a RST to whoever answered
    // from a wrong address) and lost, too. The RST that a lost request caused is the answer.
    let cause = || {
        let lost = |h: &Hop, w: Way| bad(h, w) && !by_the_way(h);
        let late = last(&lost)?;
        let own = |h: &Hop, w| h.frame == h.root && h.root == late.0.root && w == Way::Reply;
        last(&|h, w| lost(h, w) && own(h, w)).or(Some(late))
    };
    last(&told)
        .or_else(cause)
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
