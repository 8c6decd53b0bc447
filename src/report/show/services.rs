//! `show NODE services`: what the cluster's Services are, and whether the node's kube-proxy has written them.
//!
//! No tool prints this: columns are those of `kubectl get services -A -o wide` where it has them. A Service
//! whose rules on this node are older than its present state is `stale` there.

use super::out::Obj;
use crate::cluster::{Cluster, ClusterNode};
use crate::kube::podpath_v1alpha1::{ProxyMode, ProxyState};
use crate::kube::proxy::agent::Views;
use crate::kube::service::Family;
use crate::kube::store::Name;
use core::fmt::Write as _;
use serde_json::{Value, json};
use std::collections::{BTreeMap, BTreeSet};

const COLUMNS: [&str; 9] = [
    "NAME",
    "TYPE",
    "CLUSTER-IP",
    "EXTERNAL-IP",
    "PORTS",
    "NODE-PORTS",
    "ENDPOINTS",
    "POLICY",
    "RULES",
];

/// One Service.
struct Row {
    name: Name,
    kind: String,
    cluster_ips: Vec<String>,
    external: Vec<String>,
    ports: Vec<String>,
    node_ports: Vec<String>,
    /// Ready and all, by family.
    endpoints: Vec<(Family, usize, usize)>,
    policy: Vec<String>,
    rules: &'static str,
}

/// The table, below a line about the node's kube-proxy.
pub fn text(c: &Cluster, node: &ClusterNode) -> String {
    let mut out = format!("{}\n", proxy_line(c, node));
    let mut table: Vec<[String; 9]> = vec![COLUMNS.map(str::to_owned)];
    table.extend(rows(c, node).iter().map(cells));
    let width = |i: usize| {
        table
            .iter()
            .filter_map(|r| r.get(i))
            .map(|t| t.chars().count())
            .max()
    };
    let widths: Vec<usize> = (0..COLUMNS.len()).map(|i| width(i).unwrap_or(0)).collect();
    for row in &table {
        let mut line = String::new();
        for (text, width) in row.iter().zip(&widths) {
            let _ = write!(line, "{text:width$}  ");
        }
        out.push_str(line.trim_end());
        out.push('\n');
    }
    out
}

/// The same as JSON: an object with `kubeProxy` and `services`.
pub fn json(c: &Cluster, node: &ClusterNode) -> Value {
    let one = |r: &Row| {
        let mut o = Obj::default();
        let endpoints = r
            .endpoints
            .iter()
            .map(|(f, ready, all)| json!({"family": f.name(), "ready": ready, "total": all}));
        o.key("namespace", r.name.namespace.clone())
            .key("name", r.name.name.clone())
            .key("type", r.kind.clone())
            .key("clusterIPs", r.cluster_ips.clone())
            .key("external", r.external.clone())
            .key("ports", r.ports.clone())
            .key("nodePorts", r.node_ports.clone())
            .key("endpoints", endpoints.collect::<Vec<_>>())
            .key("policies", r.policy.clone())
            .key("rules", r.rules);
        o.value()
    };
    let services: Vec<Value> = rows(c, node).iter().map(one).collect();
    json!({"node": node.name, "kubeProxy": proxy_json(c, node), "services": services})
}

fn mode(c: &Cluster) -> &'static str {
    match c.proxy_mode {
        ProxyMode::None => "none",
        ProxyMode::Iptables => "iptables",
        ProxyMode::Nftables => "nftables",
        ProxyMode::Ipvs => "ipvs",
    }
}

fn proxy_line(c: &Cluster, node: &ClusterNode) -> String {
    let Some(proxy) = &node.proxy else {
        return format!("kube-proxy on {}: {}", node.name, mode(c));
    };
    let state = match proxy.agent.state() {
        ProxyState::Running => "running",
        ProxyState::Stopped => "stopped",
    };
    let mut line = format!("kube-proxy on {}: {}, {state}", node.name, mode(c));
    if !proxy.agent.lag().is_zero() {
        let _ = write!(line, ", lagging {:?}", proxy.agent.lag());
    }
    match proxy.syncs.back() {
        Some((at, _)) => {
            let _ = write!(line, ", wrote its rules at {}s", at.as_secs_f64());
        }
        None => line.push_str(", has written no rules"),
    }
    line
}

fn proxy_json(c: &Cluster, node: &ClusterNode) -> Value {
    let Some(proxy) = &node.proxy else {
        return json!({"mode": mode(c)});
    };
    let running = proxy.agent.state() == ProxyState::Running;
    json!({
        "mode": mode(c),
        "state": if running { "running" } else { "stopped" },
        "lagSeconds": proxy.agent.lag().as_secs_f64(),
        "lastSyncSeconds": proxy.syncs.back().map(|(at, _)| at.as_secs_f64()),
    })
}

fn cells(r: &Row) -> [String; 9] {
    let list = |v: &[String]| match v.is_empty() {
        true => "-".to_owned(),
        false => v.join(","),
    };
    [
        r.name.to_string(),
        r.kind.clone(),
        list(&r.cluster_ips),
        list(&r.external),
        list(&r.ports),
        list(&r.node_ports),
        endpoints_cell(&r.endpoints),
        list(&r.policy),
        r.rules.to_owned(),
    ]
}

/// `2/3`; families apart where they differ.
fn endpoints_cell(all: &[(Family, usize, usize)]) -> String {
    let Some((_, ready, total)) = all.first() else {
        return "-".into();
    };
    if all.iter().all(|(_, r, t)| (r, t) == (ready, total)) {
        return format!("{ready}/{total}");
    }
    let one = |(f, r, t): &(Family, usize, usize)| format!("{}:{r}/{t}", f.name());
    all.iter().map(one).collect::<Vec<_>>().join(",")
}

