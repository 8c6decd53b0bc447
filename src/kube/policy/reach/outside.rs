//! Addresses outside the cluster in classes: what the blocks of all rules say of them.
//!
//! The blocks' bounds cut the address space into segments; segments in the same blocks are a class, with one
//! address to ask for. Addresses of pods, Services and nodes, and those that no host has (RFC 6890: this
//! network, loopback, multicast and reserved ones), are no part of it. Invariant: every other address is in
//! exactly one class, unless there are more than the cap.

use std::collections::{BTreeMap, BTreeSet};
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};

use ipnetwork::IpNetwork;

use super::super::pods::Owner;
use super::super::ranges::{Ranges, number};
use super::State;
use super::judge::Judge;
use crate::base::limits;
use crate::kube::controllers::service_cidrs;
use crate::kube::service::{Family, lenient};

/// A class.
#[derive(Clone, PartialEq, Eq, Debug)]
pub(super) struct Class {
    /// One of its addresses.
    pub(super) sample: IpAddr,
    /// First and last addresses.
    pub(super) segments: Vec<(u128, u128)>,
    /// Names of hosts that are in it.
    pub(super) hosts: Vec<String>,
}

/// Addresses of one segment that are tried until one is nobody's.
const TRIED: u128 = 1 << 12;

/// What no host outside has.
const NOBODY: [&str; 8] = [
    "0.0.0.0/8",
    "127.0.0.0/8",
    "224.0.0.0/3",
    "::/127",
    "::ffff:0:0/96",
    "fe80::/10",
    "ff00::/8",
    "fec0::/10",
];

/// The blocks that rules name.
pub(super) fn blocks(judges: &[Judge]) -> Vec<Ranges> {
    let rules = judges.iter().flat_map(|j| j.rules());
    let all: BTreeSet<&Ranges> = rules.map(|r| &r.peers.blocks).collect();
    let named = all.into_iter().filter(|b| !b.is_empty());
    named.cloned().collect()
}

