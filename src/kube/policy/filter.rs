//! The compiled answer to a packet: two address lookups, then rules in order, each a few comparisons.
//!
//! Allocates nothing. Shares no step with the evaluator ([`super::eval`]); tests hold one against the
//! other, reason by reason.

use std::net::IpAddr;
use std::sync::Arc;

use super::compile::{Compiled, Entry, EntryPeers, EntryPorts, Filter, Holder};
use super::identity::{Identity, IdentityId};
use super::model::{Action, Direction, PolicyKey};
use super::verdict::{BaselineScope, BlockScope, Hairpin, L4, Query, Side, Why};

/// Why a side is as it is. As [`Why`], borrowed.
#[derive(Clone, Copy, Debug)]
pub enum Reason<'c> {
    /// No pod is at this end.
    NoPod,
    /// The pod speaks to itself.
    Itself,
    /// The other end is the pod's node.
    ResidentNode(&'c str),
    /// This rule decided.
    Rule(&'c Entry),
    /// These isolate the pod and no rule of theirs matches.
    Isolated(&'c [Arc<PolicyKey>]),
    /// Nothing decided.
    Open,
}

/// The answer of one end.
#[derive(Clone, Copy, Debug)]
pub struct Answer<'c> {
    /// Whether the packet may go.
    pub allowed: bool,
    /// Why.
    pub why: Reason<'c>,
    /// The rules of the Admin and the Baseline tier that passed it on.
    pub passed: [Option<&'c Entry>; 2],
}

impl Answer<'_> {
    /// The answer with its reasons owned.
    pub fn to_side(&self) -> Side {
        let why = match self.why {
            Reason::NoPod => Why::NoPod,
            Reason::Itself => Why::Itself,
            Reason::ResidentNode(node) => Why::ResidentNode(node.to_owned()),
            Reason::Rule(entry) => Why::Rule(entry.reference()),
            Reason::Isolated(list) => Why::Isolated(list.iter().map(|k| (**k).clone()).collect()),
            Reason::Open => Why::Open,
        };
        Side {
            allowed: self.allowed,
            why,
            passed: self
                .passed
                .iter()
                .flatten()
                .map(|e| e.reference())
                .collect(),
        }
    }
}

/// The other end of a packet, looked up.
#[derive(Clone, Copy)]
pub(super) struct Other<'q> {
    pub(super) ip: IpAddr,
    pub(super) holder: Option<Holder>,
    pub(super) names: &'q [&'q str],
}

impl Compiled {
    /// Whether a connection may open.
    pub fn allows(&self, query: &Query<'_>) -> bool {
        self.side(query, Direction::Egress).allowed && self.side(query, Direction::Ingress).allowed
    }

    /// One end's answer.
    pub fn side(&self, query: &Query<'_>, direction: Direction) -> Answer<'_> {
        let said = |why| Answer {
            allowed: true,
            why,
            passed: [None; 2],
        };
        let Some(Holder::Pod {
            identity,
            node,
            serial,
        }) = self.holders.get(&query.own(direction)).copied()
        else {
            return said(Reason::NoPod);
        };
        let ip = query.peer(direction);
        let other = Other {
            ip,
            holder: self.holders.get(&ip).copied(),
            names: query.names,
        };
        match other.holder {
            Some(Holder::Pod { serial: same, .. })
                if same == serial && (!query.hairpin || self.options.hairpin == Hairpin::Open) =>
            {
                return said(Reason::Itself);
            }
            Some(Holder::Node(own)) if own == node && self.options.opens_own_node(direction) => {
                return said(Reason::ResidentNode(self.node_name(own)));
            }
            _ => {}
        }
        let to = match (direction, other.holder) {
            (Direction::Egress, Some(Holder::Pod { identity, .. })) => Some(identity),
            (Direction::Egress, _) => None,
            (Direction::Ingress, _) => Some(identity),
        };
        self.judge(identity, direction, &other, query.l4, to)
    }

    /// What the filter of an identity says. `to` is the destination's identity.
    pub(super) fn judge(
        &self,
        identity: IdentityId,
        direction: Direction,
        other: &Other<'_>,
        l4: L4,
        to: Option<IdentityId>,
    ) -> Answer<'_> {
        let mut passed = [None; 2];
        let Some(filter) = self.filter(identity, direction) else {
            let why = Reason::Open;
            return Answer {
                allowed: true,
                why,
                passed,
            };
        };
        let to = to.and_then(|id| self.identities.get(id));
        let (allowed, why) = self.tiers(filter, &mut passed, |entry| {
            self.port_fits(&entry.ports, l4, to) && self.peer_fits(&entry.peers, other)
        });
        Answer {
            allowed,
            why,
            passed,
        }
    }

