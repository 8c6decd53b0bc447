//! What serde cannot see in a Cluster: fields that contradict each other or the protocols.

use std::collections::BTreeMap;

use super::Cluster;
use super::cluster::{Backend, Blocked, BlockedProtocol, Cni, CniPluginName, EncapMode, Underlay};
use crate::kube::store::Check;

/// IPv4's minimum (RFC 791) and the largest a veth takes.
const MTU: core::ops::RangeInclusive<u32> = 68..=65535;

impl Cluster {
    /// What serde cannot see: fields that contradict each other.
    pub(crate) fn check(&self, check: &mut Check<'_>) {
        let spec = &self.spec;
        spec.cni.check(check);
        self.check_cidrs(check);
        let overrides = spec
            .nodes
            .iter()
            .filter_map(|(name, node)| Some((format!("spec.nodes[\"{name}\"].mtu"), node.mtu?)));
        let mtus = [
            ("spec.node.mtu".to_owned(), spec.node.mtu),
            ("spec.underlay.mtu".to_owned(), spec.underlay.mtu),
        ];
        for (path, mtu) in mtus.into_iter().chain(overrides) {
            check_mtu(&path, mtu, check);
        }
        spec.underlay.check(check);
        for (index, host) in spec.external_hosts.iter().enumerate() {
            if host.addresses.is_empty() {
                check.error(
                    &format!("spec.externalHosts[{index}].addresses"),
                    "expected one address at least",
                    "",
                );
            }
        }
    }

    fn check_cidrs(&self, check: &mut Check<'_>) {
        let spec = &self.spec;
        for (field, cidrs) in [
            ("podCIDRs", &spec.pod_cidrs),
            ("serviceCIDRs", &spec.service_cidrs),
        ] {
            let path = format!("spec.{field}");
            for (index, cidr) in cidrs.iter().enumerate() {
                check.host_bits(&format!("{path}[{index}]"), *cidr);
            }
            if cidrs.len() > 2
                || cidrs.iter().filter(|cidr| cidr.is_ipv4()).count() > 1
                || cidrs.iter().filter(|cidr| cidr.is_ipv6()).count() > 1
            {
                check.error(
                    &path,
                    "at most one CIDR of each family",
                    "kubernetes allows one IPv4 and one IPv6",
                );
            }
        }
        for cidr in &spec.pod_cidrs {
            let (field, size) = match cidr.is_ipv4() {
                true => ("nodeCIDRMaskSize", spec.node_cidr_mask_size.unwrap_or(24)),
                false => (
                    "nodeCIDRMaskSizeIPv6",
                    spec.node_cidr_mask_size_ipv6.unwrap_or(64),
                ),
            };
            let longest = if cidr.is_ipv4() { 32 } else { 128 };
            if size < cidr.prefix() || size > longest {
                let message = format!("a node's /{size} does not fit into {cidr}");
                check.error(&format!("spec.{field}"), message, "");
            }
        }
    }
}

pub(super) fn check_mtu(path: &str, mtu: u32, check: &mut Check<'_>) {
    if !MTU.contains(&mtu) {
        check.error(
            path,
            format_args!("expected an MTU between 68 and 65535, found {mtu}"),
            "",
        );
    }
}

pub(super) fn check_percent(path: &str, percent: f64, check: &mut Check<'_>) {
    if !(0.0..=100.0).contains(&percent) {
        check.error(
            path,
            format_args!("expected a percentage between 0 and 100, found {percent}"),
            "",
        );
    }
}

