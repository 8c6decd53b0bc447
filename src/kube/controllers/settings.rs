//! Ranges of the API server's flags: Service CIDRs, node ports, load balancers' pool.
//!
//! From the Cluster document; else ServiceCIDR objects (networking.k8s.io/v1), else kubeadm's
//! ClusterConfiguration; else kubeadm's default 10.96.0.0/12, with kind's fd00:10:96::/112 where pods or
//! Services have IPv6 addresses.

use ipnetwork::IpNetwork;
use serde_json::Value;

use crate::kube::manifest::{Input, parse};
use crate::kube::service::{Family, lenient};
use crate::kube::store::Store;

/// `--service-node-port-range` where nothing is said (`pkg/kubeapiserver/options`,
/// DefaultServiceNodePortRange).
const NODE_PORTS: (u16, u16) = (30_000, 32_767);
const DEFAULT_V4: &str = "10.96.0.0/12";
const DEFAULT_V6: &str = "fd00:10:96::/112";

/// See the module.
#[derive(Clone, Debug)]
pub(super) struct Settings {
    /// Service CIDRs, the primary family's first.
    pub service_cidrs: Vec<IpNetwork>,
    /// Whether the input says so, and not a default.
    pub stated: bool,
    /// First and last node port.
    pub node_ports: (u16, u16),
    /// What load balancers' addresses are taken from.
    pub pools: Vec<IpNetwork>,
}

impl Settings {
    pub fn of(store: &Store) -> Settings {
        let spec = store.cluster().map(|cluster| &cluster.spec);
        let written = spec.map(|s| s.service_cidrs.clone()).unwrap_or_default();
        let sources = [|_: &Store| Vec::new(), objects, kubeadm];
        let found = sources.iter().map(|read| read(store));
        let stated = core::iter::once(written)
            .chain(found)
            .find(|cidrs| !cidrs.is_empty());
        let range = spec.and_then(|s| s.node_port_range);
        Settings {
            stated: stated.is_some(),
            service_cidrs: stated.unwrap_or_else(|| default(store)),
            node_ports: range.map_or(NODE_PORTS, |r| (r.first, r.last)),
            pools: spec
                .map(|s| s.load_balancer.cidrs.clone())
                .unwrap_or_default(),
        }
    }

    /// The families that Services may have, the primary one first.
    pub fn families(&self) -> Vec<Family> {
        let all = self.service_cidrs.iter().map(|net| Family::of(net.ip()));
        let mut out: Vec<Family> = Vec::new();
        for family in all {
            if !out.contains(&family) {
                out.push(family);
            }
        }
        out
    }
}

/// The ServiceCIDR objects' ranges; that named `kubernetes` is the flag's.
fn objects(store: &Store) -> Vec<IpNetwork> {
    let mut all: Vec<(bool, Vec<IpNetwork>)> = Vec::new();
    for version in ["networking.k8s.io/v1", "networking.k8s.io/v1beta1"] {
        for object in store.raw(version, "ServiceCIDR") {
            let value = object.parse::<Value>().0.unwrap_or_default();
            let listed = value.pointer("/spec/cidrs").and_then(Value::as_array);
            let cidrs = listed.into_iter().flatten().filter_map(Value::as_str);
            let first = object.name.as_ref().is_some_and(|n| n.name == "kubernetes");
            all.push((!first, cidrs.filter_map(lenient::cidr).collect()));
        }
    }
    all.sort_by_key(|(later, _)| *later);
    all.into_iter().flat_map(|(_, cidrs)| cidrs).collect()
}

/// `networking.serviceSubnet` of kubeadm's ClusterConfiguration.
fn kubeadm(store: &Store) -> Vec<IpNetwork> {
    let read = || {
        let map = store.config_map("kube-system", "kubeadm-config")?;
        let text = map.data.as_ref()?.get("ClusterConfiguration")?;
        let input = Input::new("ClusterConfiguration", text.as_str());
        let value = parse::<Value>(&input).0?;
        let subnet = value
            .pointer("/networking/serviceSubnet")?
            .as_str()?
            .to_owned();
        Some(subnet.split(',').filter_map(lenient::cidr).collect())
    };
    read().unwrap_or_default()
}

fn default(store: &Store) -> Vec<IpNetwork> {
    let pods = store
        .cluster()
        .map(|c| c.spec.pod_cidrs.clone())
        .unwrap_or_default();
    let mut v6 = pods.iter().any(IpNetwork::is_ipv6);
    let specs = store.services.values().filter_map(|s| s.spec.as_ref());
    for spec in specs {
        let ips = spec.cluster_ips.iter().flatten().chain(&spec.cluster_ip);
        v6 |= ips
            .filter_map(|text| lenient::ip(text))
            .any(|ip| ip.is_ipv6());
    }
    let v4 = pods.is_empty() || pods.iter().any(IpNetwork::is_ipv4);
    let texts = [DEFAULT_V4].into_iter().filter(|_| v4 || !v6);
    let mut all: Vec<IpNetwork> = texts
        .chain([DEFAULT_V6].into_iter().filter(|_| v6))
        .filter_map(lenient::cidr)
        .collect();
    if pods.first().is_some_and(IpNetwork::is_ipv6) {
        all.reverse();
    }
    all
}