    fn tiers<'c>(
        &self,
        filter: &'c Filter,
        passed: &mut [Option<&'c Entry>; 2],
        fits: impl Fn(&Entry) -> bool,
    ) -> (bool, Reason<'c>) {
        let first = |list: &'c [Arc<Entry>]| list.iter().map(|e| &**e).find(|e| fits(e));
        let [admin_passed, baseline_passed] = passed;
        match first(&filter.admin) {
            Some(entry) if entry.action == Action::Pass => *admin_passed = Some(entry),
            Some(entry) => return (entry.action == Action::Accept, Reason::Rule(entry)),
            None => {}
        }
        if !filter.isolating.is_empty() {
            return match first(&filter.allows) {
                Some(entry) => (true, Reason::Rule(entry)),
                None => (false, Reason::Isolated(&filter.isolating)),
            };
        }
        if self.options.baseline == BaselineScope::PerPod && filter.selected {
            return (true, Reason::Open);
        }
        match first(&filter.baseline) {
            Some(entry) if entry.action == Action::Pass => *baseline_passed = Some(entry),
            Some(entry) => return (entry.action == Action::Accept, Reason::Rule(entry)),
            None => {}
        }
        (true, Reason::Open)
    }

    fn port_fits(&self, ports: &EntryPorts, l4: L4, to: Option<&Identity>) -> bool {
        if ports.all {
            return true;
        }
        let L4::Port(protocol, number) = l4 else {
            return false;
        };
        if has_port(&ports.ranges, protocol, number) {
            return true;
        }
        let Some(to) = to.filter(|_| !ports.named.is_empty()) else {
            return false;
        };
        let mut here = to.ports.iter();
        here.any(|port| {
            let named = |(name, own): &(String, Option<_>)| {
                *name == port.name && own.is_none_or(|own| own == port.protocol)
            };
            port.protocol == protocol && port.number == number && ports.named.iter().any(named)
        })
    }

    fn peer_fits(&self, peers: &EntryPeers, other: &Other<'_>) -> bool {
        if peers.any {
            return true;
        }
        let by_holder = match other.holder {
            Some(Holder::Pod { identity, .. }) => {
                peers.sets.iter().any(|set| self.sets.has(*set, identity))
            }
            Some(Holder::Node(node)) => peers.nodes.has(node.0),
            None => false,
        };
        by_holder
            || (!peers.blocks.is_empty()
                && self.in_blocks_scope(other.holder)
                && peers.blocks.contains(other.ip))
            || peers
                .domains
                .iter()
                .any(|domain| other.names.iter().any(|name| domain.covers(name)))
    }

    fn in_blocks_scope(&self, holder: Option<Holder>) -> bool {
        match self.options.blocks {
            BlockScope::Every => true,
            BlockScope::NotPods => !matches!(holder, Some(Holder::Pod { .. })),
            BlockScope::Outside => holder.is_none(),
        }
    }
}

/// Whether one of the ranges has the port.
pub(super) fn has_port(
    ranges: &[(super::Protocol, u16, u16)],
    protocol: super::Protocol,
    number: u16,
) -> bool {
    ranges
        .iter()
        .any(|(own, first, last)| *own == protocol && (*first..=*last).contains(&number))
}
