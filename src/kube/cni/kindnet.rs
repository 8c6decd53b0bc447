//! kindnet: ptp with host-local, and a plain route to every other node's pods
//! (kubernetes-sigs/kind images/kindnetd/cmd/kindnetd/{cni,routes,main}.go).

use crate::kube::cni::iptables::RuleOp;
use crate::kube::cni::list::NetworkList;
use crate::kube::cni::plan::{LinkOp, Mode, RouteSpec};
use ipnetwork::IpNetwork;
use serde_json::{Value, json};
use std::net::IpAddr;

/// A node as kindnetd sees it.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct KindnetNode {
    /// Name.
    pub name: String,
    /// `InternalIP` addresses.
    pub addresses: Vec<IpAddr>,
    /// `spec.podCIDRs`.
    pub pod_cidrs: Vec<IpNetwork>,
}

/// `/etc/cni/net.d/10-kindnet.conflist`; `mtu` is that of the node's `eth0`, if it has one.
pub fn conflist(me: &KindnetNode, mtu: Option<u32>) -> Value {
    let default = |n: &IpNetwork| json!({ "dst": if n.is_ipv4() { "0.0.0.0/0" } else { "::/0" } });
    // Dual stack writes both defaults, IPv4 first, whatever the order of the ranges.
    let mut families: Vec<&IpNetwork> = me.pod_cidrs.iter().collect();
    families.sort_by_key(|n| n.is_ipv6());
    let routes: Vec<Value> = families.into_iter().map(default).collect();
    let ranges: Vec<Value> = me
        .pod_cidrs
        .iter()
        .map(|n| json!([{ "subnet": n.to_string() }]))
        .collect();
    let mut ptp = json!({
        "type": "ptp",
        "ipMasq": false,
        "ipam": {
            "type": "host-local", "dataDir": "/run/cni-ipam-state",
            "routes": routes, "ranges": ranges,
        },
    });
    if let (Some(mtu), Some(o)) = (mtu, ptp.as_object_mut()) {
        o.insert("mtu".into(), mtu.into());
    }
    let portmap = json!({ "type": "portmap", "capabilities": { "portMappings": true } });
    json!({ "cniVersion": "0.3.1", "name": "kindnet", "plugins": [ptp, portmap] })
}

/// The same, parsed.
pub fn network(me: &KindnetNode, mtu: Option<u32>) -> Option<NetworkList> {
    NetworkList::from_value(&conflist(me, mtu), &|_| crate::base::Span::default()).0
}

/// Routes to the other nodes' pods: `podCIDR via nodeIP` of the same family, no device named.
pub fn plan(me: &KindnetNode, all: &[KindnetNode]) -> Vec<LinkOp> {
    let mut ops = Vec::new();
    for n in all.iter().filter(|n| n.name != me.name) {
        for cidr in &n.pod_cidrs {
            let via = n.addresses.iter().find(|a| a.is_ipv4() == cidr.is_ipv4());
            if let Some(via) = via {
                ops.push(LinkOp::AddRoute(
                    RouteSpec::new(*cidr, Some(*via), None),
                    Mode::Replace,
                ));
            }
        }
    }
    ops
}

/// kindnetd's masquerade: all that leaves the pods' networks, through the chain KIND-MASQ-AGENT
/// (images/kindnetd/cmd/kindnetd/masq.go `SyncRules`; main.go gives it the cluster's pod networks).
pub fn masquerade(pod_networks: &[IpNetwork]) -> Vec<RuleOp> {
    const CHAIN: &str = "KIND-MASQ-AGENT";
    let said = |text: &'static str| ["-m", "comment", "--comment", text];
    let mut ops = Vec::new();
    for v4 in [true, false] {
        let mine: Vec<String> = pod_networks
            .iter()
            .filter(|n| n.is_ipv4() == v4)
            .map(ToString::to_string)
            .collect();
        if mine.is_empty() {
            continue;
        }
        let mut run = |head: &[&str], comment: &[&str]| {
            let all: Vec<&str> = ["-t", "nat"]
                .iter()
                .chain(head)
                .chain(comment)
                .copied()
                .collect();
            ops.push(RuleOp::command(v4, &all));
        };
        run(&["-N", CHAIN], &[]);
        for net in &mine {
            run(
                &["-A", CHAIN, "-d", net, "-j", "RETURN"],
                &said("kind-masq-agent: local traffic is not subject to MASQUERADE"),
            );
        }
        run(
            &["-A", CHAIN, "-j", "MASQUERADE"],
            &said(
                "kind-masq-agent: outbound traffic is subject to MASQUERADE (must be last in chain)",
            ),
        );
        run(
            &[
                "-A",
                "POSTROUTING",
                "-m",
                "addrtype",
                "!",
                "--dst-type",
                "LOCAL",
                "-j",
                CHAIN,
            ],
            &said(
                "kind-masq-agent: ensure nat POSTROUTING directs all non-LOCAL destination traffic \
                 to our custom KIND-MASQ-AGENT chain",
            ),
        );
    }
    ops
}
