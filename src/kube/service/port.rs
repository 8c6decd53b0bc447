//! One Service port of one family with everything that rules are made from.
//!
//! kubernetes `pkg/proxy/serviceport.go` (newBaseServiceInfo), `pkg/proxy/util/utils.go` (ShouldSkipService,
//! GetClusterIPByFamily), `pkg/api/v1/service/util.go` (ExternalPolicyLocal, NeedsHealthCheck). targetPort,
//! selector and trafficDistribution are not read: they act through the EndpointSlice controller.

use std::net::IpAddr;

use ipnetwork::IpNetwork;
use k8s_openapi::api::core::v1::{Service, ServiceSpec};

use super::{Family, PortName, Protocol, lenient, protocol};
use crate::kube::store::{Name, Object, Table};

/// How long ClientIP affinity holds where the Service does not say (pkg/apis/core/types.go,
/// DefaultClientIPServiceAffinitySeconds).
const AFFINITY_SECONDS: i32 = 10_800;

/// See the module.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct ServicePort {
    /// Which it is.
    pub name: PortName,
    /// The ClusterIP of the family.
    pub cluster_ip: IpAddr,
    /// The port at the ClusterIP, external IPs and load balancer.
    pub port: u16,
    /// The port at the nodes; 0 for none.
    pub node_port: u16,
    /// `spec.externalIPs` of the family.
    pub external_ips: Vec<IpAddr>,
    /// Load-balancer addresses of the family that nodes take for their own (ipMode VIP).
    pub vips: Vec<IpAddr>,
    /// `spec.loadBalancerSourceRanges` of the family.
    pub source_ranges: Vec<IpNetwork>,
    /// Seconds that ClientIP affinity holds; none without affinity.
    pub affinity: Option<u32>,
    /// externalTrafficPolicy: Local, and the type is visible from outside.
    pub external_local: bool,
    /// internalTrafficPolicy: Local.
    pub internal_local: bool,
    /// Where the load balancer asks for health; 0 for nowhere.
    pub health_check_node_port: u16,
}

impl ServicePort {
    /// The protocol.
    pub fn protocol(&self) -> Protocol {
        self.name.protocol
    }

    /// Whether anything but the ClusterIP leads here (ExternallyAccessible).
    pub fn externally_accessible(&self) -> bool {
        self.node_port != 0 || !self.vips.is_empty() || !self.external_ips.is_empty()
    }

    /// Whether some traffic may go to endpoints of any node (UsesClusterEndpoints).
    pub fn uses_cluster_endpoints(&self) -> bool {
        !self.internal_local || self.externally_accessible()
    }

    /// Whether some traffic may go to endpoints of this node only (UsesLocalEndpoints).
    pub fn uses_local_endpoints(&self) -> bool {
        self.internal_local || (self.external_local && self.externally_accessible())
    }
}

/// Every Service port of the family, by Service name and in the order of its ports. kube-proxy walks a Go
/// map, in no order at all; any fixed order is one that it might have written.
pub fn service_ports(services: &Table<Service>, family: Family) -> Vec<ServicePort> {
    services
        .values()
        .flat_map(|s| of_service(s, family))
        .collect()
}

