//! Clusters to measure on: pods that send, pods that are sent to, Services in front of them, policies.
//!
//! Written as manifests and built as any other cluster is, so that what is measured is what `podpath trace`
//! walks. Invariant: a plan's cluster is the same in every run.

use super::plan::{GROUPS, Plan, SERVER, SERVERS, ServicePort, TARGET, To, node_ip};
use crate::base::NsId;
use crate::cluster::{Cluster, End};
use crate::kube::manifest::Input;
use crate::kube::store::Store;
use anyhow::{Context, bail};
use serde_json::{Value, json};
use std::net::IpAddr;

/// Builds a plan's cluster.
pub fn build(plan: &Plan, seed: u64) -> anyhow::Result<Cluster> {
    let mut items = vec![cluster(plan)];
    items.extend([1, 2].map(|n| node(plan, n)));
    if plan.to != To::NodePort {
        items.extend((0..plan.clients).map(|n| pod("client", n, plan.client_ip(n), 1, true)));
    }
    items.extend((0..SERVERS).map(|n| server(plan, n, true)));
    items.extend((0..plan.services).map(|n| service(plan, n)));
    items.extend((0..plan.policies).map(|n| policy(plan, n)));
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

/// The clients of a plan, in order: each sends to its gateway what is not for its neighbours, hosts outside
/// to the node.
pub fn clients(plan: &Plan, c: &Cluster) -> anyhow::Result<Vec<End>> {
    let node = c.nodes.get("n1").context("no node n1")?.uplink;
    let world = &c.lab.world;
    let node = world.ns(node.ns).and_then(|ns| ns.dev(node.dev));
    let node = node.context("n1 has no uplink")?.mac;
    let find = |n: u32| {
        let end = c.end(c.owner_of(plan.client_ip(n))?)?;
        Some(match plan.to {
            To::NodePort => End {
                gateway: node,
                ..end
            },
            _ => end,
        })
    };
    (0..plan.clients)
        .map(|n| find(n).with_context(|| format!("client {n} has no port")))
        .collect()
}

/// Where frames leave the path: pods and hosts outside.
pub fn edges(c: &Cluster) -> Vec<NsId> {
    let pods = c.pods.values().map(|p| p.ns);
    pods.chain(c.hosts.values().copied()).collect()
}

fn cluster(plan: &Plan) -> Value {
    let (plugin, backend) = plan.cni;
    let host = |n| {
        let ip = plan.client_ip(n);
        json!({"name": format!("outside-{n}"), "addresses": [format!("{ip}/24")]})
    };
    let hosts: Vec<Value> = match plan.to {
        To::NodePort => (0..plan.clients).map(host).collect(),
        _ => Vec::new(),
    };
    let (pods, services) = match plan.v6 {
        true => (
            json!(["10.244.0.0/16", "fd00:10:244::/56"]),
            json!(["10.96.0.0/12", "fd00:10:96::/108"]),
        ),
        false => (json!(["10.244.0.0/16"]), json!(["10.96.0.0/12"])),
    };
    json!({
        "apiVersion": "podpath.dev/v1alpha1", "kind": "Cluster", "metadata": {"name": "bench"},
        "spec": {
            "cni": {"plugin": plugin, "backend": backend},
            "podCIDRs": pods, "serviceCIDRs": services,
            "proxy": {"mode": plan.proxy},
            // The scenes have more connections than kube-proxy usually allows.
            "kubeProxyConfiguration": {
                "apiVersion": "kubeproxy.config.k8s.io/v1alpha1", "kind": "KubeProxyConfiguration",
                "mode": plan.proxy, "conntrack": {"maxPerCore": 0},
            },
            "underlay": {"cidr": "192.168.50.0/24"},
            "externalHosts": hosts,
            "node": {"sysctls": {"net.netfilter.nf_conntrack_max": "8000000"}},
        },
    })
}

fn node(plan: &Plan, n: u8) -> Value {
    let mut cidrs = vec![format!("10.244.{n}.0/24")];
    let mut addresses = vec![json!({"type": "InternalIP", "address": node_ip(n)})];
    if plan.v6 {
        cidrs.push(format!("fd00:10:244:{n}::/64"));
        addresses.push(json!({"type": "InternalIP", "address": format!("fd00:50::1{n}")}));
    }
    json!({
        "apiVersion": "v1", "kind": "Node", "metadata": {"name": format!("n{n}")},
        "spec": {"podCIDRs": cidrs}, "status": {"addresses": addresses},
    })
}

/// A server, ready to serve or not.
pub fn server(plan: &Plan, n: u32, ready: bool) -> Value {
    let node = if plan.far { 2 } else { 1 };
    pod("server", n, plan.server_ip(n), node, ready)
}

fn pod(app: &str, n: u32, ip: IpAddr, node: u32, ready: bool) -> Value {
    let v4 = match (app, ip) {
        (_, IpAddr::V4(_)) => None,
        ("client", _) => Some(10 + n),
        _ => Some(u32::from(SERVER) + n),
    };
    // A pod of a dual-stack cluster has an address of each family.
    let v4 = v4.map(|host| json!({"ip": format!("10.244.{node}.{host}")}));
    let ips: Vec<Value> = v4.into_iter().chain([json!({"ip": ip})]).collect();
    let first = ips.first().map(|i| i["ip"].clone());
    json!({
        "apiVersion": "v1", "kind": "Pod",
        "metadata": {
            "name": format!("{app}-{n}"), "namespace": "default",
            "labels": {"app": app, "group": format!("g{}", n % GROUPS)},
        },
        "spec": {"nodeName": format!("n{node}"), "containers": [
            {"name": "c", "image": "i", "ports": [{"containerPort": TARGET, "protocol": "UDP"}]}]},
        "status": {
            "phase": "Running",
            "conditions": [{"type": "Ready", "status": if ready { "True" } else { "False" }}],
            "podIP": first, "podIPs": ips,
        },
    })
}

fn service(plan: &Plan, n: u32) -> Value {
    let ip = plan.service_ip(n);
    let several = plan.ports_of(n).count() > 1;
    let port = |p: ServicePort| {
        let mut port = json!({"port": p.port, "targetPort": p.target, "protocol": "UDP"});
        if let Some(node) = p.node {
            port["nodePort"] = json!(node);
        }
        if several {
            port["name"] = json!(format!("p{}", p.port));
        }
        port
    };
    let outside = plan.ports_of(n).any(|p| p.node.is_some());
    let kind = if outside { "NodePort" } else { "ClusterIP" };
    let ports: Vec<Value> = plan.ports_of(n).map(port).collect();
    json!({
        "apiVersion": "v1", "kind": "Service",
        "metadata": {"name": format!("s{n}"), "namespace": "default"},
        "spec": {
            "type": kind, "clusterIP": ip, "clusterIPs": [ip],
            "ipFamilies": [if plan.v6 { "IPv6" } else { "IPv4" }], "ipFamilyPolicy": "SingleStack",
            "selector": {"app": "server", "group": format!("g{}", n % GROUPS)},
            "ports": ports,
        },
    })
}

/// The first policy lets the clients in; the others are of pods that are elsewhere.
fn policy(plan: &Plan, n: u32) -> Value {
    let pods = match n {
        0 => json!({"app": "server"}),
        n => json!({"app": format!("other-{n}")}),
    };
    let mut port = json!({"port": TARGET, "protocol": "UDP"});
    let mut from = json!({"podSelector": {"matchLabels": {"app": "client"}}});
    if plan.last_target() > TARGET {
        port["endPort"] = json!(plan.last_target());
    }
    if plan.to == To::NodePort {
        from = json!({"ipBlock": {"cidr": "192.168.50.0/24"}});
    }
    json!({
        "apiVersion": "networking.k8s.io/v1", "kind": "NetworkPolicy",
        "metadata": {"name": format!("p{n}"), "namespace": "default"},
        "spec": {
            "podSelector": {"matchLabels": pods}, "policyTypes": ["Ingress"],
            "ingress": [{"from": [from], "ports": [port]}],
        },
    })
}