impl Cni {
    fn check(&self, check: &mut Check<'_>) {
        use Backend::{Bgp, HostGw, Ipip, Vxlan};
        let allowed: &[Backend] = match self.plugin {
            CniPluginName::Flannel => &[Vxlan, HostGw, Ipip],
            CniPluginName::Calico => &[Ipip, Vxlan, Bgp, Backend::None],
            CniPluginName::Bridge | CniPluginName::Ptp | CniPluginName::Kindnet => &[Backend::None],
        };
        if !allowed.contains(&self.backend()) {
            let message =
                format!("{:?} has no backend {:?}", self.plugin, self.backend()).to_lowercase();
            let names: Vec<String> = allowed
                .iter()
                .map(|backend| format!("{backend:?}").to_lowercase())
                .collect();
            let help = format!("one of: {}", names.join(", ").replace("hostgw", "host-gw"));
            check.error(
                "spec.cni.backend",
                message.replace("hostgw", "host-gw"),
                help,
            );
        }
        if let Some(mtu) = self.mtu.filter(|mtu| *mtu != 0) {
            check_mtu("spec.cni.mtu", mtu, check);
        }
        if self.vxlan.vni.is_some_and(|vni| vni >= 1 << 24) {
            check.error(
                "spec.cni.vxlan.vni",
                "expected a VNI below 16777216",
                "a VNI has 24 bits (RFC 7348)",
            );
        }
        if self.plugin != CniPluginName::Calico && !self.ip_pools.is_empty() {
            check.error(
                "spec.cni.ipPools",
                "only calico has pools",
                "use spec.podCIDRs",
            );
        }
        for (index, pool) in self.ip_pools.iter().enumerate() {
            let path = format!("spec.cni.ipPools[{index}]");
            check.host_bits(&format!("{path}.cidr"), pool.cidr);
            // Calico: 20 to 32, or 116 to 128 (libcalico-go, `lib/validator/v3`, validateIPPoolSpec).
            let range = if pool.cidr.is_ipv4() {
                20..=32
            } else {
                116..=128
            };
            if let Some(size) = pool.block_size.filter(|size| !range.contains(size)) {
                let message = format!(
                    "expected {} to {}, found {size}",
                    range.start(),
                    range.end()
                );
                check.error(&format!("{path}.blockSize"), message, "");
            } else if pool
                .block_size
                .is_some_and(|size| size < pool.cidr.prefix())
            {
                check.error(
                    &format!("{path}.blockSize"),
                    format_args!("a block does not fit into {}", pool.cidr),
                    "",
                );
            }
            let on = |mode: Option<EncapMode>| mode.is_some_and(|mode| mode != EncapMode::Never);
            if on(pool.ipip_mode) && on(pool.vxlan_mode) {
                check.error(
                    &format!("{path}.vxlanMode"),
                    "a pool has either IPIP or VXLAN",
                    "set one to Never",
                );
            }
        }
    }
}

impl Underlay {
    fn check(&self, check: &mut Check<'_>) {
        check_percent("spec.underlay.lossPercent", self.loss_percent, check);
        for (index, blocked) in self.blocked.iter().enumerate() {
            blocked.check(&format!("spec.underlay.blocked[{index}]"), check);
        }
        let mut seen: BTreeMap<&str, &str> = BTreeMap::new();
        for (index, segment) in self.segments.iter().enumerate() {
            let path = format!("spec.underlay.segments[{index}]");
            if let Some(gateway) = segment
                .gateway
                .filter(|gateway| !segment.cidr.contains(*gateway))
            {
                check.error(
                    &format!("{path}.gateway"),
                    format_args!("{gateway} is not in {}", segment.cidr),
                    "",
                );
            }
            for (at, node) in segment.nodes.iter().enumerate() {
                if let Some(other) = seen.insert(node, &segment.name) {
                    let message = format!("node {node} is already in segment {other}");
                    check.error(
                        &format!("{path}.nodes[{at}]"),
                        message,
                        "a node has one uplink",
                    );
                }
            }
        }
    }
}

impl Blocked {
    /// Refuses a port without a protocol that has ports.
    pub(super) fn check(&self, path: &str, check: &mut Check<'_>) {
        let has_ports = matches!(
            self.protocol,
            BlockedProtocol::Tcp | BlockedProtocol::Udp | BlockedProtocol::Sctp
        );
        if self.port.is_some() && !has_ports {
            check.error(
                &format!("{path}.port"),
                "a port needs protocol tcp, udp or sctp",
                "add `protocol:`",
            );
        }
    }
}
