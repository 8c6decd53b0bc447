//! What one service port wants in IPVS mode: virtual servers, real servers, addresses, entries of sets.
//!
//! kubernetes `pkg/proxy/ipvs/proxier.go` (the loop of syncProxyRules, syncEndpoint).

use std::net::{IpAddr, SocketAddr};

use super::sets::{SetKind, ip_port, ip_port_ip, ip_port_net};
use super::{Desired, Key, Server};
use crate::kube::proxy::Settings;
use crate::kube::proxy::topology::{Categorized, categorize};
use crate::kube::service::{Endpoint, Protocol, ServicePort};

/// Adds what `port` wants to `out`.
pub(super) fn add(
    port: &ServicePort,
    endpoints: &[Endpoint],
    settings: &Settings,
    node_ips: &[IpAddr],
    out: &mut Desired,
) {
    let protocol = port.protocol();
    for endpoint in endpoints.iter().filter(|e| e.is_local(&settings.node)) {
        let entry = ip_port_ip(endpoint.ip, protocol, endpoint.port, endpoint.ip);
        out.entry(SetKind::LoopBack, entry);
    }
    let adder = Adder {
        port,
        protocol,
        settings,
        endpoints: categorize(endpoints, port, settings.place()),
    };
    adder.cluster_ip(out);
    adder.external_ips(out);
    adder.load_balancer(out);
    adder.node_port(node_ips, out);
    if port.health_check_node_port != 0 && !(port.node_port != 0 && node_ips.is_empty()) {
        let entry = port.health_check_node_port.to_string();
        out.entry(SetKind::HealthCheckNodePort, entry);
    }
}

struct Adder<'a> {
    port: &'a ServicePort,
    protocol: Protocol,
    settings: &'a Settings,
    endpoints: Categorized<'a>,
}

impl Adder<'_> {
    /// Of policy Local those of this node; where it has none, those of all nodes (kubernetes issue 97081).
    fn real(&self, local: bool) -> Vec<SocketAddr> {
        let of = |set: &Option<Vec<&Endpoint>>| -> Vec<SocketAddr> {
            let all = set.iter().flatten();
            all.map(|e| SocketAddr::new(e.ip, e.port)).collect()
        };
        let here = of(&self.endpoints.local);
        if local && !here.is_empty() {
            return here;
        }
        of(&self.endpoints.cluster)
    }

    fn server(&self, ip: IpAddr, number: u16, local: bool, bind: bool, out: &mut Desired) {
        let key = Key {
            address: SocketAddr::new(ip, number),
            protocol: self.protocol,
        };
        let server = Server {
            persistent: self.port.affinity,
            real: self.real(local),
        };
        if bind {
            out.bind(ip);
        }
        out.servers.insert(key, server);
    }

    /// Not where an interface has the address already.
    fn should_bind(&self, ip: IpAddr) -> bool {
        !self.settings.addresses.contains(&ip)
    }

    fn cluster_ip(&self, out: &mut Desired) {
        let (ip, number) = (self.port.cluster_ip, self.port.port);
        let entry = ip_port(ip, self.protocol, number);
        out.entry(SetKind::ClusterIp, entry);
        self.server(ip, number, self.port.internal_local, true, out);
    }

    fn external_ips(&self, out: &mut Desired) {
        let (number, local) = (self.port.port, self.port.external_local);
        let kind = if local {
            SetKind::ExternalIpLocal
        } else {
            SetKind::ExternalIp
        };
        for ip in &self.port.external_ips {
            out.entry(kind, ip_port(*ip, self.protocol, number));
            self.server(*ip, number, local, self.should_bind(*ip), out);
        }
    }

    fn load_balancer(&self, out: &mut Desired) {
        let (number, local) = (self.port.port, self.port.external_local);
        for ip in &self.port.vips {
            let entry = ip_port(*ip, self.protocol, number);
            out.entry(SetKind::LoadBalancer, entry.clone());
            if local {
                out.entry(SetKind::LoadBalancerLocal, entry.clone());
            }
            if !self.port.source_ranges.is_empty() {
                out.entry(SetKind::LoadBalancerFw, entry);
                self.source_ranges(*ip, out);
            }
            self.server(*ip, number, local, self.should_bind(*ip), out);
        }
    }

    fn source_ranges(&self, ip: IpAddr, out: &mut Desired) {
        let (protocol, number) = (self.protocol, self.port.port);
        let ranges = &self.port.source_ranges;
        for range in ranges {
            let entry = ip_port_net(ip, protocol, number, *range);
            out.entry(SetKind::LoadBalancerSourceCidr, entry);
        }
        if ranges.iter().any(|r| r.contains(self.settings.node_ip)) {
            // From the node itself, with the load balancer's address as source.
            let entry = ip_port_ip(ip, protocol, number, ip);
            out.entry(SetKind::LoadBalancerSourceIp, entry);
        } else {
            out.not_from_node.push((ip, protocol, number));
        }
    }

    fn node_port(&self, node_ips: &[IpAddr], out: &mut Desired) {
        let (number, local) = (self.port.node_port, self.port.external_local);
        if number == 0 || node_ips.is_empty() {
            return;
        }
        let (all, of_local) = SetKind::node_ports(self.protocol);
        let entries: Vec<String> = match self.protocol {
            // A bitmap of ports knows no SCTP.
            Protocol::Sctp => {
                let each = node_ips.iter();
                each.map(|ip| ip_port(*ip, self.protocol, number)).collect()
            }
            Protocol::Tcp | Protocol::Udp => vec![number.to_string()],
        };
        for entry in entries {
            if local {
                out.entry(of_local, entry.clone());
            }
            out.entry(all, entry);
        }
        for ip in node_ips {
            self.server(*ip, number, local, false, out);
        }
    }
}
