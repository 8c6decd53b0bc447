//! Which nodes are joined by tunnels, from what the nodes themselves say: VXLAN forwarding entries and
//! routes through IPIP devices.

use crate::base::{DevId, NsId};
use crate::cluster::Cluster;
use crate::net::{Device, DeviceKind, NetNs};
use std::collections::{BTreeMap, BTreeSet};
use std::net::IpAddr;

/// A tunnel between two nodes, `a` before `b`.
#[derive(Clone, PartialEq, Eq, Debug)]
pub(super) struct Tunnel {
    pub a: NsId,
    pub a_dev: DevId,
    pub b: NsId,
    pub b_dev: DevId,
    /// `VXLAN 1 · udp/8472`, `IPIP`.
    pub label: String,
    /// Both know the other; else only one does.
    pub both: bool,
}

/// All tunnels of a cluster.
#[derive(Clone, Debug, Default)]
pub(super) struct Overlay {
    pub tunnels: Vec<Tunnel>,
    /// The label, when it is one for all.
    pub label: String,
    /// Nodes that have a tunnel device.
    pub members: usize,
}

impl Overlay {
    /// The overlay in one line: `VXLAN 1 · udp/8472 · full mesh of 6 nodes`.
    pub fn summary(&self) -> String {
        let pairs = self.members * self.members.saturating_sub(1) / 2;
        let good = self.tunnels.iter().filter(|t| t.both).count();
        let extent = if good == pairs {
            format!("full mesh of {} nodes", self.members)
        } else {
            format!("{good} of {pairs} pairs of {} nodes", self.members)
        };
        format!("{} · {extent}", self.label)
    }
}

fn label(d: &Device) -> Option<String> {
    match &d.kind {
        DeviceKind::Vxlan(v) => Some(format!("VXLAN {} · udp/{}", v.vni, v.port)),
        DeviceKind::Ipip(_) => Some("IPIP".into()),
        _ => None,
    }
}

/// The outer addresses a tunnel device sends to.
fn remotes(ns: &NetNs, d: &Device, via: &BTreeMap<DevId, BTreeSet<IpAddr>>) -> BTreeSet<IpAddr> {
    match &d.kind {
        DeviceKind::Vxlan(v) => v.fdb.values().flatten().map(|x| x.ip).collect(),
        DeviceKind::Ipip(t) => {
            let mut all = via.get(&d.id).cloned().unwrap_or_default();
            all.extend(t.remote.map(IpAddr::V4));
            all.retain(|ip| !ns.is_local(*ip));
            all
        }
        _ => BTreeSet::new(),
    }
}

/// Gateways by device, of all routes.
fn gateways(ns: &NetNs) -> BTreeMap<DevId, BTreeSet<IpAddr>> {
    let mut out: BTreeMap<DevId, BTreeSet<IpAddr>> = BTreeMap::new();
    let hops = [true, false].into_iter().flat_map(|v4| {
        let tables = ns.fib().tables();
        tables.flat_map(move |(_, t)| t.routes(v4))
    });
    for h in hops.flat_map(|r| &r.nexthops) {
        if let (Some(d), Some(via)) = (h.dev, h.via) {
            out.entry(d).or_default().insert(via);
        }
    }
    out
}

/// The tunnels of a cluster.
pub(super) fn find(c: &Cluster) -> Overlay {
    let mut owner: BTreeMap<IpAddr, NsId> = BTreeMap::new();
    for n in c.nodes.values() {
        owner.extend(n.addresses.iter().map(|a| (a.ip(), n.ns)));
    }
    let mut own: BTreeMap<(NsId, String), DevId> = BTreeMap::new();
    let mut ways: BTreeSet<(NsId, NsId, String)> = BTreeSet::new();
    for ns in c.nodes.values().filter_map(|n| c.lab.world.ns(n.ns)) {
        let mut via = None;
        for d in ns.devices() {
            let Some(label) = label(d) else { continue };
            let via = via.get_or_insert_with(|| gateways(ns));
            let to = remotes(ns, d, via);
            let to = to
                .iter()
                .filter_map(|ip| owner.get(ip))
                .filter(|o| **o != ns.id);
            ways.extend(to.map(|o| (ns.id, *o, label.clone())));
            own.entry((ns.id, label)).or_insert(d.id);
        }
    }
    let dev = |n: NsId, l: &str| own.get(&(n, l.to_owned())).copied().unwrap_or(DevId(0));
    let mut tunnels = Vec::new();
    for (from, to, l) in &ways {
        let both = ways.contains(&(*to, *from, l.clone()));
        if both && from > to {
            continue; // said by the other
        }
        let (a, b) = (*from.min(to), *from.max(to));
        tunnels.push(Tunnel {
            a,
            a_dev: dev(a, l),
            b,
            b_dev: dev(b, l),
            label: l.clone(),
            both,
        });
    }
    let labels: BTreeSet<&str> = own.keys().map(|k| k.1.as_str()).collect();
    let members: BTreeSet<NsId> = own.keys().map(|k| k.0).collect();
    Overlay {
        label: labels.into_iter().collect::<Vec<_>>().join(", "),
        members: members.len(),
        tunnels,
    }
}
