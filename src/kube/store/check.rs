//! What the API server's validation would refuse in one object, as far as packets care.
//!
//! kubernetes `pkg/apis/core/validation/validation.go` (ValidateNode, ValidatePodSpec's ports,
//! ValidatePodIPs).

use core::fmt::Display;
use core::str::FromStr;
use std::net::IpAddr;

use ipnetwork::IpNetwork;
use k8s_openapi::api::core::v1::{Container, Node, Pod};

use crate::base::{Finding, Span};
use crate::kube::listen;
use crate::kube::manifest::{NodeId, Tree, Value};
use crate::kube::podpath_v1alpha1::{Cluster, Fault, Probe};

use super::is_port_name;

/// An object under check: findings get the place of the field that they are about.
pub(crate) struct Check<'c> {
    pub(super) tree: &'c Tree<'c>,
    pub(super) id: NodeId,
    pub(super) findings: &'c mut Vec<Finding>,
}

impl Check<'_> {
    /// The place of a field.
    pub(crate) fn span(&self, path: &str) -> Span {
        self.tree.span(self.tree.lookup(self.id, path))
    }

    /// Whether an object without any field is written at `path`.
    pub(crate) fn is_written_empty(&self, path: &str) -> bool {
        let Ok(node) = self.tree.try_lookup(self.id, path) else {
            return false;
        };
        matches!(self.tree.value(node), Value::Map(_)) && self.tree.entries(node).is_empty()
    }

    /// The field at `path` is wrong.
    pub(crate) fn error(&mut self, path: &str, message: impl Display, help: impl Into<String>) {
        self.findings.push(Finding::error(
            self.span(path),
            format!("{path}: {message}"),
            help,
        ));
    }

    /// The field at `path` is suspicious.
    pub(crate) fn warning(&mut self, path: &str, message: impl Display, help: impl Into<String>) {
        self.findings.push(Finding::warning(
            self.span(path),
            format!("{path}: {message}"),
            help,
        ));
    }

    /// The field's text as a `T`, or an error saying what was expected.
    fn parsed<T: FromStr>(&mut self, path: &str, text: &str, expected: &str) -> Option<T> {
        let parsed = text.parse().ok();
        if parsed.is_none() {
            let help = if text.contains("{{") {
                "render the Helm template first"
            } else {
                ""
            };
            self.error(
                path,
                format_args!("expected {expected}, found the string \"{text}\""),
                help,
            );
        }
        parsed
    }

    fn ip(&mut self, path: &str, text: &str) -> Option<IpAddr> {
        self.parsed(path, text, "an IP address such as 10.0.0.1 or fd00::1")
    }

    fn cidr(&mut self, path: &str, text: &str) -> Option<IpNetwork> {
        let expected = "a CIDR such as 10.244.1.0/24";
        if !text.contains('/') {
            // IpNetwork would take a bare address for a /32.
            self.error(
                path,
                format_args!("expected {expected}, found the string \"{text}\""),
                "add the prefix length",
            );
            return None;
        }
        let network: IpNetwork = self.parsed(path, text, expected)?;
        self.host_bits(path, network);
        Some(network)
    }

    /// kubernetes warns of `10.0.0.5/24` since 1.34 (`pkg/apis/core/validation`, GetWarningsForCIDR).
    pub(crate) fn host_bits(&mut self, path: &str, network: IpNetwork) {
        if network.ip() != network.network() {
            let clean = format!("{}/{}", network.network(), network.prefix());
            self.warning(
                path,
                format_args!("{network} has bits set behind its prefix"),
                format!("write {clean}"),
            );
        }
    }
}

