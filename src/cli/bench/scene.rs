//! Clusters to measure on: pods that send, pods that are sent to, Services in front of them, policies.
//!
//! Written as manifests and built as any other cluster is, so that what is measured is what `podpath trace`
//! walks. Invariant: flow `n` of a scene is the same in every run.

use crate::cluster::Cluster;
use crate::kube::manifest::Input;
use crate::kube::store::Store;
use anyhow::{Context, bail};
use serde_json::{Value, json};
use std::net::{IpAddr, Ipv4Addr};

/// Pods that send.
pub const CLIENTS: u32 = 8;
/// Pods that are sent to.
pub const SERVERS: u32 = 16;
/// Services share the servers in so many groups of two.
const GROUPS: u32 = SERVERS / 2;
/// Ports of a client, from 1,024 on.
const PORTS: u32 = 64_512;
/// The port that servers listen on.
pub const TARGET: u16 = 7007;
/// The port of every Service.
pub const PORT: u16 = 7;

/// Where frames are sent to.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum To {
    /// A pod's address.
    Pod,
    /// A Service's cluster IP.
    ClusterIp,
}

/// A cluster and what is sent through it.
#[derive(Clone, Copy, Debug)]
pub struct Plan {
    /// The CNI plugin and its back end, as in a Cluster's `spec.cni`.
    pub cni: (&'static str, &'static str),
    /// kube-proxy's mode.
    pub proxy: &'static str,
    /// The servers are on the other node.
    pub far: bool,
    /// Where to.
    pub to: To,
    /// How many Services.
    pub services: u32,
    /// How many NetworkPolicies.
    pub policies: u32,
}

/// One flow's addresses.
#[derive(Clone, Copy, Debug)]
pub struct Flow {
    /// Which client.
    pub client: usize,
    /// Its port.
    pub sport: u16,
    /// Where to.
    pub to: (Ipv4Addr, u16),
}

impl Plan {
    /// How many different flows there are.
    pub fn flows(&self) -> u64 {
        u64::from(CLIENTS) * u64::from(self.targets()) * u64::from(PORTS)
    }

    fn targets(&self) -> u32 {
        match self.to {
            To::Pod => SERVERS,
            To::ClusterIp => self.services,
        }
    }

    /// A flow by number.
    pub fn flow(&self, n: u64) -> Flow {
        let clients = u64::from(CLIENTS);
        let targets = u64::from(self.targets());
        let target = (n / clients % targets) as u32;
        let to = match self.to {
            To::Pod => (server_ip(target, self.far), TARGET),
            To::ClusterIp => (service_ip(target), PORT),
        };
        Flow {
            client: (n % clients) as usize,
            sport: 1024 + (n / clients / targets % u64::from(PORTS)) as u16,
            to,
        }
    }

    /// Builds it.
    pub fn build(&self, seed: u64) -> anyhow::Result<Cluster> {
        let mut items = vec![self.cluster()];
        items.extend([1, 2].map(node));
        items.extend((0..CLIENTS).map(|n| pod("client", n, client_ip(n), 1)));
        let at = if self.far { 2 } else { 1 };
        items.extend((0..SERVERS).map(|n| pod("server", n, server_ip(n, self.far), at)));
        items.extend((0..self.services).map(service));
        items.extend((0..self.policies).map(policy));
        let list = json!({"apiVersion": "v1", "kind": "List", "items": items});
        let (store, findings) = Store::load(&[Input::new("bench", list.to_string())]);
        if let Some(f) = findings.iter().find(|f| f.is_error()) {
            bail!("the bench's own cluster: {f}");
        }
        let (cluster, findings) = Cluster::build(store, seed);
        if let Some(f) = findings.iter().find(|f| f.is_error()) {
            bail!("the bench's own cluster: {f}");
        }
        Ok(cluster)
    }

    fn cluster(&self) -> Value {
        let (plugin, backend) = self.cni;
        json!({
            "apiVersion": "podpath.dev/v1alpha1", "kind": "Cluster", "metadata": {"name": "bench"},
            "spec": {
                "cni": {"plugin": plugin, "backend": backend},
                "podCIDRs": ["10.244.0.0/16"], "serviceCIDRs": ["10.96.0.0/12"],
                 "proxy": {"mode": self.proxy},
                // The scenes have more connections than kube-proxy usually allows.
                "kubeProxyConfiguration": {
                    "apiVersion": "kubeproxy.config.k8s.io/v1alpha1", "kind": "KubeProxyConfiguration",
                    "mode": self.proxy, "conntrack": {"maxPerCore": 0},
                }, "underlay": {"cidr": "192.168.50.0/24"},
                "node": {"sysctls": {"net.netfilter.nf_conntrack_max": "8000000"}},
            },
        })
    }
}

