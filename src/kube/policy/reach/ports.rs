//! Which ports are asked of a destination: those that were named, or those that it declares.
//!
//! A pod that declares none is asked on the ports that rules about it name, a node on those of its
//! hostNetwork pods and the kubelet's, an address outside on those that egress rules to blocks name.

use std::collections::BTreeSet;

use super::super::compile::Entry;
use super::super::model::Direction;
use super::super::verdict::L4;
use super::judge::Judge;
use super::{State, order};
use crate::base::limits;
use crate::kube::listen;
use crate::kube::service::Protocol;
use crate::kube::store::Name;

/// The kubelet's API (kubernetes `pkg/cluster/ports/ports.go`, KubeletPort).
const KUBELET: L4 = L4::Port(Protocol::Tcp, 10250);
/// Asked of pods of which nothing is known.
const HTTP: L4 = L4::Port(Protocol::Tcp, 80);
/// Asked of addresses outside.
const HTTPS: L4 = L4::Port(Protocol::Tcp, 443);

/// `80/TCP`, as kubectl writes it.
pub fn text(l4: &L4) -> String {
    match l4 {
        L4::Port(protocol, number) => {
            format!("{number}/{}", protocol.to_string().to_ascii_uppercase())
        }
        L4::Other => "other".into(),
    }
}

/// Sorted, by number first.
pub type Ports = Vec<L4>;

pub(super) fn sorted(ports: impl IntoIterator<Item = L4>) -> Ports {
    let all: BTreeSet<L4> = ports.into_iter().collect();
    let mut all: Vec<L4> = all.into_iter().collect();
    all.sort_by_key(order);
    all
}

/// What a pod's containers declare.
pub(super) fn declared(state: &State<'_>, pod: &Name) -> Ports {
    let object = state.store.pods.get(pod);
    let ports = object.map(|pod| listen::of_pod(pod).0.ports);
    let ports = ports.into_iter().flatten();
    sorted(ports.map(|l| L4::Port(l.port.protocol, l.port.number)))
}

/// What is asked of a pod.
pub(super) fn of_pod(state: &State<'_>, judge: &Judge, pod: &Name) -> Ports {
    let declared = declared(state, pod);
    if !declared.is_empty() {
        return declared;
    }
    let compiled = judge.compiled();
    let identity = compiled.pod(pod).map(|p| p.identity);
    let filter = identity.and_then(|id| compiled.filter(id, Direction::Ingress));
    let lists = filter.map(|f| [&f.admin, &f.allows, &f.baseline]);
    let rules = lists.into_iter().flatten().flatten();
    let named = named(rules.map(|entry| &**entry));
    if named.is_empty() { vec![HTTP] } else { named }
}

/// What is asked of a node with these hostNetwork pods.
pub(super) fn of_node(state: &State<'_>, host_pods: &[Name]) -> Ports {
    let ports = host_pods.iter().flat_map(|pod| declared(state, pod));
    sorted(ports.chain([KUBELET]))
}

/// What is asked of addresses outside.
pub(super) fn outside(judges: &[Judge]) -> Ports {
    let rules = judges.iter().flat_map(|j| j.rules());
    let away = rules.filter(|r| {
        let peers = &r.peers;
        r.direction == Direction::Egress
            && (peers.any || !peers.blocks.is_empty() || !peers.domains.is_empty())
    });
    sorted(named(away.map(|entry| &**entry)).into_iter().chain([HTTPS]))
}

/// The first port of every range that rules name, as many as are shown.
fn named<'e>(rules: impl Iterator<Item = &'e Entry>) -> Ports {
    let ranges = rules.flat_map(|rule| &rule.ports.ranges);
    let mut ports = sorted(ranges.map(|(protocol, first, _)| L4::Port(*protocol, *first)));
    ports.truncate(limits::REACH_RULE_PORTS_MAX);
    ports
}
