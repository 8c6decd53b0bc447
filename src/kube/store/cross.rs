//! What objects say about each other, and status about spec: warnings, because a running cluster may be
//! mid-change.
//!
//! Missing counterparts are reported once per name, not once per pod. Objects of a kind that was not
//! loaded at all are not missed: `kubectl get pods -A` alone is a fair input.

use std::collections::BTreeMap;
use std::net::IpAddr;

use ipnetwork::IpNetwork;
use k8s_openapi::api::core::v1::{Node, Pod};

use crate::base::{Finding, Span};
use crate::kube::podpath_v1alpha1::CniPluginName;

use super::{Name, Object, Store, is_finished, is_host_network, pod_ips};

/// Namespaces that every cluster has (kubernetes `pkg/controlplane/controller/systemnamespaces`).
const SYSTEM_NAMESPACES: &[&str] = &["default", "kube-system", "kube-public", "kube-node-lease"];

pub(super) fn check(store: &Store, findings: &mut Vec<Finding>) {
    one_cluster(store, findings);
    let nodes: BTreeMap<&str, NodeView> = store
        .nodes
        .iter()
        .map(|(name, node)| (name.name.as_str(), NodeView::new(node)))
        .collect();
    let own_ipam = has_own_ipam(store);
    for pod in store.pods.values().filter(|pod| !is_finished(pod)) {
        let node = pod.spec.as_ref().and_then(|spec| spec.node_name.as_deref());
        let Some((node_name, view)) = node.and_then(|name| Some((name, nodes.get(name)?))) else {
            continue;
        };
        for ip in pod_ips(pod) {
            if is_host_network(pod) {
                host_network(pod, ip, node_name, view, findings);
            } else if !own_ipam {
                inside_pod_cidr(pod, ip, node_name, view, findings);
            }
        }
    }
    shared_addresses(store, findings);
}

/// The network is described once.
fn one_cluster(store: &Store, findings: &mut Vec<Finding>) {
    let Some(first) = store.cluster() else { return };
    for other in store.clusters.values().skip(1) {
        let at = first.source.span();
        let message = format!(
            "there are two Clusters: {} ({at}) and {}",
            first.name, other.name
        );
        findings.push(Finding::error(
            other.source.span(),
            message,
            "remove one of the two",
        ));
    }
}

/// What pods are held against.
struct NodeView {
    cidrs: Vec<IpNetwork>,
    addresses: Vec<IpAddr>,
}

impl NodeView {
    fn new(node: &Node) -> Self {
        let spec = node.spec.as_ref();
        let cidrs = spec
            .and_then(|spec| spec.pod_cidrs.clone())
            .unwrap_or_default();
        let single = spec.and_then(|spec| spec.pod_cidr.clone());
        let addresses = node
            .status
            .as_ref()
            .and_then(|status| status.addresses.as_deref())
            .unwrap_or_default();
        let cidrs = if cidrs.is_empty() {
            single.into_iter().collect()
        } else {
            cidrs
        };
        NodeView {
            cidrs: cidrs.iter().filter_map(|text| text.parse().ok()).collect(),
            addresses: addresses
                .iter()
                .filter_map(|address| address.address.parse().ok())
                .collect(),
        }
    }
}

/// Calico gives addresses from its own pools and blocks; `spec.podCIDRs` means nothing there.
fn has_own_ipam(store: &Store) -> bool {
    match store.cluster() {
        Some(cluster) => cluster.spec.cni.plugin == CniPluginName::Calico,
        None => store
            .unknown
            .keys()
            .any(|(group, kind)| group.contains("projectcalico.org") && kind == "IPPool"),
    }
}

