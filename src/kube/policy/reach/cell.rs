//! What a pair of groups may do: for each port of the destination how many pairs of ends, and why.
//!
//! Ends of a group behave alike, so a cell is one question times the number of pairs. What policies do not
//! judge is counted apart: a pod and its own node always reach each other, a pod itself is no pair. Between
//! two ends without policies (nodes, addresses outside) nothing is asked.

use super::super::model::Direction;
use super::super::verdict::{Decision, L4, Side, Why};
use super::judge::Spot;
use super::{Group, Kind, Reach, service};

/// One port of a cell.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct PortCell {
    /// The port.
    pub l4: L4,
    /// Pairs of different ends; for a Service, of a sender and an endpoint, in the state with the most, and
    /// one where it has none.
    pub pairs: u64,
    /// How many may open a connection, in each state.
    pub open: Vec<u64>,
}

impl PortCell {
    /// Pairs that are open in the second state and were not in the first, and the other way round.
    pub fn change(&self) -> (u64, u64) {
        match self.open.as_slice() {
            [before, after] => (after.saturating_sub(*before), before.saturating_sub(*after)),
            _ => (0, 0),
        }
    }
}

/// A cell at a glance.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Debug)]
pub enum Seen {
    /// There is no pair, or none that policies are about.
    Nothing,
    /// Every port, for every pair.
    Open,
    /// Some ports, or some pairs.
    Partly,
    /// No port.
    Closed,
}

impl Seen {
    /// Of a state's cell.
    pub fn of(ports: &[PortCell], state: usize) -> Seen {
        let pairs: u64 = ports.iter().map(|p| p.pairs).sum();
        let open: u64 = ports.iter().filter_map(|p| p.open.get(state)).sum();
        match (pairs, open) {
            (0, _) => Seen::Nothing,
            (_, 0) => Seen::Closed,
            (pairs, open) if open >= pairs => Seen::Open,
            _ => Seen::Partly,
        }
    }

    /// A word for it.
    pub fn word(self) -> &'static str {
        match self {
            Seen::Nothing => "none",
            Seen::Open => "open",
            Seen::Partly => "partly",
            Seen::Closed => "closed",
        }
    }
}

/// Whether policies are about a pair.
pub(super) fn is_asked(from: &Group, to: &Group) -> bool {
    match (from.kind, to.kind) {
        (Kind::Service, _) => false,
        (Kind::Pods, _) | (_, Kind::Pods) => true,
        (Kind::Nodes, Kind::Service) => true,
        _ => false,
    }
}

impl Reach<'_> {
    /// A cell, by numbers of groups: one entry for each port of the destination.
    pub fn cell(&self, from: usize, to: usize) -> Vec<PortCell> {
        let (Some(a), Some(b)) = (self.groups.get(from), self.groups.get(to)) else {
            return Vec::new();
        };
        if !is_asked(a, b) || !a.sends || !b.receives {
            return Vec::new();
        }
        let mut ends = a.count.saturating_mul(b.count);
        if from == to {
            ends -= a.count;
        }
        let ports = b.ports.iter().enumerate();
        ports
            .map(|(at, l4)| {
                let shares: Vec<(u64, u64)> = (0..self.states.len())
                    .map(|s| self.share(a, b, at, s))
                    .collect();
                // Without an endpoint there is one way to go wrong.
                let whole = shares.iter().map(|s| s.1).max().unwrap_or(1).max(1);
                let open = shares.iter().zip(0..).map(|((open, _), state)| match open {
                    0 => self.resident(a, b, state),
                    open => ends.saturating_mul(*open),
                });
                PortCell {
                    l4: *l4,
                    pairs: ends.saturating_mul(whole),
                    open: open.collect(),
                }
            })
            .collect()
    }

    /// How many of how many ways of one pair are open: 1 of 1, but for Services an endpoint each.
    pub(super) fn share(&self, a: &Group, b: &Group, port: usize, state: usize) -> (u64, u64) {
        let spots = (a.spots.get(state), b.spots.get(state));
        let (Some(from), Some(to), Some(judge)) = (spots.0, spots.1, self.judges.get(state)) else {
            return (0, 1);
        };
        if b.kind == Kind::Service {
            let ways = service::ways_of(self, a, b, port, state);
            let open = ways.iter().filter(|way| self.allows_way(way, state));
            return (open.count() as u64, ways.len() as u64);
        }
        let l4 = b.ports.get(port).copied().unwrap_or(L4::Other);
        (u64::from(judge.allows(*from, *to, l4)), 1)
    }

    /// Pairs of a pod and its own node.
    fn resident(&self, a: &Group, b: &Group, state: usize) -> u64 {
        let (pods, nodes) = match (a.kind, b.kind) {
            (Kind::Pods, Kind::Nodes) => (a, b),
            (Kind::Nodes, Kind::Pods) => (b, a),
            _ => return 0,
        };
        let (Some(placed), Some(judge)) = (pods.placed.get(state), self.judges.get(state)) else {
            return 0;
        };
        let direction = match a.kind {
            Kind::Pods => Direction::Egress,
            _ => Direction::Ingress,
        };
        if !judge.options.opens_own_node(direction) {
            return 0;
        }
        let here = nodes.nodes.iter().filter_map(|node| placed.get(node));
        here.sum()
    }

    /// Why a port of a cell is as it is in a state: one answer, but for Services each different one.
    pub fn why(&self, from: usize, to: usize, port: usize, state: usize) -> Vec<Decision> {
        let (Some(a), Some(b)) = (self.groups.get(from), self.groups.get(to)) else {
            return Vec::new();
        };
        let spots = (a.spots.get(state), b.spots.get(state));
        let (Some(from), Some(to), Some(judge)) = (spots.0, spots.1, self.judges.get(state)) else {
            return Vec::new();
        };
        let decided = |sides: [Side; 2]| {
            let [egress, ingress] = sides;
            Decision {
                allowed: egress.allowed && ingress.allowed,
                egress,
                ingress,
            }
        };
        if b.kind == Kind::Service {
            let mut out: Vec<Decision> = Vec::new();
            for way in service::ways_of(self, a, b, port, state) {
                let sides = Direction::ALL.map(|d| judge.query(way.query(d), d).to_side());
                let one = decided(sides);
                if !out.contains(&one) {
                    out.push(one);
                }
            }
            return out;
        }
        if *from == Spot::Absent || *to == Spot::Absent {
            return Vec::new();
        }
        let l4 = b.ports.get(port).copied().unwrap_or(L4::Other);
        let nobody = || Side {
            allowed: true,
            why: Why::NoPod,
            passed: Vec::new(),
        };
        let sides = Direction::ALL.map(|d| {
            let answer = judge.side(*from, *to, l4, d);
            answer.map_or_else(nobody, |answer| answer.to_side())
        });
        vec![decided(sides)]
    }
}
