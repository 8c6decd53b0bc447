//! Nodes' addresses and pod ranges: what the manifest says, else what kubelet, cloud and the node IPAM
//! controller would have given (kubernetes/kubernetes pkg/controller/nodeipam/ipam/cidrset/cidr_set.go:
//! ranges in order of arrival, here of names).

use crate::base::Finding;
use crate::cluster::ClusterNode;
use crate::cluster::build::Builder;
use crate::kube::cni::CniState;
use crate::net::PortAt;
use crate::net::addr::network_of;
use ipnetwork::{IpNetwork, Ipv4Network, Ipv6Network};
use std::collections::BTreeSet;
use std::net::IpAddr;

/// Underlay of nodes that have no address: 192.168.50.0/24, node i at .(10 + i).
const DEFAULT_UNDERLAY: (u8, u8, u8, u8) = (192, 168, 50, 0);
/// Host number of the first allocated node, leaving room for a gateway and services.
const FIRST_NODE: u32 = 11;

/// Decides addresses and ranges of all nodes; nothing is laid yet.
pub(super) fn plan(b: &mut Builder) {
    let names: Vec<String> = node_names(b);
    let mut used: BTreeSet<IpAddr> = BTreeSet::new();
    let mut taken: Vec<IpNetwork> = Vec::new();
    for n in &names {
        let (ips, cidrs) = stated(b, n);
        used.extend(ips);
        taken.extend(cidrs);
    }
    for (i, name) in names.iter().enumerate() {
        let (ips, cidrs) = stated(b, name);
        let ips = if ips.is_empty() {
            allocate_ip(b, i, &mut used)
        } else {
            ips
        };
        let addresses = ips
            .iter()
            .map(|ip| with_prefix(b, name, *ip, &names))
            .collect();
        let pod_cidrs = if cidrs.is_empty() {
            allocate_cidrs(b, name, &mut taken)
        } else {
            cidrs
        };
        let over = b.spec.nodes.get(name);
        let iface = over
            .and_then(|o| o.host_device.clone())
            .unwrap_or_else(|| b.spec.node.host_device.clone());
        let origin =
            b.c.store
                .node(name)
                .map(|n| n.source.origin())
                .unwrap_or_default();
        let seed = b.c.seed ^ (i as u64 + 1).wrapping_mul(0x9E37_79B9_7F4A_7C15);
        let id = b.c.lab.world.add_node(name.clone());
        let ns = b.c.lab.world.add_ns(name.clone(), id);
        b.c.nodes.insert(
            name.clone(),
            ClusterNode {
                name: name.clone(),
                id,
                ns,
                uplink: PortAt {
                    ns,
                    dev: crate::base::DevId(0),
                },
                iface,
                addresses,
                pod_cidrs,
                cni: CniState::new(seed),
                results: Default::default(),
                proxy: None,
                origin,
            },
        );
    }
}

/// Nodes of the manifests; where there is none, those that pods name.
fn node_names(b: &mut Builder) -> Vec<String> {
    let mut names: BTreeSet<String> =
        b.c.store
            .nodes
            .values()
            .map(|n| n.name.name.clone())
            .collect();
    if names.is_empty() {
        let of_pods =
            b.c.store
                .pods
                .values()
                .filter_map(|p| p.spec.as_ref()?.node_name.clone());
        names.extend(of_pods);
    }
    if names.is_empty() && !b.c.store.pods.is_empty() {
        names.insert("node".into());
    }
    names.into_iter().collect()
}

/// What a node's own document says: InternalIPs and podCIDRs.
fn stated(b: &Builder, name: &str) -> (Vec<IpAddr>, Vec<IpNetwork>) {
    let Some(n) = b.c.store.node(name) else {
        return (Vec::new(), Vec::new());
    };
    let addresses = n.status.as_ref().and_then(|s| s.addresses.as_ref());
    let ips = addresses
        .into_iter()
        .flatten()
        .filter(|a| a.type_ == "InternalIP");
    let ips = ips.filter_map(|a| a.address.parse().ok()).collect();
    let spec = n.spec.as_ref();
    let many = spec.and_then(|s| s.pod_cidrs.clone()).unwrap_or_default();
    let one = spec.and_then(|s| s.pod_cidr.clone());
    let texts = if many.is_empty() {
        one.into_iter().collect()
    } else {
        many
    };
    (
        ips,
        texts
            .iter()
            .filter_map(|t| t.parse().ok())
            .map(network_of)
            .collect(),
    )
}