/// Nodes and namespaces that pods name but nobody defines.
pub(super) fn missing(store: &Store, findings: &mut Vec<Finding>) {
    let mut nodes: BTreeMap<&str, (Span, &Name, usize)> = BTreeMap::new();
    let mut namespaces: BTreeMap<&str, (Span, &Name, usize)> = BTreeMap::new();
    for (name, pod) in &store.pods {
        let node = pod.spec.as_ref().and_then(|spec| spec.node_name.as_deref());
        if let Some(node) =
            node.filter(|node| !store.nodes.is_empty() && store.node(node).is_none())
        {
            let first = || (pod.source.span_of("spec.nodeName"), name, 0);
            nodes.entry(node).or_insert_with(first).2 += 1;
        }
        let namespace = name.namespace.as_str();
        let known = store.namespaces.is_empty()
            || SYSTEM_NAMESPACES.contains(&namespace)
            || store.namespaces.contains_key(&Name::global(namespace));
        if !known {
            let first = || (pod.source.span_of("metadata.namespace"), name, 0);
            namespaces.entry(namespace).or_insert_with(first).2 += 1;
        }
    }
    for (kind, table) in [("node", nodes), ("namespace", namespaces)] {
        for (missing, (span, pod, count)) in table {
            let others = match count {
                1 => String::new(),
                2 => " and one other pod".into(),
                _ => format!(" and {} other pods", count - 1),
            };
            let known: Vec<&str> = match kind {
                "node" => store.nodes.keys().map(|name| name.name.as_str()).collect(),
                _ => store
                    .namespaces
                    .keys()
                    .map(|name| name.name.as_str())
                    .collect(),
            };
            let help = match crate::kube::manifest::closest(missing, known) {
                Some(close) => format!("did you mean `{close}`?"),
                None => format!("add the {kind}'s manifest to the input"),
            };
            let message = format!("there is no {kind} `{missing}`, which pod {pod}{others} names");
            findings.push(Finding::warning(span, message, help));
        }
    }
}

fn inside_pod_cidr(
    pod: &Object<Pod>,
    ip: IpAddr,
    node: &str,
    view: &NodeView,
    findings: &mut Vec<Finding>,
) {
    let mut family = view
        .cidrs
        .iter()
        .filter(|cidr| cidr.is_ipv4() == ip.is_ipv4())
        .peekable();
    if family.peek().is_none() || family.any(|cidr| cidr.contains(ip)) {
        return;
    }
    let cidrs: Vec<String> = view.cidrs.iter().map(IpNetwork::to_string).collect();
    let message = format!(
        "pod {} has the address {ip}, outside node {node}'s podCIDRs {}",
        pod.name,
        cidrs.join(", ")
    );
    let help = "the status is believed; routes of other nodes will not lead there";
    findings.push(Finding::warning(
        pod.source.span_of("status.podIP"),
        message,
        help,
    ));
}

fn host_network(
    pod: &Object<Pod>,
    ip: IpAddr,
    node: &str,
    view: &NodeView,
    findings: &mut Vec<Finding>,
) {
    let mut family = view
        .addresses
        .iter()
        .filter(|address| address.is_ipv4() == ip.is_ipv4())
        .peekable();
    if family.peek().is_none() || family.any(|address| *address == ip) {
        return;
    }
    let message = format!(
        "pod {} is hostNetwork but its address {ip} is none of node {node}'s",
        pod.name
    );
    let help = "the node's addresses are believed; is the status older than the node?";
    findings.push(Finding::warning(
        pod.source.span_of("status.podIP"),
        message,
        help,
    ));
}

fn shared_addresses(store: &Store, findings: &mut Vec<Finding>) {
    for (ip, names) in &store.pods_by_ip {
        let pods = names.iter().filter_map(|name| store.pods.get(name));
        let mut own = pods.filter(|pod| !is_host_network(pod) && !is_finished(pod));
        let Some(first) = own.next() else { continue };
        for other in own {
            let at = first.source.span_of("status.podIP");
            let message = format!(
                "pods {} ({at}) and {} have the same address {ip}",
                first.name, other.name
            );
            let help = "one of the two statuses is stale, or the allocator gave the address twice";
            findings.push(Finding::warning(
                other.source.span_of("status.podIP"),
                message,
                help,
            ));
        }
    }
}