fn client_ip(n: u32) -> Ipv4Addr {
    Ipv4Addr::new(10, 244, 1, 10 + n as u8)
}

fn server_ip(n: u32, far: bool) -> Ipv4Addr {
    Ipv4Addr::new(10, 244, if far { 2 } else { 1 }, 100 + n as u8)
}

fn service_ip(n: u32) -> Ipv4Addr {
    Ipv4Addr::from_bits(u32::from(Ipv4Addr::new(10, 96, 1, 0)) + n)
}

fn node(n: u32) -> Value {
    json!({
        "apiVersion": "v1", "kind": "Node", "metadata": {"name": format!("n{n}")},
        "spec": {"podCIDRs": [format!("10.244.{n}.0/24")]},
        "status": {"addresses": [{"type": "InternalIP", "address": format!("192.168.50.1{n}")}]},
    })
}

fn pod(app: &str, n: u32, ip: Ipv4Addr, node: u32) -> Value {
    json!({
        "apiVersion": "v1", "kind": "Pod",
        "metadata": {
            "name": format!("{app}-{n}"), "namespace": "default",
            "labels": {"app": app, "group": format!("g{}", n % GROUPS)},
        },
        "spec": {"nodeName": format!("n{node}"), "containers": [
            {"name": "c", "image": "i", "ports": [{"containerPort": TARGET, "protocol": "UDP"}]}]},
        "status": {
            "phase": "Running", "conditions": [{"type": "Ready", "status": "True"}],
            "podIP": ip, "podIPs": [{"ip": ip}],
        },
    })
}

fn service(n: u32) -> Value {
    let ip = service_ip(n);
    json!({
        "apiVersion": "v1", "kind": "Service",
        "metadata": {"name": format!("s{n}"), "namespace": "default"},
        "spec": {
            "clusterIP": ip, "clusterIPs": [ip],
            "selector": {"app": "server", "group": format!("g{}", n % GROUPS)},
            "ports": [{"port": PORT, "targetPort": TARGET, "protocol": "UDP"}],
        },
    })
}

/// The first policies let the clients in; the others are of pods that are elsewhere.
fn policy(n: u32) -> Value {
    let pods = match n {
        0 => json!({"app": "server"}),
        n => json!({"app": format!("other-{n}")}),
    };
    json!({
        "apiVersion": "networking.k8s.io/v1", "kind": "NetworkPolicy",
        "metadata": {"name": format!("p{n}"), "namespace": "default"},
        "spec": {
            "podSelector": {"matchLabels": pods}, "policyTypes": ["Ingress"],
            "ingress": [{
                "from": [{"podSelector": {"matchLabels": {"app": "client"}}}],
                "ports": [{"port": TARGET, "protocol": "UDP"}],
            }],
        },
    })
}

/// Whose frames come in where: a client's address and MAC, its gateway's MAC, and the port of the node.
#[derive(Clone, Copy, Debug)]
pub struct Client {
    /// Its address.
    pub ip: Ipv4Addr,
    /// Its MAC address.
    pub mac: crate::wire::MacAddr,
    /// Whom it sends to for everybody who is not its neighbour.
    pub gateway: crate::wire::MacAddr,
    /// Where its frames arrive.
    pub port: crate::net::PortAt,
}

/// The clients of a scene, in order.
pub fn clients(cluster: &Cluster) -> anyhow::Result<Vec<Client>> {
    let world = &cluster.lab.world;
    let find = |ip: Ipv4Addr| {
        let ns = world.ns(cluster.owner_of(IpAddr::V4(ip))?)?;
        let eth = ns.devices().find(|d| d.name == "eth0")?;
        let port = eth.peer?;
        let node = world.ns(port.ns)?;
        let veth = node.dev(port.dev)?;
        let gateway = match &veth.master {
            Some((bridge, _)) => node.dev(*bridge)?.mac,
            None => veth.mac,
        };
        Some(Client {
            ip,
            mac: eth.mac,
            gateway,
            port,
        })
    };
    (0..CLIENTS)
        .map(|n| find(client_ip(n)).with_context(|| format!("client {n} has no port")))
        .collect()
}