fn rows(c: &Cluster, node: &ClusterNode) -> Vec<Row> {
    let stale = stale(c, node);
    let mut counts = endpoints(c);
    let mut out = Vec::new();
    for (name, service) in &c.desired.services {
        let Some(spec) = service.spec.as_ref() else {
            continue;
        };
        let kind = spec.type_.clone().unwrap_or_default();
        let external_name = spec
            .external_name
            .clone()
            .filter(|_| kind == "ExternalName");
        let status = service
            .status
            .as_ref()
            .and_then(|s| s.load_balancer.as_ref());
        let ingress = status
            .and_then(|lb| lb.ingress.as_deref())
            .unwrap_or_default();
        let balancers = ingress
            .iter()
            .filter_map(|i| i.ip.clone().or_else(|| i.hostname.clone()));
        let mut external: Vec<String> = external_name.into_iter().chain(balancers).collect();
        external.extend(spec.external_ips.iter().flatten().cloned());
        if external.is_empty() && kind == "LoadBalancer" {
            external.push("<pending>".into());
        }
        let (mut ports, mut node_ports) = (Vec::new(), Vec::new());
        for port in spec.ports.iter().flatten() {
            let protocol = port.protocol.as_deref().unwrap_or("TCP");
            let name = port.name.as_deref().filter(|n| !n.is_empty());
            let name = name.map(|n| format!("{n}:")).unwrap_or_default();
            ports.push(format!("{name}{}/{protocol}", port.port));
            if let Some(n) = port.node_port.filter(|n| *n != 0) {
                node_ports.push(format!("{n}/{protocol}"));
            }
        }
        out.push(Row {
            kind,
            cluster_ips: spec.cluster_ips.clone().unwrap_or_default(),
            external,
            ports,
            node_ports,
            endpoints: counts.remove(name).unwrap_or_default(),
            policy: policy(c, name),
            rules: match &stale {
                None => "-",
                Some(stale) if stale.contains(name) => "stale",
                Some(_) => "current",
            },
            name: name.clone(),
        });
    }
    // Rules may outlive their Service.
    let gone = stale
        .into_iter()
        .flatten()
        .filter(|name| !c.desired.services.contains_key(name));
    out.extend(gone.map(|name| Row {
        name,
        kind: "(deleted)".into(),
        cluster_ips: Vec::new(),
        external: Vec::new(),
        ports: Vec::new(),
        node_ports: Vec::new(),
        endpoints: Vec::new(),
        policy: Vec::new(),
        rules: "stale",
    }));
    out.sort_by(|a, b| a.name.cmp(&b.name));
    out
}

/// What is not the default.
fn policy(c: &Cluster, name: &Name) -> Vec<String> {
    let Some(spec) = c.desired.services.get(name).and_then(|s| s.spec.as_ref()) else {
        return Vec::new();
    };
    let mut out = Vec::new();
    for (word, value, usual) in [
        ("internal", &spec.internal_traffic_policy, "Cluster"),
        ("external", &spec.external_traffic_policy, "Cluster"),
        ("affinity", &spec.session_affinity, "None"),
        ("distribution", &spec.traffic_distribution, ""),
    ] {
        if let Some(value) = value.as_deref().filter(|v| !v.is_empty() && *v != usual) {
            out.push(format!("{word}={value}"));
        }
    }
    if let Some(port) = spec.health_check_node_port.filter(|p| *p != 0) {
        out.push(format!("health={port}"));
    }
    out
}

/// The Services whose rules on the node are not what they would be now; none where no kube-proxy runs.
fn stale(c: &Cluster, node: &ClusterNode) -> Option<BTreeSet<Name>> {
    let proxy = node.proxy.as_ref()?;
    let now = Views::of(&c.desired);
    Some(match proxy.agent.known() {
        Some(known) => now.changed_since(known),
        None => now.changed_since(&Views::default()),
    })
}

/// Ready endpoints and all of them, each address once, by Service and family.
fn endpoints(c: &Cluster) -> BTreeMap<Name, Vec<(Family, usize, usize)>> {
    let mut sets: BTreeMap<Name, BTreeMap<Family, BTreeMap<String, bool>>> = BTreeMap::new();
    for slice in c.desired.endpoint_slices.values() {
        let labels = slice.metadata.labels.as_ref();
        let service = labels.and_then(|l| l.get(crate::kube::service::endpoint::SERVICE_NAME));
        let family = Family::ALL
            .into_iter()
            .find(|f| f.name() == slice.address_type);
        let (Some(service), Some(family)) = (service, family) else {
            continue;
        };
        let service = Name::new(slice.name.namespace.clone(), service.clone());
        let set = sets.entry(service).or_default().entry(family).or_default();
        for endpoint in &slice.endpoints {
            let ready = endpoint.conditions.as_ref().and_then(|c| c.ready) != Some(false);
            if let Some(address) = endpoint.addresses.first() {
                let one = set.entry(address.clone()).or_default();
                *one |= ready;
            }
        }
    }
    let count = |(family, set): (Family, BTreeMap<String, bool>)| {
        (
            family,
            set.values().filter(|ready| **ready).count(),
            set.len(),
        )
    };
    let count_all = |(name, families): (Name, BTreeMap<_, _>)| {
        (name, families.into_iter().map(count).collect())
    };
    sets.into_iter().map(count_all).collect()
}
