//! One state's verdicts: pods by class and a matrix for each kind of port, everything else by the filter.
//!
//! Ports that no rule tells apart share a matrix. Invariant: all matrices number the classes alike, because
//! classes do not depend on ports.

use std::collections::{BTreeMap, BTreeSet};
use std::net::IpAddr;
use std::sync::Arc;

use super::super::compile::{Compiled, Entry, Holder, NodeId};
use super::super::enforce::readings;
use super::super::filter::{Answer, Other, has_port};
use super::super::matrix::Matrix;
use super::super::model::Direction;
use super::super::ranges::Ranges;
use super::super::translate::Seen;
use super::super::verdict::{L4, Options, Query};
use super::State;
use crate::kube::service::{Family, Protocol};
use crate::kube::store::Name;

/// An end in one state.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(super) enum Spot {
    /// A pod of a class.
    Pod { class: u32, ip: IpAddr },
    /// A node, or an address outside.
    Other { ip: IpAddr, node: Option<NodeId> },
    /// It is not there, or a Service.
    Absent,
}

/// See the module.
#[derive(Debug)]
pub(super) struct Judge {
    /// How policies are read: as the cluster's agent does.
    pub(super) options: Options,
    /// Where they stand between the translations.
    pub(super) seen: Seen,
    compiled: Compiled,
    matrices: Vec<Matrix>,
    of_port: BTreeMap<L4, usize>,
    rules: Vec<Arc<Entry>>,
}

impl Judge {
    pub(super) fn new(state: &State<'_>) -> Judge {
        let document = state.store.cluster();
        let (options, seen) = document.map(|c| readings(&c.spec)).unwrap_or_default();
        let compiled = Compiled::new(state.policies, state.inventory, options);
        let mut known: BTreeSet<usize> = BTreeSet::new();
        let mut rules = Vec::new();
        for filter in compiled.filters.iter().flatten() {
            for entry in [&filter.admin, &filter.allows, &filter.baseline]
                .into_iter()
                .flatten()
            {
                if known.insert(Arc::as_ptr(entry) as usize) {
                    rules.push(entry.clone());
                }
            }
        }
        Judge {
            options,
            seen,
            compiled,
            matrices: Vec::new(),
            of_port: BTreeMap::new(),
            rules,
        }
    }

    /// Makes the matrices for these ports.
    pub(super) fn prepare(&mut self, family: Family, ports: &BTreeSet<L4>) {
        let ranges: BTreeSet<&[(Protocol, u16, u16)]> = self
            .rules
            .iter()
            .map(|r| r.ports.ranges.as_slice())
            .collect();
        let named: BTreeSet<&str> = self
            .rules
            .iter()
            .flat_map(|r| &r.ports.named)
            .map(|(name, _)| name.as_str())
            .collect();
        let mut called: BTreeSet<(Protocol, u16)> = BTreeSet::new();
        for (_, identity) in self.compiled.identities().iter() {
            let ports = identity.ports.iter();
            let meant = ports.filter(|p| named.contains(p.name.as_str()));
            called.extend(meant.map(|p| (p.protocol, p.number)));
        }
        let mut known: BTreeMap<(Vec<bool>, Option<L4>), usize> = BTreeMap::new();
        for l4 in ports {
            let key = match l4 {
                L4::Other => (Vec::new(), Some(*l4)),
                L4::Port(protocol, number) => {
                    let said = ranges.iter().map(|r| has_port(r, *protocol, *number));
                    let own = called.contains(&(*protocol, *number)).then_some(*l4);
                    (said.collect(), own)
                }
            };
            let next = self.matrices.len();
            let at = *known.entry(key).or_insert(next);
            if at == next {
                self.matrices.push(Matrix::new(&self.compiled, family, *l4));
            }
            self.of_port.insert(*l4, at);
        }
        if self.matrices.is_empty() {
            let any = L4::Port(Protocol::Tcp, 80);
            self.matrices.push(Matrix::new(&self.compiled, family, any));
        }
    }

    /// Every rule of every filter, once.
    pub(super) fn rules(&self) -> &[Arc<Entry>] {
        &self.rules
    }

    pub(super) fn compiled(&self) -> &Compiled {
        &self.compiled
    }

    /// The class of a pod, before or after [`Judge::prepare`] the same.
    pub(super) fn pod(&self, name: &Name, family: Family) -> Option<Spot> {
        let class = self.matrices.first()?.class_of(name)?;
        let addresses = &self.compiled.pod(name)?.addresses;
        let ip = addresses.iter().find(|ip| Family::of(**ip) == family)?;
        Some(Spot::Pod { class, ip: *ip })
    }

    /// A node by name, at an address.
    pub(super) fn node(&self, name: &str, ip: IpAddr) -> Spot {
        let node = self.compiled.nodes.get(name).copied();
        Spot::Other { ip, node }
    }

    /// What rules can tell of an end that is no pod: blocks it is in, node selectors that mean it.
    pub(super) fn told(&self, spot: Spot, blocks: &[Ranges]) -> Vec<bool> {
        let Spot::Other { ip, node } = spot else {
            return Vec::new();
        };
        let of_blocks = blocks.iter().map(|b| b.contains(ip));
        let with_nodes = self.rules.iter().filter(|r| !r.peers.nodes.is_empty());
        let of_nodes = with_nodes.map(|r| node.is_some_and(|node| r.peers.nodes.has(node.0)));
        of_blocks.chain(of_nodes).collect()
    }

    /// Whether a pair may open a connection, without regard to a pod's own node.
    pub(super) fn allows(&self, from: Spot, to: Spot, l4: L4) -> bool {
        match (from, to) {
            (Spot::Absent, _) | (_, Spot::Absent) => false,
            (Spot::Pod { class: a, .. }, Spot::Pod { class: b, .. }) => {
                let matrix = self.of_port.get(&l4).and_then(|at| self.matrices.get(*at));
                let row = matrix.and_then(|m| m.row(a));
                row.is_some_and(|row| row.has(b))
            }
            _ => {
                let both = Direction::ALL.map(|d| self.side(from, to, l4, d));
                both.into_iter().flatten().all(|answer| answer.allowed)
            }
        }
    }

    /// What a side says; none when no pod is there. The same as [`Judge::allows`], with reasons.
    pub(super) fn side(
        &self,
        from: Spot,
        to: Spot,
        l4: L4,
        direction: Direction,
    ) -> Option<Answer<'_>> {
        let (own, peer) = match direction {
            Direction::Egress => (from, to),
            Direction::Ingress => (to, from),
        };
        let identity = |spot| match spot {
            Spot::Pod { class, .. } => {
                let classes = self.matrices.first()?.classes();
                classes.get(class as usize).map(|c| c.identity)
            }
            _ => None,
        };
        let other = match peer {
            Spot::Pod { ip, .. } => Other {
                ip,
                holder: identity(peer).map(|identity| Holder::Pod {
                    identity,
                    node: NodeId(0),
                    serial: 0,
                }),
                names: &[],
            },
            Spot::Other { ip, node } => Other {
                ip,
                holder: node.map(Holder::Node),
                names: &[],
            },
            Spot::Absent => return None,
        };
        let id = identity(own)?;
        Some(self.compiled.judge(id, direction, &other, l4, identity(to)))
    }

    /// What a side says of a packet by addresses.
    pub(super) fn query(&self, query: &Query<'_>, direction: Direction) -> Answer<'_> {
        self.compiled.side(query, direction)
    }
}
