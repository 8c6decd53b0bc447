//! What a drawing shows, taken from the cluster: nodes with devices and pods, hosts, tunnels.

use crate::base::NsId;
use crate::cluster::Cluster;
use crate::net::{Device, DeviceKind};

/// Pods of a node that are drawn one by one; more are counted.
pub(super) const PODS_SHOWN: usize = 8;

/// A device worth a chip.
pub(super) struct Chip {
    pub name: String,
    pub mtu: u32,
    pub up: bool,
}

/// A pod's line.
pub(super) struct PodRow {
    pub name: String,
    pub text: String,
    pub ns: NsId,
    pub host_network: bool,
}

/// A node's box.
pub(super) struct NodeBox {
    pub name: String,
    pub ns: NsId,
    pub lines: Vec<String>,
    pub chips: Vec<Chip>,
    pub pods: Vec<PodRow>,
    pub more: usize,
    /// The overlay this node speaks, in words.
    pub tunnel: Option<String>,
}

/// A machine outside.
pub(super) struct HostBox {
    pub name: String,
    pub ns: NsId,
    pub text: String,
}

/// Everything.
pub(super) struct Model {
    pub title: String,
    pub nodes: Vec<NodeBox>,
    pub hosts: Vec<HostBox>,
}

/// Takes the model from a cluster.
pub(super) fn of(c: &Cluster) -> Model {
    let nodes = c.nodes.values().map(|n| {
        let devices: Vec<&Device> = c
            .lab
            .world
            .ns(n.ns)
            .into_iter()
            .flat_map(|s| s.devices())
            .collect();
        let chips = devices
            .iter()
            .filter(|d| wanted(d, &n.iface))
            .map(|d| Chip {
                name: d.name.clone(),
                mtu: d.mtu,
                up: d.up && (d.carrier || matches!(d.kind, DeviceKind::Bridge(_))),
            });
        let mut pods: Vec<PodRow> = c
            .pods
            .values()
            .filter(|p| p.node == n.name)
            .map(|p| row(c, p))
            .collect();
        let more = pods.len().saturating_sub(PODS_SHOWN);
        pods.truncate(PODS_SHOWN);
        let join = |v: Vec<String>| v.join("  ");
        let mut lines = vec![join(n.addresses.iter().map(|a| a.to_string()).collect())];
        if !n.pod_cidrs.is_empty() {
            lines.push(format!(
                "pods {}",
                join(n.pod_cidrs.iter().map(|a| a.to_string()).collect())
            ));
        }
        NodeBox {
            name: n.name.clone(),
            ns: n.ns,
            lines,
            chips: chips.collect(),
            pods,
            more,
            tunnel: devices.iter().find_map(|d| tunnel(d)),
        }
    });
    let host = |(name, ns): (&String, &NsId)| HostBox {
        name: format!("host/{name}"),
        ns: *ns,
        text: c
            .addresses(*ns)
            .iter()
            .map(|a| a.to_string())
            .collect::<Vec<_>>()
            .join("  "),
    };
    Model {
        title: format!("{}: {} nodes, {} pods", c.cni, c.nodes.len(), c.pods.len()),
        nodes: nodes.collect(),
        hosts: c.hosts.iter().map(host).collect(),
    }
}

fn wanted(d: &Device, uplink: &str) -> bool {
    d.name == uplink
        || matches!(
            d.kind,
            DeviceKind::Bridge(_) | DeviceKind::Vxlan(_) | DeviceKind::Ipip(_)
        )
}

fn tunnel(d: &Device) -> Option<String> {
    match &d.kind {
        DeviceKind::Vxlan(v) => Some(format!("VXLAN {}, UDP {}", v.vni, v.port)),
        DeviceKind::Ipip(_) => Some("IPIP".to_owned()),
        _ => None,
    }
}

fn row(c: &Cluster, p: &crate::cluster::ClusterPod) -> PodRow {
    let who = p.name.to_string();
    let ports = c
        .listening
        .iter()
        .filter(|l| l.who == who)
        .map(|l| l.port.to_string());
    let ips: Vec<String> = p.ips.iter().map(|i| i.to_string()).collect();
    let ports: Vec<String> = ports.collect();
    let ip = if p.host_network {
        "hostNetwork".to_owned()
    } else {
        ips.join("  ")
    };
    PodRow {
        name: who,
        text: [ip, ports.join(" ")].join("  "),
        ns: p.ns,
        host_network: p.host_network,
    }
}
