//! Endpoints of each service port, joined from EndpointSlices.
//!
//! kubernetes `pkg/proxy/endpointslicecache.go` (endpointInfoByServicePort, addEndpoints, byEndpoint) and
//! `pkg/proxy/endpoint.go`. The join is by the label `kubernetes.io/service-name`, the slice port's name and
//! its protocol; a port name that differs leaves a Service without endpoints, which is a frequent mistake.

use std::collections::{BTreeMap, BTreeSet};
use std::net::IpAddr;

use k8s_openapi::api::discovery::v1::{self, EndpointSlice};

use super::port::port_name;
use super::{Family, PortName, lenient, protocol};
use crate::kube::store::{Name, Table};

/// The label that says whose endpoints a slice has.
pub const SERVICE_NAME: &str = "kubernetes.io/service-name";

/// One address and port behind a service port.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Endpoint {
    /// Address.
    pub ip: IpAddr,
    /// Port.
    pub port: u16,
    /// Where it runs, if known.
    pub node: Option<String>,
    /// Accepts new connections.
    pub ready: bool,
    /// Answers, though it may be on its way out.
    pub serving: bool,
    /// On its way out.
    pub terminating: bool,
    /// Zones that should use it.
    pub zone_hints: BTreeSet<String>,
    /// Nodes that should use it.
    pub node_hints: BTreeSet<String>,
}

impl Endpoint {
    /// `10.0.0.1:80` or `[fd00::1]:80` (net.JoinHostPort): part of names, and the order of endpoints.
    pub fn address(&self) -> String {
        std::net::SocketAddr::new(self.ip, self.port).to_string()
    }

    /// Whether it runs on this node.
    pub fn is_local(&self, node: &str) -> bool {
        self.node.as_deref() == Some(node)
    }

    /// Whether it may be used when nothing is ready (ProxyTerminatingEndpoints, KEP 1669).
    pub fn is_fallback(&self) -> bool {
        self.serving && self.terminating
    }
}

/// The endpoints of one family by service port, each list in the order kube-proxy uses: that of
/// `address()` as text, so `10.0.0.10:80` stands before `10.0.0.9:80`.
pub fn endpoints(
    slices: &Table<EndpointSlice>,
    family: Family,
) -> BTreeMap<PortName, Vec<Endpoint>> {
    let mut sets: BTreeMap<PortName, BTreeMap<String, Endpoint>> = BTreeMap::new();
    for slice in slices.values() {
        let labels = slice.metadata.labels.as_ref();
        let Some(service) = labels.and_then(|labels| labels.get(SERVICE_NAME)) else {
            continue;
        };
        if slice.address_type != family.name() {
            continue;
        }
        let service = Name::new(slice.name.namespace.clone(), service.clone());
        for port in slice.ports.iter().flatten() {
            let number = port.port.and_then(|n| u16::try_from(n).ok()).unwrap_or(0);
            // The API server writes "" for a port without a name: null is a port that nobody named.
            let (Some(name), Some(protocol)) = (&port.name, protocol(port.protocol.as_deref()))
            else {
                continue;
            };
            if number == 0 {
                continue;
            }
            let key = port_name(&service, Some(name), protocol);
            let set = sets.entry(key).or_default();
            for endpoint in slice.endpoints.iter().filter_map(|e| of(e, number, family)) {
                // The same pod in two slices while it moves: what stays wins over what goes.
                let address = endpoint.address();
                if !endpoint.terminating || !set.contains_key(&address) {
                    set.insert(address, endpoint);
                }
            }
        }
    }
    sets.into_iter()
        .filter(|(_, set)| !set.is_empty())
        .map(|(name, set)| (name, set.into_values().collect()))
        .collect()
}

fn of(endpoint: &v1::Endpoint, port: u16, family: Family) -> Option<Endpoint> {
    // All addresses of one endpoint lead to the same pod: only the first is used.
    let ip = lenient::ip(endpoint.addresses.first()?).filter(|ip| Family::of(*ip) == family)?;
    let conditions = endpoint.conditions.clone().unwrap_or_default();
    let hints = endpoint.hints.clone().unwrap_or_default();
    let zones = hints.for_zones.into_iter().flatten();
    let nodes = hints.for_nodes.into_iter().flatten();
    Some(Endpoint {
        ip,
        port,
        node: endpoint.node_name.clone(),
        ready: conditions.ready.unwrap_or(true),
        serving: conditions.serving.unwrap_or(true),
        terminating: conditions.terminating.unwrap_or(false),
        zone_hints: zones.map(|zone| zone.name).collect(),
        node_hints: nodes.map(|node| node.name).collect(),
    })
}
