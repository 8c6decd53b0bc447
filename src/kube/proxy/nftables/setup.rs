//! What does not depend on Services: the table, base chains, the chains below them, sets and maps.
//!
//! kubernetes `pkg/proxy/nftables/proxier.go` (nftablesBaseChains, nftablesJumpChains, setupNFTables). Until
//! 1.34 all filter chains ran before DNAT; then only those of the source ranges do ([`Layout`]).

use std::net::IpAddr;

use k8s_openapi::api::core::v1::Node;

use super::Stores;
use super::tx::{Kind, Tx};
use crate::kube::proxy::Settings;
use crate::kube::service::Family;

pub(super) const SERVICES: &str = "services";
pub(super) const MARK_MASQ: &str = "mark-for-masquerade";
pub(super) const REJECT: &str = "reject-chain";
const MASQUERADING: &str = "masquerading";
const CLUSTER_IPS_CHECK: &str = "cluster-ips-check";
const FIREWALL_CHECK: &str = "firewall-check";
const NODE_PORTS_CHECK: &str = "nodeport-endpoints-check";
const ENDPOINTS_CHECK: &str = "service-endpoints-check";
pub(super) const CLUSTER_IPS: &str = "cluster-ips";
pub(super) const SERVICE_IPS: &str = "service-ips";
pub(super) const SERVICE_NODE_PORTS: &str = "service-nodeports";
pub(super) const NO_ENDPOINT_SERVICES: &str = "no-endpoint-services";
pub(super) const NO_ENDPOINT_NODE_PORTS: &str = "no-endpoint-nodeports";
pub(super) const FIREWALL_IPS: &str = "firewall-ips";
const NODE_PORT_IPS: &str = "nodeport-ips";

/// The last minor version of Kubernetes 1 with the older layout.
const OLDER_UNTIL: u32 = 34;
/// `filter`, `dstnat`, `srcnat` and their neighbours.
const FILTER: i32 = 0;
const DNAT: i32 = -100;
const SNAT: i32 = 100;

/// Where the filter chains stand.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
pub enum Layout {
    /// All of them before DNAT, and one more of OUTPUT behind it: up to 1.34.
    Older,
    /// Only the source ranges before DNAT; the rest at priority filter.
    #[default]
    Split,
}

impl Layout {
    /// That of the version that the node says it runs; the newest where it says nothing.
    pub fn of_node(node: &Node) -> Layout {
        let info = node.status.as_ref().and_then(|s| s.node_info.as_ref());
        let proxy = info.map(|i| i.kube_proxy_version.as_str());
        // Since 1.33 the field is empty; kube-proxy is of kubelet's version unless somebody skews them.
        let said = proxy
            .filter(|v| !v.is_empty())
            .or(info.map(|i| i.kubelet_version.as_str()));
        match said.and_then(minor) {
            Some(minor) if minor <= OLDER_UNTIL => Layout::Older,
            _ => Layout::Split,
        }
    }

    /// Name, type, hook and priority of each.
    pub(crate) fn base_chains(self) -> &'static [BaseChain] {
        match self {
            Layout::Older => OLDER,
            Layout::Split => SPLIT,
        }
    }

    fn jumps(self) -> &'static [(&'static str, &'static str, &'static str)] {
        match self {
            Layout::Older => OLDER_JUMPS,
            Layout::Split => SPLIT_JUMPS,
        }
    }
}

/// `v1.34.2-gke.1` -> 34.
fn minor(version: &str) -> Option<u32> {
    let mut parts = version.trim_start_matches('v').split('.');
    let major = parts.next()?;
    parts.next().filter(|_| major == "1")?.parse().ok()
}

