//! What the API server's validation would refuse in a Service or an EndpointSlice, as far as packets care.
//!
//! kubernetes `pkg/apis/core/validation/validation.go` (ValidateService), `pkg/apis/discovery/validation`
//! (ValidateEndpointSlice). Existing objects may hold addresses with leading zeros; those are read leniently.

use std::collections::BTreeSet;
use std::net::IpAddr;

use k8s_openapi::api::core::v1::{Service, ServiceSpec};
use k8s_openapi::api::discovery::v1::EndpointSlice;

use super::endpoint::SERVICE_NAME;
use super::{Family, lenient, protocol};
use crate::kube::store::{Check, NameRule};

const IP: &str = "an IP address such as 10.0.0.1 or fd00::1";
/// validation.go, MaxSessionAffinitySeconds of pkg/apis/core/types.go.
const AFFINITY_MAX: i32 = 86_400;

/// A Service.
pub(crate) fn service(service: &Service, check: &mut Check<'_>) {
    let Some(spec) = &service.spec else {
        check.error(
            "spec",
            "a Service needs a spec",
            "add `spec:` with its ports",
        );
        return;
    };
    words(spec, check);
    addresses(spec, check);
    ports(spec, check);
    let config = spec.session_affinity_config.as_ref();
    if let Some(seconds) = config.and_then(|c| c.client_ip.as_ref()?.timeout_seconds)
        && !(1..=AFFINITY_MAX).contains(&seconds)
    {
        let path = "spec.sessionAffinityConfig.clientIP.timeoutSeconds";
        check.error(
            path,
            format_args!("expected 1 to {AFFINITY_MAX}, found {seconds}"),
            "",
        );
    }
    let status = service.status.as_ref();
    let ingress = status.and_then(|status| status.load_balancer.as_ref()?.ingress.as_deref());
    for (i, entry) in ingress.unwrap_or_default().iter().enumerate() {
        let at = |field: &str| format!("status.loadBalancer.ingress[{i}].{field}");
        if let Some(text) = entry.ip.as_deref().filter(|text| !text.is_empty()) {
            ip(&at("ip"), text, check);
        }
        word(
            &at("ipMode"),
            entry.ip_mode.as_deref(),
            &["VIP", "Proxy"],
            check,
        );
    }
}

fn words(spec: &ServiceSpec, check: &mut Check<'_>) {
    let policies = ["Cluster", "Local"];
    let types = ["ClusterIP", "NodePort", "LoadBalancer", "ExternalName"];
    word("spec.type", spec.type_.as_deref(), &types, check);
    let external = spec.external_traffic_policy.as_deref();
    word("spec.externalTrafficPolicy", external, &policies, check);
    let internal = spec.internal_traffic_policy.as_deref();
    word("spec.internalTrafficPolicy", internal, &policies, check);
    let affinity = spec.session_affinity.as_deref();
    word(
        "spec.sessionAffinity",
        affinity,
        &["None", "ClientIP"],
        check,
    );
    for (i, family) in spec.ip_families.iter().flatten().enumerate() {
        let path = format!("spec.ipFamilies[{i}]");
        word(&path, Some(family), &["IPv4", "IPv6"], check);
    }
}

fn addresses(spec: &ServiceSpec, check: &mut Check<'_>) {
    let real = |text: &&str| !matches!(*text, "" | "None");
    let single = spec.cluster_ip.as_deref().filter(real);
    if let Some(text) = single {
        ip("spec.clusterIP", text, check);
    }
    let listed = spec.cluster_ips.as_deref().unwrap_or_default();
    for (i, text) in listed.iter().enumerate().filter(|(_, t)| real(&t.as_str())) {
        let path = format!("spec.clusterIPs[{i}]");
        let Some(address) = ip(&path, text, check) else {
            continue;
        };
        let family = spec
            .ip_families
            .as_ref()
            .and_then(|families| families.get(i));
        if let Some(family) = family.filter(|family| *family != Family::of(address).name()) {
            check.error(
                &path,
                format_args!("{address} is no address of spec.ipFamilies[{i}], {family}"),
                "",
            );
        }
    }
    if let (Some(single), Some(first)) = (single, listed.first())
        && single != first
    {
        check.error(
            "spec.clusterIP",
            format_args!("\"{single}\" is not the first of spec.clusterIPs, {first}"),
            "the two fields say the same thing; make them equal",
        );
    }
    for (i, text) in spec.external_ips.iter().flatten().enumerate() {
        ip(&format!("spec.externalIPs[{i}]"), text, check);
    }
    let ranges = spec.load_balancer_source_ranges.iter().flatten();
    for (i, text) in ranges.enumerate() {
        if lenient::cidr(text).is_none() {
            let path = format!("spec.loadBalancerSourceRanges[{i}]");
            wrong(&path, "a CIDR such as 203.0.113.0/24", text, check);
        }
    }
}

