//! Groups with the same answers everywhere become one, and get names.
//!
//! Each group's row and column of answers is summed up in 128 bits, a term for each open port of each pair
//! (Zobrist); groups of a kind and namespace with equal sums are one. Invariant: joined groups stay uniform:
//! what holds for one end holds for all, but for a pod and its own node, which are counted apart.

use std::collections::{BTreeMap, BTreeSet};

use super::super::selector::Labels;
use super::{Group, Kind, Reach, cell, members};
use crate::kube::store::Name;

/// Labels that say what a pod is for, the first that it has (website "Recommended Labels", and habit).
const WORKLOAD: [&str; 5] = ["app.kubernetes.io/name", "app", "k8s-app", "name", "run"];
/// Workloads, nodes or ranges in a group's name.
const SHOWN: usize = 2;

/// The finaliser of splitmix64.
fn stir(x: u64) -> u64 {
    let x = (x ^ (x >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
    let x = (x ^ (x >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
    x ^ (x >> 31)
}

/// The term of an answer: at which other end, state and port, with how much of it open.
fn term(other: usize, state: usize, port: usize, open: u64) -> u128 {
    let place = (other as u64) << 24 ^ (port as u64) << 4 ^ state as u64;
    let low = stir(place.wrapping_mul(0x9e37_79b9_7f4a_7c15) ^ stir(open));
    let high = stir(low ^ place.rotate_left(32) ^ 0x6a09_e667_f3bc_c908);
    u128::from(high) << 64 | u128::from(low)
}

/// Joins groups.
pub(super) fn join(reach: &mut Reach<'_>) {
    let count = reach.groups.len();
    let (mut rows, mut columns) = (vec![0_u128; count], vec![0_u128; count]);
    let ports: BTreeSet<_> = reach
        .groups
        .iter()
        .flat_map(|g| &g.ports)
        .copied()
        .collect();
    let ports: BTreeMap<_, usize> = ports.into_iter().zip(0..).collect();
    for (b, to) in reach.groups.iter().enumerate().filter(|(_, g)| g.receives) {
        for (at, l4) in to.ports.iter().enumerate() {
            let port = match to.kind {
                Kind::Service => at,
                _ => ports.get(l4).copied().unwrap_or_default(),
            };
            for (a, from) in reach.groups.iter().enumerate().filter(|(_, g)| g.sends) {
                if !cell::is_asked(from, to) {
                    continue;
                }
                for state in 0..reach.states.len() {
                    // How many ways there are differs for Services only.
                    let open = match (reach.share(from, to, at, state), to.kind) {
                        ((open, ways), Kind::Service) => (ways << 32) + open,
                        ((open, _), _) => open,
                    };
                    if open == 0 {
                        continue;
                    }
                    if let Some(row) = rows.get_mut(a) {
                        *row ^= term(b, state, port, open);
                    }
                    if let Some(column) = columns.get_mut(b) {
                        *column ^= term(a, state, port, open);
                    }
                }
            }
        }
    }
    let mut joined: BTreeMap<_, Group> = BTreeMap::new();
    let all = core::mem::take(&mut reach.groups).into_iter();
    for (at, (group, sums)) in all.zip(rows.into_iter().zip(columns)).enumerate() {
        let alone = (group.kind == Kind::Service).then_some(at);
        let key = (
            group.kind,
            group.namespace.clone(),
            group.ports.clone(),
            (group.sends, group.receives, group.there.clone()),
            (sums, alone),
        );
        match joined.get_mut(&key) {
            Some(first) => absorb(first, group),
            None => {
                joined.insert(key, group);
            }
        }
    }
    reach.groups = joined.into_values().collect();
}

fn absorb(first: &mut Group, group: Group) {
    if first.kind != Kind::Outside {
        first.count += group.count;
    }
    first.rest |= group.rest;
    first.pods.extend(group.pods);
    first.nodes.extend(group.nodes);
    first.ranges.extend(group.ranges);
    first.host_pods.extend(group.host_pods);
    for (own, more) in first.placed.iter_mut().zip(group.placed) {
        for (node, count) in more {
            *own.entry(node).or_default() += count;
        }
    }
}

/// Names and sorts all groups.
pub(super) fn name(reach: &mut Reach<'_>) {
    let mut sizes: BTreeMap<(Kind, String), usize> = BTreeMap::new();
    for group in &reach.groups {
        let key = (group.kind, group.namespace.clone());
        *sizes.entry(key).or_default() += 1;
    }
    for at in 0..reach.groups.len() {
        let Some(group) = reach.groups.get(at) else {
            continue;
        };
        let alone = sizes.get(&(group.kind, group.namespace.clone())) == Some(&1);
        let (labels, name) = match group.kind {
            Kind::Pods => pods(reach, group, alone),
            Kind::Nodes => (Labels::new(), nodes(group, alone)),
            Kind::Outside => (Labels::new(), outside(group)),
            Kind::Service => (Labels::new(), group.name.clone()),
        };
        if let Some(group) = reach.groups.get_mut(at) {
            (group.labels, group.name) = (labels, name);
            group.pods.sort();
            group.nodes.sort();
            group.host_pods.sort();
        }
    }
    let order = |g: &Group| {
        let first = (g.pods.first().cloned(), g.ranges.clone());
        (g.kind, g.namespace.clone(), g.name.clone(), first)
    };
    reach.groups.sort_by_cached_key(order);
    let mut seen: BTreeMap<String, usize> = BTreeMap::new();
    for group in &mut reach.groups {
        let times = seen.entry(group.name.clone()).or_default();
        *times += 1;
        if *times > 1 {
            group.name = format!("{}#{times}", group.name);
        }
    }
}

/// The labels that all pods share, and a name.
fn pods(reach: &Reach<'_>, group: &Group, alone: bool) -> (Labels, String) {
    let mut common: Option<Labels> = None;
    let mut workloads: BTreeSet<String> = BTreeSet::new();
    for member in &group.pods {
        let labels = members::last(&reach.states, member).map(|pod| &pod.labels);
        let Some(labels) = labels else { continue };
        workloads.insert(workload(&member.name, labels));
        match &mut common {
            Some(common) => common.retain(|key, value| labels.get(key) == Some(value)),
            None => common = Some(Labels::clone(labels)),
        }
    }
    let name = match group.pods.as_slice() {
        [one] => one.name.to_string(),
        _ if alone => format!("{}/*", group.namespace),
        _ => format!("{}/{}", group.namespace, list(workloads.into_iter())),
    };
    (common.unwrap_or_default(), name)
}

/// What a pod belongs to.
fn workload(name: &Name, labels: &Labels) -> String {
    if let Some(value) = WORKLOAD.iter().find_map(|key| labels.get(*key)) {
        return value.clone();
    }
    // Deployments' pods are NAME-HASH-xxxxx, those of DaemonSets and Jobs NAME-xxxxx, of StatefulSets NAME-N.
    let text = &name.name;
    let before = |text: &str| text.rsplit_once('-').map(|(head, _)| head.to_owned());
    if let Some(hash) = labels.get("pod-template-hash") {
        if let Some((head, _)) = text.split_once(&format!("-{hash}-")) {
            return head.to_owned();
        }
    } else if labels.contains_key("controller-revision-hash") || labels.contains_key("job-name") {
        return before(text).unwrap_or_else(|| text.clone());
    }
    text.clone()
}

/// `a,b+3`.
fn list(all: impl ExactSizeIterator<Item = String>) -> String {
    let more = all.len().saturating_sub(SHOWN);
    let shown: Vec<String> = all.take(SHOWN).collect();
    match more {
        0 => shown.join(","),
        more => format!("{}+{more}", shown.join(",")),
    }
}

fn nodes(group: &Group, alone: bool) -> String {
    match group.nodes.as_slice() {
        [one] => format!("node/{one}"),
        _ if alone => "nodes".into(),
        all => format!("node/{}", list(all.iter().cloned())),
    }
}

fn outside(group: &Group) -> String {
    let one = group.ranges.len() == 1;
    let single = group.ranges.iter().all(|r| !r.contains(['/', '-']));
    match (group.rest, group.nodes.as_slice()) {
        (true, _) => "outside".into(),
        (_, [host]) if one && single => format!("host/{host}"),
        _ => list(group.ranges.iter().cloned()),
    }
}
