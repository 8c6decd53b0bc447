//! Which UDP conntrack entries a sync deletes: those that lead to an endpoint that no longer serves.
//!
//! kubernetes `pkg/proxy/conntrack/cleanup.go` (CleanStaleEntries, the version that compares address and
//! port). TCP and SCTP entries are never deleted. Reads tuples that others parsed; deletes nothing itself.

use std::collections::{BTreeMap, BTreeSet};
use std::net::{IpAddr, SocketAddr};

use super::View;
use crate::kube::service::{Protocol, ServicePort};

/// The serving endpoints behind every UDP address and node port.
#[derive(Clone, PartialEq, Eq, Debug, Default)]
pub struct UdpServing {
    addresses: BTreeMap<SocketAddr, BTreeSet<SocketAddr>>,
    node_ports: BTreeMap<u16, BTreeSet<SocketAddr>>,
}

/// What is looked at of a conntrack entry.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Entry {
    /// Where the first packet went.
    pub original_destination: SocketAddr,
    /// Where answers come from.
    pub reply_source: SocketAddr,
}

impl UdpServing {
    /// From what the proxier knows. Service ports without serving endpoints are left out: their entries
    /// stay.
    pub fn of(view: &View) -> UdpServing {
        let mut out = UdpServing::default();
        let udp = |port: &&ServicePort| port.protocol() == Protocol::Udp;
        for port in view.services.iter().filter(udp) {
            let endpoints = view.endpoints_of(&port.name).iter();
            let serving: BTreeSet<SocketAddr> = endpoints
                .filter(|endpoint| endpoint.serving)
                .map(|endpoint| SocketAddr::new(endpoint.ip, endpoint.port))
                .collect();
            if serving.is_empty() {
                continue;
            }
            let outside = port.external_ips.iter().chain(&port.vips).copied();
            let ips = core::iter::once(port.cluster_ip).chain(outside);
            for ip in ips.collect::<BTreeSet<IpAddr>>() {
                let address = SocketAddr::new(ip, port.port);
                out.addresses.insert(address, serving.clone());
            }
            if port.node_port != 0 {
                out.node_ports.insert(port.node_port, serving);
            }
        }
        out
    }

    /// Whether the sync deletes a UDP entry. A node port counts at any destination address.
    pub fn is_stale(&self, entry: Entry) -> bool {
        let to = entry.original_destination;
        let serving = self
            .addresses
            .get(&to)
            .or_else(|| self.node_ports.get(&to.port()));
        serving.is_some_and(|serving| !serving.contains(&entry.reply_source))
    }
}