/// The classes, by first address, and how many were left out.
pub(super) fn classes(
    states: &[State<'_>],
    blocks: &[Ranges],
    family: Family,
    hosts: &[(String, IpAddr)],
) -> (Vec<Class>, usize) {
    let v4 = family == Family::V4;
    let own = own(states, v4);
    let mut cuts: BTreeSet<u128> = [0].into();
    let ranges = blocks.iter().flat_map(|b| b.ranges(v4));
    for (first, last) in ranges.chain(own.ranges(v4)) {
        cuts.insert(first);
        cuts.extend(last.checked_add(1));
    }
    let end = if v4 { u128::from(u32::MAX) } else { u128::MAX };
    let cuts: Vec<u128> = cuts.into_iter().filter(|cut| *cut <= end).collect();
    let mut classes: BTreeMap<Vec<bool>, Class> = BTreeMap::new();
    let mut left = 0;
    for (at, first) in cuts.iter().enumerate() {
        let last = cuts.get(at + 1).map_or(end, |next| next - 1);
        let ip = address(*first, v4);
        if own.contains(ip) {
            continue;
        }
        let Some(sample) = free(states, *first, last, v4) else {
            continue;
        };
        let said: Vec<bool> = blocks.iter().map(|b| b.contains(ip)).collect();
        if classes.len() >= limits::REACH_OUTSIDE_MAX && !classes.contains_key(&said) {
            left += 1;
            continue;
        }
        let class = classes.entry(said).or_insert_with(|| Class {
            sample,
            segments: Vec::new(),
            hosts: Vec::new(),
        });
        class.segments.push((*first, last));
        let inside = |ip: &IpAddr| ip.is_ipv4() == v4 && (*first..=last).contains(&number(*ip));
        for (name, ip) in hosts.iter().filter(|(_, ip)| inside(ip)) {
            if class.hosts.is_empty() {
                class.sample = *ip;
            }
            class.hosts.push(name.clone());
        }
    }
    let mut classes: Vec<Class> = classes.into_values().collect();
    classes.sort_by_key(|c| c.segments.first().copied());
    (classes, left)
}

/// A class of one address.
pub(super) fn single(ip: IpAddr, hosts: &[(String, IpAddr)]) -> Class {
    let named = hosts.iter().filter(|(_, own)| *own == ip);
    Class {
        sample: ip,
        segments: vec![(number(ip), number(ip))],
        hosts: named.map(|(name, _)| name.clone()).collect(),
    }
}

/// What is the cluster's, or nobody's.
fn own(states: &[State<'_>], v4: bool) -> Ranges {
    let mut nets: Vec<IpNetwork> = NOBODY.iter().filter_map(|n| n.parse().ok()).collect();
    for state in states {
        for node in state.store.nodes.values() {
            let spec = node.spec.as_ref();
            let listed = spec.and_then(|s| s.pod_cidrs.as_deref());
            let one = spec.and_then(|s| s.pod_cidr.as_ref());
            let texts = listed.into_iter().flatten().chain(one);
            nets.extend(texts.filter_map(|text| lenient::cidr(text)));
        }
        if let Some(cluster) = state.store.cluster() {
            nets.extend(cluster.spec.pod_cidrs.iter().copied());
        }
        nets.extend(service_cidrs(state.store));
    }
    let block = |net: IpNetwork| super::super::model::Block {
        cidr: net,
        except: Vec::new(),
    };
    let nets = nets.into_iter().filter(|net| net.is_ipv4() == v4);
    let blocks: Vec<_> = nets.map(block).collect();
    Ranges::of(&blocks)
}

/// An address of the segment that is nobody's in the cluster.
fn free(states: &[State<'_>], first: u128, last: u128, v4: bool) -> Option<IpAddr> {
    let stop = last.min(first.saturating_add(TRIED));
    let mut all = (first..=stop).map(|n| address(n, v4));
    all.find(|ip| {
        let mut owners = states.iter().map(|s| s.inventory.owner(*ip));
        owners.all(|owner| owner == Owner::Outside)
    })
}

fn address(number: u128, v4: bool) -> IpAddr {
    if v4 {
        IpAddr::V4(Ipv4Addr::from_bits(
            u32::try_from(number).unwrap_or(u32::MAX),
        ))
    } else {
        IpAddr::V6(Ipv6Addr::from_bits(number))
    }
}

/// Segments as text, those that touch joined: a CIDR where it is one, else first-last.
pub(super) fn texts(segments: &[(u128, u128)], v4: bool) -> Vec<String> {
    let mut sorted = segments.to_vec();
    sorted.sort_unstable();
    let mut joined: Vec<(u128, u128)> = Vec::new();
    for (first, last) in sorted {
        match joined.last_mut() {
            Some(open) if open.1.checked_add(1) == Some(first) => open.1 = last,
            _ => joined.push((first, last)),
        }
    }
    let bits = if v4 { 32 } else { 128 };
    let text = |(first, last): (u128, u128)| {
        let size = last - first;
        let (a, b) = (address(first, v4), address(last, v4));
        let aligned = size & size.wrapping_add(1) == 0 && first & size == 0;
        match bits - size.count_ones() {
            _ if !aligned => format!("{a}-{b}"),
            prefix if prefix == bits => a.to_string(),
            prefix => format!("{a}/{prefix}"),
        }
    };
    joined.into_iter().map(text).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn segments_are_blocks_where_they_can_be() {
        let n = |text: &str| number(text.parse().expect("an address"));
        let v4 = texts(
            &[
                (n("10.0.0.128"), n("10.0.0.255")),
                (n("10.0.0.0"), n("10.0.0.127")),
                (n("10.0.1.1"), n("10.0.1.1")),
                (n("10.0.2.1"), n("10.0.2.6")),
            ],
            true,
        );
        assert_eq!(v4, ["10.0.0.0/24", "10.0.1.1", "10.0.2.1-10.0.2.6"]);
        assert_eq!(texts(&[(0, u128::from(u32::MAX))], true), ["0.0.0.0/0"]);
        assert_eq!(texts(&[(0, u128::MAX)], false), ["::/0"]);
    }
}
