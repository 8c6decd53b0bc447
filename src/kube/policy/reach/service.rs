//! Services as destinations: each port leads to endpoints, and policies see those.
//!
//! Where the choice of endpoints depends on the sender's node (internalTrafficPolicy, endpoints on nodes),
//! senders are grouped by node as well. Invariant: a cell counts pairs of a sender and an endpoint that
//! kube-proxy could choose for it.

use super::super::model::Direction;
use super::super::pods::Owner;
use super::super::translate::{Way, ways};
use super::super::verdict::{L4, Query};
use super::base::empty;
use super::judge::Spot;
use super::ports::sorted;
use super::{Group, Kind, Pick, Question, Reach, State};
use crate::kube::proxy::View;
use crate::kube::service::{Family, ServicePort};
use std::collections::BTreeMap;
use std::net::IpAddr;

fn view<'s>(state: &State<'s>, family: Family) -> &'s View {
    let [v4, v6] = state.views;
    match family {
        Family::V4 => v4,
        Family::V6 => v6,
    }
}

/// Whether a Service port was asked for.
fn picked(q: &Question, port: &ServicePort) -> bool {
    let here = &port.name;
    let named = |text: &String| *text == here.port || *text == port.port.to_string();
    let meant = q.to.picks.iter().any(|pick| match pick {
        Pick::Services => true,
        Pick::Service(name, which) => *name == here.service && which.as_ref().is_none_or(named),
        _ => false,
    });
    let l4 = L4::Port(port.protocol(), port.port);
    meant && (q.ports.is_empty() || q.ports.contains(&l4))
}

/// A group for each Service that was asked for.
pub(super) fn groups(states: &[State<'_>], q: &Question) -> Vec<Group> {
    let mut found: BTreeMap<_, BTreeMap<L4, &ServicePort>> = BTreeMap::new();
    for state in states {
        for port in &view(state, q.family).services {
            if picked(q, port) {
                let ports = found.entry(port.name.service.clone()).or_default();
                ports.insert(L4::Port(port.protocol(), port.port), port);
            }
        }
    }
    found
        .into_iter()
        .map(|(name, ports)| {
            let mut group = empty(Kind::Service, vec![Spot::Absent; states.len()]);
            group.there = states
                .iter()
                .map(|s| {
                    let mut all = view(s, q.family).services.iter();
                    all.any(|p| p.name.service == name)
                })
                .collect();
            group.name = format!("svc/{name}");
            group.namespace = name.namespace;
            group.count = 1;
            group.ports = sorted(ports.keys().copied());
            let names = group.ports.iter().filter_map(|l4| ports.get(l4));
            group.service = names.map(|p| p.name.clone()).collect();
            group.receives = true;
            group
        })
        .collect()
}

/// Whether what a sender gets depends on its node.
pub(super) fn by_node(states: &[State<'_>], q: &Question, services: &[Group]) -> bool {
    let names: Vec<_> = services.iter().flat_map(|g| &g.service).collect();
    states.iter().any(|state| {
        let view = view(state, q.family);
        let mut ports = view.services.iter().filter(|p| names.contains(&&p.name));
        ports.any(|port| {
            let mut ends = view.endpoints_of(&port.name).iter();
            port.internal_local
                || ends.any(|e| !matches!(state.inventory.owner(e.ip), Owner::Pod(_)))
        })
    })
}

/// The ways from a group's first end to a Service port.
pub(super) fn ways_of(
    reach: &Reach<'_>,
    from: &Group,
    to: &Group,
    port: usize,
    state: usize,
) -> Vec<Way> {
    match from.spots.get(state) {
        Some(Spot::Pod { ip, .. } | Spot::Other { ip, .. }) => reach.ways(*ip, to, port, state),
        _ => Vec::new(),
    }
}

impl Reach<'_> {
    /// The ways from an address to a port of a group that is a Service.
    pub fn ways(&self, from: IpAddr, to: &Group, port: usize, state: usize) -> Vec<Way> {
        let (Some(s), Some(name)) = (self.states.get(state), to.service.get(port)) else {
            return Vec::new();
        };
        let view = view(s, self.family);
        let found = view.services.iter().find(|p| p.name == *name);
        let Some(service) = found else {
            return Vec::new();
        };
        let l4 = L4::Port(service.protocol(), service.port);
        let seen = self.judges.get(state).map(|j| j.seen).unwrap_or_default();
        let ways = ways(s.inventory, view, from, service.cluster_ip, l4);
        ways.into_iter().map(|way| way.seen(seen)).collect()
    }

    /// The ClusterIP of a port of a group that is a Service.
    pub fn cluster_ip(&self, to: &Group, port: usize, state: usize) -> Option<IpAddr> {
        let view = view(self.states.get(state)?, self.family);
        let name = to.service.get(port)?;
        let found = view.services.iter().find(|p| p.name == *name);
        found.map(|service| service.cluster_ip)
    }

    /// Whether policies let a way be.
    pub fn allows_way(&self, way: &Way, state: usize) -> bool {
        let judge = self.judges.get(state);
        judge.is_some_and(|j| way.allowed(|query, direction| j.query(query, direction).to_side()))
    }

    /// Whether policies let a packet by addresses be: also where a pod and its own node are meant.
    pub fn allows(&self, from: IpAddr, to: IpAddr, l4: L4, state: usize) -> bool {
        let (Some(judge), query) = (self.judges.get(state), Query::new(from, to, l4)) else {
            return false;
        };
        let mut both = Direction::ALL.into_iter();
        both.all(|direction| judge.query(&query, direction).allowed)
    }
}