/// The ports of one Service; none where the proxy of the family has nothing to do with it.
pub fn of_service(service: &Object<Service>, family: Family) -> Vec<ServicePort> {
    let Some(spec) = &service.spec else {
        return Vec::new();
    };
    let Some(cluster_ip) = cluster_ip(spec, family) else {
        return Vec::new();
    };
    let external_local = external_policy_local(spec);
    let health = if spec.type_.as_deref() == Some("LoadBalancer") && external_local {
        port_number(spec.health_check_node_port)
    } else {
        0
    };
    let ranges = spec.load_balancer_source_ranges.iter().flatten();
    let of_family = |network: &IpNetwork| Family::of(network.ip()) == family;
    let shared = ServicePort {
        name: PortName {
            service: service.name.clone(),
            port: String::new(),
            protocol: Protocol::Tcp,
        },
        cluster_ip,
        port: 0,
        node_port: 0,
        external_ips: ips(spec.external_ips.iter().flatten(), family),
        vips: vips(service, family),
        source_ranges: ranges
            .filter_map(|text| lenient::cidr(text))
            .filter(of_family)
            .collect(),
        affinity: affinity(spec),
        external_local,
        internal_local: spec.internal_traffic_policy.as_deref() == Some("Local"),
        health_check_node_port: health,
    };
    let mut out = Vec::new();
    for port in spec.ports.iter().flatten() {
        let number = port_number(Some(port.port));
        let Some(protocol) = protocol(port.protocol.as_deref()).filter(|_| number != 0) else {
            continue; // an error of the manifest, said by its check
        };
        out.push(ServicePort {
            name: port_name(&service.name, port.name.as_deref(), protocol),
            port: number,
            node_port: port_number(port.node_port),
            ..shared.clone()
        });
    }
    out
}

/// A service port's identity.
pub fn port_name(service: &Name, port: Option<&str>, protocol: Protocol) -> PortName {
    PortName {
        service: service.clone(),
        port: port.unwrap_or_default().to_owned(),
        protocol,
    }
}

/// A port, 0 for none and for what is none.
fn port_number(number: Option<i32>) -> u16 {
    number
        .and_then(|number| u16::try_from(number).ok())
        .unwrap_or(0)
}

fn cluster_ip(spec: &ServiceSpec, family: Family) -> Option<IpAddr> {
    let single = spec.cluster_ip.as_deref().unwrap_or_default();
    let listed = spec.cluster_ips.as_deref().unwrap_or_default();
    // The API server keeps clusterIP and clusterIPs[0] equal; a manifest may have only one of them.
    let first = listed.first().map_or(single, String::as_str);
    let single = if single.is_empty() { first } else { single };
    if spec.type_.as_deref() == Some("ExternalName") || matches!(single, "" | "None") {
        return None;
    }
    let families = spec.ip_families.as_deref().unwrap_or_default();
    let by_family = families.iter().position(|f| f == family.name());
    let text = match (families.is_empty(), by_family) {
        (false, None) => return None,
        (false, Some(0)) => first,
        (false, Some(index)) => listed.get(index)?,
        (true, _) => single,
    };
    lenient::ip(text).filter(|ip| Family::of(*ip) == family)
}

fn external_policy_local(spec: &ServiceSpec) -> bool {
    let outside = match spec.type_.as_deref() {
        Some("LoadBalancer" | "NodePort") => true,
        None | Some("" | "ClusterIP") => spec.external_ips.iter().flatten().next().is_some(),
        Some(_) => false,
    };
    outside && spec.external_traffic_policy.as_deref() == Some("Local")
}

fn affinity(spec: &ServiceSpec) -> Option<u32> {
    if spec.session_affinity.as_deref() != Some("ClientIP") {
        return None;
    }
    let config = spec.session_affinity_config.as_ref();
    let written = config.and_then(|config| config.client_ip.as_ref()?.timeout_seconds);
    u32::try_from(written.unwrap_or(AFFINITY_SECONDS)).ok()
}

fn ips<'a>(texts: impl Iterator<Item = &'a String>, family: Family) -> Vec<IpAddr> {
    texts
        .filter_map(|text| lenient::ip(text))
        .filter(|ip| Family::of(*ip) == family)
        .collect()
}

fn vips(service: &Service, family: Family) -> Vec<IpAddr> {
    let status = service.status.as_ref();
    let ingress = status
        .and_then(|status| status.load_balancer.as_ref()?.ingress.as_deref())
        .unwrap_or_default();
    // KEP 1860: with ipMode Proxy the packet has to leave for the load balancer.
    let vip = ingress
        .iter()
        .filter(|entry| matches!(entry.ip_mode.as_deref(), None | Some("VIP")));
    ips(vip.filter_map(|entry| entry.ip.as_ref()), family)
}