fn underlay_cidr(b: &Builder) -> IpNetwork {
    let (a, c, d, e) = DEFAULT_UNDERLAY;
    let default = Ipv4Network::new([a, c, d, e].into(), 24).map(IpNetwork::V4);
    b.spec
        .underlay
        .cidr
        .or(default.ok())
        .unwrap_or_else(|| IpNetwork::from(IpAddr::from([a, c, d, 0])))
}

fn allocate_ip(b: &Builder, i: usize, used: &mut BTreeSet<IpAddr>) -> Vec<IpAddr> {
    let base = underlay_cidr(b);
    let mut n = FIRST_NODE + i as u32;
    for _ in 0..65_536 {
        let ip = nth(base, u128::from(n));
        match ip {
            Some(ip) if used.insert(ip) => return vec![ip],
            Some(_) => n += 1,
            None => break,
        }
    }
    Vec::new()
}

/// The n-th address of a range.
pub(super) fn nth(net: IpNetwork, n: u128) -> Option<IpAddr> {
    match net {
        IpNetwork::V4(v) => v.nth(u32::try_from(n).ok()?).map(IpAddr::V4),
        IpNetwork::V6(v) => v.nth(n).map(IpAddr::V6),
    }
}

/// An address with the prefix of the segment it is on: the Cluster's segments, its underlay, else the
/// smallest range of /24 (/64) or wider that holds all nodes.
fn with_prefix(b: &Builder, node: &str, ip: IpAddr, names: &[String]) -> IpNetwork {
    let make = |len: u8| IpNetwork::new(ip, len).unwrap_or_else(|_| IpNetwork::from(ip));
    let named = |s: &&crate::kube::podpath_v1alpha1::Segment| {
        s.nodes.iter().any(|n| n == node) && s.cidr.contains(ip)
    };
    let segments = &b.spec.underlay.segments;
    let segment = segments
        .iter()
        .find(named)
        .or_else(|| segments.iter().find(|s| s.cidr.contains(ip)));
    if let Some(s) = segment {
        return make(s.cidr.prefix());
    }
    if let Some(c) = b.spec.underlay.cidr.filter(|c| c.contains(ip)) {
        return make(c.prefix());
    }
    let all: Vec<IpAddr> = names
        .iter()
        .flat_map(|n| stated(b, n).0)
        .filter(|o| o.is_ipv4() == ip.is_ipv4())
        .collect();
    let mut len = if ip.is_ipv4() { 24 } else { 64 };
    while len > 8 && !all.iter().all(|o| make(len).contains(*o)) {
        len -= 1;
    }
    make(len)
}

/// A free share of each of the cluster's pod ranges.
fn allocate_cidrs(b: &mut Builder, name: &str, taken: &mut Vec<IpNetwork>) -> Vec<IpNetwork> {
    let mut out = Vec::new();
    for range in b.spec.pod_cidrs.clone() {
        let size = match range {
            IpNetwork::V4(_) => b.spec.node_cidr_mask_size.unwrap_or(24),
            IpNetwork::V6(_) => b.spec.node_cidr_mask_size_ipv6.unwrap_or(64),
        };
        match free_share(range, size, taken) {
            Some(share) => {
                taken.push(share);
                out.push(share);
            }
            None => {
                let at =
                    b.c.store
                        .node(name)
                        .map(|n| n.source.span_of("metadata.name"))
                        .unwrap_or_default();
                let text = format!("no /{size} is left in pod range {range} for node {name}");
                b.findings.push(Finding::error(
                    at,
                    text,
                    "widen podCIDRs or shrink nodeCIDRMaskSize in the Cluster document",
                ));
            }
        }
    }
    out
}

/// The first /size of a range that overlaps nothing taken.
fn free_share(range: IpNetwork, size: u8, taken: &[IpNetwork]) -> Option<IpNetwork> {
    let bits = if range.is_ipv4() { 32u8 } else { 128 };
    if size < range.prefix() || size > bits {
        return None;
    }
    let shares = 1u128 << u32::from(size - range.prefix()).min(20);
    let step = 1u128 << u32::from(bits - size).min(127);
    (0..shares).find_map(|i| {
        let ip = nth(range, i.checked_mul(step)?)?;
        let share = match ip {
            IpAddr::V4(a) => IpNetwork::V4(Ipv4Network::new(a, size).ok()?),
            IpAddr::V6(a) => IpNetwork::V6(Ipv6Network::new(a, size).ok()?),
        };
        let overlaps = |t: &IpNetwork| t.contains(share.network()) || share.contains(t.network());
        (!taken.iter().any(overlaps)).then_some(share)
    })
}
