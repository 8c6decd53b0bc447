//! Who is asked: pods of all states, each with its name in every one, and which of them were chosen.
//!
//! Pods are the same by name. A pod that is in one state only is matched with one that is in the other only,
//! if they have the same namespace, ports and labels apart from those that controllers give each replica:
//! names of a Deployment's pods change with every roll-out. Invariant: no pod is in two members.

use std::collections::{BTreeMap, BTreeSet};

use super::super::pods::PolicyPod;
use super::super::selector::Labels;
use super::judge::Judge;
use super::ports::declared;
use super::{Ends, Member, Pick, State};
use crate::kube::service::Family;
use crate::kube::store::Name;

/// Labels that differ between replicas and roll-outs (kubernetes `staging/src/k8s.io/api/apps/v1/types.go`,
/// `pkg/apis/batch`).
const OF_REPLICAS: [&str; 7] = [
    "pod-template-hash",
    "controller-revision-hash",
    "pod-template-generation",
    "statefulset.kubernetes.io/pod-name",
    "apps.kubernetes.io/pod-index",
    "batch.kubernetes.io/controller-uid",
    "controller-uid",
];

/// The pods that policies may select and that have an address of the family, by namespace and name.
pub(super) fn pods(states: &[State<'_>], judges: &[Judge], family: Family) -> Vec<Member> {
    let sets: Vec<BTreeSet<Name>> = judges
        .iter()
        .map(|judge| {
            let has = |ips: &[std::net::IpAddr]| ips.iter().any(|ip| Family::of(*ip) == family);
            let pods = judge.compiled().pods().filter(|p| has(&p.addresses));
            pods.map(|p| Name::clone(&p.name)).collect()
        })
        .collect();
    let all: BTreeSet<&Name> = sets.iter().flatten().collect();
    let mut members: Vec<Member> = Vec::new();
    let mut single: BTreeMap<_, [Vec<&Name>; 2]> = BTreeMap::new();
    for name in all {
        let names: Vec<Option<Name>> = sets
            .iter()
            .map(|set| set.contains(name).then(|| name.clone()))
            .collect();
        let alone = match names.as_slice() {
            [Some(_), None] => Some(0),
            [None, Some(_)] => Some(1),
            _ => None,
        };
        match alone.and_then(|at| Some((at, states.get(at)?))) {
            Some((at, state)) => {
                let lists = single.entry(likeness(state, name)).or_default();
                if let Some(list) = lists.get_mut(at) {
                    list.push(name);
                }
            }
            None => members.push(Member {
                name: name.clone(),
                names,
            }),
        }
    }
    for [before, after] in single.into_values() {
        for at in 0..before.len().max(after.len()) {
            let names = [before.get(at), after.get(at)].map(|name| name.map(|n| (*n).clone()));
            let name = names.iter().rev().flatten().next().cloned();
            members.extend(name.map(|name| Member {
                name,
                names: names.to_vec(),
            }));
        }
    }
    members.sort();
    members
}

/// What replicas have in common.
fn likeness(state: &State<'_>, name: &Name) -> (String, Labels, Vec<super::L4>) {
    let mut labels = state
        .inventory
        .pod(name)
        .map(|pod| Labels::clone(&pod.labels))
        .unwrap_or_default();
    labels.retain(|key, _| !OF_REPLICAS.contains(&key.as_str()));
    (name.namespace.clone(), labels, declared(state, name))
}

/// A member's pod in the last state that has it.
pub(super) fn last<'s>(states: &[State<'s>], member: &Member) -> Option<&'s PolicyPod> {
    let both = states.iter().zip(&member.names);
    let mut pods = both.rev().filter_map(|(s, n)| s.inventory.pod(n.as_ref()?));
    pods.next()
}

impl Ends {
    /// Whether nothing was said that narrows pods down.
    fn is_wide(&self) -> bool {
        self.namespaces.is_empty() && self.selectors.is_empty()
    }

    /// Whether a pod is meant.
    pub(super) fn has_pod(&self, pod: &PolicyPod) -> bool {
        let name = &pod.name;
        let picked = |pick: &Pick| match pick {
            Pick::Pods => true,
            Pick::Namespace(namespace) => *namespace == name.namespace,
            Pick::Pod(own) => own == name,
            _ => false,
        };
        let named = self.picks.is_empty() || self.picks.iter().any(picked);
        let here = self.namespaces.is_empty() || self.namespaces.contains(&name.namespace);
        named && here && self.selectors.iter().all(|s| s.matches(&pod.labels))
    }

    /// Whether a node is meant.
    pub(super) fn has_node(&self, node: &str) -> bool {
        let picked = |pick: &Pick| match pick {
            Pick::Nodes => true,
            Pick::Node(own) => own == node,
            _ => false,
        };
        match self.picks.is_empty() {
            true => self.is_wide(),
            false => self.picks.iter().any(picked),
        }
    }

    /// Whether all addresses outside are meant.
    pub(super) fn has_outside(&self) -> bool {
        match self.picks.is_empty() {
            true => self.is_wide(),
            false => self.picks.contains(&Pick::Outside),
        }
    }

    /// Single addresses that are meant.
    pub(super) fn addresses(&self) -> impl Iterator<Item = std::net::IpAddr> + '_ {
        self.picks.iter().filter_map(|pick| match pick {
            Pick::Address(ip) => Some(*ip),
            _ => None,
        })
    }
}