/// Name, type, hook, priority.
pub(crate) type BaseChain = (&'static str, &'static str, &'static str, i32);

const OLDER: &[BaseChain] = &[
    ("filter-prerouting", "filter", "prerouting", DNAT - 10),
    ("filter-input", "filter", "input", DNAT - 10),
    ("filter-forward", "filter", "forward", DNAT - 10),
    ("filter-output", "filter", "output", DNAT - 10),
    ("filter-output-post-dnat", "filter", "output", DNAT + 10),
    ("nat-prerouting", "nat", "prerouting", DNAT),
    ("nat-output", "nat", "output", DNAT),
    ("nat-postrouting", "nat", "postrouting", SNAT),
];

const SPLIT: &[BaseChain] = &[
    (
        "filter-prerouting-pre-dnat",
        "filter",
        "prerouting",
        DNAT - 10,
    ),
    ("filter-output-pre-dnat", "filter", "output", DNAT - 10),
    ("filter-input", "filter", "input", FILTER),
    ("filter-forward", "filter", "forward", FILTER),
    ("filter-output", "filter", "output", FILTER),
    ("nat-prerouting", "nat", "prerouting", DNAT),
    ("nat-output", "nat", "output", DNAT),
    ("nat-postrouting", "nat", "postrouting", SNAT),
];

const NEW: &str = "ct state new ";

/// To, from, matches.
const OLDER_JUMPS: &[(&str, &str, &str)] = &[
    (NODE_PORTS_CHECK, "filter-input", NEW),
    (ENDPOINTS_CHECK, "filter-input", NEW),
    (ENDPOINTS_CHECK, "filter-forward", NEW),
    (ENDPOINTS_CHECK, "filter-output", NEW),
    (FIREWALL_CHECK, "filter-prerouting", NEW),
    (FIREWALL_CHECK, "filter-output", NEW),
    (SERVICES, "nat-output", ""),
    (SERVICES, "nat-prerouting", ""),
    (MASQUERADING, "nat-postrouting", ""),
    (CLUSTER_IPS_CHECK, "filter-forward", NEW),
    (CLUSTER_IPS_CHECK, "filter-output-post-dnat", NEW),
];

const SPLIT_JUMPS: &[(&str, &str, &str)] = &[
    (FIREWALL_CHECK, "filter-prerouting-pre-dnat", NEW),
    (FIREWALL_CHECK, "filter-output-pre-dnat", NEW),
    (NODE_PORTS_CHECK, "filter-input", NEW),
    (ENDPOINTS_CHECK, "filter-input", NEW),
    (ENDPOINTS_CHECK, "filter-forward", NEW),
    (CLUSTER_IPS_CHECK, "filter-forward", NEW),
    (ENDPOINTS_CHECK, "filter-output", NEW),
    (CLUSTER_IPS_CHECK, "filter-output", NEW),
    (SERVICES, "nat-output", ""),
    (SERVICES, "nat-prerouting", ""),
    (MASQUERADING, "nat-postrouting", ""),
];

/// The words of a family.
#[derive(Clone, Copy, Debug)]
pub(super) struct Words {
    /// `ip`, `ip6`.
    pub ip: &'static str,
    /// `ipv4_addr`, `ipv6_addr`.
    pub address: &'static str,
    no_localhost: &'static str,
}

impl Words {
    pub fn of(family: Family) -> Words {
        match family {
            Family::V4 => Words {
                ip: "ip",
                address: "ipv4_addr",
                no_localhost: "ip daddr != 127.0.0.0/8",
            },
            Family::V6 => Words {
                ip: "ip6",
                address: "ipv6_addr",
                no_localhost: "ip6 daddr != ::1",
            },
        }
    }
}

/// What a full sync writes before the Services; `anew` when this process has not written any before.
pub(super) fn write(settings: &Settings, anew: bool, tx: &mut Tx, stores: &mut Stores) {
    let words = Words::of(settings.family);
    tx.add_table("rules for kube-proxy");
    let bases = settings.layout.base_chains();
    if anew {
        // Another version's base chain may have another priority, which cannot be changed.
        for (name, ..) in bases {
            tx.add_chain(name, None);
            tx.delete_chain(name);
        }
    }
    for (name, kind, hook, priority) in bases {
        tx.add_base_chain(name, kind, hook, *priority);
        tx.flush_chain(name);
    }
    let mut made: Vec<&str> = Vec::new();
    let mut chain = |name: &'static str, tx: &mut Tx| {
        if !made.contains(&name) {
            made.push(name);
            tx.add_chain(name, None);
            tx.flush_chain(name);
        }
    };
    for (to, from, matches) in settings.layout.jumps() {
        chain(to, tx);
        tx.add_rule(from, &format!("{matches}jump {to}"), None);
    }
    for name in [SERVICES, CLUSTER_IPS_CHECK, MASQUERADING, MARK_MASQ] {
        chain(name, tx);
    }
    masquerading(settings, tx);
    cluster_ips(settings, words, tx);
    node_port_ips(settings, words, tx);
    no_endpoints(settings, words, tx);
    dispatch(settings, words, tx);
    stores.all().for_each(|store| store.reset(tx));
}

fn masquerading(settings: &Settings, tx: &mut Tx) {
    let mark = format!("{:#010x}", settings.mark);
    tx.add_rule(MARK_MASQ, &format!("mark set mark or {mark}"), None);
    let unmarked = format!("mark and {mark} == 0 return");
    tx.add_rule(MASQUERADING, &unmarked, None);
    let clear = format!("mark set mark xor {mark}");
    tx.add_rule(MASQUERADING, &clear, None);
    tx.add_rule(MASQUERADING, "masquerade fully-random", None);
}

