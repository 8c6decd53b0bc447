//! The ipsets of IPVS mode: names, types, what they are for, and what their entries look like.
//!
//! kubernetes `pkg/proxy/ipvs/proxier.go` (ipsetInfo), `ipset.go` (NewIPSet, getComment),
//! `pkg/proxy/ipvs/ipset` (Entry.String, createSet).

use std::net::IpAddr;

use ipnetwork::IpNetwork;

use crate::kube::service::{Family, Protocol};

/// A kernel that names a set longer has no such set (IPSET_MAXNAMELEN with its NUL).
const NAME_MAX: usize = 31;

/// A set.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Debug)]
pub enum SetKind {
    /// Local endpoints by themselves: hairpin.
    LoopBack,
    /// ClusterIPs.
    ClusterIp,
    /// External IPs of policy Cluster.
    ExternalIp,
    /// External IPs of policy Local.
    ExternalIpLocal,
    /// Load-balancer addresses.
    LoadBalancer,
    /// Those with source ranges.
    LoadBalancerFw,
    /// Those of policy Local.
    LoadBalancerLocal,
    /// Those that may be asked from the node with their own address as source.
    LoadBalancerSourceIp,
    /// Those with the ranges that may ask.
    LoadBalancerSourceCidr,
    /// TCP node ports.
    NodePortTcp,
    /// TCP node ports of policy Local.
    NodePortLocalTcp,
    /// UDP node ports.
    NodePortUdp,
    /// UDP node ports of policy Local.
    NodePortLocalUdp,
    /// SCTP node ports, with the node's addresses.
    NodePortSctp,
    /// SCTP node ports of policy Local.
    NodePortLocalSctp,
    /// Where load balancers ask for health.
    HealthCheckNodePort,
    /// Everything on kube-ipvs0.
    Ipvs,
}

impl SetKind {
    /// In the order in which they are made.
    pub const ALL: [SetKind; 17] = [
        SetKind::LoopBack,
        SetKind::ClusterIp,
        SetKind::ExternalIp,
        SetKind::ExternalIpLocal,
        SetKind::LoadBalancer,
        SetKind::LoadBalancerFw,
        SetKind::LoadBalancerLocal,
        SetKind::LoadBalancerSourceIp,
        SetKind::LoadBalancerSourceCidr,
        SetKind::NodePortTcp,
        SetKind::NodePortLocalTcp,
        SetKind::NodePortUdp,
        SetKind::NodePortLocalUdp,
        SetKind::NodePortSctp,
        SetKind::NodePortLocalSctp,
        SetKind::HealthCheckNodePort,
        SetKind::Ipvs,
    ];

