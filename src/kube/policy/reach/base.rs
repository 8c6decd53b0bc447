//! From states and a question to groups: ends that the states' classes cannot tell apart, before those with
//! the same answers are joined ([`super::group`]).

use std::collections::{BTreeMap, BTreeSet};
use std::net::IpAddr;

use super::super::verdict::Hairpin;
use super::cell::is_asked;
use super::judge::{Judge, Spot};
use super::ports::sorted;
use super::{
    Ends, Group, Kind, Left, Member, Question, Reach, State, group, members, outside, ports,
    service,
};
use crate::kube::service::Family;
use crate::kube::store::Name;

/// How far pods are told apart at first.
#[derive(Clone, Copy)]
enum Split {
    /// As policies can.
    Classes,
    /// By their nodes too.
    Nodes,
    /// Each from every other.
    Pods,
}

/// What makes pods one group at first.
#[derive(PartialEq, Eq, PartialOrd, Ord)]
struct Key {
    namespace: String,
    ports: Vec<super::L4>,
    chosen: (bool, bool),
    classes: Vec<Option<u32>>,
    apart: Option<Vec<Option<String>>>,
}

pub(super) fn reach<'s>(states: &[State<'s>], q: &Question) -> Reach<'s> {
    let mut judges: Vec<Judge> = states.iter().map(Judge::new).collect();
    let pods = chosen(states, &judges, q);
    let services = service::groups(states, q);
    // What a Service gives a node depends on whose node the endpoints are on.
    let nodes = nodes(states, &judges, q, q.by_pod || !services.is_empty());
    let outside = Outside::of(states, &judges, q);
    let asked = pods.iter().filter(|p| p.receives).flat_map(|p| &p.ports);
    let others = nodes.iter().chain(&outside.groups);
    let asked: BTreeSet<_> = asked
        .chain(others.flat_map(|g| &g.ports))
        .copied()
        .collect();
    for judge in &mut judges {
        judge.prepare(q.family, &asked);
    }
    let by_node = service::by_node(states, q, &services);
    // A pod that reaches itself is not like its class where that is open.
    let hairpin = judges.iter().any(|j| j.options.hairpin == Hairpin::Open);
    let split = match (q.by_pod || (hairpin && !services.is_empty()), by_node) {
        (true, _) => Split::Pods,
        (_, true) => Split::Nodes,
        _ => Split::Classes,
    };
    let mut groups = pod_groups(states, &judges, q, pods, split);
    groups.extend(nodes);
    groups.extend(outside.groups);
    groups.extend(services);
    let mut left = left(states, q.family);
    left.outside = outside.left;
    let mut reach = Reach {
        states: states.to_vec(),
        family: q.family,
        declared: q.ports.is_empty(),
        groups,
        rows: Vec::new(),
        columns: Vec::new(),
        left,
        judges,
    };
    if !q.by_pod {
        group::join(&mut reach);
    }
    group::name(&mut reach);
    let groups = &reach.groups;
    let sends = |a: &Group| a.sends && groups.iter().any(|b| b.receives && is_asked(a, b));
    let receives = |b: &Group| b.receives && groups.iter().any(|a| a.sends && is_asked(a, b));
    // Of the others nothing is said.
    let roles: Vec<(bool, bool)> = groups.iter().map(|g| (sends(g), receives(g))).collect();
    for (group, (sends, receives)) in reach.groups.iter_mut().zip(roles) {
        (group.sends, group.receives) = (sends, receives);
    }
    reach.groups.retain(|g| g.sends || g.receives);
    let all = || (0..).zip(&reach.groups);
    reach.rows = all().filter(|(_, g)| g.sends).map(|(at, _)| at).collect();
    reach.columns = all()
        .filter(|(_, g)| g.receives)
        .map(|(at, _)| at)
        .collect();
    reach
}