fn ports(spec: &ServiceSpec, check: &mut Check<'_>) {
    let ports = spec.ports.as_deref().unwrap_or_default();
    let headless = spec.cluster_ip.as_deref() == Some("None");
    if ports.is_empty() && !headless && spec.type_.as_deref() != Some("ExternalName") {
        check.error("spec.ports", "a Service needs a port", "");
    }
    let mut names = BTreeSet::new();
    for (i, port) in ports.iter().enumerate() {
        let at = |field: &str| format!("spec.ports[{i}].{field}");
        number(&at("port"), port.port, check);
        if let Some(value) = port.node_port.filter(|value| *value != 0) {
            number(&at("nodePort"), value, check);
        }
        protocol_word(&at("protocol"), port.protocol.as_deref(), check);
        let name = port.name.as_deref().unwrap_or_default();
        if name.is_empty() && ports.len() > 1 {
            let help = "each of several ports needs a name";
            check.error(&at("name"), "a port without a name", help);
        } else if !name.is_empty() && NameRule::Label.check(name).is_err() {
            wrong(&at("name"), "at most 63 of a-z, 0-9 and `-`", name, check);
        }
        if !names.insert(name) && !name.is_empty() {
            check.error(&at("name"), format_args!("a second port `{name}`"), "");
        }
    }
    let health = spec.health_check_node_port.filter(|port| *port != 0);
    if let Some(port) = health {
        number("spec.healthCheckNodePort", port, check);
    }
}

/// An EndpointSlice.
pub(crate) fn endpoint_slice(slice: &EndpointSlice, check: &mut Check<'_>) {
    let types = ["IPv4", "IPv6", "FQDN"];
    word("addressType", Some(&slice.address_type), &types, check);
    let labels = slice.metadata.labels.as_ref();
    if !labels.is_some_and(|labels| labels.contains_key(SERVICE_NAME)) {
        check.warning(
            "metadata.labels",
            format_args!("no label {SERVICE_NAME}: no Service has these endpoints"),
            format!("add `{SERVICE_NAME}: NAME`"),
        );
    }
    for (i, endpoint) in slice.endpoints.iter().enumerate() {
        if endpoint.addresses.is_empty() {
            let path = format!("endpoints[{i}].addresses");
            check.error(&path, "an endpoint needs an address", "");
        }
        for (a, text) in endpoint.addresses.iter().enumerate() {
            let path = format!("endpoints[{i}].addresses[{a}]");
            if slice.address_type == "FQDN" {
                continue;
            }
            let family = ip(&path, text, check).map(|ip| Family::of(ip).name());
            if family.is_some_and(|family| family != slice.address_type) {
                wrong(
                    &path,
                    &format!("an {} address", slice.address_type),
                    text,
                    check,
                );
            }
        }
    }
    for (i, port) in slice.ports.iter().flatten().enumerate() {
        if let Some(value) = port.port {
            number(&format!("ports[{i}].port"), value, check);
        }
        let path = format!("ports[{i}].protocol");
        protocol_word(&path, port.protocol.as_deref(), check);
    }
}

fn wrong(path: &str, expected: &str, text: &str, check: &mut Check<'_>) {
    let help = if text.contains("{{") {
        "render the Helm template first"
    } else {
        ""
    };
    check.error(
        path,
        format_args!("expected {expected}, found the string \"{text}\""),
        help,
    );
}

fn ip(path: &str, text: &str, check: &mut Check<'_>) -> Option<IpAddr> {
    let ip = lenient::ip(text);
    if ip.is_none() {
        wrong(path, IP, text, check);
    }
    ip
}

fn word(path: &str, text: Option<&str>, known: &[&str], check: &mut Check<'_>) {
    if let Some(text) = text.filter(|text| !text.is_empty() && !known.contains(text)) {
        wrong(path, &known.join(" or "), text, check);
    }
}

fn protocol_word(path: &str, text: Option<&str>, check: &mut Check<'_>) {
    if protocol(text).is_none() {
        wrong(path, "TCP, UDP or SCTP", text.unwrap_or_default(), check);
    }
}

fn number(path: &str, port: i32, check: &mut Check<'_>) {
    if !(1..=65_535).contains(&port) {
        check.error(
            path,
            format_args!("expected a port between 1 and 65535, found {port}"),
            "",
        );
    }
}