/// Kinds without rules of their own.
pub(super) fn nothing<T>(_: &T, _: &mut Check<'_>) {}

pub(super) fn node(node: &Node, check: &mut Check<'_>) {
    let cidrs = node
        .spec
        .as_ref()
        .and_then(|spec| spec.pod_cidrs.as_deref())
        .unwrap_or_default();
    let mut families = [0_u32; 2];
    for (index, text) in cidrs.iter().enumerate() {
        let network = check.cidr(&format!("spec.podCIDRs[{index}]"), text);
        let family = network.and_then(|network| families.get_mut(usize::from(network.is_ipv6())));
        if let Some(count) = family {
            *count += 1;
        }
    }
    if families.iter().any(|count| *count > 1) {
        check.error(
            "spec.podCIDRs",
            "at most one CIDR of each family",
            "kubernetes allows one IPv4 and one IPv6",
        );
    }
    if let Some(text) = node
        .spec
        .as_ref()
        .and_then(|spec| spec.pod_cidr.as_deref())
        .filter(|text| !text.is_empty())
    {
        let first = cidrs.first().map(String::as_str);
        if first.is_some_and(|first| first != text) {
            let message = format!(
                "\"{text}\" is not the first of spec.podCIDRs, {}",
                first.unwrap_or_default()
            );
            check.error(
                "spec.podCIDR",
                message,
                "the two fields say the same thing; make them equal",
            );
        } else if first.is_none() {
            check.cidr("spec.podCIDR", text);
        }
    }
    let addresses = node
        .status
        .as_ref()
        .and_then(|status| status.addresses.as_deref())
        .unwrap_or_default();
    for (index, address) in addresses.iter().enumerate() {
        if matches!(address.type_.as_str(), "InternalIP" | "ExternalIP") {
            check.ip(
                &format!("status.addresses[{index}].address"),
                &address.address,
            );
        }
    }
}

pub(super) fn pod(pod: &Pod, check: &mut Check<'_>) {
    if let Some(status) = &pod.status {
        for (index, entry) in status.pod_ips.iter().flatten().enumerate() {
            check.ip(&format!("status.podIPs[{index}].ip"), &entry.ip);
        }
        let first = status
            .pod_ips
            .iter()
            .flatten()
            .next()
            .map(|entry| entry.ip.as_str());
        match (status.pod_ip.as_deref(), first) {
            (Some(""), _) | (None, _) => {}
            (Some(ip), None) => {
                check.ip("status.podIP", ip);
            }
            (Some(ip), Some(first)) if ip != first => {
                let message = format!("\"{ip}\" is not the first of status.podIPs, {first}");
                check.warning("status.podIP", message, "status.podIPs is believed");
            }
            _ => {}
        }
        if let Some(ip) = status.host_ip.as_deref().filter(|ip| !ip.is_empty()) {
            check.ip("status.hostIP", ip);
        }
    }
    let Some(spec) = &pod.spec else {
        check.error(
            "spec",
            "a Pod needs a spec",
            "add `spec:` with its containers",
        );
        return;
    };
    ports(&spec.containers, "spec.containers", check);
    ports(
        spec.init_containers.as_deref().unwrap_or_default(),
        "spec.initContainers",
        check,
    );
    for (path, message, help) in listen::of_pod(pod).1 {
        check.error(path, message, help);
    }
}

fn ports(containers: &[Container], path: &str, check: &mut Check<'_>) {
    for (c, container) in containers.iter().enumerate() {
        for (p, port) in container.ports.iter().flatten().enumerate() {
            let at = |field: &str| format!("{path}[{c}].ports[{p}].{field}");
            let range = |number: i32| (1..=65535).contains(&number);
            if !range(port.container_port) {
                let message = format!(
                    "expected a port between 1 and 65535, found {}",
                    port.container_port
                );
                check.error(&at("containerPort"), message, "");
            }
            if let Some(number) = port
                .host_port
                .filter(|number| *number != 0 && !range(*number))
            {
                let message = format!("expected a port between 1 and 65535, found {number}");
                check.error(&at("hostPort"), message, "");
            }
            if let Some(protocol) = port
                .protocol
                .as_deref()
                .filter(|p| !matches!(*p, "TCP" | "UDP" | "SCTP" | ""))
            {
                let upper = protocol.to_ascii_uppercase();
                let close = matches!(upper.as_str(), "TCP" | "UDP" | "SCTP");
                let help = if close {
                    format!("did you mean `{upper}`?")
                } else {
                    String::new()
                };
                let message = format!("expected TCP, UDP or SCTP, found the string \"{protocol}\"");
                check.error(&at("protocol"), message, help);
            }
            if let Some(name) = port
                .name
                .as_deref()
                .filter(|name| !name.is_empty() && !is_port_name(name))
            {
                let message = format!(
                    "expected at most 15 of a-z, 0-9 and `-`, one letter at least, found \"{name}\""
                );
                check.error(&at("name"), message, "");
            }
            if let Some(ip) = port.host_ip.as_deref().filter(|ip| !ip.is_empty()) {
                check.ip(&at("hostIP"), ip);
            }
        }
    }
}

pub(super) fn cluster(cluster: &Cluster, check: &mut Check<'_>) {
    cluster.check(check);
}

pub(super) fn probe(probe: &Probe, check: &mut Check<'_>) {
    probe.check(check);
}

pub(super) fn fault(fault: &Fault, check: &mut Check<'_>) {
    fault.check(check);
}