fn left(states: &[State<'_>], family: Family) -> Left {
    let mut left = Left::default();
    for pod in states.last().into_iter().flat_map(|s| s.inventory.pods()) {
        let has = pod.addresses.iter().any(|ip| Family::of(*ip) == family);
        match (pod.finished, pod.host_network) {
            (true, _) => left.finished += 1,
            (_, true) => left.host_network += 1,
            _ if !has => left.no_address += 1,
            _ => {}
        }
    }
    left
}

/// A pod that sends or receives.
struct Chosen {
    member: Member,
    ports: Vec<super::L4>,
    sends: bool,
    receives: bool,
}

fn chosen(states: &[State<'_>], judges: &[Judge], q: &Question) -> Vec<Chosen> {
    let all = members::pods(states, judges, q.family).into_iter();
    all.filter_map(|member| {
        let pod = members::last(states, &member)?;
        let (sends, receives) = (q.from.has_pod(pod), q.to.has_pod(pod));
        if !sends && !receives {
            return None;
        }
        let ports = match (receives, q.ports.is_empty()) {
            (false, _) => Vec::new(),
            (true, false) => q.ports.clone(),
            (true, true) => {
                let there = states.iter().zip(judges).zip(&member.names);
                let there = there.filter_map(|((s, j), name)| Some((s, j, name.as_ref()?)));
                sorted(there.flat_map(|(s, j, name)| ports::of_pod(s, j, name)))
            }
        };
        Some(Chosen {
            member,
            ports,
            sends,
            receives,
        })
    })
    .collect()
}

fn pod_groups(
    states: &[State<'_>],
    judges: &[Judge],
    q: &Question,
    pods: Vec<Chosen>,
    split: Split,
) -> Vec<Group> {
    let mut groups: BTreeMap<Key, Group> = BTreeMap::new();
    for pod in pods {
        let names = &pod.member.names;
        let spots: Vec<Spot> = judges
            .iter()
            .zip(names)
            .map(|(judge, name)| {
                let spot = name.as_ref().and_then(|name| judge.pod(name, q.family));
                spot.unwrap_or(Spot::Absent)
            })
            .collect();
        let node = |state: &State<'_>, name: &Option<Name>| {
            let pod = state.inventory.pod(name.as_ref()?)?;
            (!pod.node.is_empty()).then(|| pod.node.clone())
        };
        let on: Vec<Option<String>> = states.iter().zip(names).map(|(s, n)| node(s, n)).collect();
        let apart = match split {
            Split::Pods => Some(
                names
                    .iter()
                    .map(|n| Some(n.as_ref()?.to_string()))
                    .collect(),
            ),
            Split::Nodes => Some(on.clone()),
            Split::Classes => None,
        };
        let class = |spot: &Spot| match spot {
            Spot::Pod { class, .. } => Some(*class),
            _ => None,
        };
        let key = Key {
            namespace: pod.member.name.namespace.clone(),
            ports: pod.ports.clone(),
            chosen: (pod.sends, pod.receives),
            classes: spots.iter().map(class).collect(),
            apart,
        };
        let group = groups.entry(key).or_insert_with(|| {
            let mut group = empty(Kind::Pods, spots);
            group.namespace = pod.member.name.namespace.clone();
            group.ports = pod.ports;
            group.sends = pod.sends;
            group.receives = pod.receives;
            group
        });
        group.count += 1;
        for (placed, node) in group.placed.iter_mut().zip(on) {
            if let Some(node) = node {
                *placed.entry(node).or_default() += 1;
            }
        }
        group.pods.push(pod.member);
    }
    groups.into_values().collect()
}

/// A group without ends.
pub(super) fn empty(kind: Kind, spots: Vec<Spot>) -> Group {
    Group {
        kind,
        name: String::new(),
        namespace: String::new(),
        count: 0,
        pods: Vec::new(),
        nodes: Vec::new(),
        ranges: Vec::new(),
        rest: false,
        labels: BTreeMap::new(),
        host_pods: Vec::new(),
        ports: Vec::new(),
        there: spots.iter().map(|s| *s != Spot::Absent).collect(),
        sends: false,
        receives: false,
        service: Vec::new(),
        placed: vec![BTreeMap::new(); spots.len()],
        spots,
    }
}

/// hostNetwork pods by node.
type Hosted = BTreeMap<String, Vec<Name>>;

fn hosted(state: &State<'_>) -> Hosted {
    let mut out = Hosted::new();
    let pods = state.inventory.pods();
    for pod in pods.filter(|p| p.host_network && !p.finished) {
        out.entry(pod.node.clone())
            .or_default()
            .push(pod.name.clone());
    }
    out
}

fn nodes(states: &[State<'_>], judges: &[Judge], q: &Question, apart: bool) -> Vec<Group> {
    let all = states.iter().flat_map(|s| s.inventory.nodes());
    let names: BTreeSet<&str> = all.map(|(name, _)| name).collect();
    let blocks = outside::blocks(judges);
    let hosted: Vec<Hosted> = states.iter().map(hosted).collect();
    let mut groups: BTreeMap<_, Group> = BTreeMap::new();
    for name in names {
        let (sends, receives) = (q.from.has_node(name), q.to.has_node(name));
        if !sends && !receives {
            continue;
        }
        let spots: Vec<Spot> = states
            .iter()
            .zip(judges)
            .map(|(state, judge)| {
                let mut nodes = state.inventory.nodes();
                let found = nodes.find(|(own, _)| *own == name);
                let ips = found.map(|(_, node)| node.addresses.as_slice());
                let mut ips = ips.into_iter().flatten();
                let ip = ips.find(|ip| Family::of(**ip) == q.family);
                ip.map_or(Spot::Absent, |ip| judge.node(name, *ip))
            })
            .collect();
        if spots.iter().all(|s| *s == Spot::Absent) {
            continue;
        }
        let asked = match (receives, q.ports.is_empty()) {
            (false, _) => Vec::new(),
            (true, false) => q.ports.clone(),
            (true, true) => {
                let both = states.iter().zip(&hosted);
                let own = |hosted: &Hosted| hosted.get(name).cloned().unwrap_or_default();
                sorted(both.flat_map(|(s, hosted)| ports::of_node(s, &own(hosted))))
            }
        };
        let told: Vec<Option<Vec<bool>>> = judges
            .iter()
            .zip(&spots)
            .map(|(j, s)| (*s != Spot::Absent).then(|| j.told(*s, &blocks)))
            .collect();
        let apart = apart.then(|| name.to_owned());
        let key = (asked.clone(), sends, receives, told, apart);
        let group = groups.entry(key).or_insert_with(|| {
            let mut group = empty(Kind::Nodes, spots);
            group.ports = asked;
            (group.sends, group.receives) = (sends, receives);
            group
        });
        group.count += 1;
        group.nodes.push(name.to_owned());
        let own = hosted.last().and_then(|hosted| hosted.get(name));
        group.host_pods.extend(own.into_iter().flatten().cloned());
    }
    groups.into_values().collect()
}

struct Outside {
    groups: Vec<Group>,
    left: usize,
}

impl Outside {
    fn of(states: &[State<'_>], judges: &[Judge], q: &Question) -> Outside {
        let v4 = q.family == Family::V4;
        let (wide_from, wide_to) = (q.from.has_outside(), q.to.has_outside());
        let ports = match q.ports.is_empty() {
            true => ports::outside(judges),
            false => q.ports.clone(),
        };
        let mut out = Outside {
            groups: Vec::new(),
            left: 0,
        };
        let add =
            |out: &mut Outside, class: outside::Class, sends: bool, receives: bool, rest: bool| {
                let spot = Spot::Other {
                    ip: class.sample,
                    node: None,
                };
                let mut group = empty(Kind::Outside, vec![spot; states.len()]);
                group.count = 1;
                group.ranges = outside::texts(&class.segments, v4);
                group.nodes = class.hosts;
                (group.sends, group.receives) = (sends, receives);
                if receives {
                    group.ports = ports.clone();
                }
                group.rest = rest;
                out.groups.push(group);
            };
        if wide_from || wide_to {
            let blocks = outside::blocks(judges);
            let (classes, left) = outside::classes(states, &blocks, q.family, &q.hosts);
            let size = |c: &outside::Class| -> u128 {
                let sizes = c.segments.iter().map(|(a, b)| b - a);
                sizes.fold(0, u128::saturating_add)
            };
            let most = classes.iter().map(size).max();
            for class in classes {
                let rest = Some(size(&class)) == most;
                add(&mut out, class, wide_from, wide_to, rest);
            }
            out.left = left;
        }
        for ip in single(&q.from, &q.to, q.family) {
            let picked = |ends: &Ends| ends.addresses().any(|own| own == ip);
            let (sends, receives) = (picked(&q.from), picked(&q.to));
            let class = outside::single(ip, &q.hosts);
            // It may be a class of its own already.
            let texts = outside::texts(&class.segments, v4);
            match out.groups.iter_mut().find(|g| g.ranges == texts) {
                Some(group) => {
                    group.sends |= sends;
                    group.receives |= receives;
                    if receives {
                        group.ports.clone_from(&ports);
                    }
                }
                None => add(&mut out, class, sends, receives, false),
            }
        }
        out
    }
}

/// Addresses that were picked one by one.
fn single(from: &Ends, to: &Ends, family: Family) -> BTreeSet<IpAddr> {
    let all = from.addresses().chain(to.addresses());
    all.filter(|ip| Family::of(*ip) == family).collect()
}