fn cluster_ips(settings: &Settings, words: Words, tx: &mut Tx) {
    let Words { ip, address, .. } = words;
    let body = format!("type {address} ; comment \"Active ClusterIPs\"");
    tx.add_container(Kind::Set, CLUSTER_IPS, &body);
    tx.add_rule(
        CLUSTER_IPS_CHECK,
        &format!("{ip} daddr @{CLUSTER_IPS} reject"),
        Some("Reject traffic to invalid ports of ClusterIPs"),
    );
    let cidrs: Vec<String> = settings
        .service_cidrs
        .iter()
        .map(ToString::to_string)
        .collect();
    if !cidrs.is_empty() {
        tx.add_rule(
            CLUSTER_IPS_CHECK,
            &format!("{ip} daddr {{ {} }} drop", cidrs.join(",")),
            Some("Drop traffic to unallocated ClusterIPs"),
        );
    }
}

fn node_port_ips(settings: &Settings, words: Words, tx: &mut Tx) {
    let address = words.address;
    let body = format!("type {address} ; comment \"IPs that accept NodePort traffic\"");
    tx.add_container(Kind::Set, NODE_PORT_IPS, &body);
    let Some(ips) = &settings.node_port_ips else {
        // Added just now, lest deleting one that is not there fail.
        tx.delete_set(NODE_PORT_IPS);
        return;
    };
    tx.flush_container(Kind::Set, NODE_PORT_IPS);
    // NodePorts at 127.0.0.1 are not supported, whatever nodePortAddresses says.
    for ip in ips.iter().filter(|ip| !ip.is_loopback()) {
        let key = ip.to_string();
        let element = super::tx::Element {
            key: &key,
            value: "",
            comment: None,
        };
        tx.add_element(NODE_PORT_IPS, element);
    }
}

fn no_endpoints(settings: &Settings, words: Words, tx: &mut Tx) {
    let Words {
        ip,
        address,
        no_localhost,
    } = words;
    let services = "vmap to drop or reject packets to services with no endpoints";
    let body =
        format!("type {address} . inet_proto . inet_service : verdict ; comment \"{services}\"");
    tx.add_container(Kind::Map, NO_ENDPOINT_SERVICES, &body);
    let ports = "vmap to drop or reject packets to service nodeports with no endpoints";
    let body = format!("type inet_proto . inet_service : verdict ; comment \"{ports}\"");
    tx.add_container(Kind::Map, NO_ENDPOINT_NODE_PORTS, &body);
    let helper = "helper for @no-endpoint-services / @no-endpoint-nodeports";
    tx.add_chain(REJECT, Some(helper));
    tx.flush_chain(REJECT);
    tx.add_rule(REJECT, "reject", None);
    let rule = format!("{ip} daddr . meta l4proto . th dport vmap @{NO_ENDPOINT_SERVICES}");
    tx.add_rule(ENDPOINTS_CHECK, &rule, None);
    let to = match &settings.node_port_ips {
        // The input hook sees nothing but what is for this machine.
        None => no_localhost.to_owned(),
        Some(_) => format!("{ip} daddr @{NODE_PORT_IPS}"),
    };
    let rule = format!("{to} meta l4proto . th dport vmap @{NO_ENDPOINT_NODE_PORTS}");
    tx.add_rule(NODE_PORTS_CHECK, &rule, None);
}

fn dispatch(settings: &Settings, words: Words, tx: &mut Tx) {
    let Words {
        ip,
        address,
        no_localhost,
    } = words;
    let by_address = |comment: &str| {
        format!("type {address} . inet_proto . inet_service : verdict ; comment \"{comment}\"")
    };
    let body = by_address("destinations that are subject to LoadBalancerSourceRanges");
    tx.add_container(Kind::Map, FIREWALL_IPS, &body);
    let rule = format!("{ip} daddr . meta l4proto . th dport vmap @{FIREWALL_IPS}");
    tx.add_rule(FIREWALL_CHECK, &rule, None);
    let body = by_address("ClusterIP, ExternalIP and LoadBalancer IP traffic");
    tx.add_container(Kind::Map, SERVICE_IPS, &body);
    let body = "type inet_proto . inet_service : verdict ; comment \"NodePort traffic\"";
    tx.add_container(Kind::Map, SERVICE_NODE_PORTS, body);
    let rule = format!("{ip} daddr . meta l4proto . th dport vmap @{SERVICE_IPS}");
    tx.add_rule(SERVICES, &rule, None);
    let to = match &settings.node_port_ips {
        None => format!("fib daddr type local {no_localhost}"),
        Some(_) => format!("{ip} daddr @{NODE_PORT_IPS}"),
    };
    let rule = format!("{to} meta l4proto . th dport vmap @{SERVICE_NODE_PORTS}");
    tx.add_rule(SERVICES, &rule, None);
}

/// The address parts of a key: `10.0.0.1 . tcp . 80`.
pub(super) fn key(ip: IpAddr, protocol: &str, port: u16) -> String {
    format!("{ip} . {protocol} . {port}")
}
