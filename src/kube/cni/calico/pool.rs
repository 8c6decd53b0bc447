//! IPPool CRs (`crd.projectcalico.org/v1` or `projectcalico.org/v3`;
//! api/pkg/apis/projectcalico/v3/ippool.go).

use super::selector;
use crate::base::{Finding, Span};
use crate::kube::cni::addr::{network, parse_cidr};
use crate::kube::store::Store;
use ipnetwork::IpNetwork;
use serde::Deserialize;
use std::collections::BTreeMap;

/// When packets are encapsulated.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default, Deserialize)]
pub enum Encap {
    /// Never.
    #[default]
    Never,
    /// Always.
    Always,
    /// To nodes on other subnets.
    CrossSubnet,
}

/// A pool of addresses.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct IpPool {
    /// Name; pools are tried in this order.
    pub name: String,
    /// All its addresses.
    pub cidr: IpNetwork,
    /// Prefix length of its blocks: 26 (IPv4) or 122 (IPv6) by default.
    pub block_size: u8,
    /// IPIP.
    pub ipip: Encap,
    /// VXLAN.
    pub vxlan: Encap,
    /// Masquerade what leaves all pools.
    pub nat_outgoing: bool,
    /// Not used for new addresses.
    pub disabled: bool,
    /// Which nodes use it.
    pub node_selector: String,
    /// May workloads take addresses.
    pub for_workloads: bool,
    /// May tunnel devices take addresses.
    pub for_tunnels: bool,
}

#[derive(Deserialize, Default)]
#[serde(rename_all = "camelCase", default)]
struct Raw {
    metadata: RawMeta,
    spec: RawSpec,
}

#[derive(Deserialize, Default)]
#[serde(default)]
struct RawMeta {
    name: String,
}

#[derive(Deserialize, Default)]
#[serde(rename_all = "camelCase", default)]
struct RawSpec {
    cidr: String,
    block_size: Option<u8>,
    ipip_mode: Option<Encap>,
    vxlan_mode: Option<Encap>,
    nat_outgoing: bool,
    disabled: bool,
    node_selector: String,
    allowed_uses: Option<Vec<String>>,
    assignment_mode: Option<String>,
}

impl IpPool {
    /// All pools of the input, by name.
    pub fn from_store(store: &Store) -> (Vec<Self>, Vec<Finding>) {
        let (mut pools, mut found) = (Vec::new(), Vec::new());
        for api in ["crd.projectcalico.org/v1", "projectcalico.org/v3"] {
            for raw in store.raw(api, "IPPool") {
                // Other fields of the CR are read as they come; only what is used is typed here.
                let (v, mut f) = raw.parse::<serde_json::Value>();
                found.append(&mut f);
                let at = raw.source.span();
                match v.map(serde_json::from_value::<Raw>) {
                    Some(Ok(r)) => pools.extend(Self::checked(r, &at, &mut found)),
                    Some(Err(e)) => {
                        let what = format!("this IPPool cannot be read: {e}");
                        found.push(Finding::error(
                            at,
                            what,
                            "compare with the IPPool reference of Calico",
                        ));
                    }
                    None => {}
                }
            }
        }
        pools.sort_by(|a, b| a.name.cmp(&b.name));
        (pools, found)
    }

    fn checked(r: Raw, at: &Span, found: &mut Vec<Finding>) -> Option<Self> {
        let mut wrong = |what: String, help: &str| {
            found.push(Finding::error(
                at.clone(),
                format!("IPPool {}: {what}", r.metadata.name),
                help,
            ));
            None
        };
        let cidr = match parse_cidr(&r.spec.cidr) {
            Ok(n) => network(n),
            Err(e) => return wrong(e, "write spec.cidr like 10.244.0.0/16"),
        };
        let (default, range) = if cidr.is_ipv4() {
            (26, 20..=32)
        } else {
            (122, 116..=128)
        };
        let size = r.spec.block_size.unwrap_or(default);
        if !range.contains(&size) || size < cidr.prefix() {
            return wrong(
                format!("blockSize {size} does not fit {cidr}"),
                "IPv4: 20 to 32, IPv6: 116 to 128",
            );
        }
        let (ipip, vxlan) = (
            r.spec.ipip_mode.unwrap_or_default(),
            r.spec.vxlan_mode.unwrap_or_default(),
        );
        if ipip != Encap::Never && vxlan != Encap::Never {
            return wrong(
                "ipipMode and vxlanMode are both on".into(),
                "set one of them to Never",
            );
        }
        if ipip != Encap::Never && cidr.is_ipv6() {
            return wrong("ipipMode is for IPv4 only".into(), "set ipipMode to Never");
        }
        if let Err(i) = selector::matches(&r.spec.node_selector, &BTreeMap::new()) {
            let what = format!("nodeSelector is not understood from character {} on", i + 1);
            return wrong(
                what,
                "podpath reads all(), has(), ==, !=, in, not in, !, && and ||",
            );
        }
        let uses = |u: &str| {
            r.spec
                .allowed_uses
                .as_ref()
                .is_none_or(|l| l.iter().any(|x| x == u))
        };
        let auto = r
            .spec
            .assignment_mode
            .as_deref()
            .is_none_or(|m| m == "Automatic");
        Some(IpPool {
            for_workloads: uses("Workload") && auto,
            for_tunnels: uses("Tunnel"),
            name: r.metadata.name,
            cidr,
            block_size: size,
            ipip,
            vxlan,
            nat_outgoing: r.spec.nat_outgoing,
            disabled: r.spec.disabled,
            node_selector: r.spec.node_selector,
        })
    }

    /// A pool with Calico's defaults for everything but its addresses.
    pub fn new(name: &str, cidr: IpNetwork) -> Self {
        IpPool {
            name: name.into(),
            cidr: network(cidr),
            block_size: if cidr.is_ipv4() { 26 } else { 122 },
            ipip: Encap::Never,
            vxlan: Encap::Never,
            nat_outgoing: false,
            disabled: false,
            node_selector: String::new(),
            for_workloads: true,
            for_tunnels: true,
        }
    }

    /// Whether a node with these labels may use it; selectors were checked when the pool was read.
    pub fn selects(&self, labels: &BTreeMap<String, String>) -> bool {
        selector::matches(&self.node_selector, labels).unwrap_or(false)
    }
}