    /// Name without `KUBE-`, type, and the comment of its rules.
    fn row(self) -> (&'static str, &'static str, &'static str) {
        const IP_PORT: &str = "hash:ip,port";
        const PORT: &str = "bitmap:port";
        match self {
            SetKind::LoopBack => (
                "LOOP-BACK",
                "hash:ip,port,ip",
                "Kubernetes endpoints dst ip:port, source ip for solving hairpin purpose",
            ),
            SetKind::ClusterIp => (
                "CLUSTER-IP",
                IP_PORT,
                "Kubernetes service cluster ip + port for masquerade purpose",
            ),
            SetKind::ExternalIp => (
                "EXTERNAL-IP",
                IP_PORT,
                "Kubernetes service external ip + port for masquerade and filter purpose",
            ),
            SetKind::ExternalIpLocal => (
                "EXTERNAL-IP-LOCAL",
                IP_PORT,
                "Kubernetes service external ip + port with externalTrafficPolicy=local",
            ),
            SetKind::LoadBalancer => ("LOAD-BALANCER", IP_PORT, "Kubernetes service lb portal"),
            SetKind::LoadBalancerFw => (
                "LOAD-BALANCER-FW",
                IP_PORT,
                "Kubernetes service load balancer ip + port for load balancer with sourceRange",
            ),
            SetKind::LoadBalancerLocal => (
                "LOAD-BALANCER-LOCAL",
                IP_PORT,
                "Kubernetes service load balancer ip + port with externalTrafficPolicy=local",
            ),
            SetKind::LoadBalancerSourceIp => (
                "LOAD-BALANCER-SOURCE-IP",
                "hash:ip,port,ip",
                "Kubernetes service load balancer ip + port + source IP for packet filter purpose",
            ),
            SetKind::LoadBalancerSourceCidr => (
                "LOAD-BALANCER-SOURCE-CIDR",
                "hash:ip,port,net",
                "Kubernetes service load balancer ip + port + source cidr for packet filter purpose",
            ),
            SetKind::NodePortTcp => (
                "NODE-PORT-TCP",
                PORT,
                "Kubernetes nodeport TCP port for masquerade purpose",
            ),
            SetKind::NodePortLocalTcp => (
                "NODE-PORT-LOCAL-TCP",
                PORT,
                "Kubernetes nodeport TCP port with externalTrafficPolicy=local",
            ),
            SetKind::NodePortUdp => (
                "NODE-PORT-UDP",
                PORT,
                "Kubernetes nodeport UDP port for masquerade purpose",
            ),
            SetKind::NodePortLocalUdp => (
                "NODE-PORT-LOCAL-UDP",
                PORT,
                "Kubernetes nodeport UDP port with externalTrafficPolicy=local",
            ),
            SetKind::NodePortSctp => (
                "NODE-PORT-SCTP-HASH",
                IP_PORT,
                "Kubernetes nodeport SCTP port for masquerade purpose with type 'hash ip:port'",
            ),
            SetKind::NodePortLocalSctp => (
                "NODE-PORT-LOCAL-SCTP-HASH",
                IP_PORT,
                "Kubernetes nodeport SCTP port with externalTrafficPolicy=local with type 'hash ip:port'",
            ),
            SetKind::HealthCheckNodePort => (
                "HEALTH-CHECK-NODE-PORT",
                PORT,
                "Kubernetes health check node port",
            ),
            SetKind::Ipvs => ("IPVS-IPS", "hash:ip", "Addresses of kube-ipvs0"),
        }
    }

    /// `hash:ip,port`.
    pub fn type_name(self) -> &'static str {
        self.row().1
    }

    /// The comment of rules that use it.
    pub fn comment(self) -> &'static str {
        self.row().2
    }

    /// Its name in a family.
    pub fn name(self, family: Family) -> String {
        let infix = match family {
            Family::V4 => "",
            Family::V6 => "6-",
        };
        let mut name = format!("KUBE-{infix}{}", self.row().0);
        name.truncate(NAME_MAX);
        name
    }

    /// The restore line that makes it, unless it is there.
    pub fn create(self, family: Family) -> String {
        let (name, kind) = (self.name(family), self.type_name());
        if kind == "bitmap:port" {
            return format!("create {name} {kind} range 0-65535 -exist");
        }
        let inet = match family {
            Family::V4 => "inet",
            Family::V6 => "inet6",
        };
        format!("create {name} {kind} family {inet} hashsize 1024 maxelem 65536 -exist")
    }

    /// The node ports of a protocol; with policy Local the second one has them too.
    pub fn node_ports(protocol: Protocol) -> (SetKind, SetKind) {
        match protocol {
            Protocol::Tcp => (SetKind::NodePortTcp, SetKind::NodePortLocalTcp),
            Protocol::Udp => (SetKind::NodePortUdp, SetKind::NodePortLocalUdp),
            Protocol::Sctp => (SetKind::NodePortSctp, SetKind::NodePortLocalSctp),
        }
    }
}

/// `10.0.0.1,tcp:80`.
pub(super) fn ip_port(ip: IpAddr, protocol: Protocol, port: u16) -> String {
    format!("{ip},{protocol}:{port}")
}

/// `10.0.0.1,tcp:80,10.0.0.2`.
pub(super) fn ip_port_ip(ip: IpAddr, protocol: Protocol, port: u16, other: IpAddr) -> String {
    format!("{ip},{protocol}:{port},{other}")
}

/// `10.0.0.1,tcp:80,203.0.113.0/25`.
pub(super) fn ip_port_net(ip: IpAddr, protocol: Protocol, port: u16, net: IpNetwork) -> String {
    format!("{ip},{protocol}:{port},{net}")
}
