//! A cluster's worth of manifests as `kubectl get nodes,pods -A -o yaml` prints them, made in memory.
#![allow(dead_code)]

use std::fmt::Write as _;

/// The namespace and name of pod `i`; pods go round the nodes.
pub fn pod_name(i: usize) -> (String, String) {
    (format!("team-{}", i % 50), format!("web-7d4b9c6f5-{i}"))
}

/// The address of pod `i` of a cluster of `nodes` nodes.
pub fn pod_ip(i: usize, nodes: usize) -> String {
    let (node, host) = (i % nodes, i / nodes + 2);
    format!("10.{}.{}.{host}", 128 + node / 256, node % 256)
}

/// `nodes` nodes with `pods` pods (at most 253 each), flannel with VXLAN.
pub fn manifests(nodes: usize, pods: usize) -> String {
    let mut text = String::from("apiVersion: v1\nitems:\n");
    text.push_str(include_str!("../data/kube_flannel_cfg.yaml.in"));
    for i in 0..nodes {
        write!(
            text,
            include_str!("../data/kubectl_node.yaml.in"),
            i = i,
            mac = format_args!("02:56:00:00:{:02x}:{:02x}", i / 256, i % 256),
            ip = format_args!("192.168.{}.{}", i / 200, i % 200 + 11),
            cidr = format_args!("10.{}.{}.0/24", 128 + i / 256, i % 256),
        )
        .expect("a String takes everything");
    }
    for t in 0..50.min(pods) {
        let of = "- apiVersion: v1\n  kind: Namespace\n  metadata:\n    name: team";
        writeln!(text, "{of}-{t}").expect("a String takes everything");
    }
    for i in 0..pods {
        write!(
            text,
            include_str!("../data/kubectl_pod.yaml.in"),
            i = i,
            node = i % nodes,
            ip = pod_ip(i, nodes),
            team = i % 50
        )
        .expect("a String takes everything");
    }
    text + "kind: List\nmetadata:\n  resourceVersion: \"\"\n"
}
